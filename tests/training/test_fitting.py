"""The loop, ``fit`` and evaluation: what they leave as it was, what they never do, what they refuse."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from kdcourse.data import jitter, minibatches
from kdcourse.models import make_mlp
from kdcourse.objectives import label_objective, soft_target_objective, with_knobs
from kdcourse.recipes import distill, make_adam
from kdcourse.training import (
    History,
    Knobs,
    Step,
    accuracy,
    count_errors,
    evaluating,
    fit,
    predict_logits,
    train,
)


def cross_entropy(student, images, labels):
    return {"ce": F.cross_entropy(student(images), labels)}


def make_student(seed=0, **dropout):
    torch.manual_seed(seed)
    return make_mlp(16, **dropout)


def make_teacher(seed=1):
    torch.manual_seed(seed)
    return make_mlp(24, dropout=0.5)


def weights(model):
    return [tensor.clone() for tensor in model.state_dict().values()]


def assert_same_bits(left, right):
    for one, other in zip(left, right, strict=True):
        assert torch.equal(one, other)


def sgd(model, lr=0.1):
    return torch.optim.SGD(model.parameters(), lr=lr)


class CountReads(TorchDispatchMode):
    """Counts the operations that bring a tensor's value to Python: ``item``, ``float``, ``bool``, ``tolist``."""

    reads = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = str(func)
        self.reads += "_local_scalar_dense" in name or "is_nonzero" in name
        return func(*args, **(kwargs or {}))


# The loop


def test_the_loop_is_gradient_descent_written_out(digits):
    student = make_student()
    weights = [weight.detach().clone() for weight in student.parameters()]
    steps = train(student, minibatches(*digits, batch_size=100), cross_entropy, sgd(student))
    for step, (images, labels) in zip(steps, minibatches(*digits, batch_size=100), strict=True):
        first, first_bias, last, last_bias = (weight.requires_grad_() for weight in weights)
        hidden = (images.flatten(1) @ first.T + first_bias).clamp(min=0)  # (B, 16)
        log_q = (hidden @ last.T + last_bias).log_softmax(1)  # (B, 10)
        loss = -log_q[torch.arange(len(labels)), labels].mean()
        gradients = torch.autograd.grad(loss, weights)
        weights = [(weight - 0.1 * gradient).detach() for weight, gradient in zip(weights, gradients, strict=True)]
        torch.testing.assert_close([weight.detach() for weight in student.parameters()], weights)
        torch.testing.assert_close(step.loss, loss.detach())


def test_the_loss_is_the_sum_of_the_terms_and_terms_carry_no_graph():
    weight = nn.Parameter(torch.tensor(2.0))
    student = nn.ParameterList([weight])
    batches = [(torch.tensor([3.0]),)]
    step = next(
        train(student, batches, lambda s, x: {"a": weight * x.sum(), "b": weight**2}, torch.optim.SGD([weight], lr=1.0))
    )
    assert weight.item() == 2 - (3 + 2 * 2)
    assert (step.index, step.loss.item()) == (0, 10)
    assert not any(term.requires_grad for term in step.terms.values())


def test_indices_go_on_from_first_index(digits):
    student = make_student()
    steps = train(student, minibatches(*digits, batch_size=250), cross_entropy, sgd(student), first_index=7)
    assert [step.index for step in steps] == [7, 8]


def test_knobs_turned_between_two_steps_act_in_the_next(digits):
    student, knobs = make_student(), Knobs(temperature=4.0, alpha=1.0)
    data = (*digits, torch.randn(500, 10))
    steps = train(student, minibatches(*data), with_knobs(soft_target_objective, knobs), sgd(student))
    first = next(steps)
    knobs.alpha = 0.0
    second = next(steps)
    assert first.terms["ce"] == 0 < first.terms["kd"]
    assert second.terms["kd"] == 0 < second.terms["ce"]


@pytest.mark.trap(15)
def test_gradients_are_on_in_the_loops_consumer(digits):
    student = make_student()
    for _ in train(student, minibatches(*digits), cross_entropy, sgd(student)):
        assert torch.is_grad_enabled()
        with evaluating(student):
            assert not torch.is_grad_enabled()
    assert torch.is_grad_enabled()


@pytest.mark.trap(15)
def test_a_consumer_inside_no_grad_trains_all_the_same_and_stays_inside_no_grad(digits):
    plain, inside = make_student(), make_student()
    for _ in train(plain, minibatches(*digits), cross_entropy, sgd(plain)):
        pass
    with torch.no_grad():
        for _ in train(inside, minibatches(*digits), cross_entropy, sgd(inside)):
            assert not torch.is_grad_enabled()
    assert_same_bits(weights(plain), weights(inside))


