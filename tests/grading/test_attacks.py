"""What an attacker of this grader would try: each gains nothing, is told to the teacher, and hurts nobody else.

The exercise handed in is untouched or wrong; the attack stands in its cells. Attacks by frames and by memory, which no
process can keep out of itself, are in docs/teachers.md.
"""

import contextlib
import os
import socket
import time

import psutil
import pytest
from grading_fixture import KEY, POINTS, RIGHT, as_bytes, code, handed_in, points

from kdcourse.grading.grader import grade
from kdcourse.grading.inside import isolation, watching
from kdcourse.grading.session import Session, Stopped

STUBS = dict.fromkeys(POINTS)
WRONG = {
    "task1": "def my_kd_loss(student_logits, teacher_logits, *, temperature):\n    return student_logits.sum()\n",
    "task2": "def double(number):\n    return 7\n",
    "task3": 'answers = ["c", "a"]\n',
    "task4": "rows = torch.ones(3)\n",
}
needs_versions = pytest.mark.skipif(not watching.TAGS_WORK, reason="this Python does not count the writes to a dict")


def graded(worker, notebook, **settings):
    return grade(as_bytes(notebook), "ex90_fixture.ipynb", KEY, worker=worker, **{"timeout": 20, **settings})


@pytest.fixture(scope="module")
def worker(sandboxed_worker):
    """After all these attacks an honest submission gets all points from the same worker, without a flag."""
    yield sandboxed_worker
    result = graded(sandboxed_worker, handed_in())
    assert (result.total, result.status, result.flags) == (16, "graded", ())


def surrounded(first="", last="", **tasks):
    """A submission with cells of the attacker's before and after all others."""
    notebook = handed_in(**tasks)
    notebook["cells"].insert(1, code(first))
    notebook["cells"].append(code(last))
    return notebook


def gains_nothing(result):
    assert result.total == 0, [(cell.name, cell.points, cell.error) for cell in result.cells if cell.kind == "check"]
    assert result.flags or result.status == "tampered"


# Success is said, not inferred from silence

SILENT = {
    "a class without a name": "raise type('', (BaseException,), {})",
    "a name that is deleted later": "class E(BaseException): pass\nE.__name__ = ''\nraise E",
    "a name of spaces": "raise type(' \\n ', (BaseException,), {})('\\t')",
    "a name that is no plain string": "class S(str):\n    def __eq__(s, o): return True\n    __hash__ = str.__hash__\n"
    "raise type(S('x'), (BaseException,), {})",
    "a text that is no plain string": """
class Nothing(str):
    def __getitem__(self, part): return ''
    def __bool__(self): return False
    def __len__(self): return 0
    def strip(self, *a): return ''
class E(AssertionError):
    def __str__(self): return Nothing('text')
raise E
""",
    "a text that cannot be had": "class E(AssertionError):\n    def __str__(self): raise SystemExit\nraise E",
    "a class of classes that lies": """
class Meta(type):
    __name__ = property(lambda c: '')
class E(BaseException, metaclass=Meta): pass
raise E
""",
    "a traceback that lies": "class E(BaseException):\n    __traceback__ = property(lambda e: 1 / 0)\nraise E",
    "a syntax error of its own making": "e = SyntaxError('')\ne.filename, e.lineno = '<task1_check>', [5]\nraise e",
    "an error like the check's own, without text": "class CheckFailed(AssertionError): pass\nraise CheckFailed('')",
    "the end of a generator": "raise StopIteration",
    "the end of a coroutine": "raise GeneratorExit",
    "many errors": "raise BaseExceptionGroup('', [KeyboardInterrupt()])",
    "an exit with success": "raise SystemExit(0)",
}


@pytest.mark.parametrize("text", SILENT.values(), ids=SILENT.keys())
def test_an_error_is_an_error_whatever_it_is_called(worker, text):
    indented = "\n".join(f"    {line}" for line in text.strip().split("\n"))
    answer = f"def NAME(*args, **kwargs):\n{indented}\n"
    loss, double = (answer.replace("NAME", name) for name in ("my_kd_loss", "double"))
    result = graded(worker, handed_in(task1=loss, task2=double))
    assert points(result) == {**POINTS, "task1": 0, "task2": 0}
    assert all(cell.error for cell in result.cells if cell.kind == "check" and not cell.points)


