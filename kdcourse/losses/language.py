"""Transformers layer by layer: which block learns from which, embeddings, hidden states (TinyBERT).

Chapter 09. Letters: B batch, L tokens, D embedding width. ``attention_mask`` is the tokenizer's: (B, L), 1 where a
token is real, 0 where it is padding. Padding, whatever it holds, changes neither a loss nor a gradient.
"""

import operator
from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._arguments import check_floating, check_same_shape
from ._numerics import at_least_float32, select_real


def map_layers(student_layers: int, teacher_layers: int) -> dict[int, int]:
    """Which teacher block each student block learns from: block i from block i·k, with k = teacher / student.

    Parameters
    ----------
    student_layers, teacher_layers : int
        Numbers of transformer blocks, as in ``config.num_hidden_layers``.

    Returns
    -------
    dict of int to int
        Student block to teacher block, counted from 1, so that each number is also the block's place in the
        ``hidden_states`` of ``transformers``. Place 0 there is the embedding layer, which is no block: add it with
        ``{0: 0, **map_layers(6, 12)}``. Attention has no such place: block i is ``attentions[i - 1]``.

    Raises
    ------
    ValueError
        If a number is not a positive integer, or the student is deeper than the teacher.

    Notes
    -----
    The last block always learns from the last. Where the depths do not divide, i·k is rounded to the nearest
    integer, halves upwards; every student block still has a teacher block of its own.

    References
    ----------
    Jiao et al. (2020), TinyBERT, arXiv:1909.10351, section 4.1, where g(m) = 3 × m.

    Examples
    --------
    >>> map_layers(4, 12)
    {1: 3, 2: 6, 3: 9, 4: 12}
    >>> map_layers(4, 6)
    {1: 2, 2: 3, 3: 5, 4: 6}
    """
    for name, count in (("student_layers", student_layers), ("teacher_layers", teacher_layers)):
        try:
            valid = operator.index(count) >= 1
        except TypeError:
            valid = False
        if not valid:
            came = f"a {type(count).__name__} of {len(count)}" if isinstance(count, Sequence) else repr(count)
            raise ValueError(
                f"{name} must be a number of blocks, 1 or more, got {came}. "
                "The hidden_states of transformers hold one entry more than there are blocks: the embeddings."
            )
    if student_layers > teacher_layers:
        raise ValueError(
            f"the student has {student_layers} blocks, the teacher only {teacher_layers}: there is no uniform map, "
            "several student blocks would copy one teacher block. Write the map you want as a dict."
        )
    # (2·i·teacher + student) // (2·student) is i·k rounded, without a float
    return {
        block: (2 * block * teacher_layers + student_layers) // (2 * student_layers)
        for block in range(1, student_layers + 1)
    }


