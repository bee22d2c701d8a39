"""Chapters at full size: the switch is turned on, assertions are left out, and a record is written."""

import json

import pytest

from experiments import _record, chapters

SOURCE = """# %%
FULL = False  # a chapter's switch
samples = 1000 if FULL else 10
assert samples == 10, "the prose speaks of the small run"
# %%
import pandas as pd
about_full = f"{samples} images"
comparisons = {"against no teacher": pd.DataFrame({"arm": ["kd"], "difference": [-1.5 * samples]})}
"""


@pytest.fixture
def sources(tmp_path, monkeypatch):
    monkeypatch.setattr(chapters, "SOURCES", tmp_path)
    monkeypatch.setattr(_record, "RESULTS", tmp_path / "results")
    (tmp_path / "98_trial.py").write_text(SOURCE, encoding="utf-8")
    return tmp_path


def test_a_chapter_runs_at_full_size_without_its_assertions_and_leaves_a_record(sources):
    path = chapters.run("98")
    record = json.loads(path.read_text(encoding="utf-8"))
    assert path == sources / "results" / "chapter98.json"
    assert record["comparisons"] == {"against no teacher": [{"arm": "kd", "difference": -1500.0}]}
    assert record["about"] == "1000 images"
    assert record["command"] == "python -m experiments.chapters 98"
    assert "environment" in record


@pytest.mark.parametrize("text", ["samples = 10\n", "FULL = False\nFULL = False\n", "# FULL = False\n"])
def test_a_source_without_exactly_one_switch_is_refused(sources, text):
    (sources / "99_odd.py").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"99_odd\.py must have one line that begins with 'FULL = False'"):
        chapters.run("99")


def test_a_chapter_that_compares_nothing_is_refused(sources):
    (sources / "99_odd.py").write_text("FULL = False\ncomparisons = {}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"99_odd\.py left no table"):
        chapters.run("99")
    assert not (sources / "results").exists()


@pytest.mark.parametrize("path", sorted(chapters.SOURCES.glob("0[3-7]_*.py")), ids=lambda path: path.stem)
def test_each_chapter_with_a_record_can_be_compiled_at_full_size(path):
    assert "FULL" in chapters.compile_full_size(path).co_names
