"""Widget of one bias: a class that a student never saw is answered once the bias of its logit is raised.

Chapter 02. Letters: N images, K classes.
"""

from functools import partial

import ipywidgets
import torch
from matplotlib.axes import Axes
from torch import Tensor, nn

from ...data.mnist import Split
from ...plots import COLORS, INK, LINES, tidy
from ...training import predict_logits
from ..canvas import Canvas, Shown
from ..controls import slider_layout

COLUMNS, CELL_WIDTH, CELL_HEIGHT = 10, 31, 54  # digits in a row; pixels of a digit with the gap and the words below it
SHOWN = 2 * COLUMNS
HIGHEST, STEP = 12.0, 0.25  # of the slider


class BiasExplorer(Shown):
    """Raise the bias of one class, and watch its missed images turn into found ones and other images get lost.

    Parameters
    ----------
    student : nn.Module
        Network with a logit for each class. Not changed.
    data : Split
        Images and labels that errors are counted on. A learner chooses by looking, so ``mnist.held_out``, not ``test``.
    digit : int
        Class whose bias is raised.
    bias : float
        What is added at the start, from 0 to 12.

    Attributes
    ----------
    bias : ipywidgets.FloatSlider
        What is added to the bias. A cell moves it by setting its ``.value``.
    shown : Tensor of int, shape (20,)
        Images of the class that are drawn: the first ten that the student finds as it is, then the first ten that it
        misses. Fewer of the one leave room for more of the other.
    found, taken, wrong : int
        Images of the class that are found; images of other classes that are taken for it; all errors.
    canvas : Canvas

    Raises
    ------
    ValueError
        If the data have no image of the class, or the bias is not on the slider.

    Notes
    -----
    The logits are computed once. An image is answered with the class as soon as what is added exceeds the distance of
    the class's logit from the largest other one.

    Examples
    --------
    >>> from kdcourse.data import load_mnist
    >>> from kdcourse.models import make_student_mlp
    >>> explorer = BiasExplorer(make_student_mlp(), load_mnist().held_out.take(500))
    >>> few = explorer.found
    >>> explorer.bias.value = 12
    >>> explorer.found > few
    True
    >>> explorer.close()
    """

    about = "The bias explorer, live when the notebook runs."

    def __init__(self, student: nn.Module, data: Split, *, digit: int = 3, bias: float = 0.0) -> None:
        super().__init__()
        images, labels = data
        if not 0 <= bias <= HIGHEST:
            raise ValueError(f"bias must be from 0 to {HIGHEST:g} on the slider, got {bias}: it is added to a logit.")
        self.digit, self._labels = digit, labels.cpu()
        self._is_digit = self._labels == digit  # (N,)
        if not bool(self._is_digit.any()):
            raise ValueError(f"the data have no image of a {digit}: there is nothing to find.")
        logits = self._logits = predict_logits(student, images).cpu()  # (N, K)
        others = logits.clone()
        others[:, digit] = -torch.inf
        best, self._other = others.max(dim=1)  # (N,) each: the strongest other class
        self._needed = best - logits[:, digit]  # (N,): the class is answered once more than this is added
        self.shown = self._choose_shown()
        self._images = images[self.shown.to(images.device)].cpu()  # (20, 1, 28, 28)
        self.bias = ipywidgets.FloatSlider(
            value=bias, min=0, max=HIGHEST, step=STEP, description=f"bias of {digit}", readout_format=".2f",
            layout=slider_layout(),
        )  # fmt: skip
        self._make_picture()
        self.follow(self.bias, action=self._draw)
        self.widget = ipywidgets.VBox([self.bias, self.canvas.widget, self.status])
        self._draw()

    def probabilities(self) -> Tensor:
        """Return the probability of the class for each shown image, with what is added to its bias; (20,)."""
        logits = self._logits[self.shown].clone()  # (20, K)
        logits[:, self.digit] += self.bias.value
        return logits.softmax(dim=1)[:, self.digit]

    def _choose_shown(self) -> Tensor:
        found, missed = (
            torch.nonzero(self._is_digit & answered)[:, 0] for answered in (self._needed < 0, self._needed >= 0)
        )
        of_missed = min(len(missed), max(COLUMNS, SHOWN - len(found)))
        return torch.cat([found[: SHOWN - of_missed], missed[:of_missed]])

    def _count(self, bias: float) -> tuple[int, int, int]:
        """Return the found images, those of other classes that are taken for the class, and all errors."""
        answered = self._needed < bias  # (N,)
        found = int((answered & self._is_digit).sum())
        taken = int((answered & ~self._is_digit).sum())
        confused = int((~answered & ~self._is_digit & (self._other != self._labels)).sum())
        return found, taken, int(self._is_digit.sum()) - found + taken + confused

    def _make_picture(self) -> None:
        self.canvas = Canvas(9.2, 3.2)
        rows = -(-len(self.shown) // COLUMNS)
        sheet = torch.zeros(CELL_HEIGHT * rows, CELL_WIDTH * COLUMNS)
        picture = self.canvas.add_image(0.005, 0.08, 0.56, 0.80, rows=sheet.shape[0], columns=sheet.shape[1])
        self._answers, self._shares = [], []
        for place, image in enumerate(self._images):
            top, left = CELL_HEIGHT * (place // COLUMNS), CELL_WIDTH * (place % COLUMNS)
            sheet[top : top + 28, left : left + 28] = image[0]
            words = partial(picture.axes.text, left + 14, s="", ha="center", va="center", fontsize=9)
            self._answers.append(words(top + 34, weight="bold"))
            self._shares.append(words(top + 45, color=INK))
        picture.set_data(sheet.numpy())
        self._title = picture.axes.set_title("", fontsize=9.5, color=INK)
        self._make_chart(tidy(self.canvas.add_axes(0.645, 0.17, 0.335, 0.68)))
        self.canvas.words(self._title, *self._answers, *self._shares)
        self.canvas.moving(self._now, *self._points)

    def _make_chart(self, ax: Axes) -> None:
        biases = [STEP * step for step in range(round(HIGHEST / STEP) + 1)]
        counts = [self._count(bias) for bias in biases]
        missed = [int(self._is_digit.sum()) - found for found, _, _ in counts]
        errors = [count for _, _, count in counts]
        lines = {
            "all errors": (errors, "student"),
            f"missed {self.digit}s": (missed, "kd"),
            "on other digits": ([a - b for a, b in zip(errors, missed, strict=True)], "no_teacher"),
        }
        self._points = []
        for name, (values, role) in lines.items():
            ax.plot(biases, values, label=name, linewidth=1.6, **{**LINES[role], "marker": ""})
            self._points += ax.plot([], [], "o", color=COLORS[role], markersize=7)
        ax.set(xlim=(0, HIGHEST), ylim=(0, 1.05 * max(errors)), xlabel=f"added to the bias of class {self.digit}")
        ax.set_ylabel(f"errors of {len(self._labels):,}", labelpad=3)
        ax.legend(frameon=False, fontsize=8.5, labelcolor=INK, loc="lower left", bbox_to_anchor=(-0.06, 1.0), ncols=3,
                  handlelength=1.6, columnspacing=1.0, handletextpad=0.5)  # fmt: skip
        self._now = ax.axvline(0, color=INK, linewidth=0.8, linestyle=":")

    def _draw(self) -> None:
        bias, total = self.bias.value, int(self._is_digit.sum())
        self.found, self.taken, self.wrong = self._count(bias)
        right = self._needed[self.shown] < bias  # (20,)
        others = self._other[self.shown].tolist()
        for text, share in zip(self._shares, self.probabilities().tolist(), strict=True):
            text.set_text(tell_share(share))
        for text, is_found, other in zip(self._answers, right.tolist(), others, strict=True):
            text.set_text(f"✓ {self.digit}" if is_found else f"→ {other}")
            text.set_color(COLORS["student"] if is_found else COLORS["kd"])
        self._title.set_text(
            f"found: {self.found:,} of {total:,}     ✓ found   → the answer instead   %: probability of {self.digit}"
        )
        missed = total - self.found
        for point, count in zip(self._points, (self.wrong, missed, self.wrong - missed), strict=True):
            point.set_data([bias], [count])
        self._now.set_xdata([bias, bias])
        self.canvas.draw(bias=bias, found=self.found, errors=self.wrong, shown=int(right.sum()))
        self.status.value = (
            f"With {bias:.2f} added to the bias of class {self.digit}: <b>{self.found:,} of {total:,} images of a "
            f"{self.digit} are found</b>, {int(right.sum())} of the {len(self.shown)} shown. {self.taken:,} other "
            f"digits are taken for a {self.digit}. All errors: <b>{self.wrong:,}</b> of {len(self._labels):,}."
        )


def tell_share(share: float) -> str:
    """Return a probability in per cent, short enough to stand below a digit."""
    return "<1 %" if share < 0.01 else ">99 %" if share > 0.99 else f"{share:.0%}".replace("%", " %")
