"""Take the stills of the site's explorers, which stand in print and where scripts are not allowed.

``python tools/record_stills.py [NAME …]`` after ``make site``: opens all explorers, or those named, as they stand, and
writes ``site/recorded/stills/NAME.png``. Build the site again afterwards.
"""

import argparse
import io
import sys
import tomllib
from pathlib import Path

from lab_browser import browser_page
from notebook_parts import ROOT
from PIL import Image

COLOURS = 64


def explorers() -> list[str]:
    """Return the names of all explorers."""
    return list(tomllib.loads((ROOT / "site" / "explorers.toml").read_text(encoding="utf-8")))


def take(site: Path, folder: Path, names: list[str]) -> list[Path]:
    """Write a still of each explorer that is named and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    with browser_page() as (page, _):
        page.set_viewport_size({"width": 1100, "height": 1000})
        for name in names:
            address = "draw.html" if name == "digit" else f"explorers/{name}.html"
            page.goto((site / address).as_uri(), wait_until="load")
            page.wait_for_selector(".kd-live svg")
            picture = Image.open(io.BytesIO(page.locator(".kd-charts").screenshot())).convert("RGB")
            paths.append(folder / f"{name}.png")
            picture.quantize(COLOURS, dither=Image.Dither.NONE).save(paths[-1], optimize=True)
    return paths


def main() -> int:
    """Return 0 once all stills are taken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(explorers())}; all by default")
    names = parser.parse_args().names or explorers()
    if unknown := sorted(set(names) - set(explorers())):
        parser.error(f"there is no explorer {', '.join(unknown)}. There are {', '.join(explorers())}.")
    for path in take(ROOT / "build" / "site", ROOT / "site" / "recorded" / "stills", names):
        print(f"{path.relative_to(ROOT)}: {path.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
