"""Widget of detectors: one scene, the true boxes and what each detector finds above a score. Chapter 08."""

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

import ipywidgets
import torch
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.text import Text
from torch import Tensor

from ...data.scenes import Scenes
from ...plots import COLORS, INK, PAPER
from ..canvas import Canvas, Shown
from ..controls import make_row, slider_layout

MOST, OVERLAP = 12, 0.5  # boxes drawn in a picture; share of the union that counts as found
HEIGHT = 7  # of a box's words, in pixels of the scene
Found = Sequence[dict[str, Tensor]]


class BoxesExplorer(Shown):
    """Move the score above which a box counts, and see what each detector finds in a scene.

    Parameters
    ----------
    scenes : Scenes
        Pictures with true boxes.
    found : mapping from str to sequence of dict
        One to three detectors by name, each with what ``detect`` returned for these scenes.
    scene : int
        Place of the scene at the start.
    threshold : float
        Score at the start, in [0.05, 0.95].

    Attributes
    ----------
    threshold, scene : ipywidgets.Widget
        The controls. A cell moves one by setting its ``.value``.
    counts : dict from str to (int, int, int)
        For each detector: digits found, digits missed, boxes that show nothing, in this scene.
    found : mapping from str to sequence of dict
        As given.
    canvas : Canvas

    Raises
    ------
    ValueError
        If there are no detectors or more than three, one has another number of scenes, or a number is out of range.

    Notes
    -----
    A box finds a digit if the class is right and the two boxes share at least half of their union. Each digit is found
    once, by the box with the highest score.
    """

    about = "The boxes explorer, live when the notebook runs."

    def __init__(self, scenes: Scenes, found: Mapping[str, Found], *, scene: int = 0, threshold: float = 0.5) -> None:
        super().__init__()
        if not 1 <= len(found) <= 3:
            raise ValueError(f"the explorer draws one to three detectors, got {len(found)}.")
        for name, rows in found.items():
            if len(rows) != len(scenes.targets):
                raise ValueError(f"{name!r} has results for {len(rows)} scenes, there are {len(scenes.targets)}.")
        if not 0 <= scene < len(scenes.targets) or not 0.05 <= threshold <= 0.95:
            raise ValueError(
                f"scene must be from 0 to {len(scenes.targets) - 1} and threshold from 0.05 to 0.95, got {scene} and "
                f"{threshold}."
            )
        self._scenes, self.found = scenes, found
        self.threshold = ipywidgets.FloatSlider(
            value=threshold, min=0.05, max=0.95, step=0.01, description="score above", readout_format=".2f",
            layout=slider_layout(),
        )  # fmt: skip
        self.scene = ipywidgets.IntSlider(
            value=scene, min=0, max=len(scenes.targets) - 1, description="scene", layout=slider_layout()
        )
        self._make_picture()
        self.follow(self.threshold, self.scene, action=self._draw)
        self.widget = ipywidgets.VBox([make_row(self.threshold, self.scene), self.canvas.widget, self.status])
        self._draw()

    def _make_picture(self) -> None:
        names = ["the truth", *self.found]
        width, size = 1 / len(names), self._scenes.images.shape[-1]
        self.canvas = Canvas(2.4 * len(names), 2.7)
        self._pictures: list[AxesImage] = []
        self._boxes: list[list[Rectangle]] = []
        self._texts: list[list[Text]] = []
        for place, name in enumerate(names):
            picture = self.canvas.add_image(place * width + 0.01, 0.03, width - 0.02, 0.82, rows=size, columns=size)
            picture.axes.set_title(name, fontsize=10, color=INK)
            self._pictures.append(picture)
            self._boxes.append([Rectangle((0, 0), 1, 1, fill=False) for _ in range(MOST)])
            for rectangle in self._boxes[-1]:
                picture.axes.add_patch(rectangle)
            halo = [withStroke(linewidth=2.5, foreground=PAPER)]  # legible on ink, too
            style: dict[str, Any] = {"fontsize": 8, "va": "bottom", "weight": "bold", "path_effects": halo}
            self._texts.append([picture.axes.text(0, 0, "", **style) for _ in range(MOST)])
        parts = [part for group in (self._boxes, self._texts) for panel in group for part in panel]
        self.canvas.moving(*self._pictures, *parts)

    def _draw(self) -> None:
        scene, threshold = self.scene.value, self.threshold.value
        image, target = self._scenes.images[scene, 0], self._scenes.targets[scene]
        for picture in self._pictures:
            picture.set_data(image.numpy())
        truth = [(box, str(label), COLORS["ce"], "-") for box, label in zip(*_lists(target), strict=True)]
        self._put(0, truth)
        self.counts = {}
        for place, (name, rows) in enumerate(self.found.items(), start=1):
            kept = {key: value[rows[scene]["scores"] >= threshold] for key, value in rows[scene].items()}
            right = find_pairs(kept, target)
            shown = [
                (box, f"{label} {score:.2f}", COLORS["student" if hit >= 0 else "kd"], "-" if hit >= 0 else "--")
                for box, label, score, hit in zip(*_lists(kept), kept["scores"].tolist(), right, strict=True)
            ]
            self._put(place, shown)
            hits = sum(hit >= 0 for hit in right)
            self.counts[name] = (hits, len(target["labels"]) - hits, len(right) - hits)
        said: dict[str, int] = {}
        for name, (hits, _, false) in self.counts.items():
            key = name.replace(" ", "_")
            said |= {f"{key}_found": hits, f"{key}_wrong": false}
        self.canvas.draw(scene=scene, threshold=threshold, **said)
        self._tell(len(target["labels"]))

    def _put(self, place: int, shown: Sequence[tuple[list[float], str, str, str]]) -> None:
        for rectangle, text, item in zip_longest(self._boxes[place], self._texts[place], shown[:MOST]):
            there = item is not None
            rectangle.set_visible(there)
            text.set_visible(there)
            if there:
                (x1, y1, x2, y2), words, color, line = item
                rectangle.set_bounds(x1 - 0.5, y1 - 0.5, x2 - x1, y2 - y1)
                rectangle.set(edgecolor=color, linestyle=line, linewidth=1.6)
                above = y1 > HEIGHT  # at the upper edge the words stand inside the box: the title is above
                place_of_words = (x1 - 0.5, y1 - 1) if above else (x1 + 0.5, y1 + 0.5)
                text.set(position=place_of_words, va="bottom" if above else "top", text=words, color=color)

    def _tell(self, digits: int) -> None:
        parts = [
            f"{name}: {hits} of {digits} digits found, {false} wrong {'box' if false == 1 else 'boxes'}"
            for name, (hits, _, false) in self.counts.items()
        ]
        self.status.value = (
            f"Boxes with a score of at least {self.threshold.value:.2f}. {'. '.join(parts)}. Blue boxes are right, "
            "brown dashed ones are not."
        )


