"""Drawings of methods that hand over relations between samples: RKD, InfoNCE, CRD. Chapters 04 and 05."""

import math

from .svg import Drawing, Point

SHALLOW = (0.7, 0.75, 0.45)


def draw_triplet() -> Drawing:
    """Draw what RKD keeps: distances between points, and the angles that three of them make."""
    drawing = Drawing(
        780, 356,
        alt="The same three digits as points in the teacher's space, which is frozen, and in the student's. A loss "
        "between the two asks: is it the same shape up to scale, turn and place? Its gradient leads to the student's "
        "points only. Here the student's triangle is turned, moved and half as large, but its angles are the same, and "
        "so are its distances, divided by their mean: both losses are 0.",
    )  # fmt: skip
    triangle = {"a": (96.0, 232.0), "b": (310.0, 210.0), "c": (196.0, 76.0)}
    turned = {name: _turned(point) for name, point in triangle.items()}
    for points, role in ((triangle, "teacher"), (turned, "student")):
        drawing.line([*points.values(), points["a"]], role=role, width=2)
        centre = [sum(values) / 3 for values in zip(*points.values(), strict=True)]
        for letter, (x, y) in points.items():
            drawing.circle(x, y, 9, role=role)
            away = math.hypot(x - centre[0], y - centre[1])
            drawing.text(x + 26 * (x - centre[0]) / away, y + 26 * (y - centre[1]) / away, letter, role=role, bold=True)
    drawing.text(200, 292, "teacher's space", role="teacher", bold=True)
    drawing.text(668, 292, "student's space", role="student", bold=True)
    drawing.line([(178, 98), (196, 112), (216, 98)], role="kd", width=2.4)
    drawing.text(196, 136, "angle", role="kd", size=17)
    drawing.text(212, 244, "distance", role="kd", size=17)
    drawing.lock(294, 292, role="teacher")
    drawing.box(382, 94, 174, 116, ["loss: the same", "shape up to scale,", "turn and place?"], role="kd", size=18)
    drawing.arrow([(330, 152), (378, 152)])
    drawing.arrow([(604, 152), (560, 152)])
    drawing.arrow([(469, 212), (469, 250), (620, 250), (644, 224)], role="student", gradient=True)
    drawing.legend(206, 332)
    return drawing


def _turned(point: Point) -> Point:
    """Return a point after a turn by 75 degrees, at 0.55 of the size, in another place."""
    angle, x, y = math.radians(75), point[0] - 200, point[1] - 173
    return (
        668 + 0.55 * (math.cos(angle) * x - math.sin(angle) * y),
        150 + 0.55 * (math.sin(angle) * x + math.cos(angle) * y),
    )


def draw_info_nce() -> Drawing:
    """Draw InfoNCE's square: every student row against every teacher row, the diagonal should win."""
    drawing = Drawing(
        800, 340,
        alt="A square of similarities. Rows are the student's embeddings of five images, columns the teacher's of the "
        "same five. In each row a softmax runs over the columns. The diagonal, an image with itself, should get all "
        "of it; the other cells are negatives, two of them of the same class. The gradient leads to the student's "
        "embeddings only: the teacher is frozen.",
    )  # fmt: skip
    shades = [[0.85 if i == j else 0.12 + 0.1 * ((i * 3 + j * 5) % 3) for j in range(5)] for i in range(5)]
    shades[0][3] = shades[3][0] = 0.6
    drawing.cells(300, 76, 44, shades, role="kd")
    for place in range(5):
        drawing.text(322 + 44 * place, 58, f"t{place + 1}", role="teacher", size=17)
        drawing.text(278, 98 + 44 * place, f"s{place + 1}", role="student", size=17)
        x, y = 300 + 44 * place, 76 + 44 * place
        drawing.line([(x, y), (x + 44, y), (x + 44, y + 44), (x, y + 44), (x, y)], role="student", width=2.6)
    drawing.text(410, 28, "teacher's embeddings", role="teacher", bold=True)
    drawing.lock(532, 28, role="teacher")
    drawing.text(140, 176, "student's", role="student", bold=True)
    drawing.text(140, 200, "embeddings", role="student", bold=True)
    drawing.arrow([(540, 98), (590, 98)])
    drawing.text(600, 98, "softmax of a row", anchor="start")
    drawing.arrow([(590, 274), (524, 274)], role="student", width=1.8)
    drawing.text(600, 274, "the same image", role="student", anchor="start")
    drawing.arrow([(590, 174), (456, 106)], role="quiet", width=1.6)
    drawing.text(600, 174, "same class: a", role="quiet", anchor="start")
    drawing.text(600, 198, "false negative", role="quiet", anchor="start")
    drawing.arrow([(768, 98), (786, 98), (786, 320), (140, 320), (140, 218)], role="student", gradient=True)
    drawing.text(210, 304, "gradients", role="student", size=17)
    return drawing


def draw_crd() -> Drawing:
    """Draw CRD: two memories with a slot for every sample, negatives drawn from other classes."""
    drawing = Drawing(
        800, 370,
        alt="CRD. A linear head and a normalisation on each side turn features into unit vectors. Each network has a "
        "memory with one slot for every training image. For one image, the student's vector is compared with the "
        "teacher's vector of the same image, the positive, and with slots of other classes in the teacher's memory, "
        "the negatives. Each comparison is a yes or no question. Afterwards the image's own slots move towards the new "
        "vectors. The teacher is frozen; both heads learn.",
    )  # fmt: skip
    drawing.network(34, 34, 96, 66, (0.7, 1.0, 0.8), "teacher", role="teacher", frozen=True)
    drawing.network(34, 230, 96, 60, SHALLOW, "student", role="student")
    for y, role in ((40, "teacher"), (232, "student")):
        drawing.arrow([(138, y + 26), (168, y + 26)], role=role)
        drawing.box(172, y, 122, 52, "head, ÷ norm", role=role, size=16)
    drawing.cells(380, 46, 30, [[0.15 if n not in (2, 4, 5, 9) else 0.75 for n in range(12)]], role="teacher")
    drawing.text(380, 24, "teacher's memory: a slot for each image", role="teacher", anchor="start", size=17)
    drawing.cells(380, 250, 30, [[0.15 if n != 2 else 0.75 for n in range(12)]], role="student")
    drawing.text(380, 304, "student's memory, used the other way round", role="student", anchor="start", size=17)
    drawing.arrow([(298, 258), (330, 258), (330, 182), (392, 182)], role="student")
    drawing.box(396, 142, 330, 54, "same image, yes or no?", role="kd")
    drawing.arrow([(270, 94), (270, 154), (392, 154)], role="teacher")
    drawing.text(262, 128, "this image", role="teacher", anchor="end", size=17)
    drawing.text(352, 118, "head learns too", role="student", size=17)
    for place in (4, 5, 9):
        drawing.arrow([(395 + 30 * place, 80), (395 + 30 * place, 138)], role="quiet", width=1.6)
    drawing.text(738, 110, "others", role="quiet", size=17)
    drawing.arrow([(298, 62), (376, 62)], role="teacher", width=1.8)
    drawing.text(334, 44, "moves", role="teacher", size=15)
    drawing.line([(680, 200), (680, 226), (782, 226), (782, 336), (233, 336)], role="student", dashed=True)
    drawing.arrow([(233, 336), (233, 290)], role="student", gradient=True)
    drawing.arrow([(233, 336), (82, 336), (82, 322)], role="student", gradient=True)
    return drawing
