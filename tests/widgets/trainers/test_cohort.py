"""The cohort trainer, driven without a front end: the recipe's bits, curves, what peers tell each other, marks."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kdcourse.losses import mutual_ensemble_loss
from kdcourse.models import make_cnn, make_mlp
from kdcourse.recipes import mutual_learning
from kdcourse.training import predict_logits
from kdcourse.widgets import CohortTrainer
from kdcourse.widgets.trainers.cohort_picture import CohortPicture
from kdcourse.widgets.trainers.cohort_race import WAYS


@pytest.fixture(scope="module")
def small(mnist):
    return mnist._replace(train=mnist.train.take(600), held_out=mnist.held_out.take(300), test=mnist.test.take(400))


@pytest.fixture
def make_cohort(small):
    def make(count=3, *, way="pairwise", temperature=1.0, **settings):
        torch.manual_seed(0)
        students = settings.pop("students", [make_mlp(16) for _ in range(count)])
        cohort = CohortTrainer(students, small, **{"batch_size": 50, **settings})
        cohort.way.value, cohort.temperature.value = way, temperature
        return cohort

    return make


# --- training


def test_with_labels_only_student_0_is_the_one_alone_to_the_bit(make_cohort, weights_of):
    cohort = make_cohort(way="labels only")
    cohort.step(40)
    assert torch.equal(weights_of(cohort.students[0]), weights_of(cohort.alone))
    assert cohort.curves["student 0"] == cohort.curves["alone"]
    assert float(cohort.divergences[:, 0, -1].max()) == 0
    assert not torch.equal(weights_of(cohort.students[0]), weights_of(cohort.students[1]))


@pytest.mark.parametrize("way", ["pairwise", "averaged logits"])
def test_the_students_are_those_of_the_recipe_to_the_bit(make_cohort, small, way, weights_of):
    cohort = make_cohort(way=way, temperature=2.0)
    students = copy.deepcopy(cohort.students)
    settings = {} if way == "pairwise" else {"loss": mutual_ensemble_loss}
    mutual_learning(students, small.train, temperature=2.0, epochs=3, batch_size=50, **settings)
    cohort.step(36)  # 12 batches an epoch
    for own, recipes in zip(cohort.students, students, strict=True):
        assert torch.equal(weights_of(own), weights_of(recipes))


def test_the_one_alone_starts_as_student_0_and_learns_from_the_labels_only(make_cohort, small, weights_of):
    cohort = make_cohort()
    assert torch.equal(weights_of(cohort.alone), weights_of(cohort.students[0]))
    alone = copy.deepcopy(cohort.alone)
    optimizer = torch.optim.Adam(alone.parameters(), lr=1e-3, fused=True)
    cohort.step(12)
    for index in torch.randperm(600, generator=torch.Generator().manual_seed(0)).split(50):
        optimizer.zero_grad()
        F.cross_entropy(alone(small.train.images[index]), small.train.labels[index]).backward()
        optimizer.step()
    assert torch.equal(weights_of(cohort.alone), weights_of(alone))


def test_a_way_chosen_on_the_way_acts_from_that_step_on(make_cohort, weights_of):
    turned, other = make_cohort(), make_cohort()
    for cohort in (turned, other):
        cohort.step(10)
    assert torch.equal(weights_of(turned.students[0]), weights_of(other.students[0]))
    turned.way.value = "labels only"
    for cohort in (turned, other):
        cohort.step(1)
    assert not torch.equal(weights_of(turned.students[0]), weights_of(other.students[0]))


def test_slices_of_any_length_train_and_record_the_same(make_cohort, weights_of):
    by_steps, by_ticks = make_cohort(2), make_cohort(2)
    while by_ticks.steps < 25:
        by_ticks.race.advance(seconds=0)  # one unit of work: less than a step
    by_ticks.race.rest()
    by_steps.step(25)
    assert torch.equal(weights_of(by_steps.students[1]), weights_of(by_ticks.students[1]))
    assert by_steps.curves == by_ticks.curves
    assert torch.equal(by_steps.divergences, by_ticks.divergences)


def test_a_cohort_of_two_is_not_offered_averaged_logits_which_are_its_only_peers(make_cohort):
    assert make_cohort(2).way.options == ("pairwise", "labels only")
    assert make_cohort(3).way.options == tuple(WAYS)
    logits, labels = torch.randn(2, 8, 10), torch.arange(8)
    pairwise, averaged = (WAYS[way](list(logits), labels, temperature=2.0) for way in ("pairwise", "averaged logits"))
    torch.testing.assert_close(pairwise, averaged)


def test_cohorts_of_unlike_students_and_of_six_are_trained(make_cohort):
    unlike = make_cohort(students=[make_mlp(8), make_cnn(2, 2)])
    unlike.step(2)
    six = make_cohort(6)
    six.step(2)
    assert six.divergences.shape == (1, 7, 7)
    assert len(six.image.value) < 60_000
    for cohort in (unlike, six):
        cohort.close()


# --- what is measured


def test_curves_are_held_out_errors_of_each_and_of_the_mean_probability(make_cohort, small):
    cohort = make_cohort(held_out=200)
    cohort.step(30)
    assert cohort.measured == [0, 10, 20, 30]
    images, labels = small.held_out.take(200)
    probabilities = torch.stack([predict_logits(student, images).softmax(-1) for student in cohort.students])
    expected = {f"student {n}": float((p.argmax(-1) != labels).sum()) / 2 for n, p in enumerate(probabilities)}
    expected["alone"] = float((predict_logits(cohort.alone, images).argmax(-1) != labels).sum()) / 2
    expected["vote"] = float((probabilities.mean(0).argmax(-1) != labels).sum()) / 2
    assert {name: errors[-1] for name, errors in cohort.curves.items()} == expected
    assert {len(errors) for errors in cohort.curves.values()} == {4}


def test_divergences_are_the_kl_of_the_peer_from_oneself_and_agreements_the_share_of_equal_answers(make_cohort, small):
    cohort = make_cohort()
    cohort.step(20)
    everyone = [*cohort.students, cohort.alone]
    p = [predict_logits(student, small.held_out.images).double().softmax(-1) for student in everyone]
    for own in range(4):
        for peer in range(4):
            kl = (p[peer] * (p[peer] / p[own]).log()).sum(-1).mean()
            assert float(cohort.divergences[-1, own, peer]) == pytest.approx(float(kl), rel=1e-3, abs=1e-6)
            same = (p[own].argmax(-1) == p[peer].argmax(-1)).double().mean()
            assert float(cohort.agreements[-1, own, peer]) == pytest.approx(float(same))
    assert len(cohort.divergences) == len(cohort.agreements) == len(cohort.measured)


def test_peers_that_talk_become_more_alike_than_students_with_labels_only(make_cohort):
    apart = {}
    for way in ("pairwise", "labels only"):
        cohort = make_cohort(way=way)
        cohort.step(200)
        apart[way] = float(cohort.divergences[-1, :3, :3].sum())
    assert apart["pairwise"] < 0.5 * apart["labels only"]


def test_test_errors_are_counted_on_the_test_images(make_cohort, small):
    cohort = make_cohort(2)
    cohort.step(30)
    images, labels = small.test
    p = torch.stack([predict_logits(student, images).softmax(-1) for student in cohort.students])
    errors = cohort.measure_test()
    assert list(errors) == list(cohort.curves)
    assert errors["student 1"] == int((p[1].argmax(-1) != labels).sum())
    assert errors["vote"] == int((p.mean(0).argmax(-1) != labels).sum())
    assert f"Errors on 400 test images after 30 steps: student 0 {errors['student 0']}" in cohort.status.value


# --- knobs, clock, buttons


def test_a_moved_knob_marks_the_step_and_draws_at_once(make_cohort, frame_of):
    cohort = make_cohort()
    cohort.step(7)
    before = cohort.image.value
    cohort.temperature.value = 4
    cohort.way.value = "averaged logits"
    assert cohort.marks == [(7, "cohort", "temperature", 4), (7, "cohort", "way", "averaged logits")]
    assert cohort.image.value != before
    said = frame_of(cohort).text
    assert (said["step"], said["temperature"], said["way"], said["marks"]) == ("7", "4.0", "1", "2")


def test_where_no_peer_speaks_t_is_out_of_reach(make_cohort):
    cohort = make_cohort()
    cohort.way.value = "labels only"
    assert cohort.temperature.disabled
    cohort.way.value = "pairwise"
    assert not cohort.temperature.disabled
    assert [mark.value for mark in cohort.marks] == ["pairwise"]  # of several moves at one step only the last counts


def test_the_clock_trains_and_after_a_reset_the_same_steps_give_the_same_students(make_cohort, weights_of):
    cohort = make_cohort()
    cohort.play.value = 1
    cohort.play.value = 2
    assert cohort.steps > 0
    cohort.reset()
    assert (cohort.steps, cohort.measured, cohort.marks) == (0, [0], [])
    cohort.step_button.click()
    first = weights_of(cohort.students[1]).clone()
    curves = copy.deepcopy(cohort.curves)
    cohort.reset_button.click()
    cohort.step(100)
    assert torch.equal(weights_of(cohort.students[1]), first)
    assert cohort.curves == curves


def test_the_status_line_tells_everyones_errors_and_how_often_they_agree(make_cohort):
    cohort = make_cohort(2)
    cohort.step(20)
    told = cohort.status.value
    assert f"students 0 to 1: <b>{cohort.curves['student 0'][-1]:.2f} %</b>" in told
    assert f"the vote of the cohort: <b>{cohort.curves['vote'][-1]:.2f} %</b>" in told
    assert f"the same answer to {100 * float(cohort.agreements[-1, 0, 1]):.1f} % of the images" in told


def test_an_error_in_a_tick_is_told_and_makes_close_raise(make_cohort):
    cohort = make_cohort(make_optimizer=lambda parameters: torch.optim.SGD(parameters, lr=1e12))
    for tick in range(1, 100):
        cohort.play.value = tick
    assert "FloatingPointError" in cohort.status.value
    assert len(cohort.errors) == 1
    with pytest.raises(RuntimeError, match="cohort trainer has stopped at an error"):
        cohort.step(1)
    with pytest.raises(RuntimeError, match="the widget met an error"):
        cohort.close()


def test_close_stops_for_good(make_cohort):
    cohort = make_cohort()
    cohort.close()
    cohort.play.value = 1
    cohort.way.value = "labels only"
    assert (cohort.steps, cohort.marks) == (0, [])
    assert cohort.way.disabled
    with pytest.raises(ValueError, match="this cohort trainer was closed"):
        cohort.step(1)


def shared():
    model = make_mlp(4)
    return [model, model]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"count": 1}, "at least two students, got 1"),
        ({"count": 7}, "room for 6 students, got 7"),
        ({"held_out": 0}, "held_out must be a positive number"),
        ({"students": shared()}, "share"),
        (
            {"students": [make_mlp(4), nn.Sequential(nn.Flatten(), nn.Linear(784, 5))]},
            r"student 0 and student 1 must have the same classes, got logits \(2, 10\) and \(2, 5\)",
        ),
    ],
)
def test_what_cannot_be_trained_is_refused_with_the_reason(make_cohort, settings, told):
    with pytest.raises(ValueError, match=told):
        make_cohort(**settings)


# --- picture


def test_students_have_markers_of_their_own_and_the_picture_has_room_for_the_legend():
    picture = CohortPicture(6)
    lines = [picture.chart.lines[f"student {n}"] for n in range(6)]
    assert len({line.get_marker() for line in lines}) == 6
    (legend,) = picture.canvas.figure.legends
    picture.canvas.draw()
    end = legend.get_window_extent().x1 / picture.canvas.figure.bbox.width
    assert end < 0.5  # where the next title begins
