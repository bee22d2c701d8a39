"""The clock, without a front end: ticks train, errors do not hide, moves leave marks, close stops for good."""

import asyncio
import threading
import time
from types import SimpleNamespace

import pytest

from kdcourse.widgets.trainers.clock import PLAYING, SILENCE, SLICE


def press_play(live):
    setattr(live.play, next(name for name in PLAYING if live.play.has_trait(name)), True)


def test_while_a_cell_trains_in_another_thread_the_clock_asks_seldom(make_live, monkeypatch):
    live, asked, free = make_live(), [], threading.Event()
    train_slice = live._train_slice
    monkeypatch.setattr(live, "_train_slice", lambda: (asked.append(1), train_slice()))

    def cell():
        with live.lock:
            held.set()
            free.wait(60)

    async def page():
        press_play(live)
        start = time.perf_counter()
        await asyncio.sleep(10 * SLICE)
        return (time.perf_counter() - start) / SLICE

    held, thread = threading.Event(), threading.Thread(target=cell)
    thread.start()
    held.wait(60)
    slices = asyncio.run(page())
    free.set()
    thread.join()
    assert 1 <= len(asked) <= slices + 2
    assert live.steps == 0


def test_a_loop_that_has_ended_does_not_stop_the_clock_for_good(make_live):
    live = make_live()

    async def page():
        live._waiting = SimpleNamespace(when=lambda: time.monotonic() - 2 * SILENCE)  # of a page that was left
        press_play(live)
        while live.steps == 0:
            await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(page(), 60))
    assert live.steps > 0


def test_a_tick_of_the_clock_trains_and_a_step_back_does_not(make_live):
    live = make_live()
    live.play.value = 1
    steps = live.steps
    live.play.value = 0
    assert live.steps == steps
    live.play.value = 5
    live.play.value = 6
    assert live.steps > steps  # two slices do one step at least, whatever the machine does


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


@pytest.mark.parametrize("count", [0, -1, 2.5, True, "3"])
def test_step_needs_a_positive_integer(make_live, count):
    with pytest.raises(ValueError, match="step needs a positive integer"):
        make_live().step(count)


def test_nothing_is_drawn_more_than_four_times_a_second_while_no_knob_moves(make_live, frame_of):
    live = make_live()
    before, start = int(frame_of(live).text["frame"]), live.drawn_at
    live.step(300)
    frames = int(frame_of(live).text["frame"]) - before
    assert frames <= 2 + 4 * (live.drawn_at - start)


def test_a_slider_dragged_while_the_clock_trains_leaves_one_mark_where_it_came_to_rest(make_live, monkeypatch):
    live = make_live()
    monkeypatch.setattr("kdcourse.widgets.trainers.clock.DRAG", 600.0)  # however slow the machine
    for tick, value in enumerate((5, 6, 7, 8), start=1):
        live.temperature.value = value
        live.play.value = 2 * tick - 1
        live.play.value = 2 * tick
    (mark,) = live.marks
    assert mark.step > 0
    assert mark.value == 8
    monkeypatch.setattr("kdcourse.widgets.trainers.clock.DRAG", 0.0)  # the hand lets go
    live.temperature.value = 9
    assert [mark.value for mark in live.marks] == [8, 9]


def test_of_several_moves_before_the_next_step_the_last_one_is_the_mark(make_live):
    live = make_live()
    live.temperature.value, live.alpha.value, live.temperature.value = 2, 0.5, 3
    assert live.marks == [(0, "distilled", "alpha", 0.5), (0, "distilled", "temperature", 3)]
    live.step(1)
    live.temperature.value = 4
    assert live.marks[-1] == (1, "distilled", "temperature", 4)
    assert len(live.marks) == 3


def test_the_status_line_tells_steps_speed_and_errors(make_live):
    live = make_live()
    live.step(50)
    assert "Step 50 · " in live.status.value
    assert f"{live.images_per_second:,.0f} images/s" in live.status.value
    assert f"no teacher <b>{live.arms['no teacher'].errors[-1]:.2f} %</b>" in live.status.value
    assert live.images_per_second > 0
