"""``kdcourse selftest``: each key gets all points, each unmodified exercise none."""

import argparse
from pathlib import Path

from ..grading.selftest import selftest
from .console import say


def run(options: argparse.Namespace) -> int:
    """Test the keys, one line each."""
    failed = 0
    for name, wrong in selftest(Path(), names=tuple(options.names), keys=options.key):
        say(f"{name:<32} {wrong or 'ok'}")
        failed += bool(wrong)
    return 1 if failed else 0
