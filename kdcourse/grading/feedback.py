"""A page of feedback for each submission: points, what was wrong, the learner's own cells, the hints.

The grader. Everything that a learner wrote is escaped, and what would reorder or hide text is written out; hidden
tests are not shown.
"""

import re
from collections.abc import Mapping
from html import escape as escape_html
from typing import Any

from .escaping import visible
from .notebooks import grade_id
from .points import number, tasks_of
from .results import Result

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
  :root {{ color-scheme: light dark; }}
  body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 50rem; margin: 2rem auto; padding: 0 1rem; }}
  table {{ border-collapse: collapse; }}
  th, td {{ text-align: left; padding: .2rem 1rem .2rem 0; border-bottom: 1px solid #8886; }}
  pre {{ overflow-x: auto; padding: .6rem; border: 1px solid #8886; border-radius: 4px; }}
  .message {{ border-left: 4px solid #d55e00; padding-left: .8rem; white-space: pre-wrap; }}
</style>
</head>
<body>
{body}
</body>
</html>
"""


def feedback_page(result: Result, key: Mapping[str, Any] | None, *, show_hidden: bool = False) -> str:
    """Return a page for a learner.

    Parameters
    ----------
    result : Result
        With ``learner``, ``exercise`` and ``file``.
    key : dict, optional
        Its tasks' titles and hints are shown.
    show_hidden : bool
        Show what hidden tests say.
    """
    tasks = tasks_of(result, show_hidden=show_hidden)
    title = f"{result.exercise or result.file}: {result.learner}"
    parts = [f"<h1>{escape(title)}</h1>", f"<p>{_summary(result)}</p>"]
    if tasks:
        rows = [f"<tr><td>{escape(t.name)}</td><td>{number(t.points)} of {number(t.max)}</td></tr>" for t in tasks]
        parts.append(f"<table><tr><th>task</th><th>points</th></tr>{''.join(rows)}</table>")
    for task in tasks:
        heading, hints = _text_of(task.name, key)
        parts.append(
            f"<h2>{escape(heading or task.name)}</h2><p>{number(task.points)} of {number(task.max)} points</p>"
        )
        parts += [f'<p class="message">{escape(message)}</p>' for message in task.messages]
        for name, source, error in task.sources:
            parts.append(f"<pre><code>{escape(source)}</code></pre>")
            if error:
                parts.append(f'<p class="message">{escape(name)}: {escape(error)}</p>')
        if task.points < task.max:
            parts += [
                f"<details><summary>{escape(summary)}</summary><p>{escape(text)}</p></details>"
                for summary, text in hints
            ]
    return _PAGE.format(title=escape(title), body="\n".join(parts))


def escape(text: str) -> str:
    """Return what a learner wrote as text for a page."""
    return escape_html(visible(text))


def _summary(result: Result) -> str:
    text = f"<strong>{number(result.total)} of {number(result.max)} points.</strong>"
    told = {
        "graded": "",
        "stopped": " A cell did not come to an end; the others were graded without it.",
        "tampered": f" Not graded: {result.reason}. Talk to your teacher if this is wrong.",
        "ungraded": f" Not graded: {result.reason}",
    }[result.status]
    return text + escape(told)


def _text_of(task: str, key: Mapping[str, Any] | None) -> tuple[str, list[tuple[str, str]]]:
    """Return the title and the folded hints of a task's text."""
    for cell in (key or {"cells": []})["cells"]:
        name = grade_id(cell) or ""
        if cell["cell_type"] == "markdown" and re.match(rf"{re.escape(task)}(?!\d)", name):
            title = re.search(r"^#+\s*(.+)$", cell["source"], re.MULTILINE)
            hints = re.findall(r"<summary>(.*?)</summary>(.*?)</details>", cell["source"], re.DOTALL)
            return title[1] if title else "", [(summary.strip(), text.strip()) for summary, text in hints]
    return "", []
