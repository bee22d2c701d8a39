"""Exercise 01: right answers in several styles pass, and each typical mistake gets its own message."""

import math

import pytest
import torch
import torch.nn.functional as F

from kdcourse.checks import (
    CheckFailed,
    check_dark_knowledge,
    check_ensemble_logits,
    check_ensemble_verdicts,
    check_entropy,
    check_measured_accuracy,
    check_measured_size,
    check_soften,
)


class AlwaysEqual:
    """Compares true with everything."""

    def __eq__(self, other):
        return True

    __lt__ = __le__ = __gt__ = __ge__ = __eq__
    __hash__ = None


NOTHING = [
    (lambda *args, **kwargs: None, "got None"),
    (lambda *args, **kwargs: torch.tensor(math.nan), "shape|not finite"),
    (lambda *args, **kwargs: AlwaysEqual(), "got AlwaysEqual"),
    (AlwaysEqual(), "a function is needed"),
    (lambda: 0, "TypeError"),
]


def each_is_told(check, wrong, told):
    for seed in range(5):
        with pytest.raises(CheckFailed, match=told):
            check(wrong, seed=seed)


def each_passes(check, right):
    for seed in [*range(5), None]:
        check(right, seed=seed)


def written_out(logits, *, temperature):
    z = logits / temperature
    powers = (z - z.max(dim=1, keepdim=True).values).exp()
    return powers / powers.sum(dim=1, keepdim=True)


class Softener:
    def __call__(self, logits, *, temperature=1.0):
        return F.log_softmax(logits / temperature, dim=-1).exp()


@pytest.mark.parametrize(
    "right",
    [lambda logits, *, temperature: torch.softmax(logits / temperature, 1), written_out, Softener()],
    ids=["softmax", "written out", "class"],
)
def test_a_right_softening_passes(right):
    each_passes(check_soften, right)


def normalised_again(logits, *, temperature):
    p = logits.softmax(1) / temperature
    return p / p.sum(1, keepdim=True)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda z, *, temperature: F.softmax(z * temperature, dim=1), "multiplied by T"),
        (lambda z, *, temperature: F.softmax(z, dim=1) / temperature, "no longer sum to 1"),
        (normalised_again, "T has no effect"),
        (lambda z, *, temperature: F.softmax(z / temperature, dim=0), "over the batch"),
        (lambda z, *, temperature: F.log_softmax(z / temperature, dim=1), "logarithms of probabilities"),
        (lambda z, *, temperature: z / z.sum(1, keepdim=True), "divided by their row's sum"),
        (lambda z, *, temperature: (z / temperature).exp() / (z / temperature).exp().sum(1, True), "overflow"),
        (lambda z, *, temperature: F.softmax(z.div_(temperature), dim=1), "in place"),
        *NOTHING,
    ],
)
def test_each_wrong_softening_is_told_its_own_mistake(wrong, told):
    each_is_told(check_soften, wrong, told)


def with_where(p):
    return -torch.where(p > 0, p * p.clamp(min=1e-30).log(), 0).sum(dim=1)


def with_distribution(p):
    return torch.distributions.Categorical(probs=p).entropy()


@pytest.mark.parametrize(
    "right",
    [with_where, with_distribution, lambda p: -torch.xlogy(p, p).sum(1), lambda p: -(p * (p + 1e-12).log()).sum(1)],
    ids=["where", "distribution", "xlogy", "tiny"],
)
def test_a_right_entropy_passes(right):
    each_passes(check_entropy, right)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda p: (p * p.log()).sum(1), "sign is turned round"),
        (lambda p: -(p * p.log2()).sum(1), "in bits"),
        (lambda p: -(p * p.log()).mean(1), "K times too small"),
        (lambda p: -(p * p.log()).sum(0), "dim=0"),
        (lambda p: -(p * p.log()).sum(1).mean(), "their mean comes later"),
        (lambda p: -(p * p.log()).sum(), "a sum over everything"),
        (lambda p: (-(p * p.log()).sum(1)).exp(), "e to the entropy"),
        (lambda p: -p.log().sum(1), "not weighted"),
        (lambda p: -(p * p.log()).sum(1), "0 · log 0"),
        *NOTHING,
    ],
)
def test_each_wrong_entropy_is_told_its_own_mistake(wrong, told):
    each_is_told(check_entropy, wrong, told)


