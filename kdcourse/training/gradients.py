"""How hard a term of the loss pushes on a model. Chapter 03."""

from collections.abc import Iterable

import torch
from torch import Tensor


def gradient_length(loss: Tensor, parameters: Iterable[Tensor]) -> Tensor:
    r"""Return the length of a loss's gradient in all parameters together.

    .. math:: \Big\| \frac{\partial L}{\partial \theta} \Big\|_2

    Two terms of a loss are compared by what the student feels of them, and that is their gradient, not their value.

    Parameters
    ----------
    loss : Tensor, shape ()
    parameters : iterable of Tensor
        Where the gradient is measured, such as ``student.parameters()``. One that the loss does not reach counts 0.

    Returns
    -------
    Tensor, shape ()
        The graph stays usable, and nothing is left in ``.grad``.

    Raises
    ------
    ValueError
        If the loss is not one number, has no gradient, or reaches none of the parameters.

    Examples
    --------
    >>> weights = torch.tensor([1.0, 2.0], requires_grad=True)
    >>> gradient_length((3 * weights[0] + 4 * weights[1]), [weights])
    tensor(5.)
    """
    if loss.dim() or not loss.requires_grad:
        raise ValueError(
            f"a loss is one number with a gradient, got shape {tuple(loss.shape)}, requires_grad={loss.requires_grad}."
        )
    found = torch.autograd.grad(loss, list(parameters), retain_graph=True, allow_unused=True)
    parts = [gradient.flatten() for gradient in found if gradient is not None]
    if not parts:
        raise ValueError("the loss reaches none of these parameters: is it the loss of another model?")
    return torch.cat(parts).norm()
