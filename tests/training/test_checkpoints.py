"""A run that was stopped, however hard, ends in the same bits as one that was not."""

import contextlib
import copy
import itertools
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kdcourse._files import write_atomically
from kdcourse.data import Minibatches, jitter
from kdcourse.models import make_mlp
from kdcourse.recipes import distill
from kdcourse.training import fit
from kdcourse.training.checkpoints import load_checkpoint

EPOCHS, STEPS = 3, 12  # 500 digits at batch 128: four steps an epoch, the last of them smaller


class Stop(Exception):
    """A kernel interrupt, a full disk, a closed laptop."""


class Memory(nn.Module):
    """What an objective may remember beside the student: here the mean of the losses so far."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.ones(()))


class Trojan:
    """Unpickling it would make a folder: any code could run there."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def run(digits, checkpoint=None, *, stop_at=None, on_step=lambda index: None, **options):
    """A run with everything that has a state: dropout, jitter, Adam, a scheduler, a memory, the step's index."""
    torch.manual_seed(0)
    student, memory = make_mlp(12, dropout=0.3), Memory()
    optimizer = torch.optim.Adam(student.parameters(), lr=1e-2, fused=True)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=STEPS)
    indices = []

    def objective(student, images, labels):
        ce = F.cross_entropy(student(images), labels)
        memory.mean.lerp_(ce.detach(), 0.5)
        return {"ce": ce, "remembered": ce * memory.mean.clone()}

    def after_step(step):
        on_step(step.index)
        if step.index == stop_at:
            raise Stop
        scheduler.step()
        indices.append(step.index)

    options = {
        "epochs": EPOCHS, "seed": 3, "augment": jitter, 
        "evaluate": lambda student: {"norm": student[1].weight.detach().norm().item()},
        "parts": {"scheduler": scheduler, "memory": memory}, "checkpoint_seconds": 0.0, "progress": False,
    } | options  # fmt: skip
    history = fit(student, digits, objective, optimizer, after_step=after_step, checkpoint=checkpoint, **options)
    state = {"student": student.state_dict(), "memory": memory.mean, "optimizer": optimizer.state_dict()}
    return state | {"rate": scheduler.get_last_lr(), "random": torch.get_rng_state()}, history, indices


def assert_same_run(left, right):
    torch.testing.assert_close(left[0], right[0], rtol=0, atol=0)
    torch.testing.assert_close(left[1].terms, right[1].terms, rtol=0, atol=0)
    assert left[1].evaluations == right[1].evaluations
    assert left[1].steps == STEPS


@pytest.mark.parametrize("stop_at", [0, 1, 3, 4, 6, 7, 11])  # the first step, inside epochs, at their ends, the last
def test_a_run_stopped_at_any_step_and_continued_equals_one_never_stopped(digits, tmp_path, stop_at):
    whole = run(digits)
    with pytest.raises(Stop):
        run(digits, tmp_path / "run.pt", stop_at=stop_at)
    torch.rand(5)  # the global generator was used for something else in between
    continued = run(digits, tmp_path / "run.pt")
    assert_same_run(continued, whole)
    assert continued[2] == list(range(stop_at, STEPS))  # it went on, it did not start anew


def test_a_run_stopped_in_each_of_its_epochs_still_equals_one_never_stopped(digits, tmp_path):
    for stop_at in (1, 5, 10):
        with pytest.raises(Stop):
            run(digits, tmp_path / "run.pt", stop_at=stop_at)
    assert_same_run(run(digits, tmp_path / "run.pt"), run(digits))


def test_checkpoints_that_lie_steps_apart_lose_time_but_no_bits(digits, tmp_path, monkeypatch):
    ticks = iter(range(10_000))
    monkeypatch.setattr("kdcourse.training.fitting.time.monotonic", lambda: float(next(ticks)))
    with pytest.raises(Stop):
        run(digits, tmp_path / "run.pt", stop_at=8, checkpoint_seconds=2.0)
    continued = run(digits, tmp_path / "run.pt", checkpoint_seconds=2.0)
    assert continued[2][0] == 6  # saved after every third step
    assert_same_run(continued, run(digits))


def test_writing_checkpoints_does_not_change_the_run(digits, tmp_path):
    assert_same_run(run(digits, tmp_path / "run.pt"), run(digits))


def test_a_finished_run_is_not_trained_further(digits, tmp_path):
    first = run(digits, tmp_path / "run.pt")
    again = run(digits, tmp_path / "run.pt")
    assert again[2] == []
    assert_same_run(again, first)