@pytest.mark.trap(16)
def test_evaluating_between_two_steps_changes_nothing_in_training(digits):
    def run(looks: bool):
        student = make_student(dropout=0.5)
        torch.manual_seed(3)
        for _ in train(student, minibatches(*digits), cross_entropy, sgd(student)):
            if looks:
                accuracy(student, *digits)
        return weights(student)

    assert_same_bits(run(looks=False), run(looks=True))


@pytest.mark.trap(16)
def test_a_consumer_that_leaves_the_student_in_eval_mode_does_not_switch_dropout_off(digits):
    student, modes = make_student(dropout=0.5), []

    def objective(student, images, labels):
        modes.append(all(module.training for module in student.modules()))
        return cross_entropy(student, images, labels)

    for _ in train(student, minibatches(*digits), objective, sgd(student)):
        student.eval()
    assert modes == [True] * 4


@pytest.mark.trap(17)
def test_drawing_from_the_global_generator_between_steps_does_not_change_the_order(digits):
    def run(draws: int):
        student = make_student()
        for _ in train(student, minibatches(*digits, augment=jitter), cross_entropy, sgd(student)):
            torch.rand(draws)  # a plot with jittered points, another model's weights
        return weights(student)

    assert_same_bits(run(draws=0), run(draws=5))


@pytest.mark.trap(12)
def test_no_value_is_read_in_the_loop(digits):
    # Losses may look at values on the CPU, where that is free; tests/losses/test_devices.py is about other devices.
    student = make_student()
    optimizer = make_adam(list(student.parameters()))
    with CountReads() as count:
        steps = list(train(student, minibatches(*digits), with_knobs(label_objective, Knobs()), optimizer))
        assert count.reads == 0
        steps[-1].loss.item()
    assert count.reads == 1  # the counter would have seen one


@pytest.mark.trap(12)
def test_fit_reads_values_once_per_epoch_and_term_whatever_the_number_of_steps(digits):
    def reads(batch_size):
        student = make_student()
        with CountReads() as count:
            fit(student, digits, cross_entropy, sgd(student), epochs=2, batch_size=batch_size, progress=False)
        return count.reads

    assert reads(batch_size=250) == reads(batch_size=10) <= 4


def test_a_part_that_the_optimizer_does_not_hold_is_named(digits):
    student, regressor = make_student(), nn.Linear(10, 7)

    def objective(student, images, labels):
        return {"hint": regressor(student(images)).square().mean()}

    with pytest.raises(ValueError, match=r"2 trainable tensor\(s\) that the optimizer does not hold.*\(7, 10\)"):
        next(train(student, minibatches(*digits), objective, sgd(student)))
    both = torch.optim.SGD([*student.parameters(), *regressor.parameters()], lr=0.1)
    assert next(train(student, minibatches(*digits), objective, both)).index == 0


def test_a_forgotten_layer_of_the_student_is_named_and_a_frozen_one_is_allowed(digits):
    student = make_student()
    with pytest.raises(ValueError, match=r"3\.bias \(10,\), 3\.weight \(10, 16\)"):
        next(train(student, minibatches(*digits), cross_entropy, sgd(student[1])))
    student[3].requires_grad_(False)
    next(train(student, minibatches(*digits), cross_entropy, sgd(student[1])))


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        (lambda s, x, y: F.cross_entropy(s(x), y), r"an objective returns a dict .* got Tensor"),
        (lambda s, x, y: {}, r"an objective returns a dict"),
        (lambda s, x, y: {"ce": F.cross_entropy(s(x), y, reduction="none")}, r"term 'ce' .* \(128,\)\. Take its mean"),
        (lambda s, x, y: {"ce": 0.5}, r"term 'ce' of the loss must be a scalar tensor, got float"),
        (lambda s, x, y: {"ce": F.cross_entropy(s(x).detach(), y)}, r"reaches no trainable parameter"),
    ],
)
def test_an_objective_that_cannot_teach_is_refused_in_words(objective, message, digits):
    student = make_student()
    with pytest.raises(ValueError, match=message):
        next(train(student, minibatches(*digits), objective, sgd(student)))


def test_inference_mode_around_the_loop_is_refused_in_words(digits):
    student = make_student()
    with torch.inference_mode(), pytest.raises(ValueError, match=r"inside torch\.inference_mode"):
        next(train(student, minibatches(*digits), cross_entropy, sgd(student)))


