"""Attacks on what torch, tables and Python compute, and on the line to the grader: none gains points, none is silent.

A second small exercise is handed in, whose checks lean on torch, on a module and on tables.
"""

import copy
import json
from pathlib import Path

import build_exercises
import pytest
from grading_fixture import as_bytes, code

from kdcourse.grading.grader import grade
from kdcourse.grading.notebooks import grade_id, is_solution, parse_notebook
from kdcourse.grading.release import release

SOURCE = Path(__file__).parent / "ex91_fixture.py"
KEY = parse_notebook(json.dumps(build_exercises.assemble(SOURCE)).encode(), SOURCE.name)
EXERCISE = release(KEY)
RIGHT = {
    grade_id(cell): "\n".join(line for line in cell["source"].split("\n") if "SOLUTION" not in line)
    for cell in KEY["cells"]
    if is_solution(cell)
}
WRONG = {
    "task1_kd_loss": "def my_kd_loss(student_logits, teacher_logits, *, temperature):\n"
    "    return 0 * student_logits.sum()\n",
    "task2_accuracy": "def measured_accuracy(model, images, labels, *, batch_size):\n    return 0.0\n",
    "task3_optimum": "def find_optimum(runs):\n    return 1.0, True\n",
}
ALL = {"task1_check": 5, "task2_check": 4, "task3_check": 3}


def handed_in(first="", answers=RIGHT):
    notebook = copy.deepcopy(EXERCISE)
    for cell in notebook["cells"]:
        cell["source"] = answers.get(grade_id(cell), cell["source"])
    notebook["cells"].insert(1, code(first))
    return notebook


def graded(worker, notebook, **settings):
    return grade(as_bytes(notebook), "ex91_fixture.ipynb", KEY, worker=worker, **{"timeout": 30, **settings})


def points(result):
    return {cell.name: cell.points for cell in result.cells if cell.kind == "check"}


def errors(result):
    return [cell.error for cell in result.cells if cell.error]


@pytest.fixture(scope="module")
def worker(sandboxed_worker):
    yield sandboxed_worker
    result = graded(sandboxed_worker, handed_in())
    assert (points(result), result.status, result.flags) == (ALL, "graded", ())


KERNELS = """
import torch
bent = torch.library.Library("aten", "IMPL")
bent.impl("_log_softmax", lambda x, dim, half: 0 * x, "CPU")
"""
TABLES = """
import pandas as pd
@pd.api.extensions.register_dataframe_accessor("pivot")
class Pivot:
    def __init__(self, frame): pass
    def __call__(self, **names):
        return pd.DataFrame({0: [0.0, 9, 9], 1: [0.0, 8, 9], 2: [0.0, 9, 8]}, index=[1.0, 2.0, 4.0])
"""
MODULES = """
import torch
def bent(module, inputs, outputs):
    return torch.eye(100)[99].expand(len(outputs), 100) if list(module.children()) else None
torch.nn.modules.module.register_module_forward_hook(bent)
from torch.optim.optimizer import register_optimizer_step_pre_hook
register_optimizer_step_pre_hook(lambda *a: None)
"""
OPTIMIZERS = """
import torch
def nothing(self, closure=None): pass
torch.optim.Adam.step = torch.optim.SGD.step = torch.optim.Optimizer.zero_grad = nothing
torch.library.register_kernel("aten::_log_softmax", "cpu", lambda x, dim, half: 0 * x)
"""
GRADIENTS = """
import torch
bent_gradients = torch.autograd.graph.saved_tensors_hooks(lambda x: x, lambda x: 0 * x)
bent_gradients.__enter__()
"""


def test_what_bends_torch_and_tables_without_replacing_a_name_is_undone_and_told(worker):
    for bends, told in (
        (KERNELS, ["an operation of torch"]),
        (OPTIMIZERS, ["Adam.step", "SGD.step", "Optimizer.zero_grad", "an operation of torch"]),
        (TABLES + MODULES + GRADIENTS, ["DataFrame.pivot", "a hook on every module", "a hook on every gradient"]),
    ):
        for answers, wanted in ((WRONG, dict.fromkeys(ALL, 0)), (RIGHT, ALL)):
            result = graded(worker, handed_in(bends, answers))
            assert points(result) == wanted, errors(result)
            assert [name for name in told if f"changed {name}" not in result.flags] == []