@pytest.mark.parametrize("text", SILENT.values(), ids=SILENT.keys())
def test_a_cell_that_ends_with_any_error_has_one(worker, text):
    result = graded(worker, handed_in(task4=text))
    assert points(result) == {**POINTS, "task4": 0}
    assert next(cell.error for cell in result.cells if cell.name == "task4_rows")


# The grader's own modules, and what they use, are out of reach

NAMES = (
    "kdcourse.grading.cells", "kdcourse.grading.inside.cells", "kdcourse.grading.inside.serving",
    "kdcourse.grading.inside.integrity", "kdcourse.grading.inside.bench",
)  # fmt: skip
UNREACHABLE = {
    "describe, through a parameter": """
import kdcourse.grading.inside.cells
def silence(m):
    m._described = lambda *a: ("", 0, "")
    m._in_words = m.describe = lambda *a: ""
silence(kdcourse.grading.inside.cells)
""",
    "all functions of all its modules": f"""
import importlib
for name in {NAMES}:
    m = importlib.import_module(name)
    for part in list(vars(m)):
        if callable(vars(m)[part]): vars(m)[part] = lambda *a, **k: ("", 0, "")
""",
    "whatever is loaded of it": """
import sys
for name in list(sys.modules):
    if "grading" in name or name == "__main__":
        m = sys.modules[name]
        for part in list(vars(m)):
            if part.startswith(("run_cell", "_desc", "serve", "_send", "_chunks", "suspicious")):
                vars(m)[part] = lambda *a, **k: ""
""",
    "how replies are written": """
import json
def forge(c):
    real = c.encode
    def encode(self, reply): return real(self, {**reply, "ok": True, "error": ""})
    c.encode = encode
    c.iterencode = lambda self, reply, *a: iter([encode(self, reply)])
forge(json.encoder.JSONEncoder)
json.dumps = lambda reply, **k: real(reply)
""",
    "how requests are read": """
import json
def forge(c):
    real = c.decode
    c.decode = lambda self, text, *a: {**real(self, text, *a), "source": "pass"}
forge(json.decoder.JSONDecoder)
""",
    "the functions that are built in": """
import builtins
def forge(b):
    really = b.isinstance
    def isinstance(thing, kind):
        if really(thing, dict) and "error" in thing: thing.update(ok=True, error="")
        return really(thing, kind)
    b.isinstance = isinstance
    b.compile = lambda *a, **k: (lambda: None).__code__
    b.exec = lambda *a, **k: None
    b.str = lambda *a: ""
    b.dict = lambda *a, **k: {"ok": True, "error": ""}
forge(builtins)
""",
    "the stream that is printed to": """
import sys
def forge(c):
    c.kept = property(lambda self: 1 / 0)
    c.write = lambda self, text: 1 / 0
    c.run_cell = c.write.__globals__.get("run_cell")
    for name in list(c.write.__globals__): c.write.__globals__[name] = None
forge(type(sys.stdout))
""",
    "what stands for IPython": """
for thing in (get_ipython, display):
    places = (thing.__getattr__ if thing is get_ipython else thing).__globals__
    for name in list(places): places[name] = lambda *a, **k: ""
""",
    "the names of the checks": "check_kd_loss = check_picture = lambda *a, **k: None",
    "the modules of the checks": """
import kdcourse.checks, kdcourse.checks.soft_targets, kdcourse.checks._core
def silence(m):
    for name in list(vars(m)):
        if callable(vars(m)[name]): vars(m)[name] = lambda *a, **k: None
for m in (kdcourse.checks, kdcourse.checks.soft_targets, kdcourse.checks._core): silence(m)
""",
    "the table of modules": """
import sys, types
for name in [*sys.modules]:
    if name.startswith("kdcourse"): sys.modules[name] = types.ModuleType(name)
""",
    "how modules are found": """
import sys, importlib
sys.meta_path.clear()
sys.path_hooks.clear()
sys.path.clear()
importlib.invalidate_caches()
""",
    "the functions of the checks themselves": """
places = check_kd_loss.__globals__
for name in list(places):
    if callable(places[name]): places[name] = lambda *a, **k: None
""",
    "how text becomes code": "import ast, re\nast.parse = ast.walk = lambda *a: []\nre.match = re.split = None",
    "the clock": "import time\ntime.perf_counter = time.monotonic = lambda: 'now'",
    "the lines of files": "import linecache\nlinecache.cache = None",
}


