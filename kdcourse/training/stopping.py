"""The best weights of a run, and when to stop looking for better ones. Chapter 13."""

import copy
import math
from typing import Any

from torch import nn


class KeepBest:
    """Remember the weights of the best evaluation; a run ends with them, and may end early.

    Parameters
    ----------
    name : str
        Which number of ``evaluate`` counts. Measure it on images held out from training, not on the test set: the
        best of many epochs is better on what chose it than on anything else.
    highest : bool
        Whether larger is better. For errors or a loss it is False.
    patience : int, optional
        Epochs without a better evaluation after which training stops. By default it never stops early.

    Attributes
    ----------
    value, epoch
        The best evaluation so far and its epoch, counted from 1.
    stopped : bool
        Whether patience ran out.

    Raises
    ------
    ValueError
        If patience is not a positive integer; in ``fit``, if there is no ``evaluate``, or it gives no such number.

    Examples
    --------
    >>> best, student = KeepBest("errors", highest=False, patience=2), nn.Linear(2, 2)
    >>> for epoch, errors in enumerate([9, 4, 5, 6], start=1):
    ...     best.see(epoch, {"errors": errors}, student)
    >>> best.epoch, best.value, best.stopped
    (2, 4, True)
    """

    def __init__(self, name: str, *, highest: bool = True, patience: int | None = None) -> None:
        if patience is not None and (not isinstance(patience, int) or patience < 1):
            raise ValueError(f"patience must be a positive integer or None, got {patience!r}. It counts epochs.")
        self.name, self.highest, self.patience = name, highest, patience
        self._forget()

    def begin(self, evaluate: Any) -> None:
        """Forget what was seen in an earlier run; raise if this one will not be evaluated."""
        if evaluate is None:
            raise ValueError(
                f"keep_best needs evaluate, which measures {self.name!r} after each epoch: evaluate=lambda model: "
                f"{{{self.name!r}: accuracy(model, *held_out)}}."
            )
        self._forget()

    def _forget(self) -> None:
        self.value: float = -math.inf if self.highest else math.inf
        self.epoch, self.stopped = 0, False
        self.weights: dict[str, Any] = {}

    def see(self, epoch: int, evaluation: dict[str, float], student: nn.Module) -> None:
        """Compare an evaluation with the best one, and copy the student's weights if it is better."""
        if self.name not in evaluation:
            raise ValueError(f"keep_best looks for {self.name!r}, but evaluate returned {list(evaluation)}.")
        value = evaluation[self.name]
        if (value > self.value) if self.highest else (value < self.value):
            self.value, self.epoch, self.weights = value, epoch, copy.deepcopy(student.state_dict())
        self.stopped = self.patience is not None and epoch - self.epoch >= self.patience

    def restore(self, student: nn.Module) -> None:
        """Give the student the best weights, if any evaluation was seen."""
        if self.weights:
            student.load_state_dict(self.weights)

    def state_dict(self) -> dict[str, Any]:
        """Return what is needed to continue."""
        return {"value": self.value, "epoch": self.epoch, "stopped": self.stopped, "weights": self.weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from it."""
        self.value, self.epoch, self.stopped = state["value"], state["epoch"], state["stopped"]
        self.weights = state["weights"]
