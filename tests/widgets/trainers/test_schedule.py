"""The schedule editor, driven without a front end: what is drawn is what trains, to the last step."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kdcourse.models import make_mlp
from kdcourse.recipes import progressive
from kdcourse.training import count_errors
from kdcourse.widgets import ScheduleEditor
from kdcourse.widgets.trainers.schedule_presets import PRESETS, STAGES

EPOCHS, BATCH = 2, 50  # of 300 images: 12 steps


@pytest.fixture(scope="module")
def small(mnist):
    return mnist._replace(train=mnist.train.take(300), held_out=mnist.held_out.take(300), test=mnist.test.take(400))


@pytest.fixture(scope="module")
def teacher():
    torch.manual_seed(7)
    return make_mlp(32).eval()


@pytest.fixture
def make_editor(small, teacher):
    def make(**settings):
        torch.manual_seed(0)
        student = settings.pop("student", None) or make_mlp(16)
        return ScheduleEditor(student, teacher, small, **{"epochs": EPOCHS, "batch_size": BATCH, **settings})

    return make


@pytest.fixture
def spy(monkeypatch):
    """A list of what the knobs were at each step, noted by an objective in place of the editor's."""
    seen = []

    def objective(student, images, labels, teacher_logits, *, temperature, alpha):
        seen.append((temperature, alpha))
        return {"ce": F.cross_entropy(student(images), labels)}

    monkeypatch.setattr("kdcourse.widgets.trainers.schedule_race.soft_target_objective", objective)
    return seen


def play_again(editor):
    """Press play as a front end does: first its state, then ticks."""
    name = "playing" if editor.play.has_trait("playing") else "_playing"
    setattr(editor.play, name, True)
    editor.play.value += 1


# --- what is drawn


def test_between_two_sliders_both_schedules_are_drawn_as_straight_lines(make_editor):
    editor = make_editor()
    editor.preset.value = "linear"
    for axes in editor.picture.axes.values():
        curve = next(line for line in axes.lines if len(line.get_xdata()) > 100)
        x, y = axes.transData.transform(curve.get_xydata()).T  # in pixels
        straight = y[0] + (y[-1] - y[0]) * (x - x[0]) / (x[-1] - x[0])
        assert abs(y - straight).max() < 0.01
        assert abs(y[-1] - y[0]) > 20


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_moves_the_sliders_and_both_schedules(make_editor, name):
    editor = make_editor()
    editor.preset.value = name
    temperatures, alphas, between = PRESETS[name]
    assert (editor.preset.value, editor.between.value) == (name, between)
    assert [slider.value for slider in editor.temperatures] == pytest.approx(temperatures)
    assert [slider.value for slider in editor.alphas] == pytest.approx(alphas)
    for schedule, values in ((editor.temperature_schedule, temperatures), (editor.alpha_schedule, alphas)):
        assert (schedule(0.0), schedule(1.0)) == pytest.approx((values[0], values[-1]))
        assert schedule(0.5) == pytest.approx(values[2])
    editor.close()


def test_between_two_sliders_the_schedule_is_straight_or_a_stage(make_editor):
    editor = make_editor()
    for slider, value in zip(editor.temperatures, (8, 4, 4, 2, 1), strict=True):
        slider.value = value
    assert editor.preset.value == "as drawn"
    assert editor.temperature_schedule(0.125) == pytest.approx(6)
    editor.between.value = STAGES
    assert [editor.temperature_schedule(p) for p in (0.125, 0.21, 0.79, 0.81, 1.0)] == [8, 4, 2, 1, 1]
    assert [slider.description for slider in editor.alphas] == list("12345")
    assert "T</b> in stage" in editor.widget.children[1].children[0].children[0].children[0].value


