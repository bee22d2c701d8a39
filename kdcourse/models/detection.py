"""Detectors of digits: torchvision's RetinaNet over a small one-channel ResNet with a feature pyramid. Chapter 08."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.resnet import BasicBlock
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from .modes import evaluating

RATIOS = (1.0, 2.0)  # of an anchor, height to width: digits are taller than wide
LEVELS = ("8", "16", "32")  # strides: a position of the level stands for so many pixels


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

    Examples
    --------
    >>> sum(p.numel() for p in make_student_detector().parameters())
    155564
    """
    return make_detector(width=8, blocks=1, channels=24)


@torch.no_grad()
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
    found: Sequence[dict[str, Tensor]], targets: Sequence[dict[str, Tensor]]
) -> dict[str, float]:
    """Measure COCO's mean average precision over the ten digits; needs ``torchmetrics`` and ``pycocotools``.

    Parameters
    ----------
    found : sequence of dict
        From `detect`.
    targets : sequence of dict
        The true ``boxes`` and ``labels``, picture by picture.

    Returns
    -------
    dict
        ``mAP``, the mean over overlaps from .5 to .95, and ``AP50``, where an overlap of one half is enough; in [0, 1].

    Raises
    ------
    ValueError
        If the two differ in length.

    References
    ----------
    Lin et al. (2014), Microsoft COCO, arXiv:1405.0312; metric as in pycocotools.

    Examples
    --------
    >>> truth = {"boxes": torch.tensor([[10.0, 10.0, 30.0, 40.0]]), "labels": torch.tensor([7])}
    >>> mean_average_precision([{**truth, "scores": torch.tensor([0.9])}], [truth])
    {'mAP': 1.0, 'AP50': 1.0}
    """
    from torchmetrics.detection import MeanAveragePrecision

    if len(found) != len(targets):
        raise ValueError(f"one target per picture is needed, got {len(targets)} for {len(found)} pictures.")
    metric = MeanAveragePrecision(backend="pycocotools")
    metric.warn_on_many_detections = False
    metric.update(list(found), list(targets))
    values = metric.compute()
    return {"mAP": round(float(values["map"]), 4), "AP50": round(float(values["map_50"]), 4)}


class _NoMoreLevels(ExtraFPNBlock):
    """What torchvision calls after the pyramid: adds no level."""

    def forward(self, results: list[Tensor], x: list[Tensor], names: list[str]) -> tuple[list[Tensor], list[str]]:
        return results, names
