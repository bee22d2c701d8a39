"""Guesses: each has an answer, none is given away, the right letters are spread evenly."""

import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import pytest

from kdcourse.guesses import LETTERS, Guess, chapters_with_guesses, find_guess, read_guesses
from kdcourse.widgets.guess_buttons import GuessButtons, guess

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = {path.stem[:2]: path for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}
QUESTIONS = [question for chapter in chapters_with_guesses() for question in read_guesses(chapter).values()]
CALL = re.compile(r"\bguess\(\"([^\"]+)\"\)")


def text_around(notebook, key):
    """What a reader has seen when a guess comes, and what follows: sources, printed texts, tables, alt texts."""
    seen, before = [], None
    for cell in notebook.cells:
        if cell.cell_type == "code" and key in CALL.findall(cell.source):
            seen, before = [], "\n".join(seen)
            continue  # the question itself, with its folded answer
        seen.append(cell.source)
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            texts = [output.get("text", ""), *(data[kind] for kind in data if kind.startswith("text/"))]
            seen += [re.sub(r"base64,[^\"]*", "", text) for text in texts]  # pictures speak by their alt text
    return before, "\n".join(seen)


@pytest.mark.parametrize("question", QUESTIONS, ids=[question.key for question in QUESTIONS])
def test_a_guess_is_asked_once_and_given_away_by_nothing_before_it(question):
    notebook = nbformat.read(NOTEBOOKS[question.key[:2]], as_version=4)
    before, after = text_around(notebook, question.key)
    assert before is not None, f"no cell asks {question.key}"
    for spoiler in question.spoilers:
        told = re.search(spoiler, before)
        assert told is None, f"{told[0]!r} stands before the guess" if told else ""
        assert re.search(spoiler, after), f"{spoiler!r} stands nowhere, so it would never be noticed too early"


@pytest.mark.parametrize("question", QUESTIONS, ids=[question.key for question in QUESTIONS])
def test_a_built_chapter_asks_in_the_words_of_the_package(question):
    notebook = nbformat.read(NOTEBOOKS[question.key[:2]], as_version=4)
    (cell,) = (cell for cell in notebook.cells if cell.source.strip() == f'guess("{question.key}")')
    (output,) = cell.outputs
    words = {"text/html": question.to_html(), "text/plain": question.to_text()}
    assert output.data == words, "run tools/build_notebooks.py: it takes seconds and keeps the other outputs"


@pytest.mark.parametrize("question", QUESTIONS, ids=[question.key for question in QUESTIONS])
def test_a_guess_says_what_would_give_it_away_and_why_it_is_so(question):
    assert question.spoilers
    assert all(re.compile(spoiler) for spoiler in question.spoilers)
    assert len(question.because.split()) >= 6
    assert all(len(choice) <= 90 for choice in question.choices)


def test_every_guess_that_a_chapter_asks_exists():
    for path in NOTEBOOKS.values():
        for cell in nbformat.read(path, as_version=4).cells:
            for key in CALL.findall(cell.source) if cell.cell_type == "code" else []:
                assert find_guess(key).key == key


def test_right_letters_are_evenly_spread():
    counts = Counter(question.letter for question in QUESTIONS if len(question.choices) == 3)
    total = sum(counts.values())
    assert all(0.22 * total <= counts[letter] <= 0.45 * total for letter in "abc"), counts


def test_an_unknown_guess_is_told_with_near_matches():
    with pytest.raises(ValueError, match=r"Did you mean '00\.one-pass'"):
        find_guess("00.one-pas")
    with pytest.raises(ValueError, match="Chapter '98' asks none"):
        find_guess("98.anything")


class Reader(HTMLParser):
    """Splits a page into what is in sight and what is folded."""

    def __init__(self):
        super().__init__()
        self.folded, self.sight, self.inside = "", "", 0

    def handle_starttag(self, tag, attrs):
        self.inside += tag == "details"

    def handle_endtag(self, tag):
        self.inside -= tag == "details"

    def handle_data(self, data):
        if self.inside:
            self.folded += data
        else:
            self.sight += data


QUESTION = Guess("98.x", "Is 1 < 2?", ("no", "yes, always"), 1, "Because of the order of numbers.", ("always true",))


def test_without_a_kernel_the_reason_is_folded():
    reader = Reader()
    reader.feed(QUESTION.to_html())
    assert "Is 1 < 2?" in reader.sight
    assert "(a) no" in reader.sight  # as text, because JupyterLab's stylesheet numbers every list 1, 2, 3
    assert "(b) yes, always" in reader.sight
    assert QUESTION.because not in reader.sight
    assert QUESTION.because in reader.folded
    assert "(b)" in reader.folded
    assert QUESTION.because not in QUESTION.to_text()


def test_nothing_is_chosen_at_first_and_a_click_brings_the_reason(monkeypatch):
    monkeypatch.setattr("kdcourse.widgets.guess_buttons.find_guess", lambda key: QUESTION)
    asked = GuessButtons("98.x")
    assert asked.first is None
    assert asked.reply.value == ""
    assert [button.icon for button in asked.buttons] == ["", ""]
    asked.buttons[0].click()
    assert asked.first == 0
    assert "it is (b)" in asked.reply.value
    assert [button.icon for button in asked.buttons] == ["times", "check"]
    asked.buttons[1].click()
    assert asked.first == 0  # the first guess is what counts
    assert "Yes." in asked.reply.value


def test_a_guess_shows_itself_as_a_widget_and_as_a_page():
    question = find_guess("00.one-pass")
    bundle = guess(question.key)._repr_mimebundle_()
    assert bundle["text/html"] == question.to_html()
    assert bundle["application/vnd.jupyter.widget-view+json"]["model_id"]
    assert question.letter in LETTERS
