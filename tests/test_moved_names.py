"""Old names of modules keep working: somebody's notebook from last year imports them."""

import importlib
import subprocess
import sys

import pytest

from kdcourse._moved import MOVED


@pytest.mark.parametrize(("old", "new"), MOVED.items())
def test_an_old_name_gives_the_module_that_stands_under_the_new_one(old, new):
    module = importlib.import_module(f"kdcourse.{old}")
    assert module is importlib.import_module(f"kdcourse.{new}")
    assert module.__name__ == module.__spec__.name == f"kdcourse.{new}"


@pytest.mark.parametrize("old", MOVED)
def test_an_old_name_works_first_in_a_new_process(old):
    subprocess.run([sys.executable, "-c", f"import kdcourse.{old}"], check=True)


def test_names_that_never_existed_are_still_unknown():
    with pytest.raises(ModuleNotFoundError, match="no_such_room"):
        importlib.import_module("kdcourse.no_such_room")


def test_the_names_that_notebooks_imported_are_still_there():
    from kdcourse.language import distilbert_objective, init_student_from_teacher, mask_words
    from kdcourse.models_exits import ExitNet, make_exit_cnn, make_exit_head, predict_early
    from kdcourse.schedules import constant, cosine, linear, piecewise, progress_of, step

    for name in (
        init_student_from_teacher, distilbert_objective, mask_words, ExitNet, make_exit_cnn, make_exit_head,
        predict_early, constant, cosine, linear, piecewise, progress_of, step,
    ):  # fmt: skip
        assert callable(name)
