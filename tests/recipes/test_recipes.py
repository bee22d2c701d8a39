"""Recipes on a small part of real MNIST: who teaches whom, what stays unchanged, what every knob does."""

import copy
import inspect
import math
import pickle
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kdcourse.data import load_mnist, minibatches
from kdcourse.losses import mutual_ensemble_loss, mutual_learning_loss
from kdcourse.models import make_cnn, make_mlp
from kdcourse.objectives import label_objective, soft_target_objective, with_knobs
from kdcourse.recipes import (
    CurriculumBatches,
    Ensemble,
    born_again,
    difficulty_by_loss,
    difficulty_by_margin,
    distilbert,
    distill,
    fitnets,
    make_adam,
    mutual_learning,
    progressive,
)
from kdcourse.training import Knobs, TrainingOptions, accuracy, fit, predict_logits
from kdcourse.training.options import DEFAULTS
from kdcourse.training.schedules import constant, linear, progress_of, step


@pytest.fixture(scope="module")
def mnist():
    splits = load_mnist()
    return {"train": splits.train.take(1000), "test": splits.test.take(1000)}


@pytest.fixture(scope="module")
def data(mnist):
    return tuple(mnist["train"])


@pytest.fixture(scope="module")
def teacher(data):
    model = make(64, seed=100)
    fit(
        model,
        data,
        label_objective,
        make_adam(list(model.parameters())),
        epochs=10,
        batch_size=50,
        progress=False,
    )
    return model


def make(*hidden, seed=0, **options):
    torch.manual_seed(seed)
    return make_mlp(*hidden, **options)


def small(data, count=200):
    return tuple(tensor[:count] for tensor in data)


