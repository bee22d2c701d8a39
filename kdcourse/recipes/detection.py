"""Distilling a detector: what the teacher says, kept once, and an objective of its class, box and pyramid terms.

Chapter 08. Import it by its own name: torchvision's detectors take a second to load, so ``kdcourse.recipes`` leaves it
out.
"""

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection import RetinaNet

from ..data.scenes import unpacked
from ..losses import FPNAdapters, box_regression_loss, detection_classification_loss, fpn_feature_loss
from ..models import evaluating
from ..models.detection import (
    LEVELS,
    DetectorOutputs,
    detector_losses,
    make_student_detector,
    match_anchors,
    run_detector,
)


def remember_detector(teacher: RetinaNet, images: Tensor, *, batch_size: int = 50) -> tuple[Tensor, ...]:
    """Run a teacher over fixed pictures once, and keep what a student can listen to.

    Parameters
    ----------
    teacher : RetinaNet
    images : Tensor, shape (N, 1, H, W)
        Without augmentation, or the outputs would belong to other pictures.
    batch_size : int
        Pictures in one pass.

    Returns
    -------
    tuple of Tensor
        Class logits (N, A, 10), boxes (N, A, 4) and a map (N, C, H, W) for each level, all in half precision and in
        the order of the pictures: a scene of 96 pixels takes 56 kB.

    Examples
    --------
    >>> from kdcourse.models.detection import make_student_detector
    >>> [tuple(part.shape) for part in remember_detector(make_student_detector(), torch.rand(2, 1, 96, 96))][:3]
    [(2, 1134, 10), (2, 1134, 4), (2, 24, 12, 12)]
    """
    rows = []
    with evaluating(teacher):
        for part in images.split(batch_size):
            outputs = run_detector(teacher, list(part))
            rows.append([x.half() for x in (outputs.class_logits, outputs.boxes, *outputs.levels.values())])
    return tuple(torch.cat(parts) for parts in zip(*rows, strict=True))


def make_adapters(
    student: RetinaNet, teacher: RetinaNet | Mapping[str, int], *, levels: tuple[str, ...] = LEVELS
) -> FPNAdapters:
    """Make the learned layers between two pyramids, for all levels or some.

    Parameters
    ----------
    student : RetinaNet
    teacher : RetinaNet, or mapping from str to int
        The teacher, or its channels by level.
    levels : tuple of str
        Strides of the levels that the student shall imitate.

    Examples
    --------
    >>> from kdcourse.models.detection import make_student_detector, make_teacher_detector
    >>> make_adapters(make_student_detector(), make_teacher_detector(), levels=("8",)).names
    ['8']
    """
    if unknown := set(levels) - set(LEVELS):
        raise ValueError(f"the pyramid has the levels {', '.join(LEVELS)}, got {', '.join(sorted(unknown))}.")
    channels = teacher if isinstance(teacher, Mapping) else dict.fromkeys(LEVELS, teacher.backbone.out_channels)
    return FPNAdapters(
        dict.fromkeys(levels, student.backbone.out_channels), {level: channels[level] for level in levels}
    )