def test_a_process_killed_in_the_middle_of_an_epoch_and_started_again_equals_one_never_killed(digits, tmp_path):
    """SIGKILL: no handler runs, no file is closed, whatever was being written stays half written."""
    checkpoint = tmp_path / "run.pt"
    command = [sys.executable, __file__, str(checkpoint)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        for line in process.stdout:
            if line == "step 6\n":
                process.kill()
                break
    assert process.returncode == -signal.SIGKILL
    assert checkpoint.exists()
    continued = run(digits, checkpoint)
    assert 1 <= continued[2][0] <= 11
    assert_same_run(continued, run(digits))


# Files


def test_a_failure_while_writing_leaves_the_old_file_and_no_litter(tmp_path):
    path = tmp_path / "file"
    write_atomically(path, lambda temporary: temporary.write_bytes(b"old"))

    def fail_half_way(temporary: Path):
        temporary.write_bytes(b"new, but only ha")
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space left"):
        write_atomically(path, fail_half_way)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_nobody_sees_a_file_before_it_is_whole(tmp_path):
    path = tmp_path / "new folder" / "file"

    def write(temporary: Path):
        temporary.write_bytes(b"half")
        assert not path.exists()
        temporary.write_bytes(b"whole")

    write_atomically(path, write)
    assert path.read_bytes() == b"whole"


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(digits, tmp_path, monkeypatch):
    checkpoint, save, calls = tmp_path / "run.pt", torch.save, []

    def save_half(state, temporary):
        calls.extend([temporary] if isinstance(temporary, Path) else [])  # the trial before the work is in memory
        if len(calls) == 6:
            Path(temporary).write_bytes(b"PK half a file")
            raise OSError("no space left on device")
        save(state, temporary)

    monkeypatch.setattr("torch.save", save_half)
    with pytest.raises(OSError, match="no space left"):
        run(digits, checkpoint)
    monkeypatch.setattr("torch.save", save)
    continued = run(digits, checkpoint)
    assert continued[2][0] == 5
    assert_same_run(continued, run(digits))


def test_a_student_that_broke_never_replaces_a_good_checkpoint(digits, tmp_path):
    student, checkpoint, turn = make_mlp(4), tmp_path / "run.pt", itertools.count()

    def objective(student, images, labels):
        return {"ce": F.cross_entropy(student(images), labels) * (float("nan") if next(turn) == 2 else 1.0)}

    with pytest.raises(FloatingPointError, match="the checkpoint, if any, is from before"):
        fit(
            student, digits, objective, torch.optim.SGD(student.parameters(), lr=0.1), epochs=2,
            checkpoint=checkpoint, checkpoint_seconds=0.0, progress=False,
        )  # fmt: skip
    saved = torch.load(checkpoint, weights_only=True)["parts"]["student"]
    assert not any(tensor.isfinite().all() for tensor in student.state_dict().values())
    assert all(tensor.isfinite().all() for tensor in saved.values())


# Refusals


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 4}, "epochs: 3 there, 4 here"),
        ({"batch_size": 64}, "batch_size: 128 there, 64 here"),
        ({"seed": 4}, "seed: 3 there, 4 here"),
        ({"augment": None}, "augment: True there, False here"),
        ({"settings": {"temperature": 4.0}}, "temperature: None there, 4.0 here"),
        ({"parts": {}}, r"parts: \['batches', 'optimizer', 'parts.memory', .* there, \['batches', 'optimizer',"),
    ],
)
def test_a_checkpoint_of_a_run_with_other_settings_is_refused_and_says_which(digits, tmp_path, options, message):
    run(digits, tmp_path / "run.pt")
    with pytest.raises(ValueError, match=rf"run\.pt belongs to a run with other settings \({message}"):
        run(digits, tmp_path / "run.pt", **options)


def test_a_checkpoint_of_other_data_or_of_another_student_is_refused(digits, tmp_path):
    run(digits, tmp_path / "run.pt")
    with pytest.raises(ValueError, match="samples: 500 there, 400 here"):
        run(digits.take(400), tmp_path / "run.pt")
    student = make_mlp(13)
    with pytest.raises(ValueError, match=r"parameters: \[\[12, 784\].* there, \[\[13, 784\]"):
        fit(
            student, digits, None, torch.optim.SGD(student.parameters(), lr=0.1),
            epochs=EPOCHS, seed=3, augment=jitter, checkpoint=tmp_path / "run.pt", progress=False,
        )  # fmt: skip


