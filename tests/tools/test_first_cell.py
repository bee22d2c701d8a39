"""The first cell of every notebook where things go wrong: real pip, real kernels, no network."""

import os
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from notebook_parts import project, setup_cell

CELL = setup_cell()
# As a kernel shows an exception: by its own lines if it has any.
RUN = """
import sys, traceback
try:
    exec(compile(open(sys.argv[1], encoding="utf-8").read(), "cell", "exec"), {})
except Exception as error:
    show = getattr(error, "_render_traceback_", None)
    print("\\n".join(show()) if show else traceback.format_exc(), file=sys.stderr)
    sys.exit(1)
"""
FAKE_PIP = """
import json, pathlib, sys
here = pathlib.Path(__file__).parent.parent
with open(here / "asked.json", "a") as file:
    file.write(json.dumps(sys.argv[1:]) + "\\n")
(here / "torch").mkdir(exist_ok=True)
(here / "torch" / "__init__.py").touch()
(here / "kdcourse").mkdir(exist_ok=True)
(here / "kdcourse" / "__init__.py").write_text("def check_env(): print('the table')")
"""


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """A Python with pip and nothing else, as a kernel of somebody else's."""
    folder = tmp_path_factory.mktemp("bare")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    return folder / "bin" / "python"


@pytest.fixture
def fresh(tmp_path):
    """A Python without pip, and the folder of its packages."""
    folder = tmp_path / "fresh"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    return folder / "bin" / "python", packages


@pytest.fixture
def refusing():
    """A server that has nothing: what GitHub answers for a private repository or a tag that is not there."""

    class Nothing(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_error(404)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Nothing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def run(python, folder, cell=CELL):
    """Run a cell in a folder; return the exit code, what was printed, and what was told about an error."""
    file, script = folder / "cell.txt", folder / "run.txt"
    file.write_text(cell, encoding="utf-8")
    script.write_text(RUN, encoding="utf-8")
    # As a kernel has it, the folder of the notebook comes first on sys.path. No retries: they only take time.
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PIP_"))}
    variables |= {"PYTHONPATH": str(folder), "PIP_RETRIES": "0", "PIP_CONFIG_FILE": os.devnull}
    done = subprocess.run(
        [python, script, file], cwd=folder, env=variables, capture_output=True, text=True, timeout=120, check=False
    )
    return done.returncode, done.stdout, done.stderr.strip()


def test_without_a_network_three_lines_say_what_to_do(bare, tmp_path):
    cell = CELL.replace("https://github.com", "http://127.0.0.1:9")  # nobody listens there
    code, _, told = run(bare, tmp_path, cell)
    assert code == 1
    assert len(told.splitlines()) == 3
    assert "Traceback" not in told
    assert re.search(
        r"could not be installed from http://127\.0\.0\.1:9/\S+\.zip\npip says: ERROR.*\nIs this machine", told
    )


def test_no_such_tag_or_a_private_repository_is_told_as_such(bare, tmp_path, refusing):
    code, _, told = run(bare, tmp_path, CELL.replace("https://github.com", refusing))
    assert code == 1
    assert len(told.splitlines()) == 3
    assert "404" in told.splitlines()[1]
    assert "browser in which nobody is signed in" in told.splitlines()[2]


def test_a_python_without_pip_is_told_as_such(fresh, tmp_path):
    code, _, told = run(fresh[0], tmp_path)
    assert code == 1
    assert len(told.splitlines()) == 3
    assert "No module named pip" in told.splitlines()[1]


def test_a_missing_course_is_installed_once_and_only_the_course_is_asked_for(fresh, tmp_path):
    python, packages = fresh
    (packages / "pip").mkdir()
    (packages / "pip" / "__main__.py").write_text(FAKE_PIP, encoding="utf-8")
    code, printed, told = run(python, tmp_path)
    assert (code, told) == (0, "")
    assert printed.endswith("the table\n")
    assert run(python, tmp_path) == (0, "the table\n", "")
    (asked,) = (packages / "asked.json").read_text(encoding="utf-8").splitlines()
    repository, version = project()
    assert f'"kdcourse @ {repository}/archive/refs/tags/v{version}.zip"]' in asked
    assert "--upgrade" not in asked


def test_a_folder_that_happens_to_have_the_courses_name_is_not_the_course(fresh, tmp_path):
    """After git clone the folder kdcourse lies beside a notebook, and Python would import it as an empty package."""
    python, packages = fresh
    (packages / "pip").mkdir()
    (packages / "pip" / "__main__.py").write_text(FAKE_PIP, encoding="utf-8")
    (tmp_path / "kdcourse" / "docs").mkdir(parents=True)
    code, printed, _ = run(python, tmp_path)
    assert code == 0
    assert printed.endswith("the table\n")


@pytest.mark.parametrize("place", ["notebooks", "exercises/ex02_soft_targets", "."])
def test_in_a_checkout_with_a_strange_kernel_it_names_the_right_one_and_installs_nothing(fresh, tmp_path, place):
    python, packages = fresh
    (packages / "pip").mkdir()
    (packages / "pip" / "__main__.py").write_text(FAKE_PIP, encoding="utf-8")
    checkout = tmp_path / "checkout"
    (checkout / "kdcourse").mkdir(parents=True)
    (checkout / "kdcourse" / "__init__.py").touch()
    (checkout / place).mkdir(parents=True, exist_ok=True)
    code, _, told = run(python, checkout / place)
    assert code == 1
    assert len(told.splitlines()) == 3
    assert str(checkout) in told
    assert str(python) in told
    assert "Choose .venv as the kernel" in told
    assert not (packages / "asked.json").exists()


def in_a_kernel(folder, *cells):
    """The outputs of the last cell of a notebook, which may raise."""
    notebook = nbformat.v4.new_notebook()
    notebook.cells = [nbformat.v4.new_code_cell(cell) for cell in cells]
    client = NotebookClient(notebook, kernel_name="python3", timeout=60, resources={"metadata": {"path": str(folder)}})
    with pytest.raises(CellExecutionError):
        client.execute()
    return notebook.cells[-1].outputs


def test_jupyter_shows_three_lines_and_no_traceback_and_stops_there(tmp_path):
    (tmp_path / "kdcourse").mkdir()
    (tmp_path / "kdcourse" / "__init__.py").touch()
    hide = "import importlib.util\nimportlib.util.find_spec = lambda name: None"
    (output,) = in_a_kernel(tmp_path, hide, CELL)
    assert output.output_type == "error"
    shown = "\n".join(output.traceback)
    assert len(shown.splitlines()) == 3
    assert "Choose .venv as the kernel" in shown


def test_where_the_course_is_there_it_runs_twice_and_prints_the_table(tmp_path):
    notebook = nbformat.v4.new_notebook()
    check = "import os, sys; print(os.getcwd())"
    notebook.cells = [nbformat.v4.new_code_cell(cell) for cell in (check, CELL, CELL, check)]
    NotebookClient(
        notebook, kernel_name="python3", timeout=60, resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    before, first, second, after = ("".join(o.get("text", "") for o in cell.outputs) for cell in notebook.cells)
    assert "device" in first
    assert first.splitlines()[0] == second.splitlines()[0]
    assert before == after


def test_nothing_in_it_clones_changes_folder_or_restarts():
    assert not re.search(r"git\b(?!hub)|chdir|%cd|kill|exit\(|restart_kernel", CELL)


def test_a_printed_page_cuts_no_line_of_it():
    lines = [line for line in CELL.splitlines() if not line.startswith("ARCHIVE")]  # an address is as long as it is
    assert max(map(len, lines)) <= 75
