"""What a teacher is told to look at: names that no exercise needs, however they are reached."""

import json
from pathlib import Path

import build_exercises
import pytest

from kdcourse.grading.inside.scan import suspicious, taken_from_the_package
from kdcourse.grading.notebooks import is_solution, parse_notebook
from kdcourse.grading.overlay import asked_of
from kdcourse.grading.release import release

ROOT = Path(__file__).resolve().parents[2]

TOLD = {
    "import os": "imports os",
    "import numpy as np, threading": "imports threading",
    "from os import _exit": "imports os",
    "from torch.serialization import os as harmless": "imports os from torch.serialization",
    "from operator import attrgetter": "imports attrgetter from operator",
    "import torch\ntorch.serialization.sys.exit()": "uses .sys",
    "import ｏｓ": "imports os",  # Python reads full-width letters as plain ones
    "match f:\n    case object(__globals__=found): pass": "uses .__globals__",
    "print.__self__": "uses .__self__",
    "import torch\ntorch.nn.Linear.forward = None": "sets torch.nn.Linear.forward",
    "from torch import nn\nnn.Linear.forward = None": "sets nn.Linear.forward",
    "for torch.allclose in [print]: pass": "sets torch.allclose",
    "class Yes:\n    def __eq__(self, other): return True": "defines __eq__",
    "check_kd_loss = print": "sets check_kd_loss",
    "def check_kd_loss(): pass": "defines check_kd_loss",
    "from kdcourse.grading.worker import serve": "imports kdcourse.grading.worker",
    "__builtins__": "uses __builtins__",
    # code made from text
    "import timeit\ntimeit.timeit('import os')": "imports timeit",
    "import cProfile\ncProfile.run('1')": "imports cProfile",
    "import pandas as pd\npd.eval('1')": "calls .eval with a text",
    "table.query('@x.y')": "calls .query with a text",
    "import typing\ntyping.get_type_hints(f)": "uses .get_type_hints",
    "import numpy as np\nnp.testing.runstring('1', {})": "uses .runstring",
    "type('', (BaseException,), {})": "makes a class with type()",
    # things found by their names
    "import pkgutil\npkgutil.resolve_name('os')": "imports pkgutil",
    "import string\nstring.Formatter().get_field('0.x', [f], {})": "uses .get_field",
    "from string import Formatter": "imports Formatter from string",
    "'{0.__class__}'.format(f)": "a text with __class__",
    "f'{x}{y!r:__globals__}'": "a text with __globals__",
    "import pydoc\npydoc.locate('os')": "imports pydoc",
    "('{0.tb_' + 'frame}').format(x)": "formats a text that is not written out",
    "def f(x: 'exec(y)'): pass": "a text with exec(",
    "table.agg('eval', expr=x)": "a text with eval",
    "import functools\nfunctools.update_wrapper(torch, fake, ('allclose',), ())": "uses .update_wrapper",
    "import functools\nfunctools.wraps(fake, ('allclose',))(f)": "calls .wraps with names of its own",
    "np.load(f, allow_pickle=True)": "sets allow_pickle",
    "class A:\n    def __del__(self): pass": "defines __del__",
    "torch.serialization._get_restore_location": "uses ._get_restore_location",
    # modules, and what hands them on
    "import _thread": "imports _thread",
    "import kdcourse.grading.inside.cells": "imports kdcourse.grading.inside.cells",
    "from kdcourse import grading": "imports grading from kdcourse",
    "import kdcourse\nkdcourse.grading.grader": "uses kdcourse.grading.grader",
    "import kdcourse.checks.soft_targets as m": "imports kdcourse.checks.soft_targets",
    "from kdcourse.checks import _core": "imports _core from kdcourse.checks",
    "from . import x": "imports .",
    "import a_module_of_my_own": "imports a_module_of_my_own",
    "import torch.utils.cpp_extension": "imports torch.utils.cpp_extension",
    "import numpy.ctypeslib": "imports numpy.ctypeslib",
    "from torch.overrides import TorchFunctionMode": "imports TorchFunctionMode from torch.overrides",
    "import matplotlib.pyplot as plt\nplt.threading.Thread": "uses .threading",
    # stores through another name
    "def silence(m): m.describe = len": "sets m.describe",
    "silence = lambda m: [None for m.describe in [len]]": "sets m.describe",
    "class A:\n    def silence(self): self.describe = len\nA.silence(torch)": "calls A.silence without an object",
    "def silence(self): self.describe = len": "sets self.describe",
    "import math\nm = math\nm.isfinite = len": "sets m.isfinite",
    "import math\nfor m in [math]: m.isfinite = len": "uses math as a value",
    "import math\nf(math)": "uses math as a value",
    "from torch import nn\nf(nn)": "uses nn as a value",
    "with f() as m: m.x = 1": "sets m.x",
    "del torch.allclose": "sets torch.allclose",
    "torch.allclose += 1": "sets torch.allclose",
    "f().x = 1": "sets f().x",
    "m.__setattr__('x', 1)": "uses .__setattr__",
    # frames, memory, every call
    "try: 1 / 0\nexcept ZeroDivisionError as e: e.__traceback__.tb_frame": "uses .tb_frame",
    "(x for x in y).gi_frame": "uses .gi_frame",
    "import numpy as np\nnp.lib.stride_tricks.as_strided(x, (9,), (8,))": "uses .as_strided",
    "x.data_ptr()": "uses .data_ptr",
    "class T(torch.Tensor):\n    def __torch_function__(cls, *a): pass": "defines __torch_function__",
    "class Yes:\n    def __getattr__(self, name): return self": "defines __getattr__",
}
HONEST = """
from __future__ import annotations
import json, time
import math
import matplotlib.pyplot as plt
import numpy as np
from collections import defaultdict
from dataclasses import dataclass, field
from functools import partial
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from tqdm import tqdm
from IPython.display import display
from kdcourse.losses import kd_loss
from kdcourse.training import fit

class Student(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(2, 2)

    def forward(self, x):
        match x.dim():
            case 2:
                return self.body(x).select(1, 0)
        return x.type_as(self.body.weight)

@dataclass
class Settings:
    temperature: float = 4.0
    history: list = field(default_factory=list)

    def __post_init__(self):
        self.steps = len(self.history)

@torch.no_grad()
def evaluate(model, images, labels):
    'Its evaluation.'
    model.eval()
    models = [model, *model.children()]
    for parameter in model.parameters():
        parameter.requires_grad = False
        parameter.grad = None
    return sum((m(images).argmax(1) == labels).float().mean().item() for m in models[:1])

def train(model, optimizer, batches):
    for group in optimizer.param_groups:
        group["lr"] *= 0.5
    losses = defaultdict(list)
    for images, labels in tqdm(batches):
        loss = nn.functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses["ce"].append(loss.item())
    return {name: np.mean(values) for name, values in losses.items()}

fig, ax = plt.subplots()
ax.plot([1, 2], label=f"T = {4.0:.1f}")
print("T = {:.1f}, evaluated".format(4.0))
frame = pd.DataFrame(rows).pivot_table(index="temperature")
frame.columns = ["errors"]
model = Student().eval()
model.hint = [p.data.clone() for p in model.parameters()]
"""


