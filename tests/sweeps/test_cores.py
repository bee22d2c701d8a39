"""One function on all cores: the results of ordinary calls, in their order."""

import os

import pytest
import torch

from kdcourse.sweeps import on_all_cores


def draw(seed, count):
    torch.manual_seed(seed)
    return torch.rand(count), torch.get_num_threads(), os.getpid()


@pytest.mark.parametrize(("threads", "elsewhere"), [("1", False), ("2", True)])
def test_calls_return_what_they_return_here_and_in_their_order(monkeypatch, threads, elsewhere):
    monkeypatch.setenv("KDCOURSE_THREADS", threads)
    calls = [(seed, 2 + seed) for seed in range(5)]
    for (seed, count), (values, used, process) in zip(calls, on_all_cores(draw, calls), strict=True):
        torch.testing.assert_close(values, draw(seed, count)[0], rtol=0, atol=0)
        assert (process != os.getpid()) == elsewhere
        assert used == 1 or not elsewhere


def test_a_gpu_is_not_shared_among_processes(monkeypatch):
    monkeypatch.setenv("KDCOURSE_THREADS", "2")
    assert {process for _, _, process in on_all_cores(draw, [(0, 1), (1, 1)], device="cuda")} == {os.getpid()}


def test_no_calls_are_no_results():
    assert on_all_cores(draw, []) == []


def test_an_argument_that_is_in_no_tuple_is_refused():
    with pytest.raises(ValueError, match=r"a tuple of arguments for each call, got int at place 1\. One argument"):
        on_all_cores(draw, [(0, 1), 2])


def test_an_error_of_a_call_is_raised(monkeypatch):
    monkeypatch.setenv("KDCOURSE_THREADS", "2")
    with pytest.raises(ZeroDivisionError):
        on_all_cores(divmod, [(1, 0), (1, 1)])
