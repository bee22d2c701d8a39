"""Chapter 09's lines: right ones pass in several styles, and what no slip knows is caught as well."""

import math
import re

import pytest
import torch
import torch.nn.functional as F

from kdcourse.checks import check
from kdcourse.checks.turns import find_turn, read_turns
from kdcourse.losses import attention_loss, kd_loss, map_layers

KEYS = ["09.attention", "09.places", "09.words"]


def kl_div_and_a_product(student, teacher, real):
    cells = F.kl_div(student.clamp(min=1e-12).log(), teacher.detach(), reduction="none")
    rows = cells.sum(dim=-1) * real[:, None]
    return rows.sum() / (real.sum() * rows.shape[1])


def only_real_rows(student, teacher, real):
    q, p = (side.transpose(1, 2)[real.bool()] for side in (student, teacher.detach()))  # (tokens, heads, L)
    return F.kl_div((q + 1e-9).log(), p, reduction="sum") / p[..., 0].numel()


def where_twice(student, teacher, real):
    p, seen = teacher.detach(), teacher > 0
    logs = [torch.where(seen, side, 1.0).log() for side in (p, student)]
    rows = (p * (logs[0] - logs[1])).sum(dim=-1)
    return rows[real.bool()[:, None].expand_as(rows)].mean()


def text_by_text(student, teacher, real):
    total, count = 0.0, 0
    for of_student, of_teacher, mask in zip(student, teacher.detach(), real, strict=True):
        n = int(mask.sum())
        p, q = of_teacher[:, :n, :n], of_student[:, :n, :n]
        total = total + (p * (p.log() - q.log())).sum()
        count += n * len(p)
    return total / count


def xlogy_of_the_teacher(student, teacher, real):
    teacher = teacher.detach()
    rows = (torch.xlogy(teacher, teacher) - teacher * student.clamp_min(1e-8).log()).sum(-1)
    return torch.einsum("bhl,bl->", rows, real.float()) / real.sum() / rows.shape[1]


def all_texts_may_be_empty(student, teacher, real):
    rows = kl_div_and_a_product(student, teacher, real) * real.sum()
    return rows / real.sum().clamp(min=1)


def from_map_layers(student_blocks, teacher_blocks):
    if teacher_blocks % student_blocks != 0:
        raise ValueError("no multiple")
    return {0: 0, **map_layers(student_blocks, teacher_blocks)}


def with_divmod(student_blocks, teacher_blocks):
    step, rest = divmod(teacher_blocks, student_blocks)
    if rest or step < 1:
        raise ValueError
    return dict(enumerate(range(0, teacher_blocks + 1, step)))


def backwards(student_blocks, teacher_blocks):
    k = teacher_blocks / student_blocks
    if not k.is_integer():
        raise ValueError(k)
    return {place: int(k * place) for place in reversed(range(student_blocks + 1))}


def zipped(student_blocks, teacher_blocks):
    if teacher_blocks % student_blocks:
        raise ValueError("depths")
    found = {0: 0}
    for block in range(student_blocks):
        found[block + 1] = (block + 1) * teacher_blocks // student_blocks
    return found


def indexed_kl_div(student, teacher, real, temperature):
    mask = real.bool()
    log_q = (student[mask] / temperature).log_softmax(dim=-1)
    p = (teacher[mask].detach() / temperature).softmax(dim=-1)
    return temperature**2 * F.kl_div(log_q, p, reduction="sum") / max(1, len(p))


def where_the_mask_is(student, teacher, real, temperature):
    log_q, log_p = ((x / temperature).log_softmax(dim=-1) for x in (student, teacher.detach()))
    cells = F.kl_div(log_q, log_p, reduction="none", log_target=True)
    rows = torch.where(real.bool(), cells.sum(dim=-1), 0.0)
    return temperature * temperature * rows.sum() / real.sum().clamp(min=1)


def the_loss_of_the_package(student, teacher, real, temperature):
    if not real.any():
        return student.sum() * 0.0
    mask = real == 1
    return kd_loss(student[mask], teacher[mask], temperature=temperature)


def cross_entropy_minus_entropy(student, teacher, real, temperature):
    p = (teacher.detach() / temperature).softmax(dim=-1)
    soft = F.cross_entropy((student / temperature).mT, p.mT, reduction="none")
    entropy = torch.special.entr(p).sum(dim=-1)
    return ((soft - entropy) * real).sum().div(real.sum() + 1e-9) * temperature**2