def weights(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def state(model):
    """Everything of a model that a recipe must leave as it was."""
    return (
        {name: tensor.clone() for name, tensor in model.state_dict().items()},
        [module.training for module in model.modules()],
        [parameter.requires_grad for parameter in model.parameters()],
        [parameter.grad for parameter in model.parameters()],
    )


def assert_unchanged(model, before):
    torch.testing.assert_close(model.state_dict(), before[0], rtol=0, atol=0)
    assert state(model)[1:] == before[1:]


# distill


def test_distilling_brings_the_student_to_the_teachers_answers(teacher, data, mnist):
    student = make(32)
    history = distill(student, teacher, data, epochs=10, batch_size=50)
    images, labels = mnist["test"]
    agreement = (predict_logits(student, images).argmax(1) == predict_logits(teacher, images).argmax(1)).float().mean()
    assert agreement > 0.85
    assert accuracy(student, images, labels) > 0.8
    assert set(history.terms) == {"kd", "ce"}
    assert history.terms["kd"][-8:].mean() < 0.5 * history.terms["kd"][:8].mean()


def test_any_objective_can_be_distilled_and_reads_the_knobs_and_further_tensors(teacher, data):
    images, labels = small(data)
    index, seen = torch.arange(200), []

    def objective(student, images, labels, teacher_logits, index, *, temperature, alpha):
        seen.append((temperature, alpha, index))
        return {"mse": F.mse_loss(student(images), teacher_logits)}

    history = distill(
        make(8), teacher, (images, labels, index), temperature=3, alpha=0.2, objective=objective, epochs=1
    )
    assert set(history.terms) == {"mse"}
    assert {(t, a) for t, a, _ in seen} == {(3, 0.2)}
    assert torch.equal(torch.cat([i for _, _, i in seen]).sort().values, index)


@pytest.mark.trap(21)
def test_a_learned_part_of_the_objective_learns_or_training_refuses_to_start(teacher, data):
    projection = nn.Linear(10, 10)
    before = weights(projection)

    def objective(student, images, labels, teacher_logits, *, projection):
        return {"mse": F.mse_loss(projection(student(images)), teacher_logits)}

    with pytest.raises(ValueError, match="the optimizer does not hold"):
        distill(make(8), teacher, small(data), objective=partial(objective, projection=projection), epochs=1)
    distill(make(8), teacher, small(data), objective=objective, parts={"projection": projection}, epochs=1)
    assert not torch.equal(weights(projection), before)


def test_a_part_that_the_objective_does_not_take_is_refused(teacher, data):
    with pytest.raises(ValueError, match="objective soft_target_objective has no keyword 'regressor'"):
        distill(make(8), teacher, small(data), parts={"regressor": nn.Linear(2, 2)})


@pytest.mark.parametrize(
    ("knob", "message"),
    [
        ({"temperature": 0}, "temperature must be positive and finite, got 0. It divides the logits"),
        ({"temperature": math.inf}, "temperature must be positive and finite, got inf"),
        ({"alpha": -0.1}, r"alpha must be in \[0, 1\], got -0.1. .* share of the teacher's term"),
        ({"alpha": 70}, r"alpha must be in \[0, 1\], got 70"),
    ],
)
def test_a_knob_out_of_range_is_refused_before_the_student_moves_whatever_the_objective(teacher, data, knob, message):
    student = make(8)
    before = weights(student)
    for objective in (soft_target_objective, label_objective):
        with pytest.raises(ValueError, match=message):
            distill(student, teacher, small(data), objective=objective, **knob)
    assert torch.equal(weights(student), before)


@pytest.mark.parametrize("share", [-0.1, 1, math.nan])
def test_labels_smoothed_until_they_say_nothing_are_refused(share, data):
    with pytest.raises(ValueError, match=rf"label_smoothing must be in \[0, 1\), got {share}: at 1 the labels say not"):
        label_objective(make(8), *small(data), label_smoothing=share)


def test_a_student_of_other_classes_than_its_teachers_is_refused(teacher, data):
    with pytest.raises(ValueError, match=r"logits must have the same shape, got \(50, 9\) and \(50, 10\)"):
        distill(nn.Sequential(nn.Flatten(), nn.Linear(784, 9)), teacher, small(data), batch_size=50)


@pytest.mark.parametrize("objective", [soft_target_objective, label_objective])
def test_labels_of_any_integer_type_mean_the_same(teacher, data, objective):
    images, labels = small(data)
    by_type = [
        distill(make(8), teacher, (images, labels.to(dtype)), objective=objective, epochs=1).terms["ce"]
        for dtype in (torch.long, torch.int32, torch.uint8)
    ]
    assert torch.equal(by_type[0], by_type[1])
    assert torch.equal(by_type[0], by_type[2])


@pytest.mark.trap(6)
def test_cached_teacher_logits_follow_their_sample_whatever_the_order(teacher, data):
    images, labels = small(data)
    expected = predict_logits(teacher, images)
    rows = {tuple(image.flatten().tolist()): logits for image, logits in zip(images, expected, strict=True)}

    def objective(student, images, labels, teacher_logits):
        for image, logits in zip(images, teacher_logits, strict=True):
            assert torch.equal(rows[tuple(image.flatten().tolist())], logits)
        return {"ce": F.cross_entropy(student(images), labels)}

    distill(make(8), teacher, (images, labels), objective=objective, epochs=1, batch_size=64)


@pytest.mark.trap(13)
@pytest.mark.trap(14)
@pytest.mark.parametrize("recipe", ["distill", "born_again", "progressive", "fitnets"])
def test_no_recipe_changes_its_teacher(recipe, data):
    # A teacher with dropout, partly frozen and left in training mode by its owner.
    teacher = make(16, seed=3, dropout=0.5)
    next(teacher.parameters()).requires_grad_(False)
    teacher.train()
    teacher[1].eval()
    before = state(teacher)
    noisy = set()
    watch = teacher[3].register_forward_pre_hook(lambda dropout, _: noisy.add(dropout.training))
    run = {
        "distill": lambda: distill(make(8), teacher, small(data), epochs=1),
        "born_again": lambda: born_again(lambda: make_mlp(8), small(data), teacher=teacher, generations=2, epochs=1),
        "progressive": lambda: progressive(make(8), teacher, small(data), epochs=1),
        "fitnets": lambda: fitnets(make(8), teacher, small(data), student_layer="2", teacher_layer="2",
                                   hint_epochs=1, epochs=1),
    }  # fmt: skip
    run[recipe]()
    watch.remove()
    assert_unchanged(teacher, before)
    assert noisy == {False}  # it was asked, and never with its dropout on


@pytest.mark.trap(50)
def test_a_model_cannot_be_its_own_teacher_or_its_own_peer(data):
    student = make(8)
    relative = nn.Sequential(*student[:2], nn.ReLU(), nn.Linear(8, 10))  # shares the first layer
    for other in (student, relative):
        for call in (
            lambda other=other: distill(student, other, small(data), epochs=1),
            lambda other=other: progressive(student, other, small(data), epochs=1),
            lambda other=other: distill(student, Ensemble([make(8, seed=1), other]), small(data), epochs=1),
            lambda other=other: fitnets(student, other, small(data), student_layer="2", teacher_layer="1"),
            lambda other=other: mutual_learning([student, other], small(data), epochs=1),
        ):
            with pytest.raises(ValueError, match=r"share (one object|\d parameter\(s\))\. .* be its own teacher"):
                call()
    # What the check prevents: the KD term is 0 at every step and teaches nothing.
    assert soft_target_objective(student, *small(data), student(small(data)[0]), alpha=1)["kd"] == 0
    distill(student, copy.deepcopy(student), small(data), epochs=1)


# FitNets


def test_fitnets_first_learns_the_hint_alone_and_then_the_soft_targets(data):
    torch.manual_seed(0)
    student, teacher = make_cnn(2, 4), make_cnn(4, 8)
    head = student.head[-1].weight.clone()
    heads = []

    def make_optimizer(parameters):  # called once per stage: looks at the head in between
        heads.append(student.head[-1].weight.detach().clone())
        return make_adam(parameters, lr=1e-2)

    history = fitnets(student, teacher, small(data), student_layer="stage2", teacher_layer="stage2",
                      hint_epochs=4, epochs=1, batch_size=50, make_optimizer=make_optimizer)  # fmt: skip
    assert set(history.hint.terms) == {"hint"}
    assert set(history.kd.terms) == {"kd", "ce"}
    assert history.hint.terms["hint"][-1] < 0.5 * history.hint.terms["hint"][0]
    assert torch.equal(heads[1], head)  # the hint stage reaches nothing behind the guided layer
    assert not torch.equal(student.head[-1].weight, head)


@pytest.mark.trap(21)
def test_fitnets_trains_the_regressor_with_the_student(data):
    torch.manual_seed(0)
    student, teacher, regressor = make_cnn(2, 4), make_cnn(4, 8), nn.Conv2d(4, 8, 1)
    before = weights(regressor)
    fitnets(student, teacher, small(data), student_layer="stage2", teacher_layer="stage2", regressor=regressor,
            hint_epochs=3, epochs=1, batch_size=50)  # fmt: skip
    assert not torch.equal(weights(regressor), before)


def test_fitnets_names_an_unknown_layer_and_keeps_the_callers_random_numbers(data):
    student, teacher = make_cnn(2, 4), make_cnn(4, 8)
    with pytest.raises(ValueError, match="no layer 'stage9'"):
        fitnets(student, teacher, small(data), student_layer="stage9", teacher_layer="stage2")
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    fitnets(student, teacher, small(data, 50), student_layer="stage2", teacher_layer="stage2", hint_epochs=1, epochs=1)
    assert torch.equal(torch.rand(1), expected)


# Ensembles


def test_an_ensemble_predicts_the_mean_of_its_members_probabilities(data):
    members = [make(8, seed=seed) for seed in range(3)]
    images = data[0][:20]
    expected = torch.stack([member(images).softmax(dim=1) for member in members]).mean(dim=0)
    torch.testing.assert_close(Ensemble(members)(images).softmax(dim=1), expected)
    torch.testing.assert_close(Ensemble(members)(images).exp(), expected)  # already normalised
    with pytest.raises(ValueError, match="at least one member"):
        Ensemble([])


def test_an_ensemble_is_distilled_as_one_teacher(teacher, data):
    teachers = [teacher, make(16, seed=9)]
    one, other = make(8), make(8)
    history = distill(one, Ensemble(teachers), small(data), temperature=2, alpha=0.6, epochs=1)
    images, labels = small(data)
    soft = torch.stack([predict_logits(t, images).softmax(1) for t in teachers]).mean(0)
    fit(other, (images, labels, soft.log()), partial(soft_target_objective, temperature=2, alpha=0.6),
        make_adam(list(other.parameters())), epochs=1, progress=False)  # fmt: skip
    torch.testing.assert_close(weights(one), weights(other), rtol=1e-4, atol=1e-6)
    assert set(history.terms) == {"kd", "ce"}


# Born again


@pytest.mark.trap(49)
def test_born_again_returns_every_generation_and_their_ensemble_and_evaluates_each(data, mnist):
    images, labels = mnist["test"]
    evaluate = lambda model: {"accuracy": accuracy(model, images, labels)}  # noqa: E731
    result = born_again(lambda: make_mlp(32), data, generations=3, epochs=6, batch_size=50, evaluate=evaluate)
    assert len(result.generations) == len(result.histories) == len(result.evaluations) == 3
    assert len({id(model) for model in result.generations}) == 3
    assert [evaluate(model) for model in result.generations] == result.evaluations
    assert evaluate(result.ensemble) == result.ensemble_evaluation
    assert min(evaluation["accuracy"] for evaluation in result.evaluations) > 0.75
    assert [set(history.terms) for history in result.histories] == [{"ce"}, {"kd", "ce"}, {"kd", "ce"}]
    expected = torch.stack([predict_logits(model, images).softmax(1) for model in result.generations]).mean(0)
    torch.testing.assert_close(predict_logits(result.ensemble, images).softmax(1), expected)


@pytest.mark.trap(14)
def test_born_again_returns_generations_that_can_be_trained_further(data):
    result = born_again(lambda: make_mlp(8), small(data), generations=3, epochs=1)
    assert all(parameter.requires_grad for model in result.generations for parameter in model.parameters())
    # and a model that its maker froze in part stays frozen there
    frozen = lambda: make_mlp(8).requires_grad_(False).append(nn.Linear(10, 10))  # noqa: E731
    result = born_again(frozen, small(data), generations=2, epochs=1)
    for model in result.generations:
        assert [p.requires_grad for p in model.parameters()] == [False] * 4 + [True] * 2


class HollowTeacher(nn.Module):
    """Has a length, and it is 0: ``if teacher:`` takes it for no teacher at all."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def __len__(self):
        return 0

    def forward(self, images):
        return self.model(images)


@pytest.mark.trap(48)
def test_a_teacher_whose_length_is_zero_still_teaches(teacher, data):
    hollow = HollowTeacher(teacher)
    assert not hollow
    result = born_again(lambda: make_mlp(8), small(data), teacher=hollow, generations=1, epochs=1)
    assert set(result.histories[0].terms) == {"kd", "ce"}


@pytest.mark.trap(49)
def test_a_generation_is_a_plain_distillation_with_the_knobs_optimizer_and_seed_that_were_given(data):
    make_optimizer = lambda parameters: torch.optim.SGD(parameters, lr=0.07)  # noqa: E731
    result = born_again(lambda: make_mlp(8), small(data), generations=3, temperature=[2.0, 8.0], alpha=0.35,
                        epochs=2, batch_size=50, seed=11, make_optimizer=make_optimizer)  # fmt: skip
    expected = []
    for generation, temperature in enumerate([None, 2.0, 8.0]):
        model = make(8, seed=11 + generation)
        options = {"epochs": 2, "batch_size": 50, "seed": 11 + generation, "progress": False}
        if temperature is None:
            fit(model, small(data), label_objective, make_optimizer(model.parameters()), **options)
        else:
            distill(model, expected[-1], small(data), temperature=temperature, alpha=0.35,
                    make_optimizer=make_optimizer, **options)  # fmt: skip
        expected.append(model)
    for model, reference in zip(result.generations, expected, strict=True):
        assert torch.equal(weights(model), weights(reference))
    assert {"alpha", "temperature", "seed", "make_optimizer", "evaluate"} <= set(
        inspect.signature(born_again).parameters
    )


@pytest.mark.trap(49)
def test_born_again_repeats_bit_by_bit_and_leaves_the_callers_random_numbers(data):
    run = lambda seed: born_again(  # noqa: E731
        lambda: make_mlp(8, dropout=0.3), small(data), generations=2, epochs=1, seed=seed
    )
    torch.manual_seed(1)
    first = run(0)
    expected = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(1), expected)
    second, third = run(0), run(1)
    for a, b in zip(first.generations, second.generations, strict=True):
        assert torch.equal(weights(a), weights(b))
    assert not torch.equal(weights(first.generations[0]), weights(third.generations[0]))
    assert not torch.equal(weights(first.generations[0]), weights(first.generations[1]))


def test_born_again_refuses_what_it_cannot_use(data):
    with pytest.raises(ValueError, match="generations must be at least 1"):
        born_again(lambda: make_mlp(8), small(data), generations=0)
    with pytest.raises(ValueError, match="one temperature per distilled generation, 2 here, got 3"):
        born_again(lambda: make_mlp(8), small(data), generations=3, temperature=[1, 2, 3])
    with pytest.raises(ValueError, match="temperature must be positive"):
        born_again(lambda: make_mlp(8), small(data), generations=3, temperature=[1, 0])
    with pytest.raises(ValueError, match="alpha must be"):
        born_again(lambda: make_mlp(8), small(data), alpha=1.2)
    model = make_mlp(8)
    with pytest.raises(ValueError, match="two generations share one object"):
        born_again(lambda: model, small(data), generations=2, epochs=1)


# Options


@pytest.mark.parametrize("recipe", [distill, fitnets, born_again, mutual_learning, progressive])
def test_an_unknown_option_is_refused_and_the_nearest_one_is_named(recipe):
    with pytest.raises(TypeError, match=r"takes no argument 'epoch'\. Did you mean 'epochs'\?"):
        recipe(epoch=3)
    with pytest.raises(TypeError, match=r"takes no argument 'optimizer'\. Did you mean 'make_optimizer'\?"):
        recipe(optimizer=None)


def test_every_recipe_shows_the_same_options_with_their_defaults():
    for recipe in (distill, fitnets, born_again, mutual_learning, progressive, distilbert):
        parameters = inspect.signature(recipe).parameters
        shown = {name: parameters[name].default for name in TrainingOptions.__annotations__}
        expected = {**DEFAULTS, "epochs": 1, "batch_size": 32} if recipe is distilbert else DEFAULTS
        assert shown == expected


@pytest.mark.parametrize("old", ["make_objective", "learned_parts"])
def test_an_old_argument_of_distill_is_answered_with_its_new_name(old):
    with pytest.raises(TypeError, match=rf"no argument '{old}'\. Did you mean '{old.split('_')[-1]}'\?"):
        distill(**{old: None})


def test_recipes_of_several_stages_continue_each_from_its_own_checkpoint(data, tmp_path):
    def generations(**options):
        return born_again(lambda: make_mlp(8), small(data), generations=2, epochs=2, **options)

    def hints(**options):
        student, teacher = make(8), make(16, seed=1)
        fitnets(student, teacher, small(data), student_layer="2", teacher_layer="2", hint_epochs=1, epochs=1, **options)
        return student

    whole, hinted = generations(), hints()
    for _ in range(2):  # the second goes on from what is complete
        again = generations(checkpoint=tmp_path / "born.pt")
        assert torch.equal(weights(again.generations[-1]), weights(whole.generations[-1]))
        assert torch.equal(weights(hints(checkpoint=tmp_path / "hints.pt")), weights(hinted))
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"born.pt.0", "born.pt.1", "hints.pt", "hints.pt.hint"}


# Knobs


def test_schedules_turn_the_knobs_of_distill_as_they_turn_those_of_progressive(teacher, data):
    knobs = {"temperature": linear(8, 2), "alpha": linear(0.9, 0.5), "epochs": 2, "batch_size": 50}
    one, other = make(8), make(8)
    distill(one, teacher, small(data), **knobs)
    progressive(other, teacher, small(data), difficulty=None, **knobs)
    assert torch.equal(weights(one), weights(other))


def test_one_adapter_reads_sliders_numbers_and_schedules():
    def objective(student, *, temperature=4.0, alpha=0.7, weight=0.0):
        return temperature, alpha, weight

    sliders = Knobs(2.0, 0.1)
    read = with_knobs(objective, sliders)
    assert read(None) == (2.0, 0.1, 0.0)
    sliders.alpha = 0.9
    assert read(None, weight=3) == (2.0, 0.9, 3)
    assert with_knobs(objective, {"temperature": linear(8, 2), "weight": 5})(None, progress=0.5) == (5.0, 0.7, 5)
    with pytest.raises(ValueError, match=r"no keyword 'temprature'\. Did you mean 'temperature'"):
        with_knobs(objective, {"temprature": 2})


def test_an_objective_with_knobs_can_be_pickled_and_is_told_the_progress():
    read = pickle.loads(pickle.dumps(with_knobs(label_objective, {"label_smoothing": linear(0.5, 0.0)})))
    batch = make(8), torch.rand(4, 1, 28, 28), torch.arange(4)
    assert torch.equal(read(*batch, progress=1.0)["ce"], label_objective(*batch)["ce"])
    assert read(*batch, progress=0.0)["ce"] != label_objective(*batch)["ce"]


@pytest.mark.trap(77)
@pytest.mark.parametrize("labels", [torch.rand(4), torch.rand(4, 10), torch.ones(4, 10, dtype=torch.bool)])
def test_labels_that_are_no_class_indices_are_refused(labels):
    student, images = make(8), torch.rand(4, 1, 28, 28)
    for objective in (label_objective, partial(soft_target_objective, teacher_logits=torch.randn(4, 10))):
        with pytest.raises(ValueError, match=r"labels must be class indices \(torch.long\), got torch\.\w+ of shape"):
            objective(student, images, labels)


# Mutual learning


@pytest.mark.parametrize("loss", [mutual_learning_loss, mutual_ensemble_loss])
def test_a_cohort_moves_as_if_each_student_stepped_on_its_own_loss_with_its_own_optimizer(data, loss):
    make_optimizer = partial(torch.optim.SGD, lr=0.1, momentum=0.9)
    cohort = [make(8, seed=0), make(12, seed=1), make(8, seed=2)]
    alone = copy.deepcopy(cohort)
    history = mutual_learning(cohort, small(data), temperature=2, loss=loss, epochs=1, batch_size=50, seed=4,
                              make_optimizer=make_optimizer)  # fmt: skip
    optimizers = [make_optimizer(list(model.parameters())) for model in alone]
    generator = torch.Generator().manual_seed(4)
    for images, labels in minibatches(*small(data), batch_size=50, generator=generator):
        losses = loss([model(images) for model in alone], labels, temperature=2)
        for value, optimizer in zip(losses, optimizers, strict=True):
            optimizer.zero_grad()
            value.backward()
        for optimizer in optimizers:
            optimizer.step()
    for model, reference in zip(cohort, alone, strict=True):
        torch.testing.assert_close(weights(model), weights(reference))
    assert set(history.terms) == {"student 0", "student 1", "student 2"}
    assert history.terms["student 1"][-1].item() == pytest.approx(losses[1].item(), rel=1e-4)


def test_a_cohort_learns_without_any_teacher_and_each_student_is_evaluated(data, mnist):
    students = [make(16, seed=0), make(16, seed=1)]
    evaluate = lambda model: {"accuracy": accuracy(model, *mnist["test"])}  # noqa: E731
    history = mutual_learning(students, data, epochs=10, batch_size=50, evaluate=evaluate)
    assert len(history.evaluations) == 10
    last = history.evaluations[-1]
    assert last == {f"student {i} accuracy": evaluate(student)["accuracy"] for i, student in enumerate(students)}
    assert min(last.values()) > 0.75


@pytest.mark.trap(52)
def test_a_cohort_of_one_is_refused(data):
    for students in ([], [make(8)]):
        with pytest.raises(ValueError, match=f"a cohort needs at least two students, got {len(students)}"):
            mutual_learning(students, small(data))


@pytest.mark.trap(53)
def test_the_target_is_the_peers_output_of_the_same_training_pass_with_its_dropout_noise(data):
    students = [make(32, seed=0, dropout=0.5), make(32, seed=1, dropout=0.5)]
    copies, passes = copy.deepcopy(students), []
    for student in students:
        student.register_forward_hook(lambda module, args, out: passes.append((module.training, out.detach())))
    torch.manual_seed(8)
    history = mutual_learning(students, small(data, 50), epochs=1, batch_size=50, seed=0)
    assert [training for training, _ in passes] == [True, True]  # one pass each, in training mode
    (images, labels), *_ = minibatches(*small(data, 50), batch_size=50)
    noisy = mutual_learning_loss([logits for _, logits in passes], labels)
    assert history.terms["student 0"].item() == pytest.approx(noisy[0].item(), rel=1e-5)
    clean = mutual_learning_loss([passes[0][1], copies[1].eval()(images).detach()], labels)
    assert abs(history.terms["student 0"].item() - clean[0].item()) > 1e-3
    assert "dropout noise" in " ".join(mutual_learning.__doc__.split())


# Progressive


def spy_on(knobs_seen):
    def spying(student, images, labels, teacher_logits, *, temperature, alpha):
        knobs_seen.append((temperature, alpha, teacher_logits, labels))
        return soft_target_objective(student, images, labels, teacher_logits, temperature=temperature, alpha=alpha)

    return spying


@pytest.mark.trap(54)
def test_the_last_step_trains_at_the_end_of_both_schedules(teacher, data):
    seen = []
    progressive(make(8), teacher, small(data), temperature=linear(10, 1), alpha=linear(0.5, 0.9), epochs=2,
                batch_size=50, objective=spy_on(seen))  # fmt: skip
    assert len(seen) == 8
    assert seen[0][:2] == (10, 0.5)
    assert seen[-1][:2] == (1, 0.9)
    assert [t for t, *_ in seen] == [linear(10, 1)(progress_of(i, 8)) for i in range(8)]


@pytest.mark.trap(54)
def test_each_of_five_stages_trains_as_long_and_the_last_one_at_its_own_value(teacher, data):
    seen = []
    stages = [10, 7.75, 5.5, 3.25, 1]
    progressive(make(8), teacher, small(data), temperature=step(stages), epochs=5, batch_size=50,
                objective=spy_on(seen))  # fmt: skip
    temperatures = [t for t, *_ in seen]
    assert temperatures == [t for t in stages for _ in range(4)]


@pytest.mark.trap(55)
@pytest.mark.parametrize("difficulty", [difficulty_by_loss, difficulty_by_margin])
def test_samples_really_come_from_easy_to_hard(teacher, data, difficulty):
    images, labels = data
    order = difficulty(predict_logits(teacher, images), labels)
    seen = []
    for share in (1, -1):
        seen.clear()
        measure = lambda z, y, share=share: share * difficulty(z, y)  # noqa: E731
        progressive(make(8), teacher, data, difficulty=measure, pace=linear(0.1, 1), epochs=2, batch_size=100,
                    objective=spy_on(seen))  # fmt: skip
        hardness = torch.stack([share * difficulty(z, y) for _, _, z, y in seen])  # (steps, B)
        sorted_hardness = (share * order).sort().values
        for index, batch in enumerate(hardness):
            pool = math.ceil(len(order) * linear(0.1, 1)(progress_of(index, len(seen))))
            assert batch.max() <= sorted_hardness[pool - 1]
        assert (hardness.mean(dim=1)[:5].mean() < hardness.mean(dim=1)[-5:].mean()).item()
        assert hardness[0].max() <= sorted_hardness[len(order) // 10]
        assert hardness[-1].max() > sorted_hardness[len(order) // 2]


@pytest.mark.trap(55)
def test_without_a_difficulty_no_order_is_imposed_and_none_is_promised(teacher, data):
    seen = []
    progressive(make(8), teacher, data, difficulty=None, epochs=1, batch_size=100, objective=spy_on(seen))
    labels = torch.cat([y for *_, y in seen])
    expected = torch.cat([y for _, y in minibatches(*data, batch_size=100)])
    assert torch.equal(labels, expected)


def test_by_default_the_second_half_of_a_curriculum_draws_from_all_samples():
    """Chapter 07: a pace that reaches all samples only in the last step costs hundreds of errors."""
    pace = inspect.signature(progressive).parameters["pace"].default
    assert pace(0) < 0.5
    assert [pace(p) for p in (0.5, 0.75, 1.0)] == [1, 1, 1]


@pytest.mark.trap(56)
def test_by_default_the_labels_still_count_at_the_end_and_count_most_there(teacher, data):
    seen = []
    history = progressive(make(8), teacher, small(data), epochs=2, batch_size=50, objective=spy_on(seen))
    label_weights = [1 - alpha for _, alpha, *_ in seen]
    assert label_weights[-1] == max(label_weights) == 0.5
    assert history.terms["ce"][-1] > 0
    assert "alpha" in inspect.signature(progressive).parameters
    mistaken = linear(0.5, 1.0)  # the source text's: labels have weight 0 at the end
    assert 1 - mistaken(1) == 0


def test_progressive_distillation_teaches(teacher, data, mnist):
    student = make(32)
    progressive(student, teacher, data, epochs=10, batch_size=50)
    assert accuracy(student, *mnist["test"]) > 0.75


def test_a_run_continued_from_its_checkpoint_ends_in_the_same_bits(teacher, data, tmp_path, monkeypatch):
    options = {"epochs": 3, "batch_size": 50, "seed": 2}
    whole, resumed = make(8), make(8)
    progressive(whole, teacher, small(data), **options)

    class Killed(Exception):
        pass

    def make_dying(parameters):
        optimizer, calls = make_adam(parameters), []

        def die(*ignored):
            calls.append(1)
            if len(calls) == 8:
                raise Killed

        optimizer.register_step_pre_hook(die)
        return optimizer

    def run(student, **more):
        return progressive(student, teacher, small(data), checkpoint=tmp_path / "run.pt", **options, **more)

    monkeypatch.setattr("kdcourse.training.options.fit", partial(fit, checkpoint_seconds=0))
    with pytest.raises(Killed):
        run(resumed, objective=spy_on([]), make_optimizer=make_dying)
    seen, other = [], make(8, seed=77)
    run(other, objective=spy_on(seen))
    assert len(seen) == 12 - 7
    assert torch.equal(weights(other), weights(whole))
    assert seen[0][0] == linear(8, 2)(progress_of(7, 12))


def test_difficulty_is_the_teachers_loss_or_its_margin():
    logits = torch.tensor([[5.0, 0.0, 1.0], [0.0, 3.0, 2.5], [4.0, 0.0, 0.0]])
    labels = torch.tensor([0, 1, 2])
    torch.testing.assert_close(difficulty_by_margin(logits, labels), torch.tensor([-4.0, -0.5, 4.0]))
    expected = [-F.log_softmax(z, dim=0)[y] for z, y in zip(logits, labels, strict=True)]
    torch.testing.assert_close(difficulty_by_loss(logits, labels), torch.stack(expected))
    for difficulty in (difficulty_by_loss, difficulty_by_margin):
        assert difficulty(logits, labels).argsort().tolist() == [0, 1, 2]
        for dtype in (torch.int32, torch.uint8):
            assert torch.equal(difficulty(logits, labels.to(dtype)), difficulty(logits, labels))
        with pytest.raises(ValueError, match=r"labels must be in \[0, 3\)"):
            difficulty(logits, labels + 3)
        with pytest.raises(ValueError, match="teacher logits must be floating point"):
            difficulty(logits.long(), labels)


def test_curriculum_batches_have_the_sizes_of_shuffled_ones_and_continue_exactly():
    values = torch.arange(23.0)

    def batches():
        return CurriculumBatches(values, difficulty=values, pace=linear(0.3, 1), batch_size=5, epochs=3,
                                 generator=torch.Generator().manual_seed(1))  # fmt: skip

    whole = [batch for (batch,) in batches()]
    assert [len(batch) for batch in whole] == [5, 5, 5, 5, 3] * 3
    assert whole[0].max() < 0.3 * 23 + 1
    for stop in (3, 5, 11):
        first = batches()
        iterator = iter(first)
        for _ in range(stop):
            next(iterator)
        second = batches()
        second.load_state_dict(first.state_dict())
        rest = [batch for (batch,) in second]
        assert len(rest) == 15 - stop
        assert all(torch.equal(a, b) for a, b in zip(rest, whole[stop:], strict=True))


def test_a_curriculum_or_schedule_that_cannot_work_is_refused_before_training(teacher, data):
    values = torch.arange(10.0)
    for difficulty in (values[:9], values[:, None], values / 0):
        with pytest.raises(ValueError, match="one finite number per sample"):
            CurriculumBatches(values, difficulty=difficulty, pace=linear(0.5, 1))
    for pace in (linear(0, 1), linear(0.5, 1.5)):
        with pytest.raises(ValueError, match=r"pace must stay in \(0, 1\]"):
            CurriculumBatches(values, difficulty=values, pace=pace, batch_size=2)
    student = make(8)
    before = weights(student)
    with pytest.raises(ValueError, match="temperature must be positive"):
        progressive(student, teacher, small(data), temperature=linear(4, 0))
    with pytest.raises(ValueError, match=r"alpha must be in \[0, 1\]"):
        progressive(student, teacher, small(data), alpha=linear(0.5, 1.1))
    assert torch.equal(weights(student), before)


def test_a_checkpoint_of_other_schedules_is_refused(teacher, data, tmp_path):
    run = {"epochs": 1, "checkpoint": tmp_path / "run.pt"}
    progressive(make(8), teacher, small(data), temperature=linear(10, 1), **run)
    progressive(make(8), teacher, small(data), temperature=linear(10, 1), **run)  # the same run goes on
    for other in ({"temperature": linear(9, 1)}, {"temperature": linear(10, 1), "alpha": constant(0.2)}):
        with pytest.raises(ValueError, match="belongs to a run with other settings"):
            progressive(make(8), teacher, small(data), **run, **other)
