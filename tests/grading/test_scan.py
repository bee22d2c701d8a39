"""What a teacher is told to look at: names that no exercise needs, however they are reached."""

import pytest

from kdcourse.grading.inside.scan import suspicious

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
}
HONEST = """
import math
import matplotlib.pyplot as plt
from torch import nn
from kdcourse.losses import kd_loss

class Student(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(2, 2)

    def forward(self, x):
        match x.dim():
            case 2:
                return self.body(x).select(1, 0)
        return x.type_as(self.body.weight)

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
