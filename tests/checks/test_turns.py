"""What a learner writes in a chapter: right lines pass, known slips are named, a stub stops nothing."""

import ast
import inspect
import re
from pathlib import Path

import pytest

from kdcourse.checks import check
from kdcourse.checks.turns import chapters_with_turns, find_turn, read_turns, solution_of

SOURCES = Path(__file__).resolve().parents[2] / "notebooks" / "source"
KEYS = [key for chapter in chapters_with_turns() for key in read_turns(chapter)]
SLIPS = [(key, name) for key in KEYS for name in find_turn(key).slips]


def source_of(key):
    (path,) = SOURCES.glob(f"{key[:2]}_*.py")
    return path.read_text(encoding="utf-8")


def stub_of(key):
    """Return the stub that the chapter prints: the last definition of that name before the check."""
    text, name = source_of(key), find_turn(key).right.__name__
    before = text[: text.index(f'check("{key}"')]
    start = before.rindex(f"def {name}(")
    return ast.parse(re.split(r"\n(?=\S)", before[start:])[0]).body[0]


@pytest.mark.parametrize("key", KEYS)
def test_the_right_lines_pass_and_are_handed_back(key, capsys):
    right = find_turn(key).right
    assert check(key, right) is right
    assert capsys.readouterr().out.startswith("Right. ")


@pytest.mark.parametrize("key", KEYS)
def test_an_untouched_stub_is_told_so_and_the_chapter_goes_on(key, capsys):
    stub = {}
    exec(ast.unparse(stub_of(key)), stub)
    right = find_turn(key).right
    assert check(key, stub[right.__name__]) is right
    assert capsys.readouterr().out.startswith("Not written yet. ")


@pytest.mark.parametrize("key", KEYS)
def test_the_stub_has_the_arguments_of_the_right_function_and_no_answer(key):
    stub, right = stub_of(key), find_turn(key).right
    names = [a.arg for a in (*stub.args.posonlyargs, *stub.args.args, *stub.args.kwonlyargs)]
    assert names == list(inspect.signature(right).parameters)
    assert ast.unparse(stub.body[-1]) == "...", "the stub ends with `...`, which the learner replaces"


@pytest.mark.parametrize(("key", "name"), SLIPS, ids=[" ".join(pair) for pair in SLIPS])
def test_each_slip_is_named_and_the_chapter_goes_on(key, name, capsys):
    turn = find_turn(key)
    for wrong in turn.slips[name].wrong:
        assert check(key, wrong) is turn.right
        assert capsys.readouterr().out.strip() == f"Not yet. {turn.slips[name].message}"


@pytest.mark.parametrize("key", KEYS)
def test_a_turn_knows_three_slips_and_its_solution_is_short(key):
    turn = find_turn(key)
    assert f'check("{key}"' in source_of(key)
    assert re.fullmatch(r"\d\d\.[a-z0-9-]+", key), "the builder would not find it, and print no solution below the cell"
    assert len(turn.slips) >= 3
    assert len(solution_of(turn).splitlines()) <= 10
    assert turn.note


def test_an_unknown_key_is_told_with_those_that_exist():
    with pytest.raises(ValueError, match=r"nothing to write under '02\.kk'. Known: 02\.kl"):
        check("02.kk", print)
    with pytest.raises(ValueError, match="none in this chapter"):
        check("98.kl", print)
