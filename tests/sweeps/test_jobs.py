"""Where the groups of a sweep train: stored, stopped and gone on with, in threads and in other processes."""

import io
import json
import multiprocessing
import os
import pickle
import time
import types
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from sweep_students import make_dropout_mlp
from torch import nn
from tqdm import tqdm

from kdcourse import models
from kdcourse.hashing import content_hash
from kdcourse.models import make_mlp


def test_a_stopped_sweep_goes_on_with_the_groups_that_are_missing(quick, tmp_path, monkeypatch):
    calls = []

    def objective(student, images, labels, teacher_logits, *, kind):
        calls.append(kind)
        if kind == "breaks" and broken:
            raise KeyboardInterrupt
        return {"ce": F.cross_entropy(student(images), labels)}

    broken = True
    arguments = {"objective": objective, "kind": ["first", "breaks"], "cache": tmp_path}
    with pytest.raises(KeyboardInterrupt):
        quick(**arguments)
    assert len(list(tmp_path.iterdir())) == 1
    stored = next(tmp_path.iterdir()).read_text()
    calls.clear()
    # The objective's closure has changed, so the stored group is not that of this objective.
    broken = False
    complete = quick(**arguments)
    assert "first" in calls
    calls.clear()
    again = quick(**arguments)
    assert calls == []
    pd.testing.assert_frame_equal(complete, again)
    assert json.loads(stored)


