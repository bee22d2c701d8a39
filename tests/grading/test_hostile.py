"""What hostile, broken and odd submissions get: each costs its author what it should, and nobody else anything."""

import copy
import json
from pathlib import Path

import psutil
import pytest
from grading_fixture import EXERCISE, KEY, POINTS, RIGHT, as_bytes, code, handed_in, points

from kdcourse.grading.grader import grade

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 6.0  # seconds for a cell here
SHORT = 2.5  # where a cell is known to take all of them


def graded(worker, notebook, **settings):
    data = notebook if isinstance(notebook, bytes) else as_bytes(notebook)
    return grade(data, "ex90_fixture.ipynb", KEY, worker=worker, **{"timeout": PATIENCE, **settings})


@pytest.fixture
def worker(sandboxed_worker):
    """After every test an honest submission must get all points from the same worker."""
    yield sandboxed_worker
    result = graded(sandboxed_worker, handed_in())
    assert (result.total, result.status, result.flags) == (16, "graded", ())


def expect(result, *, lost=(), status="graded", flag=None):
    wanted = {task: 0 if task in lost else most for task, most in POINTS.items()}
    assert points(result) == wanted, [cell.error for cell in result.cells]
    assert result.status == status, result.reason
    assert result.total == (0 if status == "tampered" else sum(wanted.values()))
    if flag is None:
        assert result.flags == ()
    else:
        assert any(flag in told for told in result.flags), result.flags


def test_right_wrong_and_untouched_work(worker):
    expect(graded(worker, handed_in()))
    expect(graded(worker, EXERCISE), lost=POINTS)
    expect(graded(worker, handed_in(task2="def double(number):\n    return 6\n")), lost=["task2"])
    no_factor = graded(worker, handed_in(task1=RIGHT["task1"].replace("temperature**2 * ", "")))
    expect(no_factor, lost=["task1"])
    assert any("T²" in cell.error for cell in no_factor.cells)


# Cells that do not end, or end too much.

ENDS = {
    "while True": "while True:\n    pass",
    "swallows interrupts": "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
    "sleeps": "import time\ntime.sleep(10_000)",
    "swallows signals": """
import signal
for number in range(1, 30):
    try: signal.signal(number, lambda *a: None)
    except OSError: pass
while True: pass
""",
    "os._exit": "import os\nos._exit(0)",
    "abort": "import os\nos.abort()",
    "segmentation fault": "import ctypes\nctypes.string_at(0)",
    "stops itself": "import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)\nwhile True: pass",
    "endless line": "while True:\n    print('x' * 10_000, end='')",
    "overflow of the C stack": "import sys\nsys.setrecursionlimit(10**9)\ndef f(n): return f(n + 1) + 1\nf(0)",
    "an error whose message never ends": "class E(Exception):\n    def __str__(self):\n        while 1: pass\nraise E",
    "a number that takes hours": "import sys\nsys.set_int_max_str_digits(0)\nraise ValueError(10 ** 30_000_000)",
}  # fmt: skip


@pytest.mark.parametrize("text", ENDS.values(), ids=ENDS.keys())
def test_a_cell_that_does_not_end_is_left_out_and_the_others_are_graded(worker, text):
    result = graded(worker, handed_in(task2=text), timeout=SHORT)
    expect(result, lost=["task2"], status="stopped", flag="" if result.flags else None)
    stuck = next(cell for cell in result.cells if cell.name == "task2_double")
    assert "It was left out" in stuck.error


def test_a_function_that_hangs_in_its_check_costs_its_task_only(worker):
    result = graded(worker, handed_in(task2="def double(number):\n    while True: pass\n"), timeout=SHORT)
    expect(result, lost=["task2"], status="stopped")


EXITS = ["import sys\nsys.exit(0)", "raise SystemExit", "raise KeyboardInterrupt", "exit()", "1/0"]


