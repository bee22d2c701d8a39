"""Workers for the grader's tests: a sandboxed one that forks, kept for a module, with short patience."""

import pytest

from kdcourse.grading.grader import make_worker
from kdcourse.grading.sandbox import find_sandbox


@pytest.fixture(scope="session")
def sandboxed_worker():
    if find_sandbox() is None:
        pytest.skip("no sandbox works on this machine")
    worker = make_worker(sandboxed=True)
    yield worker
    worker.close()


@pytest.fixture(scope="session")
def plain_worker():
    worker = make_worker(sandboxed=False)
    yield worker
    worker.close()
