"""A user's data: loaders, dicts, data sets, arrays, iterables; augmentation; a run that is stopped and continued."""

import random
from functools import partial

import numpy as np
import pytest
import torch
from made_data import CLOSE, EXACT, Pictures, Wrapped, assert_same, make_network, make_pictures, weights
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset
from uses import data

from kdcourse.data.loaders import LoaderBatches
from kdcourse.data.parts import split_batch, unpack_batch
from kdcourse.losses import distillation_loss
from kdcourse.objectives import soft_target_objective
from kdcourse.recipes import born_again, distill, mutual_learning, progressive
from kdcourse.training import fit, predict_logits
from kdcourse.training.schedules import linear


class Stop(Exception):
    pass


def by_hand(student, teacher, batches, *, epochs):
    """The loop that everybody writes: an oracle that shares no line with the package's."""
    optimizer = torch.optim.Adam(student.parameters(), lr=1e-3)
    teacher.eval()
    for _ in range(epochs):
        for images, labels in batches:
            with torch.no_grad():
                teacher_logits = teacher(images)
            loss = distillation_loss(student(images), teacher_logits, labels, temperature=4.0, alpha=0.7)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return student


@pytest.fixture
def teacher():
    return make_network(32, seed=1)


def in_batches(size=32):
    images, labels = make_pictures()
    return list(zip(images.split(size), labels.split(size), strict=True))


def test_any_iterable_of_batches_trains_as_the_loop_that_everybody_writes(teacher):
    expected = by_hand(make_network(), teacher, in_batches(), epochs=2)
    student = make_network()
    history = data.any_iterable(student, teacher, in_batches())
    assert_same(student, expected, **CLOSE)
    assert history.steps == 6
    assert list(history.terms) == ["kd", "ce"]


def test_a_loader_in_order_trains_as_the_loop_that_everybody_writes(teacher):
    expected = by_hand(make_network(), teacher, in_batches(), epochs=2)
    student = make_network()
    distill(student, teacher, DataLoader(Pictures(), batch_size=32), epochs=2)
    assert_same(student, expected, **CLOSE)


@pytest.mark.parametrize("run", [data.loader_of_tuples, partial(data.dataset_alone)])
def test_a_shuffled_loader_shows_every_sample_once_in_each_epoch_and_in_another_order(run, teacher):
    seen = []
    dataset = Pictures(make=lambda image, label: (image, label))
    watched = Wrapped(make_network(), lambda logits: logits)
    watched.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    torch.manual_seed(5)
    before = torch.get_rng_state()
    assert run(watched, teacher, dataset).steps == 6
    assert torch.equal(torch.get_rng_state(), before)  # the caller's random numbers are as they were
    first, second = torch.cat(seen[:3]), torch.cat(seen[3:])
    assert not torch.equal(first, second)
    for images in (first, second):
        torch.testing.assert_close(images.flatten(1).sort(dim=0).values, dataset.images.flatten(1).sort(dim=0).values)


def test_a_dict_is_the_models_arguments_and_labels(teacher):
    expected = make_network()
    data.loader_of_tuples(expected, teacher, Pictures())
    make = lambda image, label: {"pixels": image, "labels": label}
    student = make_network()
    data.loader_of_dicts(student, teacher, Pictures(make=make))
    assert_same(student, expected, **EXACT)
    two = lambda image, label: {"pixels": image, "unused": 0, "labels": label}
    takes_names = [Wrapped(network, lambda logits: logits, name="pixels") for network in (make_network(), teacher)]
    data.loader_of_dicts(*takes_names, Pictures(make=two))
    assert_same(takes_names[0].network, expected, **EXACT)