def find_pairs(found: dict[str, Tensor], target: dict[str, Tensor], *, overlap: float = OVERLAP) -> list[int]:
    """Return for each box, the best scores first, the place of the digit that it finds, or -1.

    Parameters
    ----------
    found, target : dict of Tensor
        With ``boxes`` (objects, 4) and ``labels``.
    overlap : float
        Least share of the union of two boxes.

    Examples
    --------
    >>> truth = {"boxes": torch.tensor([[0.0, 0.0, 10.0, 10.0]]), "labels": torch.tensor([7])}
    >>> twice = {"boxes": truth["boxes"].repeat(2, 1), "labels": torch.tensor([7, 7])}
    >>> find_pairs(twice, truth)
    [0, -1]
    """
    free, pairs = set(range(len(target["labels"]))), []
    for box, label in zip(found["boxes"], found["labels"], strict=True):
        shares = {place: _share(box, target["boxes"][place]) for place in free if target["labels"][place] == label}
        best = max(shares, key=lambda place: shares[place], default=-1)
        pairs.append(best if best >= 0 and shares[best] >= overlap else -1)
        free.discard(pairs[-1])
    return pairs


def _share(one: Tensor, other: Tensor) -> float:
    """Return the share of the union that two boxes have in common."""
    sides = (torch.minimum(one[2:], other[2:]) - torch.maximum(one[:2], other[:2])).clamp(min=0)
    common = float(sides.prod())
    areas = float((one[2:] - one[:2]).prod() + (other[2:] - other[:2]).prod())
    return common / (areas - common)


def _lists(part: dict[str, Tensor]) -> tuple[list[list[float]], list[int]]:
    return part["boxes"].tolist(), part["labels"].tolist()
