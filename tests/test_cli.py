"""The command line: what it prints, what it refuses in one line, what it leaves behind."""

import errno
import io
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd
import pytest

from kdcourse import zoo
from kdcourse.__main__ import STUDENTS, main
from kdcourse.commands import console, distill, when_it_helps

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["distill", "--temperature", "0"], "temperature must be positive and finite, got 0.0"),
        (["distill", "--temperature", "nan"], "temperature must be positive and finite, got nan"),
        (["distill", "--temperature", "1e-300"], "temperature must be at least 1e-20, got 1e-300"),
        (["distill", "--alpha", "1.5"], r"alpha must be in [0, 1], got 1.5"),
        (["distill", "--alpha", "0.5", "--steps", "9"], "--images and --steps belong to the question"),
        (["distill", "--teacher", "einstein"], "there is no teacher 'einstein'"),
        (["distill", "--device", "abacus"], "device 'abacus' is not on this machine"),
        (["distill", "--device", "cpu:7"], "device 'cpu:7' is not on this machine; here: "),
        (["distill", "--threads", "100000"], "the number of threads must be a positive integer, got 100000; at most "),
        (["distill", "--picture", "no/such/folder/picture.png"], "must be a .png in a folder that exists"),
        (["distill", "--picture", "LICENSE/x.png"], "must be a .png in a folder that exists"),
        (["zoo", "train", "einstein"], "there is no teacher 'einstein'"),
        (["zoo", "train", "teacher_mlp", "--device", "cpu:1"], "device 'cpu:1' is not on this machine"),
        (["zoo", "train", "teacher_mlp", "--folder", "LICENSE"], "LICENSE/teacher_mlp.safetensors: Not a directory"),
        (["zoo", "train", "teacher_mlp", "--checkpoint", "docs"], "docs: Is a directory"),
        (["grade", "no/such.ipynb"], "there is no file no/such.ipynb: save the notebook"),
        (["grade", "pyproject.toml", "--out", "x"], "--out is for a folder; pyproject.toml is none."),
        (["grade", "pyproject.toml", "--show-hidden"], "--show-hidden is for a folder; pyproject.toml is none."),
        (["grade", "notebooks"], "notebooks is a folder: say with --out where"),
        (["grade", "notebooks", "--out", "x", "--json"], "--json is for one file"),
        (["grade", "notebooks", "--out", "LICENSE"], "LICENSE/grades.csv: Not a directory"),
        (["grade", "docs", "--out", "x"], "there is no notebook in docs"),
        (["grade", "docs", "--out", "x", "--key", "docs"], "there is no notebook in docs"),
        (["grade", "LICENSE"], "LICENSE is not a notebook"),
        (["grade", "a" * 5000], ": File name too long"),
        (["grade", "notebooks/00_start_here.ipynb"], "00_start_here.ipynb does not say which exercise it is"),
        (["release", "--root", "docs"], "there is no solutions/NAME/NAME.ipynb in docs"),
        (["selftest", "ex99"], "there are no keys named ex99"),
    ],
)
def test_a_wrong_value_gets_one_clear_line_and_exit_code_2(arguments, message, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert main(arguments) == 2
    written = capsys.readouterr()
    assert message in written.err
    assert written.err.count("\n") == 1
    assert written.out == ""
    assert not (ROOT / "x").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["distill", "--epochs", "0"], "argument --epochs: must be a positive integer, got '0'"),
        (["distill", "--epochs", "²"], "argument --epochs: must be a positive integer, got '²'"),
        (["distill", "--epochs", "1.5"], "argument --epochs: must be a positive integer, got '1.5'"),
        (["distill", "--epochs", " 3"], "argument --epochs: must be a positive integer, got ' 3'"),
        (["distill", "--epochs", "9" * 5000], "argument --epochs: must be a positive integer, got '999"),
        (["distill", "--images", "300", "55001"], "must be a positive integer, got '55001'; at most 55,000"),
        (["distill", "--seeds", "1000000"], "must be a positive integer, got '1000000'; at most 1,000 "),
        (["distill", "--seed", "9" * 20], "must be a whole number from 0, got '99999999999999999999'; at most 4,294,"),
        (["distill", "--seed", "-1"], "argument --seed: must be a whole number from 0, got '-1'"),
        (["distill", "--temperature", "warm"], "argument --temperature: invalid float value: 'warm'"),
        (["distill", "--student", "giant"], "argument --student: invalid choice: 'giant'"),
        (["distill", "--picture", ""], "argument --picture: must be a path, got ''"),
        (["zoo", "train", "teacher_mlp", "--folder", ""], "argument --folder: must be a path, got ''"),
        (["zoo", "train", "teacher_mlp", "--checkpoint", ""], "argument --checkpoint: must be a path, got ''"),
        (["grade", ""], "argument path: must be a path, got ''"),
        (["grade", "x", "--out", ""], "argument --out: must be a path, got ''"),
        (["grade", "x", "--key", ""], "argument --key: must be a path, got ''"),
        (["grade", "x", "--executor", ""], "must be a Dask scheduler's address, such as tcp://host:8786, got ''"),
        (["grade", "x", "--executor", "banana"], "must be a Dask scheduler's address, such as tcp://host:8786, got"),
        (["grade", "x", "--executor", "tcp://"], "must be a Dask scheduler's address, such as tcp://host:8786, got"),
        (["grade", "x", "--executor", "http://a:1"], "must be a Dask scheduler's address, such as tcp://host:8786"),
        (["grade", "x", "--executor", "tcp://a:99999"], "must be a Dask scheduler's address, such as tcp://host:87"),
        (["grade", "x.ipynb", "--timeout", "0"], "argument --timeout: must be a positive number of seconds, got '0'"),
        (["grade", "x.ipynb", "--timeout", "nan"], "must be a positive number of seconds, got 'nan'"),
        (["grade", "x", "-j", "0"], "argument -j/--jobs: must be a positive integer, got '0'"),
        (["release", "--root", ""], "argument --root: must be a path, got ''"),
        (["doctor", "a\nb"], "unrecognized arguments: a b"),
        (["boil"], "invalid choice: 'boil'"),
        ([], "required: COMMAND"),
    ],
)
def test_wrong_usage_gets_one_clear_line_and_exit_code_2(arguments, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert len(error) < 300


def test_the_parser_offers_the_students_that_there_are():
    assert set(STUDENTS) == set(distill.STUDENTS)


# What cannot be written


@pytest.fixture
def no_training(monkeypatch):
    for module in (distill, when_it_helps):
        monkeypatch.setattr(module, "sweep", lambda **_: pytest.fail("students were trained"))
    monkeypatch.setattr(zoo, "train_teacher", lambda *_, **__: pytest.fail("a teacher was trained"))


@pytest.mark.parametrize(
    "arguments",
    [
        ["distill", "--picture", "closed/picture.png"],
        ["distill", "--picture", "closed/picture.png", "--epochs", "2"],
        ["zoo", "train", "teacher_mlp", "--folder", "closed"],
        ["zoo", "train", "teacher_mlp", "--folder", "closed/deeper"],
        ["zoo", "train", "teacher_mlp", "--checkpoint", "closed/teacher.pt"],
        ["grade", "handed_in", "--out", "closed"],
        ["grade", "handed_in", "--out", "closed/graded"],
    ],
)
@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.ENOSPC])
def test_what_cannot_be_written_is_found_before_the_work(arguments, number, tmp_path, monkeypatch, capsys, no_training):
    (tmp_path / "closed").mkdir()
    (tmp_path / "handed_in").mkdir()
    monkeypatch.chdir(tmp_path)

    elsewhere = tempfile.TemporaryFile

    def refuse(dir=None, **options):
        if Path(dir).name == "closed":
            raise OSError(number, os.strerror(number))
        return elsewhere(dir=dir, **options)

    monkeypatch.setattr("kdcourse._files.tempfile.TemporaryFile", refuse)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert "closed" in error
    assert error.endswith(f": {os.strerror(number)}\n")
    assert error.count("\n") == 1
    assert list((tmp_path / "closed").iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_found_before_the_work(tmp_path, capsys, no_training):
    tmp_path.chmod(0o555)
    assert main(["distill", "--picture", str(tmp_path / "picture.png")]) == 2
    assert capsys.readouterr().err == f"kdcourse distill: {tmp_path / 'picture.png'}: Permission denied\n"


def test_a_picture_that_cannot_be_written_in_the_end_does_not_lose_the_table(tmp_path, monkeypatch, capsys):
    runs = pd.DataFrame({"arm": ["plain", "label smoothing", "distilled"], "seed": [0, 0, 0], "test_errors": [3, 2, 1]})
    monkeypatch.setattr(distill, "distillation_report", lambda *_, **__: distill.Report("the table", runs, 1))

    def full(path, write):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(distill, "write_atomically", full)
    picture = tmp_path / "picture.png"
    assert main(["distill", "--picture", str(picture), "--device", "cpu", "--threads", "1", "--epochs", "1"]) == 2
    written = capsys.readouterr()
    assert written.out.endswith("the table\n")
    assert written.err == f"kdcourse distill: {picture}: No space left on device\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_result_that_standard_output_does_not_take_goes_to_standard_error(monkeypatch, capsys):
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert main(["zoo"]) == 2
        monkeypatch.undo()
    first, *_, last = capsys.readouterr().err.splitlines()
    assert first.startswith("hinton_teacher ")
    assert last == "kdcourse zoo: standard output: No space left on device"


def test_an_error_names_the_file_and_not_the_temporary_one_beside_it(tmp_path):
    from kdcourse._files import write_atomically

    def fill_the_disk(temporary):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(temporary))

    with pytest.raises(OSError, match="No space left") as raised:
        write_atomically(tmp_path / "result.json", fill_the_disk)
    assert console.sentence_about(raised.value) == f"{tmp_path / 'result.json'}: No space left on device"
    assert list(tmp_path.iterdir()) == []


