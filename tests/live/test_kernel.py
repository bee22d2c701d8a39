"""The live widgets through a real kernel, on today's Jupyter and on Colab's: Play ticks, sliders move, frames come.

The tests of a stack share a kernel, whose names are those of ``START`` whenever a test begins.
"""

import base64
import json
import re
import time

import pytest
from live_kernels import PATIENCE, CellError, FrontEnd, front_end, python_of_stack

START = """
import json, time, torch
from kdcourse.data import load_mnist
from kdcourse.models import make_mlp, make_student_mlp
from kdcourse.widgets import CohortTrainer, LiveTrainer, ScheduleEditor, TemperatureExplorer, hello_slider
time.perf_counter = time.process_time  # slices are as long as on an idle machine, whatever else runs on this one
torch.manual_seed(0)
mnist = load_mnist()
mnist = mnist._replace(train=mnist.train.take(2000), test=mnist.test.take(500))
teacher = make_mlp(32)
"""
IDS = """
print(json.dumps({name: getattr(live, name).model_id for name in (
    "play", "temperature", "alpha", "fork_temperature", "step_button", "fork_button", "reset_button", "test_button",
    "image", "status")}))
"""


@pytest.fixture(scope="module", params=["current", pytest.param("colab", marks=pytest.mark.colab)])
def kernel(request):
    with front_end(python_of_stack(request.param)) as kernel:
        kernel.name = request.param
        kernel.run(START)
        assert not kernel.trouble
        kernel.keep()
        yield kernel


@pytest.fixture
def stack(kernel: FrontEnd):
    """The kernel, as if nothing had been run on it but ``START``; a test that ends in trouble fails."""
    kernel.run("torch.manual_seed(0)")
    yield kernel
    trouble = kernel.trouble
    kernel.forget()
    assert not trouble


@pytest.fixture
def live(stack: FrontEnd):
    """A fresh live trainer's model ids."""
    stack.run("live = LiveTrainer(make_student_mlp(), teacher, mnist, held_out=300)")
    return json.loads(stack.run(IDS))


def test_an_error_in_a_cell_is_raised_with_the_kernels_message(stack):
    with pytest.raises(CellError, match=r"(?s)^ZeroDivisionError: division by zero\n.*in the cell\n1 / 0$"):
        stack.run("1 / 0")
    with pytest.raises(CellError, match=r"NameError: name 'nothing' is not defined"):
        stack.ask("nothing")
    assert stack.ask("1 + 1") == 2  # the kernel goes on


def test_the_names_that_a_test_made_are_gone_when_the_next_one_begins(stack):
    names = stack.ask("sorted(globals())")
    stack.run("import string\nlive, teacher_of_mine = 1, teacher")
    stack.forget()
    assert stack.ask("sorted(name for name in globals() if name[0] != '_')") == [n for n in names if n[0] != "_"]
    with pytest.raises(CellError, match="NameError"):
        stack.run("string")


def test_the_stack_is_the_one_it_says(stack):
    stack.run("import IPython, ipykernel, ipywidgets")
    versions = stack.ask("[package.__version__ for package in (IPython, ipykernel, ipywidgets)]")
    if stack.name == "colab":
        assert versions == ["7.34.0", "6.17.1", "7.7.1"]
    else:
        assert [int(version.split(".")[0]) for version in versions[1:]] >= [6, 8]


def test_a_picture_is_shown_with_its_description(stack):
    stack.run(
        "from kdcourse import plots\n"
        "plots.show(plots.curve(range(3), torch.tensor([3.0, 2.0, 1.0])), alt='A line that falls.')"
    )
    (picture,) = stack.shown
    page = picture["data"]["text/html"]
    assert base64.b64decode(re.search('base64,([^"]+)"', page)[1]).startswith(b"\x89PNG")
    assert 'alt="A line that falls."' in page
    assert picture["data"]["text/plain"] == "A line that falls."


def test_play_ticks_train_and_draw(stack, live):
    for tick in range(1, 49):
        stack.update(live["play"], value=tick)
    frames = stack.frames[live["image"]]
    steps = [int(frame.text["step"]) for frame in frames]
    assert stack.ask("live.steps") > 20
    assert steps == sorted(steps)
    assert steps[-1] > 0
    assert "images/s" in stack.state[live["status"]]["value"]
    # 48 slices of 30 ms are a second and a half: a frame every quarter of a second, not one per tick.
    assert 2 <= len(frames) <= 12


def test_a_slider_draws_at_once_and_leaves_a_mark(stack, live):
    stack.update(live["play"], value=1)
    before = len(stack.frames.get(live["image"], []))
    stack.update(live["temperature"], value=9.0)
    frame = stack.frames[live["image"]][before]
    assert float(frame.text["temperature"]) == 9.0
    assert int(frame.text["marks"]) == 1
    assert stack.ask("live.marks") == [[stack.ask("live.steps"), "distilled", "temperature", 9.0]]
    assert stack.ask("live.knobs.temperature") == 9.0


