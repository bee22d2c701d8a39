"""What ``pyproject.toml`` cannot say: the package carries the notebooks, and README's links work on a package page."""

import re
import shutil
import tomllib
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent


class BuildWithNotebooks(build_py):
    """Copies chapters and exercises into the package, where ``kdcourse notebooks`` finds them."""

    def run(self) -> None:
        """Build the package, then copy; a checkout in use (``pip install -e``) needs no copy."""
        super().run()
        if self.editable_mode:
            return
        course = Path(self.build_lib, "kdcourse", "course")
        shutil.rmtree(course, ignore_errors=True)
        for path in [*ROOT.glob("notebooks/*.ipynb"), *ROOT.glob("exercises/*/*.ipynb")]:
            target = course / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)


def readme() -> str:
    """Return README with addresses in place of paths, which lead nowhere on a package page."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    repository, tag = project["urls"]["Repository"], f"v{project['version']}"
    pictures = f"{repository.replace('github.com', 'raw.githubusercontent.com')}/{tag}"
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    relative = r"(?!\w+:|#|/)"  # no address, no place on the page itself
    text = re.sub(rf"(!\[[^\]]*\]\(){relative}", rf"\g<1>{pictures}/", text)
    return re.sub(rf"((?<!\\)\]\(){relative}", rf"\g<1>{repository}/blob/{tag}/", text)


setup(
    cmdclass={"build_py": BuildWithNotebooks},
    long_description=readme(),
    long_description_content_type="text/markdown",
)