def test_the_stages_never_train_at_t_1_and_end_with_hardly_any_labels(make_editor, spy):
    editor = make_editor()
    editor.preset.value = "the stages"
    editor.train()
    assert min(spy)[0] == pytest.approx(2.8)
    assert spy[-1] == pytest.approx((2.8, 0.9))
    assert len(set(spy)) == 5
    assert (
        "the last step trains at T = 2.8, α = 0.90: the labels end with a weight of <b>0.10</b>" in editor.status.value
    )


def test_what_a_front_end_rounds_to_its_grid_stays_as_it_was_drawn(make_editor):
    editor = make_editor()
    editor.preset.value = "the stages"
    editor.temperatures[4].value = 2.0**1.48  # the place of the slider next to 2.8
    assert editor.preset.value == "the stages"
    assert editor.temperature_schedule(1.0) == pytest.approx(2.8)
    editor.temperatures[4].value = 2.0**1.46
    assert editor.preset.value == "as drawn"
    assert editor.temperature_schedule(1.0) == pytest.approx(2.0**1.46)


def test_schedules_are_kept_as_they_were_handed_out_and_can_be_pickled(make_editor):
    editor = make_editor()
    before = pickle.loads(pickle.dumps(editor.alpha_schedule))
    values = [before(p / 10) for p in range(11)]
    editor.alphas[0].value = 0.0
    assert [before(p / 10) for p in range(11)] == values
    assert editor.alpha_schedule(0.0) == 0.0


# --- runs


def test_a_run_is_the_recipes_to_the_bit(make_editor, small, teacher, weights_of):
    student = make_mlp(16)
    editor = make_editor(student=student)
    editor.preset.value = "cosine"
    for _ in range(2):  # the second on the same batches as the first
        run = editor.train()
        other = copy.deepcopy(student)
        progressive(
            other, teacher, small.train, temperature=editor.temperature_schedule, alpha=editor.alpha_schedule,
            difficulty=None, epochs=EPOCHS, batch_size=BATCH,
        )  # fmt: skip
        assert torch.equal(weights_of(run.student), weights_of(other))
        assert run.errors[-1] == pytest.approx(100 * count_errors(other, *small.held_out) / 300)
        editor.between.value = STAGES
    assert not torch.equal(weights_of(editor.runs[0].student), weights_of(editor.runs[1].student))


@pytest.mark.trap(54)
def test_first_and_last_step_train_with_the_ends_of_the_schedules(make_editor, spy):
    editor = make_editor()
    editor.preset.value = "linear"
    run = editor.train()
    assert len(spy) == editor.total == 12
    assert spy[0] == (8.0, 0.9)
    assert spy[-1] == (2.0, 0.5)
    assert spy == list(zip(run.temperatures, run.alphas, strict=True))


def test_what_is_drawn_while_a_run_trains_is_for_the_next_one(make_editor, spy):
    editor = make_editor()
    editor.preset.value = "constant"
    editor.step(5)
    editor.temperatures[4].value = 16
    first = editor.train()
    assert spy == [pytest.approx((20.0, 0.9))] * 12
    assert first.name == "1 constant"
    second = editor.train()
    assert spy[-1] == pytest.approx((16.0, 0.9))
    assert (second.name, len(editor.runs)) == ("2 as drawn", 2)


def test_the_student_and_the_teacher_stay_as_they_were(make_editor, teacher, weights_of):
    student = make_mlp(16)
    before = weights_of(student).clone(), weights_of(teacher).clone()
    make_editor(student=student).train()
    assert torch.equal(weights_of(student), before[0])
    assert torch.equal(weights_of(teacher), before[1])


def test_step_goes_to_the_end_of_the_run_and_not_beyond_it(make_editor):
    editor = make_editor()
    editor.step(5)
    assert (editor.steps, editor.runs[0].done) == (5, False)
    editor.step(100)
    assert (editor.steps, editor.runs[0].done, len(editor.runs)) == (12, True, 1)
    assert editor.runs[0].steps == [0, 10, 12]
    editor.step(1)
    assert (editor.steps, len(editor.runs)) == (1, 2)


