"""The site as a visitor opens it from a folder: what it asks for, how large it is, and who can read it."""

import pytest
from axe import fetch_checker
from chapter_page import ROOT, needs_browser

pytestmark = needs_browser
CHAPTERS = [f"notebooks/{path.stem}.html" for path in sorted((ROOT / "notebooks").glob("*.ipynb"))]
EXPLORERS = [f"explorers/{path.stem}.html" for path in sorted((ROOT / "site/pages/explorers").glob("*.md"))]
EXERCISES = [
    f"exercises/{path.parent.name}/{path.stem}.html" for path in sorted((ROOT / "exercises").glob("ex*/*.ipynb"))
]
DOCUMENTS = [f"docs/{path.stem}.html" for path in sorted((ROOT / "docs").glob("*.md"))]
API = [f"api/kdcourse.losses.{path.stem}.html" for path in sorted((ROOT / "kdcourse" / "losses").glob("[a-z]*.py"))]
OTHERS = [
    "chapters.html",
    "draw.html",
    "reading.html",
    "exercises/index.html",
    "explorers/index.html",
    "api/index.html",
]
PAGES = ["index.html", *CHAPTERS, *EXPLORERS, *OTHERS, *EXERCISES, *DOCUMENTS, *API, "search.html", "CHANGELOG.html"]
GRAVE = ("serious", "critical")
ALWAYS = ("heading-order", "image-alt", "link-name", "page-has-heading-one", "color-contrast")
LOOK = """async () => {
  document.querySelectorAll('details').forEach(details => { details.open = true; });
  const found = await axe.run(document, {resultTypes: ['violations']});
  const parts = nodes => nodes.slice(0, 3).map(node => node.html.slice(0, 160));
  return found.violations.map(({id, impact, nodes}) => [id, impact, parts(nodes)]);
}"""
CONTRASTS = """() => {
  const light = colour => colour.match(/[\\d.]+/g).slice(0, 3).map(Number).map(c => c / 255)
    .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = part => {
    const colour = getComputedStyle(part).backgroundColor;
    return /, 0\\)$/.test(colour) && part.parentElement ? ground(part.parentElement) : colour;
  };
  return [...document.querySelectorAll('main summary')].map(part => {
    const pair = [light(getComputedStyle(part).color), light(ground(part))];
    return (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
  });
}"""
TOO_WIDE = """() => {
  const wide = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth <= wide) return [];
  return [...document.querySelectorAll('main *')].filter(part => part.getBoundingClientRect().right > wide + 1)
    .slice(0, 3).map(part => part.outerHTML.slice(0, 120));
}"""


@pytest.mark.parametrize("name", PAGES)
def test_a_page_asks_no_other_place_and_has_no_error(reader, name):
    reader.open(name)
    assert reader.elsewhere() == []
    assert reader.complaints == []


@pytest.mark.parametrize("name", PAGES)
def test_a_page_has_no_grave_finding_light_or_dark(reader, pytestconfig, name):
    dark = PAGES.index(name) % 2 == 1
    page = reader.open(name, dark=dark)
    assert page.evaluate("document.documentElement.dataset.theme") == ("dark" if dark else "light")
    page.evaluate(fetch_checker(pytestconfig.cache))
    findings = page.evaluate(LOOK)
    assert [finding for finding in findings if finding[1] in GRAVE or finding[0] in ALWAYS] == []


@pytest.mark.parametrize("name", PAGES)
def test_a_page_fits_a_telephone_without_scrolling_sideways(reader, name):
    assert reader.open(name, width=360).evaluate(TOO_WIDE) == []
    assert reader.page.evaluate("document.documentElement.scrollWidth") <= 360


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", CHAPTERS)
def test_a_folded_answer_can_be_read(reader, name, theme):
    # A text of exactly the colour of its ground is what the checker leaves undecided.
    ratios = reader.open(name, dark=theme == "dark").evaluate(CONTRASTS)
    assert ratios or name.startswith("notebooks/00")
    assert min(ratios, default=21) >= 4.5


def test_the_first_page_is_at_most_half_a_megabyte(reader):
    reader.open("index.html")
    assert reader.bytes_loaded() <= 500_000


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_chapter_is_at_most_one_and_a_half_megabytes(reader, name):
    reader.open(name)
    assert reader.bytes_loaded() <= 1_500_000


def test_search_finds_a_word_from_a_file(reader):
    page = reader.open("search.html?q=temperature")
    page.wait_for_selector("#search-results li a", timeout=60_000)
    assert reader.elsewhere() == []
    assert page.locator("#search-results li a").count() > 5


def test_a_page_is_dark_where_a_visitor_chose_so_and_the_next_page_too(reader):
    page = reader.open("index.html")
    page.locator(".theme-switch-button:visible").click()
    page.locator(".theme-change-button[data-mode=dark]:visible").click()
    for _ in range(2):
        assert page.evaluate("document.documentElement.dataset.theme") == "dark"
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert max(map(int, colour.removeprefix("rgb(").removesuffix(")").split(","))) < 80
        page.reload()
    page.evaluate("localStorage.clear()")


def test_focus_can_be_seen(reader):
    page = reader.open("index.html")
    slider = page.locator(".kd-live input[type=range]").last
    slider.focus()
    page.keyboard.press("ArrowRight")  # so that the focus counts as one of the keyboard
    assert slider.evaluate("part => getComputedStyle(part).outlineStyle") == "solid"
    assert float(slider.evaluate("part => getComputedStyle(part).outlineWidth").removesuffix("px")) >= 2


def test_nothing_moves_by_itself_where_less_motion_is_asked_for(reader):
    page = reader.open("index.html")
    assert page.evaluate("document.getAnimations().filter(one => one.playState === 'running').length") == 0
