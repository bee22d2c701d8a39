"""Hinton's experiments at full size: how the bias is chosen, and that a run that is done is not run again."""

import json

import pytest
import torch

from experiments import hinton
from kdcourse import zoo
from kdcourse.models import make_hinton_teacher


def test_the_bias_chosen_is_the_one_that_was_taken_away():
    labels = torch.arange(10).repeat(20)  # (200,)
    logits = 6.0 * torch.nn.functional.one_hot(labels, 10)  # (200, 10), right by a margin of 6
    logits[:, 3] -= 9.0  # every 3 is missed by 3, others are right by 6 to 15
    bias = hinton.choose_bias(logits, labels, classes=(3,))
    assert 3 < bias < 15
    assert not hinton.count_errors_with(logits, labels, bias=bias, classes=(3,)).any()
    assert hinton.count_errors_with(logits, labels, bias=0.0, classes=(3,)).sum() == 20


@pytest.mark.slow
def test_a_second_run_reads_what_the_first_has_measured(tmp_path, monkeypatch):
    torch.manual_seed(0)
    teacher = make_hinton_teacher().eval()
    monkeypatch.setattr(zoo, "load", lambda name, device: teacher)
    monkeypatch.setattr(zoo, "provenance", lambda name: {"command": "none", "date": "never", "test_errors": 9000})
    written = []
    monkeypatch.setattr(hinton, "write_json", lambda name, record: written.append(record))
    asked = ["--epochs", "1", "--seeds", "2", "--images", "300", "--width", "8", "--folder", str(tmp_path)]
    asked += ["--threads", "1", "--device", "cpu", "--no-progress", "--arms", "no_teacher", "distilled", "without_3"]
    hinton.main(asked)
    monkeypatch.setattr(hinton, "fit", lambda *args, **kwargs: pytest.fail("trained again"))
    hinton.main(asked)
    first, second = (json.dumps(record, sort_keys=True) for record in written)
    assert first == second
    assert {row["arm"] for row in written[0]["runs"]} == {"no_teacher", "distilled", "without_3"}
    assert all(row["images"] < 300 for row in written[0]["runs"] if row["arm"] == "without_3")
    assert not list(tmp_path.glob("*.pt"))