@pytest.mark.parametrize("knob", [{"temperature": 2.0}, {"alpha": 0.5}])
def test_distilling_at_another_temperature_or_alpha_does_not_return_the_old_student(digits, tmp_path, knob):
    settings = {"epochs": 1, "checkpoint": tmp_path / "student.pt"}
    distill(make_mlp(4), make_mlp(8), digits, **settings)
    with pytest.raises(ValueError, match=f"{next(iter(knob))}: .* there, {next(iter(knob.values()))} here"):
        distill(make_mlp(4), make_mlp(8), digits, **settings, **knob)


def test_continuing_with_another_teacher_is_refused_and_with_a_copy_of_the_same_it_is_not(digits, tmp_path):
    settings = {"epochs": 1, "checkpoint": tmp_path / "student.pt"}
    teacher = make_mlp(8)
    distill(make_mlp(4), teacher, digits, **settings)
    distill(make_mlp(4), copy.deepcopy(teacher), digits, **settings)
    with torch.no_grad():
        next(teacher.parameters())[0, 0] += 1e-3
    with pytest.raises(ValueError, match=r"other settings .*teacher: [0-9a-f]{24} there, [0-9a-f]{24} here"):
        distill(make_mlp(4), teacher, digits, **settings)


def small_run(digits, checkpoint, *, scale=1.0, power=1, make_optimizer=torch.optim.SGD, data=None, **options):
    """A run whose objective, optimizer and data can differ from another's while all counts and shapes agree."""
    torch.manual_seed(1)
    student = make_mlp(6)

    def objective(student, images, labels):
        return {"ce": scale * F.cross_entropy(student(images), labels) ** power}

    options = {"epochs": 2, "checkpoint": checkpoint, "progress": False} | options
    return fit(student, data or digits, objective, make_optimizer(student.parameters(), lr=0.1), **options)


@pytest.mark.parametrize(
    ("other", "name"),
    [
        ({"scale": 2.0}, "objective"),  # a knob
        ({"power": 2}, "objective"),
        ({"make_optimizer": torch.optim.Adam}, "optimizer"),
        ({"make_optimizer": lambda parameters, lr: torch.optim.SGD(parameters, lr=lr / 2)}, "optimizer"),
        ({"make_optimizer": lambda parameters, lr: torch.optim.SGD(parameters, lr=lr, momentum=0.9)}, "optimizer"),
        ({"augment": jitter}, "augment"),
        ({"drop_last": True}, "drop_last"),
    ],
)
@pytest.mark.trap(73)
def test_a_checkpoint_of_another_objective_optimizer_or_data_is_refused(digits, tmp_path, other, name):
    checkpoint = tmp_path / "run.pt"
    small_run(digits, checkpoint)
    assert small_run(digits, checkpoint).steps == 8  # the same run, from another call
    with pytest.raises(
        ValueError, match=rf"run\.pt belongs to a run with other settings \(.*{name}: .* there, .* here"
    ):
        small_run(digits, checkpoint, **other)


@pytest.mark.trap(73)
def test_a_checkpoint_of_as_many_other_samples_is_refused(digits, tmp_path):
    small_run(digits, tmp_path / "run.pt")
    labels = digits.labels.clone()
    labels[-1] = (labels[-1] + 1) % 10
    with pytest.raises(ValueError, match=r"other settings \(data: \w+ there, \w+ here\)"):
        small_run(digits, tmp_path / "run.pt", data=(digits.images, labels))


@pytest.mark.trap(74)
@pytest.mark.parametrize("number", [np.float64(0.5), np.float32(0.5), np.int64(3), torch.tensor(0.5), True, 3])
def test_numbers_of_numpy_and_torch_from_evaluate_are_kept_as_pythons(digits, tmp_path, number):
    evaluate = lambda student: {"score": number}  # noqa: E731
    history = small_run(digits, tmp_path / "run.pt", evaluate=evaluate)
    assert type(history.evaluations[0]["score"]) in (int, float)
    assert small_run(digits, tmp_path / "run.pt", evaluate=evaluate).evaluations == [{"score": float(number)}] * 2


@pytest.mark.parametrize("wrong", [None, 0.5, {"score": "good"}, {"scores": np.ones(3)}])
def test_what_is_no_evaluation_is_refused(digits, wrong):
    with pytest.raises(ValueError, match="evaluate must return a dict from str to number, got"):
        small_run(digits, None, evaluate=lambda student: wrong)


