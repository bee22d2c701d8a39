"""Measure what stands behind the folded answers of *Think, then try*.

``python -m experiments.think 02`` runs the code of chapter 02 that its answers need, at the notebook's size, then the
questions in ``experiments/think/ch02.py``; ``--question 3`` measures one again and keeps the others. Sweeps are stored
below ``runs/think``: a stopped run continues. The record is ``experiments/results/think02.json``.
"""

import argparse
import builtins
import json
import time
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import jupytext
import matplotlib

from experiments._record import RESULTS, write_json
from kdcourse.training import choose_threads
from tools.chapter_slices import definers, names_of, slice_for

SOURCES = Path(__file__).resolve().parents[2] / "notebooks" / "source"


def chapter_names(path: Path, needs: tuple[str, ...]) -> SimpleNamespace:
    """Run the cells of a chapter that give these names their values, and return all names that stand then.

    Raises
    ------
    ValueError
        If no cell gives a name its value.
    """
    sources = [cell.source for cell in jupytext.read(path).cells if cell.cell_type == "code"]
    cells = [names_of(source) for source in sources]
    wanted = {name: definers(name, cells) for name in needs}
    if unknown := [name for name, where in wanted.items() if not where]:
        raise ValueError(f"no cell of {path.name} defines {', '.join(unknown)}.")
    namespace: dict = {"__name__": "__main__", "display": print, "__builtins__": builtins}
    for number in slice_for({number for where in wanted.values() for number in where}, sources):
        exec(compile(sources[number], f"{path.name}, code cell {number + 1}", "exec"), namespace)
    return SimpleNamespace(**{name: value for name, value in namespace.items() if not name.startswith("__")})


def run(number: str, questions: list[int] | None = None) -> Path:
    """Measure the answers of a chapter, or some of them, and write its record."""
    module = import_module(f"experiments.think.ch{number}")
    (path,) = SOURCES.glob(f"{number}_*.py")
    old = RESULTS / f"think{number}.json"
    answers = json.loads(old.read_text(encoding="utf-8"))["answers"] if questions and old.exists() else {}
    chapter = chapter_names(path, module.NEEDS)
    for question in questions or sorted(module.ANSWERS):
        start = time.perf_counter()
        answer = module.ANSWERS[question](chapter)
        answers[str(question)] = {
            "text": answer.text,
            "minutes": round((time.perf_counter() - start) / 60, 1),
            "runs": json.loads(answer.runs.to_json(orient="records")),
            "other": dict(answer.other),
        }
        print(f"-- chapter {number}, question {question}: {answers[str(question)]['minutes']} minutes\n{answer.text}")
    record = {"command": f"python -m experiments.think {number}", "answers": dict(sorted(answers.items()))}
    return write_json(f"think{number}", record)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m experiments.think")
    parser.add_argument("chapters", nargs="*", help="such as 02; all that have answers by default")
    parser.add_argument("--question", type=int, action="append", help="measure this one only, and keep the others")
    options = parser.parse_args()
    matplotlib.use("Agg")
    choose_threads()
    every = sorted(path.stem.removeprefix("ch") for path in Path(__file__).parent.glob("ch*.py"))
    for chosen in options.chapters or every:
        print(f"recorded in {run(chosen, options.question)}", flush=True)
