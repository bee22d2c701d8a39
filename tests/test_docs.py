"""README and docs: links lead somewhere, names exist, code runs, versions agree, generated pages are up to date."""

import ast
import importlib
import json
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch
import update_docs

from kdcourse.__main__ import make_parser

ROOT = Path(__file__).resolve().parent.parent
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
NAMES = [str(path.relative_to(ROOT)) for path in PAGES]


def links_of(text):
    """Return the targets of Markdown links and pictures, outside code."""
    text = re.sub(r"(?ms)^```.*?^```", "", text)
    return re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", text))


def anchors_of(text):
    """Return the anchors that GitHub gives a page's headings, and those that the page sets itself."""
    headings = re.findall(r"(?m)^#+ (.+)$", re.sub(r"(?ms)^```.*?^```", "", text))
    plain = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower() for heading in headings)
    own = set(re.findall(r'<a id="([^"]+)"></a>', text))
    return own | {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in plain}


def blocks_of(text, language):
    return re.findall(rf"(?ms)^```{language}\n(.*?)^```", text)


@pytest.mark.parametrize("path", PAGES, ids=NAMES)
def test_every_link_inside_the_repository_leads_to_something(path):
    for link in links_of(path.read_text(encoding="utf-8")):
        if re.match(r"https?:", link):
            continue
        file, _, anchor = link.partition("#")
        target = (path.parent / file) if file else path
        assert target.exists(), link
        assert not anchor or anchor in anchors_of(target.read_text(encoding="utf-8")), link


@pytest.mark.parametrize("path", PAGES, ids=NAMES)
def test_every_picture_has_words_for_those_who_do_not_see_it(path):
    for words in re.findall(r"!\[([^\]]*)\]\(", path.read_text(encoding="utf-8")):
        assert len(words.split()) >= 3


@pytest.mark.parametrize("path", PAGES, ids=NAMES)
def test_every_command_shown_is_one_that_the_parser_takes(path):
    text = path.read_text(encoding="utf-8")
    in_prose = set(re.findall(r"`(kdcourse [^`\n]+)`", text))
    in_prose -= {parser.prog for parser in update_docs.commands(make_parser())}  # named, not shown in use
    for line in [*"\n".join(blocks_of(text, "bash")).splitlines(), *in_prose]:
        words = shlex.split(line, comments=True)
        if words[:1] == ["kdcourse"] and "COMMAND" not in words:
            make_parser().parse_args(words[1:])  # a wrong one raises SystemExit


def test_readme_is_read_in_two_minutes():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    text = re.sub(r"(?s)<!-- ledger:.*<!-- end of the ledger -->\n", "", text)  # a generated table, looked up
    assert len(text.splitlines()) <= 95
    prose = re.sub(r"\]\([^)]*\)|`[^`\n]*`", "", re.sub(r"(?ms)^```.*?^```", "", text))  # no addresses, no code
    assert len(re.findall(r"[^\W\d_]+", prose)) < 600


def test_the_code_in_readme_runs():
    (code,) = blocks_of((ROOT / "README.md").read_text(encoding="utf-8"), "python")
    student_logits = torch.zeros(4, 10, requires_grad=True)  # (B, K)
    names = {"student_logits": student_logits, "teacher_logits": 5 * torch.eye(4, 10), "labels": torch.arange(4)}
    exec(code, names)
    names["loss"].backward()
    assert student_logits.grad.abs().sum() > 0


def test_readme_leads_to_every_chapter_and_every_exercise():
    links = links_of((ROOT / "README.md").read_text(encoding="utf-8"))
    built = [*ROOT.glob("notebooks/*.ipynb"), *ROOT.glob("exercises/*/*.ipynb")]
    assert {str(path.relative_to(ROOT)) for path in built} <= set(links)


