"""``python -m experiments`` runs every experiment; ``python -m experiments chapters hinton`` some of them.

Each runs in a process of its own and leaves its record in ``experiments/results/``.
"""

import argparse
import subprocess
import sys

NAMES = ("distill", "chapters", "detection", "continual", "quantisation", "hinton")

parser = argparse.ArgumentParser(prog="python -m experiments")
parser.add_argument("names", nargs="*", choices=[*NAMES, []], help="all by default; hinton takes hours")
for name in parser.parse_args().names or NAMES:
    print(f"== {name}", flush=True)
    subprocess.run([sys.executable, "-m", f"experiments.{name}"], check=True)