@pytest.mark.parametrize("text", EXITS)
def test_an_exit_is_an_error_of_its_cell(worker, text):
    result = graded(worker, handed_in(task2=text))
    expect(result, lost=["task2"], flag="imports sys" if "sys" in text else None)


def test_a_submission_that_hangs_everywhere_ends_with_its_time(worker):
    hangs = dict.fromkeys(RIGHT, "while True: pass")
    result = graded(worker, handed_in(**hangs), timeout=1.0, budget=3.0)
    expect(result, lost=POINTS, status="stopped")


# Too much of something.

CALL = (
    "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\nif libc.{call} == -1: raise OSError(ctypes.get_errno())"
)
TOO_MUCH = {
    "memory of Python": "hog = [bytearray(100_000_000) for _ in range(40)]",
    "memory of torch": "hog = torch.ones(1_200_000_000)",
    "disk": "with open('big', 'wb') as file:\n    for _ in range(1000): file.write(bytes(1_000_000))",
    "many files": "for n in range(100_000): open(f'f{n}', 'w').close()",
    "shared memory": "with open('/dev/shm/big', 'wb') as file:\n    for _ in range(1000): file.write(bytes(1_000_000))",
    "root of the file system": "open('/big', 'w')",
    "package": "import kdcourse\nopen(kdcourse.__file__, 'a').write('x')",
    "threads": """
import threading, time
for _ in range(10_000): threading.Thread(target=time.sleep, args=(100,), daemon=True).start()
""",
    "network": "import socket\nsocket.create_connection(('1.1.1.1', 53), timeout=3)",
    "name server": "import socket\nsocket.getaddrinfo('example.org', 80)",
    "kill the parent": "import os\nos.kill(os.getppid() or 2, 9)",
    "become root": "import os\nos.setuid(0)",
    "memory that is a file": "import os\nos.memfd_create('x')",
    "a user namespace": CALL.format(call="unshare(0x10000000)"),
    "a clone with namespaces": CALL.format(call="clone(0, 0, 0x10000000 | 17, 0)"),
    "a mount": CALL.format(call="mount(b'tmpfs', b'/learner', b'tmpfs', 0, None)"),
    "shared memory of System V": CALL.format(call="shmget(0, 1_000_000_000, 0o1600)"),
    "a debugger": CALL.format(call="ptrace(0, 0, 0, 0)"),
    "no such module": "import nbgrader_of_my_own",
    "nesting beyond Python's limit": "x = []\nfor _ in range(100_000): x = [x]\nrepr(x)",
    "a huge number in a message": "raise ValueError(10 ** 1_000_000)",
}  # fmt: skip


@pytest.mark.parametrize("text", TOO_MUCH.values(), ids=TOO_MUCH.keys())
def test_what_is_not_there_to_have_is_an_error_of_its_cell(worker, text):
    result = graded(worker, handed_in(task2=text), timeout=30)
    assert points(result) == {**POINTS, "task2": 0}
    assert next(cell for cell in result.cells if cell.name == "task2_double").error


def test_a_fork_bomb_ends_with_its_submission(worker):
    bomb = "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass"
    expect(graded(worker, handed_in(task2=bomb), timeout=SHORT), lost=["task2"], status="stopped", flag="imports os")


def test_memory_that_is_shared_with_nobody_is_counted(worker):
    shared = "import mmap\nmemory = mmap.mmap(-1, 6_000_000_000)\nwhile memory.write(bytes(1_000_000)): pass"
    result = graded(worker, handed_in(task2=shared), timeout=60)
    expect(result, lost=["task2"], status="stopped", flag="imports mmap")
    assert any("memory" in cell.error for cell in result.cells)


def test_a_process_holds_no_handle_but_its_own(worker):
    look = """
import os
def is_open(handle):
    try: return bool(os.fstat(handle))
    except OSError: return False
raise ValueError(len([handle for handle in range(1024) if is_open(handle)]))
"""
    result = graded(worker, handed_in(task2=look))
    error = next(cell for cell in result.cells if cell.name == "task2_double").error
    assert "ValueError: 5" in error, error  # three standard streams to nowhere, requests, replies


