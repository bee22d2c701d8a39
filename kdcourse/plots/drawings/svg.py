"""What drawings are made of: boxes, networks, bars and arrows on one sheet, as SVG text.

A sheet brings a soft background of its own, so that it is legible on every page; where the page's colour scheme is
dark, the sheet is dark too.
"""

import base64
import html
from collections.abc import Sequence

Point = tuple[float, float]

# Ink, paper and the colours of the course's charts; dark pages get lighter ones of the same hue.
LIGHT = {
    "paper": "#f7f5ef", "fill": "#ffffff", "ink": "#22262b", "quiet": "#5b6169", "teacher": "#22262b",
    "student": "#0c5bb9", "kd": "#913710", "ce": "#1c7a43", "peer": "#772a71",
}  # fmt: skip
DARK = {
    "paper": "#20242a", "fill": "#2b3038", "ink": "#e8eaed", "quiet": "#a9b0b9", "teacher": "#e8eaed",
    "student": "#79b8ff", "kd": "#f0a07c", "ce": "#6cd39a", "peer": "#d7a3d2",
}  # fmt: skip
SIZE = 19  # of text: still legible when the drawing is shown at half its width


class Drawing:
    """A sheet that shapes are put on, in the order in which they are drawn.

    Parameters
    ----------
    width, height : float
        Of the sheet. Text of the usual size is 19 high.
    alt : str
        What the drawing shows, for people who cannot see it.

    Raises
    ------
    ValueError
        If there is no description.

    Examples
    --------
    >>> drawing = Drawing(200, 80, alt="A box that says student.")
    >>> drawing.box(20, 15, 160, 50, "student", role="student")
    >>> drawing.to_svg().count("<rect")
    2
    """

    def __init__(self, width: float, height: float, *, alt: str) -> None:
        if not alt.strip():
            raise ValueError("a drawing needs a description in words: some readers cannot see it.")
        self.width, self.height, self.alt = width, height, " ".join(alt.split())
        self._shapes: list[str] = []

    def text(
        self, x: float, y: float, text: str, *, role: str = "ink", size: float = SIZE, anchor: str = "middle",
        bold: bool = False,
    ) -> None:  # fmt: skip
        """Write text whose middle line is at ``y``; ``anchor`` is start, middle or end."""
        weight = ' font-weight="600"' if bold else ""
        self._shapes.append(
            f'<text x="{x:g}" y="{y + 0.35 * size:g}" font-size="{size:g}" text-anchor="{anchor}"{weight} '
            f"{_fill(role)}>{html.escape(text)}</text>"
        )

    def box(
        self, x: float, y: float, width: float, height: float, label: str | Sequence[str] = "", *, role: str = "ink",
        dashed: bool = False, size: float = SIZE,
    ) -> None:  # fmt: skip
        """Draw a rounded box with one or several lines of text in its middle."""
        dash = ' stroke-dasharray="7 5"' if dashed else ""
        self._shapes.append(
            f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="9" stroke-width="2.4"{dash} '
            f"{_fill('fill')} {_stroke(role)}/>"
        )
        lines = [label] if isinstance(label, str) else list(label)
        for number, line in enumerate(lines):
            self.text(x + width / 2, y + height / 2 + 1.2 * size * (number - (len(lines) - 1) / 2), line, role=role,
                      size=size)  # fmt: skip

    def network(
        self, x: float, y: float, width: float, height: float, layers: Sequence[float], label: str, *, role: str,
        frozen: bool = False,
    ) -> None:  # fmt: skip
        """Draw a network as its layers, upright bars whose heights are shares of ``height``, with its name below."""
        step = width / len(layers)
        for number, share in enumerate(layers):
            self._shapes.append(
                f'<rect x="{x + (number + 0.25) * step:g}" y="{y + height * (1 - share) / 2:g}" '
                f'width="{step / 2:g}" height="{height * share:g}" rx="4" {_fill(role)}/>'
            )
        self.text(x + width / 2, y + height + 0.9 * SIZE, label, role=role, bold=True)
        if frozen:
            self.lock(x + width / 2 + 5.6 * len(label) + 10, y + height + 0.9 * SIZE, role=role)

    def lock(self, x: float, y: float, *, role: str = "ink") -> None:
        """Draw a padlock whose left middle is at a point: this part does not learn."""
        self._shapes.append(
            f'<path d="M{x + 3.5:g} {y - 1:g} v-4.5 a5 5 0 0 1 10 0 v4.5" fill="none" stroke-width="2.4" '
            f"{_stroke(role)}/>"
            f'<rect x="{x:g}" y="{y - 2:g}" width="17" height="12" rx="2.5" {_fill(role)}/>'
        )

    def bars(
        self, x: float, y: float, width: float, height: float, values: Sequence[float], *, role: str = "ink"
    ) -> None:
        """Draw numbers from 0 to 1 as bars that stand on a line."""
        step = width / len(values)
        for number, value in enumerate(values):
            tall = max(height * value, 1.2)
            self._shapes.append(
                f'<rect x="{x + (number + 0.14) * step:g}" y="{y + height - tall:g}" width="{0.72 * step:g}" '
                f'height="{tall:g}" {_fill(role)}/>'
            )
        self.line([(x, y + height), (x + width, y + height)], role=role, width=1.4)

    def line(self, points: Sequence[Point], *, role: str = "ink", width: float = 2.2, dashed: bool = False) -> None:
        """Draw straight lines from point to point."""
        self._shapes.append(_path(points, role=role, width=width, dashed=dashed))

    def arrow(self, points: Sequence[Point], *, role: str = "ink", gradient: bool = False, width: float = 2.4) -> None:
        """Draw an arrow through points; a dashed one is the way of a gradient."""
        (x0, y0), (x1, y1) = points[-2:]
        length = ((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5
        along, across = ((x1 - x0) / length, (y1 - y0) / length), (-(y1 - y0) / length, (x1 - x0) / length)
        back = x1 - 12 * along[0], y1 - 12 * along[1]
        head = [(x1, y1), *((back[0] + side * 6.5 * across[0], back[1] + side * 6.5 * across[1]) for side in (1, -1))]
        self._shapes.append(_path([*points[:-1], back], role=role, width=width, dashed=gradient))
        corners = " ".join(f"{a:g},{b:g}" for a, b in head)
        self._shapes.append(f'<polygon points="{corners}" {_fill(role)}/>')

    def circle(self, x: float, y: float, radius: float, *, role: str = "ink", filled: bool = True) -> None:
        """Draw a disc, or a ring."""
        inside = _fill(role) if filled else _fill("fill")
        self._shapes.append(
            f'<circle cx="{x:g}" cy="{y:g}" r="{radius:g}" stroke-width="2.2" {inside} {_stroke(role)}/>'
        )

    def cells(self, x: float, y: float, size: float, shades: Sequence[Sequence[float]], *, role: str = "ink") -> None:
        """Draw a grid of squares, each as dark as its number from 0 to 1 says."""
        for i, row in enumerate(shades):
            for j, shade in enumerate(row):
                self._shapes.append(
                    f'<rect x="{x + j * size:g}" y="{y + i * size:g}" width="{size:g}" height="{size:g}" '
                    f'stroke-width="0.8" fill-opacity="{shade:.2g}" {_fill(role)} {_stroke("quiet")}/>'
                )

    def legend(self, x: float, y: float) -> None:
        """Explain the three signs that all drawings share, in one line."""
        self.arrow([(x, y), (x + 44, y)], role="quiet")
        self.text(x + 54, y, "values", role="quiet", anchor="start", size=17)
        self.arrow([(x + 134, y), (x + 178, y)], role="quiet", gradient=True)
        self.text(x + 188, y, "gradients", role="quiet", anchor="start", size=17)
        self.lock(x + 292, y, role="quiet")
        self.text(x + 318, y, "frozen", role="quiet", anchor="start", size=17)

    def to_html(self) -> str:
        """Return the sheet as an image inside HTML: notebooks keep it and its description, trusted or not."""
        data = base64.b64encode(self.to_svg().encode()).decode()
        return (
            f'<img src="data:image/svg+xml;base64,{data}" alt="{html.escape(self.alt)}" width="{self.width:g}" '
            'style="max-width: 100%; height: auto">'
        )

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        return {"text/html": self.to_html(), "text/plain": self.alt}

    def to_svg(self) -> str:
        """Return the sheet as SVG text, with its description inside."""
        alt = html.escape(self.alt)
        paper = f'<rect width="{self.width:g}" height="{self.height:g}" rx="12" {_fill("paper")}/>'
        shapes = "".join([paper, *self._shapes])
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width:g} {self.height:g}" '
            f'width="{self.width:g}" role="img" aria-label="{alt}" '
            'font-family="system-ui, -apple-system, Segoe UI, DejaVu Sans, sans-serif">'
            f"<title>{alt}</title><style>{_dark_rules(shapes)}</style>{shapes}</svg>"
        )


def _dark_rules(shapes: str) -> str:
    """Return the style rules that repaint these shapes where the page's colour scheme is dark."""
    rules = [
        f"[{sign}]{{{kind}:{colour}}}"
        for kind in ("fill", "stroke")
        for role, colour in DARK.items()
        if (sign := f'data-{kind}="{role}"') in shapes
    ]
    return f"@media (prefers-color-scheme: dark){{{''.join(rules)}}}"


def _fill(role: str) -> str:
    # The attribute serves programs that know no style sheets; the sheet's rules follow the page.
    return f'fill="{LIGHT[role]}" data-fill="{role}"'


def _stroke(role: str) -> str:
    return f'stroke="{LIGHT[role]}" data-stroke="{role}"'


def _path(points: Sequence[Point], *, role: str, width: float, dashed: bool) -> str:
    dash = ' stroke-dasharray="8 6"' if dashed else ""
    way = " ".join(f"{x:g},{y:g}" for x, y in points)
    return (
        f'<polyline points="{way}" fill="none" stroke-width="{width:g}" stroke-linejoin="round"{dash} {_stroke(role)}/>'
    )
