"""The pages of the reference: one for each family of losses, one for each other part of the package."""

from pathlib import Path

from notebook_parts import ROOT

PARTS = (
    "objectives",
    "training",
    "recipes",
    "sweeps",
    "data",
    "models",
    "zoo",
    "results",
    "records",
    "plots",
    "widgets",
)
PAGE = """\
# {name}

```{{eval-rst}}
.. automodule:: {name}
   :members:
```
"""


def modules(root: Path = ROOT) -> dict[str, list[str]]:
    """Return the modules that have a page, by the heading of the list they stand in."""
    losses = sorted(path.stem for path in (root / "kdcourse" / "losses").glob("[a-z]*.py"))
    return {
        "Losses, a family on each page": ["kdcourse.losses", *(f"kdcourse.losses.{name}" for name in losses)],
        "What trains, compares and shows": [f"kdcourse.{name}" for name in PARTS],
    }


def write_reference(folder: Path, root: Path = ROOT) -> None:
    """Write a page for each module, and the page that lists them."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["# Reference", "", "Every public function, from its docstring; every example in it is run as a test.", ""]
    for heading, names in modules(root).items():
        for name in names:
            # A package's name alone lists what it hands on; the families say the rest.
            text = PAGE.format(name=name)
            if name == "kdcourse.losses":
                text = text.replace("   :members:\n", "")
            elif name == "kdcourse.widgets":  # handed on from kdcourse.training, where it has its place
                text = text.replace("   :members:\n", "   :members:\n   :exclude-members: Knobs\n")
            (folder / f"{name}.md").write_text(text, encoding="utf-8")
        lines += ["```{toctree}", f":caption: {heading}", ":maxdepth: 1", "", *names, "```", ""]
    (folder / "index.md").write_text("\n".join(lines), encoding="utf-8")