def test_batches_of_other_names_are_read_as_the_user_says(teacher):
    make = lambda image, label: {"scan": image, "finding": label, "patient": "a"}
    loader = DataLoader(Pictures(make=make), batch_size=32)
    student = make_network()
    data.dicts_with_other_names(student, teacher, loader)
    assert_same(student, by_hand(make_network(), teacher, in_batches(), epochs=2), **CLOSE)
    with pytest.raises(
        ValueError, match=r"needs inputs and one of labels, label.*got the keys \['scan'.*unpack=lambda"
    ):
        distill(make_network(), teacher, loader)


@pytest.mark.parametrize("convert", [np.asarray, torch.as_tensor], ids=["NumPy", "tensors"])
def test_arrays_and_tensors_give_the_same_student(convert, teacher):
    images, labels = make_pictures()
    expected = make_network()
    distill(expected, teacher, (images, labels), epochs=2, batch_size=32)
    student, calls = make_network(), []
    hook = teacher.register_forward_hook(lambda *_: calls.append(1))
    data.numpy_arrays(student, teacher, convert(images), convert(labels))
    hook.remove()
    assert_same(student, expected, **EXACT)
    assert len(calls) == 1  # once for all
    other = make_network()
    distill(other, teacher, TensorDataset(images, labels), epochs=2, batch_size=32)
    assert_same(other, expected, **EXACT)


def test_a_last_batch_of_one_trains_and_is_left_out_on_request(teacher):
    sizes = []
    student = Wrapped(make_network(), lambda logits: logits)
    student.register_forward_pre_hook(lambda module, args: sizes.append(len(args[0])))
    data.loader_of_tuples(student, teacher, Pictures())
    assert sizes == [32, 32, 1] * 2
    sizes.clear()
    data.drop_last(student, teacher, Pictures())
    assert sizes == [32, 32] * 2
    with_norm = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(36), nn.Linear(36, 3))
    with pytest.raises(ValueError, match=r"last batch of each epoch has one sample.*drop_last=True"):
        data.loader_of_tuples(with_norm, teacher, Pictures())
    with pytest.raises(ValueError, match=r"DataLoader\(\.\.\., drop_last=True\)"):
        distill(make_network(), teacher, DataLoader(Pictures()), drop_last=True)


def test_the_evaluation_on_a_loader_is_that_on_the_tensors(teacher):
    images, labels = make_pictures()
    student, loader = make_network(), DataLoader(Pictures(), batch_size=32)
    kd, accuracy = data.evaluate_on_a_loader(student, teacher, loader, loader)
    assert kd.shape == (6,)
    logits = student(images)
    assert accuracy == pytest.approx((logits.argmax(dim=1) == labels).float().mean().item())
    torch.testing.assert_close(predict_logits(student, loader), logits, **CLOSE)


# Stopped and continued


def stopping(student, at):
    """A student that breaks off in its n-th pass."""
    calls = []

    def count(module, args):
        calls.append(1)
        if len(calls) == at:
            raise Stop

    return student.register_forward_pre_hook(count)


@pytest.mark.parametrize(
    ("workers", "own_generator"), [(0, False), (0, True), pytest.param(2, False, marks=pytest.mark.slow)]
)
def test_a_run_on_a_loader_that_is_stopped_and_continued_ends_in_the_same_bits(
    workers, own_generator, teacher, tmp_path, monkeypatch
):
    monkeypatch.setattr("kdcourse.training.options.fit", partial(fit, checkpoint_seconds=0))

    def run(path, *, stop_at=None):
        generator = torch.Generator().manual_seed(8) if own_generator else None
        loader = DataLoader(Pictures(noisy=True), 16, shuffle=True, num_workers=workers, generator=generator)
        student = make_network(dropout=0.5)
        if stop_at is not None:
            stopping(student, stop_at)
            random.seed(1)  # what else draws random numbers there and here is not the same
            with pytest.raises(Stop):
                data.resume_a_loader(student, teacher, loader, path)
            return None
        return student, data.resume_a_loader(student, teacher, loader, path)

    whole, expected = run(tmp_path / "whole.pt")
    for stop_at in (3, 5, 6) if workers == 0 else (8,):  # inside epochs, and at the end of one
        run(tmp_path / "run.pt", stop_at=stop_at)
    continued, history = run(tmp_path / "run.pt")
    assert history.steps == expected.steps == 15
    torch.testing.assert_close(history.terms, expected.terms, **EXACT)
    assert_same(continued, whole, **EXACT)


