"""What the builder adds to a chapter: hover texts, collapsed cells, links onward, words without a kernel."""

import nbformat
import pytest
from build_notebooks import SOURCES, assemble, title_of, ways_on, with_guide
from nbformat.v4 import new_code_cell, new_notebook, new_output
from notebook_parts import WIDGET_VIEW, clean, keep_outputs, kept_metadata, link_words, read_glossary

from kdcourse.guide import read_guide
from kdcourse.plots.drawings import draw_cheat_sheet

CHAPTERS = sorted(SOURCES.glob("*.py"))


def test_a_glossary_link_gets_an_address_and_the_meaning_as_hover_text():
    linked = link_words("the [temperature](glossary:temperature) T", "../docs/glossary.md")
    assert linked == f'the [temperature](../docs/glossary.md#temperature "{read_glossary()["temperature"]}") T'
    assert len(read_glossary()["temperature"].split()) > 4


def test_a_word_that_the_glossary_lacks_is_named():
    with pytest.raises(ValueError, match="no 'tempreature'"):
        link_words("[T](glossary:tempreature)", "glossary.md")


def test_hover_texts_are_plain_and_fit_on_a_line():
    for meaning in read_glossary().values():
        assert 10 < len(meaning) < 200
        assert not set(meaning) & set('"`*\n')


@pytest.mark.parametrize(
    ("tags", "kept"),
    [
        ([], {}),
        (["raises-exception"], {"tags": ["raises-exception"]}),
        (["claims"], {"tags": ["claims"], "jupyter": {"source_hidden": True}}),
        (["plumbing"], {"tags": ["plumbing"], "jupyter": {"source_hidden": True}}),
    ],
)
def test_claims_and_plumbing_are_collapsed(tags, kept):
    cell = nbformat.v4.new_code_cell("x = 1", metadata={"tags": tags, "lines_to_next_cell": 2})
    assert kept_metadata(cell) == kept


@pytest.mark.parametrize("chapter", CHAPTERS, ids=[path.stem for path in CHAPTERS])
def test_a_chapter_ends_with_links_to_its_neighbours_its_exercise_and_the_words(chapter):
    last = assemble(chapter).cells[-1].source
    targets = {part.split(")")[0] for part in last.split("](")[1:]}
    place = CHAPTERS.index(chapter)
    neighbours = [path for path in (place and CHAPTERS[place - 1], *CHAPTERS[place + 1 : place + 2]) if path]
    assert {f"{path.stem}.ipynb" for path in neighbours} <= targets
    for target in targets:
        assert (SOURCES.parent / target).exists()
    assert (place == 0) or any("exercises/ex" in target for target in targets)


def test_titles_carry_the_number_once():
    assert title_of(SOURCES / "02_soft_targets.py") == "02 Soft targets"
    assert "[Exercise 02: soft targets](" in ways_on(SOURCES / "02_soft_targets.py")


def test_a_widget_that_speaks_without_a_kernel_keeps_its_words_and_others_a_note():
    speaks = {WIDGET_VIEW: {}, "text/html": "<p>Guess</p>", "text/plain": "Guess"}
    silent = {WIDGET_VIEW: {}, "text/plain": "[A widget]"}
    outputs = [nbformat.v4.new_output("execute_result", data, execution_count=1) for data in (speaks, silent)]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("guess()", outputs=outputs)])
    clean(notebook)
    first, second = notebook.cells[0].outputs
    assert dict(first.data) == {"text/html": "<p>Guess</p>", "text/plain": "Guess"}
    assert "live widget" in second.data["text/markdown"]


def test_a_topic_of_the_guide_becomes_a_table_that_leads_to_the_ledger():
    table = with_guide("Look:\n\n{{ guide: Schedule }}\n\nThat was it.")
    assert table.startswith("Look:\n\n| advice | here | effect |")
    assert "(../docs/ledger.md#t-rises)" in table
    assert with_guide("{{ ledger: counts }}").endswith((".", "run yet."))
    assert "claims were tested" in with_guide("{{ ledger: counts }}")


def test_an_unknown_topic_of_the_guide_is_refused():
    with pytest.raises(ValueError, match="no topic 'Weather'"):
        with_guide("{{ guide: Weather }}")


def test_a_cheat_sheet_is_drawn_again_where_outputs_are_kept(tmp_path):
    cells = [new_code_cell("import torch"), new_code_cell("draw_cheat_sheet(read_guide())")]
    for number, cell in enumerate(cells, start=1):
        cell.execution_count = number
    cells[1].outputs = [new_output("execute_result", {"text/html": "old"}, execution_count=2)]
    built, fresh = new_notebook(cells=cells), new_notebook(cells=[new_code_cell(cell.source) for cell in cells])
    nbformat.write(built, tmp_path / "chapter.ipynb")
    assert keep_outputs(fresh, tmp_path / "chapter.ipynb")
    assert fresh.cells[1].outputs[0].data["text/html"] == draw_cheat_sheet(read_guide()).to_html()
