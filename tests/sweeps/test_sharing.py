"""Work shared among processes and GPUs: every student once, workers equally busy, the rows of one process."""

import os

import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sweep_students import make_small_mlp

from kdcourse.sweeps import jobs, sharing
from kdcourse.sweeps.sharing import Piece, cut, loads, put_in_order

shapes = st.lists(st.tuples(st.integers(1, 7), st.integers(1, 6)), min_size=1, max_size=4)


def cells(piece):
    return [(piece.group, seed, arm) for seed in piece.seeds for arm in piece.arms]


@given(shapes=shapes, workers=st.integers(1, 5), per_student=st.sampled_from([10, 3000]))
@settings(max_examples=150, deadline=None)
def test_every_student_is_in_exactly_one_piece(shapes, workers, per_student):
    shapes = dict(enumerate(shapes))
    steps = {group: seeds * arms * per_student for group, (seeds, arms) in shapes.items()}
    found = [cell for piece in cut(shapes, steps, workers=workers) for cell in cells(piece)]
    every = [(group, seed, arm) for group, (s, a) in shapes.items() for seed in range(s) for arm in range(a)]
    assert sorted(found) == sorted(every)


@given(shape=st.tuples(st.integers(1, 9), st.integers(1, 9)), workers=st.integers(2, 5))
@settings(max_examples=100, deadline=None)
def test_one_long_group_keeps_all_workers_busy_to_within_one_student(shape, workers):
    students = shape[0] * shape[1]
    pieces = cut({0: shape}, {0: 10_000 * students}, workers=workers)
    assert max(loads([piece.size for piece in pieces], workers)) <= -(-students // workers) + 1


def test_short_groups_and_groups_that_fill_the_workers_stay_whole():
    assert len(cut({0: (5, 5)}, {0: 500}, workers=2)) == 1
    assert len(cut({0: (5, 5), 1: (5, 5)}, {0: 50_000, 1: 50_000}, workers=2)) == 2
    pieces = cut({0: (5, 5), 1: (5, 2)}, {0: 50_000, 1: 400}, workers=2)
    assert [piece.size for piece in pieces if piece.group == 1] == [10]
    assert [piece.size for piece in pieces if piece.group == 0] == [10, 10, 3, 2]


def test_rows_wait_until_all_pieces_of_a_group_are_there():
    left, right = Piece(0, range(0, 1), range(0, 2)), Piece(0, range(1, 2), range(0, 2))
    rows = {left: [{"row": "a0"}, {"row": "b0"}]}
    assert put_in_order((2, 2), rows) is None
    rows[right] = [{"row": "a1"}, {"row": "b1"}]
    assert [row["row"] for row in put_in_order((2, 2), rows)] == ["a0", "a1", "b0", "b1"]


def sweep_in_pieces(quick, monkeypatch, executor, **more):
    monkeypatch.setattr(sharing, "WORTH_A_PROCESS", 1)
    monkeypatch.setenv("KDCOURSE_THREADS", "2")
    settings = {
        "seeds": [3, 5, 8], "temperature": [2, 8, 20], "baselines": [], "keep_models": True,
        "metrics": {"process": lambda logits, labels: float(os.getpid())}, **more,
    }  # fmt: skip
    pieces = []
    monkeypatch.setattr(jobs, "cut", lambda *args, **more: (pieces.extend(cut(*args, **more)), pieces)[1])
    here, there = quick(**settings), quick(**settings, executor=executor)
    assert [piece.size for piece in pieces] == [3, 3, 2, 1]
    assert os.getpid() not in set(there.process)  # one process may have done all, if the other was slow to start
    for one, other in zip(here.pop("model"), there.pop("model"), strict=True):
        torch.testing.assert_close(dict(one.named_parameters()), dict(other.named_parameters()), rtol=1e-4, atol=1e-6)
    columns = ["seconds", "process"]
    pd.testing.assert_frame_equal(here.drop(columns=columns), there.drop(columns=columns), rtol=1e-5)


@pytest.mark.parametrize("stacked", [True, False])
def test_one_group_in_pieces_gives_the_rows_and_students_of_one_process(quick, monkeypatch, stacked):
    sweep_in_pieces(quick, monkeypatch, "processes", stacked=stacked)


def test_pieces_go_to_the_gpus_that_are_seen(quick, monkeypatch, teacher_logits):
    """The CPU stands for two GPUs; with a teacher for each seed, which is cut as the seeds are."""
    for module in ("jobs", "arguments"):
        monkeypatch.setattr(f"kdcourse.sweeps.{module}.gpus_seen", lambda: [torch.device("cpu")] * 2)
    teachers = torch.stack([teacher_logits, teacher_logits.roll(1, 1), -teacher_logits])
    sweep_in_pieces(quick, monkeypatch, "gpus", teacher=teachers)


def test_each_piece_gets_a_gpu_and_each_gpu_its_share(monkeypatch, small, teacher_logits):
    monkeypatch.setattr(jobs, "gpus_seen", lambda: [torch.device("cuda", index) for index in range(3)])
    group = jobs.Group({"epochs": 1000, "batch_size": 64, "student": make_small_mlp}, [None] * 4)
    job = jobs.Job(group, [], tuple(small.train), {}, list(range(6)), {}, None, {}, None, False, False, 0)
    pieces, devices = jobs._shared_out({0: job}, "gpus")
    assert devices == [torch.device("cuda", index) for index in range(3)]
    for device in devices:
        assert sum(piece.size for piece, where in pieces if where == device) == 8


def test_gpus_are_asked_for_only_where_there_are_any(quick, monkeypatch):
    monkeypatch.setattr("kdcourse.sweeps.arguments.gpus_seen", list)
    with pytest.raises(ValueError, match="needs a GPU, and torch sees none"):
        quick(executor="gpus")
