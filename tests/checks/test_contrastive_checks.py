"""Exercise 05: right answers in several styles pass, and each typical mistake gets its own message."""

import math

import pytest
import torch
import torch.nn.functional as F

from kdcourse.checks import (
    CheckFailed,
    check_contrastive_verdicts,
    check_info_nce_loss,
    check_push_picture,
    check_queue_loss,
    check_queue_push,
)
from kdcourse.losses import EmbeddingQueue, info_nce_loss


class AlwaysEqual:
    """Compares true with everything."""

    def __eq__(self, other):
        return True

    __lt__ = __le__ = __gt__ = __ge__ = __eq__
    __hash__ = None


NOTHING = [(lambda *a, **k: None, "got None"), (lambda *a, **k: torch.tensor(math.nan), "not finite|shape"),
           (lambda *a, **k: AlwaysEqual(), "got AlwaysEqual"), (AlwaysEqual(), "a function is needed|got AlwaysEqual"),
           (lambda: 0, "TypeError")]  # fmt: skip


def unit(x, dim=1):
    return x / x.norm(dim=dim, keepdim=True)


def nce(scores):
    return F.cross_entropy(scores, torch.arange(len(scores)))


def plain(s, t, *, temperature, scale=unit, one_way=nce):
    scores = scale(s) @ scale(t.detach()).T / temperature
    return (one_way(scores) + one_way(scores.T)) / 2


def by_einsum(student, teacher, *, temperature):
    scores = torch.einsum("id,jd->ij", F.normalize(student), F.normalize(teacher).detach()) / temperature
    there, back = scores.log_softmax(dim=1), scores.log_softmax(dim=0)
    return -(there.diagonal() + back.diagonal()).mean() / 2


class AsClass:
    def __call__(self, student, teacher, *, temperature):
        with torch.no_grad():
            fixed = unit(teacher)
        scores = F.cosine_similarity(student[:, None], fixed[None], dim=2) / temperature
        losses = [2 * scores[i, i] - scores[i].logsumexp(0) - scores[:, i].logsumexp(0) for i in range(len(scores))]
        return -sum(losses) / (2 * len(losses))


@pytest.mark.parametrize("right", [plain, by_einsum, AsClass()])
def test_a_right_loss_passes_however_it_is_written(right):
    for seed in range(5):
        check_info_nce_loss(right, seed=seed)


def written_out(scores):
    return -(scores.exp().diagonal() / scores.exp().sum(dim=1)).log().mean()


def without_positive(scores):
    e = scores.exp()
    return -(e.diagonal() / (e.sum(dim=1) - e.diagonal())).log().mean()


def same_side(s, t, *, temperature):
    s, t = unit(s), unit(t.detach())
    found = []
    for own in (s, t):
        scores = own @ own.T / temperature
        found.append(torch.logsumexp(scores, 1).mean() - (s * t).sum(1).mean() / temperature)
    return sum(found) / 2


def one_way_back(s, t, *, temperature):
    scores = unit(s) @ unit(t.detach()).T / temperature
    return (nce(scores) + nce(scores.T.detach())) / 2


def with_way(one_way, **more):
    return lambda s, t, *, temperature: plain(s, t, temperature=temperature, one_way=one_way, **more)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda s, t, *, temperature: plain(s, t, temperature=temperature, scale=lambda x: x), "not scaled"),
        (lambda s, t, *, temperature: plain(s, t, temperature=temperature, scale=lambda x: unit(x, 0)), "Columns were"),
        (lambda s, t, *, temperature: plain(s, t, temperature=temperature, scale=lambda x: x / x.norm()), "whole"),
        (lambda s, t, *, temperature: nce(unit(s) @ unit(t.detach()).T / temperature), "the student finds its teacher"),
        (lambda s, t, *, temperature: nce(unit(t.detach()) @ unit(s).T / temperature), "the teacher finds its student"),
        (lambda s, t, *, temperature: 2 * plain(s, t, temperature=temperature), "directions are added"),
        (lambda s, t, *, temperature: plain(s, t, temperature=1 / temperature), "temperature multiplies"),
        (lambda s, t, *, temperature: plain(s, t, temperature=1), "temperature is not used"),
        (with_way(without_positive), "positive is missing"),
        (with_way(lambda z: F.cross_entropy(z, torch.arange(len(z)), reduction="sum")), "summed over the batch"),
        (with_way(lambda z: z.log_softmax(1).diagonal().mean()), "sign is wrong"),
        (with_way(lambda z: (z.exp().mean(1).log() - z.diagonal()).mean()), "mean over the candidates"),
        (with_way(lambda z: -z.diagonal().mean()), "scores alone"),
        (with_way(lambda z: 1 - z.softmax(1).diagonal().mean()), "one minus the positive's share"),
        (same_side, "own network"),
        (with_way(written_out), "Stay in log space"),
        (with_way(lambda z: -z.softmax(1).diagonal().log().mean()), "Stay in log space"),
        (lambda s, t, *, temperature: info_nce_loss(s.detach(), t, temperature=temperature), "No gradient reaches"),
        (one_way_back, "right value and a wrong gradient"),
        (lambda s, t, *, temperature: (nce(unit(s) @ unit(t).T / temperature) + nce(unit(t) @ unit(s).T / temperature))
         / 2, "gradient reaches the teacher"),
        *NOTHING,
    ],
)  # fmt: skip
def test_each_wrong_loss_is_told_its_own_mistake(wrong, told):
    for seed in range(5):
        with pytest.raises(CheckFailed, match=told):
            check_info_nce_loss(wrong, seed=seed)


