"""300 units of a study on a local Dask cluster: four workers of which one is killed in the middle, against one worker.

``python -m benchmarks.scale_out`` takes about five minutes on two cores; it needs the ``cluster`` extra. A killed
worker's unit is begun again elsewhere; what counts is that each unit is recorded once.
"""

import argparse
import json
import os
import signal
import tempfile
import time
from collections import Counter
from functools import partial
from pathlib import Path

from benchmarks._student_unit import one_student
from benchmarks._timing import measure_units
from experiments.registry import Study, Unit
from experiments.running import run_studies


def measure(*, units: int, workers: int, kill: bool, samples: int = 2000, epochs: int = 6) -> dict:
    """Run the units on so many workers; kill one of them, if asked to, when half of the units are done."""
    from distributed import Client, LocalCluster

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        begun = folder / "begun"
        settings = {"samples": samples, "epochs": epochs, "begun": str(begun)}
        study = Study(
            "scale_out", "Students.", lambda: [Unit(one_student, {"seed": n, **settings}) for n in range(units)], 1
        )
        killed: list[int] = []
        with LocalCluster(n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
            with Client(cluster) as client:
                client.wait_for_workers(workers)
                client.run(_warm_up)

            def say(line: str) -> None:
                stored = len(list((folder / "units" / "scale_out").glob("[!.]*.json")))
                if kill and not killed and stored >= units // 2:
                    killed.append(next(iter(cluster.workers.values())).pid)
                    os.kill(killed[0], signal.SIGKILL)

            start = time.perf_counter()
            (path,) = run_studies(
                [study], folder=folder / "units", executor=cluster.scheduler_address, say=say, results=folder
            )
            seconds = time.perf_counter() - start
        counts = Counter(run["seed"] for run in json.loads(path.read_text(encoding="utf-8"))["runs"])
        lines = [line.split() for line in begun.read_text(encoding="utf-8").splitlines()]
    return {
        "units": units,
        "workers": workers,
        "workers_killed": len(killed),
        "seconds": round(seconds, 1),
        "lost": sum(number not in counts for number in range(units)),
        "recorded_twice": sum(count > 1 for count in counts.values()),
        "begun_again": len(lines) - units,
        "processes_that_worked": len({process for _, process in lines}),
    }


def _warm_up() -> None:
    """Import torch and read the data, which each worker does once."""
    from benchmarks._student_unit import digits

    digits(2000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--units", type=int, default=300)
    parser.add_argument("--again", action="store_true", help="measure what the record has already, too")
    arguments = parser.parse_args()
    units = {
        "four workers, one killed": partial(measure, units=arguments.units, workers=4, kill=True),
        "one worker": partial(measure, units=arguments.units, workers=1, kill=False),
    }
    about = "a study of students 784-32-10, each a unit, on a Dask cluster of processes on this machine"
    measure_units("scale_out", units, about=about, again=arguments.again)


if __name__ == "__main__":
    main()
