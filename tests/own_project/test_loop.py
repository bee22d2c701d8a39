"""A user's loop: schedules, pieces, clipping, precision, early stopping, more epochs, compiling, several processes."""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from made_data import CLOSE, EXACT, Pictures, assert_same, make_network, make_pictures, weights
from torch import nn
from torch.utils.data import DataLoader
from uses import loop

from kdcourse.objectives import label_objective
from kdcourse.recipes import distill
from kdcourse.training import KeepBest, accuracy, fit, learning_rate, train
from kdcourse.training.schedules import linear


@pytest.fixture
def teacher():
    return make_network(32, seed=1)


def make_loader(batch_size=32, **options):
    return DataLoader(Pictures(), batch_size=batch_size, **options)


# The learning rate


def watch_rates(monkeypatch):
    """The learning rate of each step of Adam."""
    rates, step = [], torch.optim.Adam.step

    def record(self, *args, **kwargs):
        rates.append(self.param_groups[0]["lr"])
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.Adam, "step", record)
    return rates


def test_the_learning_rate_warms_up_and_ends_at_0(teacher, monkeypatch):
    rates = watch_rates(monkeypatch)
    loop.warm_up(make_network(), teacher, make_loader(16))  # 10 steps
    expected = [1e-3 * min(0.1 + 0.9 * k / 9 / 0.25, (1 - k / 9) / 0.75) for k in range(10)]
    assert rates == pytest.approx(expected, abs=1e-12)


def test_a_scheduler_of_torch_steps_after_each_batch(teacher, monkeypatch):
    rates = watch_rates(monkeypatch)
    loop.scheduler_of_torch(make_network(), teacher, make_loader(16))
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1)
    reference = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.01, total_steps=10, cycle_momentum=False)
    expected = []
    for step in range(10):
        expected.append(reference.get_last_lr()[0])
        optimizer.step()
        if step < 9:
            reference.step()
    assert rates == pytest.approx(expected)


def test_a_scheduler_that_waits_for_a_measurement_is_refused(teacher):
    make = lambda optimizer, steps: torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
    with pytest.raises(ValueError, match="ReduceLROnPlateau waits for a measurement"):
        distill(make_network(), teacher, make_loader(), make_scheduler=make)


def test_the_optimizer_is_the_users(teacher):
    assert loop.other_optimizer(make_network(), teacher, make_loader()).terms["kd"][-1].isfinite()


# One step


@pytest.mark.parametrize("pieces", [2, 3, 4])
def test_a_batch_in_pieces_gives_the_step_of_the_whole_batch(pieces, teacher):
    whole, parts = make_network(), make_network()
    sgd = lambda parameters: torch.optim.SGD(parameters, lr=0.5)
    expected = distill(whole, teacher, make_loader(), epochs=1, make_optimizer=sgd)
    history = distill(parts, teacher, make_loader(), epochs=1, make_optimizer=sgd, accumulate=pieces)
    assert_same(parts, whole, rtol=0, atol=1e-6)
    torch.testing.assert_close(history.terms, expected.terms, rtol=0, atol=1e-6)
    assert history.steps == expected.steps