class Counter:
    """A part whose state is a NumPy number, which no checkpoint can be read with."""

    def state_dict(self):
        return {"count": np.float64(1)}

    def load_state_dict(self, state):
        pass


def test_a_part_that_no_checkpoint_can_keep_is_named_before_the_work(digits, tmp_path):
    with pytest.raises(ValueError, match=r"the state of 'parts\.counter' cannot be kept in a checkpoint"):
        small_run(digits, tmp_path / "run.pt", parts={"counter": Counter()}, after_step=pytest.fail)
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_that_cannot_be_written_is_found_before_the_work(digits, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(OSError, match=r"run\.pt"):
        small_run(digits, tmp_path / "file" / "run.pt", after_step=pytest.fail)


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state["parts"]["student"].pop("1.weight"),
        lambda state: state["parts"]["optimizer"].update(param_groups=[]),
        lambda state: state["parts"]["batches"].pop("epoch"),
        lambda state: state.update(random=torch.zeros(3)),
    ],
)
def test_an_altered_checkpoint_is_named_and_changes_nothing(digits, tmp_path, change):
    checkpoint = tmp_path / "run.pt"
    small_run(digits, checkpoint)
    state = torch.load(checkpoint, weights_only=True)
    change(state)
    torch.save(state, checkpoint)
    torch.manual_seed(1)
    student = make_mlp(6)
    before, random = copy.deepcopy(student.state_dict()), torch.get_rng_state()
    with pytest.raises(ValueError, match=r"run\.pt is damaged or altered \(.*Delete it to start anew"):
        load_checkpoint(
            checkpoint,
            {
                "student": student,
                "optimizer": torch.optim.SGD(student.parameters(), lr=0.1),
                "batches": Minibatches(*digits),
            },
            state["settings"],
        )
    torch.testing.assert_close(student.state_dict(), before, rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), random)
    assert list(tmp_path.iterdir()) == [checkpoint]


def test_every_flipped_byte_of_a_checkpoint_is_refused_or_changes_nothing(digits, tmp_path):
    checkpoint = tmp_path / "run.pt"
    small_run(digits, checkpoint)
    content = checkpoint.read_bytes()
    for place in range(0, len(content), max(1, len(content) // 40)):
        changed = bytearray(content)
        changed[place] ^= 0xFF
        checkpoint.write_bytes(changed)
        with contextlib.suppress(ValueError):
            assert small_run(digits, checkpoint).steps == 8
            assert torch.load(checkpoint, weights_only=True)["history"]["terms"]["ce"].isfinite().all()


def test_a_refused_checkpoint_leaves_the_student_as_it_was(digits, tmp_path):
    run(digits, tmp_path / "run.pt")
    student = make_mlp(12, dropout=0.3)
    before = [parameter.clone() for parameter in student.parameters()]
    with pytest.raises(ValueError, match="other settings"):
        fit(
            student, digits, None, torch.optim.SGD(student.parameters(), lr=0.1),
            epochs=1, checkpoint=tmp_path / "run.pt", progress=False,
        )  # fmt: skip
    torch.testing.assert_close(list(student.parameters()), before, rtol=0, atol=0)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 half a file", b"not a checkpoint"])
def test_a_file_that_is_no_checkpoint_is_refused_by_name(digits, tmp_path, content):
    (tmp_path / "run.pt").write_bytes(content)
    with pytest.raises(
        ValueError, match=r"run\.pt is not a checkpoint that fit wrote \(\w+\)\. Delete it to start anew"
    ):
        run(digits, tmp_path / "run.pt")


def test_another_programs_file_is_refused_and_no_code_in_it_runs(digits, tmp_path):
    torch.save({"weights": torch.ones(3)}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match=r"other\.pt is not a checkpoint"):
        run(digits, tmp_path / "other.pt")
    torch.save({"settings": Trojan(tmp_path / "opened")}, tmp_path / "code.pt")
    with pytest.raises(ValueError, match=r"code\.pt is not a checkpoint"):
        run(digits, tmp_path / "code.pt")
    assert not (tmp_path / "opened").exists()


if __name__ == "__main__":  # the process that is killed
    from kdcourse.data import load_mnist

    torch.set_num_threads(1)
    run(load_mnist().train.take(500), Path(sys.argv[1]), on_step=lambda index: print(f"step {index}", flush=True))
