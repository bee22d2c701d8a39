"""DistilBERT's triple loss against NumPy and SciPy written token by token."""

import numpy as np
import pytest
import scipy.special
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.func import vmap

from kdcourse.losses import distilbert_loss, distilbert_terms, hidden_cosine_loss

MASK = torch.tensor([[1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 1]])
LABELS = torch.tensor([[-100, 3, -100, -100, -100, -100], [2, -100, -100, 0, -100, 6]])


def batch(seed=0, tokens=6, classes=7, width=4):
    """Student and teacher logits, labels, student and teacher states."""
    generator = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    logits, hidden = 2 * draw(2, 2, tokens, classes), draw(2, 2, tokens, width)
    return [*logits.unbind(), LABELS, *hidden.unbind()]


def by_token(student, teacher, labels, student_hidden, teacher_hidden, mask, temperature):
    """The three means, written token by token."""
    kd, mlm, cosine = [], [], []
    for place in map(tuple, np.argwhere(mask.numpy() > 0)):
        p = scipy.special.softmax(teacher[place].numpy() / temperature)
        q = scipy.special.softmax(student[place].numpy() / temperature)
        kd.append(temperature**2 * scipy.special.rel_entr(p, q).sum())
        s, t = student_hidden[place].numpy(), teacher_hidden[place].numpy()
        cosine.append(1 - s @ t / np.linalg.norm(s) / np.linalg.norm(t))
        if labels[place] != -100:
            mlm.append(-scipy.special.log_softmax(student[place].numpy())[labels[place]])
    return np.mean(kd), np.mean(mlm), np.mean(cosine)


def with_padding(tensor, content):
    return torch.where(MASK.bool().unsqueeze(-1), tensor, content)


@given(seed=st.integers(0, 10_000), temperature=st.floats(0.5, 10))
@settings(max_examples=20, deadline=None)
@pytest.mark.trap(67)
def test_the_triple_loss_has_three_terms_weighted_five_two_and_one(seed, temperature):
    inputs = batch(seed)
    kd, mlm, cosine = by_token(*inputs, MASK, temperature)
    terms = distilbert_terms(*inputs, attention_mask=MASK, temperature=temperature)
    assert list(terms) == ["kd", "mlm", "cosine"]
    assert [term.item() for term in terms.values()] == pytest.approx([5 * kd, 2 * mlm, cosine])
    loss = distilbert_loss(*inputs, attention_mask=MASK, temperature=temperature)
    assert loss.item() == pytest.approx(5 * kd + 2 * mlm + cosine)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int16])
def test_labels_of_any_integer_type_mean_the_same(dtype):
    student, teacher, labels, *hidden = batch()
    torch.testing.assert_close(
        distilbert_loss(student, teacher, labels.to(dtype), *hidden), distilbert_loss(student, teacher, labels, *hidden)
    )


@pytest.mark.trap(67)
def test_turning_a_hidden_state_moves_the_loss_by_default():
    inputs = batch()
    turned = [*inputs[:3], -inputs[3], inputs[4]]
    assert distilbert_loss(*turned, attention_mask=MASK) != distilbert_loss(*inputs, attention_mask=MASK)


def test_default_temperature_is_two_and_weights_scale_their_own_term_only():
    inputs = batch()
    kd, _, cosine = by_token(*inputs, MASK, 2.0)
    terms = distilbert_terms(*inputs, attention_mask=MASK, kd_weight=1.0, mlm_weight=0.0, cosine_weight=3.0)
    assert [term.item() for term in terms.values()] == pytest.approx([kd, 0.0, 3 * cosine])


def test_a_student_equal_to_its_teacher_pays_for_the_words_alone():
    teacher, hidden = batch()[1], batch()[4]
    terms = distilbert_terms(teacher, teacher, LABELS, hidden, hidden, attention_mask=MASK)
    assert terms["kd"].item() == 0
    assert terms["cosine"].item() == pytest.approx(0, abs=1e-15)
    assert terms["mlm"].item() > 0