def by_counting(model, images, labels, *, batch_size):
    was = model.training
    model.eval()
    right = 0
    with torch.no_grad():
        for start in range(0, len(images), batch_size):
            answers = model(images[start : start + batch_size]).argmax(dim=1)
            right += (answers == labels[start : start + batch_size]).sum().item()
    model.train(was)
    return right / len(images)


@torch.inference_mode()
def all_at_once(model, images, labels, *, batch_size):
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    answers = torch.cat([model(part) for part in images.split(batch_size)]).argmax(-1)
    for module, mode in modes:
        module.training = mode
    return (answers == labels).float().mean()


@pytest.mark.parametrize("right", [by_counting, all_at_once])
def test_a_right_measurement_passes(right):
    each_passes(check_measured_accuracy, right)


def loop(model, images, labels, batch_size, *, mode, average=True, grad=False, restore=True, drop=False):
    was = model.training
    if mode is not None:
        model.train(mode)
    rates, right, seen = [], 0, 0
    with torch.set_grad_enabled(grad):
        for some, theirs in zip(images.split(batch_size), labels.split(batch_size), strict=True):
            if drop and len(some) < batch_size:
                continue
            hits = (model(some).argmax(1) == theirs).float()
            rates.append(hits.mean())
            right, seen = right + hits.sum(), seen + len(hits)
    if restore:
        model.train(was)
    return torch.stack(rates).mean() if average else right / seen


def measuring(*, transform=lambda share, images: share, **settings):
    def measure(model, images, labels, *, batch_size):
        return transform(loop(model, images, labels, batch_size, **settings), images)

    return measure


RIGHT = {"mode": False, "average": False}


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (measuring(mode=True, grad=True), r"training mode, and the batches' means"),
        (measuring(mode=None), r"training mode, and the batches' means"),
        (measuring(mode=False), "mean of the batches' means"),
        (measuring(mode=True, average=False), r"training mode: dropout"),
        (measuring(mode=None, average=False), r"training mode: dropout"),
        (measuring(**RIGHT, drop=True), "last batch never runs, or is left out"),
        (measuring(**RIGHT, grad=True), "what a gradient would need"),
        (measuring(**RIGHT, restore=False), "left in evaluation mode"),
        (measuring(**RIGHT, transform=lambda share, images: 1 - share), "share of wrong answers"),
        (measuring(**RIGHT, transform=lambda share, images: 100 * share), "in percent"),
        (measuring(**RIGHT, transform=lambda share, images: share * len(images)), "counts the right answers"),
        (measuring(**RIGHT, transform=lambda share, images: share * len(images) / 3), "number of batches"),
        *NOTHING,
    ],
)
def test_each_wrong_measurement_is_told_its_own_mistake(wrong, told):
    each_is_told(check_measured_accuracy, wrong, told)


def test_a_model_must_not_be_put_into_training_mode_either():
    def always_trains_on(model, images, labels, *, batch_size):
        share = by_counting(model, images, labels, batch_size=batch_size)
        model.train()
        return share

    each_is_told(check_measured_accuracy, always_trains_on, "left in training mode")


def from_state(model):
    numbers = sum(p.numel() for p in model.parameters())
    return torch.tensor([numbers, sum(t.nbytes for t in model.state_dict().values())])


def with_loops(model):
    parameters, size = 0, 0
    for p in model.parameters():
        parameters += p.numel()
        size += p.numel() * p.element_size()
    for b in model.buffers():
        size += b.numel() * b.element_size()
    return parameters, size


@pytest.mark.parametrize("right", [from_state, with_loops])
def test_a_right_size_passes(right):
    each_passes(check_measured_size, right)


