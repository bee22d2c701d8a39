"""Losses of large logits: the plain formula's numbers, at a small share of its memory."""

import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch.func import vmap

from kdcourse.losses import _by_rows, distilbert_terms, distillation_loss, kd_loss

ROWS, CLASSES = 7, 50


@pytest.fixture
def few_at_once(monkeypatch):
    """All logits count as large, and two rows are taken at once."""
    monkeypatch.setattr(_by_rows, "LARGE", 1)
    monkeypatch.setattr(_by_rows, "_parts", partial(split, rows=2))


def split(student, real, *, rows):
    if real is not None:
        return list(real.split(rows))
    count = student.shape[:-1].numel()
    return [slice(start, min(start + rows, count)) for start in range(0, count, rows)]


def logits(*shape, dtype=torch.float64, scale=3.0):
    generator = torch.Generator().manual_seed(len(shape))
    shape = shape or (ROWS, CLASSES)
    student, teacher = (scale * torch.randn(*shape, generator=generator, dtype=dtype) for _ in range(2))
    labels = torch.randint(shape[-1], shape[:-1], generator=generator)
    return student.requires_grad_(), teacher, labels


def written_out(student, teacher, labels, temperature, alpha):
    """The formula with torch's own functions, all at once."""
    p, log_q = (teacher / temperature).softmax(-1), (student / temperature).log_softmax(-1)
    kd = temperature**2 * (torch.special.xlogy(p, p) - p * log_q).sum(-1).mean()
    return alpha * kd + (1 - alpha) * F.cross_entropy(student.flatten(0, -2), labels.flatten())


def value_and_gradient(loss, student):
    value = loss(student)
    return value.detach(), torch.autograd.grad(value, student)[0]


@pytest.mark.parametrize("shape", [(ROWS, CLASSES), (3, 4, CLASSES)], ids=["rows", "tokens"])
@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("temperature", [0.7, 4.0, torch.tensor(2.0, dtype=torch.float64), 200.0])
def test_value_and_gradient_are_the_written_formulas(few_at_once, shape, alpha, temperature):
    student, teacher, labels = logits(*shape)
    ours = partial(distillation_loss, teacher_logits=teacher, labels=labels, temperature=temperature, alpha=alpha)
    torch.testing.assert_close(
        value_and_gradient(ours, student),
        value_and_gradient(lambda x: written_out(x, teacher, labels, temperature, alpha), student),
        rtol=1e-9, atol=1e-12,
    )  # fmt: skip


def test_rows_are_really_taken_a_few_at_a_time(few_at_once, monkeypatch):
    seen = []
    row_divergences = _by_rows.row_divergences
    monkeypatch.setattr(
        "kdcourse.losses.soft_targets.row_divergences",
        lambda student, *rest: (seen.append(len(student)), row_divergences(student, *rest))[1],
    )
    student, teacher, _ = logits()
    kd_loss(student, teacher, temperature=2).backward()
    assert seen == [2, 2, 2, 1] * 2  # once for the value, once for the gradient


def test_logits_without_their_last_token_are_not_copied_and_give_the_same(few_at_once):
    student, teacher, _ = logits(3, 5, CLASSES)
    ours = value_and_gradient(lambda x: kd_loss(x[:, :-1], teacher[:, 1:], temperature=2), student)
    copied = value_and_gradient(
        lambda x: kd_loss(x[:, :-1].contiguous(), teacher[:, 1:].contiguous(), temperature=2), student
    )
    torch.testing.assert_close(ours, copied, rtol=1e-12, atol=1e-14)
    assert ours[1][:, -1].abs().sum() == 0


