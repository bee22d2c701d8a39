"""Drawings of methods that hand over answers: soft targets, generations, cohorts, schedules.

Chapters 01, 02, 06 and 07.
"""

import math

from .svg import Drawing

SURE = (0.0, 0.02, 0.05, 0.9, 0.0, 0.02, 0.0, 0.0, 0.01, 0.0)
SOFT = (0.16, 0.24, 0.42, 0.74, 0.2, 0.5, 0.14, 0.2, 0.46, 0.26)
GUESS = (0.2, 0.22, 0.5, 0.56, 0.26, 0.42, 0.2, 0.24, 0.4, 0.3)
LABEL = (0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
DEEP, SHALLOW = (0.7, 1.0, 1.0, 0.85, 0.45), (0.7, 0.75, 0.45)


def draw_teacher_and_student() -> Drawing:
    """Draw what a student is told: by labels one digit, by a teacher ten probabilities."""
    drawing = Drawing(
        760, 462,
        alt="An image goes to a large frozen teacher and to a small student. Each answers with ten probabilities. The "
        "label is a third row of ten, all of it on one digit, the 3. The student's answer is compared with the "
        "teacher's and with the label. Gradients reach the student only.",
    )  # fmt: skip
    drawing.box(22, 120, 92, 74, "image")
    drawing.network(178, 26, 150, 108, DEEP, "teacher", role="teacher", frozen=True)
    drawing.network(198, 196, 110, 74, SHALLOW, "student", role="student")
    drawing.arrow([(116, 140), (146, 80), (174, 80)])
    drawing.arrow([(116, 175), (146, 233), (194, 233)])
    drawing.bars(392, 36, 190, 88, SOFT, role="teacher")
    drawing.text(487, 142, "ten probabilities", role="teacher")
    drawing.arrow([(334, 80), (384, 80)])
    drawing.bars(392, 176, 190, 74, GUESS, role="student")
    drawing.text(487, 268, "the student's answer", role="student")
    drawing.arrow([(314, 233), (384, 233)])
    drawing.bars(392, 302, 190, 56, LABEL, role="ce")
    drawing.text(487, 376, "label: 3", role="ce")
    drawing.box(632, 152, 104, 66, "how far?", role="kd")
    drawing.arrow([(588, 84), (684, 84), (684, 146)])
    drawing.arrow([(588, 213), (604, 213), (628, 196)])
    drawing.arrow([(588, 332), (656, 332), (656, 224)])
    drawing.arrow([(704, 222), (704, 408), (253, 408), (253, 304)], role="student", gradient=True)
    drawing.legend(180, 438)
    return drawing


def draw_soft_targets() -> Drawing:
    """Draw the loss of chapter 02: both answers softened by T, two terms, α and 1 - α."""
    drawing = Drawing(
        800, 450,
        alt="Soft targets. A frozen teacher and a student see the same image. Both rows of ten logits are divided by T "
        "and become probabilities. Their divergence, times T squared and alpha, is one term. The cross-entropy "
        "between the student's answer at T = 1 and the label, times 1 minus alpha, is the other. Gradients flow "
        "into the student only.",
    )  # fmt: skip
    drawing.box(16, 150, 84, 64, "image")
    drawing.network(146, 24, 130, 96, DEEP, "teacher", role="teacher", frozen=True)
    drawing.network(158, 232, 106, 70, SHALLOW, "student", role="student")
    drawing.arrow([(102, 168), (122, 72), (142, 72)])
    drawing.arrow([(102, 196), (122, 267), (154, 267)])
    drawing.box(322, 48, 62, 48, "÷ T", role="teacher")
    drawing.arrow([(280, 72), (318, 72)])
    drawing.box(322, 168, 62, 48, "÷ T", role="student")
    drawing.arrow([(268, 256), (290, 256), (290, 192), (318, 192)])
    drawing.bars(432, 36, 132, 62, SOFT, role="teacher")
    drawing.text(498, 114, "soft target", role="teacher")
    drawing.arrow([(388, 72), (426, 72)])
    drawing.bars(432, 160, 132, 62, GUESS, role="student")
    drawing.arrow([(388, 192), (426, 192)])
    drawing.box(606, 100, 150, 62, "α · T² · KL", role="kd", size=22)
    drawing.arrow([(570, 72), (584, 72), (603, 112)])
    drawing.arrow([(570, 192), (584, 192), (603, 150)])
    drawing.bars(432, 286, 132, 52, LABEL, role="ce")
    drawing.text(498, 355, "label: 3", role="ce")
    drawing.box(606, 250, 150, 62, "(1 - α) · CE", role="ce", size=22)
    drawing.arrow([(268, 274), (602, 274)])
    drawing.text(350, 258, "at T = 1", role="quiet", size=17)
    drawing.arrow([(570, 318), (584, 318), (603, 300)])
    drawing.line([(760, 131), (778, 131), (778, 386)], role="student", dashed=True)
    drawing.line([(681, 316), (681, 386)], role="student", dashed=True)
    drawing.arrow([(778, 386), (211, 386), (211, 336)], role="student", gradient=True)
    drawing.legend(190, 424)
    return drawing


def draw_generations() -> Drawing:
    """Draw born-again networks: each generation is taught by the one before, and all vote in the end."""
    drawing = Drawing(
        760, 300,
        alt="Three networks of one shape in a row. The first, generation 0, learns from labels. Generations 1 and 2 "
        "learn from labels and from the frozen network before them; gradients flow into the newest one only. At the "
        "end all three vote.",
    )  # fmt: skip
    for number in range(3):
        x = 50 + 210 * number
        drawing.network(x, 46, 110, 88, (0.7, 1.0, 0.8, 0.45), f"generation {number}", role="student")
        drawing.box(x + 10, 220, 90, 42, "labels", role="ce")
        drawing.arrow([(x + 40, 218), (x + 40, 170)], role="ce")
        drawing.arrow([(x + 70, 218), (x + 70, 170)], role="student", gradient=True)
        if number < 2:
            drawing.arrow([(x + 118, 90), (x + 204, 90)], role="kd")
            drawing.text(x + 161, 70, "teaches", role="kd", size=17)
            drawing.lock(x + 152, 112, role="kd")
        drawing.line([(x + 55, 42), (x + 55, 24), (690, 24)], role="quiet", width=1.6)
    drawing.text(130, 196, "gradients", role="student", anchor="start", size=17)
    drawing.arrow([(690, 24), (690, 64)], role="quiet")
    drawing.box(640, 68, 102, 48, "vote", role="ink")
    return drawing


def draw_cohort() -> Drawing:
    """Draw mutual learning: students that learn together, each from the labels and from its peers."""
    drawing = Drawing(
        760, 376,
        alt="Three students see the same batch at the same time. Each learns from the labels and from the answers of "
        "the other two. Nobody is frozen: each loss has a gradient into its own student, and none flows through a "
        "peer's answer.",
    )  # fmt: skip
    places = [(90, 30), (560, 30), (325, 170)]
    for number, (x, y) in enumerate(places):
        drawing.network(x, y, 110, 66, SHALLOW, f"student {number + 1}", role="student")
    for x0, y0, x1, y1 in ((214, 62, 546, 62), (206, 128, 318, 190), (554, 128, 442, 190)):
        dx, dy = x1 - x0, y1 - y0
        length = math.hypot(dx, dy)
        nx, ny = -7 * dy / length, 7 * dx / length
        drawing.arrow([(x0 + nx, y0 + ny), (x1 + nx, y1 + ny)], role="peer")
        drawing.arrow([(x1 - nx, y1 - ny), (x0 - nx, y0 - ny)], role="peer")
    drawing.text(380, 34, "answers, detached", role="peer")
    for x, y in ((145, 206), (615, 206), (380, 318)):
        drawing.box(x - 42, y, 84, 40, "labels", role="ce")
    for x, y0, y1 in ((145, 204, 132), (615, 204, 132), (380, 316, 272)):
        drawing.arrow([(x - 14, y0), (x - 14, y1)], role="ce")
        drawing.arrow([(x + 14, y0), (x + 14, y1)], role="student", gradient=True)
    drawing.text(172, 172, "gradients", role="student", anchor="start", size=17)
    return drawing


def draw_schedule() -> Drawing:
    """Draw a schedule: T and α as functions of how far the run is."""
    drawing = Drawing(
        760, 270,
        alt="Two lines over one training run, from progress 0 to 1. As an example, the temperature rises evenly and "
        "alpha falls, slowly at first and faster in the second half. At each step the objective reads both at the "
        "present progress.",
    )  # fmt: skip
    drawing.arrow([(70, 210), (560, 210)])
    drawing.arrow([(70, 210), (70, 30)])
    drawing.text(315, 238, "progress of the run", role="quiet")
    drawing.text(70, 238, "0", role="quiet")
    drawing.text(530, 238, "1", role="quiet")
    drawing.line([(70, 194), (530, 56)], role="kd", width=3.4)
    drawing.text(440, 58, "T", role="kd", bold=True, size=24)
    drawing.line([(70, 50), (300, 84), (530, 196)], role="peer", width=3.4, dashed=True)
    drawing.text(425, 178, "α", role="peer", bold=True, size=24)
    drawing.line([(400, 210), (400, 40)], role="quiet", width=1.4, dashed=True)
    drawing.circle(400, 95, 6, role="kd")
    drawing.circle(400, 133, 6, role="peer")
    drawing.box(600, 80, 140, 68, ["objective", "at this step"], role="ink")
    drawing.arrow([(410, 95), (596, 95)], role="kd", width=1.8)
    drawing.arrow([(410, 133), (596, 133)], role="peer", width=1.8)
    return drawing
