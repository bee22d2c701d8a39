"""Sweeps: every stacked student has the numbers of its own ordinary run."""

import json
import os
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from sweep_students import make_dropout_mlp, make_small_cnn, make_small_mlp, make_tiny_cnn
from torch import nn

from kdcourse.data import jitter
from kdcourse.losses import EmbeddingQueue, hint_loss, info_nce_loss, kd_loss
from kdcourse.models import capture, make_mlp
from kdcourse.objectives import label_objective
from kdcourse.recipes import make_adam
from kdcourse.sweeps import compare, soft_target_objective, sweep
from kdcourse.sweeps.seeds import Orders, Program
from kdcourse.sweeps.stacking import Loop, Stack, stacks_well
from kdcourse.training import count_errors, fit, train
from kdcourse.training.schedules import linear

CPU = torch.device("cpu")


def kd_without_t2(student_logits, teacher_logits, *, temperature):
    return kd_loss(student_logits, teacher_logits, temperature=temperature) / temperature**2


def ordinary(make, data, objective, *, seed, epochs, batch_size=64, make_optimizer=make_adam, **options):
    """The run that a student of a sweep must equal."""
    torch.manual_seed(seed)
    student = make()
    optimizer = make_optimizer(list(student.parameters()))
    history = fit(
        student, data, objective, optimizer, epochs=epochs, batch_size=batch_size, seed=seed, progress=False, **options
    )
    return student.eval(), history


def assert_same_state(found, expected, **tolerance):
    for (name, a), b in zip(found.state_dict().items(), expected.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, msg=lambda text, name=name: f"{name}: {text}", **tolerance)


# The same numbers as one by one


# In float32 a CNN with batch normalisation is chaotic: after 100 steps, turning round the samples inside each batch
# moves its weights by as much as stacking does (both about 4e-3). In float64 both leave ten digits alone.
@pytest.mark.parametrize(
    ("make", "dtype", "stacked", "tolerance"),
    [
        (make_small_mlp, torch.float32, True, 1e-5),
        (make_small_mlp, torch.float32, False, 0),
        (make_tiny_cnn, torch.float64, True, 1e-10),
        (make_tiny_cnn, torch.float32, False, 0),
    ],
)
def test_after_100_steps_each_student_has_the_weights_and_buffers_of_its_ordinary_run(
    make, dtype, stacked, tolerance, small, teacher_logits
):
    images, labels = small.train.take(160)
    data = images.to(dtype), labels, teacher_logits[:160].to(dtype)
    build = partial(_in, make, dtype)
    runs = sweep(
        make_student=build, data=data, seeds=[3, 8], temperature=[2, 6], alpha=[0.7], epochs=34, batch_size=64,
        stacked=stacked, keep_models=True, progress=False,
    )  # fmt: skip
    assert (runs.steps == 102).all()
    for row in runs.itertuples():
        if row.arm == "no_teacher":
            objective = label_objective
        elif row.arm == "label_smoothing":
            objective = partial(label_objective, label_smoothing=0.1)
        else:
            objective = partial(soft_target_objective, temperature=row.temperature, alpha=row.alpha)
        if row.arm == "label_smoothing" and not stacked:
            continue  # in another order of operations than torch's: equal to rounding, as where stacked, not in bits
        expected, _ = ordinary(build, data, objective, seed=row.seed, epochs=34)
        assert_same_state(row.model, expected, rtol=tolerance, atol=tolerance)


def _in(make, dtype):
    return make().to(dtype)