def push(bank, count, x):
    new = bank.clone()
    for offset, row in enumerate(x):
        new[(count + offset) % len(bank)] = row / row.norm()
    return new, count + len(x)


def with_queue(bank, count, x):
    queue = EmbeddingQueue(bank.shape[1], len(bank))
    queue.vectors.copy_(bank)
    queue.count += count
    queue.push(x)
    return queue.vectors, queue.count


class PushAsClass:
    def __call__(self, bank, count, embeddings):
        rows, x = [row.tolist() for row in bank], F.normalize(embeddings, dim=1).tolist()
        for vector in x:
            rows[count % len(rows)] = vector
            count += 1
        return torch.tensor(rows), count


@pytest.mark.parametrize("right", [push, with_queue, PushAsClass()])
def test_a_right_push_passes(right):
    for seed in range(3):
        check_queue_push(right, seed=seed)


def broken(bank, pointer, embeddings, scale=lambda x: x, total=False):
    count, pointer = pointer, pointer % len(bank)
    if pointer + len(embeddings) > len(bank):
        pointer = 0
    bank = bank.clone()
    bank[pointer : pointer + len(embeddings)] = scale(embeddings)
    return bank, count + len(embeddings) if total else (pointer + len(embeddings)) % len(bank)


def in_place(bank, count, x):
    bank[torch.arange(count, count + len(x)) % len(bank)] = unit(x)
    return bank, count + len(x)


def by_slices(bank, count, x):  # right as long as a batch fits into the bank
    start, new, x = count % len(bank), bank.clone(), unit(x)
    room = len(bank) - start
    new[start : start + len(x)] = x[:room]
    new[: max(0, len(x) - room)] = x[room:]
    return new, count + len(x)


def keeps(cut):
    def wrong(bank, count, x):
        return push(bank, count, cut(x, len(bank)))[0], count + len(x)

    return wrong


def cut_off(bank, count, x):
    new, start = bank.clone(), count % len(bank)
    room = min(len(x), len(bank) - start)
    new[start : start + room] = unit(x[:room])
    return new, count + len(x)


def counts_kept(bank, count, x):
    return push(bank, count, x)[0], count + min(len(x), len(bank))


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (broken, "starts at row 0"),
        (lambda b, c, x: broken(b, c, x, total=True), "starts at row 0"),
        (lambda b, c, x: broken(b, c, x, scale=unit), "starts at row 0"),
        (lambda b, c, x: broken(b, c, x, scale=unit, total=True), "starts at row 0"),
        (lambda b, c, x: (torch.stack([push(b, c, x)[0][i] if i not in [(c + n) % 10 for n in range(len(x))] else
                                       x[(i - c) % 10] for i in range(10)]), c + len(x)), "not scaled to length 1"),
        (lambda b, c, x: (push(b, c, x)[0], (c + len(x)) % len(b)), "the next row"),
        (lambda b, c, x: (push(b, c, x)[0], c), "did not go on"),
        (lambda b, c, x: (push(b, c, x)[0], min(c + len(x), len(b))), "stops at the size"),
        (cut_off, "cut off"),
        (lambda b, c, x: (torch.cat([b[len(x):], unit(x)]), c + len(x)), "rows were shifted"),
        (lambda b, c, x: push(b, c, x)[0], "Only the bank"),
        (lambda b, c, x: push(b, c, x)[::-1], "count came first"),
        (in_place, "changes the tensor `bank` in place"),
        (by_slices, "larger than the bank raises an error"),
        (keeps(lambda x, size: x[:size]), "first embeddings stayed"),
        (keeps(lambda x, size: x[-size:]), "not in their rows"),
        (counts_kept, "only those that stay were counted"),
        (lambda b, c, x: push(b, c, x[-len(b):]), "counted and placed"),
        *NOTHING,
    ],
)  # fmt: skip
def test_each_mistake_left_in_the_queue_is_named(wrong, told):
    for seed in range(3):
        with pytest.raises(CheckFailed, match=told):
            check_queue_push(wrong, seed=seed)