def names_of_the_table():
    """Return (module, name) for each name of ours in the table: a name without a module is in the module before it."""
    text, pairs = (ROOT / "docs" / "source-text.md").read_text(encoding="utf-8"), []
    for row in re.findall(r"(?m)^\| (?!source text|---)[^|]+\|([^|]+)\|", text):
        module = None
        for name in re.findall(r"`([^`]+)`", row):
            head, dot, tail = re.sub(r"\(.*\)", "", name).partition(".")
            module, name = (head, tail) if dot else (module, head)
            pairs.append((module, name))
    return pairs


@pytest.mark.parametrize(("module", "name"), names_of_the_table())
def test_every_name_of_ours_in_the_table_of_names_exists(module, name):
    if name.endswith("/"):
        assert (ROOT / name).is_dir()
    else:
        package = importlib.import_module(f"kdcourse.{module}")
        assert hasattr(package, name) or importlib.import_module(f"kdcourse.{module}.{name}")


def test_the_table_of_names_holds_every_class_and_function_of_the_source_text():
    assert len(names_of_the_table()) > 30
    text = (ROOT / "docs" / "source-text.md").read_text(encoding="utf-8")
    for name in ("SoftTargetDistillation", "CRDLoss", "BornAgainNetworks", "DistilBERTTrainer", "OnlineDistillation"):
        assert f"| `{name}`" in text


def test_the_version_is_the_same_in_project_citation_and_changelog():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.findall(r"(?m)^version: (.+)$", citation) == [version]
    assert f"\n## [{version}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_citation_names_the_projects_address():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nrepository-code: {project['urls']['Repository']}\n" in citation
    assert f"\nlicense: {project['license'].split()[0]}\n" in citation


def test_generated_pages_and_shipped_records_are_what_they_are_made_from():
    tool = [sys.executable, str(ROOT / "tools" / "update_docs.py"), "--check"]
    done = subprocess.run(tool, capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout) == (0, "")


def test_a_stale_page_is_named(tmp_path, monkeypatch, capsys):
    stale, fresh = tmp_path / "stale.md", tmp_path / "fresh.md"
    stale.write_text("old")
    fresh.write_text("new")
    monkeypatch.setattr(update_docs, "pages", lambda: {stale: "new", fresh: "new"})
    assert update_docs.main(["--check"]) == 1
    assert capsys.readouterr().out.startswith("stale.md: ")
    assert stale.read_text() == "old"
    assert update_docs.main([]) == 0
    assert stale.read_text() == "new"
    assert update_docs.main(["--check"]) == 0


def test_the_page_of_commands_has_every_command_with_an_example():
    page = update_docs.cli()
    for parser in update_docs.commands(make_parser()):
        section = page.split(f"## {parser.prog}\n")[1].split("\n## ")[0]
        assert f"\n{parser.prog}" in section


def test_every_record_that_a_chapter_reads_ships_with_the_package():
    sources = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "notebooks" / "source").glob("*.py"))
    calls = [n for n in ast.walk(ast.parse(sources)) if isinstance(n, ast.Call)]
    names = {call.args[0].value for call in calls if getattr(call.func, "id", "") == "read_record"}
    assert {"chapter03", "hinton", "losses"} <= names
    assert names <= {path.stem for path in (ROOT / "kdcourse" / "records").glob("*.json")}
    assert "benchmarks/results" not in sources


def test_what_readme_and_chapter_00_say_of_the_command_is_what_the_record_says():
    record = json.loads((ROOT / "experiments/results/distill.json").read_text(encoding="utf-8"))
    words = {(row["student"], row["images"]): row["verdict"] for row in record["verdicts"]}
    assert {word for (student, _), word in words.items() if student == "784-300-300-10"} == {"better"}
    assert [words["784-128-10", images] for images in (300, 10_000, 55_000)] == ["better", "worse", "unclear"]
    against = {(row["student"], row["images"], row["baseline"]): row["verdict"] for row in record["comparison"]}
    assert against["784-128-10", 10_000, "smoothed"] == "worse"
    assert record["seconds"] < 60  # about a minute
