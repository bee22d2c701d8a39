"""The least time from a slider to a picture in this browser: a slider that only swaps two stored pictures."""

from playwright.sync_api import Page

HTML = """<body style="margin:40px"><input type="range" id="slider" min="0" max="1000" value="500" style="width:600px">
<p><img id="picture"></p></body>"""

# Timed as the live trainer is (tools/lab_browser.py): from the mouse's event to the frame after the picture is loaded.
WATCH = """async pictures => {
  window.floor_moves = []; window.floor_frames = [];
  const urls = await Promise.all(pictures.map(async picture =>
    URL.createObjectURL(await (await fetch(picture)).blob())));
  const image = document.getElementById('picture');
  let moved = 0, number = 0;
  window.addEventListener('mousemove', event => { moved = event.timeStamp; }, true);
  document.getElementById('slider').addEventListener('input', () => {
    number += 1;
    window.floor_moves.push({time: moved, number});
    image.src = urls[number % 2];
    image.dataset.number = number;
  });
  image.addEventListener('load', () => {
    const shown = Number(image.dataset.number);
    requestAnimationFrame(() => requestAnimationFrame(() => {
      window.floor_frames.push({time: performance.now(), number: shown});
    }));
  });
}"""

PICTURE = """async () => {
  const blob = await (await fetch(document.querySelector('.widget-image').src)).blob();
  return await new Promise(done => {
    const reader = new FileReader();
    reader.onload = () => done(reader.result);
    reader.readAsDataURL(blob);
  });
}"""


def stored_picture(page: Page) -> str:
    """Return the picture that the live trainer shows now, as a data URL."""
    return page.evaluate(PICTURE)


def open_floor(page: Page, pictures: tuple[str, str]) -> Page:
    """Open a page in the same browser whose slider swaps the two pictures."""
    browser = page.context.browser
    assert browser is not None
    floor = browser.new_page(viewport=page.viewport_size)
    floor.set_content(HTML)
    floor.evaluate(WATCH, list(pictures))
    return floor


def floor_latencies(floor: Page) -> list[float]:
    """Return the milliseconds from each move to the first frame that shows it or a later one, and forget them."""
    moves, frames = floor.evaluate("[floor_moves, floor_frames]")
    floor.evaluate("floor_moves.length = 0; floor_frames.length = 0")
    return latencies_of(moves, frames)


def latencies_of(moves: list[dict], frames: list[dict]) -> list[float]:
    """Pair each move with the first frame of its number or a later one.

    Examples
    --------
    >>> latencies_of([{"time": 0, "number": 1}, {"time": 5, "number": 2}], [{"time": 30, "number": 2}])
    [30, 25]
    """
    found = []
    for move in moves:
        shown = [frame["time"] for frame in frames if frame["number"] >= move["number"]]
        if shown:
            found.append(min(shown) - move["time"])
    return found