def test_memory_spread_over_children_is_counted_together(worker):
    spread = """
import os, time
for _ in range(8):
    if os.fork() == 0:
        hog = bytearray(b"x") * 900_000_000
        time.sleep(100)
time.sleep(100)
"""
    result = graded(worker, handed_in(task2=spread), timeout=60)
    expect(result, lost=["task2"], status="stopped", flag="imports os")
    assert any("memory" in cell.error for cell in result.cells)


def test_children_that_go_on_in_the_background_are_gone_with_their_submission(worker):
    lingering = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0: time.sleep(1000)
    os._exit(0)
"""
    graded(worker, handed_in())
    before = processes_below(worker)
    assert before
    graded(worker, handed_in(task2=f"{lingering}\n{RIGHT['task2']}"))
    assert processes_below(worker) == before


def processes_below(worker):
    return {process.pid for process in psutil.Process(worker._nest.pid).children(recursive=True)}


def test_200_000_lines_of_output_cost_nothing_and_are_cut_off(worker):
    result = graded(worker, handed_in(task2="for n in range(200_000): print(n)\n" + RIGHT["task2"]))
    expect(result)
    assert all(len(cell.output) < 10_000 for cell in result.cells)
    assert len(json.dumps(result.as_json())) < 100_000


def test_a_huge_message_is_cut_off(worker):
    result = graded(worker, handed_in(task2="raise ValueError('x' * 10_000_000)"))
    expect(result, lost=["task2"])
    assert len(json.dumps(result.as_json())) < 100_000


# Reading what is not theirs: each cell leaves what it found in an error message.

READS = {
    "key in the checkout": f"import glob\nraise ValueError(glob.glob('{ROOT}/[!.k]*') + glob.glob('{ROOT}/.git*'))",
    "keys in the package": f"import os\nraise ValueError(os.listdir('{ROOT}/kdcourse/keys'))",
    # Of the folders on the way to the package there is nothing but that way, wherever it leads.
    "neighbours": "import glob\nfound = glob.glob('/tmp/*') + glob.glob('/mnt/*') + glob.glob('/var/*')\n"
    f"raise ValueError([path for path in found if not '{ROOT}/'.startswith(path + '/')])",
    "processes": "import os\nraise ValueError(os.listdir('/proc'))",
    "work folder": "import os\nraise ValueError(os.listdir('.'))",
    "home": "import glob\nfound = glob.glob('/root/.[!p]*') + glob.glob('/root/*') + glob.glob('/home/*')\n"
    f"raise ValueError([path for path in found if not '{ROOT}/'.startswith(path + '/')])",
    "passwords": "raise ValueError([])  # /etc\nopen('/etc/shadow')",
    "signals to others": "import os\ntry: os.kill(-1, 0)\nexcept ProcessLookupError: raise ValueError([])",
}  # fmt: skip


@pytest.mark.parametrize("text", READS.values(), ids=READS.keys())
def test_nothing_of_others_can_be_seen(worker, text):
    result = graded(worker, handed_in(task2=text), timeout=30)
    error = next(cell for cell in result.cells if cell.name == "task2_double").error
    assert "ValueError: []" in error, error


def test_the_environment_holds_nothing_of_the_teachers(worker, monkeypatch):
    monkeypatch.setenv("GRADEBOOK_PASSWORD", "hunter2")
    result = graded(worker, handed_in(task2="import os\nraise ValueError(sorted(os.environ))"))
    error = next(cell for cell in result.cells if cell.name == "task2_double").error
    assert "GRADEBOOK_PASSWORD" not in error
    assert "HOME" in error


@pytest.mark.parametrize(("number", "found"), [(3, 0), (-7, 1)], ids=["visible", "hidden"])
def test_hidden_tests_are_in_no_frame_before_the_visible_ones_have_passed(worker, number, found):
    """The second case shows that the spy does find them once they run; its message goes to the teacher only."""
    spy = f"""
