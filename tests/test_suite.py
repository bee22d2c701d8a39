"""The suite itself: its stages, its random order, and what ``make check`` leaves out."""

import os
import re
import shutil
import subprocess
import sys
from itertools import groupby
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "tools" / "run_stages.py"
MAKEFILE = """
good:
\t@echo this is good
bad:
\t@echo this is bad; exit 3
later:
\t@echo this comes later
"""

needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")


def run(folder, *stages):
    (folder / "Makefile").write_text(MAKEFILE)
    environment = {name: value for name, value in os.environ.items() if name not in ("MAKE", "MAKEFLAGS", "MAKELEVEL")}
    command = [sys.executable, SCRIPT, *stages]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


@needs_make
def test_a_stage_that_fails_does_not_stop_the_others_and_fails_the_whole(tmp_path):
    done = run(tmp_path, "good", "bad", "later")
    assert done.returncode == 1
    assert re.findall(r"^this .*", done.stdout, re.MULTILINE) == ["this is good", "this is bad", "this comes later"]
    lines = done.stdout.split("===== stages =====\n")[1].splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["good", "passed"], ["bad", "failed"], ["later", "passed"], ["all", "1"],
    ]  # fmt: skip
    assert all(line.endswith(" s") for line in lines)


@needs_make
def test_all_is_well_if_every_stage_is(tmp_path):
    done = run(tmp_path, "good", "later")
    assert done.returncode == 0
    assert "failed" not in done.stdout


@needs_make
@pytest.mark.parametrize("command", ["test", "check"])
def test_every_stage_of_the_makefile_is_one_of_its_targets(command):
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    (stages,) = re.findall(rf"^{command}:.*\n\t\$\(STAGES\) (.+)$", text, re.MULTILINE)
    missing = [stage for stage in stages.split() if not re.search(rf"^{stage}:", text, re.MULTILINE)]
    assert missing == []
    assert "lint" in stages.split()


def test_continuous_integration_runs_the_test_command_of_the_readme():
    command = re.search(r"make test\b", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert command
    assert re.search(rf"^time {command[0]}$", (ROOT / ".ci" / "run").read_text(encoding="utf-8"), re.MULTILINE)


@pytest.fixture
def conftest(request):
    plugins = request.config.pluginmanager.list_name_plugin()
    return next(plugin for name, plugin in plugins if Path(name) == ROOT / "tests" / "conftest.py")


def test_a_random_order_keeps_every_test_keeps_files_together_and_is_that_of_its_seed(conftest):
    items = [SimpleNamespace(path=file, number=number) for file in "abcdef" for number in range(10)]
    one, again, other = (conftest.shuffled(items, seed) for seed in ("1", "1", "2"))
    assert one == again
    assert len({tuple(map(id, order)) for order in (items, one, other)}) == 3
    for order in (one, other):
        assert sorted(map(id, order)) == sorted(map(id, items))
        files = [file for file, _ in groupby(order, key=lambda item: item.path)]
        assert len(files) == 6
        assert files != list("abcdef")
        assert any([item.number for item in group] != list(range(10)) for _, group in groupby(order, lambda i: i.path))


def test_what_make_check_leaves_out_by_its_place_is_there(conftest):
    assert [place for place in conftest.SLOW if not (conftest.TESTS / place).exists()] == []


def test_a_test_outside_these_places_is_not_slow_by_itself(request):
    assert request.node.get_closest_marker("slow") is None