@pytest.mark.trap(7)
def test_a_student_left_on_another_device_than_its_images_is_refused_in_words(digits):
    # The meta device stands in for a GPU: it has no values, but it is a device of its own.
    student = make_student()
    away = tuple(tensor.to("meta") for tensor in digits)
    with pytest.raises(ValueError, match=r"the model is on cpu, the images are on meta\. Move both to one device"):
        next(train(student, minibatches(*away), cross_entropy, sgd(student)))
    with pytest.raises(ValueError, match=r"the model is on cpu, the images are on meta"):
        predict_logits(student, away[0])


@pytest.mark.trap(7)
def test_once_the_student_is_moved_every_step_runs_where_the_images_are(digits):
    student = make_student().to("meta")
    away = tuple(tensor.to("meta") for tensor in digits)
    steps = list(train(student, minibatches(*away, augment=jitter), cross_entropy, sgd(student)))
    assert {step.terms["ce"].device.type for step in steps} == {"meta"}


# The teacher


@pytest.mark.trap(13)
def test_a_teacher_put_in_train_mode_by_a_parent_still_gives_its_eval_logits(digits):
    teacher = make_teacher()
    expected = predict_logits(teacher.eval(), digits.images)
    parent = nn.ModuleDict({"teacher": teacher, "student": make_student()})
    parent.train()  # undoes teacher.eval()
    assert teacher.training
    assert torch.equal(predict_logits(teacher, digits.images), expected)
    assert not torch.equal(teacher(digits.images), expected)  # what the mistake would distil


@pytest.mark.trap(13)
def test_distilling_from_a_teacher_in_train_mode_gives_the_same_student(digits):
    def run(mode):
        student, teacher = make_student(), make_teacher().train(mode)
        distill(student, teacher, digits, epochs=2)
        return weights(student)

    assert_same_bits(run(True), run(False))


@pytest.mark.trap(14)
def test_distilling_leaves_the_teachers_weights_modes_and_requires_grad_as_they_were(digits):
    teacher = make_teacher().train()
    teacher[1].eval()
    teacher[1].weight.requires_grad_(False)
    before = weights(teacher)
    modes = [module.training for module in teacher.modules()]
    trainable = [parameter.requires_grad for parameter in teacher.parameters()]
    assert len(set(modes)) == len(set(trainable)) == 2

    distill(make_student(), teacher, digits, epochs=1)
    assert_same_bits(weights(teacher), before)
    assert [module.training for module in teacher.modules()] == modes
    assert [parameter.requires_grad for parameter in teacher.parameters()] == trainable
    assert all(parameter.grad is None for parameter in teacher.parameters())


@pytest.mark.trap(14)
def test_a_distilled_student_can_be_trained_further(digits):
    student = make_student()
    distill(student, make_teacher(), digits, epochs=1)
    assert all(parameter.requires_grad for parameter in student.parameters())


@pytest.mark.trap(6)
def test_cached_teacher_logits_follow_their_images_through_every_shuffle(digits):
    teacher = make_teacher()
    cache = predict_logits(teacher, digits.images)
    with evaluating(teacher):
        for number, (images, _, logits) in enumerate(minibatches(*digits, cache, batch_size=100, epochs=2)):
            live = teacher(images)
            torch.testing.assert_close(logits, live)
            by_position = cache.roll(-100 * (number % 5), 0)[:100]  # the mistake: keyed by place in the epoch
            assert not torch.allclose(by_position, live, atol=1e-3)


@pytest.mark.trap(6)
@pytest.mark.trap(75)
def test_a_cache_of_logits_does_not_survive_augmentation(digits):
    # Why distill asks its teacher at each step if there is augmentation: cached logits are those of unmoved images.
    teacher = make_teacher()
    cache = predict_logits(teacher, digits.images)
    images, _, logits = next(iter(minibatches(*digits, cache, augment=jitter)))
    assert not torch.allclose(predict_logits(teacher, images), logits, atol=1e-2)
    with pytest.raises(ValueError, match="augment cannot be used beside cached logits or features"):
        distill(make_student(), cache, digits, augment=jitter)


# Evaluation


