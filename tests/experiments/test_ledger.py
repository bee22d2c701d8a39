"""The ledger's pages: every row is there, no number is typed, and a verdict that changes is in the changelog."""

import json
from pathlib import Path

import ledger
import pytest

from experiments.registry import NOT_RUN, Condition, Contrast, Effect, Entry, Finding, entries

ROOT = Path(__file__).resolve().parents[2]


def test_every_row_is_in_the_ledger_with_its_claim_and_verdict():
    page = (ROOT / "docs" / "ledger.md").read_text(encoding="utf-8")
    found = ledger.findings()
    for entry in entries():
        (line,) = [line for line in page.splitlines() if f'<a id="{ledger.slug(entry.name)}"></a>' in line]
        assert entry.claim in line
        assert line.endswith(f"| {found[entry.name]} |")


def test_anchors_are_unique_and_links_of_the_pages_lead_to_them():
    anchors = [ledger.slug(entry.name) for entry in entries()]
    assert len(set(anchors)) == len(anchors)
    for name in ledger.HEADLINES:
        assert ledger.slug(name) in anchors


def test_a_row_that_was_not_run_has_no_number():
    entry = Entry(
        "trial", "A claim.", "advice", "trial", "a run", "none", 8, 1, (Condition("", (Contrast("", "", ""),)),)
    )
    assert ledger._row(entry, Finding(NOT_RUN))[3:] == ["–", "–", NOT_RUN]


def test_the_effect_that_decides_a_condition_is_shown():
    right, wrong = (
        Effect("here", "kd", name, -9, -12, -6, 8, "better", name == "plain") for name in ("plain", "smoothed")
    )
    assert ledger._shown(Finding("holds", (), (right, wrong))) == [wrong]


def test_a_change_of_a_verdict_is_kept(tmp_path, monkeypatch):
    old = {"verdicts": {"a": "holds", "b": NOT_RUN}, "changes": []}
    monkeypatch.setattr(ledger, "VERDICTS", tmp_path / "verdicts.json")
    ledger.VERDICTS.write_text(json.dumps(old), encoding="utf-8")
    monkeypatch.setattr(ledger, "findings", lambda: {"a": Finding("unclear"), "b": Finding("holds")})
    text = ledger.verdicts()
    assert json.loads(text)["changes"] == [{"row": "a", "before": "holds", "now": "unclear"}]
    ledger.VERDICTS.write_text(text, encoding="utf-8")
    assert ledger.verdicts() == text


@pytest.mark.parametrize("change", json.loads(ledger.VERDICTS.read_text(encoding="utf-8"))["changes"], ids=str)
def test_every_verdict_that_changed_has_a_line_in_the_changelog(change):
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f'"{change["row"]}"' in text, f"add a line with {change} to CHANGELOG.md"
