"""Weights on a grid of a few bits: quantised after training, faked during training, packed for a file.

Chapter 12. Letters: R rows (outputs of a layer), C columns (its inputs).
"""

import copy
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MOST_BITS = 8


def quantise(weights: Tensor, *, bits: int, per_row: bool = True) -> tuple[Tensor, Tensor]:
    r"""Round weights to whole multiples of a scale.

    .. math:: n = 2^{b-1} - 1, \quad s = \max|w| \,/\, n, \quad q = \mathrm{round}(w / s)

    Parameters
    ----------
    weights : Tensor, shape (R, C)
        Weights of a linear layer: a row for each output.
    bits : int
        Bits of a code, b, from 2 to 8.
    per_row : bool
        Whether each row has a scale of its own. One scale for the whole tensor is set by its largest weight, and a row
        of small weights then falls between the first two levels.

    Returns
    -------
    codes : Tensor of int8, shape (R, C)
        Whole numbers q from -n to n.
    scale : Tensor, shape (R, 1) or (1, 1)
        What a code of 1 stands for, s. A row without any weight but 0 has scale 1.

    Raises
    ------
    ValueError
        If the weights are not a finite matrix, or bits is not from 2 to 8.

    Notes
    -----
    The grid is symmetric, so 0 stays exactly 0 and one of the :math:`2^b` codes is not used. With 2 bits the levels
    are -s, 0 and s.

    References
    ----------
    Krishnamoorthi (2018), arXiv:1806.08342 (uniform symmetric quantisation, a scale for each channel).

    Examples
    --------
    >>> codes, scale = quantise(torch.tensor([[0.7, -0.2], [0.02, 0.07]]), bits=4)
    >>> codes
    tensor([[ 7, -2],
            [ 2,  7]], dtype=torch.int8)
    >>> quantise(torch.tensor([[0.7, -0.2], [0.02, 0.07]]), bits=4, per_row=False)[0]
    tensor([[ 7, -2],
            [ 0,  1]], dtype=torch.int8)
    """
    _check_weights(weights)
    check_bits(bits)
    levels = 2 ** (bits - 1) - 1
    size = weights.detach().abs()  # (R, C)
    largest = size.amax(dim=1, keepdim=True) if per_row else size.amax().view(1, 1)  # (R, 1) or (1, 1)
    scale = torch.where(largest > 0, largest / levels, 1.0)
    codes = (weights.detach() / scale).round().clamp(-levels, levels)
    return codes.to(torch.int8), scale


def fake_quantise(weights: Tensor, *, bits: int, per_row: bool = True) -> Tensor:
    r"""Return the weights as they will be after quantisation, with a gradient that passes straight through.

    Rounding has the gradient 0 almost everywhere, so nothing could be learned through it. The straight-through
    estimator takes the gradient of the identity instead.

    Parameters
    ----------
    weights, bits, per_row
        As in :func:`quantise`.

    Returns
    -------
    Tensor, shape (R, C)
        Codes times scale; the gradient in ``weights`` is the gradient in this result.

    Raises
    ------
    ValueError
        As :func:`quantise` does.

    References
    ----------
    Bengio, Léonard, Courville (2013), arXiv:1308.3432 (the straight-through estimator). Jacob et al. (2018),
    arXiv:1712.05877 (fake quantisation in training).

    Examples
    --------
    >>> weights = torch.tensor([[0.7, -0.24]], requires_grad=True)
    >>> rounded = fake_quantise(weights, bits=4)
    >>> rounded.detach()
    tensor([[ 0.7000, -0.2000]])
    >>> (3 * rounded).sum().backward()
    >>> weights.grad
    tensor([[3., 3.]])
    """
    codes, scale = quantise(weights, bits=bits, per_row=per_row)
    # The difference is exactly 0 and has gradient 1; scale is a constant, or only the largest weight would learn.
    return codes * scale + (weights - weights.detach())


