"""Transformers layer by layer: which block learns from which, embeddings, hidden states (TinyBERT).

Chapter 09. Letters: B batch, L tokens, D embedding width. ``attention_mask`` is the tokenizer's: (B, L), 1 where a
token is real, 0 where it is padding. What padding holds changes neither a loss nor a gradient.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._arguments import check_count, check_floating, check_same_shape
from ._numerics import in_one_precision, select_real
from ._precision import fit_to_layer


def map_layers(student_layers: int, teacher_layers: int) -> dict[int, int]:
    """Teacher block for each student block: block i learns from block i·k, with k = teacher / student.

    Parameters
    ----------
    student_layers, teacher_layers : int
        Numbers of transformer blocks, as in ``config.num_hidden_layers``.

    Returns
    -------
    dict of int to int
        Student block to teacher block, counted from 1. These are also the places in the ``hidden_states`` of
        ``transformers``, where place 0 holds the embeddings: add them with ``{0: 0, **map_layers(6, 12)}``. In
        ``attentions``, which has no such place, block i is ``attentions[i - 1]``.

    Raises
    ------
    ValueError
        If a number is not a positive integer, or the student is deeper than the teacher.

    Notes
    -----
    The last block always learns from the last. If i·k is not an integer it is rounded, halves upwards. Every student
    block has its own teacher block.

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
    why = (
        "It is a number of blocks. The hidden_states of transformers hold one entry more than there are blocks: "
        "the embeddings."
    )
    student_layers = check_count(student_layers, "student_layers", why)
    teacher_layers = check_count(teacher_layers, "teacher_layers", why)
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
    is used in training only, and thrown away afterwards.

    Parameters
    ----------
    student_dim, teacher_dim : int
        Widths of the hidden states.

    References
    ----------
    Jiao et al. (2020), arXiv:1909.10351, equations 8 and 9.

    Examples
    --------
    >>> projection = HiddenProjection(128, 768)
    >>> projection(torch.rand(2, 5, 128)).shape
    torch.Size([2, 5, 768])
    """

    def __init__(self, student_dim: int, teacher_dim: int) -> None:
        super().__init__()
        student_dim = check_count(student_dim, "student_dim", "It is the width of the student's hidden states.")
        teacher_dim = check_count(teacher_dim, "teacher_dim", "It is the width of the teacher's hidden states.")
        self.linear = nn.Linear(student_dim, teacher_dim, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        """Map hidden states of shape (..., student_dim) to (..., teacher_dim)."""
        check_floating(hidden, "hidden states")
        if hidden.dim() == 0 or hidden.shape[-1] != self.linear.in_features:
            raise ValueError(
                f"this projection takes the student's {self.linear.in_features} features per token, got "
                f"shape {tuple(hidden.shape)}. The student comes first: HiddenProjection(student_dim, teacher_dim)."
            )
        return self.linear(fit_to_layer(hidden, self.linear))


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
        Mask of embedded tokens, 1 for real ones. By default all are real.
    projection : HiddenProjection or other callable, optional
        Map of the student's real tokens, shape (tokens, D), to the teacher's width; needed if widths differ.

    Returns
    -------
    Tensor, shape ()
        Mean over real tokens and features. 0, and part of the graph, when no token is real.

    Raises
    ------
    ValueError
        If shapes differ after the projection, or the mask does not fit.

    References
    ----------
    Jiao et al. (2020), arXiv:1909.10351, equation 9.

    Examples
    --------
    >>> teacher = torch.ones(1, 2, 4)
    >>> student = torch.tensor([3.0, 100.0]).view(1, 2, 1).expand(1, 2, 4)
    >>> embedding_loss(student, teacher, attention_mask=torch.tensor([[1, 0]]))  # (3 - 1)²: padding is not seen
    tensor(4.)
    """
    _check_at_least_two_dimensions(student_embeddings, "student embeddings")
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
        States as in ``hidden_states`` of ``transformers``: embeddings at 0, then one entry per block. The teacher's
        side receives no gradient.
    attention_mask : Tensor, shape (B, L), optional
        Mask, 1 for real tokens. By default all are real.
    layer_map : dict of int to int, optional
        Place in ``student_hidden`` to place in ``teacher_hidden``. By default embeddings learn from embeddings, and
        blocks by :func:`map_layers`.
    projection : HiddenProjection or other callable, optional
        Map of the student's real tokens, shape (tokens, D), to the teacher's width, for every state; needed if widths
        differ.

    Returns
    -------
    Tensor, shape ()
        Mean over pairs of layers, real tokens and features. 0, and part of the graph, when no token is real.

    Raises
    ------
    ValueError
        If the student is deeper and no map is given, a map is empty or names a place that does not exist, shapes
        differ after the projection, or the mask does not fit.

    Notes
    -----
    TinyBERT sums over layers and averages over padding too. Here the mean runs over layers and real tokens, and every
    token of the batch has the same weight. TinyBERT has one projection for the embeddings and one for the blocks. Here
    one serves both; for two, call :func:`embedding_loss` with the other one, and use a map without 0.

    References
    ----------
    Jiao et al. (2020), arXiv:1909.10351, equations 8 and 11.

    Examples
    --------
    >>> teacher = [torch.full((1, 2, 4), depth) for depth in (0.0, 1.0, 2.0, 3.0, 4.0)]  # embeddings and four blocks
    >>> hidden_state_loss(teacher[::2], teacher)  # blocks 1 and 2 learn from blocks 2 and 4
    tensor(0.)
    >>> hidden_state_loss(teacher[:3], teacher)  # (0² + 1² + 2²) / 3
    tensor(1.6667)
    """
    student, teacher = _states(student_hidden, "student"), _states(teacher_hidden, "teacher")
    if layer_map is None:
        layer_map = {0: 0} if len(student) == len(teacher) == 1 else map_layers(len(student) - 1, len(teacher) - 1)
        layer_map = {0: 0, **layer_map}
    if not isinstance(layer_map, Mapping):
        raise ValueError(f"layer_map must be a dict of places, such as {{1: 2, 2: 4}}, got {type(layer_map).__name__}.")
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


def _states(hidden: Tensor | Sequence[Tensor], side: str) -> Sequence[Tensor]:
    if isinstance(hidden, Tensor):
        return [hidden]
    if not isinstance(hidden, Sequence) or len(hidden) == 0:
        came = "nothing" if isinstance(hidden, Sequence) else type(hidden).__name__
        raise ValueError(
            f"{side}_hidden must hold the hidden states of at least one layer, got {came}. "
            "Ask the model for output_hidden_states=True."
        )
    return hidden


def _check_at_least_two_dimensions(tensor: Tensor, name: str) -> None:
    check_floating(tensor, name)
    if tensor.dim() < 2:
        raise ValueError(f"{name} must have shape (B, L, D) or (K, D), got {tuple(tensor.shape)}.")


def _select_common(attention_mask: Tensor | None, states: Sequence[Tensor]) -> Callable[[Tensor], Tensor]:
    """What picks the real tokens of every one of these states, which must belong to the same tokens."""
    for state in states:
        _check_at_least_two_dimensions(state, "student hidden states")
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
    _check_at_least_two_dimensions(teacher, f"teacher {what}")
    if projection is not None and not callable(projection):
        raise ValueError(f"projection must be a HiddenProjection or another callable, got {type(projection).__name__}.")
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
    error = F.mse_loss(*in_one_precision(student, teacher), reduction="sum")
    return error / max(1, teacher.numel())
