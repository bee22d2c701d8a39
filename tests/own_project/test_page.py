"""docs/your-own-project.md: each use is short, and a test runs it."""

import count_lines
import own_project_page
import pytest

USES = own_project_page.uses()


@pytest.mark.parametrize("use", USES, ids=lambda use: f"{use.module}.{use.name}")
def test_a_use_takes_at_most_ten_lines_and_a_test_runs_it(use):
    assert 1 <= use.lines <= 10
    assert sum(bool(line.strip()) for line in use.code.splitlines()) <= 10
    assert use.tests


def test_the_page_has_the_code_of_every_use_and_every_example_of_others():
    page = own_project_page.page()
    assert len(USES) > 30
    for use in USES:
        assert f"**{use.title}**\n\n```python\n{use.code}\n```" in page
    assert page.count("https://github.com/") >= 5


def test_lines_are_counted_without_blanks_comments_imports_and_docstrings():
    text = '"""A page."""\nimport torch\n\n# a word\ndef f(x):\n    """Say\n    more."""\n    return x  # twice\n'
    assert count_lines.count_code(text) == 2
    assert count_lines.count_code("model = <your model>\nfrom x import y\n") == 1
    page = "Text\n```python\na = 1\n```\n.. code-block:: python\n\n    b = 2\n\n    c = 3\n\nText\n"
    assert count_lines.count_code(count_lines.code_blocks(page)) == 3