@pytest.mark.parametrize("make", [make_small_mlp, make_tiny_cnn])
def test_in_double_precision_stack_and_loop_agree_to_ten_digits(make, small, teacher_logits):
    tensors = small.train.images.double(), small.train.labels, teacher_logits.double()
    temperature = torch.tensor([1.5, 4.0, 9.0], dtype=torch.float64)
    found = []
    for engine in (Stack, Loop):
        programs = [Program(lambda: make().double(), {}, seed=seed, device=CPU) for seed in (0, 1)]
        built = engine(programs, arms=3)
        orders = Orders(tensors, per_seed=(False,) * 3, seeds=(0, 1), batch_size=64, epochs=1)
        loss = built.train(
            orders, soft_target_objective, make_adam, {"temperature": temperature, "alpha": 0.5}, tick=lambda n: None
        )
        found.append((built.students(), loss))
    for a, b in zip(found[0][0], found[1][0], strict=True):
        assert_same_state(a, b, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(found[0][1], found[1][1], rtol=1e-6, atol=0)


def test_errors_and_losses_are_those_of_the_ordinary_student(quick, small, teacher_logits):
    runs = quick(temperature=[4], alpha=[0.7], baselines=[], keep_models=True, epochs=2)
    for row in runs.itertuples():
        assert row.test_errors == count_errors(row.model, *small.test)
        assert row.held_out_errors == count_errors(row.model, *small.held_out)
        with torch.no_grad():
            loss = F.cross_entropy(row.model(small.test.images), small.test.labels).item()
        assert row.test_loss == pytest.approx(loss, rel=1e-5)


@pytest.mark.parametrize("stacked", [True, False])
@pytest.mark.trap(10)
def test_the_training_loss_is_the_mean_over_samples_though_the_last_batch_is_smaller(
    quick, small, teacher_logits, stacked
):
    (row,) = quick(seeds=[5], alpha=[0.3], baselines=[], epochs=2, stacked=stacked).itertuples()
    objective = partial(soft_target_objective, alpha=0.3)
    _, history = ordinary(make_small_mlp, (*small.train, teacher_logits), objective, seed=5, epochs=2)
    last = sum(history.terms.values())[-6:].tolist()  # five batches of 64, one of 10
    assert row.train_loss == pytest.approx(np.average(last, weights=[64] * 5 + [10]), rel=1e-5)
    assert row.train_loss != pytest.approx(np.mean(last), rel=1e-5)


def test_the_label_smoothing_baseline_is_that_of_torch(small):
    labels = small.train.labels
    torch.manual_seed(0)
    student = make_small_mlp()
    for share in (0.0, 0.1, 0.9):
        for label_smoothing in (share, torch.tensor(share)):
            ce = label_objective(student, small.train.images, labels, label_smoothing=label_smoothing)["ce"]
            torch.testing.assert_close(ce, F.cross_entropy(student(small.train.images), labels, label_smoothing=share))


@pytest.mark.parametrize(
    "make_optimizer",
    [partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=1e-3), partial(torch.optim.AdamW, lr=1e-3)],
)
def test_every_elementwise_optimizer_steps_a_stack_as_it_steps_one(make_optimizer, quick, small, teacher_logits):
    (row,) = quick(seeds=[1], baselines=[], make_optimizer=make_optimizer, keep_models=True).itertuples()
    objective = soft_target_objective
    data = (*small.train, teacher_logits)
    expected, _ = ordinary(make_small_mlp, data, objective, seed=1, epochs=1, make_optimizer=make_optimizer)
    assert_same_state(row.model, expected, rtol=1e-5, atol=1e-5)


def test_an_optimizer_that_could_mix_students_is_refused_in_a_stack_only(quick):
    class Adafactor(torch.optim.Adafactor):
        pass

    with pytest.raises(ValueError, match="Adafactor may mix the students of a stack"):
        quick(make_optimizer=Adafactor, baselines=[], stacked=True)
    assert len(quick(make_optimizer=Adafactor, baselines=[], stacked=False)) == 2


def test_augmentation_draws_what_an_ordinary_run_draws(small):
    objective = label_objective
    for stacked in (True, False):
        runs = sweep(
            make_student=make_small_mlp, data=small, objective=objective, seeds=[0, 4], epochs=2, batch_size=64,
            augment=jitter, baselines=[], stacked=stacked, keep_models=True, progress=False,
        )  # fmt: skip
        for row in runs.itertuples():
            expected, _ = ordinary(make_small_mlp, small.train, objective, seed=row.seed, epochs=2, augment=jitter)
            assert_same_state(row.model, expected, rtol=1e-5, atol=1e-5)


