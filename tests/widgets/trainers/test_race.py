"""Students side by side: the same in slices of any length, and from the start again after a reset."""

import pytest
import torch


def test_slices_of_any_length_train_and_record_the_same(make_live, weights_of):
    by_steps, by_ticks = make_live(), make_live()
    tick = 0
    while by_ticks.steps < 60:
        tick += 1
        by_ticks.race.advance(seconds=0)  # one unit of work: less than a step
    by_ticks.race.rest()
    by_steps.step(by_ticks.steps)
    assert by_ticks.steps == 60
    assert tick > 120  # two students, and their evaluations
    for name, arm in by_steps.arms.items():
        other = by_ticks.arms[name]
        assert torch.equal(weights_of(arm.student), weights_of(other.student))
        assert (arm.steps, arm.errors) == (other.steps, other.errors)


def test_a_loss_that_is_not_finite_is_told_and_a_reset_is_the_way_out(make_live):
    live = make_live(make_optimizer=lambda parameters: torch.optim.SGD(parameters, lr=1e12))
    with pytest.raises(FloatingPointError, match=r"student is (nan|inf) at step 10.*smaller learning rate"):
        live.step(50)
    live.reset()
    assert "Step 0" in live.status.value
    assert live.errors  # and close still tells of it


def test_after_a_reset_the_same_steps_give_the_same_students(make_live, weights_of):
    live = make_live()
    live.step(25)
    first = weights_of(live.arms["distilled"].student).clone()
    live.fork()
    live.step(5)
    live.reset()
    assert (live.steps, live.marks, list(live.arms)) == (0, [], ["distilled", "no teacher"])
    live.step(25)
    assert torch.equal(weights_of(live.arms["distilled"].student), first)