class HiddenProjection(nn.Module):
    """A learned linear map from the student's width to the teacher's, one for all layers as in TinyBERT.

    Its parameters belong in the student's optimizer: ``Adam([*student.parameters(), *projection.parameters()])``. It
    is needed in training only and thrown away after.

    Parameters
    ----------
    student_dim, teacher_dim : int
        Widths of the hidden states.

    References
    ----------
    Jiao et al. (2020), arXiv:1909.10351, equations 8 and 9.
    """

    def __init__(self, student_dim: int, teacher_dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(student_dim, teacher_dim, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        """Map hidden states of shape (..., student_dim) to (..., teacher_dim)."""
        if hidden.shape[-1] != self.linear.in_features:
            raise ValueError(
                f"this projection takes the student's {self.linear.in_features} features per token, got "
                f"{hidden.shape[-1]}. The student comes first: HiddenProjection(student_dim, teacher_dim)."
            )
        return self.linear(hidden)


def embedding_loss(
    student_embeddings: Tensor,
    teacher_embeddings: Tensor,
    *,
    attention_mask: Tensor | None = None,
    projection: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    r"""Mean squared error between embeddings, the student's projected: :math:`\mathrm{MSE}(E^s W, E^t)`.

    Parameters
    ----------
    student_embeddings, teacher_embeddings : Tensor, shape (B, L, D) or (K, D)
        Embedded tokens, or the tables of all K vocabulary entries. The teacher's side receives no gradient.
    attention_mask : Tensor, shape (B, L), optional
        1 for real tokens. Only for embedded tokens; without it all are real.
    projection : HiddenProjection or other callable, optional
        Applied to the student's side, shape (tokens, D); needed where widths differ.

    Returns
    -------
    Tensor, shape ()
        Mean over real tokens and features; 0, still part of the graph, when no token is real.

    Raises
    ------
    ValueError
        If shapes differ after the projection, or the mask does not fit.

    References
    ----------
    Jiao et al. (2020), arXiv:1909.10351, equation 9.
    """
    check_floating(student_embeddings, "student embeddings")
    select = select_real(attention_mask, student_embeddings.shape[:-1])
    return _projected_mse(student_embeddings, teacher_embeddings, select, projection, "embeddings")


def hidden_state_loss(
    student_hidden: Tensor | Sequence[Tensor],
    teacher_hidden: Tensor | Sequence[Tensor],
    *,
    attention_mask: Tensor | None = None,
    layer_map: Mapping[int, int] | None = None,
    projection: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    r"""Mean squared error between hidden states, layer by layer: :math:`\mathrm{MSE}(H^s_i W, H^t_{g(i)})`.

    Parameters
    ----------
    student_hidden, teacher_hidden : sequence of Tensor, shape (B, L, D), or one Tensor
        The ``hidden_states`` of ``transformers``: embeddings at 0, then one entry per block. The teacher's side
        receives no gradient.
    attention_mask : Tensor, shape (B, L), optional
        1 for real tokens. Without it all are real.
    layer_map : dict of int to int, optional
        Place in ``student_hidden`` to place in ``teacher_hidden``. Without it ``{0: 0}`` and :func:`map_layers` of
        the two numbers of blocks: embeddings to embeddings, last block to last block.
    projection : HiddenProjection or other callable, optional
        Applied to the real tokens, shape (tokens, D), of every student's state, embeddings too; needed where widths
        differ.

    Returns
    -------
    Tensor, shape ()
        Mean over pairs of layers, real tokens and features; 0, still part of the graph, when no token is real.

    Raises
    ------
    ValueError
        If the student is deeper and no map is given, a map is empty or names a place that does not exist, shapes
        differ after the projection, or the mask does not fit.

    Notes
    -----
    TinyBERT sums over layers and averages over padding too; we average over layers and over real tokens, all tokens
    of the batch alike. It also learns one projection for the embeddings and one for the blocks; here one serves both
    (call :func:`embedding_loss` with another projection, and a map without 0, for two).

    References
    ----------
    Jiao et al. (2020), arXiv:1909.10351, equations 8 and 11.
    """
    student = [student_hidden] if isinstance(student_hidden, Tensor) else student_hidden
    teacher = [teacher_hidden] if isinstance(teacher_hidden, Tensor) else teacher_hidden
    if layer_map is None:
        layer_map = {0: 0} if len(student) == len(teacher) == 1 else map_layers(len(student) - 1, len(teacher) - 1)
        layer_map = {0: 0, **layer_map}
    if not layer_map:
        raise ValueError("layer_map is empty: there is nothing to match, and a mean over it divides by zero.")
    for side, places, states in (("student", layer_map.keys(), student), ("teacher", layer_map.values(), teacher)):
        wrong = [place for place in places if not 0 <= place < len(states)]
        if wrong:
            raise ValueError(
                f"layer_map names {side} layer {wrong[0]}, but there are only places 0 to {len(states) - 1} in "
                f"{side}_hidden. Place 0 holds the embeddings, the last place the last block."
            )
    select = _select_common(attention_mask, [student[place] for place in layer_map])
    losses = [
        _projected_mse(student[s], teacher[t], select, projection, f"hidden states {s} → {t}")
        for s, t in layer_map.items()
    ]
    return torch.stack(losses).mean()


def _select_common(attention_mask: Tensor | None, states: Sequence[Tensor]) -> Callable[[Tensor], Tensor]:
    """What picks the real tokens of every one of these states, which must belong to the same tokens."""
    for state in states:
        check_floating(state, "student hidden states")
    shapes = {tuple(state.shape[:-1]) for state in states}
    if len(shapes) > 1:
        raise ValueError(
            f"student hidden states must belong to the same tokens, got (B, L) = {sorted(shapes)}. One forward pass "
            "gives them all."
        )
    return select_real(attention_mask, shapes.pop())


def _projected_mse(
    student: Tensor,
    teacher: Tensor,
    select: Callable[[Tensor], Tensor],
    projection: Callable[[Tensor], Tensor] | None,
    what: str,
) -> Tensor:
    check_floating(student, f"student {what}")
    check_floating(teacher, f"teacher {what}")
    if projection is None and student.shape[:-1] == teacher.shape[:-1] and student.shape[-1] != teacher.shape[-1]:
        raise ValueError(
            f"student and teacher {what} have widths {student.shape[-1]} and {teacher.shape[-1]}: give a learned "
            f"projection=HiddenProjection({student.shape[-1]}, {teacher.shape[-1]}), and its parameters to the "
            "optimizer."
        )
    # one feature of each: without a projection all must agree, with one all but the width
    check_same_shape(*((student, teacher) if projection is None else (student[..., :1], teacher[..., :1])), what)
    student, teacher = select(student), select(teacher.detach())  # (tokens, D)
    if projection is not None:
        student = projection(student)  # (tokens, D_teacher)
        check_same_shape(student, teacher, f"{what}, projected,", allow_empty=True)
    error = F.mse_loss(at_least_float32(student), at_least_float32(teacher), reduction="sum")
    return error / max(1, teacher.numel())
