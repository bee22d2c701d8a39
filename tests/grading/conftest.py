"""Workers for the grader's tests: a sandboxed one that forks, kept for a module, with short patience."""

import os

import pytest

from kdcourse.grading.grader import make_worker
from kdcourse.grading.sandbox import find_sandbox


@pytest.fixture(scope="session")
def sandboxed_worker():
    if find_sandbox() is None:
        pytest.skip("no sandbox works on this machine")
    # A user of its own for each process of pytest: limits on processes are counted by user.
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
    worker = make_worker(sandboxed=True, limits={"uid": 60_000 + number})
    yield worker
    worker.close()


@pytest.fixture(scope="session")
def plain_worker():
    worker = make_worker(sandboxed=False)
    yield worker
    worker.close()