def test_a_picture_changes_where_the_mark_is_drawn(stack, live):
    stack.run("live.step(60)")
    still = stack.frames[live["image"]][-1].convert("RGB")
    stack.update(live["alpha"], value=0.1)
    moved = stack.frames[live["image"]][-1].convert("RGB")
    column = int(moved.width * (0.075 + 0.52 * 60 / 200))  # of step 60, in axes that show 200 steps
    height = range(int(0.2 * moved.height), int(0.8 * moved.height))
    changed = max(
        sum(still.getpixel((x, y)) != moved.getpixel((x, y)) for y in height) for x in range(column - 3, column + 4)
    )
    assert changed > 0.8 * len(height)


def test_buttons_step_fork_test_and_reset(stack, live):
    stack.click(live["step_button"])
    assert stack.ask("live.steps") == 100
    stack.click(live["fork_button"])
    stack.update(live["fork_temperature"], value=1.0)
    stack.click(live["step_button"])
    measured = stack.ask("{name: arm.steps[-1] for name, arm in live.arms.items()}")
    assert set(measured) == {"distilled", "no teacher", "fork"}
    assert len(set(measured.values())) == 1
    assert 100 < measured["fork"] <= 200
    assert stack.ask("[live.arms['distilled'].knobs.temperature, live.arms['fork'].knobs.temperature]") == [4, 1]
    stack.click(live["test_button"])
    assert "Errors on 500 test images after 200 steps" in stack.state[live["status"]]["value"]
    stack.click(live["reset_button"])
    assert stack.ask("[live.steps, len(live.arms), live.marks]") == [0, 2, []]


def test_the_stop_button_sends_a_tick_back_and_trains_nothing(stack, live):
    stack.update(live["play"], value=1)
    steps = stack.ask("live.steps")
    stack.update(live["play"], value=0)
    assert stack.ask("live.steps") == steps


def playing_of(stack, name):
    return stack.ask(f"'playing' if {name}.play.has_trait('playing') else '_playing'")


def wait_until(stack, condition):
    end = time.monotonic() + PATIENCE
    while not stack.ask(condition):
        assert time.monotonic() < end, f"the kernel never met: {condition}"


def test_between_two_ticks_the_kernel_trains_by_itself_and_reads_its_messages(stack, live):
    playing = playing_of(stack, "live")
    stack.update(live["play"], **{playing: True})
    wait_until(stack, "live.steps > 50")  # not one tick was sent
    stack.update(live["temperature"], value=9.0)
    assert stack.ask("[mark.value for mark in live.marks]") == [9.0]
    stack.update(live["play"], **{playing: False})
    steps = stack.ask("live.steps")
    stack.run("import asyncio; await asyncio.sleep(0.3)")
    assert stack.ask("live.steps") == steps


def test_a_page_that_was_closed_does_not_train_on(stack, live):
    stack.run("from kdcourse.widgets.trainers import clock; clock.SILENCE = 0.3")
    stack.update(live["play"], **{playing_of(stack, "live"): True})
    wait_until(stack, "live.steps > 0")
    wait_until(stack, "time.perf_counter() - live._ticked_at > 0.4")
    steps = stack.ask("live.steps")
    stack.run("import asyncio; await asyncio.sleep(0.3)")
    assert stack.ask("live.steps") == steps
    stack.update(live["play"], value=1)  # the page is back
    wait_until(stack, f"live.steps > {steps}")
    stack.run("clock.SILENCE = 1.5; live.close()")


def test_an_error_in_a_tick_is_shown_stops_the_clock_and_fails_close(stack, live):
    stack.run("live.arms['distilled'].trainer = iter([])")  # ends at once: StopIteration inside the work
    stack.update(live["play"], value=1)
    assert "Stopped." in stack.state[live["status"]]["value"]
    stack.update(live["play"], value=2)
    assert stack.ask("len(live.errors)") == 1
    with pytest.raises(CellError, match="RuntimeError: the widget met an error"):
        stack.run("live.close()")


def test_a_frame_is_small(stack, live):
    stack.run("live.step(150); live.temperature.value = 2; live.fork(); live.step(50)")
    assert stack.ask("len(live.image.value)") <= 60_000


def test_explorers_follow_their_sliders(stack):
    ids = stack.run(
        "hello = hello_slider(); explorer = TemperatureExplorer(teacher, mnist.held_out)\n"
        "print(json.dumps([hello.digit.model_id, hello.canvas.widget.model_id, explorer.temperature.model_id,"
        "explorer.canvas.widget.model_id]))"
    )
    digit, hello_image, temperature, image = json.loads(ids)
    stack.update(digit, value=8)
    assert stack.frames[hello_image][-1].text["digit"] == "8"
    stack.update(temperature, value=16.0)
    assert float(stack.frames[image][-1].text["temperature"]) == 16