# Pairs


@pytest.mark.parametrize("make", [make_small_mlp, make_dropout_mlp])
def test_arms_of_one_seed_start_alike_and_see_the_same_order_and_masks(make, small, teacher_logits):
    for stacked in (True, False):
        # The same temperature twice in one program, and once in each of two others: no difference may be left.
        runs = sweep(
            make_student=make, data=small, teacher=teacher_logits, seeds=[0, 1], objective={"a": _same, "b": _same},
            unused=[1, 2], epochs=1, batch_size=64, baselines=[], stacked=stacked, keep_models=True, progress=False,
        )  # fmt: skip
        assert runs.arm.nunique() == 4
        for _, pair in runs.groupby("seed"):
            first, *others = pair.model
            for other in others:
                assert_same_state(first, other, rtol=1e-5, atol=1e-5)
        a, b = (next(m for m in runs[runs.seed == seed].model) for seed in (0, 1))
        assert not torch.allclose(next(a.parameters()), next(b.parameters()))


def _same(student, images, labels, teacher_logits, *, unused):
    return {"ce": F.cross_entropy(student(images), labels) + 0 * unused}


def test_a_seeds_order_is_that_of_minibatches_for_every_kind_of_orders(small):
    from kdcourse.data import minibatches

    tensors = torch.arange(10), torch.arange(10) * 10, torch.stack([torch.arange(10) + 100 * s for s in range(2)])
    orders = Orders(tensors, per_seed=(False, False, True), seeds=(5, 6), batch_size=4, epochs=2)
    together = list(orders.together())
    for row, seed in enumerate((5, 6)):
        generator = torch.Generator().manual_seed(seed)
        expected = list(minibatches(torch.arange(10), batch_size=4, epochs=2, generator=generator))
        for (index,), alone, batch in zip(expected, orders.alone(row), together, strict=True):
            for found in (alone, [tensor[row] for tensor in batch]):
                assert found[0].tolist() == index.tolist()
                assert found[1].tolist() == (10 * index).tolist()
                assert found[2].tolist() == (index + 100 * row).tolist()


def test_with_dropout_a_sweep_repeats_itself_and_seeds_differ(quick):
    one, two = (quick(make_student=make_dropout_mlp, stacked=True).drop(columns="seconds") for _ in range(2))
    pd.testing.assert_frame_equal(one, two)
    assert one[one.seed == 0].train_loss.iloc[0] != one[one.seed == 1].train_loss.iloc[0]


def test_one_by_one_dropout_draws_the_masks_of_an_ordinary_run(quick, small, teacher_logits):
    (row,) = quick(make_student=make_dropout_mlp, seeds=[2], baselines=[], stacked=False, keep_models=True).itertuples()
    objective = soft_target_objective
    expected, _ = ordinary(make_dropout_mlp, (*small.train, teacher_logits), objective, seed=2, epochs=1)
    assert_same_state(row.model, expected, rtol=0, atol=0)


def test_stacked_dropout_is_unbiased_with_masks_of_each_seeds_own_that_its_arms_share():
    positions = torch.linspace(0, 2, 400)

    def make():
        return nn.Sequential(nn.Flatten(), nn.Dropout(0.25), nn.Linear(400, 2))

    def objective(student, images, labels, *, arm):
        kept = student[1](images)  # 0 or 1 / 0.75
        return {"kept": (kept * positions).mean() + 0 * arm * student(images).sum()}

    programs = [Program(make, {}, seed=seed, device=CPU) for seed in range(4)]
    tensors = torch.ones(64, 400), torch.zeros(64)
    orders = Orders(tensors, per_seed=(False,) * 2, seeds=range(4), batch_size=64, epochs=1)
    knobs = {"arm": torch.tensor([1.0, 2.0])}
    means = Stack(programs, arms=2).train(orders, objective, make_adam, knobs, tick=lambda steps: None)  # (S, A)
    torch.testing.assert_close(means, torch.ones(4, 2), rtol=0, atol=0.03)  # four standard deviations
    assert torch.equal(means[:, 0], means[:, 1])
    assert len(set(means[:, 0].tolist())) == 4


