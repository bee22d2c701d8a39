"""The live trainer without a front end: two students, knobs and marks, forks, resets, frames."""

import threading
from functools import partial
from itertools import pairwise

import ipywidgets
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kdcourse.data.mnist import MNIST, Split
from kdcourse.losses import kd_loss
from kdcourse.models import make_cnn, make_mlp
from kdcourse.objectives import soft_target_objective
from kdcourse.plots import COLORS, PAPER
from kdcourse.training import Knobs, predict_logits
from kdcourse.widgets import LiveTrainer
from kdcourse.widgets.trainers.live_picture import LivePicture


def in_bytes(colour):
    return tuple(bytes.fromhex(colour[1:]))


def test_both_students_start_equal_and_part_at_the_first_step(make_live, weights_of):
    live = make_live()
    distilled, plain = (arm.student for arm in live.arms.values())
    assert torch.equal(weights_of(distilled), weights_of(plain))
    assert live.arms["distilled"].errors == live.arms["no teacher"].errors
    live.step(1)
    assert not torch.equal(weights_of(distilled), weights_of(plain))


def test_with_alpha_zero_the_distilled_student_is_the_student_without_a_teacher_to_the_bit(make_live, weights_of):
    live = make_live(knobs=Knobs(temperature=4, alpha=0))
    live.step(40)
    distilled, plain = (arm.student for arm in live.arms.values())
    assert torch.equal(weights_of(distilled), weights_of(plain))


def test_the_live_trainer_gives_the_bits_of_a_plain_loop(small, teacher, make_live, weights_of):
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
    assert torch.equal(weights_of(live.arms["distilled"].student), weights_of(student))


def test_errors_are_the_share_of_held_out_images_in_percent(make_live, small):
    live = make_live(held_out=200)
    live.step(30)
    images, labels = small.held_out.take(200)
    for arm in live.arms.values():
        wrong = (predict_logits(arm.student, images).argmax(1) != labels).sum()
        assert arm.steps[-1] == 30
        assert arm.errors[-1] == pytest.approx(float(100 * wrong / 200))


def test_the_teacher_and_the_mode_of_the_students_stay_as_they_were(make_live, teacher, weights_of):
    before = weights_of(teacher).clone()
    live = make_live()
    live.step(20)
    assert torch.equal(weights_of(teacher), before)
    assert not teacher.training
    assert all(arm.student.training for arm in live.arms.values())


def test_test_errors_are_counted_on_the_test_images(make_live, small):
    live = make_live()
    live.step(30)
    student = live.arms["distilled"].student
    expected = int((predict_logits(student, small.test.images).argmax(1) != small.test.labels).sum())
    assert live.measure_test()["distilled"] == expected
    assert f"distilled {expected}" in live.status.value


def test_a_moved_slider_changes_the_objective_marks_the_step_and_draws_at_once(make_live, frame_of):
    live = make_live()
    live.step(7)
    frame = live.image.value
    live.temperature.value = 9
    assert live.knobs.temperature == 9
    assert live.marks == [(7, "distilled", "temperature", 9)]
    assert live.image.value != frame
    assert frame_of(live).text | {"frame": ""} == {
        "frame": "", "step": "7", "temperature": "9.0", "alpha": "0.7", "marks": "1",
    }  # fmt: skip


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


def test_two_forks_under_the_same_knobs_stay_equal_to_the_bit(make_live, weights_of):
    live = make_live()
    live.step(30)
    live.fork()
    live.step(30)
    assert torch.equal(weights_of(live.arms["fork"].student), weights_of(live.arms["distilled"].student))
    assert live.arms["fork"].steps[0] <= 30
    assert live.arms["fork"].errors[-1] == live.arms["distilled"].errors[-1]


def test_a_fork_has_its_own_knobs_and_leaves_the_first_student_as_without_it(make_live, weights_of):
    alone, forked = make_live(), make_live()
    alone.step(60)
    forked.step(30)
    forked.fork()
    forked.fork_temperature.value = 1
    forked.step(30)
    assert forked.knobs.temperature == 4
    assert forked.arms["fork"].knobs == Knobs(1, 0.7)
    assert torch.equal(weights_of(alone.arms["distilled"].student), weights_of(forked.arms["distilled"].student))
    assert not torch.equal(weights_of(forked.arms["fork"].student), weights_of(forked.arms["distilled"].student))
    assert forked.marks == [(30, "fork", "fork", 0), (30, "fork", "temperature", 1)]


def test_a_second_fork_replaces_the_first(make_live, weights_of):
    live = make_live()
    live.step(10)
    live.fork()
    live.fork_alpha.value = 0.0
    live.step(10)
    live.fork()
    assert list(live.arms) == ["distilled", "no teacher", "fork"]
    assert live.fork_alpha.value == 0.7
    assert live.marks == [(20, "fork", "fork", 0)]
    assert torch.equal(weights_of(live.arms["fork"].student), weights_of(live.arms["distilled"].student))


