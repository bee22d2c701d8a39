"""The full-size experiments of chapters 03 to 07: the chapter's own source, run with ``FULL = True``.

``python -m experiments.chapters 03 05`` runs chapters 03 and 05. A chapter leaves its tables in its dictionary
``comparisons``; they are written to ``experiments/results/chapter03.json`` and so on. Assertions are left out: they
hold the prose to what the small run shows, and a full-size result that says otherwise must be recorded too.
"""

import argparse
import ast
import builtins
import json
import re
import time
from pathlib import Path
from types import CodeType

import matplotlib

from experiments._record import write_json
from kdcourse.training import choose_threads

SOURCES = Path(__file__).resolve().parent.parent / "notebooks" / "source"
SWITCH = "FULL = False"


def compile_full_size(path: Path) -> CodeType:
    """Compile the code cells of a chapter with its switch turned on and its assertions taken out."""
    text = path.read_text(encoding="utf-8")
    if len(re.findall(rf"^{SWITCH}\b", text, flags=re.MULTILINE)) != 1:
        raise ValueError(f"{path.name} must have one line that begins with {SWITCH!r}: it is what makes it full size.")
    tree = ast.parse(re.sub(rf"^{SWITCH}\b", "FULL = True", text, flags=re.MULTILINE))
    return compile(_WithoutAssertions().visit(tree), str(path), "exec")


class _WithoutAssertions(ast.NodeTransformer):
    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        return ast.copy_location(ast.Pass(), node)


def run(number: str) -> Path:
    """Run a chapter at full size and write its record."""
    (path,) = SOURCES.glob(f"{number}_*.py")
    start = time.perf_counter()
    namespace: dict = {"__name__": "__main__", "display": print, "__builtins__": builtins}
    exec(compile_full_size(path), namespace)
    tables = {name: json.loads(table.to_json(orient="records")) for name, table in namespace["comparisons"].items()}
    if not tables:
        raise ValueError(f"{path.name} left no table in its dictionary 'comparisons'.")
    return write_json(
        f"chapter{number}",
        {
            "command": f"python -m experiments.chapters {number}",
            "about": namespace.get("about_full", ""),
            "minutes": round((time.perf_counter() - start) / 60, 1),
            "comparisons": tables,
        },
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m experiments.chapters")
    parser.add_argument("chapters", nargs="*", default=["03", "04", "05", "06", "07"])
    matplotlib.use("Agg")
    choose_threads()
    for number in parser.parse_args().chapters:
        print(f"== chapter {number}: {run(number)}", flush=True)