@pytest.mark.parametrize(("source", "told"), TOLD.items())
def test_what_no_exercise_needs_is_told(source, told):
    assert told in suspicious([source])


def test_ordinary_code_is_not_told():
    assert suspicious([HONEST, "%matplotlib inline\nx = !ls"]) == []


def test_what_is_no_python_is_left_out():
    assert suspicious(["import os (", "(" * 10_000, "import sys"]) == ["imports sys"]


BORROWED = {
    "from kdcourse.losses import kd_loss as f": True,
    "from kdcourse import losses\nmine = losses.kd_loss": True,
    "import kdcourse.losses as every\nmine = every.soft.kd_loss": True,
    "from kdcourse.losses import *\nmine = kd_loss": True,
    "mine = vars(losses)['kd_loss']": True,
    "def kd_loss(a, b): return 0\nmine = kd_loss": False,
    "# as kd_loss does\ndef mine(a, b): return 0": False,
    "from kdcourse.losses import hint_loss": False,
}


@pytest.mark.parametrize(("source", "told"), BORROWED.items())
def test_the_packages_own_answer_is_told_under_any_name(source, told):
    assert taken_from_the_package([source], ["kd_loss"]) == ["uses kd_loss of the package"] * told


ASKED = {
    "ex01_teacher_and_student": "accuracy", "ex02_soft_targets": "mean_interval", "ex06_self_distillation": "ExitNet",
    "ex07_online_and_progressive": "linear", "ex15_born_again": "born_again",
}  # fmt: skip
NOTHING_TO_BORROW = {"ex10_best_practices"}  # it asks for judgement and plans: the package has no answer to take


@pytest.mark.parametrize("path", sorted((ROOT / "solutions").glob("ex*.py")), ids=lambda path: path.stem)
def test_every_key_says_what_it_asks_for_and_its_solutions_do_without(path):
    key = parse_notebook(json.dumps(build_exercises.assemble(path)).encode(), path.name)
    asked = asked_of(key)
    assert bool(asked) == (path.stem not in NOTHING_TO_BORROW)
    assert path.stem not in ASKED or ASKED[path.stem] in asked
    solutions = [cell["source"] for cell in key["cells"] if is_solution(cell)]
    assert taken_from_the_package(solutions, asked) == []
    assert asked_of(release(key, hidden_tests=True)) == asked  # the package's key holds no solution, and says it too
