"""Students of one shape as one program: their weights in one tensor per layer, their steps in one pass.

Chapters 02 to 07. Letters: S seeds, A arms (one set of knobs each) per seed, B samples in a batch, K classes.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.optim import Optimizer

from ..models import evaluating
from ..training import Objective, WithProgress, train
from ..training.evaluation import AT_ONCE
from ..training.loop import check_every_part_learns, sum_terms
from .seeds import Orders, Program
from .stacked_layers import DifferencesOnly, linear

Predict = Callable[[nn.Module, Tensor], Tensor]
Loss = Callable[[dict, dict, tuple[Tensor, ...], dict], tuple[Tensor, dict]]  # weights, buffers, batch, knobs

# Each of these updates an element from the gradients of that element alone: a stack steps as each student would.
ELEMENTWISE = ("SGD", "Adam", "AdamW", "NAdam", "RAdam", "Adamax", "RMSprop", "Adagrad", "Adadelta", "ASGD", "Rprop")


class Stack:
    """S · A students as one program: ``vmap`` over the seeds and, inside, over the arms of a seed if there are several.

    The loss is the sum over the students. No term of it holds the weights of two of them, so the one backward pass
    gives each student its own gradient. The arms of a seed see the same batch: it is stored once, and where a linear
    layer meets it, the weights of all arms form one matrix.

    Parameters
    ----------
    programs : list of Program
        One per seed; all arms of a seed start from it.
    arms : int
        A.

    Examples
    --------
    >>> programs = [Program(lambda: nn.Linear(2, 3), {}, seed=seed, device=torch.device("cpu")) for seed in range(4)]
    >>> stack = Stack(programs, arms=5)
    >>> stack.weights["student.weight"].shape, len(stack.students())
    (torch.Size([4, 5, 3, 2]), 20)
    >>> next(stack.logits(torch.rand(7, 2), lambda student, images: student(images))).shape
    torch.Size([4, 5, 7, 3])
    """

    def __init__(self, programs: Sequence[Program], *, arms: int) -> None:
        self.shape = (len(programs), arms)
        self.programs = programs
        self.base = deepcopy(programs[0])
        for module in self.base.modules():
            if type(module) is nn.Linear:
                module.forward = partial(linear, module)  # type: ignore[method-assign]
        self.weights = {
            name: self._stacked(name).requires_grad_(weight.requires_grad)
            for name, weight in self.base.named_parameters()
        }
        self.buffers = {name: self._stacked(name) for name, _ in self.base.named_buffers()}

    def train(
        self,
        orders: Orders,
        objective: Objective,
        make_optimizer: Callable[[list[Tensor]], Optimizer],
        knobs: Mapping[str, Any],
        *,
        tick: Callable[[int], object],
    ) -> Tensor:
        """Train all students; returns their mean loss over the last epoch, shape (S, A).

        Parameters
        ----------
        orders : Orders
        objective : callable
            As in ``kdcourse.training.train``, with the parts and knobs as keywords.
        make_optimizer : callable
            ``make_optimizer(parameters) -> Optimizer``, called with the stacked parameters.
        knobs : mapping
            A tensor of shape (A,) differs from arm to arm and reaches the objective as a scalar tensor.
        tick : callable
            Called with the number of student steps just done.
        """
        optimizer = make_optimizer([weight for weight in self.weights.values() if weight.requires_grad])
        _check_elementwise(optimizer)
        by_arm = {name: value for name, value in knobs.items() if isinstance(value, Tensor)}
        shared = {name: value for name, value in knobs.items() if name not in by_arm}
        objective = WithProgress(objective, orders.steps)

        def loss(weights: dict, buffers: dict, batch: tuple[Tensor, ...], by_arm: dict) -> tuple[Tensor, dict]:
            state = weights | buffers
            total = sum_terms(functional_call(self.base, state, (objective, batch, shared | by_arm)))
            # A buffer that was written in place is up to date; one that was replaced, as in a queue, comes back here.
            return total, {name: state[name] for name, buffer in buffers.items() if state[name] is not buffer}

        losses_of = self._of_every_student(loss, by_arm)
        mean = torch.zeros(self.shape, device=orders.samples.device)
        torch.manual_seed(self.programs[0].seed)  # of the dropout masks
        self.base.train()
        for step, batch in enumerate(orders.together()):
            losses, replaced = losses_of(batch)  # (S, A)
            self.buffers |= {name: buffer.detach() for name, buffer in replaced.items()}
            total = losses.sum()
            if step == 0:
                check_every_part_learns(total, optimizer, self.base)
            optimizer.zero_grad()
            total.backward()
            optimizer.step()
            mean += orders.weight(step) * losses.detach()
            tick(math.prod(self.shape))
        return mean

    def _of_every_student(self, loss: Loss, by_arm: dict[str, Tensor]) -> Callable[[tuple[Tensor, ...]], Any]:
        """Return a function from a batch to all losses, (S, A), and the buffers that were replaced."""
        if self.shape[1] == 1:  # a level of vmap for a single arm would change nothing and take a fifth of the time
            over_seeds = vmap(loss, in_dims=(0, 0, 0, None), randomness="different")
            of_the_arm = {name: value[0] for name, value in by_arm.items()}

            def without_arms(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
                return {name: tensor.squeeze(1) for name, tensor in tensors.items()}  # (S, 1, ...) -> (S, ...)

            def step(batch: tuple[Tensor, ...]) -> tuple[Tensor, dict]:
                losses, replaced = over_seeds(without_arms(self.weights), without_arms(self.buffers), batch, of_the_arm)
                return losses[:, None], {name: buffer[:, None] for name, buffer in replaced.items()}

            return step

        over_arms = vmap(loss, in_dims=(0, 0, None, 0), randomness="same")  # one dropout mask for the arms of a seed
        over_both = vmap(over_arms, in_dims=(0, 0, 0, None), randomness="different")

        def step_of_arms(batch: tuple[Tensor, ...]) -> tuple[Tensor, dict]:
            with DifferencesOnly():
                return over_both(self.weights, self.buffers, batch, by_arm)

        return step_of_arms

    def logits(self, images: Tensor, predict: Predict, *, rows: int = 20_000) -> Iterator[Tensor]:
        """Yield logits (S, A, B, K), part by part of the images, in evaluation mode."""

        def one(weights: dict, buffers: dict, part: Tensor) -> Tensor:
            return functional_call(self.base, (weights, buffers), (_ignoring_parts(predict), (part,), {}))

        every = vmap(vmap(one, in_dims=(0, 0, None)), in_dims=(0, 0, None))
        with evaluating(self.base):
            for part in images.split(max(1, rows // math.prod(self.shape))):
                yield every(self.weights, self.buffers, part)

    def students(self) -> list[nn.Module]:
        """Return the trained students as ordinary modules, in evaluation mode, all arms of the first seed first."""
        return [self._student(seed, arm) for seed in range(self.shape[0]) for arm in range(self.shape[1])]

    def _student(self, seed: int, arm: int) -> nn.Module:
        program = deepcopy(self.programs[seed])
        with torch.no_grad():
            for name, own in [*program.named_parameters(), *program.named_buffers()]:
                own.copy_((self.weights | self.buffers)[name][seed, arm])
        return program.student.eval()

    def _stacked(self, name: str) -> Tensor:
        each = [dict([*p.named_parameters(), *p.named_buffers()])[name].detach() for p in self.programs]
        stacked = torch.stack(each)[:, None]  # (S, 1, ...)
        return stacked.repeat(1, self.shape[1], *[1] * (stacked.dim() - 2))  # (S, A, ...)


class Loop:
    """The same students, one after the other through ``kdcourse.training.train``; used like ``Stack``.

    Examples
    --------
    >>> loop = Loop([Program(lambda: nn.Linear(2, 3), {}, seed=0, device=torch.device("cpu"))], arms=2)
    >>> next(loop.logits(torch.rand(7, 2), lambda student, images: student(images))).shape
    torch.Size([1, 2, 7, 3])
    """

    def __init__(self, programs: Sequence[Program], *, arms: int) -> None:
        self.shape = (len(programs), arms)
        self.each = [[deepcopy(program) for _ in range(arms)] for program in programs]

    def train(
        self,
        orders: Orders,
        objective: Objective,
        make_optimizer: Callable[[list[Tensor]], Optimizer],
        knobs: Mapping[str, Any],
        *,
        tick: Callable[[int], object],
    ) -> Tensor:
        """Train the students in turn; returns their mean loss over the last epoch, shape (S, A)."""
        mean = torch.zeros(self.shape, device=orders.samples.device)
        for row, programs in enumerate(self.each):
            for arm, program in enumerate(programs):
                torch.manual_seed(program.seed)
                torch.set_rng_state(program.random_state)  # dropout goes on where drawing the weights had ended
                own = {name: float(knob[arm]) if isinstance(knob, Tensor) else knob for name, knob in knobs.items()}
                optimizer = make_optimizer([weight for weight in program.parameters() if weight.requires_grad])
                bound = WithProgress(partial(objective, **dict(program.parts.items()), **own), orders.steps)
                for step in train(program.student, orders.alone(row), bound, optimizer):
                    mean[row, arm] += orders.weight(step.index) * step.loss
                    tick(1)
        return mean

    def logits(self, images: Tensor, predict: Predict) -> Iterator[Tensor]:
        """Yield logits (S, A, B, K), part by part of the images, in evaluation mode."""
        students = self.students()
        with evaluating(*students):
            for part in images.split(AT_ONCE):
                yield torch.stack([predict(student, part) for student in students]).unflatten(0, self.shape)

    def students(self) -> list[nn.Module]:
        """Return the trained students, in evaluation mode, all arms of the first seed first."""
        return [program.student.eval() for programs in self.each for program in programs]


def stacks_well(program: Program, device: torch.device) -> bool:
    """Return whether stacking is the faster way: on a GPU always, on the CPU for models without convolutions.

    Stacked convolutions become grouped ones, which CPU kernels run no faster than the same convolutions in turn
    (``benchmarks/sweeps.py``); in turn, the numbers are those of an ordinary run in every bit.

    Examples
    --------
    >>> from kdcourse.models import make_cnn, make_mlp
    >>> cpu = torch.device("cpu")
    >>> [stacks_well(Program(partial(make, 4), {}, seed=0, device=cpu), cpu) for make in (make_mlp, make_cnn)]
    [True, False]
    """
    convolutions = any(isinstance(module, nn.modules.conv._ConvNd) for module in program.modules())
    return device.type != "cpu" or not convolutions


def _check_elementwise(optimizer: Optimizer) -> None:
    name = type(optimizer).__name__
    if type(optimizer).__module__.startswith("torch.optim") and name in ELEMENTWISE:
        return
    raise ValueError(
        f"{name} may mix the students of a stack: only an optimizer that updates each element from that element's own "
        f"gradients gives every student the step it would take alone ({', '.join(ELEMENTWISE)}). Pass stacked=False."
    )


def _ignoring_parts(predict: Predict) -> Callable[..., Tensor]:
    return lambda student, images, **parts: predict(student, images)
