"""The site as files: every chapter is there, every picture has its text, and nothing is larger than it may be."""

import re
from itertools import pairwise

import nbformat
import pytest
from chapter_page import ROOT

CHAPTERS = sorted((ROOT / "notebooks").glob("*.ipynb"))
KILOBYTE = 1000
LOADS = re.compile(
    r'<(?:script|img|iframe|source|video|audio)\b[^>]*?\bsrc="(https?:)?//|'
    r'<link[^>]+rel="(?:stylesheet|preload|icon|prefetch|modulepreload)"[^>]+href="(https?:)?//'
)


@pytest.fixture(scope="module")
def pages(site):
    return {path.relative_to(site).as_posix(): path.read_text(encoding="utf-8") for path in site.rglob("*.html")}


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapter_has_a_page_with_one_title_its_buttons_and_its_pictures_texts(pages, site, path):
    page, notebook = pages[f"notebooks/{path.stem}.html"], nbformat.read(path, as_version=4)
    assert len(re.findall(r"<h1\b", page)) == 1
    for text in ("Open in Colab", "Open in Binder", "Download as notebook", "Show on GitHub"):
        assert f'alt="{text}"' in page
    assert (site / "notebooks" / path.name).read_bytes() == path.read_bytes()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", []) if "data" in output]
    texts = [alt for output in outputs for alt in re.findall(r'alt="([^"]+)"', output.data.get("text/html", ""))]
    assert texts
    assert [alt for alt in texts if f'alt="{alt}"' not in page] == []


def test_chapters_lead_to_the_one_before_and_the_one_after(pages):
    for before, after in pairwise(CHAPTERS):
        assert re.search(rf'class="right-next"\s+href="{after.stem}\.html"', pages[f"notebooks/{before.stem}.html"])
        assert re.search(rf'class="left-prev"\s+href="{before.stem}\.html"', pages[f"notebooks/{after.stem}.html"])


def test_exercises_documents_and_families_have_pages(pages):
    for path in (ROOT / "exercises").glob("ex*/*.ipynb"):
        assert f"exercises/{path.parent.name}/{path.stem}.html" in pages
    for path in (ROOT / "docs").glob("*.md"):
        assert f"docs/{path.stem}.html" in pages
    for path in (ROOT / "kdcourse" / "losses").glob("[a-z]*.py"):
        assert f"api/kdcourse.losses.{path.stem}.html" in pages
    assert (
        "softened" in pages["api/kdcourse.losses.soft_targets.html"]
        or "soften" in pages["api/kdcourse.losses.soft_targets.html"]
    )


def test_no_page_loads_anything_from_elsewhere(pages):
    assert {name: LOADS.findall(page)[:3] for name, page in pages.items() if LOADS.search(page)} == {}


def test_every_picture_of_every_page_has_a_text(pages):
    silent = {name: re.findall(r'<img(?![^>]*\balt="[^"]{3,}")[^>]{0,80}', page) for name, page in pages.items()}
    assert {name: pictures for name, pictures in silent.items() if pictures} == {}


def test_links_within_the_site_lead_somewhere(pages, site):
    broken = []
    for name, page in pages.items():
        for target in re.findall(r'<a\b[^>]*?\bhref="([^"#?]+)', page):
            if not re.match(r"[a-z]+:", target) and not (site / name).parent.joinpath(target).exists():
                broken.append((name, target))
    assert broken == []


def weight(site, name):
    """Bytes of a page and of what it loads at once: scripts, stylesheets, pictures, and the theme's font of icons."""
    page, folder = (site / name).read_text(encoding="utf-8"), (site / name).parent
    loaded = re.findall(r'<(?:script|img)\b[^>]*?\bsrc="([^"]+)"', page)
    loaded += re.findall(r'<link\b[^>]*?\bhref="([^"]+)"[^>]*?\brel="stylesheet"', page)
    loaded += re.findall(r'<link\b[^>]*?\brel="stylesheet"[^>]*?\bhref="([^"]+)"', page)
    files = {(folder / target.partition("?")[0]).resolve() for target in loaded if not target.startswith("data:")}
    assert files
    files |= {next(site.rglob("fa-solid-*.woff2")), site / name}
    return sum(path.stat().st_size for path in files)


def test_the_first_page_is_at_most_half_a_megabyte(site):
    assert weight(site, "index.html") <= 500 * KILOBYTE


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapter_is_at_most_one_and_a_half_megabytes(site, path):
    assert weight(site, f"notebooks/{path.stem}.html") <= 1500 * KILOBYTE


def test_all_scripts_of_explorers_together_are_small(site):
    assert sum(path.stat().st_size for path in (site / "_static" / "js").glob("*.js")) <= 100 * KILOBYTE


def test_the_two_networks_are_at_most_four_megabytes(site):
    files = [site / "_static" / "data" / f"{name}.js" for name in ("teacher", "student")]
    assert sum(path.stat().st_size for path in files) <= 4000 * KILOBYTE