def test_the_sliders_of_the_fork_are_there_only_with_a_fork(make_live):
    live = make_live()
    row = live.widget.children[2]
    assert row.layout.display == "none"
    live.fork()
    assert row.layout.display != "none"
    live.reset()
    assert row.layout.display == "none"


def test_after_a_move_errors_are_measured_often_for_a_while(make_live):
    live = make_live()
    live.step(400)
    before = live.arms["distilled"].steps[-3:]
    live.temperature.value = 16
    live.step(600)
    steps = [step for step in live.arms["distilled"].steps if step > 400]
    gaps = [after - before for before, after in pairwise(steps)]
    assert before[-1] - before[-2] > 20
    assert max(gap for step, gap in zip(steps, gaps, strict=False) if step < 680) <= 20
    assert gaps[-1] > 20


def test_a_reset_puts_the_knobs_back(make_live):
    live = make_live()
    first = live.temperature.value, live.alpha.value
    live.temperature.value, live.alpha.value = 16, 0.2
    live.step(20)
    live.reset()
    assert (live.temperature.value, live.alpha.value) == pytest.approx(first)
    assert (live.knobs.temperature, live.knobs.alpha) == pytest.approx(first)
    assert live.marks == []


@pytest.mark.parametrize(("right", "shown"), [(1.0, False), (0.5, True)])
def test_the_teachers_line_is_drawn_only_where_it_says_something(right, shown):
    labels = torch.arange(100) % 10
    split = Split(torch.rand(100, 1, 28, 28), labels)
    answers = torch.where(torch.arange(100) < 100 * right, labels, (labels + 1) % 10)
    picture = LivePicture(torch.nn.functional.one_hot(answers, 10).float(), split)
    names = [text.get_text() for text in picture.canvas.figure.legends[0].get_texts()]
    assert ("teacher" in names) == shown


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


STUDENTS = {"one hidden layer": partial(make_mlp, 16), "two hidden layers": partial(make_mlp, 8, 8)}


def test_a_switch_to_another_student_or_number_of_images_starts_anew_and_leaves_the_knobs(small, teacher):
    live = LiveTrainer(STUDENTS, teacher, small, batch_size=50, images=(100, 600))
    live.step(10)
    live.temperature.value = 16
    live.fork()
    live.step(10)
    for switch, value in ((live.student_choice, "two hidden layers"), (live.images_choice, "all 600 images")):
        switch.value = value
        assert (live.steps, live.marks, list(live.arms)) == (0, [], ["distilled", "no teacher"])
        assert live.knobs == Knobs(16, 0.7)
        assert f"A new start: {live.student_choice.value}, {live.images_choice.value}, T = 16" in live.status.value
        live.step(5)
    assert sum(isinstance(layer, nn.Linear) for layer in live.arms["distilled"].student) == 3
    assert [len(tensor) for tensor in live.race.track.data] == [600, 600, 600]
    live.close()


def test_a_student_chosen_again_starts_where_it_started(small, teacher, weights_of):
    live = LiveTrainer(STUDENTS, teacher, small, batch_size=50)
    before = weights_of(live.arms["distilled"].student).clone()
    live.step(10)
    live.student_choice.value = "two hidden layers"
    live.step(10)
    live.student_choice.value = "one hidden layer"
    assert torch.equal(weights_of(live.arms["distilled"].student), before)
    assert torch.equal(weights_of(live.arms["no teacher"].student), before)


def test_a_reset_puts_the_switches_back_too_and_says_where_it_stands(small, teacher):
    live = LiveTrainer(STUDENTS, teacher, small, batch_size=50, images=(100, 600), knobs=Knobs(1, 0.9))
    live.student_choice.value, live.images_choice.value = "two hidden layers", "all 600 images"
    live.alpha.value = 0.2
    live.step(5)
    live.reset()
    assert (live.student_choice.value, live.images_choice.value) == ("one hidden layer", "100 images")
    assert live.steps == live.race.step == 0
    assert len(live.race.track.data[0]) == 100
    assert "Back at the start: one hidden layer, 100 images, T = 1, α = 0.9." in live.status.value
    live.step(5)