def test_the_callers_random_numbers_go_on_as_if_no_sweep_had_been(quick):
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    quick(make_student=make_dropout_mlp)
    assert torch.rand(3).tolist() == expected.tolist()


# Knobs


@pytest.mark.parametrize("stacked", [True, False])
def test_each_row_has_been_trained_with_the_knobs_it_shows(stacked, quick):
    def objective(student, images, labels, teacher_logits, *, a, b, c):
        return {"knobs": 100 * a + 10 * b + c + 0 * student(images).sum()}

    runs = quick(objective=objective, a=[1, 2], b=[3, 4, 5], c={"six": 6, "seven": 7}, baselines=[], stacked=stacked)
    assert len(runs) == 2 * 3 * 2 * 2
    number = runs.c.map({"six": 6, "seven": 7})
    np.testing.assert_allclose(runs.train_loss, 100 * runs.a + 10 * runs.b + number, rtol=1e-5)
    assert runs.arm[0] == "a=1, b=3, c=six"


def test_objectives_are_swept_each_with_its_own_loss(quick):
    def one(student, images, labels, teacher_logits):
        return {"ones": 1 + 0 * student(images).sum()}

    def two(student, images, labels, teacher_logits):
        return {"twos": 2 + 0 * student(images).sum()}

    assert quick(objective=[one, two]).groupby("arm").train_loss.mean().round(5).loc[["one", "two"]].tolist() == [1, 2]


def test_numbers_arrive_as_tensors_where_they_differ_and_as_they_are_elsewhere(quick):
    seen = {}

    def objective(student, images, labels, teacher_logits, *, swept, single, choice):
        seen.update(swept=swept, single=single, choice=choice)
        return {"ce": F.cross_entropy(student(images), labels) + 0 * swept}

    quick(objective=objective, swept=[1, 2], single=3, choice={"k": 5}, baselines=[], stacked=True)
    assert isinstance(seen["swept"], torch.Tensor)
    assert seen["swept"].dim() == 0
    assert type(seen["single"]) is int
    assert type(seen["choice"]) is int


def test_a_sweep_over_losses_reads_like_the_chapter(quick):
    runs = quick(temperature=[2, 8], loss=[kd_loss, kd_without_t2], seeds=range(3))
    arms = {f"temperature={t}, loss={loss}" for t in (2, 8) for loss in ("kd_loss", "kd_without_t2")}
    assert set(runs.arm) == arms | {"no_teacher", "label_smoothing"}
    weak = runs[runs.arm == "temperature=8, loss=kd_without_t2"].train_loss.mean()
    assert weak < runs[runs.arm == "temperature=8, loss=kd_loss"].train_loss.mean()
    table = compare(runs, metric="test_errors", baseline=["no_teacher", "label_smoothing"])
    assert len(table) == 5 + 4  # everything but itself, and the two baselines with each other once


def test_baselines_run_at_every_budget_and_are_found_there(quick):
    runs = quick(temperature=[2, 4], epochs=[1, 3], lr=[1e-3])
    assert runs.groupby("epochs").steps.unique().map(list).to_dict() == {1: [6], 3: [18]}
    assert {"no_teacher, epochs=1", "no_teacher, epochs=3"} <= set(runs.arm)
    table = compare(runs, baseline="no_teacher")
    for row in table.itertuples():
        assert row.arm.split("epochs=")[1] == row.baseline.split("epochs=")[1]
    longer = compare(runs, metric="train_loss", baseline="temperature=4, epochs=1").set_index("arm")
    assert longer.loc["temperature=4, epochs=3", "difference"] < 0


def test_learning_rate_and_student_are_choices_with_programs_of_their_own(quick):
    runs = quick(make_student={"small": make_small_mlp, "cnn": make_small_cnn}, lr=[0.0, 1e-3], keep_models=True)
    assert len(runs) == 2 * 2 * 3 * 2
    still = runs[runs.lr == 0.0]
    for row in still.itertuples():
        torch.manual_seed(row.seed)
        start = {"small": make_small_mlp, "cnn": make_small_cnn}[row.student]()
        for a, b in zip(row.model.parameters(), start.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=0)


