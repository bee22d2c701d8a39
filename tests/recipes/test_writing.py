"""Distilling a writer: tokens weigh alike, no gradient flows through sampling, and batches follow the student."""

import pytest
import torch
import torch.nn.functional as F

from kdcourse.losses import kd_loss
from kdcourse.models.writer import END, PAD, make_writer, write
from kdcourse.recipes.writing import WrittenTexts, make_writer_objective, text_objective
from kdcourse.training import train


@pytest.fixture
def pair():
    torch.manual_seed(0)
    return make_writer(layers=1, width=16).eval(), make_writer(layers=1, width=32).eval()


IDS = torch.tensor([[6001, 9, END, PAD, PAD], [6002, 7, 8, 11, END]])
MASK = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])


@pytest.mark.trap(85, 86)
def test_each_real_token_weighs_the_same_the_closing_one_included(pair):
    student, _ = pair
    losses = []
    for row, mask in zip(IDS, MASK, strict=True):
        length = int(mask.sum())
        logits = student(row[None, : length - 1]).logits[0]
        losses.extend(F.cross_entropy(logits, row[1:length], reduction="none").tolist())
    assert len(losses) == 6
    assert text_objective(student, IDS, MASK)["ce"].item() == pytest.approx(sum(losses) / 6, rel=1e-5)


@pytest.mark.trap(85)
def test_the_teachers_term_is_a_mean_over_real_tokens_whatever_the_padding(pair):
    student, teacher = pair
    objective = make_writer_objective(teacher)
    rows = [(row[None, : int(mask.sum())], mask[None, : int(mask.sum())]) for row, mask in zip(IDS, MASK, strict=True)]
    one_by_one = [objective(student, *row)["kd"].item() for row in rows]
    assert objective(student, IDS, MASK)["kd"].item() == pytest.approx(
        (2 * one_by_one[0] + 4 * one_by_one[1]) / 6, rel=1e-4
    )


def test_forward_kl_is_kd_at_temperature_one_on_the_real_tokens(pair):
    student, teacher = pair
    real = MASK[:, 1:].bool()
    with torch.no_grad():
        logits = [model(IDS, attention_mask=MASK).logits[:, :-1][real] for model in pair]
    torch.testing.assert_close(
        make_writer_objective(teacher)(student, IDS, MASK)["kd"], kd_loss(*logits, temperature=1), rtol=1e-4, atol=1e-6
    )


def test_the_teacher_gets_no_gradient(pair):
    student, teacher = pair
    make_writer_objective(teacher, beta=0.5)(student, IDS, MASK)["kd"].backward()
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert student.transformer.wte.weight.grad.abs().sum() > 0


@pytest.mark.trap(88)
def test_another_vocabulary_is_refused(pair):
    other = make_writer(layers=1, width=16, kinds=25)
    with pytest.raises(ValueError, match="one vocabulary, got 6024 and 6025 tokens"):
        make_writer_objective(other)(pair[0], IDS, MASK)


def test_batches_are_written_by_the_student_as_it_is_at_that_moment(pair):
    student, _ = pair
    batches = WrittenTexts(student, torch.tensor([0]), steps=2, batch_size=20, max_length=4)
    iterator = iter(batches)
    first, _ = next(iterator)
    with torch.no_grad():
        student.transformer.wte.weight[17] = 0
        student.transformer.ln_f.bias.copy_(student.transformer.wte.weight[18] * 1e4)
    second, _ = next(iterator)
    assert (second[:, 1] == 18).all()
    assert not (first[:, 1] == 18).all()


def test_a_seed_makes_the_same_texts_again(pair):
    runs = [
        [ids for ids, _ in WrittenTexts(pair[0], torch.tensor([0, 5]), steps=2, batch_size=3, max_length=5, seed=4)]
        for _ in range(2)
    ]
    assert all(torch.equal(one, two) for one, two in zip(*runs, strict=True))


def test_on_policy_distillation_is_the_same_loop_and_brings_the_student_closer(pair):
    torch.manual_seed(0)
    student, teacher = make_writer(layers=1, width=16), make_writer(layers=1, width=16)
    with torch.no_grad():  # a teacher with an opinion: one word, then the end
        teacher.transformer.wte.weight[50].mul_(40)
    batches = WrittenTexts(student, torch.arange(24), steps=30, batch_size=16, max_length=4)
    optimizer = torch.optim.Adam(student.parameters(), lr=1e-2)
    losses = [step.loss.item() for step in train(student, batches, make_writer_objective(teacher, beta=1), optimizer)]
    assert len(losses) == len(batches) == 30
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
    assert write(student, torch.tensor([0]), max_length=4).input_ids.shape[0] == 1


def test_nothing_to_write_about_is_refused(pair):
    with pytest.raises(ValueError, match="got 0 kinds"):
        WrittenTexts(pair[0], torch.tensor([], dtype=torch.long), steps=1)
    with pytest.raises(ValueError, match="steps=0"):
        WrittenTexts(pair[0], torch.tensor([1]), steps=0)
