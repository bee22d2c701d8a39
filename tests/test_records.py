"""Records: read from the package, written atomically with the machine they were made on."""

import json
import subprocess
import sys

import pytest

from kdcourse.records import environment, read_record, write_record


def test_a_record_is_read_from_the_package_wherever_one_works(tmp_path):
    code = "from kdcourse.records import read_record; print(read_record('chapter03')['command'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stdout == "python -m experiments.chapters 03\n"


@pytest.mark.parametrize("name", ["chapter99", "", "../weights/teacher_mlp", "__init__", "chapter03.json"])
def test_a_record_that_is_not_there_is_refused_and_those_that_are_there_listed(name):
    with pytest.raises(ValueError, match=r"there is no record .* The package has chapter03, chapter04"):
        read_record(name)


def test_a_written_record_holds_the_machine(tmp_path):
    path = write_record(tmp_path / "results", "trial", {"about": "T² and ±"})
    record = json.loads(path.read_text(encoding="utf-8"))
    assert path == tmp_path / "results" / "trial.json"
    assert record["about"] == "T² and ±"
    assert record["environment"].keys() == environment().keys() >= {"date", "cpu", "cores", "torch", "gpu"}


def test_a_record_that_cannot_be_written_leaves_the_old_one(tmp_path):
    path = write_record(tmp_path, "trial", {"run": 1})
    with pytest.raises(TypeError):
        write_record(tmp_path, "trial", {"run": object()})
    assert json.loads(path.read_text(encoding="utf-8"))["run"] == 1
    assert list(tmp_path.iterdir()) == [path]


def test_reading_a_record_loads_no_torch():
    code = "import sys; from kdcourse.records import read_record; read_record('hinton'); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