RIGHT = [
    ("09.attention", kl_div_and_a_product),
    ("09.attention", only_real_rows),
    ("09.attention", where_twice),
    ("09.attention", text_by_text),
    ("09.attention", xlogy_of_the_teacher),
    ("09.attention", all_texts_may_be_empty),
    ("09.attention", lambda s, t, real: attention_loss(s, t, attention_mask=real)),
    ("09.places", from_map_layers),
    ("09.places", with_divmod),
    ("09.places", backwards),
    ("09.places", zipped),
    ("09.words", indexed_kl_div),
    ("09.words", where_the_mask_is),
    ("09.words", the_loss_of_the_package),
    ("09.words", cross_entropy_minus_entropy),
]


def softmax_over_texts(s, t, real):
    return kl_div_and_a_product(s.softmax(dim=0), t.softmax(dim=0), real)


def jensen_shannon(s, t, real):
    middle = (s + t.detach()) / 2
    return (kl_div_and_a_product(s, middle, real) + kl_div_and_a_product(t.detach(), middle, real)) / 2


def of(right, change):
    return lambda *args: change(right(*args))


def no_stop(s, t, real, temperature):
    with torch.no_grad():
        return indexed_kl_div(s, t, real, temperature)


def changes_its_input(s, t, real):
    s.clamp_(min=1e-9)
    return kl_div_and_a_product(s, t, real)


def places_of(make):
    """Return a map, made by a function of the two depths, that refuses what it should."""
    return lambda s, t: make(s, t) if with_divmod(s, t) else None