def test_a_stored_group_is_not_used_for_other_data_knobs_or_code(quick, teacher_logits, tmp_path):
    quick(temperature=[2], baselines=[], cache=tmp_path)
    for number, other in enumerate(
        ({"temperature": [3]}, {"teacher": teacher_logits + 1e-3}, {"seeds": range(3)}, {"epochs": 2}, {"lr": 1e-2}), 2
    ):
        quick(**({"temperature": [2], "baselines": [], "cache": tmp_path} | other))
        assert len(list(tmp_path.iterdir())) == number
    quick(temperature=[2], baselines=[], cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 6


def test_a_damaged_stored_group_is_computed_again(quick, tmp_path):
    first = quick(baselines=[], cache=tmp_path)
    (path,) = tmp_path.iterdir()
    for damage in ('[{"arm": "distil', "[]", "é", path.read_text().replace('"steps": 6', '"steps": 5')):
        path.write_text(damage)
        with pytest.warns(UserWarning, match=rf"{path.name} is damaged or altered: its group .* is trained again"):
            second = quick(baselines=[], cache=tmp_path)
    pd.testing.assert_frame_equal(first.drop(columns="seconds"), second.drop(columns="seconds"))


def test_a_cache_that_cannot_be_written_is_found_before_the_training(quick, tmp_path):
    (tmp_path / "file").write_text("not a folder")

    def objective(student, images, labels, *ignored):
        raise AssertionError("it trained")

    with pytest.raises(OSError, match=r"file"):
        quick(objective=objective, cache=tmp_path / "file")


def _with(value):
    return lambda x: x * value


def _calls(function):
    return lambda x: function(x)


def test_hashes_tell_closures_defaults_arrays_and_shared_objects_apart():
    assert content_hash(_with(2)) == content_hash(_with(2))
    assert content_hash(_with(2)) != content_hash(_with(3))
    assert content_hash(_calls(_with(2))) != content_hash(_calls(_with(3)))
    assert content_hash(lambda x, k=1: x) != content_hash(lambda x, k=2: x)
    assert content_hash(np.zeros(5000)) != content_hash(np.r_[np.zeros(4999), 1])
    assert content_hash(partial(_with, 2)) != content_hash(partial(_with, 3))
    a, b = _with(1), _with(2)
    assert content_hash([a, b, a]) != content_hash([a, b, b])
    assert content_hash([[1], 2]) != content_hash([[1, 2]])
    torch.manual_seed(0)
    assert content_hash(nn.Linear(2, 2)) != content_hash(nn.Linear(2, 2))
    assert content_hash(models.make_mlp) != content_hash(models.make_cnn)


def test_two_processes_give_the_rows_of_one(quick):
    arguments = {"temperature": [2, 8]}
    here = quick(**arguments)
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as executor:
        there = quick(**arguments, executor=executor)
    pd.testing.assert_frame_equal(here.drop(columns="seconds"), there.drop(columns="seconds"), rtol=1e-5)


def test_threads_give_the_rows_of_one_too(quick):
    here = quick(make_student=make_dropout_mlp, temperature=[2, 8])
    with ThreadPoolExecutor(3) as executor:
        there = quick(make_student=make_dropout_mlp, temperature=[2, 8], executor=executor)
    pd.testing.assert_frame_equal(here.drop(columns="seconds"), there.drop(columns="seconds"))


def test_functions_that_no_process_could_import_are_refused(quick):
    with ProcessPoolExecutor(1) as executor, pytest.raises(ValueError, match="at the top of a module"):
        quick(make_student=lambda: make_mlp(8), executor=executor)


def test_processes_are_sent_functions_that_nothing_could_import(quick, monkeypatch):
    """A notebook defines student, objective and parts in its cells; the trained students come back."""
    monkeypatch.setenv("KDCOURSE_THREADS", "2")

    class Small(nn.Sequential):
        pass

    def objective(student, images, labels, *ignored, scale, weight):
        assert torch.get_num_threads() == 1
        return {"ce": F.cross_entropy(scale(student(images)) * weight, labels)}

    arguments = {
        "make_student": lambda: Small(nn.Flatten(), nn.Linear(784, 10)),
        "objective": {f"weight {w}": partial(objective, weight=w) for w in (1.0, 3.0)},
        "parts": {"scale": lambda: nn.Linear(10, 10)},
        "metrics": {"process": lambda logits, labels: float(os.getpid())},
        "keep_models": True,
    }
    here, there = quick(**arguments), quick(**arguments, executor="processes")
    assert set(here.process) == {os.getpid()}
    assert os.getpid() not in set(there.process)
    assert len(set(there.process)) <= 2
    for one, other in zip(here.pop("model"), there.pop("model"), strict=True):
        assert type(other) is Small
        torch.testing.assert_close(dict(one.named_parameters()), dict(other.named_parameters()))
    columns = ["seconds", "process"]
    pd.testing.assert_frame_equal(here.drop(columns=columns), there.drop(columns=columns), rtol=1e-5)


def test_a_process_is_sent_its_samples_and_not_all_the_data_they_are_from(mnist, quick):
    sizes = []

    class Measuring(ThreadPoolExecutor):
        def submit(self, function, job):
            sizes.append(len(pickle.dumps(job)))
            return super().submit(function, job)

    part = tuple(tensor[:50] for tensor in mnist.train)
    assert part[0].untyped_storage().nbytes() > 10 * part[0].nbytes  # a slice of all images
    with Measuring() as executor:
        quick(data={"train": part, "test": part}, teacher=torch.zeros(50, 10), executor=executor)
    assert part[0].nbytes < min(sizes)
    assert max(sizes) < 3 * part[0].nbytes


def test_processes_keep_what_is_done_when_another_fails(quick, monkeypatch, tmp_path):
    monkeypatch.setenv("KDCOURSE_THREADS", "2")

    def objective(student, images, labels, *ignored, broken=False):
        if broken:
            time.sleep(1)  # what has ended before is stored by then
            raise RuntimeError("lost its way")
        return {"ce": F.cross_entropy(student(images), labels)}

    good = {"a": partial(objective), "b": partial(objective, broken=False)}
    settings = {"executor": "processes", "cache": tmp_path, "baselines": []}
    with pytest.raises(RuntimeError, match="lost its way"):
        quick(objective=good | {"c": partial(objective, broken=True)}, **settings)
    assert list(tmp_path.iterdir())  # the third group began when one of the others had ended
    first = quick(objective=good, **settings)
    assert len(list(tmp_path.iterdir())) == 2
    pd.testing.assert_frame_equal(first, quick(objective=good, **settings))  # to the second: both were read


def test_one_core_or_one_group_needs_no_other_process(quick, monkeypatch):
    process = {"metrics": {"process": lambda logits, labels: float(os.getpid())}, "executor": "processes"}
    monkeypatch.setenv("KDCOURSE_THREADS", "1")
    assert set(quick(temperature={"2": 2, "8": 8}, **process).process) == {os.getpid()}
    monkeypatch.setenv("KDCOURSE_THREADS", "2")
    assert set(quick(baselines=[], **process).process) == {os.getpid()}
    monkeypatch.setenv("KDCOURSE_THREADS", "some")
    with pytest.raises(ValueError, match="number of threads must be a positive integer, got 'some'"):
        quick(**process)


def test_an_executor_that_cannot_train_is_refused(quick):
    with pytest.raises(ValueError, match=r"executor must be 'processes'.*got 'threads'"):
        quick(executor="threads")


def test_what_goes_wrong_in_an_executor_is_raised_here(quick):
    class Broken(ThreadPoolExecutor):
        def submit(self, *args, **kwargs):
            future = Future()
            future.set_exception(RuntimeError("lost a worker"))
            return future

    with Broken() as executor, pytest.raises(RuntimeError, match="lost a worker"):
        quick(executor=executor)


@pytest.mark.parametrize("where", [{"stacked": True}, {"stacked": False}, {"executor": "processes"}])
def test_aprogress_bar_reaches_its_end(where, quick, monkeypatch):
    bars = []

    def remembered(**options):
        bars.append(tqdm(total=options["total"], disable=False, file=io.StringIO()))
        return bars[-1]

    monkeypatch.setenv("KDCOURSE_THREADS", "2")
    monkeypatch.setattr("kdcourse.sweeps.jobs.progress_bar", remembered)
    quick(temperature=[2, 8], **where)
    assert bars[-1].n == bars[-1].total == 6 * 2 * 4


def test_an_object_that_holds_itself_has_a_hash():
    def loop(size):
        value = types.SimpleNamespace(size=size)
        value.itself = value
        return value

    assert content_hash(loop(1)) == content_hash(loop(1)) != content_hash(loop(2))