@pytest.mark.parametrize("stacked", [True, False])
def test_schedules_follow_progress_from_0_to_1(stacked, quick):
    seen = []

    def objective(student, images, labels, teacher_logits, *, progress):
        seen.append(progress)
        return {"ce": F.cross_entropy(student(images), labels)}

    quick(objective=objective, baselines=[], stacked=stacked, seeds=[0])
    np.testing.assert_allclose(seen, np.linspace(0, 1, 6))
    runs = quick(temperature=[4, linear(4, 4)], baselines=[], stacked=stacked, keep_models=True, seeds=[0])
    assert list(runs.arm) == ["temperature=4", "temperature=linear(start=4, end=4)"]
    assert_same_state(runs.model[0], runs.model[1], rtol=1e-6, atol=1e-6)


def test_each_seed_can_have_a_teacher_of_its_own(quick, small, teacher_logits):
    others = torch.stack([teacher_logits, -teacher_logits])  # (S, N, K)
    for stacked in (True, False):
        runs = quick(teacher=others, baselines=[], keep_models=True, stacked=stacked)
        for row, own in zip(runs.itertuples(), others, strict=True):
            objective = soft_target_objective
            expected, _ = ordinary(make_small_mlp, (*small.train, own), objective, seed=row.seed, epochs=1)
            assert_same_state(row.model, expected, rtol=1e-5, atol=1e-5)


def test_a_teacher_model_means_its_logits(quick, small):
    torch.manual_seed(0)
    teacher = make_mlp(20, dropout=0.5).train()
    with torch.no_grad():
        logits = teacher.eval()(small.train.images)
    teacher.train()
    one, two = (quick(teacher=t, baselines=[]).drop(columns="seconds") for t in (teacher, logits))
    pd.testing.assert_frame_equal(one, two)
    assert teacher.training