def test_tokens_in_pieces_count_as_in_the_whole_batch_whatever_is_ignored():
    tokens = torch.randn(6, 5, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.randint(3, (6, 5), generator=torch.Generator().manual_seed(1))
    labels[:3, 1:] = -100  # the first piece has 3 tokens that count, the second 15
    students = [nn.Linear(4, 3) for _ in range(2)]
    students[1].load_state_dict(students[0].state_dict())
    for student, pieces in zip(students, (1, 2), strict=True):
        optimizer = torch.optim.SGD(student.parameters(), lr=1.0)
        list(train(student, [(tokens, labels)], label_objective, optimizer, accumulate=pieces))
    assert_same(*students, rtol=0, atol=1e-6)


def test_accumulation_as_used_takes_one_step_per_batch_and_a_schedule_counts_steps_not_pieces(teacher):
    progress = []

    def objective(student, images, labels, teacher_logits, *, progress_seen=progress, progress=0.0):
        progress_seen.append(progress)
        return {"ce": F.cross_entropy(student(images), labels)}

    assert loop.accumulation(make_network(), teacher, make_loader()).steps == 6
    distill(make_network(), teacher, make_loader(drop_last=True), epochs=1, accumulate=4, objective=objective)
    assert progress == [0.0] * 4 + [1.0] * 4


def test_clipping_limits_the_gradient_of_all_learned_parts_together():
    student, part = nn.Linear(2, 2), nn.Linear(2, 2)
    before = [parameter.detach().clone() for parameter in (*student.parameters(), *part.parameters())]
    optimizer = torch.optim.SGD([*student.parameters(), *part.parameters()], lr=1.0)
    objective = lambda student, x: {"large": 100 * part(student(x)).square().sum()}
    list(train(student, [(torch.rand(3, 2),)], objective, optimizer, clip_norm=0.5))
    moved = [now.detach() - then for now, then in zip((*student.parameters(), *part.parameters()), before, strict=True)]
    assert torch.cat([one.flatten() for one in moved]).norm().item() == pytest.approx(0.5, rel=1e-4)
    assert min(one.norm() for one in moved) > 0  # of both modules


def test_clipping_as_used_changes_nothing_that_is_short_enough(teacher):
    left, right = make_network(), make_network()
    distill(left, teacher, make_loader(), epochs=2, clip_norm=1e9)
    distill(right, teacher, make_loader(), epochs=2)
    assert_same(left, right, **EXACT)
    assert loop.clipping(make_network(), teacher, make_loader()).steps == 6


def test_mixed_precision_records_losses_that_are_not_scaled(teacher):
    exact = distill(make_network(), teacher, make_loader(), epochs=2)
    mixed = loop.mixed_precision(make_network(), teacher, make_loader())
    torch.testing.assert_close(mixed.terms, exact.terms, rtol=0.05, atol=0.02)  # bfloat16 has three digits
    assert not torch.equal(mixed.terms["kd"], exact.terms["kd"])


def test_the_forward_pass_runs_in_the_precision_asked_for_with_and_without_a_scaler(teacher):
    for scaler in (None, torch.amp.GradScaler("cpu", init_scale=2.0**10)):
        student, dtypes = make_network(), set()
        student[4].register_forward_hook(lambda module, args, output, dtypes=dtypes: dtypes.add(output.dtype))
        distill(student, teacher, make_loader(), epochs=1, autocast=torch.bfloat16, scaler=scaler, clip_norm=1.0)
        assert dtypes == {torch.bfloat16}
        assert {parameter.dtype for parameter in student.parameters()} == {torch.float32}


def test_a_scaler_without_autocast_changes_no_step_but_rounding_and_is_in_the_checkpoint(teacher, tmp_path):
    left, right = make_network(), make_network()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8)
    distill(left, teacher, make_loader(), epochs=2, scaler=scaler, clip_norm=0.1, checkpoint=tmp_path / "run.pt")
    distill(right, teacher, make_loader(), epochs=2, clip_norm=0.1)
    assert_same(left, right, **CLOSE)
    assert "scaler" in torch.load(tmp_path / "run.pt", weights_only=True)["parts"]


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"accumulate": 0}, "accumulate must be a positive integer, got 0"),
        ({"clip_norm": 0.0}, "clip_norm must be positive, got 0.0"),
    ],
)
def test_a_step_that_cannot_be_taken_is_refused(option, message, teacher):
    with pytest.raises(ValueError, match=message):
        distill(make_network(), teacher, make_loader(), **option)


# The best weights


