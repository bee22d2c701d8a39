"""Widget of quantisation: how many bits does a student need, and what do its weights look like then?

Chapter 12.
"""

from collections.abc import Mapping

import ipywidgets
from matplotlib.axes import Axes
from torch import Tensor, nn

from ...data.mnist import Split
from ...models import QuantisedLinear, saved_size_in_bytes
from ...plots import COLORS, INK, LINES, tidy
from ...training import count_errors
from ..canvas import Canvas, Shown
from ..controls import make_row, slider_layout, wide_layout

ROLES = ("no_teacher", "student", "kd", "label_smoothing", "ce")
FLOAT_BITS = 32


class BitsExplorer(Shown):
    """Take bits away from a student: its errors, its file, and the weights of one hidden unit.

    Parameters
    ----------
    original : nn.Module
        The student with floating-point weights, whose first linear layer takes the 784 pixels. Not changed.
    quantised : mapping from str to mapping from int to nn.Module
        For each method, one to five, a model of ``quantise_model`` for each number of bits; the same numbers for all.
    data : Split
        Images and labels on which errors are counted.

    Attributes
    ----------
    bits, method, unit : ipywidgets.Widget
        The controls. A cell moves one by setting its ``.value``.
    error_counts, sizes : dict from (str, int) to int
        Errors and bytes of the file, by method and bits; the original is at 32 bits under every method.
    canvas : Canvas

    Raises
    ------
    ValueError
        If there is no method or more than five, they differ in bits, or the first layer does not take 784 pixels.
    """

    about = "The bits explorer, live when the notebook runs."

    def __init__(self, original: nn.Module, quantised: Mapping[str, Mapping[int, nn.Module]], data: Split) -> None:
        super().__init__()
        choices = {tuple(sorted(models, reverse=True)) for models in quantised.values()}
        if not 1 <= len(quantised) <= len(ROLES) or len(choices) != 1:
            raise ValueError(
                f"the explorer needs one to {len(ROLES)} methods with the same bits, got {len(quantised)} methods and "
                f"{len(choices)} lists of bits."
            )
        self._bits = (FLOAT_BITS, *choices.pop())
        self._models = {(name, FLOAT_BITS): original for name in quantised}
        self._models |= {(name, bits): model for name, models in quantised.items() for bits, model in models.items()}
        self._weights = {key: _first_weights(model) for key, model in self._models.items()}
        if any(weights.shape[1] != 784 for weights in self._weights.values()):
            raise ValueError("the first linear layer must take the 784 pixels: its weights are shown as an image.")
        counted = {id(model): count_errors(model, *data) for model in self._models.values()}
        self.error_counts = {key: counted[id(model)] for key, model in self._models.items()}
        self.sizes = {key: saved_size_in_bytes(model) for key, model in self._models.items()}
        self._total = len(data.labels)
        self._make_controls(list(quantised))
        self._make_picture()
        self.follow(self.bits, self.method, self.unit, action=self._draw)
        controls = ipywidgets.VBox([make_row(self.bits, self.method), self.unit])
        self.widget = ipywidgets.VBox([controls, self.canvas.widget, self.status])
        self._draw()

    def _make_controls(self, names: list[str]) -> None:
        labels = [("32, floating-point" if bits == FLOAT_BITS else str(bits), bits) for bits in self._bits]
        self.bits = ipywidgets.SelectionSlider(options=labels, description="bits", layout=slider_layout())
        self.method = ipywidgets.Dropdown(options=names, description="method", layout=wide_layout(360))
        units = len(next(iter(self._weights.values())))
        self.unit = ipywidgets.IntSlider(0, 0, units - 1, description="hidden unit", layout=slider_layout())

    def _make_picture(self) -> None:
        self.canvas = Canvas(9.2, 3.3)
        self._make_trade(tidy(self.canvas.add_axes(0.075, 0.17, 0.30, 0.70)))
        self._make_levels(tidy(self.canvas.add_axes(0.445, 0.17, 0.23, 0.70)))
        self._images = []
        for place, title in enumerate(("floating-point", "rounded")):
            image = self.canvas.add_image(0.70 + 0.15 * place, 0.25, 0.14, 0.5)
            image.axes.set_title(title, fontsize=9, color=INK)
            self._images.append(image)
        self.canvas.moving(*self._images)

    def _make_trade(self, ax: Axes) -> None:
        names = list(dict.fromkeys(name for name, _ in self._models))
        for name, role in zip(names, ROLES, strict=False):
            points = [(self.sizes[name, bits] / 1000, self.error_counts[name, bits]) for bits in self._bits]
            ax.plot(*zip(*points, strict=True), label=name, markersize=4, linewidth=1.4, **LINES[role])
        ax.set(xscale="log", yscale="log", xlabel="file, kB", ylabel=f"errors of {self._total:,}")
        ax.minorticks_off()
        sizes = [self.sizes[names[0], bits] / 1000 for bits in self._bits]
        ax.set_xticks(sizes[:1] + sizes[1::2], [f"{size:.0f}" for size in sizes[:1] + sizes[1::2]])
        low, high = min(self.error_counts.values()), max(self.error_counts.values())
        ticks = [tick for tick in (50, 100, 200, 500, 1000, 2000, 5000, 10_000) if 0.7 * low <= tick <= 1.4 * high]
        ax.set_yticks(ticks, [f"{tick:,}" for tick in ticks])
        ax.legend(frameon=False, fontsize=8, labelcolor=INK, loc="upper right")
        (self._ring,) = ax.plot([], [], "o", color=COLORS["fork"], markersize=12, markerfacecolor="none")
        self._ring.set_markeredgewidth(2.4)
        self.canvas.moving(self._ring)

    def _make_levels(self, ax: Axes) -> None:
        self._levels_axes = ax
        ax.set(xlabel="weight before rounding", ylabel="weight after rounding")
        (self._staircase,) = ax.plot([], [], ".", color=COLORS["student"], markersize=3)
        self._title = ax.set_title("", fontsize=9, color=INK)
        self._limit = 1.05 * max(float(weights.abs().max()) for weights in self._weights.values())
        ax.set(xlim=(-self._limit, self._limit), ylim=(-self._limit, self._limit))
        self.canvas.moving(self._staircase, self._title)

    def _draw(self) -> None:
        key, unit = (self.method.value, self.bits.value), self.unit.value
        before, after = self._weights[self.method.value, FLOAT_BITS][unit], self._weights[key][unit]  # (784,)
        self._staircase.set_data(before.numpy(), after.numpy())
        levels = len(after.unique())
        self._title.set_text(f"unit {unit}: {levels} different weights")
        largest = float(before.abs().max())
        for image, row in zip(self._images, (before, after), strict=True):
            image.set_data((row / (2 * largest) + 0.5).clamp(0, 1).view(28, 28).numpy())
        self._ring.set_data([self.sizes[key] / 1000], [self.error_counts[key]])
        self.canvas.draw(
            method=self.method.value,
            bits=self.bits.value,
            unit=unit,
            errors=self.error_counts[key],
            bytes=self.sizes[key],
        )
        self._tell(key, levels)

    def _tell(self, key: tuple[str, int], levels: int) -> None:
        name, bits = key
        share = self.sizes[key] / self.sizes[name, FLOAT_BITS]
        what = "Floating-point weights" if bits == FLOAT_BITS else f"<b>{bits} bits, {name}</b>"
        self.status.value = (
            f"{what}: <b>{self.error_counts[key]:,} errors</b> of {self._total:,}, a file of "
            f"{self.sizes[key] / 1000:,.1f} kB, {100 * share:.0f} % of the original's. The unit's 784 weights have "
            f"{levels} different values."
        )


def _first_weights(model: nn.Module) -> Tensor:
    """Return the weights of a model's first linear layer as it computes with them, shape (units, inputs)."""
    for module in model.modules():
        if isinstance(module, QuantisedLinear):
            return module.dequantise().cpu()
        if isinstance(module, nn.Linear):
            return module.weight.detach().cpu()
    raise ValueError(f"{type(model).__name__} has no linear layer whose weights could be shown.")
