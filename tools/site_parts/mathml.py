r"""Formulas as MathML, written into the page when the site is built: the browser draws them without a script.

Turned down: MathJax, because its 1.2 MB of script would be a third of the budget of a page, and formulas would appear
late; KaTeX and Temml, because they need Node.js where the site is built. What is lost: an old browser (Chromium before
109) shows plain letters, and the font is the reader's.
"""

import re
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx

# Size commands and delimiters that the converter does not know, or draws with a space too much.
PLAIN = (
    (r"\\(?:[bB]ig+[lrm]?)(?![a-zA-Z])", ""),
    (r"\\lVert|\\rVert", r"\\|"),
    (r"\\lvert|\\rvert", "|"),
    (r"\\[td]frac(?![a-zA-Z])", r"\\frac"),
    (r"\\tfrac12", r"\\frac{1}{2}"),
)
# What the converter writes, and what a browser then draws as it is printed.
SPACE = '<mspace width="0.167em" />'
BAR = '<mo stretchy="false">&#x0007C;</mo>'
DRAWN = (
    # spaces around a function, unless what it is of stands in brackets, or the function has an index
    (rf"(?<!<msu[bp]>)(<mi>(?:log|ln|exp|cos|sin)</mi>)(?=<(?!mo |mo>|/)|{BAR})", rf"\1{SPACE}"),
    (r"(</mn>|</mi>|</msub>)(?=<mi>(?:log|ln|exp|cos|sin)</mi>)", rf"\1{SPACE}"),
    # 1{,}000 is one number
    (r"(?<=\d)</mn><mrow><mo>&#x0002C;</mo></mrow><mn>(?=\d{3}<)", ","),
    # a minus behind a bracket or a sign is no difference
    (r"(&#x00028;|&#x0003D;|&#x000B7;)</mo><mo>&#x02212;</mo>", r'\1</mo><mo form="prefix">&#x02212;</mo>'),
    (BAR, BAR.replace(">", ' lspace="0" rspace="0">', 1)),
)


def to_mathml(latex: str, *, display: bool) -> str:
    r"""Return a formula as MathML that carries its LaTeX as a label for those who cannot see it.

    >>> to_mathml(r"\\tfrac{1}{T}", display=False)[:26]
    '<math xmlns="http://www.w3'
    """
    text = latex.strip()
    for pattern, replacement in PLAIN:
        text = re.sub(pattern, replacement, text)
    if display and "\\\\" in text and "\\begin{" not in text:
        text = rf"\begin{{aligned}}{text}\end{{aligned}}"
    drawn = convert(text, display="block" if display else "inline")
    for pattern, replacement in DRAWN:
        drawn = re.sub(pattern, replacement, drawn)
    return drawn


def visit_math(self: Any, node: nodes.math) -> None:
    """Write an inline formula."""
    self.body.append(to_mathml(node.astext(), display=False))
    raise nodes.SkipNode


def visit_display(self: Any, node: nodes.math_block) -> None:
    """Write a formula on lines of its own, in a box that scrolls where the page is narrow."""
    self.body.append(f'<div class="formula" tabindex="0" role="group" aria-label="formula">'
                     f"{to_mathml(node.astext(), display=True)}</div>\n")  # fmt: skip
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the renderer that ``site/conf.py`` names."""
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_display, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
