"""Chapter 11 at full size: divergences, newer losses, patience, kept logits, writers, and classes without names.

``python -m experiments.modern`` from the repository's root; a stopped run continues. Two processes share the work:
``--part 0/2`` and ``--part 1/2``; then ``--record`` writes ``experiments/results/modern.json``, shown in the chapter.
Claims, arms and rules were written before the runs, in ``experiments/_modern_plan.py``.
"""

import argparse
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from experiments import _modern_patience, _modern_students, _modern_writers
from experiments._modern_plan import Rows, comparisons, verdicts
from experiments._record import RESULTS, write_json
from experiments._rows import RUNS

ABOUT = {
    "divergences": "4,000 definitions of 24 kinds, a bag of words of width 4 (narrow) or 32 (wide), 10 epochs; the "
    "teacher is a bag of width 64 that has read all 67,734 training definitions; no labels; a learning "
    "rate for each arm, from two, chosen on 2,000 held-out definitions. Errors of 2,000 test definitions, "
    "5 seeds",
    "newer": "2,000 images, 784-300-300-10, Hinton's teacher, 20 epochs, errors of 10,000 test images, 7 seeds; "
    "and the 24 kinds as above, width 32, with labels, 5 seeds. Six settings for each method, chosen on "
    "held-out data with two seeds that are not recorded. *KD, higher T* was added for the digits after "
    "the first results were seen",
    "patience": "1,000 images shifted by up to two pixels, 784-800-800-10 and 784-32-10, 15 or 120 epochs, T = 8, no "
    "labels, 5 seeds. A thousand images, because the long runs of the large student would take hours "
    "otherwise",
    "cached": "the next token, of 6,024, in 2,000 definitions; a writer of 2×64; 4 epochs; 300 test definitions; 5 "
    "seeds",
    "writers": "a student of one block, 1×192, that starts from its teacher's embeddings and first block, reads 64 "
    "batches of 32 definitions from the dictionary, and learns on for 25 batches of 32 texts, of at most 24 "
    "tokens. 192 texts are judged, by the teacher and by chapter 09's classifier. 5 seeds. A first plan, students of "
    "2×64 from nothing, was stopped after two seeds, because they had not learned to write",
    "sorted": "the digits again, with a teacher whose classes have no names. 5 seeds",
}
NOT_KEPT = {"texts", "token_ids"}  # a page of texts is kept, for one seed


def blocks(size: _modern_students.Size, teachers: str | None) -> dict[str, Callable[[], Rows]]:
    """Every block by name; those without a language model first."""
    kinds = partial(_modern_students.kinds, size)
    return {
        "newer-digits": partial(_modern_students.newer_digits, size),
        "sorted": partial(_modern_students.sorted_probabilities, size),
        "patience": partial(_modern_patience.patience, size),
        "divergences": partial(_modern_students.divergences, size, kinds),
        "newer-kinds": partial(_modern_students.newer_kinds, size, kinds),
        "cached": partial(_modern_writers.cached, size, teachers),
        "writers": partial(_modern_writers.writers, size, teachers),
    }


def record(rows: Rows, size: _modern_students.Size, references: dict[str, Any]) -> Path:
    """Write what was measured, the comparisons, and the verdicts."""
    return _write(rows, size, *_marks_and_pages(rows, references))


def _marks_and_pages(rows: Rows, references: dict[str, Any]) -> tuple[dict, dict]:
    """Return what could be reached, and a page of texts of each arm."""
    marks = {name: {k: v for k, v in each.items() if k not in NOT_KEPT} for name, each in references.items()}
    texts = [row for row in rows if row["block"] == "writers" and row["seed"] == 0]
    return marks, {"teacher": references["teacher"]["texts"], **{row["arm"]: row["texts"] for row in texts}}


def join(rows: Rows, size: _modern_students.Size, references: dict[str, Any] | None = None) -> Path:
    """Write blocks into the record that is there, in the place of what it has of them; its other rows stay.

    Writers bring the references that their texts are judged beside.
    """
    there = json.loads((RESULTS / "modern.json").read_text(encoding="utf-8"))
    if there["settings"] != size._asdict():
        raise ValueError(f"the record was made with other sizes, {there['settings']}: run all blocks again.")
    new = {row["block"] for row in rows}
    kept = [{k: v for k, v in row.items() if k != "cell"} for row in there["runs"] if row["block"] not in new]
    marks, pages = _marks_and_pages(rows, references) if references else (there["references"], there["pages"])
    return _write([*kept, *rows], size, marks, pages)


def _write(rows: Rows, size: _modern_students.Size, marks: dict, pages: dict) -> Path:
    compared, names = comparisons(rows), {row["block"].split(",")[0] for row in rows}
    return write_json(
        "modern",
        {
            "command": "python -m experiments.modern",
            "about": "\n".join(f"- *{name}*: {ABOUT[name]}." for name in ABOUT if name in names),
            "settings": size._asdict(),
            "comparisons": compared,
            "claims": verdicts(rows, compared),
            "references": marks,
            "pages": pages,
            "minutes": round(sum(row.get("seconds", 0) for row in rows) / 60, 1),
            "runs": [
                {"cell": row["block"], **{key: value for key, value in row.items() if key not in NOT_KEPT}}
                for row in rows
            ],
        },
    )


def main(arguments: list[str] | None = None) -> None:
    """Run all blocks, or some, and write the record."""
    parser = argparse.ArgumentParser(prog="python -m experiments.modern", description=__doc__.splitlines()[0])
    parser.add_argument("--part", default="0/1", help="which share of the blocks this process runs, such as 1/2")
    parser.add_argument("--only", nargs="*", default=None, help="blocks to run")
    parser.add_argument("--teacher-folder", default=None, help="where the writing teacher is, if not in the package")
    parser.add_argument("--record", action="store_true", help="write the record of these blocks, run first")
    parser.add_argument("--join", action="store_true", help="write them into the record beside the blocks it has")
    parser.add_argument("--tiny", action="store_true", help="a minute's run, to see that all works; writes no record")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    size = _modern_students.TINY if options.tiny else _modern_students.Size()
    RUNS.mkdir(exist_ok=True)
    chosen = blocks(size, options.teacher_folder)
    part, parts = (int(number) for number in options.part.split("/"))
    if not 0 <= part < parts or set(options.only or ()) - set(chosen):
        parser.error(f"--part is I/N with I below N, and the blocks are {', '.join(chosen)}")
    names = [name for name in (options.only or chosen)][part::parts]
    rows = [row for name in names for row in chosen[name]()]
    for found in verdicts(rows, comparisons(rows)):
        print(f"{found['verdict']}: {found['claim']}", flush=True)
    if options.join and not options.tiny:
        written = any(row["block"] == "writers" for row in rows)
        marks = _modern_writers.references(size, options.teacher_folder, RUNS) if written else None
        print(join(rows, size, marks))
        return
    whole = parts == 1 and options.only is None
    if (whole or options.record) and not options.tiny:
        print(record(rows, size, _modern_writers.references(size, options.teacher_folder, RUNS)))


if __name__ == "__main__":
    main()
