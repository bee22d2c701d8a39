"""What somebody has who installed the package and has no checkout: notebooks, records, keys, a page with its links."""

import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import build_package
import pytest
from notebook_parts import project

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
LINKS = re.compile(r"\]\(([^)\s]+)\)")


def python(package, folder, *arguments):
    """Run Python in a folder, where the wheel is installed and the checkout cannot be seen."""
    # Isolated from site-packages' own kdcourse by coming first; from the checkout by the folder.
    variables = {**os.environ, "PYTHONPATH": str(package.installed)}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=variables,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_everything_but_the_package_was_left_behind(package, tmp_path):
    done = python(package, tmp_path, "-c", "import kdcourse; print(kdcourse.__file__)")
    assert Path(done.stdout.strip()).is_relative_to(package.installed)


def test_a_wheel_writes_the_notebooks_that_the_checkout_has(package, tmp_path):
    done = python(package, tmp_path, "-m", "kdcourse", "notebooks", "my course")
    assert done.returncode == 0, done.stderr
    course = tmp_path / "my course"
    names = {path.relative_to(course) for path in course.rglob("*.ipynb")}
    expected = [*ROOT.glob("notebooks/*.ipynb"), *ROOT.glob("exercises/*/*.ipynb")]
    assert names == {path.relative_to(ROOT) for path in expected}
    assert all((course / path.relative_to(ROOT)).read_bytes() == path.read_bytes() for path in expected)
    assert "jupyter lab '--notebook-dir=my course' 'my course/notebooks/00_start_here.ipynb'" in done.stdout
    assert python(package, tmp_path, "-m", "kdcourse", "notebooks", "my course").stdout.startswith(
        "0 notebooks written"
    )


def test_every_file_of_the_package_is_in_the_wheel(package, tmp_path):
    """Data that is only in the checkout makes a table or a question vanish for everybody else."""
    build_package.copy_checkout(ROOT, tmp_path / "copy")
    files = [
        path.relative_to(tmp_path / "copy") for path in (tmp_path / "copy" / "kdcourse").rglob("*") if path.is_file()
    ]
    assert {path.suffix for path in files} > {".py", ".json", ".ipynb", ".gz", ".safetensors"}
    assert [str(path) for path in files if not (package.installed / path).exists()] == []


@pytest.mark.parametrize("folder", ["notebooks/source", "exercises", "solutions"])
def test_no_source_of_a_notebook_looks_for_a_file_beside_the_checkout(folder):
    paths = [path for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".ipynb")]
    assert paths
    assert [path.name for path in paths if re.search(r"[\"']\.\./", path.read_text(encoding="utf-8"))] == []


def test_an_exercise_is_graded_with_the_keys_of_the_wheel(package, tmp_path):
    name = "ex02_soft_targets"
    (tmp_path / f"{name}.ipynb").write_bytes((ROOT / "exercises" / name / f"{name}.ipynb").read_bytes())
    done = python(package, tmp_path, "-m", "kdcourse", "grade", f"{name}.ipynb", "--no-sandbox")
    assert done.returncode == 0, done.stderr
    assert re.search(r"total +0 of +16", done.stdout)


def test_the_package_page_has_no_link_that_leads_nowhere(package):
    with zipfile.ZipFile(package.wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        head, _, page = archive.read(name).decode().partition("\n\n")
    assert "Description-Content-Type: text/markdown" in head
    links = LINKS.findall(page)
    assert len(links) > 20
    assert [link for link in links if not re.match(r"https?://|#", link)] == []
    repository, version = project()
    owner_and_name = repository.removeprefix("https://github.com/")
    ours = [link for link in links if owner_and_name in link]
    for link in ours:
        base = rf"https://(github\.com/{owner_and_name}/blob|raw\.githubusercontent\.com/{owner_and_name})/v{version}/"
        path = re.sub(base, "", link).partition("#")[0]
        if path != link:
            assert (ROOT / path).exists(), link
    pictures = re.findall(r"!\[[^\]]*\]\(([^)\s]+)\)", page)
    assert pictures
    assert all(link.startswith(("https://raw.githubusercontent.com/", "https://mybinder.org/")) for link in pictures)


def test_the_source_distribution_is_the_whole_checkout(package, tmp_path):
    build_package.copy_checkout(ROOT, tmp_path / "copy")
    wanted = {str(path.relative_to(tmp_path / "copy")) for path in (tmp_path / "copy").rglob("*") if path.is_file()}
    with tarfile.open(package.source) as archive:
        present = {name.partition("/")[2] for name in archive.getnames()}
    assert wanted - present == set()


def test_tests_of_the_source_distribution_run(package, tmp_path):
    with tarfile.open(package.source) as archive:
        archive.extractall(tmp_path, filter="data")
    (folder,) = tmp_path.iterdir()
    chosen = ["tests/test_notebook_sources.py", "tests/test_built_notebooks.py", "tests/tools/test_builder.py"]
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider"]
    variables = {**os.environ, "PYTHONPATH": str(folder)}
    done = subprocess.run(
        [*command, *chosen], cwd=folder, env=variables, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:]
    collected = subprocess.run(
        [*command, "--collect-only", "tests"], cwd=folder, env=variables, capture_output=True, text=True, check=False
    )
    assert collected.returncode == 0, collected.stdout[-2000:]
