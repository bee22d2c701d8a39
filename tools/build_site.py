"""Build the static site: ``build/site``, to be put on any web server or opened from a folder.

``python tools/build_site.py``                 all of it; a warning is an error
``python tools/build_site.py --only 02 ex02``  with these notebooks only, while you write

Whatever chapters, exercises and documents there are become pages, as they were executed. Nothing is fetched here, and
the pages fetch nothing from elsewhere when they are read: ``tests/site`` looks.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from notebook_parts import ROOT
from site_parts.assets import write_assets
from site_parts.collecting import stage
from site_parts.overview import write_overviews
from site_parts.reference import write_reference
from site_parts.stylesheets import shrink

WORK, SITE = "site-work", "site"  # folders in build/
# myst-nb gives a folded cell a name that is not what is written on it.
UNNAMED = '<summary aria-label="Toggle hidden content">'


def build(root: Path = ROOT, *, only: Sequence[str] | None = None, target: Path | None = None) -> Path:
    """Collect the pages, let Sphinx write them, and make what they load smaller.

    Parameters
    ----------
    root : Path
        The checkout.
    only : sequence of str, optional
        Beginnings of names of notebooks; by default all. Links to the others then lead nowhere, so that a warning is
        no error.
    target : Path, optional
        Where the site is written; ``build/site`` by default.

    Returns
    -------
    Path
        The site's folder.

    Raises
    ------
    RuntimeError
        If Sphinx failed or warned; what it said stands above.
    """
    target = target or root / "build" / SITE
    work = target.parent / WORK
    pages = work / "pages"
    shutil.rmtree(work, ignore_errors=True)
    stage(pages, root, only)
    write_reference(pages / "api", root)
    write_assets(pages / "_assets", root)
    write_overviews(pages, root)
    shutil.rmtree(target, ignore_errors=True)
    command = [
        sys.executable, "-m", "sphinx", *([] if only else ["--fail-on-warning"]), "--quiet", "-b", "html",
        "-c", root / "site", "-d", work / "doctrees", "-D", f"html_extra_path={pages / '_extra'}",
        "-D", f"html_static_path=static,{pages / '_assets'}", pages, target,
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root / "tools"), str(root)])}
    if subprocess.call(list(map(str, command)), env=environment):
        raise RuntimeError("Sphinx warned or failed: see above.")
    shutil.rmtree(target / ".doctrees", ignore_errors=True)
    for name in (".buildinfo", "objects.inv"):
        (target / name).unlink(missing_ok=True)
    for page in target.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        page.write_text(text.replace(UNNAMED, "<summary>"), encoding="utf-8")
    shrink(target)
    return target


def main() -> int:
    """Return 0 if the site was built."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", metavar="NAME", help="beginnings of names of notebooks, such as 02 ex02")
    options = parser.parse_args()
    start = time.perf_counter()
    try:
        site = build(only=options.only)
    except (RuntimeError, ValueError) as error:
        print(f"build_site: {error}", file=sys.stderr)
        return 1
    files = [path for path in site.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files) / 1e6
    pages = sum(path.suffix == ".html" for path in files)
    print(f"{site}: {pages} pages, {size:.1f} MB, {time.perf_counter() - start:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