@pytest.mark.parametrize("content", [9.0, 1e30, torch.nan])
@pytest.mark.trap(68)
def test_padding_content_changes_no_term_and_no_gradient(content):
    losses, gradients = [], []
    for fill in (0.0, content):
        student, teacher, labels, s_hidden, t_hidden = batch()
        student, s_hidden = (with_padding(x, fill).requires_grad_() for x in (student, s_hidden))
        loss = distilbert_loss(
            student, with_padding(teacher, fill), labels, s_hidden, with_padding(t_hidden, fill), attention_mask=MASK
        )
        losses.append(loss.item())
        gradients.append(torch.autograd.grad(loss, [student, s_hidden]))
    assert losses[0] == losses[1]
    torch.testing.assert_close(gradients[0], gradients[1], rtol=0, atol=0)
    for gradient in gradients[0]:
        assert not gradient[MASK == 0].any()
        assert gradient[MASK == 1].any(dim=-1).all()


@pytest.mark.trap(68)
def test_longer_padding_changes_no_term_where_batchmean_and_a_plain_cosine_do():
    inputs = batch()
    longer = [F.pad(x, (0, 0, 0, 8), value=1.0) if x.dim() == 3 else F.pad(x, (0, 8), value=-100) for x in inputs]
    longer[0][:, 6:, 0] = longer[3][:, 6:, 0] = -5.0  # the student disagrees on padding
    short = distilbert_terms(*inputs, attention_mask=MASK)
    long = distilbert_terms(*longer, attention_mask=F.pad(MASK, (0, 8)))
    torch.testing.assert_close(long, short)

    def mistaken(student, teacher, labels, s_hidden, t_hidden):
        kd = F.kl_div(student.log_softmax(-1), teacher.softmax(-1), reduction="batchmean")
        return kd, 1 - F.cosine_similarity(s_hidden, t_hidden, dim=-1).mean()

    for few, many in zip(mistaken(*inputs), mistaken(*longer), strict=True):
        assert abs(many / few - 1) > 0.1


@pytest.mark.trap(68)
def test_a_label_on_padding_is_not_counted():
    inputs = batch()
    inputs[2] = LABELS.clone()
    inputs[2][0, 4] = 5
    torch.testing.assert_close(
        distilbert_loss(*inputs, attention_mask=MASK), distilbert_loss(*batch(), attention_mask=MASK)
    )


@pytest.mark.trap(69)
def test_a_batch_without_a_masked_word_has_an_mlm_term_of_zero_not_nan():
    inputs = batch()
    inputs[2] = torch.full_like(LABELS, -100)
    inputs[0].requires_grad_()
    terms = distilbert_terms(*inputs, attention_mask=MASK)
    assert terms["mlm"].item() == 0
    terms["mlm"].backward()
    assert not inputs[0].grad.any()
    assert F.cross_entropy(inputs[0].flatten(0, 1), inputs[2].flatten(), ignore_index=-100).isnan()


@pytest.mark.trap(69)
def test_tensors_that_view_refuses_are_welcome():
    inputs = batch()
    strided = [x.transpose(0, 1).contiguous().transpose(0, 1) for x in inputs]
    with pytest.raises(RuntimeError, match="view size is not compatible"):
        strided[0].view(-1, 7)
    torch.testing.assert_close(
        distilbert_loss(*strided, attention_mask=MASK), distilbert_loss(*inputs, attention_mask=MASK)
    )


def test_no_real_token_gives_zero_within_the_graph():
    inputs = batch()
    inputs[0].requires_grad_()
    loss = distilbert_loss(*inputs, attention_mask=torch.zeros_like(MASK))
    loss.backward()
    assert loss.item() == 0
    assert not inputs[0].grad.any()


def test_without_a_mask_every_token_is_real():
    inputs = batch()
    torch.testing.assert_close(distilbert_loss(*inputs), distilbert_loss(*inputs, attention_mask=torch.ones(2, 6)))


def test_of_a_tuple_of_hidden_states_the_last_counts():
    inputs = batch()
    tuples = [*inputs[:3], (inputs[4], inputs[3]), (inputs[3], inputs[3], inputs[4])]
    torch.testing.assert_close(distilbert_loss(*tuples), distilbert_loss(*inputs))


@given(scale=st.floats(1e-3, 1e3))
def test_cosine_loss_ignores_length_and_lies_between_zero_and_two(scale):
    student, teacher = batch()[3:]
    actual = hidden_cosine_loss(scale * student, teacher)
    torch.testing.assert_close(actual, hidden_cosine_loss(student, teacher))
    assert 0 < actual < 2
    assert hidden_cosine_loss(-teacher, teacher).item() == pytest.approx(2)


