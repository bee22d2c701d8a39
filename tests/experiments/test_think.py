"""Folded answers: measured by a record, said in words that the runs bear out, written into the chapter."""

import json
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from experiments import _record
from experiments.think import __main__ as think
from experiments.think.sentences import Answer, difference, mean
from experiments.think.texts import with_answers

CHAPTER = """# %%
images = 10
# %%
raise RuntimeError("a cell that no answer needs")
# %%
def errors_of(seed):
    return images * seed
# %% [markdown]
# ## Think, then try
#
# 1. Why?
#
#    <details><summary>Measured</summary>
#
#    Old.
#
#    </details>
#
# 2. Which?
#
# <details><summary>Answer</summary>
#
# None of them.
#
# </details>
"""


def runs(arm: list[int], baseline: list[int]) -> pd.DataFrame:
    rows = [("new", seed, value) for seed, value in enumerate(arm)]
    rows += [("old", seed, value) for seed, value in enumerate(baseline)]
    return pd.DataFrame(rows, columns=["arm", "seed", "test_errors"])


def test_an_effect_is_said_with_its_interval_and_a_mean_without_a_word():
    table = runs([1100, 1110, 1105], [1200, 1220, 1210])
    assert str(difference(table, "new", "old").is_("better")) == "105 errors fewer (93 to 117)"
    assert str(difference(table, "old", "new").is_("worse")) == "105 errors more (93 to 117)"
    assert mean(table, "new") == "1,105"


def test_what_the_runs_do_not_decide_is_said_as_a_range():
    unclear = difference(runs([100, 90, 120], [100, 105, 95]), "new", "old")
    assert unclear.verdict == "unclear"
    assert str(unclear) == "between 47 errors fewer and 54 more"


def test_a_sentence_that_the_runs_contradict_is_refused():
    with pytest.raises(ValueError, match="the sentence says worse, the runs say better: 105 errors fewer"):
        difference(runs([1100, 1110, 1105], [1200, 1220, 1210]), "new", "old").is_("worse")


def test_texts_go_to_their_questions_and_nothing_else_changes():
    changed = with_answers(CHAPTER, {"1": "A first\nparagraph.\n\n| a | b |\n|---|---|\n| 1 | 2 |"})
    assert "#    A first paragraph.\n#\n#    | a | b |\n#    |---|---|\n#    | 1 | 2 |\n#\n#    </details>" in changed
    assert with_answers(changed, {"1": "Old."}) == CHAPTER
    assert with_answers(CHAPTER, {"2": "None of them."}) == CHAPTER


def test_a_list_stays_a_list():
    words = "word " * 40
    lines = with_answers(CHAPTER, {"2": f"Two points.\n\n- First {words}\n- Second\n  point."}).splitlines()
    first = next(place for place, line in enumerate(lines) if line.startswith("# - First word"))
    assert lines[first + 1].startswith("#   word")
    assert "# - Second point." in lines


@pytest.mark.parametrize(("source", "number"), [(CHAPTER, "3"), (CHAPTER, "0"), ("# ## Another\n", "1")])
def test_a_question_that_is_not_there_is_refused(source, number):
    with pytest.raises(ValueError, match=r"there is an answer|needs one heading"):
        with_answers(source, {number: "text"})


@pytest.fixture
def chapter(tmp_path, monkeypatch):
    (tmp_path / "98_trial.py").write_text(CHAPTER, encoding="utf-8")
    monkeypatch.setattr(think, "SOURCES", tmp_path)
    monkeypatch.setattr(think, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(_record, "RESULTS", tmp_path / "results")
    return tmp_path / "98_trial.py"


def test_only_the_cells_that_an_answer_needs_are_run(chapter):
    assert think.chapter_names(chapter, ("errors_of",)).errors_of(3) == 30
    with pytest.raises(ValueError, match=r"no cell of 98_trial\.py defines errors"):
        think.chapter_names(chapter, ("errors",))


def test_one_question_is_measured_again_and_the_others_are_kept(chapter, monkeypatch):
    answers = {
        1: lambda names: Answer(f"{names.errors_of(2)} errors", runs([1, 2], [3, 4])),
        2: lambda names: Answer("None.", other={"share": 0.5}),
    }
    module = SimpleNamespace(NEEDS=("errors_of",), ANSWERS=answers)
    monkeypatch.setattr(think, "import_module", lambda name: module)
    first = json.loads(think.run("98").read_text(encoding="utf-8"))["answers"]
    assert first["1"]["text"] == "20 errors"
    assert first["1"]["runs"][0] == {"arm": "new", "seed": 0, "test_errors": 1}
    assert first["2"]["other"] == {"share": 0.5}
    answers[2] = lambda names: Answer("One.")
    again = json.loads(think.run("98", [2]).read_text(encoding="utf-8"))["answers"]
    assert (again["1"], again["2"]["text"]) == (first["1"], "One.")


@pytest.mark.parametrize("record", sorted(_record.RESULTS.glob("think*.json")), ids=lambda path: path.stem)
def test_every_answer_with_code_has_a_record_and_the_chapter_says_what_the_record_says(record):
    number = record.stem.removeprefix("think")
    answers = json.loads(record.read_text(encoding="utf-8"))["answers"]
    assert {int(question) for question in answers} == set(import_module(f"experiments.think.ch{number}").ANSWERS)
    (source,) = think.SOURCES.glob(f"{number}_*.py")
    text = source.read_text(encoding="utf-8")
    assert with_answers(text, {question: answer["text"] for question, answer in answers.items()}) == text
    assert f"python -m experiments.think {number}" in text


def test_every_file_of_answers_has_a_record():
    files = {path.stem.removeprefix("ch") for path in Path(think.__file__).parent.glob("ch*.py")}
    assert files == {path.stem.removeprefix("think") for path in _record.RESULTS.glob("think*.json")}
