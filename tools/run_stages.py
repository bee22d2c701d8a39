"""Run targets of the Makefile one after another, whatever becomes of each, and say at the end how they went.

``python tools/run_stages.py lint unit browser``    as ``make lint``, ``make unit``, ``make browser``; fails if one did

``make -k`` goes on after a failure too, but leaves it to the reader to find what failed among thousands of lines.
"""

import argparse
import os
import subprocess
import sys
import time
from typing import NamedTuple


class Outcome(NamedTuple):
    """How a stage ended: the exit code of make, and the seconds it took."""

    stage: str
    code: int
    seconds: float


def run(stage: str) -> Outcome:
    """Run one target, its output where ours goes."""
    print(f"\n===== {stage} =====", flush=True)
    start = time.monotonic()
    code = subprocess.call([os.environ.get("MAKE", "make"), "--no-print-directory", stage])
    return Outcome(stage, code, time.monotonic() - start)


def summary(outcomes: list[Outcome]) -> str:
    """Return a line for each stage and one for all of them."""
    rows = [(stage, "failed" if code else "passed", seconds) for stage, code, seconds in outcomes]
    failed = [stage for stage, code, _ in outcomes if code]
    rows.append(("all", f"{len(failed)} failed" if failed else "passed", sum(row.seconds for row in outcomes)))
    lines = [f"{name:<15} {verdict:<9} {seconds:6.0f} s" for name, verdict, seconds in rows]
    return "\n".join(["", "===== stages =====", *lines])


def main(arguments: list[str] | None = None) -> int:
    """Run the stages; return 0 if all have passed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stages", nargs="+", metavar="TARGET", help="a target of the Makefile")
    options = parser.parse_args(arguments)
    outcomes = []
    try:
        for stage in options.stages:
            outcomes.append(run(stage))
    except KeyboardInterrupt:
        print(f"\nstopped by hand; not finished: {', '.join(options.stages[len(outcomes) :])}")
        return 130
    finally:
        print(summary(outcomes), flush=True)
    return int(any(outcome.code for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
