"""Experiment ``language``: what its terms weigh, that a killed run goes on, and the rules of its verdicts."""

import itertools
import json
import threading

import pandas as pd
import pytest
import torch

pytest.importorskip("transformers")

from experiments import language
from experiments._language_plan import ALL, COPIED, GRID, RANDOM, Settings, Task, stages, weights_of
from experiments._language_terms import WORDS_WEIGHT, language_objective, teach
from experiments._language_verdicts import ATTENTION, BASELINES, OTHERS, attention_verdict, start_verdict, summarise
from kdcourse.data.definitions import Definitions, TextSplit
from kdcourse.losses import HiddenProjection
from kdcourse.models.language import make_bert

TINY = Settings(
    labelled=6, copies=2, unlabelled=12, batch_size=8, test=10, test_words=10, held_out=10, max_length=12, seeds=2
)
FIRST = {term: weights[0] for terms in GRID.values() for term, weights in terms.items()}


@pytest.fixture(scope="module")
def teacher():
    torch.manual_seed(0)
    return make_bert(layers=4, width=16, heads=2).eval()


@pytest.fixture(scope="module")
def batch():
    generator = torch.Generator().manual_seed(0)
    real = (torch.arange(9) < torch.tensor([[9], [4], [6]])).long()
    ids = torch.randint(5, 6000, (3, 9), generator=generator) * real
    words = torch.full((3, 9), -100)
    words[:, 1] = ids[:, 1]
    return ids, real, torch.tensor([3, -100, 5]), words, torch.arange(3)


def terms_of(batch, teacher, arm, **settings):
    torch.manual_seed(1)
    student = make_bert(layers=2, width=16, heads=2).eval()
    taught = teach(teacher, batch[0], batch[1], blocks=2)
    weights = dict(weights_of(arm, FIRST))
    return student, language_objective(student, *batch, weights=weights, taught=taught, teacher=teacher, **settings)


@pytest.mark.parametrize("arm", ALL)
def test_each_arm_adds_its_term_to_labels_and_hidden_words(batch, teacher, arm):
    _, terms = terms_of(batch, teacher, arm)
    assert all(term.isfinite() and term > 0 for term in terms.values())
    added = set(terms) - {"ce", "words", "triple kd", "triple mlm", "triple cosine"}
    assert added == set(dict(weights_of(arm, FIRST))) - {"triple"}
    assert ("words" in terms) != ("triple mlm" in terms)


def test_hidden_words_weigh_as_much_in_the_triple_loss(batch, teacher):
    _, plain = terms_of(batch, teacher, "no_teacher")
    _, triple = terms_of(batch, teacher, "triple loss")
    torch.testing.assert_close(triple["triple mlm"], plain["words"])
    _, (logits) = terms_of(batch, teacher, "logits")
    torch.testing.assert_close(logits["ce"], (1 - FIRST["kd"]) * plain["ce"])


def test_unknown_labels_reach_no_classifier(batch, teacher):
    ids, real, labels, words, index = batch
    student, terms = terms_of((ids, real, torch.full_like(labels, -100), words, index), teacher, "no_teacher")
    assert terms["ce"] == 0
    terms["ce"].backward()
    assert student.classifier.weight.grad.abs().sum() == 0
    assert terms["words"] > WORDS_WEIGHT * 5  # a random model hesitates among thousands of words


def test_a_student_equal_to_its_teacher_has_nothing_to_learn_inside(batch, teacher):
    taught = teach(teacher, batch[0], batch[1], blocks=4)
    weights = {term: 1.0 for term in ("embedding", "hidden", "scores", "probabilities", "minilm")}
    terms = language_objective(teacher, *batch, weights=weights, taught=taught, teacher=teacher)
    assert all(terms[name] < 1e-3 for name in weights)  # the cache is in bfloat16


def test_a_narrow_student_needs_a_projection_for_hidden_states(batch, teacher):
    student, taught = make_bert(layers=2, width=32, heads=2), teach(teacher, batch[0], batch[1], blocks=2)
    asked = {"weights": {"hidden": 1.0}, "taught": taught, "teacher": teacher}
    with pytest.raises(ValueError, match="have widths 32 and 16"):
        language_objective(student, *batch, **asked)
    assert language_objective(student, *batch, **asked, projection=HiddenProjection(32, 16))["hidden"] > 0


def fake_run(task, material):
    score = {"held_out_errors": task.lr * 1e3} if task.block == "choice" else {"test_errors": 1, "perplexity": 2.0}
    return {"block": task.block, "start": task.start, "arm": task.arm, "seed": task.seed, **score, "cpu_seconds": 1.0}


def test_two_parts_share_the_work_and_a_second_start_trains_nothing(tmp_path, monkeypatch):
    trained = []
    monkeypatch.setattr(language, "Material", lambda settings, teacher: None)
    monkeypatch.setattr(language, "run", lambda task, material: trained.append(task.key) or fake_run(task, material))
    monkeypatch.setattr(language.time, "sleep", lambda seconds: threading.Event().wait(0.01))
    for _ in range(2):
        parts = [threading.Thread(target=language.work, args=(part, 2, tmp_path, TINY, None)) for part in range(2)]
        for thread in parts:
            thread.start()
        for thread in parts:
            thread.join()
    done = language.read_rows(tmp_path)
    assert len(trained) == len(set(trained)) == len(done)
    assert {task.key for tasks in stages(TINY, done) for task in tasks} == set(done)


