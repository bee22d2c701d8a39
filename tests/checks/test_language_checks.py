"""Exercise 09: right answers pass, and each known mistake gets its own message."""

import pytest
import torch

pytest.importorskip("transformers")

from kdcourse.checks import (
    CheckFailed,
    check_control_verdict,
    check_layer_map,
    check_padding_table,
    check_relation_loss,
    check_triple_loss,
)
from kdcourse.checks.slips.language import LAYER_MAP, RELATIONS, layer_map, relation_loss
from kdcourse.checks.slips.triple_loss import TRIPLE, triple_loss

CHECKS = {
    "relations": (check_relation_loss, relation_loss, RELATIONS),
    "triple": (check_triple_loss, triple_loss, TRIPLE),
    "map": (check_layer_map, layer_map, LAYER_MAP),
}
SLIPS = [
    pytest.param(check, slip, wrong, id=f"{task}-{name}-{number}")
    for task, (check, _, slips) in CHECKS.items()
    for name, slip in slips.items()
    for number, wrong in enumerate(slip.wrong)
]


@pytest.mark.parametrize("task", CHECKS)
def test_the_right_function_passes_on_fresh_numbers(task):
    check, right, _ = CHECKS[task]
    for seed in range(3):
        check(right, seed=seed)


@pytest.mark.parametrize(("check", "slip", "wrong"), SLIPS)
def test_each_mistake_gets_its_own_message(check, slip, wrong):
    with pytest.raises(CheckFailed) as told:
        check(wrong, seed=5)
    assert str(told.value) == slip.message


@pytest.mark.parametrize("task", CHECKS)
def test_a_stub_is_no_mistake(task):
    def stub(*args, **kwargs):
        raise NotImplementedError("Task 1")

    with pytest.raises(NotImplementedError):
        CHECKS[task][0](stub)


def test_padding_of_minus_infinity_is_seen_where_a_text_is_empty():
    def wrong(student, teacher, real, heads):
        rows = []
        for values in (student, teacher.detach()):
            split = values.unflatten(-1, (heads, -1)).transpose(1, 2)
            scores = split @ split.mT / split.shape[-1] ** 0.5
            rows.append((scores + torch.where(real[:, None, None] == 0, -torch.inf, 0.0)).softmax(dim=-1))
        q, p = rows
        apart = torch.where(p > 0, p * (p.clamp(min=1e-30).log() - q.clamp(min=1e-30).log()), 0.0).sum(dim=-1)
        return apart.transpose(1, 2)[real.bool()].mean()

    with pytest.raises(CheckFailed, match="softmax over nothing"):
        check_relation_loss(wrong, seed=1)


def test_letters_and_a_verdict_are_judged():
    check_padding_table(["b", "a", "c"])
    with pytest.raises(CheckFailed, match=r"\(a\) is not it"):
        check_padding_table(["a", "a", "c"])
    check_control_verdict("better", [10, 11, 9, 12], [30, 29, 33, 31])
    with pytest.raises(CheckFailed, match="both ends above 0"):
        check_control_verdict("worse", [10, 11, 9, 12], [30, 29, 33, 31])
