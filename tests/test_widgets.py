"""The widgets without a front end: sliders by ``.value``, ``live.step``, forks, resets, errors that do not hide."""

import io
import math
import subprocess
import sys
import threading

import ipywidgets
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from kdcourse.data.mnist import MNIST
from kdcourse.losses import kd_loss
from kdcourse.models import make_cnn, make_mlp
from kdcourse.objectives import soft_target_objective
from kdcourse.training import Knobs, predict_logits
from kdcourse.widgets import Canvas, LiveTrainer, TemperatureExplorer, hello_slider


@pytest.fixture(scope="module")
def small(mnist):
    return mnist._replace(
        train=mnist.train.take(600), held_out=mnist.held_out.take(300), test=mnist.test.take(400)
    )  # fmt: skip


@pytest.fixture(scope="module")
def teacher(mnist):
    """A teacher that knows something: two hundred steps on labels."""
    torch.manual_seed(7)
    model = make_mlp(64)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for images, labels in zip(mnist.train.images[:12800].split(64), mnist.train.labels[:12800].split(64), strict=True):
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()
    return model.eval()


@pytest.fixture
def make_live(small, teacher):
    def make(seed=0, **settings):
        torch.manual_seed(seed)
        return LiveTrainer(make_mlp(16), teacher, settings.pop("data", small), batch_size=50, **settings)

    return make


