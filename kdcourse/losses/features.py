"""Feature losses: the student learns from what the teacher computes on the way (FitNets, attention transfer).

Chapter 03. Letters: B batch, C channels, H·W positions of a feature map.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._arguments import check_count, check_floating, check_paired_lists, check_same_batch
from ._numerics import in_one_precision, in_range, over_largest, unit
from ._precision import fit_to_layer, full_precision


class HintRegressor(nn.Module):
    """A learned 1×1 convolution that carries student features to the teacher's width.

    Its parameters are trained together with the student and thrown away afterwards. Give the optimizer both,
    ``[*student.parameters(), *regressor.parameters()]``. Otherwise the student has to match a random projection.

    Parameters
    ----------
    student_channels, teacher_channels : int
        Channels of the guided layer and of the hint layer.
    size : int or (int, int), optional
        Height and width of the hint. A larger student map is average-pooled to it. A smaller one is an
        error, because interpolation cannot bring back detail that the student has thrown away: guide an earlier layer.

    Raises
    ------
    ValueError
        If a number of channels or a size is not positive; when called, if the input is not (B, C, H, W) or (B, C)
        with the student's channels, or is smaller than ``size``.

    Notes
    -----
    The paper chooses the kernel of its regressor so that a valid convolution gives the hint's height and width. Here
    the kernel is always 1×1, and pooling, which needs no parameters, sets the size.

    References
    ----------
    Romero et al. (2015), FitNets: Hints for Thin Deep Nets, arXiv:1412.6550, section 2.2.

    Examples
    --------
    >>> regressor = HintRegressor(16, 64, size=4)
    >>> regressor(torch.rand(2, 16, 8, 8)).shape  # pooled to 4×4 positions, then carried to 64 channels
    torch.Size([2, 64, 4, 4])
    """

    def __init__(
        self, student_channels: int, teacher_channels: int, *, size: int | Sequence[int] | None = None
    ) -> None:
        super().__init__()
        student_channels = check_count(student_channels, "student_channels", "It is the guided layer's channels.")
        teacher_channels = check_count(teacher_channels, "teacher_channels", "It is the hint layer's channels.")
        self.size: tuple[int, int] | None = None
        if size is not None:
            height, width = size if isinstance(size, Sequence) and len(size) == 2 else (size, size)
            why = "It is the height and width of the hint."
            self.size = check_count(height, "size", why), check_count(width, "size", why)
        self.projection = nn.Conv2d(student_channels, teacher_channels, kernel_size=1)

    def forward(self, student_features: Tensor) -> Tensor:
        """Student features in the teacher's shape.

        Parameters
        ----------
        student_features : Tensor, shape (B, C_student, H, W) or (B, C_student)
            Output of the guided layer. Vectors are treated as maps of one position.

        Returns
        -------
        Tensor, shape (B, C_teacher, H', W') or (B, C_teacher)
            Features with the teacher's channels. H', W' is ``size`` if it was given, else H, W.
        """
        check_floating(student_features, "student features")
        channels, shape = self.projection.in_channels, tuple(student_features.shape)
        student_features = fit_to_layer(student_features, self.projection)
        if student_features.dim() not in (2, 4) or shape[1] != channels:
            raise ValueError(
                f"student features must have shape (B, {channels}, H, W) or (B, {channels}), got {shape}. "
                f"This regressor was made for {channels} student channels."
            )
        if student_features.dim() == 2:
            return self.projection(student_features[:, :, None, None]).flatten(1)  # (B, C_teacher)
        if self.size is not None and self.size != shape[2:]:
            if shape[2] < self.size[0] or shape[3] < self.size[1]:
                raise ValueError(
                    f"student features of {shape[2]}×{shape[3]} positions are smaller than the teacher's "
                    f"{self.size[0]}×{self.size[1]}. Guide an earlier student layer, or take a later hint: detail "
                    "that the student has pooled away cannot be matched."
                )
            # Pooling first: it commutes with a 1×1 convolution, and leaves fewer positions to convolve.
            student_features = F.adaptive_avg_pool2d(student_features, self.size)  # (B, C_student, H', W')
        return self.projection(student_features)  # (B, C_teacher, H', W')


def hint_loss(student_features: Tensor, teacher_features: Tensor) -> Tensor:
    r"""Mean squared error between regressed student features and the teacher's hint.

    .. math:: \frac{1}{B\,C\,H\,W} \left\| F^s - F^t \right\|^2

    Parameters
    ----------
    student_features, teacher_features : Tensor, shape (B, C, H, W) or (B, C)
        Features of one shape; a :class:`HintRegressor` carries the student's to the teacher's where they differ. The
        teacher's side receives no gradient.

    Returns
    -------
    Tensor, shape ()
        0 when the features are equal.

    Raises
    ------
    ValueError
        If the shapes differ in any dimension: a 1 is not broadcast.

    Notes
    -----
    The paper writes :math:`\frac12 \|\cdot\|^2` per sample, which is :math:`C H W / 2` times as much and makes the
    weight depend on the layer's size. The mean is what later code uses; a weight near 100 beside cross-entropy is
    typical of it. Nothing is normalised. Normalising each position over channels first gives another loss, which
    does not see magnitudes and is smaller by a further factor of about C.

    References
    ----------
    Romero et al. (2015), FitNets: Hints for Thin Deep Nets, arXiv:1412.6550, equation 3.

    Examples
    --------
    >>> teacher = torch.ones(2, 3, 4, 4)
    >>> hint_loss(3 * teacher, teacher)  # (3 - 1)² at every position
    tensor(4.)
    """
    check_same_batch(student_features, teacher_features)
    student_shape, teacher_shape = tuple(student_features.shape), tuple(teacher_features.shape)
    if student_shape != teacher_shape:
        raise ValueError(
            f"student features {student_shape} and teacher features {teacher_shape} must have the same shape. "
            f"HintRegressor({student_shape[1]}, {teacher_shape[1]}, size=(H, W) of the teacher) learns the way from "
            "one to the other; broadcasting would silently compare the wrong pairs."
        )
    return _mean_squared_error(student_features, teacher_features)


@full_precision
def attention_map(features: Tensor) -> Tensor:
    r"""Where a layer is active: the mean squared activation of each position, as a unit vector.

    .. math:: A = \frac{a}{\|a\|_2}, \qquad a_{hw} = \frac1C \sum_c F_{chw}^2

    Parameters
    ----------
    features : Tensor, shape (B, C, H, W)
        Output of a layer. Gradients flow to it.

    Returns
    -------
    Tensor, shape (B, H·W)
        No entry is negative and each row has norm 1, at any scale of the features; a row of zeros for a map
        without any activation. ``.unflatten(1, (H, W))`` makes it a picture again.

    Raises
    ------
    ValueError
        If the features are not a floating point tensor of four dimensions.

    References
    ----------
    Zagoruyko and Komodakis (2017), Paying More Attention to Attention, arXiv:1612.03928, section 3.1.

    Examples
    --------
    >>> features = torch.tensor([3.0, 4.0]).sqrt().view(1, 1, 1, 2)  # squares 3 and 4, of length 5 together
    >>> attention_map(features)
    tensor([[0.6000, 0.8000]])
    """
    check_floating(features, "features")
    if features.dim() != 4:
        raise ValueError(
            f"features must have shape (B, C, H, W), got {tuple(features.shape)}. An attention map has one value per "
            "position, so it needs positions: flattened or pooled features have none."
        )
    # The sum stands for the mean, which is a multiple of it; product and sum have the cheaper backward passes.
    energy = (features * features).sum(dim=1)  # (B, H, W)
    if not in_range(
        energy.detach().amax(dim=(1, 2))
    ):  # features above 1e19 or below 1e-15, whose squares leave float32
        features = over_largest(features, dim=(1, 2, 3))
        energy = (features * features).sum(dim=1)
    return unit(energy.flatten(1))  # (B, H·W)


def attention_transfer_loss(
    student_features: Tensor | Sequence[Tensor], teacher_features: Tensor | Sequence[Tensor]
) -> Tensor:
    r"""Squared difference of attention maps, mean over batch and positions, summed over layers.

    .. math:: \sum_{\ell} \frac{1}{B\,H_\ell W_\ell} \sum_b \left\| A^s_{b\ell} - A^t_{b\ell} \right\|^2

    Parameters
    ----------
    student_features, teacher_features : Tensor, shape (B, C, H, W), or lists of as many layers each
        Features of one layer or of several. Channels may differ, because an attention map has none. Batch, height
        and width must agree. The teacher's side receives no gradient.

    Returns
    -------
    Tensor, shape ()
        0 when all maps agree; at most :math:`2 / (H W)` for each layer.

    Raises
    ------
    ValueError
        If the lists differ in length or are empty, one side is a list and the other a tensor, or a pair of layers
        differs in batch, height or width.

    Notes
    -----
    The paper's equation 2 has the norm of the difference, not squared, and a factor β/2 outside. The authors' code
    squares and takes the mean over positions; this is the code's form, and the usual weight of 1000 belongs to
    it. Maps are unit vectors over H·W positions, so their mean squared difference is small: at weight 1 the term hardly
    moves the student.

    References
    ----------
    Zagoruyko and Komodakis (2017), Paying More Attention to Attention, arXiv:1612.03928, equation 2.

    Examples
    --------
    >>> left, right = torch.tensor([[[[1.0, 0.0]]]]), torch.tensor([[[[0.0, 1.0]]]])
    >>> attention_transfer_loss(left, right)  # the largest value for two positions
    tensor(1.)
    >>> attention_transfer_loss(5 * left, left)  # the same place, whatever the strength
    tensor(0.)
    """
    students = [student_features] if isinstance(student_features, Tensor) else student_features
    teachers = [teacher_features] if isinstance(teacher_features, Tensor) else teacher_features
    if isinstance(student_features, Tensor) != isinstance(teacher_features, Tensor):
        raise ValueError(
            "student and teacher features must both be tensors or both be lists of tensors, got "
            f"{type(student_features).__name__} and {type(teacher_features).__name__}."
        )
    check_paired_lists(students, teachers, "feature maps")
    layers = zip(students, teachers, strict=True)
    return torch.stack([_attention_transfer(*layer) for layer in layers]).sum()  # (layers,) -> ()


def _attention_transfer(student_features: Tensor, teacher_features: Tensor) -> Tensor:
    check_same_batch(student_features, teacher_features)
    student_map, teacher_map = attention_map(student_features), attention_map(teacher_features.detach())  # (B, H·W)
    if student_features.shape[2:] != teacher_features.shape[2:]:
        raise ValueError(
            f"student and teacher features must have the same height and width, got "
            f"{tuple(student_features.shape[2:])} and {tuple(teacher_features.shape[2:])}. Only the channels may "
            "differ: pool the larger map first, for example with torch.nn.functional.adaptive_avg_pool2d."
        )
    return _mean_squared_error(student_map, teacher_map)


def _mean_squared_error(student: Tensor, teacher: Tensor) -> Tensor:
    return F.mse_loss(*in_one_precision(student, teacher))
