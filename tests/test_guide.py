"""The guide: every line has its row, no advice is left out, and answers say what the ledger says."""

import json
import re
from pathlib import Path

import nbformat
import pytest

from experiments.registry import entries
from kdcourse.guide import ANSWERS, counts_in_words, effect_in_words, guide_table, make_line, read_guide
from kdcourse.plots.drawings import draw_cheat_sheet
from kdcourse.records import read_record

ROOT = Path(__file__).resolve().parent.parent
ROWS = {row["name"]: row for row in read_record("ledger")["rows"]}
LINES = [line for lines in read_guide().values() for line in lines]
# Common advice whose answer another line of the guide gives, or that asks for a method rather than a decision.
ELSEWHERE = {
    "projections", "start with attention transfer", "relations help", "angles by a Gram matrix", "gains shrink",
    "the deepest exit teaches", "averaged peers", "all scales", "smoother gradients", "longer than on labels",
}  # fmt: skip


def row_with(verdict, effects=(), where=(), conditions=("a", "b", "c"), **changes):
    row = {"name": "n", "anchor": "n", "verdict": verdict, "where": list(where), "conditions": list(conditions)}
    return row | {"effects": list(effects), "unit": "errors", "smallest_effect": 15} | changes


def effect(difference, *, decides=True):
    return {"difference": difference, "low": difference - 3, "high": difference + 3, "decides": decides}


def test_the_record_has_every_row_of_the_registry():
    assert list(ROWS) == [entry.name for entry in entries()]


def test_every_line_has_a_row_of_its_own_and_says_its_verdict():
    assert len({line.row for line in LINES}) == len(LINES)
    for line in LINES:
        assert line.answer == ANSWERS[ROWS[line.row]["verdict"]]
        assert bool(line.effect) == (line.answer != "not run yet")


def test_no_common_advice_is_left_out():
    advice = {entry.name for entry in entries() if entry.source.startswith("a common piece of advice")}
    assert advice - {line.row for line in LINES} == ELSEWHERE


def test_every_line_is_short_and_a_sentence():
    for line in LINES:
        assert re.fullmatch(r"[A-Z].{8,66}\.", line.advice), line.advice


def test_a_row_that_was_not_run_is_shown_and_has_no_number():
    line = make_line("Do.", row_with("not run yet"))
    assert (line.words, line.effect) == ("not run yet", "")
    assert guide_table([line], ledger="x.md").splitlines()[-1] == "| Do. | [**not run yet**](x.md#n) | – |"


def test_few_conditions_are_named_and_many_are_counted():
    assert make_line("Do.", row_with("holds here only if", where=["a", "b"])).words == "only if a or b"
    long = ["the student is 784-300-300-10, 2,000 images"]
    assert make_line("Do.", row_with("holds here only if", where=long)).words == "only in 1 of 3 settings"


def test_effects_are_one_interval_or_a_span_of_what_decides():
    assert effect_in_words(row_with("holds", [effect(-9), effect(-99, decides=False)])) == "−9 [−12, −6] errors"
    assert effect_in_words(row_with("holds", [effect(-9), effect(1234)])) == "−9 to +1,234 errors"
    assert effect_in_words(row_with("holds", [effect(0.3)])).startswith("0 [−3, +3]")
    assert effect_in_words(row_with("holds", [effect(0.3)], smallest_effect=0.1)).startswith("+0.30 [")


def test_a_line_without_its_row_is_refused():
    with pytest.raises(ValueError, match="the ledger has no row 'a teacher helps'"):
        read_guide([row for row in ROWS.values() if row["name"] != "a teacher helps"])


def test_chapter_10_shows_the_ledger_as_it_is():
    notebook = nbformat.read(ROOT / "notebooks" / "10_best_practices.ipynb", as_version=4)
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    sheet = draw_cheat_sheet(read_guide())
    (shown,) = (cell.outputs for cell in notebook.cells if cell.source.strip() == "draw_cheat_sheet(read_guide())")
    build = "the ledger has changed: .venv/bin/python tools/build_notebooks.py 10"
    assert counts_in_words() in text, build
    assert all(guide_table(lines, ledger="../docs/ledger.md") in text for lines in read_guide().values()), build
    assert shown[0].data["text/html"] == sheet.to_html(), build


def test_seed_by_seed_differences_give_the_recorded_intervals():
    from kdcourse.results import mean_interval

    listed = [effect for row in ROWS.values() for effect in row["effects"] if effect["values"]]
    assert len(listed) > 5
    for found in listed:
        assert mean_interval(found["values"]) == pytest.approx(
            (found["difference"], found["low"], found["high"]), abs=1e-3
        )


def test_the_record_is_small_enough_to_ship():
    assert len(json.dumps(read_record("ledger"))) < 400_000