import sys
def double(number):
    if number != {number}: return 2 * number
    frame, seen, secret = sys._getframe().f_back, 0, "".join(["secret: ", "minus seven"])
    while frame:
        held = [*frame.f_code.co_consts, *frame.f_locals.values(), *frame.f_globals.values()]
        seen += sum(isinstance(value, str) and secret == value for value in held)
        frame = frame.f_back
    raise ValueError(f"found {{seen}}")
"""
    result = graded(worker, handed_in(task2=spy))
    expect(result, lost=["task2"], flag="imports sys")
    check = next(cell for cell in result.cells if cell.name == "task2_check")
    assert (check.error, check.in_hidden_test) == (f"ValueError: found {found}", number == -7)


# Forging.

FORGE = """
import os, json
for handle in range(3, 256):
    for text in {texts}:
        try: os.write(handle, text)
        except OSError: pass
"""
FORGED = {
    "an answer without a nonce": ["""json.dumps({"ok": True, "error": ""}).encode() + b"\\n" """],
    "an answer with a guessed nonce": ["""json.dumps({"nonce": "0" * 32, "error": ""}).encode() + b"\\n" """],
    "not JSON": ["b'}{\\n'"],
    "a list": ["b'[]\\n'"],
    "deep JSON": ["b'[' * 50000 + b'\\n'"],
    "bytes without end": ["b'x' * 1_000_000"] * 20,
    "not UTF-8": ["b'\\xff\\xfe\\n'"],
}  # fmt: skip


@pytest.mark.parametrize("texts", FORGED.values(), ids=FORGED.keys())
def test_a_forged_reply_ends_the_grading_with_no_points(worker, texts):
    text = FORGE.format(texts="[" + ", ".join(texts) + "]")
    result = graded(worker, handed_in(task2=text + RIGHT["task2"]))
    assert (result.status, result.total) == ("tampered", 0)
    assert any("imports os" in flag for flag in result.flags)


def test_writing_on_the_standard_streams_forges_nothing(worker):
    text = "import os, sys\nfor n in (1, 2): os.write(n, b'{}\\n')\nprint('{}', file=sys.__stdout__, flush=True)\n"
    expect(graded(worker, handed_in(task2=text + RIGHT["task2"])), flag="imports os")


def test_a_cell_that_serves_the_replies_itself_is_caught_by_the_canary(worker):
    """A hijacked loop that answers every request with success, nonce and all."""
    text = """
import hmac, json, os, sys
frame = sys._getframe()
while "requests" not in frame.f_locals or "replies" not in frame.f_locals:
    frame = frame.f_back
requests, replies, nonce, key = (frame.f_locals[name] for name in ("requests", "replies", "nonce", "key"))
while True:
    reply = {"nonce": nonce, "ok": True, "error": "", "output": "", "seconds": 0.1, "changed": [], "replaced": []}
    reply = json.dumps(reply).encode()
    os.write(replies, hmac.digest(key, reply, "sha256").hex().encode() + b" " + reply + b"\\n")
    nonce = json.loads(requests.readline())["nonce"]
"""
    result = graded(worker, handed_in(task1=text, task2=None, task3=None, task4=None))
    assert (result.status, result.total) == ("tampered", 0)
    assert "wrong answers were accepted" in result.reason
    assert any("_getframe" in flag for flag in result.flags)


# Each is put at the end of a right solution of task 3; tasks 1, 2, 4 stay stubs or wrong: their points would be forged.
REPLACED = {
    "a check by its name": "def check_kd_loss(*args, **kwargs): pass",
    "a check in its module": "import kdcourse.checks\nkdcourse.checks.check_kd_loss = lambda *a, **k: None",
    "a check where it is defined": "import kdcourse.checks.soft_targets as m\nm.check_kd_loss = lambda *a, **k: None",
    "what checks call": """