def test_features_are_captured_and_a_regressor_learns_with_each_student(small):
    torch.manual_seed(9)
    teacher = make_small_cnn().eval()

    def make_regressor():
        return nn.Conv2d(3, 3, 1)

    def objective(student, images, labels, *, regressor, weight):
        with torch.no_grad(), capture(teacher, "stage1") as target:
            teacher(images)
        with capture(student, "stage1") as features:
            logits = student(images)
        hint = hint_loss(regressor(features["stage1"]), target["stage1"])
        return {"hint": weight * hint, "ce": F.cross_entropy(logits, labels)}

    runs = sweep(
        make_student=make_small_cnn, data={"train": small.train}, objective=objective,
        parts={"regressor": make_regressor}, weight=[1.0, 10.0], seeds=[0, 1], epochs=1, batch_size=64, stacked=True,
        keep_models=True, progress=False,
    )  # fmt: skip
    for row in runs[runs.weight.notna()].itertuples():
        torch.manual_seed(row.seed)
        student, regressor = make_small_cnn(), make_regressor()
        before = regressor.weight.detach().clone()
        optimizer = make_adam([*student.parameters(), *regressor.parameters()])
        own = partial(objective, regressor=regressor, weight=row.weight)
        fit(student, small.train, own, optimizer, epochs=1, batch_size=64, seed=row.seed, progress=False)
        assert not torch.equal(regressor.weight, before)
        assert_same_state(row.model, student, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("replaced", [True, False])
def test_what_a_part_remembers_is_each_students_own_whether_written_in_place_or_replaced(replaced, small):
    class Memory(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("mean", torch.zeros(10))

        def forward(self, logits):
            mean = 0.5 * self.mean + 0.5 * logits.detach().mean(dim=0)
            if replaced:
                self.mean = mean
            else:
                self.mean.copy_(mean)
            return (logits - mean).square().mean()

    def objective(student, images, labels, *, memory, weight):
        logits = student(images)
        return {"memory": weight * memory(logits), "ce": F.cross_entropy(logits, labels)}

    settings = {
        "make_student": make_small_mlp, "data": small, "objective": objective, "parts": {"memory": Memory},
        "progress": False, "weight": [1.0, 5.0],
        "seeds": range(2), "epochs": 2, "batch_size": 64, "baselines": [], "keep_models": True,
    }  # fmt: skip
    together, alone = sweep(**settings, stacked=True), sweep(**settings, stacked=False)
    np.testing.assert_allclose(together.train_loss, alone.train_loss, rtol=1e-5)
    for a, b in zip(together.model, alone.model, strict=True):
        assert_same_state(a, b, rtol=1e-5, atol=1e-5)


def test_a_queue_of_embeddings_fills_for_each_student(small):
    torch.manual_seed(0)
    teacher_embeddings = torch.randn(len(small.train.labels), 10)

    def objective(student, images, labels, embeddings, *, queue, temperature):
        loss = info_nce_loss(student(images), embeddings, temperature=temperature, queue=queue)
        queue.push(embeddings)
        return {"nce": loss}

    found = [
        sweep(
            make_student=make_small_mlp, data=(*small.train, teacher_embeddings), objective=objective, seeds=range(2),
            parts={"queue": partial(EmbeddingQueue, 10, 100)}, temperature=[0.1, 0.5], epochs=2, batch_size=64,
            baselines=[], stacked=stacked, progress=False,
        ).train_loss
        for stacked in (True, False)
    ]  # fmt: skip
    np.testing.assert_allclose(*found, rtol=1e-5)


@pytest.mark.trap(21)
@pytest.mark.parametrize("stacked", [True, False])
def test_a_learned_part_that_is_not_handed_over_is_noticed(quick, stacked):
    projection = nn.Linear(10, 10)

    def objective(student, images, labels, teacher_logits):
        return {"ce": F.cross_entropy(projection(student(images)), labels)}

    with pytest.raises(ValueError, match="would never learn"):
        quick(objective=objective, stacked=stacked, baselines=[])


def test_students_with_several_outputs_say_which_are_their_logits(small):
    class TwoExits(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.first, self.last = make_mlp(16)[:3], nn.Linear(16, 10), nn.Linear(16, 10)

        def forward(self, images):
            hidden = self.body(images)
            return [self.first(hidden), self.last(hidden)]

    def objective(student, images, labels):
        return {f"exit{i}": F.cross_entropy(logits, labels) for i, logits in enumerate(student(images))}

    runs = sweep(
        make_student=TwoExits, data=small, objective=objective, predict=lambda student, images: student(images)[-1],
        seeds=range(2), epochs=1, batch_size=64, keep_models=True, progress=False,
        metrics={"threes": lambda logits, labels: (logits.argmax(-1) == 3).sum()},
    )  # fmt: skip
    assert list(runs.arm.unique()) == ["objective", "no_teacher", "label_smoothing"]
    for row in runs.itertuples():
        with torch.no_grad():
            predicted = row.model(small.test.images)[-1].argmax(-1)
        assert row.test_errors == int((predicted != small.test.labels).sum())
        assert row.threes == int((predicted == 3).sum())


def test_convolutions_on_the_cpu_are_trained_one_by_one_and_all_else_stacked():
    mlp, cnn = (Program(make, {}, seed=0, device=CPU) for make in (make_small_mlp, make_small_cnn))
    assert stacks_well(mlp, CPU)
    assert not stacks_well(cnn, CPU)
    assert stacks_well(cnn, torch.device("cuda"))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("make", [make_small_mlp, make_small_cnn])
def test_on_a_gpu_a_sweep_stacks_and_gives_the_numbers_of_the_cpu(make, small, teacher_logits, monkeypatch):
    monkeypatch.setenv("KDCOURSE_THREADS", "2")

    def on(device):
        data = {name: tuple(t.to(device) for t in split) for name, split in small._asdict().items()}
        return sweep(
            make_student=make, data=data, teacher=teacher_logits.to(device), seeds=range(2), temperature=[2, 8],
            epochs=1, batch_size=64, progress=False, executor="processes",
            metrics={"process": lambda *ignored: float(os.getpid())},
        )  # fmt: skip

    there, here = on("cuda"), on("cpu")
    np.testing.assert_allclose(there.train_loss, here.train_loss, rtol=1e-3)
    assert set(there.process) == {os.getpid()}  # several processes would only share the GPU
    assert os.getpid() not in set(here.process)


def test_a_linear_layer_of_a_stack_has_the_gradients_of_autograd():
    from torch.func import vmap

    from kdcourse.sweeps.stacked_layers import StackedLinear

    torch.manual_seed(0)
    for shape, bias in (((5,), True), ((5,), False), ((2, 5), True)):
        x = torch.randn(3, *shape, 4, dtype=torch.float64, requires_grad=True)  # (S, B, I)
        w = torch.randn(3, 2, 6, 4, dtype=torch.float64, requires_grad=True)  # (S, A, O, I)
        b = torch.randn(3, 2, 6, dtype=torch.float64, requires_grad=True) if bias else None
        v = torch.randn(3, 2, 5, 6, dtype=torch.float64, requires_grad=True)  # (S, A, O', O)

        def two_layers(x, w, b, v, linear):
            return linear(linear(x, w, b).tanh(), v, None).square().mean()

        def both(linear, x=x, w=w, b=b, v=v):
            dims = None if b is None else 0
            inner = vmap(partial(two_layers, linear=linear), in_dims=(None, 0, dims, 0))
            losses = vmap(inner, in_dims=(0, 0, dims, 0))(x, w, b, v)
            inputs = [t for t in (x, w, b, v) if t is not None]
            return losses, torch.autograd.grad(losses.sum(), inputs)

        for a, e in zip(both(StackedLinear.apply)[1], both(F.linear)[1], strict=True):
            torch.testing.assert_close(a, e)


@pytest.mark.parametrize("loss", [F.mse_loss, F.smooth_l1_loss, F.huber_loss, F.l1_loss, kd_loss])
def test_losses_against_targets_that_arms_share_have_their_ordinary_values(loss):
    torch.manual_seed(0)
    images, targets = torch.randn(6, 4), 3 * torch.randn(6, 3)
    keywords = {"temperature": 2.0} if loss is kd_loss else {}

    def objective(student, images, targets, *, weight):
        return {"loss": weight * loss(student(images), targets, **keywords)}

    weight, found = torch.tensor([1.0, 3.0]), []
    for engine in (Stack, Loop):
        programs = [Program(partial(nn.Linear, 4, 3), {}, seed=seed, device=CPU) for seed in (0, 1)]
        orders = Orders((images, targets), per_seed=(False,) * 2, seeds=(0, 1), batch_size=4, epochs=3)
        built = engine(programs, arms=2)
        mean = built.train(orders, objective, make_adam, {"weight": weight}, tick=lambda steps: None)
        found.append((mean, *[student.weight for student in built.students()]))
    for stacked, alone in zip(*found, strict=True):
        torch.testing.assert_close(stacked, alone)


def test_the_table_says_how_it_was_made_and_survives_a_file(quick, tmp_path):
    runs = quick(temperature=[2, 8])
    assert runs.attrs["axes"]["temperature"] == [2, 8]
    assert runs.attrs["samples"] == 330
    assert runs.attrs["evaluated"] == {"test": 200, "held_out": 100}
    json.dumps(runs.attrs)
    runs.to_csv(tmp_path / "runs.csv", index=False)
    pd.testing.assert_frame_equal(compare(runs), compare(pd.read_csv(tmp_path / "runs.csv")))


# Bad input


def test_what_sweep_refuses_it_explains(quick, small, teacher_logits):
    def takes_nothing(student, images, labels, *more):
        return {"ce": F.cross_entropy(student(images), labels)}

    def decides(student, images, labels, teacher_logits, *, k):
        return {"ce": F.cross_entropy(student(images), labels) * (2 if k > 1 else 1)}

    cases = [
        ({"seeds": [1, 1]}, "different non-negative integers"),
        ({"seeds": []}, "different non-negative integers"),
        ({"seeds": [-1]}, "different non-negative integers"),
        ({"temperature": []}, "axis 'temperature' is empty"),
        ({"temperature": [2, 2]}, "cannot be told apart"),
        ({"temperature": [0, 2]}, "temperature must be positive"),
        ({"alpha": [0.5, 1.5]}, r"alpha must be in \[0, 1\]"),
        ({"loss": [lambda a, b: a, lambda a, b: b]}, "name them with a dict"),
        ({"temprature": [2]}, "has no keyword 'temprature'"),
        ({"objective": takes_nothing, "alpha": [0.1]}, "turned in vain"),
        ({"objective": 3}, "an objective is a function"),
        ({"objective": decides, "k": [1, 2]}, "stacked=False"),
        ({"make_student": make_small_mlp()}, "pass the function, not its result"),
        ({"epochs": 0}, "epochs must be a positive integer"),
        ({"batch_size": [64, 0.5]}, "batch_size must be a positive integer"),
        ({"baselines": ["no_techer"]}, "baselines must be a list"),
        ({"baselines": "no_teacher"}, "baselines must be a list"),
        ({"label_smoothing": 0.0}, "label_smoothing must be one number"),
        ({"label_smoothing": [0.1, 0.2]}, "label_smoothing must be one number"),
        ({"teacher": teacher_logits[:5]}, "Row i belongs to image i"),
        ({"teacher": "resnet"}, "a teacher is a model, or its logits"),
        ({"teacher": None}, "needs the teacher's logits"),
        ({"data": small.train.images}, "a tuple of tensors"),
        ({"data": {"test": small.test}}, "split 'train'"),
        ({"data": (small.train.images, small.train.labels[:5])}, "same, non-zero number"),
        ({"keep_models": True, "cache": "x"}, "exclude one another"),
    ]
    for change, message in cases:
        with pytest.raises(ValueError, match=message):
            quick(**change)


@pytest.mark.parametrize(
    ("old", "new"), [("student", "make_student"), ("optimizer", "make_optimizer"), ("seed", "seeds")]
)
def test_an_old_argument_is_answered_with_its_new_name(quick, old, new):
    with pytest.raises(TypeError, match=rf"sweep\(\) takes no argument '{old}': it is called '{new}'"):
        quick(**{old: None})


@pytest.mark.trap(6)
@pytest.mark.trap(75)
def test_cached_logits_and_augmented_images_are_refused(quick, small, teacher_logits):
    with pytest.raises(ValueError, match="teacher and augment exclude one another"):
        quick(augment=jitter)
    with pytest.raises(ValueError, match="augment cannot be used beside cached logits"):
        quick(augment=jitter, teacher=None, data=(*small.train, teacher_logits))


def test_an_error_of_the_objective_keeps_its_own_words(quick):
    def objective(student, images, labels, teacher_logits):
        return {"per sample": F.cross_entropy(student(images), labels, reduction="none")}

    with pytest.raises(ValueError, match="must be a scalar tensor"):
        quick(objective=objective)


def test_train_is_the_ordinary_loop():
    assert Loop.train.__globals__["train"] is train


@pytest.mark.trap(76)
@pytest.mark.parametrize("stacked", [True, False])
def test_a_sweep_can_leave_out_a_smaller_last_batch(quick, small, teacher_logits, stacked):
    (row,) = quick(
        seeds=[5], baselines=[], epochs=2, stacked=stacked, drop_last=True, keep_models=True
    ).itertuples()  # fmt: skip
    data = (*small.train, teacher_logits)
    expected, history = ordinary(make_small_mlp, data, soft_target_objective, seed=5, epochs=2, drop_last=True)
    assert row.steps == history.steps == 10
    assert_same_state(row.model, expected, rtol=1e-5, atol=1e-5)
    assert row.train_loss == pytest.approx(sum(history.terms.values())[-5:].mean().item(), rel=1e-5)
