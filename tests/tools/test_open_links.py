"""Links that open a notebook in Colab or in Binder: of the form that these understand, and to a file that is there."""

import re
from pathlib import Path
from urllib.parse import parse_qs, urlparse

import pytest
from notebook_parts import project

ROOT = Path(__file__).resolve().parents[2]
(REPOSITORY, VERSION), BADGES = project(), ("/assets/", "/badge")
LINK = re.compile(r"https://(?:mybinder\.org|colab\.research\.google\.com)/[^\s\"'()<>\\\]]*")
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/*.md", "notebooks/*.ipynb", "exercises/**/*.ipynb")
    for path in ROOT.glob(pattern)
    if LINK.search(path.read_text(encoding="utf-8"))
)


def opened(link: str) -> tuple[str, str, str]:
    """Return the repository, the tag or branch, and the file that a link opens.

    >>> opened("https://mybinder.org/v2/gh/o/n/v1.0?urlpath=lab/tree/a.ipynb")
    ('o/n', 'v1.0', 'a.ipynb')
    """
    address = urlparse(link)
    if address.netloc == "mybinder.org":
        service, owner, name, reference = re.fullmatch(r"/v2/(gh)/([^/]+)/([^/]+)/([^/]+)", address.path).groups()
        (path,) = parse_qs(address.query, strict_parsing=True)["urlpath"]
        assert service == "gh"
        return f"{owner}/{name}", reference, path.removeprefix("lab/tree/")
    owner, name, reference, path = re.fullmatch(r"/github/([^/]+)/([^/]+)/blob/([^/]+)/(.+)", address.path).groups()
    return f"{owner}/{name}", reference, path


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_what_opens_a_notebook_elsewhere_leads_to_one_of_ours(page):
    links = [
        link for link in LINK.findall(page.read_text(encoding="utf-8")) if not urlparse(link).path.startswith(BADGES)
    ]
    for link in links:
        name, reference, path = opened(link)
        assert name == REPOSITORY.removeprefix("https://github.com/")
        assert reference in ("main", f"v{VERSION}")
        assert path.endswith(".ipynb")
        assert (ROOT / path).is_file(), path


def test_the_readme_and_every_notebook_have_such_a_link():
    notebooks = {*ROOT.glob("notebooks/[0-9]*.ipynb"), *ROOT.glob("exercises/**/ex*.ipynb")}
    assert {ROOT / "README.md", *notebooks} <= set(PAGES)
    assert {urlparse(link).netloc for link in LINK.findall((ROOT / "README.md").read_text(encoding="utf-8"))} == {
        "mybinder.org",
        "colab.research.google.com",
    }


@pytest.mark.parametrize(
    "link",
    [
        "https://mybinder.org/v2/gh/o/n?urlpath=lab/tree/a.ipynb",  # no tag
        "https://colab.research.google.com/github/o/n/a.ipynb",  # no blob
        "https://mybinder.org/gh/o/n/v1?urlpath=lab/tree/a.ipynb",
    ],
)
def test_a_link_of_another_form_is_noticed(link):
    with pytest.raises(AttributeError):
        opened(link)