def test_a_vector_without_a_direction_counts_as_orthogonal_and_has_a_finite_gradient():
    student = torch.zeros(1, 2, 4, requires_grad=True)
    loss = hidden_cosine_loss(student, torch.rand(1, 2, 4))
    loss.backward()
    assert loss.item() == 1
    assert student.grad.isfinite().all()


def test_triple_gradients_agree_with_finite_differences_and_never_reach_the_teacher():
    student, teacher, labels, s_hidden, t_hidden = batch()
    for tensor in (student, teacher, s_hidden, t_hidden):
        tensor.requires_grad_()

    def loss(logits, hidden):
        return distilbert_loss(logits, teacher, labels, hidden, t_hidden, attention_mask=MASK)

    assert torch.autograd.gradcheck(loss, [student, s_hidden])
    loss(student, s_hidden).backward()
    assert teacher.grad is None
    assert t_hidden.grad is None


def test_triple_loss_is_finite_at_extreme_logits_and_in_half_precision():
    inputs = batch()
    inputs[0] = (1e4 * inputs[0]).float().requires_grad_()
    inputs[1] = (1e4 * inputs[1]).float()
    loss = distilbert_loss(*inputs, attention_mask=MASK)
    loss.backward()
    assert loss.isfinite()
    assert inputs[0].grad.isfinite().all()

    half = [x.bfloat16() if x.is_floating_point() else x for x in batch()]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = distilbert_loss(*half, attention_mask=MASK)
    assert actual.dtype == torch.float32
    full = distilbert_loss(*(x.float() if x.is_floating_point() else x for x in half), attention_mask=MASK)
    torch.testing.assert_close(actual, full)


def test_temperature_and_students_are_swept_under_vmap():
    inputs = batch()
    temperatures = torch.tensor([1.0, 2.0, 8.0], dtype=torch.float64)
    swept = vmap(lambda t: distilbert_loss(*inputs, attention_mask=MASK, temperature=t))(temperatures)
    torch.testing.assert_close(swept[1], distilbert_loss(*inputs, attention_mask=MASK))
    students = torch.stack([batch(seed)[0] for seed in range(3)])
    stacked = vmap(lambda s: distilbert_loss(s, *inputs[1:], attention_mask=MASK))(students)
    torch.testing.assert_close(stacked[2], distilbert_loss(students[2], *inputs[1:], attention_mask=MASK))


@pytest.mark.parametrize(
    ("place", "value", "arguments", "message"),
    [
        (0, torch.rand(2, 6, 8), {}, r"same shape, got \(2, 6, 8\) and \(2, 6, 7\)"),
        (2, LABELS.clamp(min=7), {}, r"labels must be in \[0, 7\), got 7"),
        (2, LABELS[:, :5], {}, r"labels must have shape \(2, 6\)"),
        (2, LABELS.double(), {}, "labels must be class indices"),
        (3, torch.rand(2, 6, 3), {}, "widths 3 and 4: there is no angle.*HiddenProjection"),
        (3, torch.rand(2, 1, 4), {}, "hidden states must have the same shape"),
        (3, (), {}, "student_hidden is empty.*output_hidden_states=True"),
        (4, [], {}, "teacher_hidden is empty"),
        (2, LABELS, {"attention_mask": MASK[:, :5]}, r"attention_mask must have shape \(2, 6\)"),
        (2, LABELS, {"temperature": -1.0}, "temperature must be positive"),
        (2, LABELS, {"kd_weight": -1.0}, "kd_weight must be finite and not negative"),
        (2, LABELS, {"mlm_weight": -1.0}, "mlm_weight must be finite and not negative"),
        (2, LABELS, {"cosine_weight": float("nan")}, "cosine_weight must be finite and not negative"),
    ],
)
def test_triple_loss_refuses_what_it_cannot_mean(place, value, arguments, message):
    inputs = batch()
    inputs[place] = value
    with pytest.raises(ValueError, match=message):
        distilbert_loss(*inputs, **arguments)


@pytest.mark.trap(91)
def test_each_place_is_compared_with_its_own_place():
    _, teacher, labels, *hidden = batch()
    asked = {"attention_mask": MASK, "temperature": 1.0}
    assert distilbert_terms(teacher, teacher, labels, *hidden, **asked)["kd"].item() == pytest.approx(0, abs=1e-12)
    one_late = distilbert_terms(teacher, teacher.roll(1, dims=1), labels, *hidden, **asked)["kd"]
    assert one_late > 1