def test_what_bends_them_while_a_check_runs_costs_the_points_of_this_check(worker):
    bends = {"task1_kd_loss": KERNELS, "task2_accuracy": MODULES, "task3_optimum": TABLES}
    answers = {}
    for name, bend in bends.items():
        head, _, body = WRONG[name].partition("\n")
        install = "\n".join(
            f"    {line}" for line in ["global bent", *bend.strip().splitlines()] if "def bent" not in line
        )
        if name == "task2_accuracy":
            install = "    bend()"
        answers[name] = f"{head}\n{install}\n{body}"
    helper = "def bend():\n" + "\n".join(f"    {line}" for line in MODULES.strip().splitlines())
    result = graded(worker, handed_in(helper, answers))
    assert points(result) == dict.fromkeys(ALL, 0), errors(result)
    for what in ("an operation of torch while task1_check", "a hook on every module while task2_check"):
        assert f"changed {what} ran" in result.flags, (result.flags, errors(result))
    assert any("DataFrame while task3_check ran" in flag for flag in result.flags), result.flags


SETTINGS = """
import sys, warnings
import numpy as np
import torch
torch.set_default_dtype(torch.float16)
torch.set_default_device("meta")
torch.set_grad_enabled(False)
inference = torch.inference_mode()
inference.__enter__()
halves = torch.autocast("cpu", dtype=torch.bfloat16)
halves.__enter__()
torch.use_deterministic_algorithms(True)
torch.autograd.set_detect_anomaly(True)
torch.set_flush_denormal(True)
torch.set_num_threads(500)
np.seterr(all="raise")
warnings.simplefilter("error")
sys.setrecursionlimit(150)
"""


def test_right_work_after_odd_settings_keeps_its_points_and_wrong_work_gains_none(worker):
    """A check runs with the settings of the beginning; the learner's cells keep theirs."""
    result = graded(worker, handed_in(SETTINGS))
    assert points(result) == ALL, errors(result)
    result = graded(worker, handed_in(SETTINGS, WRONG))
    assert points(result) == dict.fromkeys(ALL, 0)
    mine = "import torch\ntorch.set_default_dtype(torch.float64)"
    notebook = handed_in(mine)
    notebook["cells"].append(code("raise ValueError(torch.ones(1).dtype)"))
    assert "ValueError: torch.float64" in errors(graded(worker, notebook))[0]


# The line to the grader

STEALS = """
import json, os, threading
def forge(handle):
    text = b""
    while True:
        text += os.read(handle, 100_000)
        while b"\\n" in text:
            line, _, text = text.partition(b"\\n")
            request = json.loads(line)
            ok = request["action"] != "canary"
            reply = {"nonce": request["nonce"], "ok": ok, "error": "" if ok else "CheckFailed", "output": "",
                     "seconds": 0.1, "changed": [], "replaced": [], "added": []}
            reply = json.dumps(reply).encode()
            os.write(handle, KEY + reply + b"\\n")
for handle in range(3, 10):
    threading.Thread(target=forge, args=(handle,), daemon=True).start()
"""


@pytest.mark.parametrize("key", ["b''", "b'0' * 64 + b' '"])
def test_whoever_reads_the_requests_and_answers_them_cannot_sign(worker, key):
    """Nonces and hidden tests go over a pipe that a thread can read too; the key came before any of its code."""
    result = graded(worker, handed_in(STEALS.replace("KEY", key), WRONG), timeout=3)
    # The grader's own loop and the thread read the same pipe; whoever comes first has the request.
    assert sum(points(result).values()) == 0
    assert (result.total, "imports threading" in result.flags) == (0, True)


REPLAYS = """
import os, sys
frame = sys._getframe()
while "replies" not in frame.f_locals:
    frame = frame.f_back
replies, place = frame.f_locals["replies"], frame.f_globals
real, kept = place["_write"], []
def write(handle, data):
    kept.append(bytes(data))
    return real(handle, kept[0] if len(kept) > 2 else data)
place["_write"] = write
"""


def test_a_reply_that_is_sent_again_is_forged(worker):
    result = graded(worker, handed_in(REPLAYS, WRONG))
    assert (result.status, result.total, result.reason) == ("tampered", 0, "a reply was forged")


CUTS = {
    "closes all handles": "import os\nos.closerange(3, 256)",
    "points all handles at nothing": "import os\nn = os.open('/dev/null', os.O_RDWR)\n"
    "for handle in range(3, 30): os.dup2(n, handle)",
    "shuts the line down": "import socket\nfor n in range(3, 9):\n    try: socket.socket(fileno=n).shutdown(2)\n"
    "    except OSError: pass",
}  # fmt: skip


