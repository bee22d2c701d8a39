"""Device, threads and seeds: chosen on purpose, said in words, and without touching the caller's random numbers."""

import pytest
import torch

from kdcourse.training import choose_threads, pick_device
from kdcourse.training.devices import threads_asked_for


@pytest.fixture(autouse=True)
def _restore():
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    yield
    torch.set_num_threads(threads)
    torch.set_rng_state(state)


def present(monkeypatch, *, cuda, mps):
    monkeypatch.setattr("torch.cuda.is_available", lambda: cuda)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2 if cuda else 0)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: mps)


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"),
    [(True, True, "cuda"), (True, False, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_the_first_of_gpu_apple_gpu_and_cpu_that_is_there_is_taken(monkeypatch, cuda, mps, expected):
    present(monkeypatch, cuda=cuda, mps=mps)
    assert pick_device().type == pick_device("auto").type == expected


def test_a_named_device_is_taken_with_its_number(monkeypatch):
    present(monkeypatch, cuda=True, mps=False)
    assert pick_device("cuda:1") == torch.device("cuda", 1)
    assert pick_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["cuda", "mps", "gpu", ""])
def test_a_device_that_is_not_there_is_refused_and_those_that_are_there_listed(monkeypatch, name):
    present(monkeypatch, cuda=False, mps=False)
    with pytest.raises(ValueError, match=rf"device '{name}' is not on this machine; here: cpu\."):
        pick_device(name)


@pytest.mark.parametrize("name", ["cuda:2", "cuda:", "cuda:x", "cuda:-1", "cpu:7"])
def test_a_number_that_no_device_has_is_refused(monkeypatch, name):
    present(monkeypatch, cuda=True, mps=False)
    with pytest.raises(ValueError, match=rf"device '{name}' is not on this machine; here: cuda:0, cuda:1, cpu\."):
        pick_device(name)


def test_an_explicit_number_of_threads_wins_over_the_environment(monkeypatch):
    monkeypatch.setenv("KDCOURSE_THREADS", "2")
    assert choose_threads(1) == torch.get_num_threads() == 1
    assert choose_threads() == torch.get_num_threads() == 2


@pytest.mark.parametrize("count", [0, -1, 1.5, "two", "²", 100_000, 10**30])
def test_a_number_of_threads_that_is_none_is_refused(count):
    with pytest.raises(ValueError, match="the number of threads must be a positive integer, got"):
        choose_threads(count)


def test_the_environments_number_of_threads_is_named_when_it_is_wrong_and_empty_means_none(monkeypatch):
    monkeypatch.setenv("KDCOURSE_THREADS", "two")
    with pytest.raises(ValueError, match=r"KDCOURSE_THREADS: the number of threads must be .* got 'two'"):
        choose_threads()
    monkeypatch.setenv("KDCOURSE_THREADS", "")
    assert threads_asked_for() is None


def test_without_a_wish_the_faster_of_one_and_all_threads_is_taken(monkeypatch):
    monkeypatch.delenv("KDCOURSE_THREADS", raising=False)
    for fastest in (1, 2):
        torch.set_num_threads(2)
        seconds = lambda best=fastest: 1.0 if torch.get_num_threads() == best else 2.0  # noqa: E731
        monkeypatch.setattr("kdcourse.training.devices._time_small_step", seconds)
        assert choose_threads() == torch.get_num_threads() == fastest


@pytest.mark.trap(17)
def test_choosing_threads_draws_nothing_from_the_global_generator(monkeypatch):
    monkeypatch.delenv("KDCOURSE_THREADS", raising=False)
    torch.set_num_threads(2)
    before = torch.get_rng_state()
    choose_threads()
    assert torch.equal(torch.get_rng_state(), before)
