"""Relational losses: the student learns how the samples of a batch relate to each other (RKD, Gram, similarity).

Chapter 04. Letters: B batch, D embedding width. Student and teacher may differ in D: only B×B relations are compared.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .._arguments import can_look, check_same_batch
from ._numerics import in_one_precision, in_range, over_largest, unit
from ._precision import full_precision


@full_precision
def rkd_distance_loss(student_embeddings: Tensor, teacher_embeddings: Tensor) -> Tensor:
    r"""Relational distillation of distances: every pair as far apart as for the teacher, up to scale.

    .. math:: \frac{1}{B^2} \sum_{i,j} \ell\!\left(\frac{d^s_{ij}}{\mu^s}, \frac{d^t_{ij}}{\mu^t}\right),
              \qquad d_{ij} = \|x_i - x_j\|_2

    with :math:`\ell` the Huber loss (threshold 1) and :math:`\mu` the mean of the distances that are not zero.

    Parameters
    ----------
    student_embeddings, teacher_embeddings : Tensor, shape (B, D) or (B, ...)
        Embeddings of the same samples, B at least 2; further dimensions are flattened. The widths may differ. The
        teacher's side receives no gradient.

    Returns
    -------
    Tensor, shape ()
        0 when all ratios of distances agree. The value does not change if either set is rotated, moved or scaled.

    Raises
    ------
    ValueError
        If the batches differ or hold fewer than 2 samples.

    Notes
    -----
    Distances come from differences of coordinates. The identity :math:`\|x\|^2 + \|y\|^2 - 2xy` would give identical
    points a distance, by rounding. The gradient at distance 0 is taken as 0. The mean sets the scale, because the
    largest distance would let one outlier shrink all others. Usual weights: 1 in metric learning, 25 on CIFAR.

    References
    ----------
    Park et al. (2019), Relational Knowledge Distillation, arXiv:1904.05068, equations 5-8.

    Examples
    --------
    >>> corners = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]])  # distances 3, 4 and 5
    >>> rkd_distance_loss(2 * corners + 1, corners)
    tensor(0.)
    >>> rkd_distance_loss(corners[:, :1], corners)  # 1, 0, 1 against 3/4, 1, 5/4: 2·(1/32 + 1/2 + 1/32) / 9
    tensor(0.1250)
    """
    student, teacher = _flatten_pair(student_embeddings, teacher_embeddings, at_least=2, relation="distances")
    student_distances, teacher_distances = map(_relative_distances, (student, teacher))  # (B(B-1)/2,) each pair once
    total = F.smooth_l1_loss(student_distances, teacher_distances, reduction="sum")
    return 2 * total / len(student) ** 2


@full_precision
def rkd_angle_loss(student_embeddings: Tensor, teacher_embeddings: Tensor) -> Tensor:
    r"""Relational distillation of angles: every three samples form the same angle as for the teacher.

    .. math:: \frac{1}{B^3} \sum_{i,j,k} \ell\!\left(\langle u^s_{ij}, u^s_{ik} \rangle,
              \langle u^t_{ij}, u^t_{ik} \rangle\right), \qquad u_{ij} = \frac{x_j - x_i}{\|x_j - x_i\|_2}

    with :math:`\ell` the Huber loss (threshold 1); the inner product is the cosine of the angle at vertex i.

    Parameters
    ----------
    student_embeddings, teacher_embeddings : Tensor, shape (B, D) or (B, ...)
        Embeddings as in :func:`rkd_distance_loss`, B at least 3.

    Returns
    -------
    Tensor, shape ()
        0 when all angles agree. The value does not change if either set is rotated, moved or scaled.

    Raises
    ------
    ValueError
        If the batches differ or hold fewer than 3 samples.

    Notes
    -----
    All B³ cosines count. Where two of the three samples coincide, the cosine is 0 on both sides, or 1 on both. Cosines
    and their share of the gradient are computed for a few vertices at a time, so memory stays bounded: the B³ cosines
    of both networks and their history would not fit. Of wide embeddings, on a CPU, they come from the B² inner products
    in double precision: the B³ part of the work then does not grow with D. Nearly equal samples are taken as above.
    The gradient of a direction of length 0 is taken as 0. Usual weights: 2 in metric learning, 50 on CIFAR.

    References
    ----------
    Park et al. (2019), Relational Knowledge Distillation, arXiv:1904.05068, equations 9-10.

    Examples
    --------
    >>> corners = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    >>> rkd_angle_loss(2 * corners + 1, corners)
    tensor(0.)
    >>> line = torch.tensor([[0.0, 0.0], [1.0, 0.0], [-1.0, 0.0]])  # cosines -1, 1, 1 against 0, √½, √½
    >>> rkd_angle_loss(line, corners)  # 2·(1 / 2 + 2·(1 - √½)² / 2) / 27
    tensor(0.0434)
    """
    student, teacher = _flatten_pair(student_embeddings, teacher_embeddings, at_least=3, relation="angles")
    student, teacher = (
        over_largest(points, dim=(0, 1)) for points in (student, teacher)
    )  # angles do not see the scale
    return _AngleLoss.apply(student, teacher)[0]


@full_precision
def gram_loss(student_features: Tensor, teacher_features: Tensor) -> Tensor:
    r"""Squared distance between the directions of the two Gram matrices.

    .. math:: \left\| \frac{G^s}{\|G^s\|_F} - \frac{G^t}{\|G^t\|_F} \right\|_F^2, \qquad G = X X^\top

    Parameters
    ----------
    student_features, teacher_features : Tensor, shape (B, D) or (B, ...)
        Features of the same samples; further dimensions are flattened. The widths may differ. The teacher's side
        receives no gradient.

    Returns
    -------
    Tensor, shape ()
        In [0, 2]; 0 when the matrices agree up to scale. The value does not change if either set is rotated or
        scaled. It does if a set is moved, because inner products depend on the origin.

    Raises
    ------
    ValueError
        If the batches differ.

    Notes
    -----
    This is often presented as an angle-wise relational loss; the paper's compares angles at three samples
    (:func:`rkd_angle_loss`) and does not see a translation. The sum over the B² entries is not divided by B²: the
    matrices are normalised, so the loss would be at most 2/B², too little to train on at weight 1. The loss equals
    2 - 2·CKA, the (uncentred) linear kernel alignment.

    Examples
    --------
    >>> apart, alike = torch.eye(2), torch.ones(2, 2)
    >>> gram_loss(apart, alike)  # 2 - 2·CKA = 2 - √2
    tensor(0.5858)
    >>> gram_loss(apart.flip(1), apart)  # turning the samples changes no inner product
    tensor(0.)
    """
    student, teacher = _flatten_pair(student_features, teacher_features)
    student_gram = unit(_gram(student).flatten(), dim=0)  # (B²,) norm 1 as a whole
    teacher_gram = unit(_gram(teacher).flatten(), dim=0)  # (B²,)
    return (student_gram - teacher_gram).square().sum()


@full_precision
def similarity_preserving_loss(student_features: Tensor, teacher_features: Tensor) -> Tensor:
    r"""Similarity-preserving distillation: each sample resembles the others as it does for the teacher.

    .. math:: \frac{1}{B^2} \left\| \tilde G^s - \tilde G^t \right\|_F^2, \qquad
              \tilde G_{[i,:]} = \frac{G_{[i,:]}}{\|G_{[i,:]}\|_2}, \quad G = X X^\top

    Parameters
    ----------
    student_features, teacher_features : Tensor, shape (B, D) or (B, ...)
        Activations of the same samples, flattened to one row each: (B, C, H, W) becomes (B, C·H·W). The widths may
        differ. The teacher's side receives no gradient.

    Returns
    -------
    Tensor, shape ()
        In [0, 4/B]; 0 when the row-normalised matrices agree. The value does not change if either set is
        rotated or scaled.

    Raises
    ------
    ValueError
        If the batches differ.

    Notes
    -----
    The rows of G are normalised with the Euclidean norm, after the product. Normalising the samples before it (cosine
    similarity) is another loss, and comparing each pair by broadcasting needs B·B·D numbers where B·B are enough.
    The usual weight is 3000.

    References
    ----------
    Tung and Mori (2019), Similarity-Preserving Knowledge Distillation, arXiv:1907.09682, equations 1-4.

    Examples
    --------
    >>> apart, alike = torch.eye(2), torch.ones(2, 2)
    >>> similarity_preserving_loss(apart, alike)  # two rows of (1 - √½)² + ½, over B² = 4
    tensor(0.2929)
    """
    student, teacher = _flatten_pair(student_features, teacher_features)
    student_rows = unit(_gram(student))  # (B, B) each row has norm 1
    teacher_rows = unit(_gram(teacher))  # (B, B)
    return (student_rows - teacher_rows).square().mean()


def _flatten_pair(
    student: Tensor, teacher: Tensor, *, at_least: int = 1, relation: str = "similarities"
) -> tuple[Tensor, Tensor]:
    """Check a pair, give each sample one row, and detach the teacher."""
    check_same_batch(student, teacher)
    if len(student) < at_least:
        raise ValueError(
            f"relations of {relation} need at least {at_least} samples, got {len(student)}. "
            "Choose a batch size that leaves no such short last batch."
        )
    student, teacher = in_one_precision(student, teacher)
    return student.flatten(1), teacher.flatten(1)


def _gram(features: Tensor) -> Tensor:
    """Inner products of all pairs, (B, D) -> (B, B); up to a factor if the squares would leave float32."""
    gram = _Gram.apply(features)
    return gram if in_range(gram.diagonal()) else _Gram.apply(over_largest(features, dim=(0, 1)))


class _Gram(torch.autograd.Function):
    """Inner products of all pairs, X·Xᵀ; the gradient as one matrix product, where autograd would take two."""

    generate_vmap_rule = True

    @staticmethod
    def forward(points: Tensor) -> Tensor:
        return points @ points.mT  # (B, B)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return (gradient + gradient.mT) @ ctx.saved_tensors[0]  # (B, D)


def _relative_distances(points: Tensor) -> Tensor:
    """Distances of all pairs over the mean of the positive ones; zeros stay zeros, also when there is nothing else."""
    distances = _PairDistances.apply(points)  # (B(B-1)/2,)
    if not in_range(distances, power=2):
        distances = _PairDistances.apply(over_largest(points, dim=(0, 1)))
    mean = distances.sum() / (distances > 0).sum().clamp(min=1)
    return distances / mean.masked_fill(mean == 0, 1)


class _PairDistances(torch.autograd.Function):
    """Distances of all pairs i < j, exact for equal points; the gradient as one B×B matrix product."""

    @staticmethod
    def forward(points: Tensor) -> Tensor:
        if points.device.type == "mps":  # which has cdist but no pdist
            all_pairs = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")  # (B, B)
            return all_pairs[tuple(torch.triu_indices(len(points), len(points), 1))]  # (B(B-1)/2,)
        return F.pdist(points)  # (B(B-1)/2,)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs, output)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        points, distances = ctx.saved_tensors
        pull = gradient / distances.masked_fill(distances == 0, math.inf)  # (B(B-1)/2,)
        first, second = torch.triu_indices(len(points), len(points), 1, device=points.device)
        pulls = points.new_zeros(len(points), len(points)).index_put((first, second), pull)  # (B, B)
        pulls = pulls + pulls.T
        points = points - points[:1]  # which changes nothing but the rounding, far from the origin
        return pulls.sum(dim=1, keepdim=True) * points - pulls @ points  # (B, D)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None], points: Tensor) -> tuple[Tensor, int]:
        """Take stacked sets one after the other: pdist has no batching rule."""
        (axis,) = in_dims
        assert axis is not None  # else vmap would not have come here
        return torch.stack([_PairDistances.apply(one) for one in points.movedim(axis, 0)]), 0


class _AngleLoss(torch.autograd.Function):
    """The mean Huber loss of all cosines, and its gradient, a few vertices at a time."""

    generate_vmap_rule = True

    @staticmethod
    def forward(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        return _way_to_angles(student, teacher)(student, teacher)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: tuple[Tensor, Tensor]) -> None:
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(*inputs, output[1])

    @staticmethod
    def backward(ctx: Any, scale: Tensor, _: Tensor) -> tuple[Tensor, None]:
        student, teacher, gradient = ctx.saved_tensors
        if torch.is_grad_enabled():  # for a second derivative: once more, with its history
            _, gradient = _way_to_angles(student, teacher)(student, teacher)
        return scale * gradient, None


_WIDE = 1024  # numbers per sample that are multiplied for each vertex, from which on inner products are cheaper
_CLOSE = 1e-6  # squared distance over the largest squared length: below, inner products would lose digits


def _way_to_angles(student: Tensor, teacher: Tensor) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Choose by directions, or, for wide embeddings without nearly equal samples on a CPU, by inner products."""
    if not can_look(student.detach()) or 2 * student.shape[1] + teacher.shape[1] < _WIDE:
        return _angles_by_directions
    for points in (student, teacher):
        gram = _centred_gram(points.detach())
        squares = gram.diagonal() + gram.diagonal().unsqueeze(1) - 2 * gram  # (B, B)
        squares.fill_diagonal_(math.inf)
        if not squares.amin().item() > _CLOSE * gram.diagonal().amax().item():
            return _angles_by_directions
    return _angles_by_products


