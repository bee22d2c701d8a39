"""A plugin for nbval: what stands below a cell that failed is skipped, and the other notebooks go on.

``python -m pytest -p tools.cells_in_a_row --nbval-lax NOTEBOOK …``. Without it a failure is followed by many others
that only say that names are missing; and with ``-x`` the other notebooks are not tried.
"""

from pathlib import Path

import pytest

_failed: set[Path] = set()  # notebooks; all cells of one are run by one process


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    """Note a notebook of which a cell has failed."""
    report = yield
    if report.failed:
        _failed.add(item.path)
    return report


def pytest_runtest_setup(item):
    """Skip the cells below a failed one."""
    if item.path in _failed:
        pytest.skip("a cell above has failed")