def test_the_teacher_is_asked_about_no_more_images_than_are_chosen(small, teacher):
    asked = []
    hook = teacher.register_forward_hook(lambda module, inputs, output: asked.append(len(output)))
    live = LiveTrainer(STUDENTS, teacher, small, batch_size=50, held_out=20, images=(100, 600))
    first = sum(asked)
    live.images_choice.value = "all 600 images"
    hook.remove()
    assert first < 200 < 600 <= sum(asked)
    known = LiveTrainer(
        STUDENTS, teacher, small, teacher_logits=predict_logits(teacher, small.train.images), images=(100, 600)
    )
    torch.testing.assert_close(known.race.track.data[2], live.race.track.data[2][:100])


def test_switches_are_hidden_where_there_is_nothing_to_choose(make_live, small, teacher):
    live = make_live()
    assert live.student_choice.layout.display == live.images_choice.layout.display == "none"
    both = LiveTrainer(STUDENTS, teacher, small, images=(100, 600))
    assert both.student_choice.layout.display == both.images_choice.layout.display == ""


def test_the_digit_shown_can_be_chosen(make_live, frame_of, small):
    live = make_live()
    assert live.digit_choice.value == live.picture.digit
    for digit in live.picture.digits:
        live.digit_choice.value = digit
        assert f"this {digit} and" in live.picture._title.get_text()
        index = int((small.held_out.images == live.picture._image).flatten(1).all(dim=1).int().argmax())
        assert int(small.held_out.labels[index]) == digit
    assert live.marks == []
    assert live.steps == 0


def test_a_reset_shows_the_first_digit_again(make_live):
    live = make_live(digit=7)
    live.digit_choice.value = 3
    live.reset()
    assert (live.digit_choice.value, live.picture.digit) == (7, 7)


def test_a_digit_that_no_image_shows_is_refused(make_live):
    with pytest.raises(ValueError, match=r"digit must be one of \[0, 1, 2.*\], got 11"):
        make_live(digit=11)


def test_the_axis_of_probabilities_ends_near_the_largest_and_does_not_jump_to_and_fro(make_live):
    live = make_live()
    picture = live.picture
    tops = []
    for highest in (0.9, 0.18, 0.14, 0.19, 0.199, 0.3, 0.99):
        picture._make_room(highest)
        tops.append(round(picture._ax.get_ylim()[1] / 1.02, 2))
    assert tops == [1.0, 0.5, 0.2, 0.2, 0.5, 0.5, 1.0]


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


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"knobs": Knobs(0.1, 0.5)}, "temperature must be from 0.5 to 20 on a slider, got 0.1"),
        ({"knobs": Knobs(4, 1.5)}, r"alpha must be in \[0, 1\], got 1.5"),
        ({"held_out": 0}, "held_out must be a positive number of images, got 0"),
        ({"data": (torch.rand(3, 1, 28, 28), torch.zeros(3))}, "data must have train, held_out and test"),
        ({"images": (0, 600)}, "images must be whole numbers from 1 to 600, the count of training images, got 0"),
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
    with pytest.raises(ValueError, match="there is no student to train"):
        LiveTrainer({}, teacher, small)
    with pytest.raises(ValueError, match=r"logits \(2, 5\) and \(2, 10\)"):  # at once, not when it is chosen
        LiveTrainer({**STUDENTS, "narrow": lambda: narrow}, teacher, small)
    with pytest.raises(ValueError, match="no held-out images"):
        LiveTrainer(
            make_mlp(4), teacher, MNIST(small.train, type(small.train)(*(t[:0] for t in small.test)), small.test)
        )


def test_the_default_objective_is_hintons(make_live, weights_of):
    one, other = make_live(), make_live(objective=soft_target_objective)
    one.step(5)
    other.step(5)
    assert torch.equal(weights_of(one.arms["distilled"].student), weights_of(other.arms["distilled"].student))


def test_frames_are_small_and_have_the_exact_colours(make_live, frame_of):
    live = make_live()
    live.step(200)
    for value in (2, 10, 5, 3):
        live.temperature.value = value
        live.step(20)
    live.fork()
    assert len(live.image.value) <= 60_000
    frame = frame_of(live).convert("RGB")
    assert frame.getpixel((0, 0)) == in_bytes(PAPER)
    colours = {colour for _, colour in frame.getcolors(1 << 16)}
    assert {in_bytes(COLORS[role]) for role in ("student", "no_teacher", "fork")} <= colours


def test_the_live_trainer_uses_nothing_that_colab_lacks(make_live):
    live = make_live()
    kinds, queue = set(), [live.widget]
    while queue:
        widget = queue.pop()
        assert widget._model_module == "@jupyter-widgets/controls"  # whatever Python calls it, the page knows it
        kinds.add(widget._model_name.removesuffix("Model"))
        queue += getattr(widget, "children", ())
    assert kinds <= {"VBox", "HBox", "Play", "Button", "FloatLogSlider", "FloatSlider", "Image", "HTML", "Dropdown"}
    assert not isinstance(live, ipywidgets.Widget)