def detection_objective(
    student: RetinaNet,
    images: Tensor,
    boxes: Tensor,
    labels: Tensor,
    *remembered: Tensor,
    class_weight: float = 0.0,
    box_weight: float = 0.0,
    pyramid_weight: float = 0.0,
    adapters: FPNAdapters | None = None,
) -> dict[str, Tensor]:
    """Learn from labels and from what a teacher said about the same pictures: an objective for ``train`` and ``fit``.

    Parameters
    ----------
    student : RetinaNet
    images, boxes, labels : Tensor
        A batch of packed scenes, from ``Scenes.packed``.
    *remembered : Tensor
        The batch's part of what `remember_detector` returned. A student that learns from labels only needs none.
    class_weight, box_weight, pyramid_weight : float
        Weights of the teacher's terms, added to the two losses on the labels. With 0 a term is not computed.
    adapters : FPNAdapters, optional
        From `make_adapters`, for the pyramid's term. Their levels are the ones imitated; their parameters belong in
        the optimizer.

    Returns
    -------
    dict of Tensor
        ``classification`` and ``bbox_regression`` on the labels, and ``class``, ``box`` and ``pyramid`` as asked for.

    Raises
    ------
    ValueError
        If a weight asks for the teacher and nothing was remembered, or for the pyramid without adapters.

    Examples
    --------
    >>> from kdcourse.data.scenes import load_scenes
    >>> from kdcourse.models.detection import make_student_detector
    >>> student, teacher = make_student_detector(), make_student_detector()
    >>> scenes = load_scenes(train=2, held_out=1, test=1).train
    >>> batch = (*scenes.packed(), *remember_detector(teacher, scenes.images))
    >>> sorted(detection_objective(student, *batch, class_weight=1.0, box_weight=1.0))
    ['bbox_regression', 'box', 'class', 'classification']
    """
    if (class_weight or box_weight or pyramid_weight) and not remembered:
        raise ValueError(
            "the terms need what the teacher said: pass the batch's part of remember_detector(teacher, images)."
        )

    if pyramid_weight and adapters is None:
        raise ValueError(
            "the pyramid's term compares 24 channels with 64: pass adapters=make_adapters(student, teacher)."
        )
    outputs = run_detector(student, *unpacked(images, boxes, labels))
    terms = detector_losses(student, outputs)
    if not (class_weight or box_weight or pyramid_weight):
        return terms
    teacher_logits, teacher_boxes, *teacher_maps = (part.float() for part in remembered)
    matched = match_anchors(student, outputs)  # (B, A)
    foreground = matched >= 0
    if class_weight:
        term = detection_classification_loss(outputs.class_logits, teacher_logits, foreground=foreground)
        terms["class"] = class_weight * term
    if box_weight:
        truth = box_targets(student, outputs, matched)  # (B, A, 4)
        term = box_regression_loss(outputs.boxes, teacher_boxes, truth, foreground=foreground)
        terms["box"] = box_weight * term
    if pyramid_weight and adapters is not None:
        levels = dict(zip(LEVELS, teacher_maps, strict=True))
        adapted = adapters({name: outputs.levels[name] for name in adapters.names})
        terms["pyramid"] = pyramid_weight * fpn_feature_loss(adapted, {name: levels[name] for name in adapters.names})
    return terms


def box_targets(detector: Any, outputs: DetectorOutputs, matched: Tensor) -> Tensor:
    """Return the true box of each anchor in the detector's own encoding: shifts and logarithms of ratios of sides.

    Parameters
    ----------
    detector : RetinaNet
    outputs : DetectorOutputs
        With targets.
    matched : Tensor of int64, shape (B, A)
        From `match_anchors`.

    Returns
    -------
    Tensor, shape (B, A, 4)
        0 where an anchor has no object.

    Examples
    --------
    >>> from kdcourse.models.detection import make_student_detector
    >>> target = {"boxes": torch.tensor([[10.0, 10.0, 30.0, 40.0]]), "labels": torch.tensor([7])}
    >>> detector = make_student_detector()
    >>> outputs = run_detector(detector, [torch.rand(1, 96, 96)], [target])
    >>> box_targets(detector, outputs, match_anchors(detector, outputs)).shape
    torch.Size([1, 1134, 4])
    """
    coder, rows = detector.head.regression_head.box_coder, []
    for anchors, target, places in zip(outputs.anchors, outputs.targets, matched, strict=True):
        row, inside = torch.zeros_like(anchors), places >= 0  # (A, 4), (A,)
        row[inside] = coder.encode_single(target["boxes"][places[inside]], anchors[inside])
        rows.append(row)
    return torch.stack(rows)


def recorded_students(path: str | Path | None = None) -> dict[str, list[RetinaNet]]:
    """Load the students that ``python -m experiments.detection`` has trained and the package ships.

    Parameters
    ----------
    path : path, optional
        Another file of that experiment.

    Returns
    -------
    dict from str to list of RetinaNet
        By arm, such as ``"no_teacher"``, a student for each seed, in evaluation mode.

    Raises
    ------
    ValueError
        If the file is missing or holds something else.

    Examples
    --------
    >>> recorded_students("nowhere.safetensors")
    Traceback (most recent call last):
    ...
    ValueError: the students' file nowhere.safetensors is missing or damaged (...
    """
    from safetensors.torch import load

    file = resources.files("kdcourse") / "records" / "detection_students.safetensors" if path is None else Path(path)
    found: dict[str, dict[str, dict[str, Tensor]]] = {}
    try:
        for key, value in load(file.read_bytes()).items():
            arm, seed, name = key.split("/")
            found.setdefault(arm, {}).setdefault(seed, {})[name] = value
    except Exception as error:
        raise ValueError(f"the students' file {file} is missing or damaged ({str(error)[:200]}).") from None
    return {arm: [_student(found[arm][seed]) for seed in sorted(found[arm])] for arm in found}


def _student(state: Mapping[str, Tensor]) -> RetinaNet:
    student = make_student_detector()
    student.load_state_dict({key: x.float() if x.is_floating_point() else x for key, x in state.items()})
    return student.eval()
