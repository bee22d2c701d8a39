"""The canvas: a frame is what would be drawn from nothing; how a notebook shows a widget."""

import io
import subprocess
import sys

from matplotlib.colors import to_rgb
from matplotlib.text import Text
from PIL import Image

from kdcourse import plots
from kdcourse.widgets import Canvas, hello_slider


def make_canvas():
    canvas = Canvas(3, 2, full_colour=True)
    (line,) = canvas.add_axes(0.2, 0.2, 0.7, 0.7).plot([0, 1], [0, 1])
    canvas.moving(line)
    canvas.draw()
    return canvas, line


def test_a_blitted_frame_is_the_frame_that_is_drawn_from_nothing():
    frames = []
    for renewed in (False, True):
        canvas, line = make_canvas()
        line.set_ydata([1, 0])
        if renewed:
            canvas.renew()
        canvas.draw()
        frames.append(bytes(canvas.figure.canvas.buffer_rgba()))
    assert frames[0] == frames[1]


def test_axes_that_are_renewed_alone_give_the_frame_that_is_drawn_from_nothing():
    frames = []
    for alone in (False, True):
        canvas, line = make_canvas()
        other = canvas.add_axes(0.05, 0.05, 0.05, 0.1)
        canvas.changing(line.axes)
        canvas.draw()
        line.axes.set_xlim(0, 4)
        canvas.renew(line.axes if alone else None)
        canvas.draw()
        frames.append(bytes(canvas.figure.canvas.buffer_rgba()))
    assert frames[0] == frames[1]
    before = frames[0]
    other.set_xlim(0, 9)
    canvas.renew(other)  # others are drawn with all that is still
    canvas.draw()
    assert bytes(canvas.figure.canvas.buffer_rgba()) != before


def test_words_that_stay_are_not_drawn_again_and_stay_in_the_picture(monkeypatch):
    drawn, pictures = [], []
    monkeypatch.setattr(Text, "draw", lambda text, renderer, draw=Text.draw: (drawn.append(text), draw(text, renderer)))
    for renewed in (False, True):
        canvas, line = make_canvas()
        stays, moves = canvas.figure.text(0.1, 0.9, "stays"), canvas.figure.text(0.5, 0.9, "at 0")
        canvas.words(stays, moves)
        for number in range(3):
            moves.set_text(f"at {number}")
            line.set_ydata([number, 0])
            if renewed:
                canvas.renew()
            drawn.clear()
            canvas.draw()
            assert moves in drawn
            assert (stays in drawn) == (renewed or number < 2), "twice: as new, and as what will stay"
        moves.set_position((0.6, 0.8))
        stays.set_text("")
        canvas.draw()
        pictures.append(bytes(canvas.figure.canvas.buffer_rgba()))
    assert pictures[0] == pictures[1]


def test_an_image_of_a_digit_goes_from_paper_to_ink():
    canvas = Canvas(1, 1)
    image = canvas.add_image(0, 0, 1, 1, rows=2, columns=3)
    assert image.get_array().shape == (2, 3)
    assert [image.cmap(value)[:3] for value in (0.0, 1.0)] == [to_rgb(plots.PAPER), (0, 0, 0)]


def test_a_widget_is_shown_by_its_view_and_leaves_a_sentence_without_a_kernel():
    hello = hello_slider()
    bundle = hello._repr_mimebundle_()
    assert bundle["application/vnd.jupyter.widget-view+json"]["model_id"] == hello.widget.model_id
    assert bundle["text/plain"] == "[A slider that picks a digit, live when the notebook runs.]"


def test_widgets_leave_pyplot_alone():
    code = "import sys, kdcourse.widgets; print('matplotlib.pyplot' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"


def test_a_still_figure_holds_what_has_moved_and_the_axes_that_were_renewed_alone():
    canvas, line = make_canvas()
    word = canvas.figure.text(0.02, 0.9, "T = 20")
    canvas.words(word)
    canvas.changing(line.axes)
    canvas.draw()
    empty = Image.open(io.BytesIO(plots.showing.to_png(canvas.figure))).convert("L").histogram()
    full = Image.open(io.BytesIO(plots.showing.to_png(canvas.still()))).convert("L").histogram()
    assert sum(full[:128]) > sum(empty[:128]) + 200  # dark pixels: the frame of the axes, ticks and words
    assert not any(artist.get_animated() for artist in (word, line, line.axes))
