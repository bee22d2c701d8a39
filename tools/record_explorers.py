"""Record the numbers that the site's explorers move through, with the package's own functions.

``python tools/record_explorers.py``                  all of them, into ``site/recorded/NAME.json``
``python tools/record_explorers.py temperature exits``  some of them

The numbers are those of the chapters' pictures: the same networks, images and losses. ``exits`` and ``heads`` train a
network of chapters 06 and 09 first, which takes a minute each; the others take seconds. ``tests/site`` holds that a new
record says the same.
"""

import argparse
import base64
import builtins
import contextlib
import io
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jupytext
import torch
from chapter_slices import slice_for
from notebook_parts import ROOT
from PIL import Image
from torch import Tensor

from kdcourse import zoo
from kdcourse._files import write_atomically
from kdcourse.data import load_mnist
from kdcourse.losses import kd_loss, soften
from kdcourse.records import read_record
from kdcourse.training import predict_logits
from kdcourse.training.schedules import constant, linear, step
from kdcourse.widgets.explorers.boxes import find_pairs
from kdcourse.widgets.explorers.exits import count_exit_multiply_adds
from kdcourse.widgets.explorers.modes import BUMP, PLACES, best_student, gradient_sizes, teacher_logits
from kdcourse.widgets.explorers.relations import LOSSES, REACH, RelationExplorer

RECORDED = ROOT / "site" / "recorded"
EACH = 3  # examples of each digit
SCENES = 10
LOWEST = 10  # per cent: score of the boxes that are recorded
TEMPERATURES = [round(0.5 * 2 ** (index / 4), 2) for index in range(25)]  # 0.5 to 32


def pixels(image: Tensor) -> str:
    """Return values in [0, 1], such as an image (1, 28, 28), as bytes in base64."""
    return base64.b64encode((image * 255).round().byte().numpy().tobytes()).decode("ascii")


def rounded(values: Tensor, digits: int = 4) -> list:
    """Return a tensor as nested lists of numbers with few decimal places."""
    return json.loads(json.dumps(values.tolist()), parse_float=lambda text: round(float(text), digits))


def temperature() -> dict[str, Any]:
    """Chapter 01: a teacher's logits of held-out images of each digit, those of which it is least sure first."""
    split = load_mnist().held_out
    logits = predict_logits(zoo.load("teacher_mlp"), split.images)
    target = soften(logits, temperature=4.0)
    order = (-torch.xlogy(target, target).sum(dim=1)).argsort(descending=True)
    samples = []
    for digit in range(10):
        of_digit = order[split.labels[order] == digit][:EACH]
        samples += [
            {"label": digit, "image": pixels(split.images[index]), "logits": rounded(logits[index])}
            for index in of_digit.tolist()
        ]
    return {"each": EACH, "samples": samples}


def gradient() -> dict[str, Any]:
    """Chapter 02: the mean length of a digit's gradient, with and without T²; and the least sure digit's logits."""
    chapter = run_chapter("02", lambda source: "student_logits = predict_logits" in source)
    student, teacher = chapter["student_logits"], chapter["teacher_logits"]
    least_sure = int(soften(teacher, temperature=1).amax(dim=1).argmin())

    def length(temperature: float) -> float:
        logits = student.clone().requires_grad_()
        kd_loss(logits, teacher, temperature=temperature).backward()
        return float((logits.grad * len(logits)).norm(dim=1).mean())

    with_t2 = torch.tensor([length(value) for value in TEMPERATURES], dtype=torch.float64)
    without = with_t2 / torch.tensor(TEMPERATURES, dtype=torch.float64) ** 2
    one, last = TEMPERATURES.index(1.0), TEMPERATURES.index(32.0)
    return {
        "temperatures": TEMPERATURES,
        "start": TEMPERATURES.index(8.0),
        "with_t2": rounded(with_t2, 6),
        "without": rounded(without, 8),
        "shrinks": [float(without[one] / without[last]), float(with_t2[one] / with_t2[last])],
        "teacher": rounded(teacher[least_sure]),
        "student": rounded(student[least_sure]),
    }


def relations() -> dict[str, Any]:
    """Chapter 04: fifteen digits of the teacher in the plane, and what each loss says of an unrelated student."""
    chapter = run_chapter("04", lambda source: source.startswith("still = RelationExplorer"))
    explorer = RelationExplorer(chapter["few_t"], chapter["few_labels"])
    explorer.reset.click()
    unrelated = []
    for name in LOSSES:
        explorer.batch.value = "only the student in another order"
        unrelated.append(explorer.losses[name] / explorer.shares[name])
    return {
        "points": rounded(explorer.teacher, 5),
        "labels": [str(label) for label in chapter["few_labels"].tolist()],
        "reach": REACH,
        "unrelated": unrelated,
    }