import kdcourse.checks.soft_targets as m
m.check_values = m.check_gradient = m.check_no_gradient = lambda *a, **k: None
""",
    "what checks compare with": """
import kdcourse.checks.comparing as m
m.is_close = lambda *a, **k: True
m.fail = print
""",
    "the code of a check": """
from kdcourse.checks import check_kd_loss
def nothing(function, *, seed=None): pass
check_kd_loss.__code__ = nothing.__code__
""",
    "tolerances": """
from kdcourse.checks.comparing import check_values
check_values.__kwdefaults__.update(rtol=1e9, atol=1e9)
""",
    "the oracle": """
import kdcourse.losses, kdcourse.checks.soft_targets as m
kdcourse.losses.kd_loss = m._kd_loss = lambda *a, **k: torch.zeros(())
""",
    "torch.allclose": "torch.allclose = lambda *a, **k: True",
    "Tensor.mean": "torch.Tensor.mean = lambda self, *a, **k: rows",
    "Tensor.__eq__": "torch.Tensor.__eq__ = lambda self, other: True",
    "numpy": """
import numpy
numpy.asarray = lambda *a, **k: numpy.zeros(())
numpy.isfinite = lambda x: numpy.array(True)
""",
    "builtins": """
import builtins
builtins.all = lambda *a: True
builtins.abs = lambda x: 0.0
builtins.print = lambda *a: None
""",
    "AssertionError": "import builtins\nbuiltins.AssertionError = KeyError\nAssertionError = KeyError",
    "abs of math": "import math\nmath.isfinite = lambda x: True",
    "tracing": "import sys\nsys.settrace(lambda *a: None)\nsys.setprofile(lambda *a: None)",
    "the locked table": "table = torch.zeros(3, 4)\nrows = torch.zeros(3)",
    "the class of a module": """
class Agreeing(type(torch)):
    allclose = property(lambda self: lambda *a, **k: True)
torch.__class__ = Agreeing
""",
    "a mode for one function": """
from torch.overrides import TorchFunctionMode
class Bend(TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        return True if func is torch.allclose else func(*args, **(kwargs or {}))
Bend().__enter__()
""",
    "the table of loaded modules": """
import sys, types
for name in ("torch", "kdcourse.checks", "kdcourse.checks.comparing", "kdcourse.losses", "json"):
    sys.modules[name] = types.ModuleType(name)
""",
}  # fmt: skip
WRONG = {
    "task1": "def my_kd_loss(student_logits, teacher_logits, *, temperature):\n    return 0 * student_logits.sum()\n",
    "task2": None,
    "task4": "rows = torch.ones(3)\n",
}


@pytest.mark.parametrize("text", REPLACED.values(), ids=REPLACED.keys())
def test_what_checks_rely_on_is_put_back_before_they_run(worker, text):
    wrong = handed_in(**WRONG, task3=f"{RIGHT['task3']}\n{text}\n")
    first = copy.deepcopy(wrong)
    first["cells"].insert(2, code("import torch\nrows = torch.ones(3)\n" + text))
    for notebook in (wrong, first):
        result = graded(worker, notebook)
        expect(result, lost=["task1", "task2", "task4"], flag="" if result.flags else None)


@pytest.mark.parametrize(
    ("text", "flag"),
    [
        (REPLACED["a check in its module"], "changed kdcourse.checks.check_kd_loss"),
        (REPLACED["a check by its name"], "defines check_kd_loss"),
        (REPLACED["the code of a check"], "check_kd_loss"),
        (REPLACED["torch.allclose"], "changed torch.allclose"),
        (REPLACED["Tensor.mean"], "changed Tensor.mean"),
        (REPLACED["builtins"], "changed builtins.all"),
        (REPLACED["tracing"], "changed sys.settrace"),
        (REPLACED["numpy"], "changed numpy.asarray"),
        (REPLACED["the class of a module"], "changed the class of torch"),
        ("torch.nn.Linear.forward = lambda self, x: 0 * x", "changed Linear.forward"),
    ],
)
def test_what_was_replaced_is_told_and_right_work_keeps_its_points(worker, text, flag):
    notebook = handed_in()
    notebook["cells"].append(code("rows_before = rows\n" + text))
    notebook["cells"].insert(4, code("import torch\nrows = None\n" + text))
    expect(graded(worker, notebook), flag=flag)


def test_a_result_of_a_locked_cell_that_was_changed_in_place_is_the_keys_again(worker):
    expect(graded(worker, handed_in(task4="table.zero_()\nrows = torch.zeros(3)\n")), lost=["task4"])


# What changes checks only while they run, after all was put back, gives itself away on wrong answers.
MEANWHILE = {
    "a timer": """
import signal, kdcourse.checks.soft_targets as m
def again(*a): m.check_values = m.check_gradient = m.check_no_gradient = lambda *a, **k: None
signal.signal(signal.SIGALRM, again)
signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)
""",
    "a thread": """