def test_training_stops_early_and_gives_the_best_weights(teacher):
    student = make_network()
    validation = Pictures(40)
    history, best = loop.early_stopping(student, teacher, make_loader(), validation)
    values = [evaluation["accuracy"] for evaluation in history.evaluations]
    assert best.value == max(values) == accuracy(student, validation)
    assert best.epoch == values.index(max(values)) + 1
    assert len(values) == 50 or len(values) == best.epoch + 3


def test_patience_counts_epochs_without_a_better_value_and_a_stopped_run_stays_stopped(teacher, tmp_path):
    errors = iter([5, 3, 4, 3, 2, 9, 9])
    kept = []

    def run(student):
        best = KeepBest("errors", highest=False, patience=2)
        evaluate = lambda model: kept.append(weights(model)) or {"errors": next(errors)}
        history = distill(
            student, teacher, make_loader(), epochs=9, evaluate=evaluate, keep_best=best, checkpoint=tmp_path / "run.pt"
        )
        return history, best

    student, again = make_network(), make_network()
    history, best = run(student)
    assert ([evaluation["errors"] for evaluation in history.evaluations], best.epoch) == ([5, 3, 4, 3], 2)
    torch.testing.assert_close(weights(student), kept[1], **EXACT)
    history, best = run(again)  # a second start asks for no further epoch
    assert len(history.evaluations) == len(kept) == 4
    assert_same(again, student, **EXACT)


def test_the_best_weights_need_a_measurement_of_that_name(teacher):
    with pytest.raises(ValueError, match="keep_best needs evaluate, which measures 'accuracy'"):
        distill(make_network(), teacher, make_loader(), keep_best=KeepBest("accuracy"))
    with pytest.raises(ValueError, match=r"looks for 'accuracy', but evaluate returned \['errors'\]"):
        distill(
            make_network(), teacher, make_loader(), keep_best=KeepBest("accuracy"), evaluate=lambda model: {"errors": 1}
        )
    with pytest.raises(ValueError, match="patience must be a positive integer"):
        KeepBest("accuracy", patience=0)


# More epochs


def test_a_finished_run_that_gets_more_epochs_equals_one_of_that_length(teacher, tmp_path):
    whole, parts = make_network(dropout=0.3), make_network(dropout=0.3)
    torch.manual_seed(3)
    expected = distill(whole, teacher, make_loader(shuffle=True), epochs=5)
    torch.manual_seed(3)
    distill(parts, teacher, make_loader(shuffle=True), epochs=2, checkpoint=tmp_path / "run.pt")
    with pytest.raises(ValueError, match=r"epochs: 2 there, 5 here.*more_epochs=True"):
        distill(make_network(), teacher, make_loader(shuffle=True), checkpoint=tmp_path / "run.pt")
    parts = make_network(dropout=0.3, seed=9)
    history = loop.more_epochs(parts, teacher, make_loader(shuffle=True), tmp_path / "run.pt")
    assert_same(parts, whole, **EXACT)
    torch.testing.assert_close(history.terms, expected.terms, **EXACT)
    with pytest.raises(ValueError, match=r"epochs: 5 there, 4 here"):
        distill(parts, teacher, make_loader(), epochs=4, checkpoint=tmp_path / "run.pt", more_epochs=True)


def test_a_schedule_and_a_scaler_survive_a_stop(teacher, tmp_path, monkeypatch):
    monkeypatch.setattr("kdcourse.training.options.fit", partial(fit, checkpoint_seconds=0))

    def run(path, *, stop=False):
        student = make_network()
        calls = []

        def break_off(module, args):
            calls.append(1)
            if stop and len(calls) == 5:
                raise KeyboardInterrupt

        student.register_forward_pre_hook(break_off)
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8, growth_interval=2)
        distill(
            student, teacher, make_loader(shuffle=True), epochs=3, checkpoint=path, scaler=scaler,
            make_scheduler=learning_rate(linear(1, 0)),
        )  # fmt: skip
        return student

    whole = run(tmp_path / "whole.pt")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "run.pt", stop=True)
    assert_same(run(tmp_path / "run.pt"), whole, **EXACT)


