"""What the site is built with, without building it."""

import base64
import re

import nbformat
import numpy as np
import pytest
import torch
from chapter_page import ROOT
from notebook_parts import project
from torch import nn

pytest.importorskip("sphinx", reason='the site is not built here: pip install "kdcourse[site]"')
pytest.importorskip("latex2mathml", reason='the site is not built here: pip install "kdcourse[site]"')
from site_parts import collecting, stylesheets
from site_parts.assets import quantise, to_bytes
from site_parts.mathml import to_mathml
from site_parts.pages import addresses

REPOSITORY, VERSION = project()
CHAPTERS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def text_of(path):
    return "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown")


@pytest.mark.parametrize(
    ("latex", "part"),
    [
        (r"0.7 \log p", '<mn>0.7</mn><mspace width="0.167em" /><mi>log</mi><mspace width="0.167em" /><mi>p</mi>'),
        (r"\log(p)", '<mi>log</mi><mo stretchy="false">&#x00028;</mo>'),
        (r"\log_2 3", "<msub><mi>log</mi><mn>2</mn></msub>"),
        (r"M = 1{,}000", "<mn>1,000</mn>"),
        (r"0 \cdot (-\infty)", '<mo form="prefix">&#x02212;</mo><mo>&#x0221E;</mo>'),
        (r"|w|", '<mo stretchy="false" lspace="0" rspace="0">&#x0007C;</mo><mi>w</mi>'),
    ],
)
def test_formulas_are_spaced_as_they_are_printed(latex, part):
    assert part in to_mathml(latex, display=False)


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_every_formula_of_a_chapter_becomes_mathml_without_leftover_latex(path):
    text = re.sub(r"```.*?```|`[^`]*`", "", text_of(path), flags=re.DOTALL)
    displays = re.findall(r"\$\$(.+?)\$\$", text, flags=re.DOTALL)
    inline = re.findall(
        r"(?<![\\$])\$(?![\s$])([^$\n]+?)(?<!\s)\$(?!\d)", re.sub(r"\$\$.+?\$\$", "", text, flags=re.DOTALL)
    )
    for formulas, display in ((displays, True), (inline, False)):
        for formula in formulas:
            made = to_mathml(formula, display=display)
            assert made.startswith("<math"), formula
            assert "\\" not in re.sub(r"<annotation.*?</annotation>", "", made), (formula, made)


def test_a_link_to_what_the_site_does_not_hold_leads_to_the_repository():
    page, held = ROOT / "docs" / "traps.md", {ROOT / "docs" / "glossary.md"}
    text = "[a](glossary.md#alpha) [b](../kdcourse/zoo.py) [c](https://x.org) [d](#here) [e](../exercises)"
    assert collecting.relink(text, page, held, ROOT, REPOSITORY) == (
        f"[a](glossary.md#alpha) [b]({REPOSITORY}/blob/main/kdcourse/zoo.py) [c](https://x.org) [d](#here) "
        f"[e]({REPOSITORY}/tree/main/exercises)"
    )


def test_a_chapter_loses_its_badge_and_its_plumbing_is_folded_under_a_name():
    notebook = collecting.as_page(nbformat.read(CHAPTERS[0], as_version=4))
    assert "colab-badge" not in notebook.cells[0].source
    folded = [cell for cell in notebook.cells if "hide-input" in cell.metadata.get("tags", [])]
    claims = [cell for cell in notebook.cells if "claims" in cell.metadata.get("tags", [])]
    assert len(folded) > len(claims) > 0
    assert {cell.metadata.mystnb.code_prompt_show for cell in claims} == {collecting.CLAIMS}


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapter_says_its_minutes(path):
    assert 5 <= int(collecting.minutes(path)) <= 180


def test_addresses_have_the_form_that_colab_and_binder_understand():
    links = addresses("notebooks/00_start_here", REPOSITORY, VERSION)
    name = REPOSITORY.removeprefix("https://github.com/")
    assert (
        links["colab"]
        == f"https://colab.research.google.com/github/{name}/blob/v{VERSION}/notebooks/00_start_here.ipynb"
    )
    assert (
        links["binder"]
        == f"https://mybinder.org/v2/gh/{name}/v{VERSION}?urlpath=lab/tree/notebooks/00_start_here.ipynb"
    )
    assert links["download"] == "00_start_here.ipynb"


@pytest.mark.parametrize(
    ("css", "left"),
    [
        (".a{x:y}.b{x:y}", ".a{x:y}"),
        (".a:not(.b)>p{x:y}", ".a:not(.b)>p{x:y}"),
        ("@media print{.b{x:y}}html{x:y}", "html{x:y}"),
        ("@font-face{src:url(a.woff2)}", "@font-face{src:url(a.woff2)}"),
        ("/* .a{ */.b,.a{x:y}", ".a{x:y}"),
    ],
)
def test_a_rule_stays_if_a_page_can_hold_what_it_asks_for(css, left):
    assert stylesheets.purge(css, {"a"}) == left


@pytest.mark.parametrize("bits", [8, 12])
def test_packed_numbers_come_back_as_they_were(bits):
    largest = 2 ** (bits - 1) - 1
    whole = torch.tensor([[-largest, largest, 0], [1, -1, 7]], dtype=torch.float32)
    content = np.frombuffer(base64.b64decode(base64.b64encode(to_bytes(whole, bits))), dtype=np.uint8).astype(int)
    if bits == 8:
        numbers = np.where(content > 127, content - 256, content)
    else:
        low, middle, high = content.reshape(-1, 3).T
        numbers = np.stack([low | (middle & 15) << 8, middle >> 4 | high << 4], axis=1).ravel()
        numbers = np.where(numbers > 2047, numbers - 4096, numbers)
    assert numbers.tolist() == whole.flatten().int().tolist()


def test_rounding_that_makes_up_for_its_losses_beats_rounding_each_weight():
    torch.manual_seed(0)
    inputs = torch.randn(500, 5) @ torch.randn(5, 40) + 0.1 * torch.randn(500, 40)  # correlated, as pixels are
    weight = nn.Linear(40, 30).weight.detach()
    whole, scales = quantise(weight, inputs, 4)
    plain = (weight / scales[:, None]).round() * scales[:, None]

    def error(rounded):
        return float((inputs @ (rounded - weight).T).square().mean())

    assert error(whole * scales[:, None]) < 0.5 * error(plain)
    assert whole.abs().max() <= 7