import threading, kdcourse.checks.soft_targets as m
def again():
    while True: m.check_values = m.check_gradient = m.check_no_gradient = lambda *a, **k: None
threading.Thread(target=again, daemon=True).start()
""",
    "an audit hook": """
import sys, kdcourse.checks.soft_targets as m
def hook(event, arguments):
    if event == "exec": m.check_values = m.check_gradient = m.check_no_gradient = lambda *a, **k: None
sys.addaudithook(hook)
""",
}


@pytest.mark.parametrize("text", MEANWHILE.values(), ids=MEANWHILE.keys())
def test_what_changes_checks_while_they_run_accepts_wrong_answers_and_is_caught(worker, text):
    result = graded(worker, handed_in(**{**WRONG, "task3": f"{RIGHT['task3']}\n{text}\n"}))
    assert result.flags
    # A timer or thread may also come too late, and then gains nothing.
    assert points(result)["task1"] == 0 or (result.status, result.total) == ("tampered", 0)


def test_a_process_that_ends_rather_than_fail_on_wrong_answers_gets_no_points(worker):
    text = """
import os, sys, torch
frame = sys._getframe()
while "action" not in frame.f_locals:
    frame = frame.f_back
frame.f_locals["actions"]["canary"] = lambda *a: os._exit(0)
"""
    result = graded(worker, handed_in(task2=text + RIGHT["task2"]))
    assert (result.status, result.total) == ("tampered", 0)


def test_a_loss_of_the_package_in_place_of_ones_own_is_told(worker):
    borrowed = "from kdcourse.losses import kd_loss\nmy_kd_loss = kd_loss\n"
    expect(graded(worker, handed_in(task1=borrowed)), flag="uses kd_loss of the package")


def test_objects_that_agree_with_everything_pass_no_check(worker):
    agreeable = """
class Yes:
    def __getattr__(self, name): return Yes()
    def __call__(self, *a, **k): return Yes()
    def __eq__(self, other): return True
    def __lt__(self, other): return True
    __le__ = __gt__ = __ge__ = __ne__ = __lt__
    def __bool__(self): return True
    def __float__(self): return 0.0
    def __iter__(self): return iter([Yes(), Yes()])
    def __len__(self): return 2
"""
    result = graded(
        worker,
        handed_in(task1=agreeable + "my_kd_loss = Yes()\n", task3="answers = Yes()\n", task4="rows = Yes()\n"),
    )
    expect(result, lost=["task1", "task3", "task4"], flag="defines __eq__")


def test_a_torch_mode_that_bends_every_call_is_told(worker):
    mode = """
from torch.overrides import TorchFunctionMode
class Bend(TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))
Bend().__enter__()
"""
    expect(graded(worker, handed_in(task2=mode + RIGHT["task2"])), flag="a mode that bends")