# Compiled, and in several processes


@pytest.mark.slow
def test_a_compiled_student_and_loss_train_as_they_do_uncompiled(teacher):
    compiled, plain = make_network(), make_network()
    history = loop.compiled(compiled, teacher, make_loader(drop_last=True))
    expected = distill(plain, teacher, make_loader(drop_last=True), epochs=2)
    assert_same(compiled, plain, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(history.terms, expected.terms, rtol=1e-4, atol=1e-5)


WORKER = """
import sys, torch
import torch.distributed as dist
sys.path[:0] = [{folder!r}]
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method="file://{store}", rank=int(sys.argv[1]), world_size=2)
from made_data import Pictures, make_network
from uses import loop
student = make_network()
history = loop.several_processes(student, make_network(32, seed=1), Pictures(64))
torch.save((student.state_dict(), history.terms), "{out}" + sys.argv[1])
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_train_one_student_as_one_process_does_with_both_halves(teacher, tmp_path):
    script = tmp_path / "worker.py"
    folder, out = str(Path(__file__).parent), tmp_path / "student"
    script.write_text(WORKER.format(folder=folder, store=tmp_path / "store", out=out))
    environment = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    workers = [
        subprocess.Popen([sys.executable, str(script), str(rank)], env=environment, stderr=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    errors = [worker.communicate(timeout=600)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], errors
    (left, left_terms), (right, right_terms) = (torch.load(f"{out}{rank}", weights_only=True) for rank in range(2))
    torch.testing.assert_close(left, right, **EXACT)
    assert not torch.equal(left_terms["kd"], right_terms["kd"])  # each recorded the losses of its own half

    # One process: the batches that both saw together, in the order that the samplers drew.
    images, labels = make_pictures(64)
    batches = []
    for epoch in range(2):
        order = torch.randperm(64, generator=torch.Generator().manual_seed(epoch))
        for start in range(0, 32, 16):
            index = torch.cat([order[rank::2][start : start + 16] for rank in range(2)])
            batches.append((images[index], labels[index]))
    alone = make_network()
    history = distill(alone, teacher, batches, epochs=1)
    torch.testing.assert_close(dict(alone.state_dict()), dict(left), **CLOSE)
    for name, values in history.terms.items():
        torch.testing.assert_close((left_terms[name] + right_terms[name]) / 2, values, **CLOSE)


KILLED = """
import sys, os, functools, torch
sys.path[:0] = [{folder!r}]
torch.set_num_threads(1)
import kdcourse.training.options as options
options.fit = functools.partial(options.fit, checkpoint_seconds=0)
from torch.utils.data import DataLoader
from made_data import Pictures, make_network
from uses import data
student, calls = make_network(dropout=0.5), []
def count(module, args):
    calls.append(1)
    if len(calls) == int(sys.argv[1]):
        os.kill(os.getpid(), 9)
student.register_forward_pre_hook(count)
torch.manual_seed(6)
loader = DataLoader(Pictures(noisy=True), 16, shuffle=True)
data.resume_a_loader(student, make_network(32, seed=1), loader, "{path}")
torch.save(student.state_dict(), "{path}.student")
"""


@pytest.mark.slow
def test_a_process_that_is_killed_and_started_again_equals_one_never_killed(tmp_path):
    def run(name, die_at):
        script = tmp_path / f"{name}.py"
        script.write_text(KILLED.format(folder=str(Path(__file__).parent), path=tmp_path / name))
        return subprocess.run([sys.executable, str(script), str(die_at)], capture_output=True, text=True)

    assert run("whole", 0).returncode == 0
    assert run("broken", 8).returncode == -9
    assert run("broken", 0).returncode == 0
    whole, continued = (torch.load(tmp_path / f"{name}.student", weights_only=True) for name in ("whole", "broken"))
    torch.testing.assert_close(continued, whole, **EXACT)
