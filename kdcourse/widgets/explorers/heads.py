"""Widget of language models: which token looks at which, in teacher and student, and what both say. Chapter 09."""

from collections.abc import Sequence
from typing import Any

import ipywidgets
import torch
from matplotlib.container import BarContainer
from torch import Tensor, nn

from ...data.tokens import encode
from ...losses import map_layers, soften
from ...models import evaluating
from ...plots import COLORS, INK, tidy
from ..canvas import Canvas, Shown
from ..controls import make_row, slider_layout, temperature_slider

LONGEST = 24  # tokens that are drawn


class HeadsExplorer(Shown):
    """Type a definition; compare attention of a layer and head, and the kinds that teacher and student believe in.

    Parameters
    ----------
    teacher, student : nn.Module
        BERT-family classifiers with eager attention; not changed. The student is not the deeper one.
    tokenizer : tokenizer of ``transformers``
        Of both.
    kinds : sequence of str
        Names of the classes.
    text : str
        Definition at the start.

    Attributes
    ----------
    text, layer, head, temperature : ipywidgets.Widget
        The controls. ``layer`` counts the student's blocks from 1; the teacher's is the one that it learns from.
    answers : dict from str to Tensor of shape (kinds,)
        Softened probabilities of ``"teacher"`` and ``"student"``.
    maps : dict from str to Tensor of shape (L, L)
        Attention that is drawn; each row sums to 1.
    canvas : Canvas

    Raises
    ------
    ValueError
        If the student is deeper, the models give no attention, or there are other classes than names.
    """

    about = "The heads explorer, live when the notebook runs."

    def __init__(
        self, teacher: nn.Module, student: nn.Module, tokenizer: Any, kinds: Sequence[str], *, text: str
    ) -> None:
        super().__init__()
        self._models = {"teacher": teacher, "student": student}
        self._tokenizer, self._kinds = tokenizer, list(kinds)
        self._read(text)
        depths = {name: len(layers) for name, (_, layers) in self._outputs.items()}
        self._map = map_layers(depths["student"], depths["teacher"])
        heads = min(layers[0].shape[0] for _, layers in self._outputs.values())
        self.text = ipywidgets.Text(
            value=text, description="definition", continuous_update=False, layout=ipywidgets.Layout(width="90%")
        )
        self.layer = ipywidgets.IntSlider(
            value=depths["student"], min=1, max=depths["student"], description="layer", layout=slider_layout()
        )
        self.head = ipywidgets.IntSlider(value=1, min=1, max=heads, description="head", layout=slider_layout())
        self.temperature = temperature_slider(1.0)
        self._make_picture()
        self.follow(self.layer, self.head, self.temperature, action=self._draw)
        self.follow(self.text, action=self._read_and_draw)
        rows = [self.text, make_row(self.layer, self.head), make_row(self.temperature)]
        self.widget = ipywidgets.VBox([*rows, self.canvas.widget, self.status])
        self._read_and_draw()

    def _make_picture(self) -> None:
        self.canvas = Canvas(9.2, 6.0, full_colour=True)
        self._axes, self._images = {}, {}
        for place, (name, colours) in enumerate((("teacher", "Greys"), ("student", "Blues"))):
            ax = self.canvas.add_axes(0.11 + 0.5 * place, 0.47, 0.36, 0.46)
            # At the ends of rows and columns of tokens: long tokens need the room where a label of an axis stands.
            ax.text(-0.02, 1.02, "this token", transform=ax.transAxes, ha="right", fontsize=9)
            ax.text(-0.1, -0.05, "looks at", transform=ax.transAxes, ha="right", va="top", fontsize=9)
            self._axes[name] = ax
            self._images[name] = ax.imshow([[0.0]], cmap=colours, vmin=0, vmax=1, aspect="auto")
        below = tidy(self.canvas.add_axes(0.07, 0.18, 0.92, 0.12))
        below.set(ylim=(0, 1), xlim=(-0.6, len(self._kinds) - 0.4), ylabel="probability")
        below.set_xticks(range(len(self._kinds)), labels=self._kinds, rotation=60, ha="right", fontsize=8)
        self._bars: dict[str, BarContainer] = {}
        for name, shift in (("teacher", -0.2), ("student", 0.2)):
            places = [place + shift for place in range(len(self._kinds))]
            self._bars[name] = below.bar(places, [0.0] * len(places), width=0.38, color=COLORS[name], label=name)
        below.legend(frameon=False, fontsize=8, labelcolor=INK, loc="upper right")
        self.canvas.moving(*self._images.values(), *(bar for bars in self._bars.values() for bar in bars))

    def _read(self, text: str) -> None:
        """Ask both models about a text, once."""
        ids, real = encode(self._tokenizer, [text], max_length=LONGEST)
        self._tokens = self._tokenizer.convert_ids_to_tokens(ids[0].tolist())
        self._outputs: dict[str, tuple[Tensor, tuple[Tensor, ...]]] = {}
        for name, model in self._models.items():
            with evaluating(model), torch.no_grad():
                output = model(ids, real, output_attentions=True)
            if not output.attentions or output.attentions[0] is None:
                raise ValueError(
                    f"the {name} gives no attention. Load it with eager attention: "
                    'model.set_attn_implementation("eager").'
                )
            if output.logits.shape[1] != len(self._kinds):
                raise ValueError(f"the {name} knows {output.logits.shape[1]} kinds, {len(self._kinds)} have a name.")
            self._outputs[name] = output.logits[0], tuple(layer[0] for layer in output.attentions)

    def _read_and_draw(self) -> None:
        self._read(self.text.value)
        size = len(self._tokens)
        for name, ax in self._axes.items():
            self._images[name].set_extent((-0.5, size - 0.5, size - 0.5, -0.5))
            ax.set(xlim=(-0.5, size - 0.5), ylim=(size - 0.5, -0.5))
            ax.set_xticks(range(size), labels=self._tokens, rotation=60, ha="right", fontsize=8)
            ax.set_yticks(range(size), labels=self._tokens, fontsize=8)
        self._draw()

    def _draw(self) -> None:
        layer, head, temperature = self.layer.value, self.head.value, self.temperature.value
        blocks = {"teacher": self._map[layer], "student": layer}
        self.maps, self.answers = {}, {}
        for name, (logits, layers) in self._outputs.items():
            self.maps[name] = layers[blocks[name] - 1][head - 1]
            self._images[name].set_data(self.maps[name].numpy())
            self._axes[name].set_title(f"{name}: block {blocks[name]} of {len(layers)}, head {head}", fontsize=10)
            self.answers[name] = soften(logits, temperature=temperature)
            for bar, height in zip(self._bars[name], self.answers[name].tolist(), strict=True):
                bar.set_height(height)
        self.canvas.renew()  # titles and tokens are still parts
        self.canvas.draw(layer=layer, head=head, temperature=temperature, tokens=len(self._tokens))
        self._tell()

    def _tell(self) -> None:
        best = {name: int(row.argmax()) for name, row in self.answers.items()}
        says = [f"{name}: {self._kinds[place]} {float(self.answers[name][place]):.0%}" for name, place in best.items()]
        distance = float((self.maps["teacher"] - self.maps["student"]).abs().sum(dim=1).mean()) / 2
        self.status.value = (
            f"{'; '.join(says)}. A row of a map says where its token looks. "
            f"Between the two maps, {distance:.0%} of each row would have to move on average."
        )