def test_a_checkpoint_of_a_loader_is_refused_for_another_batch_size_and_another_teacher(teacher, tmp_path):
    data.resume_a_loader(make_network(), teacher, DataLoader(Pictures(), 32), tmp_path / "run.pt")
    with pytest.raises(ValueError, match=r"data: Pictures, batches of 32 there, Pictures, batches of 16 here"):
        data.resume_a_loader(make_network(), teacher, DataLoader(Pictures(), 16), tmp_path / "run.pt")
    with pytest.raises(ValueError, match=r"teacher: \w+ there, \w+ here"):
        data.resume_a_loader(make_network(), make_network(32, seed=9), DataLoader(Pictures(), 32), tmp_path / "run.pt")


def test_a_stream_without_a_length_trains_and_says_what_it_cannot_do(teacher):
    class Stream(IterableDataset):
        def __iter__(self):
            return iter([(image, int(label)) for image, label in zip(*make_pictures(), strict=True)])

    student = make_network()
    assert distill(student, teacher, DataLoader(Stream(), batch_size=32), epochs=2).steps == 6
    assert_same(student, by_hand(make_network(), teacher, in_batches(), epochs=2), **CLOSE)
    with pytest.raises(ValueError, match="a schedule for temperature or alpha needs the count of batches"):
        distill(make_network(), teacher, DataLoader(Stream()), temperature=lambda progress: 2.0)
    with pytest.raises(ValueError, match="a schedule needs the count of batches"):
        distill(make_network(), teacher, DataLoader(Stream()), make_scheduler=lambda optimizer, steps: None)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: iter(in_batches()), r"gives its batches once, and 5 epochs were asked for"),
        (lambda: [], "has no batches"),
        (lambda: 3, "data must be a tuple of tensors or arrays, a DataLoader, a Dataset"),
        (lambda: {"images": 1}, "data must be a tuple of tensors or arrays"),
        (lambda: [make_pictures()[0]] * 1, "distill needs images and labels, got one tensor"),
        (lambda: ["text"], "a batch is a tensor, a tuple .* or a dict, got str"),
        (lambda: [(make_pictures()[0],)], "the batches have one part, and distill needs images and labels"),
    ],
)
def test_data_that_cannot_be_read_is_refused_in_words(wrong, message, teacher):
    with pytest.raises(ValueError, match=message):
        distill(make_network(), teacher, wrong())


def test_a_schedule_of_the_temperature_turns_with_a_loader_as_it_does_with_tensors(teacher):
    knobs = {"temperature": linear(8, 2), "alpha": linear(0.9, 0.1), "epochs": 2}
    from_loader, expected = make_network(), make_network()
    history = distill(from_loader, teacher, in_batches(), **knobs)
    fixed = distill(expected, teacher, in_batches(), temperature=8.0, alpha=0.9, epochs=2)
    assert history.terms["kd"][0] == fixed.terms["kd"][0]
    assert (history.terms["ce"][-1] / fixed.terms["ce"][-1]).item() == pytest.approx(0.9 / 0.1, rel=0.05)


def test_other_recipes_take_a_loader_or_say_why_not(teacher):
    result = born_again(make_network, DataLoader(Pictures(), batch_size=32), generations=2, epochs=1)
    assert [history.steps for history in result.histories] == [3, 3]
    cohort = [make_network(seed=seed) for seed in (0, 1)]
    assert mutual_learning(cohort, DataLoader(Pictures(), batch_size=32), epochs=1).steps == 3
    with pytest.raises(
        ValueError, match=r"progressive orders all samples .* got DataLoader\. With a loader take distill"
    ):
        progressive(make_network(), teacher, DataLoader(Pictures()))


