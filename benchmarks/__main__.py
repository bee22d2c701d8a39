"""``python -m benchmarks`` runs every benchmark one after another; ``python -m benchmarks losses live`` some of them.

Each runs in a process of its own, so that none measures what another left in memory. ``python -m benchmarks.gpu`` is
for a machine with a GPU.
"""

import argparse
import subprocess
import sys

NAMES = (
    "imports", "step", "teacher_pass", "training", "losses", "large_losses", "sweeps", "sweep_ways", "live",
    "scale_out", "grading", "chapters",
)  # fmt: skip

parser = argparse.ArgumentParser(prog="python -m benchmarks")
parser.add_argument("names", nargs="*", choices=[*NAMES, []], help="all by default")
for name in parser.parse_args().names or NAMES:
    print(f"== {name}", flush=True)
    subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=True)
