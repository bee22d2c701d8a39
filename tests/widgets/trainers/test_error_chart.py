"""The chart of held-out errors: room for steps, marks, names at the ends of lines, and ticks."""

import math
import random
from itertools import pairwise

import pytest

from kdcourse.widgets import Canvas, Mark
from kdcourse.widgets.trainers.error_chart import TICKS, ErrorChart, choose_ticks, spread


def test_the_axis_makes_room_for_more_steps(make_live):
    live = make_live()
    live.step(250)
    assert live.picture.chart.ax.get_xlim()[1] > 250


def test_marks_too_close_to_read_are_drawn_as_the_newest_of_them(make_live):
    live = make_live()
    for value in (5, 6, 7, 8):
        live.temperature.value = value
        live.step(1)
    live.draw()
    drawn = live.picture.chart.marks["distilled"].get_xdata()
    assert [x for x in drawn if not math.isnan(x)] == [3, 3]
    assert len(live.marks) == 4


def test_marks_and_their_words_never_cover_each_other(make_live):
    live = make_live()
    generator = random.Random(0)
    live.step(250)
    live.fork()
    chart = live.picture.chart
    for _ in range(30):
        steps = sorted(generator.choices(range(250), k=12))
        knobs = [generator.choice(["temperature", "alpha"]) for _ in steps]
        arms = [generator.choice(["distilled", "fork"]) for _ in steps]
        live.marks = [Mark(*parts, 0.25) for parts in zip(steps, arms, knobs, strict=True)]
        live.draw()
        boxes = [text.get_window_extent() for text in chart.ax.texts if "=" in text.get_text()]
        lines = [chart.ax.transData.transform((x, 10))[0] for line in chart.marks.values()
                 for x in line.get_xdata() if not math.isnan(x)]  # fmt: skip
        assert 2 * len(boxes) == len(lines) >= 6
        for place, box in enumerate(boxes):
            assert chart.ax.bbox.x0 - 1 <= box.x0
            assert box.x1 <= chart.ax.bbox.x1 + 1
            assert not any(box.x0 < other.x1 and other.x0 < box.x1 for other in boxes[:place])
            assert not any(box.x0 + 1 < x < box.x1 - 1 for x in lines)


def make_chart(**settings):
    return ErrorChart(Canvas(7.8, 3.2), (0.075, 0.15, 0.52, 0.7), {"student": "student"}, **settings)


def test_the_axis_is_close_to_the_errors_and_what_was_worse_at_the_start_leaves_it():
    chart = make_chart()
    assert chart.ax.get_ylim() == (1, 100)
    chart.draw({"student": ([0, 10], [90.0, 40.0])}, step=10)
    assert chart.ax.get_ylim() == (1, 100)
    chart.draw({"student": ([0, 10, 100, 500], [90.0, 40.0, 7.2, 5.8])}, step=500)
    assert chart.ax.get_ylim() == (5, 8)


def test_at_the_start_the_axis_holds_the_teacher_and_the_names_of_lines_stay_in_it():
    chart = ErrorChart(Canvas(7.8, 3.2), (0.075, 0.15, 0.52, 0.7), {"student": "student", "kd": "kd"}, level=0.95,
                       ends={"student": "0", "kd": "vote"})  # fmt: skip
    assert chart.ax.get_ylim() == (0.7, 100)
    chart.draw({"student": ([0], [99.0]), "kd": ([0], [99.5])}, step=0)
    names = {text.get_text(): text.get_position()[1] for text in chart.ax.texts if text.get_text()}
    assert names["0"] < names["vote"] <= 100


def test_a_teacher_near_the_errors_is_a_line_and_one_far_below_is_told_in_words():
    curves = {"student": ([0, 100, 500], [90.0, 7.2, 5.8])}
    near, far = make_chart(level=2.0), make_chart(level=0.31)
    for chart in (near, far):
        chart.draw(curves, step=500)
    assert near.ax.get_ylim()[0] < 2
    assert [text.get_text() for text in far.ax.texts if "teacher" in text.get_text()] == ["↓ teacher: 0.31 %"]
    assert not any("teacher" in text.get_text() for text in near.ax.texts)


@pytest.mark.parametrize(("lowest", "highest"), [(1, 100), (0.1, 100), (12, 40), (2, 20), (0.3, 0.7), (50, 100)])
def test_ticks_do_not_overprint_each_other(lowest, highest):
    chart = make_chart()
    chart.set_limits((lowest, highest))
    chart.canvas.draw()
    boxes = [label.get_window_extent() for label in chart.ax.get_yticklabels()]
    assert len(boxes) >= 2
    assert all(below.y1 <= above.y0 for below, above in pairwise(boxes))
    ticks = choose_ticks(lowest, highest)
    assert ticks == sorted(set(ticks))
    assert set(ticks) <= set(TICKS)


def test_names_at_the_ends_of_lines_keep_their_order_and_their_distance():
    placed = spread([0.5, 0.52, 0.1, 0.51], 0.1, lowest=0.03)
    assert placed == pytest.approx([0.41, 0.61, 0.1, 0.51])
    crowded = spread([0.0, 0.0, 0.0], 0.1, lowest=0.03)
    assert crowded == pytest.approx([0.03, 0.13, 0.23])
    assert spread([0.9, 0.2], 0.1) == [0.9, 0.2]