def weights(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def png(widget):
    return Image.open(io.BytesIO(widget.value))


# --- the training side


def test_both_students_start_equal_and_part_at_the_first_step(make_live):
    live = make_live()
    distilled, plain = (arm.student for arm in live.arms.values())
    assert torch.equal(weights(distilled), weights(plain))
    assert live.arms["distilled"].errors == live.arms["no teacher"].errors
    live.step(1)
    assert not torch.equal(weights(distilled), weights(plain))


def test_with_alpha_zero_the_distilled_student_is_the_student_without_a_teacher_to_the_bit(make_live):
    live = make_live(knobs=Knobs(temperature=4, alpha=0))
    live.step(40)
    distilled, plain = (arm.student for arm in live.arms.values())
    assert torch.equal(weights(distilled), weights(plain))


def test_the_live_trainer_gives_the_bits_of_a_plain_loop(small, teacher, make_live):
    live = make_live(knobs=Knobs(2.0, 0.5), seed=3)
    live.step(15)
    live.temperature.value = 8
    live.step(15)

    torch.manual_seed(3)
    student = make_mlp(16)
    optimizer = torch.optim.Adam(student.parameters(), lr=1e-3, fused=True)
    order = torch.Generator().manual_seed(0)
    indices = torch.cat([torch.randperm(600, generator=order) for _ in range(3)]).split(50)  # 12 batches an epoch
    logits = predict_logits(teacher, small.train.images)
    for step in range(30):
        index = indices[step]
        out = student(small.train.images[index])
        kd = kd_loss(out, logits[index], temperature=2.0 if step < 15 else 8.0)
        optimizer.zero_grad()
        (0.5 * kd + 0.5 * F.cross_entropy(out, small.train.labels[index])).backward()
        optimizer.step()
    assert torch.equal(weights(live.arms["distilled"].student), weights(student))


def test_slices_of_any_length_train_and_record_the_same(make_live):
    by_steps, by_ticks = make_live(), make_live()
    tick = 0
    while by_ticks.steps < 60:
        tick += 1
        by_ticks._race.advance(seconds=0)  # one unit of work: less than a step
    by_ticks._race.rest()
    by_steps.step(by_ticks.steps)
    assert by_ticks.steps == 60
    assert tick > 120  # two students, and their evaluations
    for name, arm in by_steps.arms.items():
        other = by_ticks.arms[name]
        assert torch.equal(weights(arm.student), weights(other.student))
        assert (arm.steps, arm.errors) == (other.steps, other.errors)


def test_errors_are_the_share_of_held_out_images_in_percent(make_live, small):
    live = make_live(held_out=200)
    live.step(30)
    images, labels = small.held_out.take(200)
    for arm in live.arms.values():
        wrong = (predict_logits(arm.student, images).argmax(1) != labels).sum()
        assert arm.steps[-1] == 30
        assert arm.errors[-1] == pytest.approx(float(100 * wrong / 200))


def test_the_teacher_and_the_mode_of_the_students_stay_as_they_were(make_live, teacher):
    before = weights(teacher).clone()
    live = make_live()
    live.step(20)
    assert torch.equal(weights(teacher), before)
    assert not teacher.training
    assert all(arm.student.training for arm in live.arms.values())


def test_test_errors_are_counted_on_the_test_images(make_live, small):
    live = make_live()
    live.step(30)
    student = live.arms["distilled"].student
    expected = int((predict_logits(student, small.test.images).argmax(1) != small.test.labels).sum())
    assert live.measure_test()["distilled"] == expected
    assert f"distilled {expected}" in live.status.value


# --- knobs and marks


def test_a_moved_slider_changes_the_objective_marks_the_step_and_draws_at_once(make_live):
    live = make_live()
    live.step(7)
    frame = live.image.value
    live.temperature.value = 9
    assert live.knobs.temperature == 9
    assert live.marks == [(7, "distilled", "temperature", 9)]
    assert live.image.value != frame
    assert png(live.image).text | {"frame": ""} == {
        "frame": "", "step": "7", "temperature": "9.0", "alpha": "0.7", "marks": "1",
    }  # fmt: skip


def test_of_several_moves_before_the_next_step_the_last_one_is_the_mark(make_live):
    live = make_live()
    live.temperature.value, live.alpha.value, live.temperature.value = 2, 0.5, 3
    assert live.marks == [(0, "distilled", "alpha", 0.5), (0, "distilled", "temperature", 3)]
    live.step(1)
    live.temperature.value = 4
    assert live.marks[-1] == (1, "distilled", "temperature", 4)
    assert len(live.marks) == 3


def test_a_front_end_that_puts_a_temperature_onto_its_grid_leaves_no_mark(make_live):
    live = make_live(knobs=Knobs(10.0, 0.7))
    live.temperature.value = 10.05
    assert (live.knobs.temperature, live.marks) == (10.05, [])
    live.temperature.value = 10.2  # one place of the slider further is a move
    assert [mark.value for mark in live.marks] == [10.2]


def test_sliders_follow_a_cell_that_writes_into_the_knobs(make_live):
    knobs = Knobs(4, 0.7)
    live = make_live(knobs=knobs)
    live.step(5)
    knobs.alpha = 0.2
    live.step(5)
    assert live.alpha.value == 0.2
    assert live.marks == [(5, "distilled", "alpha", 0.2)]


def test_a_temperature_off_the_slider_is_an_error_and_not_clamped_in_silence(make_live):
    live = make_live()
    live.knobs.temperature = 50.0
    with pytest.raises(ValueError, match=r"temperature must be from 0\.5 to 20 on a slider, got 50"):
        live.step(1)


def test_a_slider_acts_on_a_cell_that_is_training_when_its_message_comes_in_another_thread(make_live):
    live = make_live()

    def move():
        while live.steps < 20:
            pass
        live.temperature.value = 11

    hand = threading.Thread(target=move)
    hand.start()
    live.step(2000)
    hand.join()
    (mark,) = live.marks
    assert 20 <= mark.step < 2000
    assert live.temperature.value == live.knobs.temperature == 11


# --- fork and reset


def test_two_forks_under_the_same_knobs_stay_equal_to_the_bit(make_live):
    live = make_live()
    live.step(30)
    live.fork()
    live.step(30)
    assert torch.equal(weights(live.arms["fork"].student), weights(live.arms["distilled"].student))
    assert live.arms["fork"].steps[0] <= 30
    assert live.arms["fork"].errors[-1] == live.arms["distilled"].errors[-1]


def test_a_fork_has_its_own_knobs_and_leaves_the_first_student_as_without_it(make_live):
    alone, forked = make_live(), make_live()
    alone.step(60)
    forked.step(30)
    forked.fork()
    forked.fork_temperature.value = 1
    forked.step(30)
    assert forked.knobs.temperature == 4
    assert forked.arms["fork"].knobs == Knobs(1, 0.7)
    assert torch.equal(weights(alone.arms["distilled"].student), weights(forked.arms["distilled"].student))
    assert not torch.equal(weights(forked.arms["fork"].student), weights(forked.arms["distilled"].student))
    assert forked.marks == [(30, "fork", "fork", 0), (30, "fork", "temperature", 1)]


def test_a_fork_keeps_the_student_of_its_moment(make_live):
    live = make_live()
    live.step(10)
    live.fork()
    then = weights(live.kept[10]).clone()
    live.step(10)
    assert torch.equal(weights(live.kept[10]), then)
    assert not torch.equal(weights(live.arms["distilled"].student), then)


def test_a_second_fork_replaces_the_first(make_live):
    live = make_live()
    live.step(10)
    live.fork()
    live.fork_alpha.value = 0.0
    live.step(10)
    live.fork()
    assert list(live.arms) == ["distilled", "no teacher", "fork"]
    assert live.fork_alpha.value == 0.7
    assert live.marks == [(20, "fork", "fork", 0)]
    assert torch.equal(weights(live.arms["fork"].student), weights(live.arms["distilled"].student))


def test_the_sliders_of_the_fork_are_there_only_with_a_fork(make_live):
    live = make_live()
    row = live.widget.children[2]
    assert row.layout.display == "none"
    live.fork()
    assert row.layout.display != "none"
    live.reset()
    assert row.layout.display == "none"


def test_after_a_reset_the_same_steps_give_the_same_students(make_live):
    live = make_live()
    live.step(25)
    first = weights(live.arms["distilled"].student).clone()
    live.fork()
    live.step(5)
    live.reset()
    assert (live.steps, live.marks, list(live.arms)) == (0, [], ["distilled", "no teacher"])
    live.step(25)
    assert torch.equal(weights(live.arms["distilled"].student), first)


def test_a_student_with_batch_norm_is_forked_and_reset_with_its_buffers(make_live, small, teacher):
    torch.manual_seed(0)
    live = LiveTrainer(make_cnn(4, 4), teacher, small, batch_size=50, held_out=100)
    live.step(3)
    live.fork()
    live.step(2)
    one, other = (live.arms[name].student.state_dict() for name in ("distilled", "fork"))
    assert all(torch.equal(one[key], other[key]) for key in one)
    live.reset()
    assert all(value == 0 for key, value in live.arms["distilled"].student.state_dict().items() if "num_batches" in key)


# --- the clock, buttons, errors


def test_a_tick_of_the_clock_trains_and_a_step_back_does_not(make_live):
    live = make_live()
    live.play.value = 1
    steps = live.steps
    live.play.value = 0
    assert live.steps == steps
    live.play.value = 5
    live.play.value = 6
    assert live.steps > steps  # two slices do one step at least, whatever the machine does


def test_buttons_do_what_the_methods_do(make_live):
    live = make_live()
    live.step_button.click()
    assert live.steps == 100
    live.fork_button.click()
    assert "fork" in live.arms
    live.test_button.click()
    assert "Errors on 400 test images" in live.status.value
    live.reset_button.click()
    assert live.steps == 0


def test_the_status_line_tells_steps_speed_and_errors(make_live):
    live = make_live()
    live.step(50)
    assert "Step 50 · " in live.status.value
    assert f"{live.images_per_second:,.0f} images/s" in live.status.value
    assert f"no teacher <b>{live.arms['no teacher'].errors[-1]:.2f} %</b>" in live.status.value
    assert live.images_per_second > 0


def test_an_error_in_a_tick_goes_to_the_status_line_stops_the_clock_and_makes_close_raise(make_live):
    def broken(student, images, labels, teacher_logits):
        raise ZeroDivisionError("one <over> zero")

    live = make_live(objective=broken)
    live.play.value = 1
    assert "ZeroDivisionError: one &lt;over&gt; zero" in live.status.value
    live.play.value = 2
    assert len(live.errors) == 1
    with pytest.raises(RuntimeError, match="stopped at an error: one <over> zero"):
        live.step(1)
    with pytest.raises(RuntimeError, match="the widget met an error: one <over> zero") as raised:
        live.close()
    assert isinstance(raised.value.__cause__, ZeroDivisionError)


def test_step_raises_the_error_itself(make_live):
    live = make_live(objective=lambda student, *batch: {})
    with pytest.raises(ValueError, match="an objective returns a dict"):
        live.step(1)
    with pytest.raises(RuntimeError):
        live.close()


def test_a_loss_that_is_not_finite_is_told_and_a_reset_is_the_way_out(make_live):
    live = make_live(make_optimizer=lambda parameters: torch.optim.SGD(parameters, lr=1e12))
    with pytest.raises(FloatingPointError, match=r"student is (nan|inf) at step 10.*smaller learning rate"):
        live.step(50)
    live.reset()
    assert "Step 0" in live.status.value
    assert live.errors  # and close still tells of it


def test_close_stops_for_good_and_leaves_the_picture(make_live):
    live = make_live()
    live.step(10)
    frame = live.image.value
    live.close()
    live.play.value = 3
    assert live.steps == 10
    assert live.image.value == frame
    assert live.temperature.disabled
    with pytest.raises(ValueError, match="was closed; make a new one"):
        live.step(1)
    with pytest.raises(ValueError, match="was closed"):
        live.reset()


def test_a_front_end_is_told_that_play_has_stopped(make_live):
    live = make_live()
    name = "playing" if live.play.has_trait("playing") else "_playing"
    setattr(live.play, name, True)
    live.close()
    assert getattr(live.play, name) is False


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"knobs": Knobs(0.1, 0.5)}, "temperature must be from 0.5 to 20 on a slider, got 0.1"),
        ({"knobs": Knobs(4, 1.5)}, r"alpha must be in \[0, 1\], got 1.5"),
        ({"held_out": 0}, "held_out must be a positive number of images, got 0"),
        ({"data": (torch.rand(3, 1, 28, 28), torch.zeros(3))}, "data must have train, held_out and test"),
        ({"teacher_logits": torch.rand(3, 10)}, "a row for each of the 600 training images, got 3"),
    ],
)
def test_bad_settings_are_told_what_is_needed(make_live, settings, message):
    with pytest.raises(ValueError, match=message):
        make_live(**settings)