@pytest.mark.parametrize("text", UNREACHABLE.values(), ids=UNREACHABLE.keys())
def test_what_decides_is_not_the_learners_to_change(worker, text):
    for tasks in (STUBS, WRONG):
        gains_nothing(graded(worker, surrounded(text, **tasks)))


def test_names_that_locked_cells_use_are_the_keys_for_them_and_the_learners_afterwards(worker):
    task3 = RIGHT["task3"] + "torch = None\n__builtins__ = {}\n"
    task4 = "assert torch is None\n" + RIGHT["task4"]
    result = graded(worker, handed_in(task3=task3, task4=task4))
    assert points(result) == POINTS, [cell.error for cell in result.cells]
    assert "changed torch, a name of the exercise's own cells" in result.flags


@pytest.mark.parametrize("name", NAMES)
def test_what_was_silenced_in_the_first_cell_and_put_back_in_the_last_gains_nothing(worker, name):
    first = f"""
import {name} as m
def silence(m):
    global kept
    kept = dict(vars(m))
    m.describe = m._described = m.run_cell = m.serve = m.restore = lambda *a, **k: ""
silence(m)
"""
    gains_nothing(graded(worker, surrounded(first, "for k in kept: setattr(m, k, kept[k])", **STUBS)))


# What is replaced while a check runs, and put back before anybody looks

ARMED = """
calls = [0]
def arm(m):
    if calls[0]: return
    real = m.{name}
    def fake(*args, **kwargs):
        calls[0] += 1
        if calls[0] >= {count}: m.{name} = real
        return {answer}
    m.{name} = fake
    calls[0] = 1
import numpy, torch, math, functools, inspect, copy
def my_kd_loss(student_logits, teacher_logits, *, temperature):
    arm({module})
    return student_logits.sum()
def double(number):
    arm({module})
    return 7
"""
UNDONE = {
    "numpy.asarray": ("numpy", "asarray", "m.zeros(())", 10_000),
    "numpy.asarray, for 60 calls": ("numpy", "asarray", "m.zeros(())", 60),
    "math.isfinite": ("math", "isfinite", "True", 50),
    "torch.equal": ("torch", "equal", "True", 10),
    "torch.allclose": ("torch", "allclose", "True", 2),
    "numpy's own parts": ("numpy.core._methods", "_all", "True", 3),
    "a method of tensors": ("torch.Tensor", "abs", "torch.ones(2)", 3),
    "inspect": ("inspect", "isgenerator", "False", 30),
}


@needs_versions
@pytest.mark.parametrize(("module", "name", "answer", "count"), UNDONE.values(), ids=UNDONE.keys())
def test_what_puts_itself_back_is_noticed_and_costs_the_points(worker, module, name, answer, count):
    text = ARMED.format(module=module, name=name, answer=answer, count=count)
    result = graded(worker, handed_in(**STUBS | {"task1": text, "task2": "pass"}))
    gains_nothing(result)
    assert any("while task1_check ran" in flag for flag in result.flags), result.flags


@needs_versions
def test_right_work_that_replaces_something_while_it_is_checked_gets_no_points_for_this(worker):
    text = RIGHT["task1"].replace("    log_q", "    torch.allclose = print\n    log_q", 1)
    result = graded(worker, handed_in(task1=text))
    assert points(result) == {**POINTS, "task1": 0}
    assert "changed torch while task1_check ran" in result.flags


