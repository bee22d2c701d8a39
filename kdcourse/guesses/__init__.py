"""Guesses: the questions that a chapter asks before it shows, each with its answer, under a key. All chapters.

One TOML file a chapter, such as ``02.toml``. A chapter says ``guess("02.first-slider")``. The answer stands here, so
that no cell of the notebook gives it away.
"""

import difflib
import html
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources

LETTERS = "abcd"


@dataclass(frozen=True)
class Guess:
    """A question with choices.

    Attributes
    ----------
    key : str
        Chapter and name, such as ``"02.first-slider"``.
    question : str
        One or two sentences.
    choices : tuple of str
        Two to four answers, each one line.
    answer : int
        Place of the right choice, from 0.
    because : str
        The reason, one to three sentences.
    spoilers : tuple of str
        Regular expressions. What matches one of them gives the answer away, so it must not stand in the chapter
        before the question.

    Examples
    --------
    >>> question = find_guess("00.one-pass")
    >>> question.letter in "abcd"
    True
    """

    key: str
    question: str
    choices: tuple[str, ...]
    answer: int
    because: str
    spoilers: tuple[str, ...]

    @property
    def letter(self) -> str:
        """Letter of the right choice, from a."""
        return LETTERS[self.answer]

    def to_html(self) -> str:
        """Return the question with its answer folded, for readers without a kernel."""
        # The letters as text: JupyterLab's stylesheet numbers every list 1, 2, 3, and the answer is a letter.
        choices = "<br>".join(
            f"({letter}) {html.escape(choice)}" for letter, choice in zip(LETTERS, self.choices, strict=False)
        )
        return (
            f"<p><strong>Guess first.</strong> {html.escape(self.question)}</p><p>{choices}</p>"
            f"<details><summary>Answer</summary><p>({self.letter}) {html.escape(self.choices[self.answer])}. "
            f"{html.escape(self.because)}</p></details>"
        )

    def to_text(self) -> str:
        """Return the question with its choices, without the answer."""
        choices = "  ".join(f"({letter}) {choice}" for letter, choice in zip(LETTERS, self.choices, strict=False))
        return f"Guess first. {self.question}  {choices}"


def find_guess(key: str) -> Guess:
    """Return the question that stands under a key.

    Parameters
    ----------
    key : str
        Chapter and name, such as ``"02.first-slider"``.

    Raises
    ------
    ValueError
        If there is no such question; near matches are listed.
    """
    chapter = key.split(".")[0]
    questions = read_guesses(chapter) if chapter in chapters_with_guesses() else {}
    if key not in questions:
        near = difflib.get_close_matches(key, questions, n=3, cutoff=0.3) or list(questions)[:3]
        hint = f"Did you mean {' or '.join(map(repr, near))}?" if near else f"Chapter {chapter!r} asks none."
        raise ValueError(f"there is no guess {key!r}. {hint}")
    return questions[key]


def chapters_with_guesses() -> list[str]:
    """Return the numbers of the chapters that ask, such as ``"02"``, in order."""
    return sorted(entry.name.removesuffix(".toml") for entry in _folder().iterdir() if entry.name.endswith(".toml"))


@cache
def read_guesses(chapter: str) -> dict[str, Guess]:
    """Return the questions of a chapter by key, in the order in which it asks them.

    Raises
    ------
    ValueError
        If an entry lacks a field, has one too many, or its answer is not among its choices.
    """
    table = tomllib.loads((_folder() / f"{chapter}.toml").read_text(encoding="utf-8"))
    return {f"{chapter}.{name}": _read(f"{chapter}.{name}", entry) for name, entry in table.items()}


def _read(key: str, entry: dict) -> Guess:
    fields = {"question", "choices", "answer", "because", "spoilers"}
    if set(entry) != fields:
        raise ValueError(f"guess {key!r} needs exactly {sorted(fields)}, got {sorted(entry)}.")
    choices, letter = tuple(entry["choices"]), entry["answer"]
    if not 2 <= len(choices) <= len(LETTERS) or letter not in list(LETTERS[: len(choices)]):
        raise ValueError(f"guess {key!r}: the answer must be a letter of its two to four choices, got {letter!r}.")
    return Guess(
        key, entry["question"].strip(), choices, LETTERS.index(letter), entry["because"].strip(),
        tuple(entry["spoilers"]),
    )  # fmt: skip


def _folder() -> resources.abc.Traversable:
    return resources.files(__name__)
