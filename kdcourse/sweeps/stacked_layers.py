"""What ``vmap`` does not do well by itself: linear layers of many students, and losses under two levels of it.

Chapters 02 to 07. Letters: G stacked students, B samples in a batch, I inputs and O outputs of a layer.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._C import _functorch as functorch
from torch._functorch.pyfunctorch import temporarily_pop_interpreter_stack
from torch.overrides import TorchFunctionMode


def linear(module: nn.Linear, inputs: Tensor) -> Tensor:
    """Apply a linear layer whose weights may be those of many students; stands in for ``nn.Linear.forward``.

    Examples
    --------
    >>> layer, inputs = nn.Linear(2, 3), torch.rand(4, 2)
    >>> torch.equal(linear(layer, inputs), layer(inputs))
    True
    """
    tensors = (inputs, module.weight, module.bias)
    if not functorch.is_batchedtensor(module.weight) or torch.is_autocast_enabled(inputs.device.type):
        return F.linear(*tensors)
    whole = _below_the_only_level(tensors)
    if whole is None:
        return StackedLinear.apply(*tensors)
    with temporarily_pop_interpreter_stack():  # what vmap does around a Function takes longer than a small layer
        outputs = StackedLinear.apply(*whole)
    return functorch._add_batch_dim(outputs, 0, 1)


class StackedLinear(torch.autograd.Function):
    """A linear layer of G stacked students: (G, ..., I) with weights (G, O, I) gives (G, ..., O).

    What ``vmap`` makes of ``F.linear`` copies the inputs once per arm and transposes every gradient of the weights;
    this does neither.

    Examples
    --------
    >>> StackedLinear.apply(torch.rand(5, 4, 2), torch.rand(5, 3, 2), torch.rand(5, 3)).shape
    torch.Size([5, 4, 3])
    """

    @staticmethod
    def forward(inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Multiply each student's rows by its own weights."""
        stacked = weight.dim() - 2
        if stacked == 0:
            return F.linear(inputs, weight, bias)
        rows, weight_3d = _rows(inputs, stacked), weight.flatten(0, stacked - 1)  # (G, B, I), (G, O, I)
        if bias is None:
            outputs = torch.bmm(rows, weight_3d.mT)  # (G, B, O)
        else:
            outputs = torch.baddbmm(bias.flatten(0, stacked - 1)[:, None], rows, weight_3d.mT)  # (G, B, O)
        return outputs.view(*inputs.shape[:-1], weight.shape[-2])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        """Keep what the gradients need."""
        ctx.save_for_backward(inputs[0], inputs[1])
        ctx.bias = None if inputs[2] is None else inputs[2].shape

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Give each weight's gradient in the weight's own layout."""
        inputs, weight = ctx.saved_tensors
        stacked = weight.dim() - 2
        rows = _rows(gradient, stacked)  # (G, B, O)
        of_inputs = of_weight = of_bias = None
        if ctx.needs_input_grad[0]:
            of_inputs = torch.bmm(rows, weight.reshape(-1, *weight.shape[-2:])).view(inputs.shape)
        if ctx.needs_input_grad[1]:
            of_weight = torch.bmm(rows.mT, _rows(inputs, stacked)).view(weight.shape)
        if ctx.needs_input_grad[2]:
            of_bias = rows.sum(1).view(ctx.bias)
        return of_inputs, of_weight, of_bias

    @staticmethod
    def vmap(info: Any, in_dims: tuple, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, int]:
        """Add one level of students; a batch that they share is not copied."""
        count = info.batch_size
        stacked = weight.dim() - 2 - (in_dims[1] is not None)  # levels inside this one
        weight = _to_front(weight, in_dims[1], count)
        bias = None if bias is None else _to_front(bias, in_dims[2], count)
        if in_dims[0] is None and stacked == 0:  # one batch for all: their weights are the rows of one matrix
            outputs = StackedLinear.apply(inputs, weight.flatten(0, 1), None if bias is None else bias.flatten(0, 1))
            return outputs.unflatten(-1, (count, -1)), outputs.dim() - 1
        return StackedLinear.apply(_to_front(inputs, in_dims[0], count), weight, bias), 0


def _below_the_only_level(tensors: tuple[Tensor | None, ...]) -> list[Tensor | None] | None:
    """Return what one level of vmap has wrapped, or None if there is another level or a tensor that all share."""
    if functorch.peek_interpreter_stack().level() != 1:
        return None
    there = [tensor for tensor in tensors if tensor is not None]
    if not all(functorch.is_batchedtensor(tensor) and functorch.maybe_get_bdim(tensor) == 0 for tensor in there):
        return None
    return [None if tensor is None else functorch.get_unwrapped(tensor) for tensor in tensors]


def _rows(tensor: Tensor, stacked: int) -> Tensor:
    """(*G, ..., I) to (G, B, I)."""
    return tensor.reshape(math.prod(tensor.shape[:stacked]), -1, tensor.shape[-1])


def _to_front(tensor: Tensor, dim: int | None, count: int) -> Tensor:
    return tensor.expand(count, *tensor.shape) if dim is None else tensor.movedim(dim, 0)


class DifferencesOnly(TorchFunctionMode):
    """Hand losses that depend on input - target that difference, and 0.

    Under two levels of ``vmap`` these three fail where the input has both levels and the target only the outer one
    (a student of each arm against the teacher's features); subtraction has no such trouble.

    Examples
    --------
    >>> with DifferencesOnly():
    ...     F.mse_loss(torch.tensor([1.0, 3.0]), torch.tensor([0.0, 1.0]))
    tensor(2.5000)
    """

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        """Rewrite those three, and pass on all else."""
        if func in (F.mse_loss, F.smooth_l1_loss, F.huber_loss) and len(args) > 1 and args[0].shape == args[1].shape:
            difference = args[0] - args[1]
            args = (difference, torch.zeros_like(difference), *args[2:])
        return func(*args, **(kwargs or {}))