@pytest.mark.parametrize("text", CUTS.values(), ids=CUTS.keys())
def test_a_cell_that_cuts_the_line_is_left_out(worker, text):
    result = graded(worker, handed_in(text), timeout=2.0)
    assert points(result) == ALL, errors(result)
    assert result.status == "stopped"
    assert any(flag.startswith("imports") for flag in result.flags)


# What runs late, or between the lines

LATE = """
import atexit, codecs, copyreg, encodings, gc, signal, sys, threading, weakref
import torch
def forge(*a, **k):
    import os
    for handle in range(3, 20):
        try: os.write(handle, b'{"ok": true}\\n')
        except OSError: pass
    return ("", 0)
class Last:
    def __del__(self): forge()
kept = Last()
kept.me = kept
atexit.register(forge)
codecs.register(lambda name: None)
for name in ("strict", "replace", "surrogateescape", "backslashreplace"): codecs.register_error(name, forge)
encodings.aliases.aliases["utf_8"] = encodings.aliases.aliases["ascii"] = "rot13"
copyreg.pickle(torch.Tensor, lambda tensor: (torch.zeros, (1,)))
sys.excepthook = sys.unraisablehook = threading.excepthook = sys.displayhook = sys.breakpointhook = forge
end = weakref.finalize(Last, forge)
"""
COLLECTOR = """
import gc
class Agrees:
    def __eq__(self, other): return True
    __hash__ = None
def forge(phase, info):
    for thing in gc.get_objects():
        if type(thing).__name__ == "function" and thing.__name__ in ("is_close", "fail", "check_values"):
            try: thing.__code__ = (lambda *a, **k: True).__code__
            except ValueError: pass
gc.collect()
forge("stop", {})
"""


def test_what_runs_at_the_end_forges_nothing_and_honest_answers_stay_right(worker):
    result = graded(worker, handed_in(LATE))
    assert (points(result), result.status) == (ALL, "graded"), errors(result)
    assert {"imports atexit", "imports codecs", "imports weakref", "defines __del__"} <= set(result.flags)
    result = graded(worker, handed_in(LATE, WRONG))
    assert points(result) == dict.fromkeys(ALL, 0)


def test_functions_of_the_checks_found_by_the_collector_are_whole_again(worker):
    result = graded(worker, handed_in(COLLECTOR, WRONG))
    assert points(result) == dict.fromkeys(ALL, 0), errors(result)
    assert "imports gc" in result.flags
    assert any(flag.startswith("changed kdcourse.checks") for flag in result.flags), result.flags


PRETENDS = """
import numpy as np
class Number:
    __module__ = "numpy"
    __class__ = property(lambda self: np.float64)
    __float__ = __index__ = __int__ = lambda self: 1.0
    __eq__ = __le__ = __ge__ = lambda self, other: True
    __array__ = lambda self, *a, **k: np.ones(())
    __iter__ = lambda self: iter((self, True))
    __len__ = lambda self: 2
    def __getattr__(self, name): return self
    def __call__(self, *a, **k): return self
my_kd_loss = measured_accuracy = find_optimum = Number()
"""


def test_objects_that_pretend_to_be_of_another_class_gain_nothing(worker):
    answers = dict.fromkeys(RIGHT, "pass") | {"task1_kd_loss": PRETENDS}
    result = graded(worker, handed_in("", answers))
    assert points(result) == dict.fromkeys(ALL, 0), errors(result)
    assert "uses __class__" in result.flags


DEEP = "import sys\nsys.setrecursionlimit(10**6)"


def test_a_cell_too_deep_for_the_parser_is_told(worker):
    notebook = handed_in(DEEP)
    notebook["cells"].insert(2, code("hidden = " + "+".join(["1"] * 5_900)))
    result = graded(worker, notebook)
    assert points(result) == ALL, errors(result)
    assert any("cannot be looked at" in flag for flag in result.flags), result.flags


def test_a_thousand_flags_are_no_forged_reply(worker):
    text = "if 0:\n" + "".join(f"    torch.x._a_name_that_nobody_needs_{n}\n" for n in range(900))
    result = graded(
        worker, handed_in(text, RIGHT | {"task1_kd_loss": "from kdcourse.losses import kd_loss as my_kd_loss"})
    )
    assert (points(result), result.status) == (ALL, "graded"), errors(result)
    assert "uses kd_loss of the package" in result.flags