def test_students_and_teachers_of_other_classes_are_refused(small, teacher):
    narrow = nn.Sequential(nn.Flatten(), nn.Linear(784, 5))
    with pytest.raises(ValueError, match=r"the same classes, got logits \(2, 5\) and \(2, 10\)"):
        LiveTrainer(narrow, teacher, small)
    with pytest.raises(ValueError, match="no held-out images"):
        LiveTrainer(
            make_mlp(4), teacher, MNIST(small.train, type(small.train)(*(t[:0] for t in small.test)), small.test)
        )


@pytest.mark.parametrize("count", [0, -1, 2.5, True, "3"])
def test_step_needs_a_positive_integer(make_live, count):
    with pytest.raises(ValueError, match="step needs a positive integer"):
        make_live().step(count)


def test_the_default_objective_is_hintons(make_live):
    one, other = make_live(), make_live(objective=soft_target_objective)
    one.step(5)
    other.step(5)
    assert torch.equal(weights(one.arms["distilled"].student), weights(other.arms["distilled"].student))


# --- pictures


def test_frames_are_small_white_and_have_the_exact_colours(make_live):
    live = make_live()
    live.step(200)
    for value in (2, 10, 5, 3):
        live.temperature.value = value
        live.step(20)
    live.fork()
    assert len(live.image.value) <= 60_000
    frame = png(live.image).convert("RGB")
    assert frame.getpixel((0, 0)) == (255, 255, 255)
    colours = {colour for _, colour in frame.getcolors(1 << 16)}
    assert {(0x0C, 0x5B, 0xB9), (0x8C, 0x8C, 0x8C), (0xC6, 0x86, 0x17)} <= colours


