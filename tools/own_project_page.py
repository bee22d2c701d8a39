"""docs/your-own-project.md, made from the code that tests/own_project runs, and from the counts of other libraries.

``tools/update_docs.py`` writes the page.
"""

import ast
import json
import re
import textwrap
from pathlib import Path
from typing import NamedTuple

from count_lines import RECORD, count_code

ROOT = Path(__file__).resolve().parent.parent
USES, TESTS = ROOT / "tests" / "own_project" / "uses", ROOT / "tests" / "own_project"
MODULES = ("data", "teachers", "heads", "loop", "features", "trainers", "out")
GITHUB = "https://github.com/"


class Use(NamedTuple):
    """One use: what it is for, the code that a user writes, and the tests that run it."""

    section: str
    module: str
    name: str
    title: str
    code: str
    tests: list[str]

    @property
    def lines(self) -> int:
        """Lines of code that the user writes, without imports."""
        return count_code(self.code)


HEAD = """# Your own project

Your data, your teacher, your head and your loop: each use below takes at most ten lines. The code is not written for
this page. It is cut from [tests/own_project/uses](../tests/own_project/uses), which the tests run, so what you see
here works. Names such as `student`, `teacher` and `loader` are yours.

The two ideas of the package stay what they are. An objective is a function, `objective(student, *batch, **knobs)`,
which returns the weighted terms of the loss. The loop, `kdcourse.training.train`, does not know the method. So
everything here works for every objective, yours too, and an objective also works inside somebody else's loop.

## In one table

*Lines* are those that you write, without imports and comments. *Tested* counts the tests that run just this code.
"""

NOTES = """## What is exact, and what is not

- **A run that is stopped and continued** ends in the same bits, for tensors and for a `DataLoader`, with worker
  processes too. What is random in a loader draws from numbers of its own, which `seed` and the epoch decide. The
  batches of a broken epoch are loaded again and dropped.
- **Not exact**: augmentation in worker processes that live on from epoch to epoch (`persistent_workers=True`), random
  numbers from generators that neither torch, NumPy nor Python's `random` owns, and streams that never give the same
  samples twice.
- **A checkpoint of a loader** knows the kind of data set, the count of samples and the batch size, but not the
  samples. Of tensors it knows the content.
- **A batch in pieces** (`accumulate`) gives the step of the whole batch to 1e-6, for tokens and pixels that are
  ignored too. It does not with batch normalisation, with class weights, or with a loss that compares samples: they
  see a piece.
- **Several processes**: each records the losses of its own half of a batch, and each writes its own checkpoint. Give
  them different file names.
- **In the Trainer of transformers and in Lightning** the same steps come out as with `distill`, to 1e-5. Tests hold
  that, with accumulated batches too. The teacher is no part of the module: the optimizer does not see it and no
  checkpoint has it. So put it on the training's device yourself. Without `model_accepts_loss_kwargs = False` the
  Trainer adds up the pieces of an accumulated batch and does not average them, for every model whose `forward` takes
  `**kwargs` (trap 100).
- **The best weights** are chosen on what `evaluate` measures. Measure on images held out for that, not on the test
  set.
- **A cache of the teacher's answers** is refused under augmentation. Without augmentation, and with tensors, it is
  made for you.
- **`capture` and `fitnets`** read any layer that returns a tensor. A layer that returns a tuple, such as
  `nn.MultiheadAttention`, is an error that says so: name a layer inside it. A compiled model runs without hooks,
  which is an error too: capture the model that it was made of.
- **A probability of 0**, which forests often give, becomes the smallest number of float32, so that its log is finite.

## What other libraries need

Lines in the examples that their authors show for distilling a classifier, without blank lines, comments and imports.
*Whole* is the example from its first line to its last, *given models* the part from given models and data on. The
examples differ in what they do, so read the counts as sizes, not as a race. Counted by `tools/count_lines.py`,
{date}.
"""


def uses() -> list[Use]:
    """Every use, in the order of the page."""
    return [use for module in MODULES for use in _uses_of(module)]


def page() -> str:
    """The whole page."""
    every = uses()
    sections = list(dict.fromkeys(use.section for use in every))
    parts = [HEAD, _table(every)]
    for section in sections:
        parts.append(f"## {section}\n\n```python\n{_imports_of(section, every)}\n```\n")
        parts += [f"**{use.title}**\n\n```python\n{use.code}\n```\n" for use in every if use.section == section]
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    return "\n".join([*parts, NOTES.format(date=record["date"]), _peers(record["examples"])])


def _uses_of(module: str) -> list[Use]:
    source = (USES / f"{module}.py").read_text(encoding="utf-8")
    tree = ast.parse(source)
    section = (ast.get_docstring(tree) or "").rstrip(".")
    return [_use(section, module, node, source) for node in tree.body if isinstance(node, ast.FunctionDef)]


def _use(section: str, module: str, function: ast.FunctionDef, source: str) -> Use:
    title, first = ast.get_docstring(function) or "", function.body[0].end_lineno or 0
    code = textwrap.dedent("\n".join(source.splitlines()[first : function.end_lineno])).strip()
    code = re.sub(r"(?m)^return ", "", code)  # it is the body of a function there, and stands alone here
    code = re.sub(r"(?m)^( .*)\n\n(?=\S)", r"\1\n\n\n", code)  # two blank lines after a function, as ruff has it
    return Use(section, module, function.name, title, code, _tests_of(module, function.name))


def _tests_of(module: str, name: str) -> list[str]:
    """The tests whose source calls the use, as ``module.name`` in the test file of the module."""
    tree = ast.parse((TESTS / f"test_{module}.py").read_text(encoding="utf-8"))
    texts = {node.name: ast.unparse(node) for node in tree.body if isinstance(node, ast.FunctionDef)}
    scripts = {
        ast.unparse(node.targets[0]): ast.unparse(node.value) for node in tree.body if isinstance(node, ast.Assign)
    }
    for test, text in texts.items():  # what another process runs stands in a constant
        texts[test] = text + "".join(script for constant, script in scripts.items() if constant in text)
    return [test for test, text in texts.items() if test.startswith("test_") and f"{module}.{name}" in text]


def _imports_of(section: str, every: list[Use]) -> str:
    """The imports of a section's code."""
    module = next(use.module for use in every if use.section == section)
    tree = ast.parse((USES / f"{module}.py").read_text(encoding="utf-8"))
    return "\n".join(ast.unparse(node) for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom))


def _table(every: list[Use]) -> str:
    rows = [f"| {use.section} | {use.title} | {use.lines} | {len(use.tests)} |" for use in every]
    return "\n".join(["| | use | lines | tested |", "|---|---|---:|---:|", *rows, ""])


def _peers(examples: list[dict]) -> str:
    head = [
        "| library | what its example does | whole | given models | configuration | where |",
        "|---|---|---:|---:|---:|---|",
    ]
    return "\n".join([*head, *(_peer(example) for example in examples), ""])


def _peer(example: dict) -> str:
    base = f"{GITHUB}{example['repository']}/blob/{example['commit']}"
    code = sum(lines for path, lines in example["lines"].items() if not path.endswith(".yaml"))
    configuration = sum(lines for path, lines in example["lines"].items() if path.endswith(".yaml"))
    links = ", ".join(f"[{Path(path).name}]({base}/{path})" for path in example["lines"])
    note = f" ({example['note']})" if "note" in example else ""
    given = example.get("given", "")
    return f"| {example['library']} | {example['use']}{note} | {code} | {given} | {configuration or ''} | {links} |"
