"""Drawings of methods that hand over features: hooks, FitNets, attention maps, exits. Chapters 03 and 06."""

from .svg import Drawing

MAP = ((0.05, 0.2, 0.3, 0.1), (0.1, 0.75, 0.9, 0.25), (0.05, 0.35, 0.85, 0.3), (0.02, 0.1, 0.25, 0.08))
ROUGH = ((0.1, 0.3, 0.2, 0.15), (0.25, 0.6, 0.65, 0.3), (0.2, 0.45, 0.6, 0.2), (0.08, 0.2, 0.3, 0.1))


def _stages(drawing: Drawing, x: float, y: float, names: tuple[str, ...], *, role: str, width: float = 92) -> None:
    """Draw the stages of a network as boxes in a row, with arrows between them."""
    for number, name in enumerate(names):
        left = x + number * (width + 34)
        drawing.box(left, y, width, 56, name, role=role)
        if number:
            drawing.arrow([(left - 32, y + 28), (left - 3, y + 28)], role=role)


def draw_hooks() -> Drawing:
    """Draw ``capture``: a layer's output is copied while the model runs, and the hook is removed afterwards."""
    drawing = Drawing(
        760, 240,
        alt="A model of three stages and a head. While it runs, a hook at stage 2 puts a copy of that stage's output "
        "into a dictionary of features. The model itself is not changed, and the hook is removed afterwards.",
    )  # fmt: skip
    drawing.text(18, 64, "image", role="quiet", anchor="start")
    drawing.arrow([(82, 64), (118, 64)], role="student")
    _stages(drawing, 122, 36, ("stage 1", "stage 2", "stage 3", "head"), role="student")
    drawing.arrow([(594, 64), (640, 64)], role="student")
    drawing.text(690, 64, "logits", role="student")
    drawing.circle(356, 64, 7, role="kd")
    drawing.arrow([(356, 74), (356, 148)], role="kd")
    drawing.text(372, 116, "a copy", role="kd", anchor="start")
    drawing.box(226, 152, 330, 56, 'features["stage2"]', role="kd", dashed=True)
    return drawing


def draw_fitnets() -> Drawing:
    """Draw FitNets' first stage: a regressor carries the student's guided layer to the teacher's hint."""
    drawing = Drawing(
        780, 380,
        alt="FitNets, first stage. The output of the teacher's middle stage is the hint. The output of the student's "
        "middle stage goes through a learned one by one convolution, the regressor. The squared difference of the "
        "two is the loss. Gradients reach the regressor and the student's first two stages; the teacher is frozen.",
    )  # fmt: skip
    _stages(drawing, 150, 34, ("stage 1", "stage 2", "stage 3", "head"), role="teacher", width=104)
    drawing.text(24, 62, "teacher", role="teacher", anchor="start", bold=True)
    drawing.lock(114, 62, role="teacher")
    _stages(drawing, 150, 292, ("stage 1", "stage 2", "stage 3", "head"), role="student", width=104)
    drawing.text(24, 320, "student", role="student", anchor="start", bold=True)
    drawing.box(256, 204, 168, 48, "regressor 1×1", role="student", dashed=True)
    drawing.arrow([(340, 290), (340, 256)], role="student")
    drawing.arrow([(340, 202), (340, 176), (424, 160)], role="student")
    drawing.arrow([(340, 92), (340, 132), (424, 146)], role="teacher")
    drawing.text(330, 112, "hint", role="teacher", anchor="end")
    drawing.box(428, 124, 190, 58, "(student - hint)²", role="kd")
    drawing.arrow([(524, 184), (524, 228), (428, 228)], role="student", gradient=True)
    drawing.arrow([(300, 254), (300, 288)], role="student", gradient=True)
    drawing.arrow([(340, 350), (340, 366), (202, 366), (202, 352)], role="student", gradient=True)
    drawing.text(440, 252, "gradients", role="student", anchor="start", size=17)
    return drawing


def draw_attention_transfer() -> Drawing:
    """Draw an attention map: squares of all channels, added up, made a unit vector; two of them are compared."""
    drawing = Drawing(
        780, 330,
        alt="Attention transfer. Each network has a stack of feature maps, the teacher 64 of them, the student 16. "
        "Their squares are averaged over the channels, which leaves one map each of equal size. Both maps are "
        "divided by their norm and compared. Numbers of channels need not agree, height and width must.",
    )  # fmt: skip
    for y, role, name, count, shades in (
        (30, "teacher", "teacher", 4, MAP), (178, "student", "student", 2, ROUGH),
    ):  # fmt: skip
        drawing.text(22, y + 52, name, role=role, anchor="start", bold=True)
        if role == "teacher":
            drawing.lock(112, y + 52, role=role)
        for number in range(count):
            drawing.box(146 + 12 * number, y + 9 * number, 78, 78, role=role)
        drawing.text(312, y + 14, "mean of", role=role, size=17)
        drawing.text(312, y + 36, "squares", role=role, size=17)
        drawing.arrow([(268, y + 58), (356, y + 58)], role=role)
        drawing.cells(366, y + 10, 24, shades, role=role)
        drawing.arrow([(470, y + 58), (556, 158 if role == "teacher" else 176)], role=role)
        drawing.text(498, y + 30 if role == "teacher" else y + 92, "÷ norm", role=role, size=17)
    drawing.box(560, 136, 190, 60, "difference²", role="kd")
    drawing.arrow([(654, 200), (654, 304), (192, 304), (192, 272)], role="student", gradient=True)
    return drawing


def draw_exits() -> Drawing:
    """Draw a network that teaches itself: its deepest exit is the target of the shallower ones."""
    drawing = Drawing(
        780, 290,
        alt="Three stages in a row with a classifier, an exit, above each. All exits learn from the labels. The "
        "deepest exit's answer, detached, is also the soft target of the two shallower exits. An image whose answer "
        "is sure enough may leave at exit 1 or 2. Gradients flow from each exit into its stage and the stages before "
        "it, and none through the soft target.",
    )  # fmt: skip
    drawing.text(58, 240, "image", role="quiet")
    drawing.arrow([(90, 240), (136, 240)], role="student")
    for number in range(3):
        x = 140 + 220 * number
        drawing.box(x, 212, 130, 56, f"stage {number + 1}", role="student")
        drawing.box(x + 16, 116, 98, 50, f"exit {number + 1}", role="student")
        drawing.arrow([(x + 75, 210), (x + 75, 170)], role="student")
        drawing.arrow([(x + 45, 168), (x + 45, 208)], role="student", gradient=True)
        drawing.text(x - 56, 141, "labels", role="ce")
        drawing.arrow([(x - 24, 141), (x + 12, 141)], role="ce")
        if number < 2:
            drawing.arrow([(x + 132, 230), (x + 216, 230)], role="student")
            drawing.arrow([(x + 218, 254), (x + 134, 254)], role="student", gradient=True)
            drawing.arrow([(x + 98, 114), (x + 98, 78)], role="quiet", width=1.8)
            drawing.text(x + 110, 88, "leaves if sure", role="quiet", anchor="start", size=17)
    drawing.arrow([(645, 114), (645, 46), (425, 46), (425, 112)], role="kd")
    drawing.arrow([(425, 46), (205, 46), (205, 112)], role="kd")
    drawing.text(535, 26, "soft target, detached", role="kd")
    drawing.text(318, 278, "gradients", role="student", size=17)
    return drawing