def _angles_by_products(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """The loss and its gradient from the inner products of all pairs: (B, D), (B, D_teacher) -> (), (B, D)."""
    samples = len(student)
    points = _centred(student)
    gram, teacher_gram = points @ points.mT, _centred_gram(teacher)  # (B, B)
    loss, pulls, stretches, share = gram.new_zeros(()), torch.zeros_like(gram), gram.new_zeros(samples), gram.clone()
    for vertex in torch.arange(samples, device=gram.device).split(max(1, 2**20 // (8 * samples**2))):
        cosines, inverse = _cosines(gram, vertex)  # (V, B, B), (V, B)
        error = cosines - _cosines(teacher_gram, vertex)[0]  # (V, B, B)
        slope = error.clamp(-1, 1)  # (V, B, B) as in _angles_by_directions
        loss = loss + (slope * (error - slope / 2)).sum()
        # A cosine is an inner product over two lengths: what pulls on the product, and what on the lengths.
        pull = slope * inverse.unsqueeze(2) * inverse.unsqueeze(1)  # (V, B, B)
        stretch = inverse.square() * (slope * cosines).sum(dim=2)  # (V, B)
        pulls, stretches = pulls + pull.sum(dim=0), stretches + stretch.sum(dim=0)
        # A row for each vertex: what it feels itself from each sample. Written into one tensor, because small results
        # that are kept between large ones keep the allocator from using the room of the large ones again.
        share.index_copy_(0, vertex, pull.sum(dim=2) - stretch)  # (B, B)
    # The inner products at vertex i are those of x_j - x_i, so what x_j feels is felt by x_i the other way.
    felt = pulls - share - share.mT + torch.diag(share.sum(dim=1) - stretches)  # (B, B)
    return (loss / samples**3).to(student.dtype), (2 / samples**3 * felt @ points).to(student.dtype)


def _centred(points: Tensor) -> Tensor:
    """Move the mean to the origin, in double precision: differences of inner products must keep digits."""
    points = points.double()
    return points - points.mean(dim=0)


def _centred_gram(points: Tensor) -> Tensor:
    points = _centred(points)
    return points @ points.mT  # (B, B)


def _cosines(gram: Tensor, vertex: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines at each vertex, (V, B, B), and one over the distances to it, (V, B); 0 at the vertex itself."""
    to_vertex, own = gram[vertex], gram.diagonal()[vertex].unsqueeze(1)  # (V, B), (V, 1)
    squares = gram.diagonal() - 2 * to_vertex + own  # (V, B)
    itself = torch.arange(len(gram), device=gram.device) == vertex.unsqueeze(1)  # (V, B)
    inverse = squares.masked_fill(itself, math.inf).rsqrt()  # (V, B)
    # <x_j - x_i, x_k - x_i> = <x_j, x_k> - moved_j - moved_k; the last two as a product of narrow matrices.
    moved = inverse * (to_vertex - own / 2)  # (V, B)
    rows, columns = torch.stack([inverse, moved], dim=2), torch.stack([-moved, -inverse], dim=1)  # (V, B, 2), (V, 2, B)
    return torch.baddbmm(gram * inverse.unsqueeze(2) * inverse.unsqueeze(1), rows, columns), inverse


def _angles_by_directions(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    samples, width = student.shape
    # Numbers held at once: small enough for a CPU's cache, large enough to keep a GPU busy.
    budget = 2**20 if student.device.type == "cpu" else 2**24
    vertices = max(1, budget // (samples * (width + teacher.shape[1] + 3 * samples)))
    loss, gradient = student.new_zeros(()), torch.zeros_like(student)
    for vertex in torch.arange(samples, device=student.device).split(vertices):
        directions, inverse_lengths = _directions(student, vertex)  # (V, B, D), (V, B, 1)
        teacher_directions, _ = _directions(teacher, vertex)  # (V, B, D_teacher)
        error = directions @ directions.mT - teacher_directions @ teacher_directions.mT  # (V, B, B) of cosines
        slope = error.clamp(-1, 1)  # (V, B, B) Huber's derivative; slope·(error - slope/2) is Huber's loss
        loss = loss + (slope * (error - slope / 2)).sum()
        # Symmetric in j and k, so both factors of the cosine pull alike: twice the pull on one.
        pull = 2 * slope @ directions  # (V, B, D)
        # Only what turns a direction counts, not what would lengthen it.
        pull = (pull - directions * (pull * directions).sum(dim=2, keepdim=True)) * inverse_lengths
        gradient = (gradient + pull.sum(dim=0)).index_add(0, vertex, pull.sum(dim=1), alpha=-1)  # (B, D)
    return loss / samples**3, gradient / samples**3


def _directions(points: Tensor, vertex: Tensor) -> tuple[Tensor, Tensor]:
    """Unit vectors from each vertex to every point, and one over their lengths; 0 where the two coincide."""
    differences = points - points[vertex].unsqueeze(1)  # (V, B, D)
    lengths = torch.linalg.vector_norm(differences, dim=2, keepdim=True)  # (V, B, 1)
    inverse = 1 / lengths.masked_fill(lengths == 0, math.inf)  # (V, B, 1)
    return differences * inverse, inverse
