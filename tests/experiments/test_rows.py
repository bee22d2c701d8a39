"""Experiments of chapter 12: a stopped run continues, and each verdict follows its rule."""

import pytest

from experiments import continual, quantisation
from experiments._rows import measured


def test_a_job_that_has_a_row_is_not_run_again(tmp_path):
    done = []

    def run(*, arm, seed):
        done.append((arm, seed))
        if len(done) == 3:
            raise KeyboardInterrupt
        return {"errors": 10 * seed}

    jobs = [{"arm": arm, "seed": seed} for arm in ("a", "b") for seed in (1, 2)]
    with pytest.raises(KeyboardInterrupt):
        measured("trial", jobs, run, folder=tmp_path)
    rows = measured("trial", jobs, run, folder=tmp_path)
    assert done == [("a", 1), ("a", 2), ("b", 1), ("b", 1), ("b", 2)]
    assert rows == [{**job, "errors": 10 * job["seed"]} for job in jobs]
    measured("trial", [{"arm": "a", "seed": 1, "epochs": 2}], lambda **job: {"errors": 0}, folder=tmp_path)
    assert len((tmp_path / "trial.jsonl").read_text().splitlines()) == 5  # another setting is another job


LEVELS = {
    "task told: trained on": 300, "task told: trained on, smoothed labels": 900, "task told: LwF": 120,
    "not told: trained on": 8060, "not told: trained on, smoothed labels": 8060,
    "not told: LwF": 8050, "not told: 20 exemplars": 2300, "not told: LwF and 20 exemplars": 1900,
    "not told: all images kept": 310,
}  # fmt: skip


def continual_rows(**levels):
    return [
        {"arm": arm, "seed": seed, "test_errors": levels.get(arm, level) + 3 * seed * (place % 3)}
        for place, (arm, level) in enumerate(LEVELS.items())
        for seed in range(5)
    ]


def continual_words(**levels):
    rows = continual_rows(**levels)
    return continual.verdicts(rows, continual.comparisons(rows))


def test_every_arm_has_its_settings_and_every_pair_its_arms():
    assert list(LEVELS) == list(continual.ARMS)
    assert {arm for pair in continual.PAIRS for arm in pair} <= set(continual.ARMS)
    assert len(continual.CLAIMS) == len(continual_words())


def test_verdicts_of_continual_learning_follow_their_rules():
    assert continual_words() == ["holds"] * 4
    assert continual_words(**{"task told: LwF": 1200})[0] == "does not hold here"
    assert continual_words(**{"task told: LwF": 290})[0] != "holds"  # an effect below the smallest that counts
    assert continual_words(**{"not told: LwF": 4000})[1] == "does not hold here"
    assert continual_words(**{"not told: LwF and 20 exemplars": 7900})[2] == "does not hold here"
    assert continual_words(**{"not told: LwF and 20 exemplars": 2310})[3] == "too small to matter"


def quantisation_words(**change):
    levels = {"float": 650, "8 bits, a scale a row": 652, "8 bits, one scale": 655}
    for bits, (tensor, row, labels, smoothed, teacher) in {
        4: (700, 665, 640, 620, 590), 3: (960, 900, 680, 660, 620), 2: (8400, 5200, 820, 800, 760),
    }.items():  # fmt: skip
        levels |= {
            f"{bits} bits, one scale": tensor, f"{bits} bits, a scale a row": row,
            f"{bits} bits, trained by labels": labels, f"{bits} bits, trained by smoothed": smoothed,
            f"{bits} bits, trained by teacher": teacher,
        }  # fmt: skip
    levels |= {f"float, trained on by {how}": 600 for how in ("labels", "smoothed", "teacher")}
    levels |= change
    rows = [
        {"seed": seed, "errors": {arm: level + seed * (place % 3) for place, (arm, level) in enumerate(levels.items())}}
        for seed in range(5)
    ]
    return quantisation.verdicts(quantisation.comparisons(rows))


def test_verdicts_of_quantisation_follow_their_rules():
    assert len(quantisation.CLAIMS) == 4
    assert quantisation_words() == ["holds"] * 4
    assert quantisation_words(**{"8 bits, a scale a row": 720})[0] == "does not hold here"
    assert quantisation_words(**{"4 bits, one scale": 600})[1].startswith("does not hold here")
    assert quantisation_words(**{"3 bits, trained by labels": 1000})[2].startswith("does not hold here")
    assert quantisation_words(**{"2 bits, trained by teacher": 798})[3] == "unclear: better in 3 of 4 comparisons"


@pytest.mark.slow
def test_both_experiments_run_from_end_to_end(tmp_path, monkeypatch):
    written = {}
    for module in (continual, quantisation):
        monkeypatch.setattr(module, "write_json", lambda name, record: written.update({name: record}))
        rows = module.measured
        monkeypatch.setattr(module, "measured", lambda *args, rows=rows: rows(*args, folder=tmp_path))
    continual.main(["--seeds", "2", "--images", "300", "--width", "8", "--batch-size", "60"])
    monkeypatch.setattr(quantisation, "TEACHER", "teacher_mlp")
    quantisation.main(["--seeds", "2", "--images", "300", "--width", "8", "--first", "1", "--epochs", "1"])
    assert len(written["continual"]["runs"]) == 2 * len(continual.ARMS)  # the ceiling too: there are fewer seeds
    assert [len(row) for row in written["continual"]["runs"][0]["accuracies"]] == [1, 2, 3, 4, 5]
    assert len(written["quantisation"]["runs"]) == 2
    assert all(record["claims"][0]["verdict"] for record in written.values())
