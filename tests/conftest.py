"""What tests share: one thread, so that timings and bits do not depend on the machine, and a few real digits.

``--order-seed=N`` runs the files, and the tests of each file, in a random order: no test may need another. Each test
begins with the same state of the random generators, which ``--random-state=N`` changes: a test that fails with another
number has found a fault, or asserts what holds only by chance. Tests that take long are marked as slow, by where they
are or by themselves; ``make check`` leaves them out.
"""

import random
from pathlib import Path

import hypothesis
import pytest
import torch

from kdcourse.data import load_mnist
from kdcourse.data.mnist import MNIST, Split

TESTS = Path(__file__).parent
# Folders and files that start kernels, servers or sandboxes, or train for most of their time. A test elsewhere that
# takes more than three seconds has the mark itself.
SLOW = (
    "browser/",
    "checks/outside/",
    "checks/test_born_again.py",
    "checks/test_feature_and_logits.py",
    "checks/test_temperature_sweep.py",
    "grading/",
    "live/",
    "own_project/test_features.py",
    "own_project/test_teachers.py",
    "site/",
    "sweeps/test_jobs.py",
    "sweeps/test_sweeps.py",
    "test_moved_names.py",
    "tools/test_builder.py",
    "tools/test_environment.py",
    "tools/test_first_cell.py",
    "tools/test_set_address.py",
    "widgets/trainers/",
)

# A busy machine makes an example slow, which says nothing about the code. A change that breaks nothing fails no test:
# the examples are the same ones at each run, and others with ``--random-state``.
hypothesis.settings.register_profile("kdcourse", deadline=None, derandomize=True)
hypothesis.settings.register_profile("other examples", deadline=None)


def pytest_addoption(parser):
    parser.addoption(
        "--order-seed", metavar="N", help="shuffle files, and the tests of each file; 'random' chooses a seed"
    )
    parser.addoption(
        "--random-state", metavar="N", type=int, default=0, help="state of the random generators before each test"
    )


def pytest_configure(config):
    hypothesis.settings.load_profile("other examples" if config.option.random_state else "kdcourse")
    if config.option.order_seed == "random":
        chosen = getattr(config, "workerinput", {})  # in a process of pytest-xdist: what the first process chose
        config.option.order_seed = chosen.get("order_seed") or str(random.randrange(10**6))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node):
    node.workerinput["order_seed"] = node.config.option.order_seed


def pytest_report_header(config):
    return f"order: --order-seed={config.option.order_seed}" if config.option.order_seed else None


def pytest_terminal_summary(terminalreporter, config):
    if config.option.order_seed:
        terminalreporter.write_line(f"In random order: --order-seed={config.option.order_seed} repeats it.")


@pytest.hookimpl(tryfirst=True)  # pytest then brings the tests of one parameter of a module's fixture together again
def pytest_collection_modifyitems(config, items):
    for item in items:
        if item.path.is_relative_to(TESTS) and item.path.relative_to(TESTS).as_posix().startswith(SLOW):
            item.add_marker("slow")
    if config.option.order_seed:
        items[:] = shuffled(items, config.option.order_seed)


@pytest.hookimpl(tryfirst=True)  # before the fixtures, which draw random models too
def pytest_runtest_setup(item):
    state = item.config.option.random_state
    random.seed(state)
    torch.manual_seed(state)


def shuffled(items, seed):
    """Return tests in another order; those of a file stay together, because they share what is expensive to make."""
    order, files = random.Random(seed), {}
    for item in items:
        files.setdefault(item.path, []).append(item)
    groups = list(files.values())
    order.shuffle(groups)
    for group in groups:
        order.shuffle(group)
    return [item for group in groups for item in group]


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def mnist() -> MNIST:
    """All of MNIST; tests only read it."""
    return load_mnist()


@pytest.fixture(scope="session")
def digits(mnist: MNIST) -> Split:
    """The first 500 training digits: a few steps per epoch, the last batch smaller."""
    return mnist.train.take(500)
