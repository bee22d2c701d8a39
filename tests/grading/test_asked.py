"""The package's own answers: what a key asks for is complete, and whoever hands them in is told to the teacher."""

import contextlib
import importlib
import inspect
import io
import json
from pathlib import Path

import build_exercises
import pytest
import torchvision.ops

import kdcourse.checks
import kdcourse.checks.slips.detection
from kdcourse.checks.turns import chapters_with_turns, read_turns
from kdcourse.grading.inside.scan import suspicious, taken_from_the_package
from kdcourse.grading.notebooks import parse_notebook
from kdcourse.grading.overlay import asked_of

ROOT = Path(__file__).resolve().parents[2]
HOMES = (
    "losses", "objectives", "results", "models", "models.exits", "recipes", "recipes.cohort", "recipes.curriculum",
    "recipes.distillation", "recipes.generations", "recipes.hints", "recipes.writing", "sweeps", "training",
    "training.evaluation", "training.options", "training.schedules", "widgets", "zoo",
)  # fmt: skip


def public_names():
    """Functions and classes that a learner can import by a public name, whatever the module says of it."""
    found = {}
    for home in HOMES:
        for name, value in vars(importlib.import_module(f"kdcourse.{home}")).items():
            if callable(value) and not name.startswith("_") and getattr(value, "__module__", "").startswith("kdcourse"):
                found[name] = value
    return found


NAMES = public_names()
KEYS = {
    path.stem: parse_notebook(json.dumps(build_exercises.assemble(path)).encode(), path.name)
    for path in sorted((ROOT / "solutions").glob("ex*.py"))
}
CHECKS = sorted(
    name
    for name in kdcourse.checks.__all__
    if name.startswith("check_")
    and next(iter(inspect.signature(getattr(kdcourse.checks, name)).parameters)) == "function"
)


def passes(check, value):
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            check(value, seed=1)
        except Exception:
            return False
    return True


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CHECKS)
def test_whatever_of_the_package_passes_a_check_is_what_its_key_asks_for(name):
    answers = [other for other, value in NAMES.items() if passes(getattr(kdcourse.checks, name), value)]
    for exercise, key in KEYS.items():
        if any(f"{name}(" in cell["source"] for cell in key["cells"]):
            assert [answer for answer in answers if answer not in asked_of(key)] == [], exercise


def test_every_name_that_a_key_asks_for_can_be_imported():
    asked = {name for key in KEYS.values() for name in asked_of(key)}
    elsewhere = {"box_iou"} & vars(torchvision.ops).keys()
    answers = {"foreground", "overlaps"} & vars(kdcourse.checks.slips.detection).keys()  # a check's own right functions
    assert sorted(asked - NAMES.keys() - elsewhere - answers) == []


TARGETS = "soft_target_objective"


@pytest.mark.parametrize(
    ("exercise", "source", "name"),
    [
        ("ex13_temperature_sweep", "from kdcourse.objectives import soft_target_objective as f", TARGETS),
        ("ex13_temperature_sweep", "import kdcourse.objectives as o\nf = o.soft_target_objective", TARGETS),
        ("ex02_soft_targets", "from kdcourse.results import mean_interval", "mean_interval"),
        ("ex07_online_and_progressive", "from kdcourse.training.schedules import progress_of", "progress_of"),
        ("ex15_born_again", "from kdcourse.recipes.distillation import distill_from_logits", "distill_from_logits"),
    ],
)  # fmt: skip
def test_the_new_homes_are_no_way_around(exercise, source, name):
    assert f"uses {name} of the package" in taken_from_the_package([source], asked_of(KEYS[exercise]))


WAYS_TO_A_TURN = (
    "from kdcourse.checks import check\nmine = check({key!r}, print)",
    "from kdcourse import checks\nmine = checks.check({key!r}, print)",
    "import kdcourse.checks as c\nmine = c.check({key!r}, print)",
    "import kdcourse\nmine = kdcourse.checks.check({key!r}, print)",
    "from kdcourse.checks import *\nmine = check({key!r}, print)",
    "from kdcourse.checks import turns\nmine = turns.find_turn({key!r}).right",
    "from kdcourse.checks.turns import find_turn\nmine = find_turn({key!r}).right",
    "from kdcourse.checks.turns.chapter{chapter} import {name}",
    "import kdcourse.checks.turns.chapter{chapter} as t\nmine = t.{name}",
    "from kdcourse.checks import soft_targets\nmine = soft_targets.paired_interval",
)


@pytest.mark.parametrize("chapter", chapters_with_turns())
def test_the_lines_that_chapters_ask_for_are_told_when_they_are_handed_in(chapter):
    for key, turn in read_turns(chapter).items():
        for way in WAYS_TO_A_TURN:
            source = way.format(key=key, chapter=chapter, name=turn.right.__name__)
            assert suspicious([source]), source


KEYS_OF_THE_PACKAGE = (
    "from kdcourse import keys",
    "import kdcourse.keys",
    "import importlib.resources as r\nr.files('kdcourse.keys')",
    "import pandas as pd\npd.read_json('kdcourse/keys/ex02_soft_targets.ipynb')",
    "import numpy as np\nnp.loadtxt(folder + 'keys/ex02_soft_targets.ipynb', dtype=str)",
    "open(kdcourse.__path__[0] + '/keys/x')",
)


@pytest.mark.parametrize("source", KEYS_OF_THE_PACKAGE)
def test_whoever_reads_the_keys_in_the_package_is_told(source):
    assert suspicious([source])