WRONG = [
    ("09.attention", of(kl_div_and_a_product, lambda loss: loss / math.log(2)), "not KL"),
    ("09.attention", of(kl_div_and_a_product, lambda loss: -loss), "not KL"),
    ("09.attention", of(kl_div_and_a_product, lambda loss: loss.item()), "No gradient reaches the student"),
    ("09.attention", of(kl_div_and_a_product, lambda loss: loss.sqrt()), "not KL"),
    ("09.attention", lambda s, t, real: kl_div_and_a_product(s, t, real.flip(0)), "not KL"),
    ("09.attention", lambda s, t, real: kl_div_and_a_product(s.mT, t.mT, real), "the tokens that look"),
    (
        "09.attention",
        lambda s, t, real: kl_div_and_a_product(s[:, torch.arange(s.shape[1]).flip(0)], t, real),
        "not KL",
    ),
    ("09.attention", lambda s, t, real: (s - t).abs().sum(dim=-1).mean(), "not KL"),
    ("09.attention", lambda s, t, real: kl_div_and_a_product(s, s, real), "not KL"),
    ("09.attention", lambda s, t, real: F.kl_div(s, t.detach(), reduction="batchmean"), "not KL"),
    ("09.attention", softmax_over_texts, "not KL"),
    ("09.attention", jensen_shannon, "not KL"),
    ("09.attention", changes_its_input, "changes the tensor `student_attention` in place|changes the tensor `s`"),
    ("09.attention", lambda s, t, real: (s.log() * real).mean(), "raised RuntimeError"),
    ("09.attention", lambda s, t, real: None, "Is a return missing|Replace the"),
    ("09.attention", 3, "a function is needed"),
    ("09.places", lambda s, t: print(s, t), "Got None: is a return missing"),
    ("09.places", places_of(lambda s, t: [(i, i * t // s) for i in range(s + 1)]), "A list came"),
    ("09.places", places_of(lambda s, t: {i: [i * t // s] for i in range(s + 1)}), "A place is a whole number"),
    ("09.places", places_of(lambda s, t: {str(i): i * t // s for i in range(s + 1)}), "A place is a whole number"),
    ("09.places", places_of(lambda s, t: {i: i * t / s for i in range(s + 1)}), "must be whole"),
    ("09.places", places_of(lambda s, t: {i: i * 2 for i in range(s + 1)}), "not the map asked for"),
    ("09.places", places_of(lambda s, t: {}), "not the map asked for"),
    ("09.places", places_of(lambda s, t: {i: i * t // s for i in range(s + 2)}), "not the map asked for"),
    ("09.places", places_of(lambda s, t: {i: t - i * t // s for i in range(s + 1)}), "not the map asked for"),
    ("09.places", places_of(lambda s, t: "0: 0, 1: 2"), "Got str"),
    ("09.places", lambda s, t: backwards(s, t) if t > s else {0: 0}, "not the map asked for"),
    ("09.places", lambda s, t: {i: (t // (t % s)) * i for i in range(s)}, "raised ZeroDivisionError"),
    ("09.words", of(indexed_kl_div, lambda loss: loss + 0.1), "not T²"),
    ("09.words", of(indexed_kl_div, lambda loss: loss.item()), "No gradient reaches the student"),
    ("09.words", no_stop, "No gradient reaches the student"),
    ("09.words", lambda s, t, real, temperature: F.mse_loss(s, t), "not T²"),
    ("09.words", lambda s, t, real, temperature: indexed_kl_div(s, t, real.flip(1), temperature), "not T²"),
    ("09.words", lambda s, t, real, temperature: indexed_kl_div(s[:, :-1], t[:, 1:], real[:, 1:], temperature), "not"),
    ("09.words", lambda s, t, real, temperature: indexed_kl_div(s, t, real, 2.0), "not T²"),
    ("09.words", lambda s, t, real, temperature: indexed_kl_div(s.argmax(-1), t, real, temperature), "raised"),
    ("09.words", lambda s, t, real, temperature: indexed_kl_div(s, t, real, temperature) * len(s), "batchmean|not T²"),
    (
        "09.words",
        lambda s, t, real, temperature: indexed_kl_div(s, t, real, temperature).clamp(max=50),
        "very sure",
    ),
    (
        "09.words",
        lambda s, t, real, temperature: indexed_kl_div(s, t, real, temperature) if real.any() else 1.0,
        "Without a real token the loss must be 0",
    ),
    (
        "09.words",
        lambda s, t, real, temperature: indexed_kl_div(s, t, real, temperature) if real.any() else 0.0,
        "belongs to no graph",
    ),
    (
        "09.words",
        lambda s, t, real, temperature: indexed_kl_div(2 * s.detach() - s, t, real, temperature),
        "its gradient is not",
    ),
]


@pytest.mark.parametrize(("key", "right"), RIGHT)
def test_right_lines_of_another_style_pass_on_fresh_numbers(key, right, capsys):
    for _ in range(3):
        assert check(key, right) is right
        assert capsys.readouterr().out.startswith("Right. ")


@pytest.mark.parametrize("key", KEYS)
def test_the_course_s_own_lines_pass_on_fresh_numbers(key, capsys):
    right = find_turn(key).right
    for _ in range(10):
        assert check(key, right) is right
        assert capsys.readouterr().out.startswith("Right. ")


@pytest.mark.parametrize(("key", "wrong", "message"), WRONG)
def test_what_no_slip_knows_is_caught_all_the_same(key, wrong, message, capsys):
    assert check(key, wrong) is find_turn(key).right
    said = capsys.readouterr().out
    assert said.splitlines()[-1].startswith("Not yet. ")
    assert re.search(message, said)


@pytest.mark.parametrize("key", KEYS)
def test_a_stub_is_told_that_it_is_not_written(key, capsys):
    def attention_term(student_attention, teacher_attention, real): ...

    def places(student_blocks, teacher_blocks): ...

    def word_term(student_logits, teacher_logits, real, temperature): ...

    right = find_turn(key).right
    (stub,) = (each for each in (attention_term, places, word_term) if each.__name__ == right.__name__)
    assert check(key, stub) is right
    assert capsys.readouterr().out.startswith("Not written yet. ")


def test_the_chapter_has_these_three_and_no_other():
    assert list(read_turns("09")) == KEYS


def test_the_right_terms_agree_with_the_losses_of_the_package():
    generator = torch.Generator().manual_seed(9)
    real = torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0], [0, 0, 0, 0]])
    hidden = real[:, None, :, None].bool() & ~real[:, None, None, :].bool()
    s, t = (
        torch.randn(3, 2, 4, 4, generator=generator).masked_fill(hidden, -torch.inf).softmax(dim=-1) for _ in range(2)
    )
    torch.testing.assert_close(find_turn("09.attention").right(s, t, real), attention_loss(s, t, attention_mask=real))
    s, t = (torch.randn(3, 4, 5, generator=generator) for _ in range(2))
    expected = kd_loss(s[real.bool()], t[real.bool()], temperature=3.0)
    torch.testing.assert_close(find_turn("09.words").right(s, t, real, 3.0), expected)
    assert find_turn("09.places").right(2, 4) == {0: 0, 1: 2, 2: 4}
