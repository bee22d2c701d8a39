"""What every chapter's source has in common, read from its text: nothing is run here."""

import ast
import re
from itertools import pairwise
from pathlib import Path
from statistics import median

import pytest

from kdcourse.guesses import read_guesses

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted((ROOT / "notebooks" / "source").glob("*.py"))
LONGEST, LONGEST_MEDIAN = 20, 8  # lines of code cells
WIDEST = 100  # characters of a line of code: what a laptop shows beside the file browser


def marked_cells_of(text):
    """Return [(mark, body)] of a py:percent text, as it stands."""
    _, *parts = re.split(r"^# %%(.*)\n", "\n" + text, flags=re.MULTILINE)
    return list(zip(parts[::2], parts[1::2], strict=True))


def cells_of(text):
    """Return [(kind, body)] of a py:percent text; markdown without its comment signs."""
    cells = []
    for mark, body in marked_cells_of(text):
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
    wide = [line for body in code_of(text) for line in body.splitlines() if len(line) > WIDEST]
    return found + [f"a line of {len(line)} characters: {line.strip()[:50]} …" for line in wide]


def calls_of(text, name):
    tree = ast.parse("\n\n".join(code_of(text)))
    return [n for n in ast.walk(tree) if isinstance(n, ast.Call) and getattr(n.func, "id", None) == name]


def picture_problems(text):
    without = [call for call in calls_of(text, "show") if "alt" not in [k.arg for k in call.keywords]]
    return [f"show(…) without alt: {ast.unparse(call)}" for call in without]


def guess_problems(text):
    """A guess is a question of the package, under a key of this chapter; no letter is typed into a cell."""
    calls = [node for node in ast.walk(ast.parse("\n\n".join(code_of(text)))) if isinstance(node, ast.Call)]
    keys = [call.args[0].value for call in calls if getattr(call.func, "id", None) == "guess"]
    unknown = [key for key in keys if key not in read_guesses(key.split(".")[0])]
    found = [f"there is no guess {key!r}" for key in unknown] + (
        ["a guess is asked twice"] * (len(set(keys)) < len(keys))
    )
    return found + ["a letter is typed into a cell"] * ("check_prediction(" in text or "**Predict.**" in text)


def heading_problems(text):
    """One heading of the first level, which comes first; none skips a level."""
    plain = re.sub(r"```.*?```", "", markdown_of(text), flags=re.DOTALL)
    levels = [len(marks) for marks in re.findall(r"^(#+) ", plain, flags=re.MULTILINE)]
    jumps = [after - before for before, after in pairwise(levels)]
    good = levels[:1] == [1] and levels.count(1) == 1 and all(jump <= 1 for jump in jumps)
    return [] if good else [f"headings are out of order: {levels}"]


def claim_problems(text):
    """Assertions that guard the text stand in collapsed cells."""
    seen = [body for mark, body in marked_cells_of(text) if "claims" not in mark and "[markdown]" not in mark]
    count = sum(line.startswith("assert ") for body in seen for line in body.splitlines())
    return [f"{count} assertions stand in the learner's way"] if count > 5 else []


def link_problems(text, anchors):
    return [
        f"the glossary has no {link!r}" for link in re.findall(r"\]\(glossary:([^)]*)\)", text) if link not in anchors
    ]


def reference_problems(text):
    heads = re.findall(r"^##? (.+)$", markdown_of(text), flags=re.MULTILINE)
    return [] if "References" in heads else ["there is no section '## References'"]


def part_problems(text):
    """A chapter draws its method, and the learner writes a line of it."""
    tree = ast.parse("\n\n".join(code_of(text)))
    imports = [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module == "kdcourse.plots.drawings"]
    drawn = [alias.name for node in imports for alias in node.names if calls_of(text, alias.name)]
    found = [] if drawn else ["there is no drawing"]
    return found + ([] if calls_of(text, "check") else ["there is nothing to write"])


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


def test_every_guess_is_a_question_of_the_package(source):
    assert guess_problems(source.read_text(encoding="utf-8")) == []


def test_headings_have_one_first_level_and_skip_none(source):
    assert heading_problems(source.read_text(encoding="utf-8")) == []


def test_assertions_are_collapsed(source):
    assert claim_problems(source.read_text(encoding="utf-8")) == []


def test_glossary_links_lead_somewhere(source, anchors):
    assert link_problems(source.read_text(encoding="utf-8"), anchors) == []


def test_a_chapter_has_a_drawing_and_something_to_write(source):
    assert part_problems(source.read_text(encoding="utf-8")) == []


def test_a_chapter_names_its_sources(source):
    assert reference_problems(source.read_text(encoding="utf-8")) == []


GOOD = """\
# %% [markdown]
# # A chapter
#
# Some text, with a [word](glossary:dark-knowledge).

# %%
guess("00.one-pass")

# %%
from kdcourse.plots.drawings import draw_soft_targets
draw_soft_targets()
kl = check("02.kl", kl)
found = 1
show(ax, alt="a line that falls")

# %% [markdown]
# ## References
"""


def problems_of(text):
    checks = (title_problems, length_problems, picture_problems, guess_problems, heading_problems, claim_problems)
    found = [problem for check in (*checks, part_problems) for problem in check(text)]
    return found + link_problems(text, {"dark-knowledge"}) + reference_problems(text)


def test_a_chapter_in_order_has_no_problems():
    assert problems_of(GOOD) == []


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("# # A chapter", "# A chapter", "title"),
        ("# %% [markdown]\n# # A", "import torch\n\n# %% [markdown]\n# # A", "title"),
        ("found = 1\n", "print()\n" * 20, "code cell 2 has 24 lines"),
        ('guess("00.one-pass")\n', 'guess("00.one-pass")\n' + "print()\n" * 19, "the median code cell has"),
        ("found = 1\n", f"found = '{'1' * 92}'\n", "a line of 102 characters"),
        (', alt="a line that falls"', "", "without alt"),
        ("00.one-pass", "00.one-pas", "no guess '00.one-pas'"),
        ("found = 1\n", 'guess("00.one-pass")\n', "asked twice"),
        ("found = 1\n", 'check_prediction(prediction, answer="b")\n', "a letter is typed"),
        ("found = 1\n", "assert 1 == 1\n" * 6, "6 assertions"),
        ("# ## References", "# ### References", "out of order"),
        ("# ## References", "# # More\n#\n# ## References", "out of order"),
        ("glossary:dark-knowledge", "glossary:darkness", "no 'darkness'"),
        ("# ## References\n", "", "References"),
        ("draw_soft_targets()\n", "", "no drawing"),
        ('check("02.kl", kl)', "kl", "nothing to write"),
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