def row_by_row(
    s, t, labels, *, queue, queue_labels, temperature, batch=True, bank=True, empty=True, keep=True, scale=unit
):
    s, t, total = scale(s), scale(t.detach()), 0
    for i in range(len(s)):
        candidates = [t[i] @ s[i] / temperature] if keep else []
        for j in range(len(s)):
            if j != i and (labels[j] != labels[i] or not batch):
                candidates.append(t[j] @ s[i] / temperature)
        for vector, label in zip(queue, queue_labels, strict=True):
            if (label != labels[i] or not bank) and (label >= 0 or not empty):
                candidates.append(vector @ s[i] / temperature)
        total = total + torch.logsumexp(torch.stack(candidates), 0) - t[i] @ s[i] / temperature
    return total / len(s)


def with_package(s, t, labels, *, queue, queue_labels, temperature):
    held = EmbeddingQueue(queue.shape[1], len(queue))
    held.push(queue[queue_labels >= 0], queue_labels[queue_labels >= 0])
    return info_nce_loss(s, t, labels=labels, queue=held, temperature=temperature, symmetric=False)


class QueueAsClass:
    def __call__(self, s, t, labels, *, queue, queue_labels, temperature):
        s, t = F.normalize(s, dim=1), F.normalize(t, dim=1).detach()
        full = queue_labels != -1
        others, classes = torch.cat([t, queue[full]]), torch.cat([labels, queue_labels[full]])
        drop = labels[:, None] == classes[None]
        drop.fill_diagonal_(False)
        return -(s @ others.T / temperature - 1e9 * drop).log_softmax(dim=1).diagonal().mean()


@pytest.mark.parametrize("right", [row_by_row, with_package, QueueAsClass()])
def test_a_right_queue_loss_passes(right):
    for seed in range(4):
        check_queue_loss(right, seed=seed)


def masked_by_product(s, t, labels, *, queue, queue_labels, temperature):
    others, classes = torch.cat([t.detach(), queue]), torch.cat([labels, queue_labels])
    keep = (labels[:, None] != classes) & (classes >= 0)
    keep.fill_diagonal_(True)
    return nce_of(F.normalize(s) @ F.normalize(others).T / temperature * keep)


def nce_of(scores):
    return F.cross_entropy(scores, torch.arange(len(scores)))


def probabilities(s, t, labels, *, queue, queue_labels, temperature):
    others, classes = torch.cat([unit(t.detach()), queue]), torch.cat([labels, queue_labels])
    keep = (labels[:, None] != classes) & (classes >= 0)
    keep.fill_diagonal_(True)
    e = (unit(s) @ others.T / temperature).exp() * keep
    return -(e.diagonal() / e.sum(dim=1)).log().mean()


def both_ways(s, t, labels, **knobs):
    back = (unit(t.detach()) @ unit(s).T / knobs["temperature"]).masked_fill(
        (labels[:, None] == labels) & ~torch.eye(len(s)).bool(), -math.inf
    )
    return (row_by_row(s, t, labels, **knobs) + nce(back)) / 2


def changed(**changes):
    return lambda s, t, labels, **knobs: row_by_row(s, t, labels, **knobs, **changes)


def without_queue(s, t, labels, *, queue, queue_labels, temperature):
    return row_by_row(s, t, labels, queue=[], queue_labels=[], temperature=temperature)