def exits() -> dict[str, Any]:
    """Chapter 06: for each confidence, who leaves where, what it costs, and how many answers are right."""
    network, split = exit_network(), load_mnist().test
    with torch.no_grad():
        probabilities = torch.cat(
            [torch.stack(network(part)).softmax(dim=-1) for part in split.images.split(2000)], dim=1
        )
    certainty, answers = probabilities.max(dim=-1)  # (E, N)
    right = answers == split.labels
    leaving, alone = count_exit_multiply_adds(network, split.images)
    costs = torch.tensor(leaving) / alone
    shares, accuracy, compute, digits = [], [], [], [[] for _ in range(10)]
    for index in range(101):
        sure = certainty >= index / 100
        sure[-1] = True
        taken = sure.int().argmax(dim=0)  # (N,)
        shares.append(share_of(taken, len(costs)))
        accuracy.append(float(right.gather(0, taken[None]).float().mean()))
        compute.append(float(costs[taken].mean()))
        for digit, rows in enumerate(digits):
            rows.append(share_of(taken[split.labels == digit], len(costs)))
    single = right.float().mean(dim=1)
    lowest = 5 * int(20 * float(single[0]) - 0.2)  # percent, below the first exit's
    return {
        "shares": shares,
        "accuracy": [round(value, 4) for value in accuracy],
        "compute": [round(value, 4) for value in compute],
        "digits": digits,
        "single": [[round(float(cost), 4), round(float(value), 4)] for cost, value in zip(costs, single, strict=True)],
        "lowest": lowest,
        "ticks": list(range(lowest, 101, 2 if lowest > 88 else 5)),
    }


def share_of(taken: Tensor, count: int) -> list[float]:
    """Return the shares of the images that leave at each exit."""
    return rounded(torch.bincount(taken, minlength=count) / len(taken))


def exit_network() -> torch.nn.Module:
    """Return the network that chapter 06 shows, trained as there; its other arms are left out."""

    def only_one(namespace: dict[str, Any], source: str) -> None:
        if source.startswith("own_arms") or "methods = own_arms" in source:
            namespace["methods"] = {name: namespace["own_arms"][name] for name in ["labels at every exit"]}
            namespace["seeds"] = 1

    chapter = run_chapter("06", lambda source: "objective=methods" in source, only_one)
    runs = chapter["runs"]
    return runs.model[runs.index[runs.arm == "labels at every exit"][0]].eval()


def schedules() -> dict[str, Any]:
    """Chapter 07: the schedules of its experiment at full size, and what each was worth."""
    still, share = 20.0, 0.5  # as the record says
    pairs = {
        "stands still": (constant(still), constant(share)),
        "T falls to 1": (linear(still, 1.0), constant(share)),
        "T rises from 1": (linear(1.0, still), constant(share)),
        "α falls to 0": (constant(still), linear(1.0, 0.0)),
        "α rises from 0": (constant(still), linear(0.0, 1.0)),
        "the stages": (step([10, 8.2, 6.4, 4.6, 2.8]), step([0.5, 0.6, 0.7, 0.8, 0.9])),
    }
    record = read_record("chapter07")
    if f"still at T = {still:.0f}, α = {share}" not in record["about"]:
        raise ValueError(f"chapter 07's record has other constants than T = {still}, α = {share}: {record['about']}")
    rows = record["comparisons"]["schedules"]
    return {
        "schedules": {
            name: [[round(knob(index / 40), 4) for index in range(41)] for knob in knobs]
            for name, knobs in pairs.items()
        },
        "errors": {"stands still": rows[0]["baseline_mean"], **{row["arm"]: row["mean"] for row in rows}},
        "differences": {
            row["arm"]: {key: row[key] for key in ("difference", "low", "high", "verdict")} for row in rows
        },
        "seeds": rows[0]["n"],
    }


def digit() -> dict[str, Any]:
    """Test images to choose where nobody draws: the first of each digit."""
    split = load_mnist().test
    first = [int((split.labels == number).nonzero()[1]) for number in (4, 9, 3, 5, 7, 2, 8, 0, 6, 1)]
    return {"samples": [{"label": int(split.labels[index]), "image": pixels(split.images[index])} for index in first]}