def pack_bits(codes: Tensor, *, bits: int) -> Tensor:
    """Write codes one after the other into bytes, without a gap.

    Parameters
    ----------
    codes : Tensor of int8
        Codes of :func:`quantise`, N in all.
    bits : int
        Bits of a code, from 2 to 8.

    Returns
    -------
    Tensor of uint8, shape (ceil(N · bits / 8),)
        The last byte is filled up with 0.

    Raises
    ------
    ValueError
        If a code does not fit, or bits is not from 2 to 8.

    Examples
    --------
    >>> pack_bits(torch.tensor([1, -1, 0, 1], dtype=torch.int8), bits=2)  # 2, 0, 1, 2 after adding 1
    tensor([146], dtype=torch.uint8)
    """
    check_bits(bits)
    levels = 2 ** (bits - 1) - 1
    if codes.is_floating_point() or (codes.numel() and int(codes.abs().max()) > levels):
        raise ValueError(f"{bits} bits hold whole numbers from {-levels} to {levels}; quantise the weights first.")
    numbers = (codes.flatten().to(torch.int64) + levels)[:, None]  # (N, 1), from 0 to 2 n
    digits = (numbers >> torch.arange(bits, device=codes.device)) & 1  # (N, bits), lowest first
    padded = F.pad(digits.flatten(), (0, -digits.numel() % 8)).view(-1, 8)  # (bytes, 8)
    return (padded << torch.arange(8, device=codes.device)).sum(dim=1).to(torch.uint8)  # (bytes,)