def test_the_clock_stops_at_the_end_of_a_run_and_only_another_press_begins_the_next(make_editor):
    editor = make_editor()
    play_again(editor)
    while not editor.runs[0].done:
        editor.play.value += 1
    name = "playing" if editor.play.has_trait("playing") else "_playing"
    assert getattr(editor.play, name) is False
    editor.play.value += 1  # a tick that was on its way
    assert len(editor.runs) == 1
    play_again(editor)
    assert len(editor.runs) == 2


def test_of_six_runs_five_are_kept_each_with_a_look_of_its_own(make_editor, frame_of):
    editor = make_editor(epochs=1)
    for _ in range(6):
        editor.train()
    assert [run.name[0] for run in editor.runs] == list("23456")
    lines = [editor.picture.chart.lines[run.role] for run in editor.runs]
    assert len({line.get_color() for line in lines}) == len({line.get_marker() for line in lines}) == 5
    (legend,) = editor.picture.canvas.figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [run.name for run in editor.runs]
    assert frame_of(editor).text["runs"] == "5"
    assert len(editor.image.value) < 60_000


def test_test_errors_are_those_of_every_run(make_editor, small):
    editor = make_editor()
    assert editor.test_button.disabled
    with pytest.raises(ValueError, match="no run yet"):
        editor.measure_test()
    editor.train()
    editor.preset.value = "labels only"
    editor.step(3)
    assert not editor.test_button.disabled
    errors = editor.measure_test()
    assert errors == {run.name: count_errors(run.student, *small.test) for run in editor.runs}
    assert "2 labels only" in editor.status.value


def test_buttons_do_what_the_methods_do(make_editor):
    editor = make_editor()
    editor.train_button.click()
    assert editor.runs[0].done
    editor.reset_button.click()
    assert (editor.runs, editor.steps) == ([], 0)
    editor.train_button.click()
    assert editor.runs[0].name == "1 linear"


def test_each_control_changes_the_picture(make_editor, frame_of):
    editor = make_editor()
    seen = {frame_of(editor).tobytes()}
    for control, value in (
        (editor.preset, "the stages"), (editor.between, "straight lines"), (editor.temperatures[2], 1.0),
        (editor.alphas[4], 0.0),
    ):  # fmt: skip
        control.value = value
        seen.add(frame_of(editor).tobytes())
    assert len(seen) == 5
    assert frame_of(editor).text["last_alpha"] == "0.0"


def test_an_error_stops_the_editor_a_reset_is_the_way_out_and_close_tells(make_editor):
    editor = make_editor(make_optimizer=lambda parameters: torch.optim.SGD(parameters, lr=1e30))
    with pytest.raises(FloatingPointError, match="smaller learning rate"):
        editor.train()
    with pytest.raises(RuntimeError, match="schedule editor has stopped at an error"):
        editor.train()
    editor.reset()
    assert "Press play" in editor.status.value
    with pytest.raises(RuntimeError, match="the widget met an error"):
        editor.close()


def test_close_stops_for_good(make_editor):
    editor = make_editor()
    editor.close()
    play_again(editor)
    editor.preset.value = "constant"
    assert editor.runs == []
    assert all(slider.disabled for slider in (*editor.temperatures, *editor.alphas))
    with pytest.raises(ValueError, match="this schedule editor was closed"):
        editor.train()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"held_out": 0}, "held_out must be a positive number"),
        ({"epochs": 0}, "epochs must be a positive integer"),
        ({"batch_size": 0}, "batch_size must be a positive integer"),
        ({"student": nn.Sequential(nn.Flatten(), nn.Linear(784, 5))}, "student and teacher must have the same classes"),
    ],
)
def test_what_cannot_be_trained_is_refused_with_the_reason(make_editor, settings, told):
    with pytest.raises(ValueError, match=told):
        make_editor(**settings)