def test_nothing_is_drawn_more_than_four_times_a_second_while_no_knob_moves(make_live):
    live = make_live()
    before, start = int(png(live.image).text["frame"]), live._drawn
    live.step(300)
    frames = int(png(live.image).text["frame"]) - before
    assert frames <= 2 + 4 * (live._drawn - start)


def test_the_axis_makes_room_for_more_steps(make_live):
    live = make_live()
    live.step(250)
    assert live._picture.chart.ax.get_xlim()[1] > 250


def test_a_blitted_frame_is_the_frame_that_is_drawn_from_nothing():
    frames = []
    for anew in (False, True):
        canvas = Canvas(3, 2, full_colour=True)
        ax = canvas.add_axes(0.2, 0.2, 0.7, 0.7)
        (line,) = ax.plot([0, 1], [0, 1])
        canvas.moving(line)
        canvas.draw()
        line.set_ydata([1, 0])
        if anew:
            canvas.renew()
        canvas.draw()
        frames.append(png(canvas.widget).tobytes())
    assert frames[0] == frames[1]


def test_a_slider_dragged_while_the_clock_trains_leaves_one_mark_where_it_came_to_rest(make_live, monkeypatch):
    live = make_live()
    for tick, value in enumerate((5, 6, 7, 8), start=1):
        live.temperature.value = value
        live.play.value = 2 * tick - 1
        live.play.value = 2 * tick
    (mark,) = live.marks
    assert mark.step > 0
    assert mark.value == 8
    monkeypatch.setattr("kdcourse.widgets.clock.DRAG", 0.0)  # the hand lets go
    live.temperature.value = 9
    assert [mark.value for mark in live.marks] == [8, 9]