# Augmentation


def brighten(images, generator):
    return images + torch.rand(len(images), 1, 1, 1, generator=generator)


def seen_by(*models):
    """What each model is given."""
    seen = [[] for _ in models]
    for model, views in zip(models, seen, strict=True):
        model.register_forward_pre_hook(lambda module, args, views=views: views.append(args[0].clone()))
    return seen


@pytest.mark.trap(75)
@pytest.mark.parametrize("kind", ["loader", "tensors"])
def test_the_teacher_sees_the_view_that_the_student_sees(kind, teacher):
    student = make_network()
    learned, taught = seen_by(student, teacher)
    if kind == "loader":
        data.augmentation_with_a_loader(student, teacher, Pictures(noisy=True))
    else:
        data.augmentation_of_tensors(student, teacher, *make_pictures(), brighten)
    assert len(learned) == len(taught) > 0
    assert all(torch.equal(*pair) for pair in zip(learned, taught, strict=True))
    assert not any(torch.equal(view, learned[0]) for view in learned[1:])  # and each view is a new one


@pytest.mark.trap(75)
def test_cached_answers_are_refused_under_augmentation_and_with_a_loader(teacher):
    images, labels = make_pictures()
    cache = predict_logits(teacher, images)
    with pytest.raises(ValueError, match="augment cannot be used beside cached logits"):
        distill(make_network(), cache, (images, labels), augment=brighten)
    with pytest.raises(ValueError, match="logits that were computed once belong to samples in memory"):
        distill(make_network(), cache, DataLoader(Pictures()))


def test_cached_answers_for_views_are_those_of_each_view(teacher):
    student, (images, labels) = make_network(), make_pictures()
    learned, taught = seen_by(student, teacher)
    history = data.cached_views(student, teacher, images, labels, brighten)
    assert len(taught) == 1
    assert len(taught[0]) == 4 * len(images)
    assert history.steps == 2 * 3  # 260 samples in batches of 128
    rows = {tuple(view.flatten().tolist()) for view in taught[0]}
    assert all(tuple(view.flatten().tolist()) in rows for view in learned[0])


# Parts


def test_the_pieces_of_a_batch_hold_all_of_it_and_their_shares_add_up():
    inputs = {"ids": torch.arange(7), "mask": torch.ones(7, 2)}
    pieces = split_batch((inputs, torch.arange(7), list("abcdefg")), 3)
    assert [len(piece[1]) for piece, _ in pieces] == [3, 3, 1]
    torch.testing.assert_close(torch.cat([piece[0]["ids"] for piece, _ in pieces]), inputs["ids"])
    assert "".join(letter for piece, _ in pieces for letter in piece[2]) == "abcdefg"
    assert sum(share for _, share in pieces) == pytest.approx(1)


def test_a_sampler_is_told_the_epoch():
    epochs = []

    class Sampler:
        def set_epoch(self, epoch):
            epochs.append(epoch)

    class Loader(list):
        sampler = Sampler()

    list(LoaderBatches(Loader(in_batches()), epochs=3))
    assert epochs == [0, 1, 2]


def test_a_tensor_alone_is_inputs_without_labels():
    (images,) = unpack_batch(make_pictures()[0])
    assert images.shape == (65, 1, 6, 6)


def test_batches_with_logits_of_their_own_need_no_teacher(teacher):
    loader = [(*batch, teacher(batch[0]).detach()) for batch in in_batches()]
    student = make_network()
    optimizer = torch.optim.Adam(student.parameters(), lr=1e-3)
    fit(student, loader, soft_target_objective, optimizer, epochs=2, progress=False)
    assert_same(student, by_hand(make_network(), teacher, in_batches(), epochs=2), **CLOSE)
    assert weights(student)["4.bias"].isfinite().all()
