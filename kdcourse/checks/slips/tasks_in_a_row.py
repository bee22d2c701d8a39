# mypy: disable-error-code="no-untyped-def"
"""Wrong ways to learn tasks in a row, of exercise 12, task 3."""

import torch
import torch.nn.functional as F

from ...losses import kd_loss, only_own_head
from . import Slip


def tasks_in_a_row(
    network, tasks, heads, *, steps, lr, weight, frozen=True, own=True, old_only=True, teacher="before each task",
    temperature=2.0, clear=True, swapped=False, most=None, optimizer="one", mean=False,
):  # fmt: skip
    """Learn tasks in a row; the arguments after ``weight`` change it in one place, and their defaults are right."""
    make = lambda: torch.optim.SGD(network.parameters(), lr=lr)  # noqa: E731
    losses: list = []
    seen: list = []
    optimize = make()
    for number, (images, labels) in enumerate(tasks[:most]):
        if teacher == "before the first task" and not seen:
            with torch.no_grad():
                seen = [network(others) for others, _ in tasks]
        with torch.no_grad():
            old_logits = network(images) if teacher == "before each task" else seen[number]
        for _ in range(steps):
            logits = network(images)
            loss = F.cross_entropy(only_own_head(logits, labels, heads=heads) if own else logits, labels)
            told = heads[:number] if old_only else heads[: number + 1]
            target = old_logits if frozen else logits.detach()
            terms = []
            for head in told:
                pair = (target[:, head], logits[:, head]) if swapped else (logits[:, head], target[:, head])
                terms.append(kd_loss(*pair, temperature=temperature))
            loss = loss + weight * sum(terms) / (len(terms) if mean and terms else 1)
            if clear:
                optimize.zero_grad()
            loss.backward()
            optimize.step()
            losses.append(loss.item())
    return losses


def _with(**change):
    return lambda network, tasks, heads, **knobs: tasks_in_a_row(network, tasks, heads, **{**knobs, **change})


SAME = (
    "The old answers have no effect. Are they computed by the network that learns, at every step? Then it is compared "
    "with itself, and that term is always 0. Compute them once, before a task begins."
)
ALL_CLASSES = (
    "The labels' term lets all classes compete, those of other tasks too. Told the task, a label is compared with the "
    "classes of its own head only."
)
OWN_HEAD = (
    "The new task's own head is held to its old answers as well. The network had not learned it yet: only the heads of "
    "earlier tasks count."
)


def _without_memory(network, tasks, heads, *, weight, **knobs):
    return tasks_in_a_row(network, tasks, heads, weight=0.0, **knobs)


# Compared with itself, a network loses nothing on any head: then the third mistake cannot be seen.
TASKS_IN_A_ROW = {
    "same network": Slip(SAME, _with(frozen=False), _with(frozen=False, old_only=False), _without_memory),
    "all classes": Slip(ALL_CLASSES, _with(own=False)),
    "own head": Slip(OWN_HEAD, _with(old_only=False)),
    "same network, all classes": Slip(
        f"Two mistakes are left, or three. {SAME} {ALL_CLASSES}", _with(frozen=False, own=False)
    ),
    "all classes, own head": Slip(f"{ALL_CLASSES} {OWN_HEAD}", _with(own=False, old_only=False)),
}
TASKS_IN_A_ROW |= {
    "first network": Slip(
        "The untrained network's answers stay the teacher for all tasks. Ask the network before each task.",
        _with(teacher="before the first task"),
    ),
    "no clearing": Slip("Gradients are never cleared, so each step repeats all the earlier ones.", _with(clear=False)),
    "weight": Slip(
        "The weight is not used: the old answers count once.",
        lambda network, tasks, heads, *, weight, **knobs: tasks_in_a_row(network, tasks, heads, weight=1.0, **knobs),
    ),
    "temperature": Slip(
        "The temperature is another one. It is 2, and kd_loss has the factor T².",
        _with(temperature=1.0),
        _with(temperature=4.0),
    ),
    "swapped": Slip("The roles are swapped: kd_loss takes the learning network's logits first.", _with(swapped=True)),
    "one task": Slip(
        "Only the first task is learned: does a return stand inside the loop?",
        _with(most=1),
    ),
    "mean": Slip("The old heads are averaged. Add them up, as the chapter's sum does.", _with(mean=True)),
}