def trained(model):
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda m: (trained(m), with_loops(m)[1]), "Only what is trained"),
        (lambda m: (len(list(m.parameters())), with_loops(m)[1]), "numbers of tensors"),
        (lambda m: (sum(t.numel() for t in m.state_dict().values()), with_loops(m)[1]), "Buffers are counted"),
        (lambda m: (with_loops(m)[0], sum(p.nbytes for p in m.parameters())), "leave out the buffers"),
        (lambda m: (with_loops(m)[0], 4 * with_loops(m)[0]), "leave out the buffers.*4 bytes"),
        (lambda m: (with_loops(m)[0], 4 * sum(t.numel() for t in m.state_dict().values())), "4 bytes"),
        (lambda m: (with_loops(m)[0], with_loops(m)[1] / 1000), "kilobytes"),
        (lambda m: (with_loops(m)[0], with_loops(m)[1] / 1024), "kilobytes"),
        (lambda m: with_loops(m)[::-1], "swapped"),
        *NOTHING,
    ],
)
def test_each_wrong_size_is_told_its_own_mistake(wrong, told):
    each_is_told(check_measured_size, wrong, told)


def in_log_space(all_logits):
    return torch.logsumexp(F.log_softmax(all_logits, dim=2), dim=0) - math.log(len(all_logits))


def with_a_floor(all_logits):
    return torch.einsum("mbk->bk", all_logits.softmax(2)).div(len(all_logits)).clamp(min=1e-20).log()


@pytest.mark.parametrize("right", [in_log_space, with_a_floor])
def test_a_right_ensemble_passes(right):
    each_passes(check_ensemble_logits, right)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda z: z.mean(0), "geometric mean"),
        (lambda z: F.log_softmax(z, -1).mean(0), "geometric mean"),
        (lambda z: z.sum(0), "much too sure"),
        (lambda z: z.softmax(-1).mean(0), "not logits"),
        (lambda z: z.softmax(0).mean(0).log(), "members or the images"),
        (lambda z: z.softmax(1).mean(0).log(), "members or the images"),
        (lambda z: z.max(0).values, "surest of it"),
        (lambda z: z.softmax(-1).mean(0).log(), "not finite"),
        *NOTHING,
    ],
)
def test_each_wrong_ensemble_is_told_its_own_mistake(wrong, told):
    each_is_told(check_ensemble_logits, wrong, told)


def test_a_stub_is_not_a_mistake():
    def stub(*args, **kwargs):
        raise NotImplementedError("Task 0")

    for check in (check_soften, check_entropy, check_measured_accuracy, check_measured_size, check_ensemble_logits):
        with pytest.raises(NotImplementedError, match="Task 0"):
            check(stub)
    with pytest.raises(NotImplementedError, match="no answer yet"):
        check_dark_knowledge([None, None, None])


def test_answers_about_the_picture(capsys):
    check_dark_knowledge(["C", " a", "b"])
    assert capsys.readouterr().out.count("Passed") == 3
    for answers, told in [
        ("aab", "from the label alone"),
        ("bab", "something"),
        ("cbb", "over its own images"),
        ("ccb", "bright column"),
        ("caa", "different images"),
        ("cac", "not paler"),
        ("cax", "none of them"),
    ]:
        with pytest.raises(CheckFailed, match=told):
            check_dark_knowledge(list(answers))
    with pytest.raises(CheckFailed, match="one letter"):
        check_dark_knowledge([AlwaysEqual()] * 3)


def test_verdicts_are_what_the_intervals_say():
    errors = {"distilled": [100, 110, 105], "one clinic": [200, 214, 203], "the vote": [90, 99, 94]}
    errors["label_smoothing"] = [90, 130, 100]
    right = {"one clinic": "better", "the vote": "worse", "label_smoothing": "unclear"}
    check_ensemble_verdicts(right, errors)
    for baseline in right:
        with pytest.raises(CheckFailed, match="interval of the paired difference"):
            check_ensemble_verdicts({**right, baseline: "better" if right[baseline] != "better" else "worse"}, errors)
        with pytest.raises(NotImplementedError):
            check_ensemble_verdicts({**right, baseline: None}, errors)
        with pytest.raises(CheckFailed, match="there is no verdict"):
            check_ensemble_verdicts({name: word for name, word in right.items() if name != baseline}, errors)
    for wrong in (AlwaysEqual(), None, "better"):
        with pytest.raises(CheckFailed, match="verdicts must be the dict"):
            check_ensemble_verdicts(wrong, errors)
