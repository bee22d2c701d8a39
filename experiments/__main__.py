"""``python -m experiments`` runs every study that the ledger needs; ``--list`` shows them.

A study's name, or the name of a row of the ledger, runs it alone. Whatever is finished is stored in ``--folder``: the
same command goes on from there, however it was stopped. Then ``python tools/update_docs.py`` writes the ledger.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from experiments._record import RESULTS
from experiments.registry import Study, entries, judge, studies
from experiments.running import FOLDER, run_studies

QUICK = "gradients"  # trains, and takes less than a minute of one core


def main(arguments: Sequence[str] | None = None) -> int:
    """Run studies, list them, or compare a quick one with its record; return 0 if all is well."""
    parser = argparse.ArgumentParser(prog="python -m experiments", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="studies or rows of the ledger; all by default")
    parser.add_argument("--list", action="store_true", help="list studies and their rows, and run nothing")
    parser.add_argument("--quick", action="store_true", help=f"run {QUICK} anew and compare with its record")
    parser.add_argument("--executor", default="processes", help="processes, or the address of a Dask scheduler")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="folder of finished units")
    options = parser.parse_args(arguments)
    if options.quick:
        return quick()
    try:
        chosen = choose(options.names)
    except ValueError as error:
        parser.error(str(error))
    if options.list:
        print("\n".join(line for study in chosen for line in describe(study)))
        return 0
    run_studies(chosen, folder=options.folder, executor=options.executor, say=lambda line: print(line, flush=True))
    return 0


def choose(names: Sequence[str]) -> list[Study]:
    """Return the studies of these names, or of the rows of these names; without names all that run by default."""
    known, rows = studies(), {entry.name: entry.study for entry in entries()}
    unknown = [name for name in names if name not in known and name not in rows]
    if unknown:
        raise ValueError(f"there is no study and no row {unknown[0]!r}. The studies are {', '.join(known)}.")
    wanted = {name if name in known else rows[name] for name in names}
    return [study for study in known.values() if (study.name in wanted if names else study.by_default)]


def describe(study: Study) -> list[str]:
    """Return a line for a study and one for each row of the ledger that reads its record."""
    extra = "" if study.by_default else ", only by name"
    head = f"{study.name}: {study.about} About {study.minutes:g} minutes of one core{extra}."
    return [head, *(f"    {entry.name}: {entry.claim}" for entry in entries() if entry.study == study.name)]


def quick() -> int:
    """Run the quick study anew, and return 0 if its rows have the verdicts of the record."""
    (study,) = choose([QUICK])
    if not (RESULTS / f"{QUICK}.json").exists():
        print(f"there is no record to compare with: python -m experiments {QUICK} makes it.")
        return 1
    with tempfile.TemporaryDirectory() as folder:
        (path,) = run_studies([study], folder=Path(folder), results=Path(folder) / "records")
        new, old = (json.loads(each.read_text(encoding="utf-8")) for each in (path, RESULTS / path.name))
    differ = 0
    for entry in entries():
        if entry.study == study.name:
            now, before = judge(entry, new), judge(entry, old)
            differ += now.verdict != before.verdict or now.where != before.where
            print(f"{entry.name}: {now}; the record says: {before}")
    return int(differ > 0)


if __name__ == "__main__":
    sys.exit(main())