def test_marks_too_close_to_read_are_drawn_as_the_newest_of_them(make_live):
    live = make_live()
    for value in (5, 6, 7, 8):
        live.temperature.value = value
        live.step(1)
    live._draw()
    drawn = live._picture.chart.marks["distilled"].get_xdata()
    assert [x for x in drawn if not math.isnan(x)] == [3, 3]
    assert len(live.marks) == 4


# --- explorers


def test_the_hello_slider_draws_the_digit_it_is_at():
    hello = hello_slider()
    hello.digit.value = 7
    assert png(hello.canvas.widget).text["digit"] == "7"
    assert "ten of MNIST's 7s" in hello.status.value
    hello.close()


def test_the_explorer_shows_softened_probabilities_and_their_entropy(small, teacher):
    explorer = TemperatureExplorer(teacher, small.held_out)
    explorer.temperature.value, explorer.digit.value, explorer.example.value = 5, 8, 2
    logits = predict_logits(teacher, small.held_out.images)[explorer._sample].double().numpy() / 5
    p = [math.exp(z) for z in logits]
    p = [value / sum(p) for value in p]
    assert [bar.get_height() for bar in explorer._bars] == pytest.approx(p, abs=1e-6)
    nats = -sum(value * math.log(value) for value in p)
    assert f"{nats:.3f} nats</b> = {nats / math.log(2):.3f} bits" in explorer.status.value
    assert int(small.held_out.labels[explorer._sample]) == 8


def test_the_explorers_push_is_minus_the_gradient_of_the_loss(small, teacher):
    student = make_mlp(8)
    explorer = TemperatureExplorer(teacher, small.held_out, student=student, temperature=3.0)
    image = small.held_out.images[explorer._sample][None]
    logits = student(image).detach().requires_grad_()
    kd_loss(logits, teacher(image).detach(), temperature=3.0).backward()
    assert [bar.get_height() for bar in explorer._push] == pytest.approx((-logits.grad[0]).tolist(), abs=1e-5)


def test_the_explorer_begins_with_the_image_the_teacher_is_least_sure_of(small, teacher):
    explorer = TemperatureExplorer(teacher, small.held_out, temperature=4.0)
    entropies = []
    for example in range(4):
        explorer.example.value = example
        p = torch.tensor([bar.get_height() for bar in explorer._bars])
        entropies.append(float(-(p * p.log()).sum()))
    assert entropies == sorted(entropies, reverse=True)


def test_the_explorer_survives_a_change_to_a_digit_with_fewer_images(small, teacher):
    few = small.held_out.take(60)
    explorer = TemperatureExplorer(teacher, few)
    for digit in range(10):
        explorer.example.value = explorer.example.max
        explorer.digit.value = digit
        assert int(few.labels[explorer._sample]) == digit
    explorer.close()


def test_the_explorer_refuses_what_it_cannot_draw(small, teacher):
    with pytest.raises(ValueError, match=r"no image of \[3\]"):
        TemperatureExplorer(teacher, small.held_out.without(3))
    with pytest.raises(ValueError, match="examples must be a positive number"):
        TemperatureExplorer(teacher, small.held_out, examples=0)
    with pytest.raises(ValueError, match=r"temperature must be from 0\.5 to 20"):
        TemperatureExplorer(teacher, small.held_out, temperature=0)
    with pytest.raises(ValueError, match=r"ten classes; the teacher gives logits of shape \(300, 5\)"):
        TemperatureExplorer(nn.Sequential(nn.Flatten(), nn.Linear(784, 5)), small.held_out)


# --- how a notebook shows them


def test_a_widget_is_shown_by_its_view_and_leaves_a_sentence_without_a_kernel(make_live):
    live = make_live()
    bundle = live._repr_mimebundle_()
    assert bundle["application/vnd.jupyter.widget-view+json"]["model_id"] == live.widget.model_id
    assert bundle["text/plain"].startswith("[The live trainer")


def test_live_code_uses_nothing_that_colab_lacks(make_live):
    live = make_live()
    kinds, queue = set(), [live.widget]
    while queue:
        widget = queue.pop()
        kinds.add(type(widget).__name__)
        queue += getattr(widget, "children", ())
    assert kinds <= {"VBox", "HBox", "Play", "Button", "FloatLogSlider", "FloatSlider", "Image", "HTML"}
    assert not isinstance(live, ipywidgets.Widget)
    code = "import sys, kdcourse.widgets; print('matplotlib.pyplot' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"