def test_the_bias_explorer_follows_its_slider(stack):
    """Chapter 02 shows it with a student of a sweep."""
    ids = stack.run(
        "from kdcourse.widgets import BiasExplorer\n"
        "raised = BiasExplorer(teacher, mnist.held_out.take(300))\n"
        "print(json.dumps([raised.bias.model_id, raised.canvas.widget.model_id, raised.status.model_id]))"
    )
    bias, image, status = json.loads(ids)
    stack.update(bias, value=4.5)
    frame = stack.frames[image][-1].text
    assert float(frame["bias"]) == 4.5
    assert int(frame["found"]) == stack.ask("raised.found")
    assert f"of the 20 shown. {stack.ask('raised.taken')} other digits" in stack.state[status]["value"]
    stack.run("raised.close()")


def test_exits_and_generations_follow_their_controls(stack):
    """Chapter 06 shows them with students that take long to train."""
    ids = stack.run(
        "from torch import nn\n"
        "from kdcourse.models import ExitNet\n"
        "from kdcourse.widgets import ExitsExplorer, GenerationsExplorer\n"
        "stages = [nn.Sequential(nn.Flatten(), nn.Linear(784, 8)), nn.Linear(8, 8)]\n"
        "exits = ExitsExplorer(ExitNet(stages, [nn.Linear(8, 10), nn.Linear(8, 10)]), mnist.test)\n"
        "lineages = [[make_mlp(4), make_mlp(4)] for _ in range(2)]\n"
        "generations = GenerationsExplorer(lineages, mnist.test)\n"
        "print(json.dumps([widget.model_id for widget in (exits.confidence, exits.canvas.widget,"
        "generations.generation, generations.canvas.widget)]))"
    )
    confidence, exits, generation, generations = json.loads(ids)
    stack.update(confidence, value=0.3)
    assert float(stack.frames[exits][-1].text["confidence"]) == 0.3
    stack.update(generation, value=1)
    assert stack.frames[generations][-1].text["generation"] == "1"
    stack.run("exits.close(); generations.close()")


def test_a_cohort_follows_its_clock_and_the_choice_of_its_way(stack):
    ids = stack.run(
        "cohort = CohortTrainer([make_mlp(16), make_mlp(16)], mnist, held_out=300)\n"
        "print(json.dumps([getattr(cohort, name).model_id for name in ('play', 'temperature', 'way', 'image')]))"
    )
    play, temperature, way, image = json.loads(ids)
    for tick in range(1, 10):
        stack.update(play, value=tick)
    stack.update(temperature, value=3.0)
    stack.update(way, index=1)
    assert stack.ask("[cohort.steps > 0, cohort.way.value]") == [True, "labels only"]
    assert stack.ask("[mark.value for mark in cohort.marks]") == [3.0, "labels only"]
    assert stack.frames[image][-1].text["way"] == "2"
    stack.run("cohort.close()")


def test_a_heat_map_fills_tick_by_tick_and_by_its_button(stack):
    ids = stack.run(
        "from kdcourse.widgets import HeatMap\n"
        "heat_map = HeatMap(lambda t, a: {'errors': 100 - t * a, 'seconds': 1.0}, [1, 4], [0.5, 0.9])\n"
        "parts = heat_map.play, heat_map.all_button, heat_map.image\n"
        "print(json.dumps([widget.model_id for widget in parts]))"
    )
    play, everything, image = json.loads(ids)
    first = len(stack.frames[image])
    stack.update(play, value=1)
    assert 1 <= stack.ask("len(heat_map.values)") <= 4
    stack.click(everything)
    assert stack.ask("[len(heat_map.values), heat_map.best()]") == [4, [4, 0.9]]
    assert len(stack.frames[image]) > first
    stack.run("heat_map.close()")


def test_a_press_of_play_trains_one_run_of_the_schedule_that_is_drawn(stack):
    ids = stack.run(
        "small = mnist._replace(train=mnist.train.take(500))\n"
        "editor = ScheduleEditor(make_mlp(16), teacher, small, epochs=2, held_out=300)\n"
        "parts = editor.play, editor.preset, editor.alphas[4], editor.image\n"
        "print(json.dumps([widget.model_id for widget in parts]))"
    )
    play, preset, alpha, image = json.loads(ids)
    playing = playing_of(stack, "editor")
    stack.update(preset, index=1)
    stack.update(alpha, value=0.25)
    assert float(stack.frames[image][-1].text["last_alpha"]) == 0.25
    stack.update(play, **{playing: True})
    for tick in range(1, 40):  # many more than eight steps need
        stack.update(play, value=tick)
    assert stack.ask("[len(editor.runs), editor.runs[0].done, editor.runs[0].alphas[-1]]") == [1, True, 0.25]
    assert stack.ask(f"editor.play.{playing}") is False
    stack.update(play, **{playing: True})
    stack.update(play, value=40)
    assert stack.ask("len(editor.runs)") == 2
    stack.run("editor.close()")