# Teachers


def test_a_teacher_is_trained_beside_the_shipped_one_by_default(tmp_path, monkeypatch, capsys):
    calls = []
    record = {"name": "teacher_mlp", "test_errors": 7, "test_images": 10}
    monkeypatch.setattr(zoo, "train_teacher", lambda name, **options: calls.append(options) or record)
    monkeypatch.chdir(tmp_path)
    assert main(["zoo", "train", "teacher_mlp"]) == 0
    assert calls[0]["folder"] == Path("teachers")
    assert "7 test errors of 10 images: teachers" in capsys.readouterr().out


def test_the_shipped_teacher_is_replaced_only_by_force(monkeypatch, capsys, no_training):
    folder = ROOT / "kdcourse" / "weights"
    before = (folder / "teacher_mlp.safetensors").read_bytes()
    assert main(["zoo", "train", "teacher_mlp", "--folder", str(folder)]) == 2
    assert "teacher_mlp.safetensors exists: choose another --folder, or replace it" in capsys.readouterr().err
    assert (folder / "teacher_mlp.safetensors").read_bytes() == before


def test_with_force_a_teacher_is_replaced(tmp_path, monkeypatch):
    (tmp_path / "teacher_mlp.safetensors").touch()
    calls = []
    record = {"name": "teacher_mlp", "test_errors": 7, "test_images": 10}
    monkeypatch.setattr(zoo, "train_teacher", lambda name, **options: calls.append(options) or record)
    assert main(["zoo", "train", "teacher_mlp", "--folder", str(tmp_path), "--force"]) == 0
    assert len(calls) == 1