def unpack_bits(packed: Tensor, *, bits: int, count: int) -> Tensor:
    """Read codes back from bytes.

    Parameters
    ----------
    packed : Tensor of uint8
        What :func:`pack_bits` wrote.
    bits : int
        Bits of a code.
    count : int
        How many codes there are, N.

    Returns
    -------
    Tensor of int8, shape (N,)

    Raises
    ------
    ValueError
        If there are not as many bytes as that many codes take.

    Examples
    --------
    >>> codes = torch.tensor([3, -3, 0, 2, -1], dtype=torch.int8)
    >>> unpack_bits(pack_bits(codes, bits=3), bits=3, count=5)
    tensor([ 3, -3,  0,  2, -1], dtype=torch.int8)
    """
    check_bits(bits)
    if packed.numel() != -(-count * bits // 8):
        raise ValueError(f"{count} codes of {bits} bits take {-(-count * bits // 8)} bytes, got {packed.numel()}.")
    digits = (packed.to(torch.int64)[:, None] >> torch.arange(8, device=packed.device)) & 1  # (bytes, 8)
    numbers = digits.flatten()[: count * bits].view(count, bits) << torch.arange(bits, device=packed.device)
    return (numbers.sum(dim=1) - (2 ** (bits - 1) - 1)).to(torch.int8)  # (N,)


class QuantisedLinear(nn.Module):
    """A linear layer that holds packed codes and scales, and no second copy of its weights.

    Parameters
    ----------
    layer : nn.Linear
        Layer to quantise; not changed.
    bits, per_row
        As in :func:`quantise`.

    Attributes
    ----------
    packed, scale, bias : Tensor
        Buffers, so that a file holds them and an optimizer does not.

    Raises
    ------
    ValueError
        As :func:`quantise` does.

    Examples
    --------
    >>> layer = QuantisedLinear(nn.Linear(100, 10), bits=4)
    >>> layer.packed.shape, layer(torch.rand(3, 100)).shape
    (torch.Size([500]), torch.Size([3, 10]))
    """

    packed: Tensor
    scale: Tensor
    bias: Tensor | None

    def __init__(self, layer: nn.Linear, *, bits: int, per_row: bool = True) -> None:
        super().__init__()
        codes, scale = quantise(layer.weight, bits=bits, per_row=per_row)
        self.bits, self.shape = bits, tuple(layer.weight.shape)
        self.register_buffer("packed", pack_bits(codes, bits=bits))
        self.register_buffer("scale", scale)
        self.register_buffer("bias", None if layer.bias is None else layer.bias.detach().clone())

    @property
    def parameter_count(self) -> int:
        """Weights and biases that the layer stands for."""
        return self.shape[0] * self.shape[1] + (0 if self.bias is None else self.bias.numel())

    def dequantise(self) -> Tensor:
        """Return the weights as floating-point numbers, shape (R, C)."""
        codes = unpack_bits(self.packed, bits=self.bits, count=self.shape[0] * self.shape[1])
        return codes.view(self.shape) * self.scale

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (..., C) to (..., R); only the weights are quantised, the arithmetic is floating-point."""
        return F.linear(inputs, self.dequantise(), self.bias)

    def extra_repr(self) -> str:
        """Return what ``print`` shows."""
        return f"{self.shape[1]}, {self.shape[0]}, bits={self.bits}, scales={self.scale.numel()}"


class FakeQuantisedLinear(nn.Linear):
    """A linear layer that computes with quantised weights and learns floating-point ones.

    Parameters
    ----------
    layer : nn.Linear
        Layer whose weights it starts from; not changed.
    bits, per_row
        As in :func:`quantise`.

    Raises
    ------
    ValueError
        If bits is not from 2 to 8.

    Examples
    --------
    >>> layer = FakeQuantisedLinear(nn.Linear(100, 10), bits=2)
    >>> packed = QuantisedLinear(layer, bits=2)
    >>> inputs = torch.rand(3, 100)
    >>> torch.equal(layer(inputs), packed(inputs))
    True
    """

    def __init__(self, layer: nn.Linear, *, bits: int, per_row: bool = True) -> None:
        check_bits(bits)
        super().__init__(layer.in_features, layer.out_features, layer.bias is not None, layer.weight.device)
        self.bits, self.per_row = bits, per_row
        self.load_state_dict(layer.state_dict())

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (..., C) to (..., R) with the weights that a file of these bits would hold."""
        return F.linear(inputs, fake_quantise(self.weight, bits=self.bits, per_row=self.per_row), self.bias)


def fake_quantise_model(model: nn.Module, *, bits: int, per_row: bool = True) -> nn.Module:
    """Return a copy whose linear layers compute with quantised weights, for quantisation-aware training.

    Parameters
    ----------
    model : nn.Module
        Not changed.
    bits, per_row
        As in :func:`quantise`.

    Returns
    -------
    nn.Module
        It learns as any other model does, and is as large as before: see :func:`quantise_model`.

    Raises
    ------
    ValueError
        If the model has no linear layer, or bits is not from 2 to 8.

    Examples
    --------
    >>> student = fake_quantise_model(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)), bits=2)
    >>> student[0].weight.requires_grad, len(student[0](torch.rand(5, 4)))
    (True, 5)
    """
    return _replaced(model, lambda layer: FakeQuantisedLinear(layer, bits=bits, per_row=per_row))


def quantise_model(model: nn.Module, *, bits: int, per_row: bool = True) -> nn.Module:
    """Return a copy whose linear layers hold packed codes: post-training quantisation, or the end of training with it.

    Parameters
    ----------
    model : nn.Module
        Not changed.
    bits, per_row
        As in :func:`quantise`. A model of :func:`fake_quantise_model` was trained for its own and is refused otherwise.

    Returns
    -------
    nn.Module
        Every other layer, and every bias, keeps its numbers.

    Raises
    ------
    ValueError
        If the model has no linear layer, bits is not from 2 to 8, or the model was trained for other bits or scales.

    Examples
    --------
    >>> from kdcourse.models import size_in_bytes
    >>> model = nn.Sequential(nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 10))
    >>> size_in_bytes(model), size_in_bytes(quantise_model(model, bits=4))
    (203560, 26000)
    """

    def replace(layer: nn.Linear) -> nn.Module:
        if isinstance(layer, FakeQuantisedLinear) and (layer.bits, layer.per_row) != (bits, per_row):
            raise ValueError(
                f"the model was trained for {layer.bits} bits with per_row={layer.per_row}, got bits={bits} and "
                f"per_row={per_row}: another grid would round its weights once more."
            )
        return QuantisedLinear(layer, bits=bits, per_row=per_row)

    return _replaced(model, replace)


def check_bits(bits: int) -> None:
    """Raise unless bits is a whole number from 2 to 8.

    Examples
    --------
    >>> check_bits(4)
    """
    if isinstance(bits, bool) or not isinstance(bits, int) or not 2 <= bits <= MOST_BITS:
        raise ValueError(
            f"bits must be a whole number from 2 to {MOST_BITS}, got {bits!r}. With 1 bit a symmetric grid has one "
            f"level, 0; above {MOST_BITS} a code does not fit into a byte."
        )


def _check_weights(weights: Tensor) -> None:
    if weights.dim() != 2 or not weights.is_floating_point() or weights.numel() == 0:
        raise ValueError(
            f"weights must be a matrix of floating-point numbers (outputs, inputs), got {weights.dtype} of shape "
            f"{tuple(weights.shape)}."
        )
    if not bool(torch.isfinite(weights).all()):
        raise ValueError("weights must be finite: one infinite weight would set the scale and turn all others into 0.")


def _replaced(model: nn.Module, replace: Callable[[nn.Linear], nn.Module]) -> nn.Module:
    if isinstance(model, nn.Linear):
        return replace(model)
    model = copy.deepcopy(model)
    layers = [
        (parent, name) for parent in model.modules() for name, child in parent.named_children()
        if isinstance(child, nn.Linear)
    ]  # fmt: skip
    if not layers:
        raise ValueError(f"{type(model).__name__} has no nn.Linear layer, so there is nothing to quantise.")
    for parent, name in layers:
        setattr(parent, name, replace(getattr(parent, name)))
    return model