def boxes() -> dict[str, Any]:
    """Chapter 08: what a teacher and two students find in ten test scenes, and in all scenes for every score."""
    chapter = run_chapter("08", lambda source: source.startswith("explorer = BoxesExplorer"))
    scenes, found = chapter["test"], chapter["explorer"].found
    scores = torch.arange(LOWEST, 96) / 100
    shown: list[list[list]] = []
    curves: dict[str, list[list[int]]] = {"found": [], "wrong": []}
    for results in found.values():
        results = [{key: value[boxes["scores"] >= scores[0]] for key, value in boxes.items()} for boxes in results]
        hits = [find_pairs(boxes, target) for boxes, target in zip(results, scenes.targets, strict=True)]
        shown.append([box_rows(boxes, pairs) for boxes, pairs in zip(results[:SCENES], hits[:SCENES], strict=True)])
        right = torch.tensor([pair for pairs in hits for pair in pairs]) >= 0
        counted = torch.cat([boxes["scores"] for boxes in results]) >= scores[:, None]  # (scores, boxes)
        curves["found"].append((counted & right).sum(dim=1).tolist())
        curves["wrong"].append((counted & ~right).sum(dim=1).tolist())
    return {
        "detectors": list(found),
        "lowest": LOWEST,
        "count": len(scenes.targets),
        "digits": sum(len(target["labels"]) for target in scenes.targets),
        **curves,
        "scenes": [
            {
                "image": as_png(scenes.images[place, 0]),
                "truth": box_rows(scenes.targets[place]),
                "found": [results[place] for results in shown],
            }
            for place in range(SCENES)
        ],
    }


def box_rows(boxes: dict[str, Tensor], pairs: list[int] | None = None) -> list[list[float]]:
    """Return corners and label of each box; of found ones also the score, and whether it finds a digit."""
    rows = [[*box, label] for box, label in zip(rounded(boxes["boxes"], 1), boxes["labels"].tolist(), strict=True)]
    if pairs is None:
        return rows
    scores = [math.floor(1e4 * score) / 1e4 for score in boxes["scores"].tolist()]  # none rises to the next score
    return [[*row, score, int(pair >= 0)] for row, score, pair in zip(rows, scores, pairs, strict=True)]


def as_png(image: Tensor) -> str:
    """Return an image (H, W) with values in [0, 1], ink on paper, as the address of a picture."""
    content = io.BytesIO()
    Image.fromarray((255 - image * 255).round().byte().numpy()).save(content, format="png", optimize=True)
    return "data:image/png;base64," + base64.b64encode(content.getvalue()).decode("ascii")


def modes() -> dict[str, Any]:
    """Chapter 11: for each gap between a teacher's two bumps and each β the student's best bump."""
    gaps, every = [round(0.5 * step, 1) for step in range(13)], 2
    betas, sizes = (values[::every] for values in gradient_sizes())
    return {
        "gaps": gaps,
        "betas": betas,
        "reach": float(PLACES[-1]),
        "count": len(PLACES),
        "width": BUMP,
        "sizes": [round(size, 5) for size in sizes],
        "best": [
            [[round(value, 4) for value in best_student(teacher_logits(gap), beta)] for beta in betas] for gap in gaps
        ],
    }


def heads() -> dict[str, Any]:
    """Chapter 09: attention and answers of a teacher and of a student that learned from its attention."""
    import record_heads  # needs transformers

    return record_heads.heads(zoo.load("definitions_teacher"))


RECORDS: dict[str, Callable[[], dict[str, Any]]] = {
    function.__name__: function
    for function in (temperature, gradient, relations, exits, schedules, digit, boxes, modes, heads)
}


def run_chapter(
    number: str,
    wanted: Callable[[str], bool],
    after: Callable[[dict[str, Any], str], None] = lambda namespace, source: None,
) -> dict[str, Any]:
    """Execute the cells of a chapter that one cell needs, and that cell; return its names.

    Parameters
    ----------
    number : str
        Such as ``"02"``.
    wanted : callable
        Whether a cell's source is the one.
    after : callable
        Called with the names and the source after each cell; it may change names.
    """
    (path,) = (ROOT / "notebooks" / "source").glob(f"{number}_*.py")
    cells = [cell.source for cell in jupytext.read(path, fmt="py:percent").cells if cell.cell_type == "code"]
    target = next(index for index, source in enumerate(cells) if wanted(source))
    namespace: dict[str, Any] = {"__name__": "__main__", "display": print, "__builtins__": builtins}
    with contextlib.redirect_stdout(io.StringIO()):
        for index in sorted({*slice_for([target], cells), *(i for i, cell in enumerate(cells[:2]))}):
            exec(compile(cells[index], f"{path.name}, cell {index}", "exec"), namespace)
            after(namespace, cells[index])
    return namespace


def main() -> int:
    """Return 0 once the records that were asked for are written."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(RECORDS)}; all by default")
    names = parser.parse_args().names or list(RECORDS)
    if unknown := sorted(set(names) - set(RECORDS)):
        parser.error(f"there is no record {', '.join(unknown)}. There are {', '.join(RECORDS)}.")
    for name in names:
        text = json.dumps(RECORDS[name](), ensure_ascii=False, separators=(",", ":")) + "\n"
        path: Path = RECORDED / f"{name}.json"
        path.parent.mkdir(exist_ok=True)
        write_atomically(path, lambda temporary, text=text: temporary.write_text(text, encoding="utf-8"))
        print(f"{path.relative_to(ROOT)}: {len(text):,} bytes", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
