"""Execute chapters as other machines would, and list the assertions that hold only here.

``python tools/elsewhere.py 03``             one chapter on each imitated machine
``python tools/elsewhere.py 03 --only sse``  on one of them

Another processor or number of threads rounds sums in another order; a network with batch normalisation turns that into
another run within a hundred steps. So an assertion about a trained student must hold on every machine imitated here:
torch, oneDNN and MKL can be told to use other instructions than the processor has. Notebooks on disk are not changed.
"""

import argparse
import os
import sys
import time

from build_notebooks import NOTEBOOKS, SOURCES, assemble
from nbclient import NotebookClient

OLD_PROCESSOR = {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_CBWR": "COMPATIBLE"}
MACHINES = {
    "1 thread": {"KDCOURSE_THREADS": "1"},
    "2 threads": {"KDCOURSE_THREADS": "2"},
    "sse": {"KDCOURSE_THREADS": "1", **OLD_PROCESSOR},
    "sse, 2 threads": {"KDCOURSE_THREADS": "2", **OLD_PROCESSOR},
}


def failures(source, variables: dict[str, str]) -> list[str]:
    """Execute a chapter under some environment variables; return a text for each cell that raised."""
    notebook = assemble(source)
    client = NotebookClient(
        notebook, timeout=900, kernel_name="python3", allow_errors=True, resources={"metadata": {"path": NOTEBOOKS}}
    )
    # Passive: where other work wants the cores, two threads that spin for one another take ten times as long.
    threads = {"OMP_NUM_THREADS": variables["KDCOURSE_THREADS"], "OMP_WAIT_POLICY": "PASSIVE"}
    client.execute(env={**os.environ, **threads, **variables})
    found = []
    for number, cell in enumerate(notebook.cells):
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                marked = [line.strip() for line in cell.source.splitlines() if "assert" in line]
                trace = "\n".join(output.traceback)
                found.append(f"cell {number}: {output.ename} {output.evalue}\n{trace}\n{marked}")
    return found


def main() -> int:
    """Return 1 if a cell raised on any of the imitated machines."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="beginnings of chapter names, such as 02; all by default")
    parser.add_argument("--only", choices=list(MACHINES), help="imitate one machine; all by default")
    options = parser.parse_args()
    broken = False
    for source in sorted(SOURCES.glob("*.py")):
        if options.names and not source.name.startswith(tuple(options.names)):
            continue
        for name in [options.only] if options.only else MACHINES:
            start = time.perf_counter()
            found = failures(source, MACHINES[name])
            broken |= bool(found)
            print(f"== {source.stem} on {name!r}: {len(found)} cells raised, {time.perf_counter() - start:.0f} s")
            print("\n".join(found), flush=True)
    return int(broken)


if __name__ == "__main__":
    sys.exit(main())