@needs_versions
def test_the_code_of_a_function_that_puts_itself_back_is_noticed(worker):
    text = """
import torch.nn.functional as F
def my_kd_loss(student_logits, teacher_logits, *, temperature):
    real = F.kl_div.__code__
    F.kl_div.__code__ = (lambda *a, **k: None).__code__
    F.kl_div.__code__ = real
    return student_logits.sum()
"""
    right = text.replace("    return student_logits.sum()\n", RIGHT["task1"].partition("\n")[2])
    result = graded(worker, handed_in(task1=right))
    assert points(result) == {**POINTS, "task1": 0}
    assert any("kl_div while task1_check ran" in flag for flag in result.flags)


ORDINARY = """
def double(number):
    import collections, copy, dataclasses, enum, functools, inspect, itertools, json, math, random, statistics, typing
    import warnings, numpy as np, pandas as pd, matplotlib.pyplot as plt, torch, torch.nn.functional as F
    from torch import nn
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.warn("careful")
    warnings.warn("careful")
    warnings.filterwarnings("ignore")
    random.seed(0), np.random.seed(0), torch.manual_seed(0)
    torch.set_grad_enabled(True), torch.set_printoptions(precision=3), np.set_printoptions(precision=3)
    torch.set_default_dtype(torch.float32), torch.set_num_threads(1), torch.use_deterministic_algorithms(False)
    with torch.no_grad(), np.errstate(all="ignore"), torch.device("cpu"):
        torch.zeros(2) + 1
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.autograd.set_detect_anomaly(False):
        nn.Linear(2, 2)(torch.zeros(1, 2))
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Dropout())
    handle = model[0].register_forward_hook(lambda *a: None)
    full = model[0].register_full_backward_hook(lambda *a: None)
    for make in (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW):
        optimizer = make(model.parameters(), lr=0.1)
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1)
        model(torch.randn(4, 2)).square().mean().backward()
        optimizer.step(), schedule.step(), optimizer.zero_grad()
    handle.remove(), full.remove()
    torch.func.vmap(torch.sin)(torch.ones(3)), torch.func.grad(torch.sin)(torch.tensor(1.0))
    torch.autograd.functional.jacobian(torch.sin, torch.ones(2))
    nn.utils.parametrizations.weight_norm(nn.Linear(2, 2)), nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    torch.func.functional_call(model[0], dict(model[0].named_parameters()), torch.zeros(1, 2))
    F.kl_div(torch.zeros(2, 2), torch.zeros(2, 2)), F.interpolate(torch.zeros(1, 1, 2, 2), scale_factor=2)
    nn.MultiheadAttention(2, 1)(*[torch.zeros(1, 1, 2)] * 3), copy.deepcopy(model), copy.copy(torch.ones(1))
    torch.testing.assert_close(torch.ones(1), torch.ones(1)), np.testing.assert_allclose(1, 1)
    pd.DataFrame({"a": [1, 2]}).groupby("a").mean(), pd.set_option("display.width", 80)
    figure, ax = plt.subplots()
    ax.plot([1, 2]), plt.close(figure)
    class Student(nn.Module):
        def forward(self, x): return x
    Student()(torch.zeros(1)), collections.namedtuple("Pair", "a b")(1, 2)
    dataclasses.make_dataclass("D", ["a"])(1), enum.Enum("E", "a b"), functools.lru_cache(len)("a")
    inspect.signature(double), json.dumps({"a": 1}), statistics.mean([1, 2]), typing.NamedTuple("N", [("a", int)])
    return 2 * number
"""


def test_what_ordinary_functions_do_is_not_taken_for_replacing(worker):
    result = graded(worker, handed_in(task2=ORDINARY), timeout=60)
    assert points(result) == POINTS, [cell.error for cell in result.cells]
    assert [flag for flag in result.flags if "changed" in flag or "added" in flag] == []


COMPILED = """
@torch.compile
def my_kd_loss(student_logits, teacher_logits, *, temperature):
    log_q = torch.log_softmax(student_logits / temperature, dim=-1)
    log_p = torch.log_softmax(teacher_logits.detach() / temperature, dim=-1)
    return temperature**2 * (log_p.exp() * (log_p - log_q)).sum(dim=-1).mean()


double = torch.compile(lambda number: 2 * number, fullgraph=True)
"""