def test_a_line_torn_by_a_kill_costs_that_run_only(tmp_path):
    path = tmp_path / "runs-0of1.jsonl"
    tasks = [Task("1,000 labels", 256, RANDOM, arm, 0, 1e-3) for arm in ("no_teacher", "logits")]
    language.append_row(path, tasks[0], {"test_errors": 5})
    with path.open("a") as file:
        file.write('{"key": "half a li')
    language.append_row(path, tasks[1], {"test_errors": 7})
    assert [row["test_errors"] for row in language.read_rows(tmp_path).values()] == [5, 7]


def test_the_choice_takes_the_fewest_held_out_errors():
    done = {}
    for tasks in itertools.islice(stages(TINY, done), 2):
        for place, task in enumerate(tasks):
            done[task.key] = {"held_out_errors": -place}  # the last candidate of each kind is best
    blocks = list(stages(TINY, done))[2:]
    assert [tasks[0].block for tasks in blocks] == [
        "1,000 labels",
        "student of width 128",
        "narrow student",
        "all labels",
    ]
    logits = next(task for task in blocks[0] if task.arm == "logits" and task.start == COPIED)
    assert (logits.lr, logits.weights) == (1e-3, (("kd", 0.9),))


@pytest.mark.slow
def test_the_whole_experiment_runs_small_and_leaves_a_record(tmp_path, monkeypatch, teacher):
    written = {}
    monkeypatch.setattr(language, "write_json", lambda name, record: written.setdefault(name, record))
    language.work(0, 1, tmp_path, TINY, teacher)
    language.record(tmp_path, TINY, teacher, {"test_errors": 1}, "none")
    record = json.loads(json.dumps(written["language"]))
    assert len(record["runs"]) == 2 * (2 * 10 + 6 + 6 + 2 * 4)
    assert len(record["comparisons"]) == 6
    assert {row["claim"][:9] for row in record["verdicts"]} == {"attention", "the teach"}
    assert all(row["perplexity"] > 1 for row in record["runs"])


def made_up(errors):
    """Runs with these mean errors, and a spread of one error."""
    return pd.DataFrame(
        [
            {"block": "b", "start": RANDOM, "arm": arm, "seed": seed, "test_errors": mean + seed % 2 * (place % 2),
             "perplexity": 9.0}
            for place, (arm, mean) in enumerate(errors.items())
            for seed in range(4)
        ]
    )  # fmt: skip


@pytest.mark.parametrize(
    ("attention", "rival", "plain", "word"),
    [
        (500, 700, 900, "holds"),
        (700, 500, 900, "does not hold"),
        (500, 700, 400, "unclear"),  # better than the rival, not than the plain student
        (700, 705, 900, "too small to matter"),
    ],
)
def test_attention_is_judged_against_its_best_rival_and_both_baselines(attention, rival, plain, word):
    errors = dict.fromkeys(BASELINES, plain) | dict.fromkeys(ATTENTION, attention + 50) | dict.fromkeys(OTHERS, 800)
    found = attention_verdict(made_up(errors | {"MiniLM": attention, "logits": rival}), OTHERS, 30.0)
    assert (found["best attention term"], found["best other term"]) == ("MiniLM", "logits")
    assert found["verdict"] == word


def test_a_start_is_judged_against_the_best_single_term():
    random = made_up({"no_teacher": 900, "logits": 700, "all together": 100})
    copied = made_up({"no_teacher": 400, "logits": 390}).assign(start=COPIED)
    found = start_verdict(pd.concat([random, copied]), 30.0)
    assert (found["best other term"], found["verdict"]) == ("logits", "holds")
    assert start_verdict(random, 30.0) is None


def test_a_seed_that_an_arm_lacks_is_left_out_of_the_block():
    runs = made_up({"no_teacher": 900, "label_smoothing": 800, "logits": 700})
    summary = summarise(runs[(runs.seed < 3) | (runs.arm != "logits")].to_dict("records"), 30.0)
    assert {row["n"] for row in summary["comparisons"][f"b, {RANDOM}"]} == {3}
    assert summary["verdicts"] == []


@pytest.mark.parametrize(("block", "rivals"), [("b", "all terms"), ("b", "terms on the inside of the network")])
def test_the_ledger_reads_the_same_three_comparisons(block, rivals):
    errors = dict.fromkeys(BASELINES, 900) | dict.fromkeys(ATTENTION, 500) | dict.fromkeys(OTHERS, 700)
    summary = summarise(made_up(errors).to_dict("records"), 30.0)
    rows = summary["best_terms"][f"best attention term, {rivals}, {block}, {RANDOM}"]
    assert [row["baseline"] for row in rows] == ["best other term", *BASELINES]
    assert {row["arm"] for row in rows} == {"best attention term"}
    assert [row["verdict"] for row in rows] == ["better"] * 3
    (found,) = [row for row in summary["verdicts"] if row["claim"].endswith(rivals)]
    assert (found["difference"], found["verdict"]) == (rows[0]["difference"], "holds")


def test_the_linear_model_counts_words_and_chooses_on_held_out_definitions():
    pytest.importorskip("sklearn")
    from experiments._language_linear import STRENGTHS, linear_model

    def split(count, lemma):
        texts = [("a kind act", "a large cat")[place % 2] + " of" * (place % 3) for place in range(count)]
        return TextSplit(tuple(texts), torch.arange(count) % 2, (lemma,) * count)

    definitions = Definitions(split(20, "a"), split(6, "b"), split(8, "c"), ("act", "animal"))
    found = linear_model(definitions)
    assert (found["test_errors"], found["test_definitions"], found["training_definitions"]) == (0, 8, 20)
    assert len(found["held_out_errors"]) == len(STRENGTHS)
