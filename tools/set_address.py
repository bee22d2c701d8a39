"""Give the course the address of whoever publishes it, everywhere it stands, without executing a notebook.

``python tools/set_address.py https://github.com/OWNER/REPOSITORY``

The address stands in ``pyproject.toml``. From there it goes into badges, first cells and links of chapters, exercises
and keys; and it stands in README and docs. All of it is written, or nothing if a notebook is not what its source gives.
"""

import argparse
import re
import sys
from pathlib import Path

import build_exercises
import build_notebooks
from notebook_parts import ROOT, check_address, project

from kdcourse.grading.notebooks import write_text

# Where an owner and a repository stand in addresses of GitHub and of those that open its notebooks.
HOSTS = (
    r"(github\.com/|githubusercontent\.com/|research\.google\.com/github/|mybinder\.org/v2/gh/|shields\.io/github/\w+/)"
)
DOCUMENTS = ("pyproject.toml", "*.md", "*.cff", "*.yml", "docs/**/*.md", "docs/**/*.py", ".github/**/*.yml")


def readdressed(text: str, old: str, new: str) -> str:
    """Return a text with the addresses that lead to one repository leading to another one.

    Parameters
    ----------
    text : str
        Any text.
    old, new : str
        ``https://github.com/OWNER/REPOSITORY``.
    """
    before, after = (address.removeprefix("https://github.com/") for address in (old, new))
    # What follows must not be a part of the name, or kdcourse/kdcourse-data would be taken for kdcourse/kdcourse.
    return re.sub(HOSTS + re.escape(before) + r"(?![\w-]|\.(?!git\b)\w)", rf"\g<1>{after}", text)


def set_address(new: str, root: Path = ROOT) -> list[Path]:
    """Write the address everywhere.

    Parameters
    ----------
    new : str
        ``https://github.com/OWNER/REPOSITORY``.
    root : Path
        The checkout.

    Returns
    -------
    list of Path
        The documents that changed, ``pyproject.toml`` among them. All notebooks are built again.

    Raises
    ------
    ValueError
        If it is not an address of GitHub, or a built notebook is not what its source gives; nothing is written then.
    """
    new, (old, _) = check_address(new), project(root)
    sources = sorted((root / "notebooks" / "source").glob("*.py")), sorted((root / "solutions").glob("ex*.py"))
    builders = build_notebooks, build_exercises
    stale = [
        problem
        for builder, chosen in zip(builders, sources, strict=True)
        for source in chosen
        for problem in builder.problems(source, root)
    ]
    if stale:
        raise ValueError("\n".join(["the address was not changed, because a build is due first:", *stale]))
    changed = []
    for path in sorted({path for pattern in DOCUMENTS for path in root.glob(pattern)}):
        before = path.read_text(encoding="utf-8")
        after = readdressed(before, old, new)
        if after != before:
            write_text(path, after)
            changed.append(path)
    for builder, chosen in zip(builders, sources, strict=True):
        for source in chosen:
            builder.build(source, root, execution="never")
    return changed


def main(arguments: list[str] | None = None) -> int:
    """Return 0 if the address was written, 2 if it is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("address", help="https://github.com/OWNER/REPOSITORY")
    options = parser.parse_args(arguments)
    try:
        changed = set_address(options.address)
    except ValueError as error:
        print(f"set_address: {error}", file=sys.stderr)
        return 2
    print(
        f"written into {', '.join(str(path.relative_to(ROOT)) for path in changed) or 'no document'} and all notebooks"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
