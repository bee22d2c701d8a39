"""Detectors of digits: torchvision's RetinaNet over a small one-channel ResNet with a feature pyramid. Chapter 08."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.resnet import BasicBlock
from torchvision.ops import box_iou
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from .modes import evaluating

RATIOS = (1.0, 2.0)  # of an anchor, height to width: digits are taller than wide
LEVELS = ("8", "16", "32")  # strides: a position of the level stands for so many pixels
COCO_SMALL = 32  # pixels: below it COCO calls an object small, from three times as much on large


class Body(nn.Sequential):
    """A ResNet for one channel, stages ``stem``, ``layer1`` … ``layer4`` at strides 2, 4, 8, 16 and 32.

    Parameters
    ----------
    width : int
        Channels of the first stage; each later one has twice as many.
    blocks : int
        Basic blocks of each stage: 2 as in ResNet-18, 1 as in ResNet-10.

    Examples
    --------
    >>> Body(8, 1)(torch.rand(2, 1, 96, 96)).shape
    torch.Size([2, 64, 3, 3])
    """

    def __init__(self, width: int, blocks: int) -> None:
        stem = nn.Sequential(nn.Conv2d(1, width, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        stages: OrderedDict[str, nn.Module] = OrderedDict(stem=stem)
        before = width
        for number in range(4):
            after = width * 2**number
            first = BasicBlock(before, after, stride=2, downsample=_shortcut(before, after))
            others = [BasicBlock(after, after) for _ in range(blocks - 1)]
            stages[f"layer{number + 1}"], before = nn.Sequential(first, *others), after
        super().__init__(stages)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def _shortcut(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, after, 1, stride=2, bias=False), nn.BatchNorm2d(after))


def make_detector(*, width: int, blocks: int, channels: int, size: int = 96, **settings: Any) -> RetinaNet:
    """Build torchvision's RetinaNet for scenes of digits, with anchors that match digits.

    Parameters
    ----------
    width, blocks : int
        As in `Body`.
    channels : int
        Channels of each level of the feature pyramid.
    size : int
        Pixels of a scene's side. torchvision would enlarge pictures to 800 pixels unless told otherwise.
    **settings
        Other arguments of ``RetinaNet``, such as ``score_thresh``.

    Returns
    -------
    RetinaNet
        Ten classes, the digits, without a class for the background.

    Examples
    --------
    >>> detector = make_detector(width=8, blocks=1, channels=24).eval()
    >>> sorted(detector([torch.rand(1, 96, 96)])[0])
    ['boxes', 'labels', 'scores']
    """
    body = Body(width, blocks)
    stages = {"layer2": "8", "layer3": "16", "layer4": "32"}
    backbone = BackboneWithFPN(body, stages, [2 * width, 4 * width, 8 * width], channels, extra_blocks=_NoMoreLevels())
    sizes = tuple(tuple(base * 2 ** (third / 3) for third in range(3)) for base in (12, 24, 48))
    return RetinaNet(
        backbone, 10, min_size=size, max_size=size, image_mean=[0.0], image_std=[1.0],
        anchor_generator=AnchorGenerator(sizes, (RATIOS,) * len(sizes)), **settings,
    )  # fmt: skip


def make_teacher_detector() -> RetinaNet:
    """Build the teacher: ResNet-18 of width 16, a pyramid of 64 channels.

    Examples
    --------
    >>> sum(p.numel() for p in make_teacher_detector().parameters())
    1169380
    """
    return make_detector(width=16, blocks=2, channels=64)


def make_student_detector() -> RetinaNet:
    """Build the student: ResNet-10 of width 8, a pyramid of 24 channels.

    Notes
    -----
    torchvision begins the four layers of each head with weights of standard deviation 0.01, made for 256 channels. With
    24, each layer would hand on about a tenth of what it gets, and the heads would hear nothing for thousands of steps.
    So these layers begin as He et al. (2015), arXiv:1502.01852, propose.

    Examples
    --------
    >>> sum(p.numel() for p in make_student_detector().parameters())
    155564
    """
    student = make_detector(width=8, blocks=1, channels=24)
    heads: Any = student.head
    for head in (heads.classification_head, heads.regression_head):
        for module in head.conv.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    return student


class DetectorOutputs(NamedTuple):
    """What a detector says before anything is thrown away: the places at which a student can listen.

    Attributes
    ----------
    levels : dict of Tensor
        The pyramid's maps (B, C, H, W) by stride.
    class_logits : Tensor, shape (B, A, 10)
        For each of A anchors.
    boxes : Tensor, shape (B, A, 4)
        Regression outputs, relative to the anchors.
    anchors : tuple of Tensor, each of shape (A, 4)
        Boxes of the anchors in pixels, one tensor per picture.
    targets : list of dict
        As they came, in the scale of the pictures inside.

    Examples
    --------
    >>> outputs = run_detector(make_student_detector(), [torch.rand(1, 96, 96)])
    >>> outputs.class_logits.shape, list(outputs.levels)
    (torch.Size([1, 1134, 10]), ['8', '16', '32'])
    """

    levels: dict[str, Tensor]
    class_logits: Tensor
    boxes: Tensor
    anchors: tuple[Tensor, ...]
    targets: list[dict[str, Tensor]]


def run_detector(
    detector: RetinaNet, images: Sequence[Tensor], targets: Sequence[dict[str, Tensor]] | None = None
) -> DetectorOutputs:
    """Run transform, backbone and head by hand: ``detector(images)`` gives losses or final boxes only.

    Parameters
    ----------
    detector : RetinaNet
    images : sequence of Tensor, shape (1, H, W)
    targets : sequence of dict, optional
        True ``boxes`` and ``labels``.

    Raises
    ------
    ValueError
        If there are no images, another number of targets, or a box without area.

    Examples
    --------
    >>> run_detector(make_student_detector(), [torch.rand(1, 96, 96)]).boxes.shape
    torch.Size([1, 1134, 4])
    """
    if len(images) == 0 or (targets is not None and len(targets) != len(images)):
        raise ValueError(
            f"a detector needs images, and one target for each, got {len(images)} images and "
            f"{'no' if targets is None else len(targets)} targets."
        )
    for place, target in enumerate(targets or ()):
        if (target["boxes"][:, 2:] <= target["boxes"][:, :2]).any():
            raise ValueError(f"target {place} has a box of no area: x2 must be above x1, and y2 above y1.")
    batch, moved = detector.transform(list(images), None if targets is None else [dict(t) for t in targets])
    levels = detector.backbone(batch.tensors)
    heads = detector.head(list(levels.values()))
    anchors = detector.anchor_generator(batch, list(levels.values()))
    return DetectorOutputs(dict(levels), heads["cls_logits"], heads["bbox_regression"], tuple(anchors), moved or [])


def match_anchors(detector: RetinaNet, outputs: DetectorOutputs) -> Tensor:
    """Return which object each anchor has to find, as the detector's own loss sees it.

    Parameters
    ----------
    detector : RetinaNet
    outputs : DetectorOutputs
        With targets.

    Returns
    -------
    Tensor of int64, shape (B, A)
        Place of the object among the picture's targets; below 0 for background and for anchors in between.

    Examples
    --------
    >>> target = {"boxes": torch.tensor([[10.0, 10.0, 30.0, 40.0]]), "labels": torch.tensor([7])}
    >>> detector = make_student_detector()
    >>> (match_anchors(detector, run_detector(detector, [torch.rand(1, 96, 96)], [target])) >= 0).any()
    tensor(True)
    """
    rows = []
    for anchors, target in zip(outputs.anchors, outputs.targets, strict=True):
        if len(target["boxes"]) == 0:
            rows.append(torch.full((len(anchors),), -1, dtype=torch.int64, device=anchors.device))
        else:
            rows.append(detector.proposal_matcher(box_iou(target["boxes"], anchors)))
    return torch.stack(rows)


def detector_losses(detector: RetinaNet, outputs: DetectorOutputs) -> dict[str, Tensor]:
    """Return torchvision's own losses on the labels, ``classification`` and ``bbox_regression``, for given outputs.

    Examples
    --------
    >>> target = {"boxes": torch.tensor([[10.0, 10.0, 30.0, 40.0]]), "labels": torch.tensor([7])}
    >>> detector = make_student_detector()
    >>> sorted(detector_losses(detector, run_detector(detector, [torch.rand(1, 96, 96)], [target])))
    ['bbox_regression', 'classification']
    """
    heads = {"cls_logits": outputs.class_logits, "bbox_regression": outputs.boxes}
    return detector.compute_loss(outputs.targets, heads, list(outputs.anchors))


def detect(detector: RetinaNet, images: Tensor, *, batch_size: int = 100) -> list[dict[str, Tensor]]:
    """Return what a detector finds in many pictures, in evaluation mode; the mode is restored.

    Parameters
    ----------
    detector : RetinaNet
    images : Tensor, shape (N, 1, H, W)
    batch_size : int
        Pictures in one pass.

    Returns
    -------
    list of dict
        For each picture ``boxes`` (objects, 4), ``scores`` and ``labels``, the best first.

    Examples
    --------
    >>> sorted(detect(make_student_detector(), torch.rand(1, 1, 96, 96))[0])
    ['boxes', 'labels', 'scores']
    """
    with evaluating(detector):
        return [found for part in images.split(batch_size) for found in detector(list(part))]


def mean_average_precision(
    found: Sequence[dict[str, Tensor]], targets: Sequence[dict[str, Tensor]], *, small: float | None = None
) -> dict[str, float]:
    """Measure COCO's mean average precision over the ten digits; needs ``torchmetrics`` and ``pycocotools``.

    Parameters
    ----------
    found : sequence of dict
        From `detect`.
    targets : sequence of dict
        The true ``boxes`` and ``labels``, picture by picture.
    small : float, optional
        Side in pixels below which a digit is small; from three times as much on it is large. The side is the root of
        the box's area. COCO's own limits are 32 and 96 pixels, so that every digit of a scene would be small.

    Returns
    -------
    dict
        ``mAP``, the mean over overlaps from .5 to .95, and ``AP50``, where an overlap of one half is enough; in [0, 1].
        With ``small`` also ``small``, ``medium`` and ``large``, the mAP of the digits of that size; a size without
        any digit is left out.

    Raises
    ------
    ValueError
        If the two differ in length, or ``small`` is not positive.

    Notes
    -----
    An overlap does not change if all boxes grow alike. So the boxes are enlarged by 32 / ``small``, and COCO's limits
    become ours: a metric that is known everywhere stays the one that measures.

    References
    ----------
    Lin et al. (2014), Microsoft COCO, arXiv:1405.0312; metric as in pycocotools.

    Examples
    --------
    >>> truth = {"boxes": torch.tensor([[10.0, 10.0, 30.0, 40.0]]), "labels": torch.tensor([7])}
    >>> mean_average_precision([{**truth, "scores": torch.tensor([0.9])}], [truth])
    {'mAP': 1.0, 'AP50': 1.0}
    >>> mean_average_precision([{**truth, "scores": torch.tensor([0.9])}], [truth], small=11)  # √(20·30) is 24.5
    {'mAP': 1.0, 'AP50': 1.0, 'medium': 1.0}
    """
    from torchmetrics.detection import MeanAveragePrecision

    if len(found) != len(targets):
        raise ValueError(f"one target per picture is needed, got {len(targets)} for {len(found)} pictures.")
    if small is not None and not small > 0:
        raise ValueError(f"small must be a positive number of pixels, got {small}: no side is below it.")
    metric = MeanAveragePrecision(backend="pycocotools")
    metric.warn_on_many_detections = False
    scale = 1.0 if small is None else COCO_SMALL / small
    metric.update(*([{**row, "boxes": scale * row["boxes"]} for row in rows] for rows in (found, targets)))
    values = metric.compute()
    names = {"mAP": "map", "AP50": "map_50"}
    if small is not None:
        names |= {size: f"map_{size}" for size in ("small", "medium", "large") if values[f"map_{size}"] >= 0}
    return {name: round(float(values[key]), 4) for name, key in names.items()}


class _NoMoreLevels(ExtraFPNBlock):
    """What torchvision calls after the pyramid: adds no level."""

    def forward(self, results: list[Tensor], x: list[Tensor], names: list[str]) -> tuple[list[Tensor], list[str]]:
        return results, names