# Terminals, pipes, code pages

TEXT = "T = 4, α = .7: 284 ± 31, 2×1200, 10² ≥ 5 → 3 … naïve 日本 \udcff Ω"


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "cp437", "latin-1", "utf-8"])
def test_no_code_page_loses_a_result(encoding, monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    console.never_stop_at_a_letter()
    console.say(TEXT)
    written = stream.buffer.getvalue().decode(encoding)
    assert written.startswith("T = 4, ")
    assert "284 ± 31" in written or "284 +- 31" in written
    assert "日本" in written or r"\u65e5\u672c" in written
    assert r"\udcff" in written
    assert "na\\xefve" not in written  # an accent is dropped where it cannot be shown; the word stays readable


def test_a_terminal_that_knows_only_ascii_gets_plain_signs(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    console.never_stop_at_a_letter()
    console.say("α ± × ² ≥ → … é")
    assert stream.buffer.getvalue() == b"alpha +- x ^2 >= -> ... e\n"


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_the_zoo_is_listed_whole_in_another_encoding(encoding):
    done = subprocess.run(
        [sys.executable, "-m", "kdcourse", "zoo"],
        capture_output=True, env={**os.environ, "PYTHONIOENCODING": encoding},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    lines = done.stdout.decode(encoding).splitlines()
    assert len(lines) == 2 * len(zoo.TEACHERS)


def test_a_closed_pipe_ends_the_command_silently():
    process = subprocess.Popen(
        [sys.executable, "-m", "kdcourse", "zoo"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.close()  # as head does when it has seen enough
    assert process.stderr.read() == b""
    assert process.wait() == 141


def test_help_into_a_closed_pipe_ends_silently_too():
    process = subprocess.Popen(
        [sys.executable, "-m", "kdcourse", "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.close()
    assert process.stderr.read() == b""
    process.wait()


def test_a_pipe_that_breaks_elsewhere_is_not_taken_for_a_reader_who_left(monkeypatch, capsys):
    def broken(options):
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr("kdcourse.commands.doctor.run", broken)
    assert main(["doctor"]) == 2
    assert "Broken pipe" in capsys.readouterr().err


def test_an_error_is_one_line_in_which_nothing_drives_the_terminal():
    assert console.one_line("a\nb\tc  d") == "a b c d"
    assert console.one_line("\x1b[31mred\x07 \u202e\udcff") == r"\x1b[31mred\x07 \u202e\udcff"


@pytest.mark.skipif(sys.platform == "win32", reason="a folder in use cannot be removed there")
def test_a_current_folder_that_is_gone_is_named(tmp_path, monkeypatch, capsys):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert main(["distill"]) == 2
    assert capsys.readouterr().err == "kdcourse distill: the current folder: No such file or directory\n"


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory: you tried 9e15"
        ),
        RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB.\nMore lines"),
    ],
)
def test_too_little_memory_is_one_line(error, monkeypatch, capsys):
    def greedy(options):
        raise error

    monkeypatch.setattr("kdcourse.commands.doctor.run", greedy)
    assert main(["doctor"]) == 2
    assert capsys.readouterr().err.startswith("kdcourse doctor: not enough memory; fewer seeds")


def test_a_mistake_of_ours_shows_where_it_is(monkeypatch):
    def wrong(options):
        raise RuntimeError("shapes differ")

    monkeypatch.setattr("kdcourse.commands.doctor.run", wrong)
    with pytest.raises(RuntimeError, match="shapes differ"):
        main(["doctor"])


def test_help_is_quick_because_it_loads_neither_torch_nor_tables():
    code = "import sys; from kdcourse.__main__ import make_parser; make_parser().format_help(); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.split()
    assert "kdcourse.commands.console" in loaded
    assert not {"torch", "pandas", "numpy", "matplotlib"} & set(loaded)


def test_an_interrupt_ends_with_one_word(monkeypatch, capsys):
    def interrupted(options):
        raise KeyboardInterrupt

    monkeypatch.setattr("kdcourse.commands.doctor.run", interrupted)
    assert main(["doctor"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


# A class


@pytest.mark.slow
def test_a_scheduler_that_does_not_answer_is_named_before_the_bar_begins(tmp_path, capsys):
    pytest.importorskip("distributed")
    name = "ex02_soft_targets"
    (tmp_path / "in" / "ada").mkdir(parents=True)
    exercise = (ROOT / "exercises" / name / f"{name}.ipynb").read_bytes()
    (tmp_path / "in" / "ada" / f"{name}.ipynb").write_bytes(exercise)
    address = "tcp://127.0.0.1:1"
    assert main(["grade", str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--executor", address]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"kdcourse grade: no Dask scheduler answers at {address} ")
    assert error.count("\n") == 1


# What the commands print


def test_the_doctor_names_device_threads_widgets_and_sandbox(capsys):
    assert main(["doctor"]) == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert {"kdcourse", "device", "threads", "widgets", "sandbox", "problems"} <= lines.keys()
    assert lines["problems"] == "none found"


def test_the_doctor_can_say_that_torch_is_missing():
    hide = "import sys, importlib.util as u; find = u.find_spec; sys.modules['torch'] = None"
    code = f"{hide}; u.find_spec = lambda name: None if name == 'torch' else find(name)"
    code += "; from kdcourse.__main__ import main; sys.exit(main(['doctor']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "problems  torch is missing: pip install 'torch>=2.6'" in done.stdout


def test_a_missing_package_is_named_in_one_line():
    code = "import sys; sys.modules['pandas'] = None; from kdcourse.__main__ import main; sys.exit(main(['distill']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, "kdcourse distill: pandas is missing: pip install pandas\n")


def test_the_zoo_lists_each_teacher_with_its_measured_errors(capsys):
    assert main(["zoo"]) == 0
    lines = capsys.readouterr().out.splitlines()
    teachers, settings = lines[::2], lines[1::2]
    assert [line.split()[0] for line in teachers] == list(zoo.TEACHERS)
    assert all(zoo.score(zoo.provenance(line.split()[0])) in line for line in teachers)
    assert "test errors of 10,000 images" in teachers[0]
    assert "by test errors" in settings[0]  # a score that its own test images have flattered says so
    assert all("settings: " in line for line in settings)


@pytest.mark.slow
def test_distill_prints_a_table_with_both_baselines_and_intervals_and_draws_a_picture(tmp_path):
    picture = tmp_path / "picture.png"
    command = [sys.executable, "-m", "kdcourse", "distill", "--epochs", "1", "--seeds", "2", "--threads", "1"]
    done = subprocess.run([*command, "--picture", str(picture)], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    for row in ("teacher", "plain", "label smoothing", "distilled"):
        assert any(line.strip().startswith(row + " ") for line in done.stdout.splitlines()), row
    assert "distilled - plain: " in done.stdout
    assert "distilled - label smoothing: " in done.stdout
    assert done.stdout.count("95 % interval") == 2
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert list(tmp_path.iterdir()) == [picture]
    assert "100%" not in done.stdout  # the progress bar goes to stderr


def test_one_seed_claims_no_interval():
    runs = pd.DataFrame({"arm": ["plain", "label smoothing", "distilled"], "seed": [0, 0, 0], "test_errors": [3, 2, 1]})
    assert "no interval" in distill.differences(runs)
