"""What a contrastive loss sees: one digit's positive, its negatives, and the share that each gets.

Chapter 05. Letters: B samples in the batch, D embedding width, N negatives.
"""

import math

import ipywidgets
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from torch import Tensor

from ...plots import COLORS, INK, PAPER, tidy
from ..canvas import Canvas, Shown
from ..controls import make_row, slider_layout

COOLEST, HOTTEST, START = 0.02, 1.0, 0.1  # contrastive temperatures: ends of the slider, and where it starts
SHOWN = 18  # candidates drawn, the most similar first
CELL, PITCH = 28, 32  # pixels of a digit, and from one to the next


class NegativesExplorer(Shown):
    """Move the contrastive temperature and the number of negatives, and see which share of the softmax each one gets.

    Parameters
    ----------
    student_embeddings, teacher_embeddings : Tensor, shape (B, D)
        Embeddings of the same samples in one space: the student's after its projection. They are scaled to unit length.
    images : Tensor, shape (B, 1, 28, 28)
    labels : Tensor of int, shape (B,)
        Classes, which mark the false negatives: other samples of the anchor's class.
    anchor : int
        Sample at the start: its student embedding looks for its teacher's.

    Attributes
    ----------
    anchor, temperature, negatives, leave_out : ipywidgets.Widget
        The controls. A cell moves one by setting its ``.value``. Negatives are the samples that follow the anchor in
        the batch. ``leave_out`` drops those of the anchor's class, as ``labels=`` does in ``info_nce_loss``.
    loss : float
        InfoNCE of this anchor in nats.
    chance : float
        Loss of guessing among N negatives and the positive: log(N + 1).
    candidates : list of int
        Numbers in the batch of the positive and the negatives, the most similar first.
    shares : Tensor, shape (N + 1,)
        Probabilities that the softmax gives to them. Those of the negatives are the weights with which they push.
    false_negatives : int
        Count of negatives of the anchor's class.
    false_share : float
        Part of the negatives' shares that goes to the false ones, from 0 to 1.
    canvas : Canvas

    Raises
    ------
    ValueError
        If the shapes do not fit, there are fewer than 4 samples, or the anchor is not in the batch.

    References
    ----------
    van den Oord et al. (2018), arXiv:1807.03748, equation 4.
    """

    about = "The negatives explorer, live when the notebook runs."

    def __init__(
        self,
        student_embeddings: Tensor,
        teacher_embeddings: Tensor,
        images: Tensor,
        labels: Tensor,
        *,
        anchor: int = 0,
    ) -> None:
        super().__init__()
        _check(student_embeddings, teacher_embeddings, images, labels)
        size = len(labels)
        if not 0 <= anchor < size:
            raise ValueError(f"anchor must be a sample of the batch, from 0 to {size - 1}, got {anchor}.")
        student = F.normalize(student_embeddings.detach().float().cpu(), dim=1)  # (B, D)
        teacher = F.normalize(teacher_embeddings.detach().float().cpu(), dim=1)  # (B, D)
        self._cosines = student @ teacher.T  # (B, B): row of an anchor, column of a candidate
        self._images, self._labels = images[:, 0].float().cpu(), labels.cpu()

        self.anchor = ipywidgets.IntSlider(anchor, 0, size - 1, description="anchor", layout=slider_layout())
        self.temperature = ipywidgets.FloatLogSlider(
            value=START, base=10, min=math.log10(COOLEST), max=0, step=0.02, description="τ",
            readout_format=".3f", layout=slider_layout(),
        )  # fmt: skip
        counts = [2**power - 1 for power in range(1, 20) if 2**power < size] + [size - 1]
        self.negatives = ipywidgets.SelectionSlider(
            options=counts, value=counts[-1], description="negatives", layout=slider_layout()
        )
        self.leave_out = ipywidgets.Checkbox(
            value=False, description="leave out its class", indent=False, layout=ipywidgets.Layout(width="180px")
        )
        self._make_picture()
        self.follow(self.anchor, self.temperature, self.negatives, self.leave_out, action=self._draw)
        rows = [make_row(self.temperature, self.negatives), make_row(self.anchor, self.leave_out)]
        self.widget = ipywidgets.VBox([*rows, self.canvas.widget, self.status])
        self._draw()

    def _make_picture(self) -> None:
        self.canvas = Canvas(9.2, 2.7)
        self._own = self.canvas.add_image(0.004, 0.3, 0.105, 0.42)
        self._name = self._own.axes.set_title("", fontsize=9.5, color=INK)
        left, width = 0.16, 0.565
        self._make_bars(tidy(self.canvas.add_axes(left, 0.37, width, 0.52)))
        self._make_strip(self.canvas.add_image(left, 0.225, width, 0.135, rows=CELL, columns=SHOWN * PITCH))
        key = [("positive", "student"), ("negatives", "no_teacher"), ("false negatives: the anchor's class", "kd")]
        for place, (text, role) in zip((0.16, 0.235, 0.325), key, strict=True):
            self.canvas.figure.text(place, 0.045, f"■ {text}", color=COLORS[role], fontsize=8.5, va="center")
        # In Axes, since a still picture leaves out what moves in the figure itself.
        self._rest = self._strip.axes.text(
            0.755, 0.045, "", color=INK, fontsize=8.5, va="center", ha="right", transform=self.canvas.figure.transFigure
        )
        self._make_curve()
        self.canvas.moving(self._own, self._name, self._strip, *self._frames, *self._digits, self._rest)
        self.canvas.moving(*self._bars, *self._numbers, self._chance, self._guessing, self._curve, self._dot)

    def _make_bars(self, ax: Axes) -> None:
        ax.set(xlim=(0, SHOWN), xticks=[])
        self._shares_axes, self._scale = ax, 0.0
        ax.set_title("share of each candidate, the most similar first", fontsize=9.5, color=INK)
        places = [place + 0.5 for place in range(SHOWN)]
        self._bars = ax.bar(places, [0.0] * SHOWN, width=0.78, edgecolor=PAPER, lw=0.4)
        self._numbers = [ax.text(x, 0, "", ha="center", va="bottom", fontsize=7, color=INK) for x in places]

    def _make_strip(self, image: AxesImage) -> None:
        ax, self._strip = image.axes, image
        ax.set(xlim=(0, SHOWN * PITCH), ylim=(CELL + 3, -3), aspect="auto")
        image.set_extent((0, SHOWN * PITCH, CELL, 0))
        lefts = [PITCH * place for place in range(SHOWN)]
        self._frames = [Rectangle((left + 1, -1), PITCH - 2, CELL + 2, fill=False, linewidth=2) for left in lefts]
        for frame in self._frames:
            ax.add_patch(frame)
        self._digits = [
            ax.text(left + PITCH / 2, CELL + 15, "", ha="center", va="center", fontsize=8) for left in lefts
        ]

    def _make_curve(self) -> None:
        size = len(self._labels)
        self._top = 1.5 * math.log(size)
        ax = tidy(self.canvas.add_axes(0.785, 0.235, 0.205, 0.655))
        ax.set(xscale="log", xlim=(COOLEST, HOTTEST), ylim=(0, self._top))
        ax.set_xticks([0.02, 0.1, 1], labels=["0.02", "0.1", "1"])
        ax.minorticks_off()
        ax.set_xlabel("temperature τ", fontsize=9, color=INK, labelpad=1)
        ax.set_title("loss of this anchor, nats", fontsize=9.5, color=INK)
        self._grid = torch.logspace(math.log10(COOLEST), 0, 60)  # temperatures of the curve
        (self._chance,) = ax.plot([COOLEST, HOTTEST], [0, 0], "--", color=INK, linewidth=1)
        self._guessing = ax.text(HOTTEST, 0, "", fontsize=8, color=INK, ha="right", va="bottom")
        (self._curve,) = ax.plot([], [], color=COLORS["student"], linewidth=1.8)
        (self._dot,) = ax.plot([], [], "o", color=COLORS["student"], markersize=7)

    def _choose(self) -> Tensor:
        """Return the positive and then its negatives, as numbers in the batch."""
        size, anchor = len(self._labels), self.anchor.value
        others = (anchor + torch.arange(1, self.negatives.value + 1)) % size  # (N,)
        if self.leave_out.value:
            others = others[self._labels[others] != self._labels[anchor]]
        return torch.cat([torch.tensor([anchor]), others])  # (N + 1,)

    def _draw(self) -> None:
        anchor, temperature = self.anchor.value, self.temperature.value
        chosen = self._choose()
        cosines = self._cosines[anchor, chosen]  # (N + 1,) the positive first
        scores = cosines / self._grid[:, None]  # (temperatures, N + 1)
        losses = scores.logsumexp(dim=1) - scores[:, 0]
        order = cosines.argsort(descending=True, stable=True)
        shares = (cosines / temperature).softmax(dim=0)  # (N + 1,)
        self.loss, self.chance = float(-(cosines / temperature).log_softmax(dim=0)[0]), math.log(len(chosen))
        self.candidates, self.shares = chosen[order].tolist(), shares[order]
        false = self._labels[chosen] == self._labels[anchor]
        false[0] = False
        self.false_negatives = int(false.sum())
        pushed = float(shares[1:].sum())
        self.false_share = float(shares[false].sum()) / pushed if pushed > 0 else 0.0
        self._show_candidates(rank=int((order == 0).nonzero()))
        self._own.set_data(self._images[anchor].numpy())
        self._name.set_text(f"anchor: a {int(self._labels[anchor])}")
        self._curve.set_data(self._grid.numpy(), losses.clamp(max=self._top).numpy())
        self._dot.set_data([temperature], [min(self.loss, self._top)])
        self._chance.set_ydata([self.chance, self.chance])
        self._guessing.set_position((0.97, self.chance + 0.02 * self._top))
        self._guessing.set_text(f"guessing: {self.chance:.2f}")
        self.canvas.draw(
            anchor=anchor, temperature=round(temperature, 4), negatives=len(chosen) - 1, loss=round(self.loss, 4),
            false_negatives=self.false_negatives, false_share=round(self.false_share, 4),
        )  # fmt: skip
        self._tell()

    def _show_candidates(self, *, rank: int) -> None:
        """Put the most similar candidates side by side. A positive that is not among them takes the last place."""
        anchor, shown = self.anchor.value, self.candidates[:SHOWN]
        shares = self.shares[:SHOWN].tolist()
        if rank >= SHOWN:
            shown, shares = [*shown[:-1], anchor], [*shares[:-1], float(self.shares[rank])]
        self._fit_scale(max(shares))
        sheet = torch.zeros(CELL, SHOWN * PITCH)
        for place in range(SHOWN):
            present = place < len(shown)
            self._bars[place].set_visible(present)
            self._frames[place].set_visible(present)
            self._numbers[place].set_text("")
            self._digits[place].set_text("")
            if not present:
                continue
            sample = shown[place]
            left = place * PITCH + (PITCH - CELL) // 2
            sheet[:, left : left + CELL] = self._images[sample]
            same = self._labels[sample] == self._labels[anchor]
            colour = COLORS["student" if sample == anchor else "kd" if same else "no_teacher"]
            self._bars[place].set(height=shares[place], facecolor=colour, hatch="///" if colour == COLORS["kd"] else "")
            self._frames[place].set(edgecolor=colour, linewidth=1 if colour == COLORS["no_teacher"] else 2.2)
            text = f"{rank + 1}." if sample == anchor and rank >= SHOWN else str(int(self._labels[sample]))
            self._digits[place].set(text=text, color=colour)
            if shares[place] >= 0.005:
                self._numbers[place].set(text=f"{shares[place]:.0%}", y=shares[place] + 0.02 * self._scale)
        self._strip.set_data(sheet.numpy())
        left_out = len(self.candidates) - len(shown)
        share = max(0.0, 1 - sum(shares))
        others = "the other one has" if left_out == 1 else f"the {left_out} others share"
        self._rest.set_text(f"{others} {share:.0%}" if left_out else "")

    def _fit_scale(self, largest: float) -> None:
        """Let the largest share reach at least a fifth of the axis, and leave room for the number above its bar."""
        scale = next(scale for scale in (0.1, 0.3, 1.0) if largest <= 0.98 * scale or scale == 1.0)
        if scale == self._scale:
            return
        self._scale = scale
        ticks = [0, scale / 2, scale]
        self._shares_axes.set_ylim(0, 1.12 * scale)
        self._shares_axes.set_yticks(ticks, labels=[f"{100 * tick:g} %" for tick in ticks])
        self.canvas.renew()

    def _tell(self) -> None:
        anchor = self.anchor.value
        rank, count = self.candidates.index(anchor), len(self.candidates) - 1
        pushes = torch.cat([self.shares[:rank], self.shares[rank + 1 :]])  # (N,)
        spread = float(torch.special.entr(pushes / pushes.sum().clamp(min=1e-30)).sum().exp()) if count else 0.0
        place = "is the most similar of all" if rank == 0 else f"is only number {rank + 1} in similarity"
        side = "better than" if self.loss < self.chance else "worse than"
        text = (
            f"The positive {place} and gets <b>{float(self.shares[rank]):.0%}</b>: loss <b>{self.loss:.2f}</b>, {side} "
            f"guessing among {count + 1}, log {count + 1} = {self.chance:.2f}. At τ = {self.temperature.value:.3f} the "
            f"push is that of about <b>{spread:.1f}</b> of {count} negatives."
        )
        if self.leave_out.value:
            text += " Those of its class are left out."
        elif self.false_negatives:
            what = "false negative gets" if self.false_negatives == 1 else "false negatives get"
            text += f" {self.false_negatives} {what} <b>{self.false_share:.0%}</b> of it."
        else:
            text += " None of them is of its class."
        self.status.value = text


def _check(student: Tensor, teacher: Tensor, images: Tensor, labels: Tensor) -> None:
    if student.dim() != 2 or student.shape != teacher.shape:
        raise ValueError(
            "the explorer needs embeddings of one shape (B, D) from student and teacher, got "
            f"{tuple(student.shape)} and {tuple(teacher.shape)}. A cosine needs equal widths: project the student."
        )
    if tuple(images.shape) != (len(student), 1, CELL, CELL) or tuple(labels.shape) != (len(student),):
        raise ValueError(
            f"for {len(student)} embeddings the explorer needs images ({len(student)}, 1, {CELL}, {CELL}) and labels "
            f"({len(student)},), got {tuple(images.shape)} and {tuple(labels.shape)}."
        )
    if len(student) < 4:
        raise ValueError(f"the explorer needs at least 4 samples, one anchor and 3 negatives, got {len(student)}.")
