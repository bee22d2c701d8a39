"""What every chapter's source has in common, read from its text: nothing is run here."""

import ast
import re
from pathlib import Path
from statistics import median

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted((ROOT / "notebooks" / "source").glob("*.py"))
LONGEST, LONGEST_MEDIAN = 20, 10  # lines of code cells
WITHOUT_REFERENCES = ("00_",)


def cells_of(text):
    """Return [(kind, body)] of a py:percent text; markdown without its comment signs."""
    _, *parts = re.split(r"^# %%(.*)\n", "\n" + text, flags=re.MULTILINE)
    cells = []
    for mark, body in zip(parts[::2], parts[1::2], strict=True):
        kind = "markdown" if "[markdown]" in mark else "code"
        body = re.sub(r"^# ?", "", body, flags=re.MULTILINE) if kind == "markdown" else body
        cells.append((kind, body.strip()))
    return cells


def slug_of(heading):
    """Return the anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def code_of(text):
    return [body for kind, body in cells_of(text) if kind == "code"]


def markdown_of(text):
    return "\n\n".join(body for kind, body in cells_of(text) if kind == "markdown")


def title_problems(text):
    first = text.splitlines()[:2]
    good = first[:1] == ["# %% [markdown]"] and re.match(r"# # \S", "".join(first[1:]))
    return [] if good else ["the first cell is not markdown that begins with the title, '# …'"]


def length_problems(text):
    # Black-style blank lines between definitions are layout, not reading.
    lengths = [len([line for line in body.splitlines() if line.strip()]) for body in code_of(text)]
    found = [f"code cell {number} has {n} lines" for number, n in enumerate(lengths, 1) if n > LONGEST]
    if lengths and median(lengths) > LONGEST_MEDIAN:
        found.append(f"the median code cell has {median(lengths)} lines")
    return found


def calls_of(text, name):
    tree = ast.parse("\n\n".join(code_of(text)))
    return [n for n in ast.walk(tree) if isinstance(n, ast.Call) and getattr(n.func, "id", None) == name]


def picture_problems(text):
    without = [call for call in calls_of(text, "show") if "alt" not in [k.arg for k in call.keywords]]
    return [f"show(…) without alt: {ast.unparse(call)}" for call in without]


def prediction_problems(text):
    """Each guess is checked before the next one is made, so that no guess stays unanswered."""
    order = re.findall(r"^(prediction)\s*=|^\s*(check_prediction)\(", "\n".join(code_of(text)), flags=re.MULTILINE)
    names = [guess or check for guess, check in order]
    whole = names == ["prediction", "check_prediction"] * (len(names) // 2)
    return [] if whole else [f"guesses and checks do not alternate: {names}"]


def choice_problems(text):
    """The answer is one of the letters on offer, and the guess that stands there is as well."""
    offered = [set(re.findall(r"\(([a-z])\)", part)) for part in markdown_of(text).split("**Predict.**")[1:]]
    answers = [
        next(k.value.value for k in call.keywords if k.arg == "answer") for call in calls_of(text, "check_prediction")
    ]
    if len(offered) != len(answers):
        return [f"{len(offered)} paragraphs say Predict, {len(answers)} are checked"]
    return [
        f"{answer!r} is not among {sorted(o)}" for o, answer in zip(offered, answers, strict=True) if answer not in o
    ]


def link_problems(text, anchors):
    return [
        f"the glossary has no {link!r}" for link in re.findall(r"\]\(glossary:([^)]*)\)", text) if link not in anchors
    ]


def reference_problems(text):
    heads = re.findall(r"^##? (.+)$", markdown_of(text), flags=re.MULTILINE)
    return [] if "References" in heads else ["there is no section '## References'"]


@pytest.fixture(scope="module")
def anchors():
    glossary = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    return {slug_of(line.lstrip("#")) for line in glossary.splitlines() if line.startswith("#")}


@pytest.fixture(params=SOURCES, ids=[path.stem for path in SOURCES])
def source(request):
    return request.param


def test_there_are_chapters_to_look_at():
    assert SOURCES


def test_a_chapter_opens_with_its_title(source):
    assert title_problems(source.read_text(encoding="utf-8")) == []


def test_code_cells_are_short(source):
    assert length_problems(source.read_text(encoding="utf-8")) == []


def test_every_picture_is_described_in_words(source):
    assert picture_problems(source.read_text(encoding="utf-8")) == []


def test_every_guess_is_answered(source):
    text = source.read_text(encoding="utf-8")
    assert prediction_problems(text) + choice_problems(text) == []


def test_glossary_links_lead_somewhere(source, anchors):
    assert link_problems(source.read_text(encoding="utf-8"), anchors) == []


def test_a_chapter_names_its_sources(source):
    if source.name.startswith(WITHOUT_REFERENCES):
        pytest.skip("the first chapter tells how to work, and rests on no paper")
    assert reference_problems(source.read_text(encoding="utf-8")) == []


GOOD = """\
# %% [markdown]
# # A chapter
#
# **Predict.** (a) yes  (b) no, with a [word](glossary:dark-knowledge)

# %%
prediction = "a"

# %%
check_prediction(prediction, answer="b", because="so it is")
show(ax, alt="a line that falls")

# %% [markdown]
# ## References
"""


def problems_of(text):
    checks = (title_problems, length_problems, picture_problems, prediction_problems, choice_problems)
    found = [problem for check in checks for problem in check(text)]
    return found + link_problems(text, {"dark-knowledge"}) + reference_problems(text)


def test_a_chapter_in_order_has_no_problems():
    assert problems_of(GOOD) == []


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("# # A chapter", "# A chapter", "title"),
        ("# %% [markdown]\n# # A", "import torch\n\n# %% [markdown]\n# # A", "title"),
        ('prediction = "a"\n', 'prediction = "a"\n' + "print()\n" * 20, "code cell 1 has 21 lines"),
        ('prediction = "a"\n', 'prediction = "a"\n' + "print()\n" * 19, "the median code cell has 11"),
        (', alt="a line that falls"', "", "without alt"),
        ('check_prediction(prediction, answer="b", because="so it is")\n', "", "do not alternate"),
        ('answer="b"', 'answer="d"', "not among"),
        ("**Predict.** (a)", "(a)", "0 paragraphs say Predict, 1 are checked"),
        ("glossary:dark-knowledge", "glossary:darkness", "no 'darkness'"),
        ("# ## References\n", "", "References"),
    ],
)
def test_each_gate_stops_what_it_is_there_for(before, after, told):
    assert before in GOOD
    assert any(told in problem for problem in problems_of(GOOD.replace(before, after)))


@pytest.mark.parametrize(
    ("heading", "slug"),
    [
        ("Kullback-Leibler divergence", "kullback-leibler-divergence"),
        ("T², squared", "t²-squared"),
        ("teacher's logits", "teachers-logits"),
    ],
)
def test_an_anchor_is_made_as_github_makes_it(heading, slug):
    assert slug_of(heading) == slug
