"""Imports point one way, and opening the package costs little; parsed from the source, so no import hides."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PACKAGE = Path(str(resources.files("kdcourse")))

# What each part may import from the package; "plain helpers" are functions that know no method's name. A part that is
# not listed (commands) may import any but checks and widgets.
MAY_IMPORT = {
    "losses": {"_arguments"},
    "models": set(),
    "data": set(),
    "_arguments": set(),
    "_files": set(),
    "records": {"_files"},
    "_moved": set(),
    "guesses": set(),
    "guide": {"records"},
    "hashing": set(),
    "results": set(),
    "heads": {"losses", "models", "data", "_arguments"},
    "objectives": {"heads", "losses", "models", "_arguments"},
    "training": {"models", "data", "_files", "hashing", "_moved"},
    "recipes": {"losses", "models", "data", "training", "objectives", "_arguments", "hashing"},
    "sweeps": {
        "losses",
        "models",
        "data",
        "training",
        "objectives",
        "results",
        "_arguments",
        "_files",
        "hashing",
        "_moved",
    },
    "tasks": {"models", "data", "training", "objectives", "recipes"},
    "zoo": {"models", "data", "training", "tasks", "_files"},
    "plots": {"results"},  # the one rule that turns an interval into a word
    "grading": {"_files"},  # a worker imports what a key asks for; the grader itself needs nothing else
    "checks": {"losses", "models", "data", "training", "recipes", "sweeps", "zoo", "objectives", "results"},
}
TORCH_ONLY = {
    "losses",
    "models",
    "data",
    "heads",
    "objectives",
    "training",
    "_arguments",
    "_files",
    "hashing",
    "results",
}
# Allowed inside a function, in a part that otherwise needs torch only.
LAZY = {"training": {"tqdm"}, "data": {"transformers", "tokenizers"}, "models": {"torchmetrics", "onnxruntime"}}
# Modules of models that need more than torch; the package's own import leaves them out.
OTHERS = {
    "models/language.py": "transformers",
    "models/writer.py": "transformers",
    "models/detection.py": "torchvision",
}


class Import(NamedTuple):
    part: str  # of the package: "losses", "training", …
    file: str
    target: str  # a part of the package as ".losses", or a top-level module as "torch"
    lazy: bool  # inside a function


def imports_of(package: Path) -> list[Import]:
    """Every import in a package, but those for type checkers only."""
    found = []
    for path in sorted(package.rglob("*.py")):
        inside = path.relative_to(package).with_suffix("").parts
        for node, lazy in _import_nodes(ast.parse(path.read_text(encoding="utf-8"))):
            for target in _targets(node, inside, package.name):
                found.append(Import(inside[0], str(path.relative_to(package)), target, lazy))
    return found


def _import_nodes(tree, lazy=False):
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node, lazy
        elif not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)):
            yield from _import_nodes(node, lazy or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def _targets(node, inside, name):
    if isinstance(node, ast.Import):
        absolute = [alias.name.split(".") for alias in node.names]
    elif node.level == 0:
        absolute = [[*node.module.split("."), alias.name] for alias in node.names]
    else:  # relative: from the folder that the file lies in, one more up for each further dot
        folder = [name, *inside[:-1]]
        base = folder[: len(folder) - node.level + 1] + (node.module.split(".") if node.module else [])
        absolute = [[*base, alias.name] for alias in node.names]
    for parts in absolute:
        yield f".{parts[1]}" if parts[0] == name and len(parts) > 1 else parts[0]


@pytest.fixture(scope="module")
def imports():
    return imports_of(PACKAGE)


def offenders(imports, wrong):
    return sorted({f"{found.file} imports {found.target}" for found in imports if wrong(found)})


def parts_of_package():
    return {f".{path.stem}" for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}


def test_imports_inside_the_package_point_one_way(imports):
    parts = parts_of_package()

    def wrong(found):
        if found.part not in MAY_IMPORT or found.target not in parts or found.target == f".{found.part}":
            return False
        return found.target[1:] not in MAY_IMPORT[found.part]

    assert offenders(imports, wrong) == []


def test_what_runs_beside_a_learners_code_imports_nothing_from_outside_its_folder():
    outside = []
    for path in sorted((PACKAGE / "grading" / "inside").glob("*.py")):
        for node, _ in _import_nodes(ast.parse(path.read_text(encoding="utf-8"))):
            absolute = isinstance(node, ast.Import) or node.level == 0
            if "kdcourse" in _targets_first(node) if absolute else node.level > 1:
                outside.append(f"{path.name}: {ast.unparse(node)}")
    assert outside == []


def _targets_first(node):
    """The first word of what an absolute import names."""
    names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module]
    return [name.split(".")[0] for name in names]


def test_nothing_imports_checks_or_widgets_but_themselves(imports):
    assert offenders(imports, lambda i: i.target in (".checks", ".widgets") and f".{i.part}" != i.target) == []


def test_losses_models_data_schedules_and_training_need_torch_only(imports):
    def wrong(found):
        if found.part not in TORCH_ONLY or found.target.startswith("."):
            return False
        return not (
            found.target in sys.stdlib_module_names
            or found.target == "torch"
            or (found.lazy and found.target in LAZY.get(found.part, ()))
            or OTHERS.get(found.file) == found.target
        )

    assert offenders(imports, wrong) == []


def test_only_widgets_import_ipywidgets(imports):
    assert offenders(imports, lambda i: i.target == "ipywidgets" and i.part != "widgets") == []


def test_only_plots_and_widgets_import_matplotlib(imports):
    assert offenders(imports, lambda i: i.target == "matplotlib" and i.part not in ("plots", "widgets")) == []


def test_transformers_is_imported_only_when_a_language_function_runs(imports):
    def wrong(found):
        return found.target == "transformers" and not (found.lazy and found.part in ("models", "data"))

    assert offenders([i for i in imports if OTHERS.get(i.file) != "transformers"], wrong) == []


def test_every_installed_module_that_is_imported_is_a_dependency(imports):
    declared = {requirement.name.lower() for requirement in dependencies()}
    extras = {
        "transformers",
        "tokenizers",
        "torchmetrics",
        "onnxruntime",
        "IPython",
        "distributed",
        "dask",
        "google",
        "nbformat",
        "psutil",
    }
    names = {"PIL": "matplotlib"}  # matplotlib needs pillow

    def wrong(found):
        module = found.target
        return not (
            module.startswith(".")
            or module in sys.stdlib_module_names
            or module == "kdcourse"
            or names.get(module, module).lower() in declared
            or (found.lazy and module in extras)
            or OTHERS.get(found.file) == module
        )

    assert offenders(imports, wrong) == []


def test_the_search_sees_through_folders_dots_functions_and_skips_type_checking(tmp_path):
    package = tmp_path / "kdcourse"
    (package / "losses" / "deep").mkdir(parents=True)
    (package / "losses" / "deep" / "a.py").write_text(
        "from ... import training\nfrom ..soft import x\nimport matplotlib.pyplot as plt\n"
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import pandas\n"
    )
    (package / "training.py").write_text("def f():\n    from .widgets.live import g\n    import kdcourse.checks\n")
    found = {(i.part, i.target, i.lazy) for i in imports_of(package)}
    assert found == {
        ("losses", ".training", False), ("losses", ".losses", False), ("losses", "matplotlib", False),
        ("losses", "typing", False), ("training", ".widgets", True), ("training", ".checks", True),
    }  # fmt: skip


@pytest.mark.parametrize(
    "modules",
    ["kdcourse", "kdcourse.losses, kdcourse.models, kdcourse.data, kdcourse.training, kdcourse.recipes, kdcourse.zoo"],
)
def test_importing_the_package_loads_no_plotting_widgets_language_models_or_tables(modules):
    heavy = ["matplotlib", "ipywidgets", "IPython", "transformers", "pandas", "torchvision", "scipy"]
    code = f"import sys, {modules}; print([name for name in {heavy} if name in sys.modules])"
    outcome = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert outcome.stdout.strip() == "[]"


# Colab


def dependencies() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [Requirement(text) for text in project["dependencies"]]


def colab() -> dict[str, Version]:
    """What Colab has installed, from its published list."""
    text = (ROOT / "tests" / "data" / "colab-pip-freeze.txt").read_text(encoding="utf-8")
    return {name.lower(): Version(version) for name, version in re.findall(r"(?m)^([\w.-]+)==(\S+)$", text)}


@pytest.mark.parametrize("requirement", dependencies(), ids=lambda requirement: requirement.name)
def test_colab_has_every_dependency_in_a_version_that_will_do(requirement):
    assert {specifier.operator for specifier in requirement.specifier} == {">="}  # a cap would replace what is there
    assert requirement.specifier.contains(colab()[requirement.name.lower()])


@pytest.mark.slow
def test_pip_would_replace_nothing_that_colab_has(tmp_path):
    """A dry run of pip with Colab's versions as constraints: it must find a way, and find it there."""
    pins = {name: version.public for name, version in colab().items()}
    ours = [requirement.name.lower() for requirement in dependencies()] + ["ipykernel"]
    (tmp_path / "pins.txt").write_text("".join(f"{name}=={pins[name]}\n" for name in [*ours, "ipython"]))
    command = [
        sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--only-binary", ":all:", "--quiet",
        "--python-version", "3.12", "--target", str(tmp_path), "--report", str(tmp_path / "report.json"),
        "-c", str(tmp_path / "pins.txt"), *map(str, dependencies()), "ipykernel",
    ]  # fmt: skip
    outcome = subprocess.run(command, capture_output=True, text=True)
    if re.search(r"(?i)temporary failure|connection|timed out|max retries|no matching index", outcome.stderr):
        pytest.skip("no package index can be reached")
    assert outcome.returncode == 0, outcome.stderr[-2000:]
    chosen = {
        item["metadata"]["name"].lower(): item["metadata"]["version"]
        for item in json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["install"]
    }
    assert {name: chosen[name] for name in ours} == {name: pins[name] for name in ours}