def distilbert_case():
    student, teacher, words = logits(3, 5, CLASSES)
    labels = torch.where(torch.arange(15).view(3, 5) % 3 == 0, words, -100)
    mask = (torch.arange(5) < torch.tensor([[5], [3], [1]])).long()
    hidden = torch.randn(2, 3, 5, 4, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    return student, teacher, labels, mask, hidden


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("term", ["kd", "mlm"])
def test_distilberts_terms_are_those_of_the_plain_formula(few_at_once, masked, term):
    student, teacher, labels, mask, hidden = distilbert_case()
    real = mask.bool() if masked else torch.ones_like(mask).bool()
    ours = value_and_gradient(
        lambda x: distilbert_terms(x, teacher, labels, *hidden, attention_mask=mask if masked else None)[term], student
    )
    if term == "kd":
        plain = value_and_gradient(lambda x: 5 * written_out(x[real], teacher[real], labels[real], 2.0, 1.0), student)
    else:
        plain = value_and_gradient(lambda x: 2 * F.cross_entropy(x[real], labels[real], ignore_index=-100), student)
    torch.testing.assert_close(ours, plain, rtol=1e-10, atol=1e-12)


def test_both_of_distilberts_terms_share_one_pass_and_padding_of_nan_reaches_nothing(few_at_once):
    student, teacher, labels, mask, hidden = distilbert_case()
    broken = torch.where(mask.bool().unsqueeze(2), student.detach(), torch.nan).requires_grad_()
    terms = distilbert_terms(broken, teacher, labels, *hidden, attention_mask=mask)
    assert terms["kd"].grad_fn is not None
    (terms["kd"] + terms["mlm"]).backward()
    assert torch.isfinite(broken.grad).all()
    assert broken.grad[~mask.bool()].abs().sum() == 0
    assert (broken.grad[mask.bool()].abs().sum(dim=-1) > 0).all()


def test_without_a_real_token_the_terms_are_zero_and_part_of_the_graph(few_at_once):
    student, teacher, labels, mask, hidden = distilbert_case()
    terms = distilbert_terms(student, teacher, labels, *hidden, attention_mask=torch.zeros_like(mask))
    assert terms["kd"] == terms["mlm"] == 0
    (terms["kd"] + terms["mlm"]).backward()
    assert student.grad.abs().sum() == 0


@pytest.mark.parametrize("temperature", [2.0, 100.0])
def test_first_and_second_derivatives_are_exact(few_at_once, temperature):
    student, teacher, labels = logits(5, 4)
    loss = partial(distillation_loss, teacher_logits=teacher, labels=labels, temperature=temperature, alpha=0.6)
    assert torch.autograd.gradcheck(loss, (student,))
    assert torch.autograd.gradgradcheck(loss, (student,))


def test_half_precision_is_raised_row_by_row_and_the_gradient_comes_back_in_half(few_at_once):
    student, teacher, _ = logits(dtype=torch.float32)
    half = student.detach().bfloat16().requires_grad_()
    value, gradient = value_and_gradient(lambda x: kd_loss(x, teacher.bfloat16(), temperature=2), half)
    as_single = half.detach().float().requires_grad_()
    exact = value_and_gradient(lambda x: kd_loss(x, teacher.bfloat16().float(), temperature=2), as_single)
    assert (value.dtype, gradient.dtype) == (torch.float32, torch.bfloat16)
    torch.testing.assert_close((value, gradient.float()), exact, rtol=1e-2, atol=1e-5)


def test_the_teacher_gets_no_gradient_and_a_learned_temperature_gets_one(few_at_once):
    student, teacher, _ = logits()
    temperature = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    teacher.requires_grad_()
    kd_loss(student, teacher, temperature=temperature).backward()
    assert teacher.grad is None
    kd_loss(student, teacher, temperature=2.0).backward()
    assert teacher.grad is None
    assert torch.autograd.gradcheck(lambda t: kd_loss(student.detach(), teacher, temperature=t), (temperature,))


def test_vmap_over_temperatures_sees_the_plain_formula(few_at_once):
    student, teacher, _ = logits()
    temperatures = torch.tensor([1.0, 3.0], dtype=torch.float64)
    stacked = vmap(lambda t: kd_loss(student, teacher, temperature=t))(temperatures)
    alone = torch.stack([kd_loss(student, teacher, temperature=t.item()) for t in temperatures])
    torch.testing.assert_close(stacked, alone)


def test_bad_input_is_refused_at_every_size(few_at_once):
    student, teacher, labels = logits()
    with pytest.raises(ValueError, match="same shape"):
        distillation_loss(student, teacher[:, :-1], labels)
    with pytest.raises(ValueError, match="labels must be in"):
        distillation_loss(student, teacher, labels + CLASSES)
    with pytest.raises(ValueError, match="positive"):
        distillation_loss(student, teacher, labels, temperature=-1)
    with pytest.raises(ValueError, match="must be a torch"):
        distillation_loss([1.0], teacher, labels)


def test_small_logits_do_not_go_by_rows():
    student, teacher, _ = logits()
    assert kd_loss(student, teacher, temperature=2).grad_fn.name() == "MulBackward0"
    assert not _by_rows.goes_by_rows(student)


MEMORY = """
import torch
from pathlib import Path
from kdcourse.losses import distilbert_terms, distillation_loss

def resident(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) * 1024

def plain(student, teacher, labels, *hidden, attention_mask):  # a learned temperature keeps the plain formula
    temperature = torch.tensor(2.0, requires_grad=True)
    return {{"both": distillation_loss(student, teacher, labels.clamp(min=0), temperature=temperature)}}

def step(samples):
    student, teacher = torch.randn(samples, 64, 64_000, requires_grad=True), torch.randn(samples, 64, 64_000)
    labels = torch.where(torch.arange(64) % 7 == 0, torch.arange(64) * 40, -100).repeat(samples, 1)
    hidden, mask = torch.randn(2, samples, 64, 32), torch.ones(samples, 64, dtype=torch.long)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts from here
    before = resident("VmRSS")
    sum({loss}(student, teacher, labels, *hidden, attention_mask=mask).values()).backward()
    return (resident("VmHWM") - before) / (4 * student.numel())

torch.set_num_threads(1)
step(2)  # libraries start up
print(step(4))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="reads the peak from Linux's /proc")
def test_distilberts_loss_needs_at_most_twice_its_logits_where_the_plain_formula_needs_more():
    def peak(loss):
        command = [sys.executable, "-c", MEMORY.format(loss=loss)]
        return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    assert peak("distilbert_terms") < 2 < peak("plain")
