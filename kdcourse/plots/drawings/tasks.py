"""Drawings of distillation for other tasks than classification: detectors and language models. Chapters 08 and 09."""

from .svg import Drawing


def draw_detection() -> Drawing:
    """Draw two detectors: a pyramid of features, and two heads; three places at which the student can listen."""
    drawing = Drawing(
        800, 450,
        alt="A scene goes into two detectors, a frozen teacher and a student. Each has a body, a pyramid of three "
        "feature maps, and two heads, one for classes and one for boxes. The student can be compared with the "
        "teacher at three places: pyramid to pyramid, through a learned adapter; class logits to class logits; boxes "
        "to boxes. Gradients flow into the student only.",
    )  # fmt: skip
    drawing.box(16, 176, 84, 62, "scene", role="ink")
    for y, role, name in ((36, "teacher", "teacher"), (286, "student", "student")):
        drawing.arrow([(102, 207), (124, 207), (124, y + 46), (146, y + 46)], role=role)
        drawing.box(150, y + 16, 92, 60, "body", role=role)
        label = y + 100 if role == "teacher" else y - 8
        drawing.text(196, label, name, role=role, bold=True)
        if role == "teacher":
            drawing.lock(246, label, role=role)
        drawing.arrow([(244, y + 46), (282, y + 46)], role=role)
        for number, side in enumerate((84, 56, 34)):
            drawing.cells(
                288 + (0, 96, 164)[number], y + 46 - side / 2, side / (4, 3, 2)[number],
                [[0.15 + 0.5 * ((row + column) % 2) for column in range((4, 3, 2)[number])]
                 for row in range((4, 3, 2)[number])],
                role=role,
            )  # fmt: skip
        drawing.arrow([(492, y + 46), (536, y + 22)], role=role)
        drawing.arrow([(492, y + 46), (536, y + 74)], role=role)
        drawing.box(540, y - 4, 112, 46, "classes", role=role)
        drawing.box(540, y + 52, 112, 46, "boxes", role=role)
    drawing.box(300, 182, 180, 52, "adapter, then (…)²", role="kd", size=17)
    drawing.arrow([(390, 284), (390, 238)], role="student")
    drawing.arrow([(390, 130), (390, 178)], role="teacher")
    drawing.box(690, 120, 96, 52, "KL", role="kd")
    drawing.box(690, 236, 96, 52, ("only if", "worse"), role="kd", size=15)
    drawing.arrow([(654, 54), (738, 54), (738, 116)], role="teacher")
    drawing.arrow([(654, 302), (676, 302), (676, 150), (687, 150)], role="student")
    drawing.arrow([(654, 112), (664, 112), (664, 250), (687, 250)], role="teacher")
    drawing.arrow([(654, 366), (738, 366), (738, 292)], role="student")
    drawing.arrow([(770, 290), (770, 398), (196, 398), (196, 366)], role="student", gradient=True)
    drawing.legend(196, 430)
    return drawing


def draw_language() -> Drawing:
    """Draw two transformers, a deep one and a shallow one, and what of them can be compared."""
    drawing = Drawing(
        800, 450,
        alt="A definition goes into a frozen teacher of four blocks and a student of two. Embeddings are compared "
        "with embeddings, the student's first block with the teacher's second, its second with the teacher's "
        "fourth: hidden states through a learned projection, and attention, which token looks at which. In the last "
        "block the relations of values are compared too, and at the end the softened answers. From each of these "
        "losses gradients flow into the student only.",
    )  # fmt: skip
    drawing.box(14, 178, 106, 66, ("a large", "wild cat"), role="ink", size=17)
    for y, role, name, blocks in ((40, "teacher", "teacher", 4), (316, "student", "student", 2)):
        drawing.arrow([(122, 211), (140, 211), (140, y + 28), (156, y + 28)], role=role)
        drawing.box(160, y, 108, 56, "embed", role=role)
        for number in range(blocks):
            step = 88 if blocks == 4 else 176
            left = 296 + number * step + (88 if blocks == 2 else 0)
            before = 268 if number == 0 else left - step + 62
            drawing.arrow([(before + 2, y + 28), (left - 3, y + 28)], role=role)
            drawing.box(left, y, 62, 56, f"{number + 1}", role=role)
        drawing.arrow([(624, y + 28), (668, y + 28)], role=role)
        drawing.text(68, y + 28, name, role=role, bold=True)
        if role == "teacher":
            drawing.lock(60, y + 54, role=role)
        drawing.bars(674, y - 4, 106, 58, (0.1, 0.2, 0.95, 0.35, 0.15, 0.05, 0.25, 0.1), role=role)
    for x, label in (
        (214, ("distance",)),
        (415, ("attention,", "hidden state")),
        (591, ("attention,", "hidden state,", "relations")),
    ):
        half = 30 if len(label) < 3 else 37
        drawing.arrow([(x, 98), (x, 206 - half)], role="teacher")
        drawing.arrow([(x - 12, 314), (x - 12, 214 + half)], role="student")
        drawing.arrow([(x + 12, 212 + half), (x + 12, 312)], role="student", gradient=True)
        drawing.box(x - 64, 210 - half, 128, 2 * half, label, role="kd", size=17)
    drawing.arrow([(727, 98), (727, 176)], role="teacher")
    drawing.arrow([(715, 312), (715, 244)], role="student")
    drawing.arrow([(739, 242), (739, 310)], role="student", gradient=True)
    drawing.box(678, 180, 98, 60, "T² · KL", role="kd", size=17)
    drawing.legend(196, 430)
    return drawing