@pytest.mark.trap(10)
def test_accuracy_is_over_all_images_whatever_the_batch_size():
    labels = torch.tensor([0, 1, 0, 1, 0])
    logits = F.one_hot(torch.tensor([0, 1, 0, 0, 1]), 2).float()  # 3 of 5 right, the fifth alone in the last batch
    results = {accuracy(nn.Identity(), logits, labels, batch_size=size) for size in (1, 2, 3, 4, 5, 100)}
    assert results == {1 - 2 / 5}
    batch_averages = [(part.argmax(1) == truth).float().mean() for part, truth in _pairs(logits, labels, 2)]
    assert torch.stack(batch_averages).mean() == 0.5  # what averaging the batches' averages would report


def _pairs(logits, labels, size):
    return zip(logits.split(size), labels.split(size), strict=True)


@pytest.mark.trap(10)
def test_predicted_logits_do_not_depend_on_the_batch_size(digits):
    student = make_student(dropout=0.5)
    whole = predict_logits(student, digits.images, batch_size=500)
    for size in (1, 7, 499):
        torch.testing.assert_close(predict_logits(student, digits.images, batch_size=size), whole)


@pytest.mark.trap(11)
def test_accuracy_is_measured_in_eval_mode_with_the_weights_as_they_are_now(mnist, digits):
    torch.manual_seed(0)
    student = nn.Sequential(make_mlp(64), nn.BatchNorm1d(10), nn.Dropout(0.9))
    for _ in train(student, minibatches(*digits, epochs=4), cross_entropy, make_adam(list(student.parameters()))):
        pass
    held_out = mnist.held_out.take(1000)
    student.train()
    measured = accuracy(student, *held_out)
    assert measured == accuracy(student.eval(), *held_out)
    as_in_training = (student.train()(held_out.images).argmax(1) == held_out.labels).float().mean().item()
    assert measured > as_in_training + 0.1  # dropout of .9 while measuring would report far less


def test_errors_and_accuracy_agree(digits):
    student = make_student()
    wrong = sum(int(student(image[None]).argmax()) != int(label) for image, label in zip(*digits, strict=True))
    assert count_errors(student, *digits) == wrong
    assert accuracy(student, *digits) == 1 - wrong / 500


@pytest.mark.trap(16)
def test_evaluation_gives_every_module_its_own_mode_back_even_after_an_error():
    model = nn.Sequential(nn.Dropout(), nn.BatchNorm1d(3), nn.Sequential(nn.Dropout()))
    model.train()
    model[1].eval()  # a frozen batch normalisation
    modes = [module.training for module in model.modules()]
    predict_logits(model, torch.rand(4, 3))
    assert [module.training for module in model.modules()] == modes

    with evaluating(model):
        assert not any(module.training for module in model.modules())
    with pytest.raises(ZeroDivisionError), evaluating(model):
        _ = 1 / 0
    assert [module.training for module in model.modules()] == modes
    assert torch.is_grad_enabled()


def test_evaluating_takes_several_models():
    models = [nn.Dropout().train(), nn.Dropout().eval(), nn.Dropout().train()]
    with evaluating(*models):
        assert [model.training for model in models] == [False] * 3
    assert [model.training for model in models] == [True, False, True]


def test_predicted_logits_carry_no_graph(digits):
    assert not predict_logits(make_student(), digits.images).requires_grad


def test_no_images_and_too_few_labels_are_refused(digits):
    with pytest.raises(ValueError, match="at least one image, got none"):
        predict_logits(make_student(), digits.images[:0])
    with pytest.raises(ValueError, match=r"one label per image is needed, got \(3,\) for 500 images"):
        accuracy(make_student(), digits.images, digits.labels[:3])


# fit


def run_fit(digits, *, seed=0, **options):
    student = make_student(dropout=0.3)
    torch.manual_seed(5)
    options = {"epochs": 2, "augment": jitter, "progress": False} | options
    history = fit(student, digits, cross_entropy, make_adam(list(student.parameters())), seed=seed, **options)
    return weights(student), history


def test_a_seeded_run_repeats_bit_for_bit_with_dropout_and_augmentation(digits):
    (first, history), (again, history_again) = run_fit(digits), run_fit(digits)
    assert_same_bits(first, again)
    assert torch.equal(history.terms["ce"], history_again.terms["ce"])


def test_another_seed_gives_another_run(digits):
    assert not torch.equal(run_fit(digits)[0][0], run_fit(digits, seed=1)[0][0])


def test_fit_is_the_loop_over_shuffled_epochs(digits):
    student, twin = make_student(), make_student()
    history = fit(student, digits, cross_entropy, sgd(student), epochs=2, batch_size=100, seed=4, progress=False)
    batches = minibatches(*digits, batch_size=100, epochs=2, generator=torch.Generator().manual_seed(4))
    losses = [step.loss for step in train(twin, batches, cross_entropy, sgd(twin))]
    assert_same_bits(weights(student), weights(twin))
    assert torch.equal(history.terms["ce"], torch.stack(losses))


