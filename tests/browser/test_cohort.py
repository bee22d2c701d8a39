"""The cohort trainer and the schedule editor as a learner meets them: play pressed, knobs moved, runs made."""

import re

from chapter_page import at_rest, explorer_page, last_frame, needs_browser, wait
from lab_browser import drag, slider

pytestmark = needs_browser
CHAPTER = "07_online_and_progressive"


def choose(page, dropdown: str, option: str) -> None:
    page.locator(".widget-dropdown", has_text=dropdown).locator("select").select_option(label=option)


def test_a_cohort_trains_while_t_and_the_way_change(tmp_path):
    with explorer_page(CHAPTER, tmp_path, "dark", shows="cohort") as page:
        play = page.locator(".widget-play button").first
        play.click()
        wait(page, "frame.step > 50")
        before = last_frame(page)
        drag(page, slider(page, "T").locator(".noUi-handle"), pixels=45)
        wait(page, f"frame.temperature > 1.5 * {before['temperature']}")
        wait(page, "frame.step > 100")
        choose(page, "learn from", "labels only")
        wait(page, "frame.way === 2 && frame.marks === 2")
        wait(page, "frame.step > 150")
        play.click()  # pause
        paused = at_rest(page)["step"]
        page.wait_for_timeout(600)
        assert last_frame(page)["step"] == paused
        told = page.locator(".widget-html", has_text="errors on held-out images").inner_text()
        errors = [float(found) for found in re.findall(r"([\d.]+) %[,;.]", told)]
        assert len(errors) >= 4  # two students, the one alone, their vote
        assert max(errors[:4]) < 60


def test_a_schedule_is_drawn_and_trained_and_each_press_of_play_is_one_run(tmp_path):
    with explorer_page(CHAPTER, tmp_path, "light", shows="editor") as page:
        play = page.locator(".widget-play button").first
        choose(page, "start from", "the stages")
        wait(page, "Math.abs(frame.last_temperature - 2.8) < 1e-6 && frame.last_alpha === 0.9")
        play.click()
        done = page.get_by_text("· done ·")
        done.wait_for()
        first = at_rest(page)
        assert first["runs"] == 1  # the clock stopped with the run
        assert page.locator(".widget-play .fa-pause").count() == 0

        choose(page, "start from", "linear")
        handle = slider(page, "¼").locator(".noUi-handle")
        box = handle.bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2 + 30, steps=10)
        page.mouse.up()
        page.wait_for_function("document.querySelector('.widget-dropdown select').value === 'as drawn'")
        play.click()
        wait(page, "frame.runs === 2")
        done.wait_for()
        wait(page, f"frame.step === {first['step']}")
        assert "2 as drawn" in page.locator(".widget-html", has_text="held-out errors").inner_text()