def test_a_right_answer_that_is_compiled_gets_its_points(worker):
    result = graded(worker, handed_in(task1=COMPILED, task2="pass"), timeout=60)
    assert points(result) == POINTS, [cell.error for cell in result.cells]
    assert result.flags == ()


# No canary, no points

SILENCED = """
import numpy
def silence(m): m.asarray = lambda *a, **k: m.zeros(())
silence(numpy)
"""
CRASH = "import os\nos._exit(0)"


@pytest.mark.parametrize("last", [CRASH, "import time\ntime.sleep(1000)", "1 / 0"])
def test_what_comes_after_the_checks_does_not_keep_points_without_a_canary(worker, last):
    notebook = surrounded(SILENCED, **WRONG)
    notebook["cells"] += [code(last) for _ in range(10)]
    gains_nothing(graded(worker, notebook, timeout=1.5, budget=8.0))


def test_right_work_with_many_crashing_cells_keeps_what_was_confirmed_and_is_flagged(worker):
    notebook = handed_in()
    notebook["cells"] += [code(CRASH) for _ in range(10)]
    result = graded(worker, notebook)
    assert (points(result), result.status) == (POINTS, "stopped")
    assert any("8 times a cell ended the process" in flag for flag in result.flags)


# Deadlines


def test_a_process_that_does_not_read_is_waited_for_no_longer_than_is_said():
    ours, theirs = socket.socketpair()
    session = Session(ours.sendall, ours.makefile("rb"), lambda: theirs.close() or ours.close() or "")
    start = time.monotonic()
    with pytest.raises(Stopped, match="took longer than"):
        session.ask("learner", timeout=0.3, source="x" * 50_000_000, name="cell")
    assert time.monotonic() - start < 5


ANSWERS_ITSELF = """
import hmac, json, os, sys, time
frame = sys._getframe()
while "requests" not in frame.f_locals or "replies" not in frame.f_locals:
    frame = frame.f_back
reply = {"nonce": frame.f_locals["nonce"], "ok": True, "error": "", "output": "", "seconds": 0.1}
reply = json.dumps(reply).encode()
signature = hmac.digest(frame.f_locals["key"], reply, "sha256").hex().encode()
os.write(frame.f_locals["replies"], signature + b" " + reply + b"\\n")
time.sleep(1000)
"""


def test_a_cell_that_answers_its_own_request_and_never_reads_again_holds_nobody_up(worker):
    notebook = handed_in(task2=ANSWERS_ITSELF)
    notebook["cells"].insert(-1, code("# " + "😀" * 49_000))
    start = time.monotonic()
    result = graded(worker, notebook, timeout=2.0, budget=30.0)
    assert time.monotonic() - start < 60
    assert points(result)["task2"] == 0
    assert result.flags


@pytest.mark.skipif(not hasattr(os, "fork"), reason="only where processes fork")
def test_a_fork_that_never_says_which_process_it_is_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(isolation, "FIRST_WORD", 0.2)
    monkeypatch.setattr(isolation, "_unshare", lambda privileged: time.sleep(1000))
    with pytest.raises(OSError, match="does not answer"):
        isolation.fork_isolated(lambda: None, isolation.DEFAULT_LIMITS)


# kill -9


def test_a_worker_that_is_killed_in_the_middle_is_replaced(worker):
    graded(worker, handed_in())
    process = psutil.Process(worker._nest.pid)
    for victim in [*process.children(recursive=True), process]:
        with contextlib.suppress(psutil.NoSuchProcess):
            victim.kill()
        assert graded(worker, handed_in()).total == 16


def test_a_worker_that_is_killed_between_two_cells_costs_nobody_anything(worker):
    class Kill:
        done = False

        def __call__(self):
            if not self.done:
                self.done = True
                worker._nest.kill()

    result = graded(worker, handed_in(), on_cell=Kill())
    assert (result.total, result.status, result.flags) == (16, "graded", ())