def only_queue(s, t, labels, *, queue, queue_labels, temperature):
    positive = (unit(s) * unit(t.detach())).sum(1, keepdim=True) / temperature
    drop = (labels[:, None] == queue_labels) | (queue_labels < 0)
    scores = torch.cat([positive, (unit(s) @ queue.T / temperature).masked_fill(drop, -math.inf)], dim=1)
    return F.cross_entropy(scores, torch.zeros(len(s), dtype=torch.long))


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (changed(batch=False, bank=False), "still in, in batch and queue"),
        (changed(batch=False, bank=False, empty=False), "Nothing was left out"),
        (changed(bank=False), "in the batch only"),
        (changed(bank=False, empty=False), "in the batch only.*empty rows"),
        (changed(batch=False), "in the queue only"),
        (changed(empty=False), "cosine 0 with everything"),
        (masked_by_product, "exponential of 0 is 1"),
        (changed(keep=False), "positive was left out"),
        (without_queue, "queue is not used"),
        (only_queue, "other images are missing"),
        (lambda s, t, y, **knobs: row_by_row(s, t, y, **knobs).exp().reciprocal().log().neg(), "Stay in log space"),
        (changed(scale=lambda x: x), "not scaled to length 1"),
        (both_ways, "Both directions came"),
        (lambda s, t, y, **knobs: row_by_row(s, t, y, **{**knobs, "temperature": 1}), "temperature is not used"),
        (lambda s, t, y, **knobs: len(s) * row_by_row(s, t, y, **knobs), "summed over the batch"),
        (probabilities, "Stay in log space"),
        (lambda s, t, y, **knobs: row_by_row(s.detach(), t, y, **knobs), "No gradient reaches"),
        (lambda s, t, y, **knobs: row_by_row(s, t, y, **knobs) + 0 * t.sum() + (unit(t) - unit(t).detach()).sum(),
         "gradient reaches the teacher"),
        *NOTHING,
    ],
)  # fmt: skip
def test_each_wrong_queue_loss_is_told_its_own_mistake(wrong, told):
    for seed in range(4):
        with pytest.raises(CheckFailed, match=told):
            check_queue_loss(wrong, seed=seed)


def test_answers_about_the_push(capsys):
    check_push_picture(["c", "A", " b"])
    assert capsys.readouterr().out.count("Passed") == 3
    for answers, told in [
        (["a", "a", "b"], "no positive is a negative"),
        (["b", "a", "b"], "same image, not the same digit"),
        (["c", "b", "b"], "same in every line"),
        (["c", "c", "b"], "nothing was trained"),
        (["c", "a", "a"], "more are of the same digit"),
        (["c", "a", "c"], "an earlier batch"),
        ([AlwaysEqual()] * 3, "one letter"),
    ]:
        with pytest.raises(CheckFailed, match=told):
            check_push_picture(answers)


def test_the_experiment_is_judged_by_its_intervals():
    errors = {"left out": [100, 110, 105], "no_teacher": [200, 212, 204], "false negatives in": [101, 109, 104],
              "squared error": [50, 61, 54], "label_smoothing": [101, 110, 103]}  # fmt: skip
    right = {
        ("left out", "no_teacher"): "better",
        ("left out", "false negatives in"): "unclear",
        ("left out", "squared error"): "worse",
        ("false negatives in", "label_smoothing"): "unclear",
    }
    check_contrastive_verdicts(right, errors)
    for pair, word in right.items():
        with pytest.raises(CheckFailed, match="the interval of the paired difference"):
            check_contrastive_verdicts({**right, pair: "worse" if word != "worse" else "better"}, errors)
        with pytest.raises(CheckFailed, match="a verdict is"):
            check_contrastive_verdicts({**right, pair: AlwaysEqual()}, errors)
        with pytest.raises(CheckFailed, match="no verdict for"):
            check_contrastive_verdicts({other: right[other] for other in right if other != pair}, errors)
    for wrong in (AlwaysEqual(), None):
        with pytest.raises(CheckFailed, match="must be the dict"):
            check_contrastive_verdicts(wrong, errors)
    with pytest.raises(NotImplementedError):
        check_contrastive_verdicts(dict.fromkeys(right), errors)


def test_stubs_are_not_mistakes():
    def stub(*args, **kwargs):
        raise NotImplementedError("Task 1")

    for check in (check_info_nce_loss, check_queue_push, check_queue_loss):
        with pytest.raises(NotImplementedError, match="Task 1"):
            check(stub)
    with pytest.raises(NotImplementedError, match="no answer yet"):
        check_push_picture([None, None, None])
