"""Exercise 13b: right answers in several styles pass, and each typical mistake gets its own message."""

import pytest

from kdcourse.checks import (
    CheckFailed,
    check_folder_verdicts,
    check_paired_differences,
    check_report,
    check_split,
    check_three_ways,
)
from kdcourse.checks.slips.your_folder import PAIRS, WAY_GRADIENTS, WAYS, pairs, three_ways

CATALOGUES = {
    "ways": (check_three_ways, WAYS | WAY_GRADIENTS),
    "pairs": (check_paired_differences, PAIRS),
}
SLIPS = [
    pytest.param(check, slip.message, wrong, id=f"{task}-{name}-{number}")
    for task, (check, slips) in CATALOGUES.items()
    for name, slip in slips.items()
    for number, wrong in enumerate(slip.wrong)
]


@pytest.mark.parametrize(("check", "message", "wrong"), SLIPS)
def test_each_slip_is_named(check, message, wrong):
    for seed in (1, 2):
        with pytest.raises(CheckFailed) as found:
            check(wrong, seed=seed)
        assert str(found.value) == message


def test_the_right_functions_pass(capsys):
    for seed in (None, 3):
        check_three_ways(three_ways, seed=seed)
        check_paired_differences(pairs, seed=seed)
    assert capsys.readouterr().out.count("Passed.") == 4


def by_blocks(files, groups, *, seed):
    """Group by group, with a random number for each: another order and another generator than the key's."""
    import random

    generator = random.Random(seed)
    rank = {name: generator.random() for name in dict.fromkeys(groups)}
    names = sorted(rank, key=rank.get)
    fifth = round(len(names) / 5)
    held_out, test = set(names[-fifth:]), set(names[-2 * fifth : -fifth])
    parts = {"train": [], "held_out": [], "test": []}
    for file, group in zip(files, groups, strict=True):
        parts["held_out" if group in held_out else "test" if group in test else "train"].append(file)
    return parts


def test_a_split_is_judged_by_what_it_has_and_not_by_its_order(capsys):
    for seed in range(4):
        check_split(by_blocks, seed=seed)
        check_split(lambda files, groups, *, seed: [set(part) for part in by_blocks(files, groups, seed=seed).values()])
    assert capsys.readouterr().out.count("Passed.") == 8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda train, held, test: (train, held, [*test, train[0]]), "is there twice, in train and test"),
        (lambda train, held, test: (train[1:], held, test), "are in no part"),
        (lambda train, held, test: ([*train[1:], held[0]], [train[0], *held[1:]], test), "is in train and in held_out"),
        (lambda train, held, test: (held, train, test), "train has"),
        (lambda train, held, test: (train, held), "three lists are needed"),
        (lambda train, held, test: (train, held, [1, 2]), "a list of names of files"),
        (lambda train, held, test: (train, held, ["x.png"]), "is no file of the folder"),
    ],
)
def test_what_a_split_lacks_is_named(change, message):
    with pytest.raises(CheckFailed, match=message):
        check_split(lambda files, groups, *, seed: change(*by_blocks(files, groups, seed=seed).values()), seed=1)


def test_a_caller_keeps_the_list():
    def sorts(files, groups, *, seed):
        files.reverse()
        return tuple(by_blocks(files[::-1], groups, seed=seed).values())

    with pytest.raises(CheckFailed, match="work on a copy"):
        check_split(sorts, seed=1)


def test_a_report_without_a_seed_of_its_own_words_passes(capsys):
    def short(facts):
        share = facts["student_bytes"] / facts["teacher_bytes"]
        lines = [f"{facts['seeds']} seeds x {facts['test_images']:,} images; {share:.1%}"]
        for other, (_, low, high) in facts["differences"].items():
            word = "UNCLEAR" if low < 0 < high else "Better" if high < 0 else "worse"
            lines.append(f"vs. {other.title()} => {word}, {low:.0f} … {high:.0f}")
        return "\n".join(lines)

    check_report(short, seed=1)
    assert "Passed." in capsys.readouterr().out
    with pytest.raises(CheckFailed, match="has no verdict"):
        check_report(lambda facts: short(facts).replace("UNCLEAR", "?").replace("worse", "?").replace("Better", "?"))


def test_stubs_are_told_apart_from_mistakes():
    def stub(*args, **kwargs):
        raise NotImplementedError("not yet")

    for check in (check_split, check_three_ways, check_paired_differences, check_report):
        with pytest.raises(NotImplementedError):
            check(stub)
    with pytest.raises(NotImplementedError):
        check_folder_verdicts(
            {"plain": None, "smoothed": None}, {k: [1, 2, 4] for k in ("plain", "smoothed", "distilled")}
        )


def test_the_verdicts_are_those_of_the_intervals(capsys):
    errors = {"plain": [50, 60, 55], "smoothed": [41, 49, 47], "distilled": [40, 51, 45]}
    check_folder_verdicts({"plain": "better", "smoothed": "unclear"}, errors)
    with pytest.raises(CheckFailed, match="interval"):
        check_folder_verdicts({"plain": "better", "smoothed": "better"}, errors)
