"""The heat map, driven without a front end: it fills setting by setting, rings the best, and never chooses by NaN."""

import io

import pytest
from PIL import Image

from kdcourse.widgets import HeatMap

TEMPERATURES, ALPHAS = [1, 4, 20], [0.3, 0.9]


@pytest.fixture
def asked():
    return []


@pytest.fixture
def make_map(asked):
    def make(**settings):
        def measure(temperature, alpha):
            asked.append((temperature, alpha))
            return {"held-out errors": 100 - temperature * alpha, "loss": temperature}

        return HeatMap(measure, TEMPERATURES, ALPHAS, **settings)

    return make


def test_each_step_tries_one_setting_and_none_twice(make_map, asked):
    heat_map = make_map()
    heat_map.step(2)
    assert len(asked) == heat_map.steps == 2
    heat_map.step(100)  # the map is full after four more
    assert sorted(asked) == [(t, a) for t in TEMPERATURES for a in ALPHAS]
    assert heat_map.values[20, 0.9] == {"held-out errors": 82, "loss": 20}
    heat_map.close()


def test_a_tick_of_the_clock_tries_a_setting(make_map, asked):
    heat_map = make_map()
    heat_map.play.value = 1
    assert len(asked) == 1
    heat_map.play.value = 0  # the stop button
    assert len(asked) == 1


def test_corners_come_before_their_neighbours(make_map, asked):
    make_map().step(2)
    assert asked == [(1, 0.3), (20, 0.9)]


def test_the_fewest_are_ringed_by_the_number_that_is_shown(make_map):
    heat_map = make_map(baselines={"plain": 100.0})
    heat_map.step(6)
    assert heat_map.best() == (20, 0.9)
    assert "T = 20, α = 0.9, 82" in heat_map.status.value
    assert "plain 100" in heat_map.status.value
    heat_map.shown.value = "loss"
    assert heat_map.best()[0] == 1
    heat_map.close()


def test_a_reset_forgets_what_was_measured(make_map, asked):
    heat_map = make_map()
    heat_map.step(3)
    heat_map.reset_button.click()
    assert (heat_map.values, heat_map.steps) == ({}, 0)
    with pytest.raises(ValueError, match="nothing was measured yet"):
        heat_map.best()
    heat_map.step(1)
    assert asked[0] == asked[-1]


def test_the_picture_says_how_full_it_is(make_map):
    heat_map = make_map()
    heat_map.step(5)
    info = Image.open(io.BytesIO(heat_map.image.value)).info
    assert (info["step"], info["total"]) == ("5", "6")


def test_an_error_of_a_setting_stops_the_map_and_is_shown():
    def broken(temperature, alpha):
        raise ArithmeticError("no such student")

    heat_map = HeatMap(broken, [1, 4], [0.3, 0.9])
    heat_map.play.value = 1
    assert "no such student" in heat_map.status.value
    with pytest.raises(RuntimeError, match="no such student"):
        heat_map.close()


@pytest.mark.parametrize(("temperatures", "alphas"), [([1], [0.3, 0.9]), ([1, 1], [0.3, 0.9]), ([1, 4], [])])
def test_a_map_without_two_axes_is_refused(temperatures, alphas):
    with pytest.raises(ValueError, match="two different values"):
        HeatMap(lambda t, a: {"errors": 1.0}, temperatures, alphas)


def test_the_map_counts_no_test_errors(make_map):
    with pytest.raises(ValueError, match="with other seeds"):
        make_map().measure_test()
