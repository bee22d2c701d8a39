"""``kdcourse distill`` as a newcomer runs it: its table, its picture, and how long the command takes.

Run ``python -m experiments.distill``, then ``python tools/update_docs.py``, which puts the table into docs/results.md.
"""

import subprocess
import sys
import time

from experiments._record import RESULTS, write_json

PICTURE = RESULTS.parent.parent / "docs" / "images" / "distill.png"


def main() -> None:
    command = ["distill", "--epochs", "5", "--seeds", "3", "--device", "cpu", "--picture", str(PICTURE)]
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "kdcourse", *command], check=True, stdout=subprocess.PIPE, text=True)
    seconds = time.perf_counter() - start
    table = done.stdout.rpartition("\n\nPicture:")[0]
    shown = "kdcourse distill --epochs 5 --seeds 3"
    print(
        table,
        f"{seconds:.0f} s",
        f"recorded in {write_json('distill', {'command': shown, 'seconds': seconds, 'table': table})}",
        sep="\n",
    )


if __name__ == "__main__":
    main()
