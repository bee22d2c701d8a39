"""The floor of the slider's benchmark: a slider that only swaps two stored pictures, timed in a real browser."""

import base64
import io

from chapter_page import needs_browser
from lab_browser import browser_page, drag
from PIL import Image

from benchmarks._floor import floor_latencies, open_floor

pytestmark = needs_browser


def picture(colour):
    file = io.BytesIO()
    Image.new("RGB", (300, 200), colour).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def test_each_move_of_the_slider_gets_the_time_of_its_picture_once():
    with browser_page() as (page, complaints):
        floor = open_floor(page, (picture("red"), picture("blue")))
        drag(floor, floor.locator("#slider"), pixels=60, seconds=0.5)
        floor.wait_for_function("floor_frames.length && floor_frames.at(-1).number === floor_moves.at(-1).number")
        moves = floor.evaluate("floor_moves.length")
        latencies = floor_latencies(floor)
        assert moves > 5
        assert len(latencies) == moves
        assert min(latencies) > 0
        assert floor_latencies(floor) == []
        assert complaints == []
