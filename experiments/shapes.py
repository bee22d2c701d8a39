"""Which losses on features need equal shapes? Asked of the losses themselves; nothing is trained."""

import torch

from experiments.registry import Condition, Contrast, Entry, Rows, Study, Unit
from kdcourse.losses import attention_transfer_loss, hint_loss

MISMATCHES = {"the same shape": (8, 14), "other channels": (16, 14), "another height and width": (8, 7)}
SEEDS = range(8)
LOSSES = {"hint loss, no projection": hint_loss, "attention transfer": attention_transfer_loss}


def shapes() -> Rows:
    """Give each loss features of the student, (8, 14, 14), and of a teacher; count what is refused."""
    rows: Rows = []
    for seed in SEEDS:
        generator = torch.Generator().manual_seed(seed)
        student = torch.rand(4, 8, 14, 14, generator=generator)
        for cell, (channels, size) in MISMATCHES.items():
            teacher = torch.rand(4, channels, size, size, generator=generator)
            for arm, loss in LOSSES.items():
                rows.append({"cell": cell, "arm": arm, "seed": seed, "refused": int(_refuses(loss, student, teacher))})
    return rows


def _refuses(loss, student, teacher) -> bool:  # type: ignore[no-untyped-def]
    try:
        loss(student, teacher)
    except ValueError:
        return True
    return False


STUDIES = [Study("shapes", "Which losses on features refuse which shapes.", lambda: [Unit(shapes)], 0.1)]

ENTRIES = [
    Entry(
        name="projections",
        claim="FitNets needs a projection where dimensions differ; attention transfer needs none.",
        source="a common piece of advice",
        study="shapes",
        run="random features, eight draws",
        seeds=8,
        smallest_effect=0.5,
        baselines="the squared error of FitNets, without a projection",
        metric="refused",
        unit="refused pairs of one",
        conditions=tuple(
            Condition(words, (Contrast(cell, "attention transfer", "hint loss, no projection"),))
            for words, cell in (
                ("channels differ", "other channels"),
                ("height and width differ", "another height and width"),
            )
        ),
    )
]