def test_history_holds_every_step_and_every_evaluation(digits):
    seen = []
    _, history = run_fit(digits, evaluate=lambda student: {"errors": 3.0}, after_step=lambda step: seen.append(step))
    assert history.steps == len(history.terms["ce"]) == 8
    assert history.evaluations == [{"errors": 3.0}] * 2
    assert [step.index for step in seen] == list(range(8))
    assert torch.equal(torch.stack([step.loss for step in seen]), history.terms["ce"])


def test_a_term_that_is_absent_at_some_steps_counts_nothing_there(digits):
    turn = itertools.count()

    def objective(student, images, labels):
        ce = F.cross_entropy(student(images), labels)
        return {"ce": ce} if next(turn) % 6 < 5 else {"late": ce}  # late: at step 5 only, so not in the first epoch

    student = make_student()
    history = fit(student, digits, objective, sgd(student), epochs=2, progress=False)
    assert history.terms["late"].shape == history.terms["ce"].shape == (8,)
    assert history.terms["late"].nonzero().flatten().tolist() == [5]
    assert (history.terms["ce"] == 0).nonzero().flatten().tolist() == [5]


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_term_and_epoch(digits):
    turn = itertools.count()

    def objective(student, images, labels):
        ce = F.cross_entropy(student(images), labels)
        return {"ce": ce, "hint": ce * (float("inf") if next(turn) == 5 else 0.0)}  # at step 6 all terms are NaN

    student = make_student()
    with pytest.raises(FloatingPointError, match=r"term 'hint' became infinite or NaN in epoch 2, at step 5"):
        fit(student, digits, objective, sgd(student), epochs=3, progress=False)


def test_fit_passes_on_what_minibatches_refuses(digits):
    student = make_student()
    with pytest.raises(ValueError, match="epochs must be a positive integer, got 0"):
        fit(student, digits, cross_entropy, sgd(student), epochs=0)


def test_the_progress_bar_counts_steps_and_can_be_switched_off(digits, capsys):
    run_fit(digits, progress=True)
    assert "8" in capsys.readouterr().err
    run_fit(digits, progress=False)
    assert capsys.readouterr() == ("", "")


def test_empty_history_has_no_steps_and_a_steps_loss_adds_its_terms():
    assert History().steps == 0
    assert Step(0, {"kd": torch.tensor(1.5), "ce": torch.tensor(0.25)}).loss == 1.75


# A last batch of one


class WithNorm(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(784, 8), nn.BatchNorm1d(8), nn.Linear(8, 10))


@pytest.mark.trap(76)
def test_a_batch_normalisation_that_would_meet_a_batch_of_one_is_refused_before_the_first_epoch(digits):
    data, student = digits.take(101), WithNorm()
    before, random = weights(student), torch.get_rng_state()
    with pytest.raises(ValueError, match=r"last batch of each epoch has one sample.* drop_last=True"):
        fit(student, data, cross_entropy, sgd(student), epochs=1, batch_size=25, progress=False, after_step=pytest.fail)
    assert_same_bits(weights(student), before)
    assert torch.equal(torch.get_rng_state(), random)
    history = fit(student, data, cross_entropy, sgd(student), epochs=2, batch_size=25, drop_last=True, progress=False)
    assert history.steps == 8


@pytest.mark.trap(76)
def test_an_objective_that_cannot_use_a_batch_of_one_is_told_what_leaves_it_out(digits):
    def relations(student, images, labels):
        if len(images) == 1:
            raise ValueError("relations need two samples")
        return cross_entropy(student, images, labels)

    student, data = make_student(), digits.take(101)
    with pytest.raises(ValueError, match="relations need two samples") as raised:
        fit(student, data, relations, sgd(student), epochs=1, batch_size=25, progress=False)
    assert "drop_last=True" in raised.value.__notes__[0]
    distill(student, make_teacher(), data, objective=lambda s, x, y, z: relations(s, x, y), batch_size=25,
            drop_last=True, epochs=1)  # fmt: skip


def test_a_last_batch_of_one_that_troubles_nobody_is_trained_on(digits):
    student = make_student()
    assert (
        fit(student, digits.take(101), cross_entropy, sgd(student), epochs=1, batch_size=25, progress=False).steps == 5
    )
