"""The built site, and a browser that may read its files and nothing else."""

import json
from pathlib import Path
from urllib.parse import unquote, urlparse

import pytest
from chapter_page import ROOT
from lab_browser import browser_page

SITE = ROOT / "build" / "site"
RECORDED = ROOT / "site" / "recorded"


@pytest.fixture(scope="session")
def site():
    """The folder that ``make site`` writes; ``make test`` does it before these tests."""
    if not (SITE / "index.html").exists():
        pytest.skip("the site is not built: make site")
    return SITE


class Reader:
    """A page of the browser that opens the site's pages from files, and notes what they ask for and complain of."""

    def __init__(self, page, site):
        self.page, self.site = page, site
        self.asked, self.complaints = [], []
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("console", lambda said: self.complaints.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def open(self, name, *, width=1366, dark=False):
        self.asked, self.complaints = [], []
        self.page.set_viewport_size({"width": width, "height": 900})
        self.page.emulate_media(color_scheme="dark" if dark else "light", reduced_motion="reduce")
        path, mark, query = name.partition("?")
        self.page.goto((self.site / path).as_uri() + mark + query, wait_until="load")
        return self.page

    def elsewhere(self):
        """What the page asked another place for."""
        return [url for url in self.asked if not url.startswith(("file:", "data:", "blob:"))]

    def bytes_loaded(self):
        """How much the page read from files."""
        paths = {Path(unquote(urlparse(url).path)) for url in self.asked if url.startswith("file:")}
        return sum(path.stat().st_size for path in paths if path.is_file())

    def explorer(self, name):
        """What an explorer shows, as numbers."""
        return self.page.evaluate(f"document.querySelector('[data-explorer={name}]').explorer.read()")

    def settle(self):
        """Wait for the two frames in which an explorer draws what was moved."""
        self.page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


@pytest.fixture(scope="module")
def reader(site):
    with browser_page() as (page, _):
        yield Reader(page, site)


@pytest.fixture(scope="session")
def recorded():
    """A record of ``site/recorded`` by its name."""

    def read(name):
        return json.loads((RECORDED / f"{name}.json").read_text(encoding="utf-8"))

    return read
