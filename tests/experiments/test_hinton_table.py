"""Hinton's table: each stage chooses by held-out errors what the next one runs, and test errors choose nothing."""

import json

import pytest
import torch

from experiments import _record, hinton_table
from kdcourse.data import MNIST, load_mnist
from kdcourse.models import make_mlp


@pytest.fixture
def small(monkeypatch, tmp_path):
    """All stages with a few images, one epoch each, and teachers that are not trained."""
    mnist = load_mnist(held_out=5_000)
    few = MNIST(mnist.train.take(300), mnist.held_out.take(200), mnist.test.take(200))
    for name, value in {
        "BRIEF": 1, "PATIENT": 2, "SHORT": 1, "LONG": 1, "SEEDS": range(2),
        "WEIGHTS": tmp_path / "weights", "data": lambda: few,
        "make_hinton_student": lambda: make_mlp(30),
        "fit_teacher": lambda recipe, **settings: torch.manual_seed(settings["seed"]) and recipe.make(),
    }.items():  # fmt: skip
        monkeypatch.setattr(hinton_table, name, value)
    monkeypatch.setattr(_record, "RESULTS", tmp_path)
    monkeypatch.setenv("KDCOURSE_THREADS", "1")
    hinton_table.load_teacher.cache_clear()
    hinton_table.answers.cache_clear()
    yield tmp_path
    hinton_table.load_teacher.cache_clear()
    hinton_table.answers.cache_clear()


def run(folder):
    assert hinton_table.main(["--folder", str(folder / "units")]) == 0
    return json.loads((folder / "hinton_table.json").read_text(encoding="utf-8"))


def test_each_stage_takes_what_has_the_fewest_held_out_errors(small):
    record = run(small)
    chosen = record["chosen_on_held_out_images"]
    assert {stage: len(rows) for stage, rows in chosen.items()} == {"teachers": 4, "longer": 2, "knobs": 16, "views": 4}
    teachers = [*chosen["teachers"], *chosen["longer"]]
    assert record["teacher"]["held_out_errors"] == min(
        row["held_out_errors"] for row in teachers if row["arm"].split("-epochs")[0] in record["teacher"]["arm"]
    )
    sums = {}
    for row in chosen["knobs"]:
        sums[row["arm"]] = sums.get(row["arm"], 0) + row["held_out_errors"]
    knobs = record["settings"]
    assert f"T = {knobs['temperature']}, α = {knobs['alpha']:g}" == min(sums, key=sums.get)
    assert {row["cell"] for row in chosen["views"]} == set(hinton_table.VIEWS)


def test_the_table_has_both_baselines_under_the_same_views_and_seeds(small):
    record = run(small)
    assert {(row["arm"], row["seed"]) for row in record["runs"]} == {
        (arm, seed) for arm in ("no_teacher", "label_smoothing", "distilled") for seed in range(2)
    }
    assert {row["views"] for row in record["runs"]} == {record["settings"]["views"]}
    assert record["paper"]["distilled"]["test_errors"] == 74
    errors = [row["test_errors"] for row in record["runs"] if row["arm"] == "distilled"]
    assert record["means"]["distilled"]["test_errors"] == sum(errors) / 2
    assert len(record["comparisons"]) == 3


def test_what_is_stored_is_not_run_again(small, monkeypatch):
    first = run(small)
    monkeypatch.setattr(hinton_table, "fit", lambda *args, **kwargs: pytest.fail("a stored student was trained again"))
    assert run(small)["runs"] == first["runs"]


def test_the_answers_belong_to_the_shift_that_the_student_sees(small):
    hinton_table.teacher((0.3, 0.1), 1e-3, 1, 0)
    name = hinton_table.weights_of((0.3, 0.1), 1e-3, 1, 0).stem
    cached, images = hinton_table.answers(name)[:4], hinton_table.data().train.images[:4]
    which = torch.tensor([0, 7, 12, 24])
    own = hinton_table.load_teacher(name)(hinton_table.pick_shifts(images, which))
    assert (cached[torch.arange(4), which].float() - own).abs().max() < 0.01
    assert (cached[torch.arange(4), which.flip(0)].float() - own).abs().max() > 0.01
