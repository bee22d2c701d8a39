"""Every trap of docs/traps.md has a test, and the page says where."""

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "traps.md"
NUMBERS = {*range(1, 92), *range(93, 101)}


def trap_numbers(marks):
    """Numbers in the ``pytest.mark.trap(...)`` among some expressions."""
    for node in (node for mark in marks for node in ast.walk(mark)):
        match node:
            case ast.Call(func=ast.Attribute(attr="trap", value=ast.Attribute(attr="mark"))):
                for argument in node.args:
                    yield ast.literal_eval(argument)


def is_set_aside(function):
    """Whether a test is skipped or allowed to fail on every machine."""
    names = {ast.unparse(decorator).split("(")[0] for decorator in function.decorator_list}
    return bool(names & {"pytest.mark.skip", "pytest.mark.xfail"})


def find_trap_tests(source):
    """Numbers of the traps that the tests of one module are marked with."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_") and not is_set_aside(node):
            found.update(trap_numbers(node.decorator_list))
    return found


@pytest.fixture(scope="module")
def tested():
    """Module to the numbers it tests."""
    modules = {path.relative_to(TESTS).as_posix(): path for path in TESTS.rglob("test_*.py")}
    return {name: find_trap_tests(path.read_text(encoding="utf-8")) for name, path in modules.items()}


@pytest.fixture(scope="module")
def listed():
    """Rows of the page: number, and the modules it names."""
    rows = re.findall(r"^\| (\d+) \|.*\| ([^|]+) \|$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return [(int(number), set(re.findall(r"`([^`]+)`", modules))) for number, modules in rows]


def test_each_trap_has_a_test(tested):
    missing = sorted(NUMBERS - set().union(*tested.values()))
    assert not missing, f"no test is marked with trap {missing}"


def test_no_test_is_marked_with_a_trap_that_does_not_exist(tested):
    unknown = {name: sorted(numbers - NUMBERS) for name, numbers in tested.items() if numbers - NUMBERS}
    assert not unknown


def test_the_page_lists_each_trap_once_in_order(listed):
    assert [number for number, _ in listed] == sorted(NUMBERS)


def test_the_page_names_modules_that_hold_the_traps_test(tested, listed):
    wrong = {
        number: sorted(modules)
        for number, modules in listed
        if not modules or any(number not in tested.get(name, ()) for name in modules)
    }
    assert not wrong, f"no test with that number in the modules that the page names: {wrong}"


def test_only_marks_on_tests_that_run_are_counted():
    source = """
import pytest

@pytest.mark.parametrize("x", [pytest.param(1, marks=pytest.mark.trap(1))])
@pytest.mark.trap(2)
def test_counts(x): ...

@pytest.mark.skip(reason="not yet")
@pytest.mark.trap(3)
def test_skipped(): ...

@pytest.mark.trap(4)
def helper(): ...

class TestGroup:
    @pytest.mark.trap(5)
    def test_method(self): ...

TEXT = "pytest.mark.trap(6)"
"""
    assert find_trap_tests(source) == {1, 2, 5}
