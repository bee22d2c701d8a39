"""A drawing of a practitioner's project: a folder, a teacher, one view for both, and a file at the end. Chapter 13."""

from .answers import DEEP, GUESS, SHALLOW, SOFT
from .svg import Drawing


def draw_own_project() -> Drawing:
    """Draw a project from a folder of files to a file of the student."""
    drawing = Drawing(
        800, 390,
        alt="A folder of images goes through random augmentation into batches. The same view goes to a large teacher, "
        "frozen, and to a small student. The teacher's answers and the labels of the folder make the loss. Gradients "
        "reach the student only. At the end the student becomes a file. The teacher may be a network, a forest, or "
        "anything else that answers.",
    )  # fmt: skip
    drawing.box(12, 136, 96, 66, ["your", "folder"], size=18)
    drawing.arrow([(110, 169), (136, 169)])
    drawing.box(140, 136, 104, 66, ["a random", "view"], size=18)
    drawing.network(300, 24, 150, 100, DEEP, "teacher", role="teacher", frozen=True)
    drawing.network(322, 214, 104, 70, SHALLOW, "student", role="student")
    drawing.arrow([(246, 154), (270, 154), (270, 74), (296, 74)])
    drawing.arrow([(246, 184), (270, 184), (270, 249), (318, 249)])
    drawing.bars(500, 40, 92, 66, SOFT, role="teacher")
    drawing.bars(500, 214, 92, 66, GUESS, role="student")
    drawing.arrow([(456, 74), (494, 74)])
    drawing.arrow([(432, 249), (494, 249)])
    drawing.box(652, 136, 128, 60, "loss", role="kd", size=22)
    drawing.arrow([(596, 74), (690, 74), (690, 132)])
    drawing.arrow([(596, 249), (690, 249), (690, 200)])
    drawing.box(722, 50, 70, 48, "labels", role="ce", size=17)
    drawing.arrow([(757, 100), (757, 132)], role="ce")
    drawing.line([(757, 200), (757, 330)], role="student", dashed=True)
    drawing.arrow([(757, 330), (374, 330), (374, 312)], role="student", gradient=True)
    drawing.box(140, 296, 128, 54, "student.onnx", role="student", size=17)
    drawing.arrow([(318, 272), (288, 318), (272, 323)], role="student")
    drawing.legend(300, 368)
    return drawing
