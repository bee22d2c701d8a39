"""``kdcourse release``: make ``exercises/`` from the keys in ``solutions/``."""

import argparse

from ..grading.release import release_folder
from .console import say


def run(options: argparse.Namespace) -> int:
    """Release every key, or with ``--check`` compare only."""
    lines = release_folder(options.root, check=options.check)
    say("\n".join(lines) or "every exercise is what its key gives")
    return 1 if options.check and lines else 0
