"""Count lines of code, for the table of docs/your-own-project.md: without blank lines, comments and imports.

``python tools/count_lines.py FOLDER`` counts the examples of other libraries in git clones that lie in FOLDER, each at
the commit that tools/lines_of_peers.json names, and writes the counts into that record.
"""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RECORD = ROOT / "tools" / "lines_of_peers.json"


def count_code(text: str) -> int:
    """Count the lines that are neither blank, nor a comment, nor an import, nor inside a docstring."""
    lines = [line.strip() for line in _without_docstrings(text).splitlines()]
    return sum(bool(line) and not line.startswith(("#", "import ", "from ", "---")) for line in lines)


def code_blocks(text: str) -> str:
    """Return the Python code in a page of Markdown or reStructuredText, or in a notebook."""
    if text.lstrip().startswith("{"):
        cells = json.loads(text)["cells"]
        return "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    fenced = re.findall(r"(?ms)^```\s*python\s*\n(.*?)^```", text)
    indented = re.findall(r"(?m)^\.\. code-block:: python\n\n((?:    .*\n|\s*\n)*)", text)
    return "\n".join([*fenced, *indented])


def count_peers(folder: Path) -> None:
    """Count each example of the record anew, where there is a clone of its repository."""
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    for example in record["examples"]:
        clone = folder / example["repository"].replace("/", "+") / "repo"
        if not clone.exists():
            print(f"{example['repository']}: no clone in {folder}; its counts stay")
            continue
        commit = example["commit"]
        example["lines"] = {path: _count_file(clone, commit, path) for path in example["lines"]}
        if "start" in example:
            example["given"] = _count_file(clone, commit, next(iter(example["lines"])), example["start"])
    RECORD.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def _count_file(clone: Path, commit: str, path: str, start: str = "") -> int:
    command = ["git", "-C", str(clone), "show", f"{commit}:{path}"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    code = code_blocks(text) if path.endswith((".md", ".rst", ".ipynb")) else text
    return count_code(start + code.partition(start)[2] if start else code)


def _without_docstrings(text: str) -> str:
    """Cut docstrings where the text is Python; a page's code may have holes such as ``<your model>``."""
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return text
    lines = text.splitlines()
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        first = body[0] if isinstance(body, list) and body else None
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
            for number in range(first.lineno - 1, first.end_lineno or first.lineno):
                lines[number] = ""
    return "\n".join(lines)


if __name__ == "__main__":
    count_peers(Path(sys.argv[1]))
