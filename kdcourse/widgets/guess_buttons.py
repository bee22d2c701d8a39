"""A guess: buttons with answers, nothing chosen at first, the reason after the click. All chapters."""

import html
from typing import Any

import ipywidgets

from ..guesses import LETTERS, find_guess

GOOD, BAD = "#1c7a43", "#d1242f"  # of a line beside the text: as text no colour is read on both white and black


class GuessButtons:
    """A question with a button for each choice. A wrong guess may be followed by another.

    Parameters
    ----------
    key : str
        As in ``kdcourse.guesses.find_guess``.

    Attributes
    ----------
    buttons : list of ipywidgets.Button
        One per choice.
    reply : ipywidgets.HTML
        Empty until something is chosen; then the answer and its reason.
    first : int or None
        Place of the first choice that was clicked.
    """

    def __init__(self, key: str) -> None:
        self.guess = find_guess(key)
        self.first: int | None = None
        wide = ipywidgets.Layout(width="auto", max_width="44em", height="auto", min_height="2.2em")
        self.buttons = [
            ipywidgets.Button(description=f"{letter})  {choice}", layout=wide)
            for letter, choice in zip(LETTERS, self.guess.choices, strict=False)
        ]
        for place, button in enumerate(self.buttons):
            button.style.button_color = None
            button.on_click(lambda _, place=place: self.choose(place))
        question = ipywidgets.HTML(f"<strong>Guess first.</strong> {html.escape(self.guess.question)}")
        self.reply = ipywidgets.HTML()
        self.widget = ipywidgets.VBox([question, *self.buttons, self.reply])

    def choose(self, place: int) -> None:
        """Answer as a click on a button does.

        Parameters
        ----------
        place : int
            Of the choice, from 0.
        """
        self.first = place if self.first is None else self.first
        right = place == self.guess.answer
        for number, button in enumerate(self.buttons):
            button.icon = "check" if number == self.guess.answer else "times" if number == place else ""
        colour, word = (GOOD, "Yes.") if right else (BAD, f"Not quite: it is ({self.guess.letter}).")
        self.reply.value = (
            f'<div role="status" style="border-left: 4px solid {colour}; padding-left: 0.8em; line-height: 1.5">'
            f"<strong>{word}</strong> {html.escape(self.guess.because)}</div>"
        )

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        # By hand, as ipywidgets 7 and 8 show their own in different ways; without a kernel the folded answer is left.
        view = {"version_major": 2, "version_minor": 0, "model_id": self.widget.model_id}
        return {
            "application/vnd.jupyter.widget-view+json": view,
            "text/html": self.guess.to_html(),
            "text/plain": self.guess.to_text(),
        }


def guess(key: str) -> GuessButtons:
    """Ask a question of a chapter; the last line of a cell.

    Parameters
    ----------
    key : str
        Chapter and name, such as ``"02.first-slider"``.

    Returns
    -------
    GuessButtons
        Shown as buttons where a kernel runs, as a question with a folded answer elsewhere.

    Raises
    ------
    ValueError
        If there is no such question.
    """
    return GuessButtons(key)
