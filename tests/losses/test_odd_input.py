"""Every loss meets odd input: it gives the right number, NaN for NaN, or a ValueError in our words.

Each small input was found by somebody who used a loss; docs/traps.md has their list. Oracles are float64, mpmath, or
the same input moved or scaled.
"""

import math
import warnings
from fractions import Fraction

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdcourse import losses
from kdcourse.losses import (
    attention_map,
    attention_scores_loss,
    box_regression_loss,
    decoupled_kd_loss,
    detection_classification_loss,
    dist_loss,
    distilbert_terms,
    distillation_loss,
    generalized_jsd_loss,
    info_nce_loss,
    kd_loss,
    mutual_learning_loss,
    soften,
    standardize_logits,
)


def normal(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


STUDENT, TEACHER, LABELS = normal(6, 5), normal(6, 5, seed=1), torch.arange(6) % 5
TOKENS, TEACHER_TOKENS, WORDS = normal(2, 3, 5), normal(2, 3, 5, seed=1), LABELS.view(2, 3)
MAPS, TEACHER_MAPS = normal(4, 3, 4, 4), normal(4, 3, 4, 4, seed=1)
HEADS, TEACHER_HEADS = normal(2, 2, 3, 3), normal(2, 2, 3, 3, seed=1)
REAL = torch.ones(2, 3).long()
PAIR = (STUDENT, TEACHER)

# Name to loss, its tensors (and lists of them), and its other arguments; every one of them is replaced below.
CALLS = {
    "soften": (soften, (STUDENT,), {"temperature": 2.0}),
    "kd_loss": (kd_loss, PAIR, {"temperature": 2.0}),
    "distillation_loss": (distillation_loss, (*PAIR, LABELS), {"temperature": 2.0, "alpha": 0.5}),
    "hint_loss": (losses.hint_loss, (MAPS, TEACHER_MAPS), {}),
    "attention_map": (attention_map, (MAPS,), {}),
    "attention_transfer_loss": (losses.attention_transfer_loss, (MAPS, TEACHER_MAPS), {}),
    "rkd_distance_loss": (losses.rkd_distance_loss, PAIR, {}),
    "rkd_angle_loss": (losses.rkd_angle_loss, PAIR, {}),
    "gram_loss": (losses.gram_loss, PAIR, {}),
    "similarity_preserving_loss": (losses.similarity_preserving_loss, PAIR, {}),
    "info_nce_loss": (info_nce_loss, PAIR, {"temperature": 0.1}),
    "deep_supervision_loss": (
        losses.deep_supervision_loss,
        ([STUDENT, TEACHER], LABELS),
        {"temperature": 2.0, "alpha": 0.5, "hint_weight": 0.1, "exit_features": [STUDENT, TEACHER]},
    ),
    "mutual_learning_loss": (mutual_learning_loss, ([STUDENT, TEACHER], LABELS), {"temperature": 1.0}),
    "mutual_ensemble_loss": (losses.mutual_ensemble_loss, ([STUDENT, TEACHER], LABELS), {"temperature": 1.0}),
    "detection_classification_loss": (
        detection_classification_loss,
        (TOKENS, TEACHER_TOKENS),
        {"temperature": 2.0, "background_weight": 0.1, "foreground": torch.ones(2, 3).bool()},
    ),
    "box_regression_loss": (
        box_regression_loss,
        (TOKENS[..., :4], TEACHER_TOKENS[..., :4], TOKENS[..., 1:]),
        {"margin": 0.1},
    ),
    "fpn_feature_loss": (losses.fpn_feature_loss, ([MAPS], [TEACHER_MAPS]), {}),
    "embedding_loss": (losses.embedding_loss, (TOKENS, TEACHER_TOKENS), {"attention_mask": REAL}),
    "hidden_state_loss": (losses.hidden_state_loss, ([TOKENS], [TEACHER_TOKENS]), {"attention_mask": REAL}),
    "attention_loss": (losses.attention_loss, (HEADS.softmax(-1), TEACHER_HEADS.softmax(-1)), {"attention_mask": REAL}),
    "attention_scores_loss": (attention_scores_loss, (HEADS, TEACHER_HEADS), {"attention_mask": REAL}),
    "value_relation_loss": (losses.value_relation_loss, (HEADS, TEACHER_HEADS), {"attention_mask": REAL}),
    "hidden_cosine_loss": (losses.hidden_cosine_loss, (TOKENS, TEACHER_TOKENS), {"attention_mask": REAL}),
    "distilbert_loss": (
        losses.distilbert_loss,
        (TOKENS, TEACHER_TOKENS, WORDS, TOKENS, TEACHER_TOKENS),
        {"temperature": 2.0, "kd_weight": 5.0, "mlm_weight": 2.0, "cosine_weight": 1.0, "attention_mask": REAL},
    ),
    "decoupled_kd_loss": (decoupled_kd_loss, (*PAIR, LABELS), {"temperature": 2.0, "alpha": 1.0, "beta": 8.0}),
    "generalized_jsd_loss": (generalized_jsd_loss, PAIR, {"temperature": 2.0, "beta": 0.5}),
    "standardize_logits": (standardize_logits, (STUDENT,), {}),
    "dist_loss": (dist_loss, PAIR, {"temperature": 2.0, "beta": 1.0, "gamma": 1.0}),
    "binary_kd_loss": (losses.binary_kd_loss, PAIR, {"temperature": 2.0}),
    "lwf_loss": (losses.lwf_loss, PAIR, {"temperature": 2.0, "heads": [[0, 1], [3, 4]]}),
}
LEARNED = {
    "HintRegressor": (losses.HintRegressor, (3, 4), {}),
    "EmbeddingQueue": (losses.EmbeddingQueue, (3, 4), {}),
    "CRDLoss": (
        losses.CRDLoss,
        (3, 4, 10),
        {"embedding_dim": 4, "num_negatives": 4, "temperature": 0.1, "momentum": 0.5},
    ),
    "HiddenProjection": (losses.HiddenProjection, (3, 4), {}),
    "map_layers": (losses.map_layers, (3, 6), {}),
}
ON_LOGITS = [
    "soften", "kd_loss", "distillation_loss", "decoupled_kd_loss", "generalized_jsd_loss", "standardize_logits",
    "dist_loss",
]  # fmt: skip


def call(name, tensors=None, **changed):
    loss, given, options = CALLS[name]
    return loss(*(given if tensors is None else tensors), **{**options, **changed})


def total(value):
    """One number from what a loss returns."""
    if isinstance(value, list):
        value = torch.stack(value)
    return value.sum()


OF_CACHES = {
    name for name in losses.__all__ if name.startswith(("top_", "Top", "sampled_", "Sampled", "sorted_"))
}  # what they take is not a pair of logits: tested in test_cached.py and test_other_vocabularies.py


def test_no_loss_is_missing_here():
    # A dict of modules; the terms of distilbert_loss; a mask of logits, tested with LwF.
    covered = {*CALLS, *LEARNED, "FPNAdapters", "distilbert_terms", "only_own_head", *OF_CACHES}
    assert covered == set(losses.__all__)


# Hyperparameters


NUMBERS = [
    (name, option)
    for name, (_, _, options) in CALLS.items()
    for option, value in options.items()
    if isinstance(value, float)
]
NO_NUMBERS = {
    "None": None, "text": "4", "bytes": b"4", "complex": 2 + 3j, "True": True, "list": [2.0], "function": lambda p: 2.0,
    "array": np.array([1.0, 2.0]), "NumPy bool": np.bool_(True), "nan": math.nan, "inf": math.inf, "negative": -1.0,
    "huge": 10**400, "tensor nan": torch.tensor(math.nan), "tensor negative": torch.tensor(-1.0),
    "tensor (1,)": torch.tensor([2.0]), "tensor (B, 1)": torch.tensor([[1.0], [2.0]]),
    "tensor bool": torch.tensor(True),
    "tensor complex": torch.tensor(2 + 1j),
}  # fmt: skip


@pytest.mark.trap(72)
@pytest.mark.parametrize("wrong", NO_NUMBERS.values(), ids=NO_NUMBERS)
def test_every_hyperparameter_is_one_real_number_in_range(wrong):
    for name, option in NUMBERS:
        with pytest.raises(ValueError, match=rf"^{option} must be"):
            call(name, **{option: wrong})


@pytest.mark.parametrize("good", [2, np.float32(2), np.int8(2), Fraction(2), torch.tensor(2), torch.tensor(2.0).half()])
def test_any_kind_of_real_number_is_the_same_hyperparameter(good):
    for name, option in NUMBERS:
        expected = total(call(name, **{option: 2.0})) if option not in ("alpha", "beta") else None
        if expected is not None:
            torch.testing.assert_close(total(call(name, **{option: good})), expected)


def test_a_temperature_of_few_bits_does_not_overflow_when_it_is_squared():
    expected = kd_loss(STUDENT, TEACHER, temperature=40.0)
    for small in (np.int8(40), torch.tensor(40, dtype=torch.uint8)):
        torch.testing.assert_close(kd_loss(STUDENT, TEACHER, temperature=small), expected)


@pytest.mark.trap(72)
def test_one_temperature_per_sample_is_an_error_that_names_vmap_and_vmap_is_right():
    student = torch.tensor([[2.0, 0.0], [2.0, 0.0]])
    per_sample = torch.tensor([1.0, 4.0])
    for shape in ((2,), (2, 1)):
        with pytest.raises(ValueError, match=r"temperature must be one number, got a tensor of shape .*vmap"):
            kd_loss(student, student.flip(1), temperature=per_sample.view(shape))
    values = torch.vmap(lambda s, t, temperature: kd_loss(s[None], t[None], temperature=temperature))(
        student, student.flip(1), per_sample
    )
    torch.testing.assert_close(values, torch.tensor([1.5232, 1.9593]), rtol=0, atol=1e-4)
    assert values.mean().item() == pytest.approx(1.7413, abs=1e-4)


def test_a_learned_temperature_gets_its_gradient():
    temperature = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    for low_and_high in (3.0, 300.0):
        at = temperature / 3 * low_and_high
        assert torch.autograd.gradcheck(
            lambda t: kd_loss(STUDENT.double(), TEACHER.double(), temperature=t), at.detach().requires_grad_()
        )


SIZES = [(name, place) for name, (_, sizes, _) in LEARNED.items() for place in range(len(sizes))]


@pytest.mark.parametrize("wrong", [0, -1, 2.5, None, "4", True, (3,), torch.tensor(3.0)], ids=str)
def test_sizes_are_positive_integers(wrong):
    for name, place in SIZES:
        make, sizes, options = LEARNED[name]
        with pytest.raises(ValueError, match=r"must be a positive integer, got"):
            make(*sizes[:place], wrong, *sizes[place + 1 :], **options)


# Tensors


NO_TENSORS = {
    "None": None, "text": "x", "number": 3.0, "list of numbers": [1, 2], "array": np.zeros((6, 5)), "dict": {},
    "Nones": [None, None], "a text among them": [STUDENT, "x"], "empty list": (), "integers": STUDENT.long(),
    "complex": STUDENT.to(torch.complex64), "bool": STUDENT > 0, "empty": torch.zeros(0), "scalar": torch.zeros(()),
    "5-D": torch.zeros(2, 3, 4, 5, 6), "one sample": torch.zeros(1, 5), "no sample": torch.zeros(0, 5),
    "no class": torch.zeros(6, 0), "sparse": torch.sparse_coo_tensor(size=(6, 5)),
    "8 bits": STUDENT.to(torch.float8_e4m3fn), "elsewhere": STUDENT.to("meta"),
}  # fmt: skip
# For whom some of these are right: one side of it alone has no shape to agree with.
RIGHT = {
    "soften": {"one sample", "no sample", "elsewhere"},
    "standardize_logits": {"one sample", "no sample", "elsewhere"},
    "distillation_loss": {"None"},  # labels are optional
    "box_regression_loss": {"None"},  # so are targets
}


@pytest.mark.parametrize("wrong", NO_TENSORS)
@pytest.mark.parametrize("name", CALLS)
def test_what_is_no_tensor_of_the_right_kind_is_an_error_in_our_words(name, wrong):
    _, tensors, _ = CALLS[name]
    for place in range(len(tensors)):
        if wrong in RIGHT.get(name, ()) and (wrong != "None" or place == 2):
            continue
        with pytest.raises(ValueError, match=r"\w"):
            call(name, (*tensors[:place], NO_TENSORS[wrong], *tensors[place + 1 :]))


@pytest.mark.parametrize("student", [torch.float32, torch.float64, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("teacher", [torch.float32, torch.float64, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", CALLS)
def test_student_and_teacher_may_differ_in_precision_and_the_students_decides(name, student, teacher):
    def convert(given, dtype):
        if isinstance(given, list):
            return [convert(one, dtype) for one in given]
        return given.to(dtype) if given.is_floating_point() else given

    _, (first, *others), _ = CALLS[name]
    first = convert(first, student)
    leaves = [x.detach().requires_grad_() for x in (first if isinstance(first, list) else [first])]
    first = leaves if isinstance(first, list) else leaves[0]
    value = total(call(name, (first, *(convert(other, teacher) for other in others))))
    value.backward()
    assert value.isfinite()
    if name != "distilbert_loss":  # whose hidden states are a student's too
        assert value.dtype == (torch.float64 if student == torch.float64 else torch.float32)
    assert all(leaf.grad is None or (leaf.grad.dtype == student and leaf.grad.isfinite().all()) for leaf in leaves)


@pytest.mark.parametrize("name", CALLS)
def test_nan_in_is_nan_out(name):
    _, tensors, _ = CALLS[name]
    floating = [place for place, given in enumerate(tensors) if isinstance(given, list) or given.is_floating_point()]
    for place in floating:
        for sample in (0, -1):
            given = tensors[place]
            poisoned = (given[0] if isinstance(given, list) else given).clone()
            poisoned.view(-1)[0 if sample == 0 else -1] = math.nan
            poisoned = [poisoned, *given[1:]] if isinstance(given, list) else poisoned
            assert total(call(name, (*tensors[:place], poisoned, *tensors[place + 1 :]))).isnan(), (place, sample)


def test_a_teacher_of_nan_gives_nan_and_not_a_perfect_box():
    boxes = torch.rand(3, 4)
    for student, teacher, targets in [
        (boxes, boxes * math.nan, boxes), (boxes * math.nan, boxes, boxes), (boxes, boxes, boxes * math.nan),
    ]:  # fmt: skip
        assert box_regression_loss(student, teacher, targets).isnan()


@pytest.mark.parametrize("name", CALLS)
def test_input_that_is_not_contiguous_is_the_same_input(name):
    def strided(given):
        if isinstance(given, list):
            return [strided(one) for one in given]
        return given.transpose(0, -1).contiguous().transpose(0, -1)

    _, tensors, _ = CALLS[name]
    torch.testing.assert_close(total(call(name, [strided(given) for given in tensors])), total(call(name)))


# Logits


@pytest.mark.trap(70)
@pytest.mark.parametrize("name", [*ON_LOGITS, "detection_classification_loss", "distilbert_loss"])
def test_class_maps_are_an_error_that_names_the_way_to_tokens(name):
    _, tensors, _ = CALLS[name]
    maps = tuple(normal(2, 3, 4, 5) if given.is_floating_point() else torch.zeros(2, 4, 5).long() for given in tensors)
    with pytest.raises(ValueError, match=r"4 dimensions, got shape \(2, 3, 4, 5\).*logits.flatten\(2\).mT"):
        call(name, maps)


@pytest.mark.trap(70)
def test_class_maps_as_tokens_give_the_divergence_over_classes_and_not_over_columns():
    student, teacher = torch.zeros(1, 3, 1, 2), torch.zeros(1, 3, 1, 2)
    student[0, 0] = 5
    tokens = [maps.flatten(2).mT for maps in (student, teacher)]
    assert tokens[0].shape == (1, 2, 3)
    assert kd_loss(*tokens, temperature=1).item() == pytest.approx(2.2481, abs=1e-4)


@pytest.mark.trap(71)
@pytest.mark.parametrize("name", [*ON_LOGITS, "deep_supervision_loss", "mutual_learning_loss", "distilbert_loss"])
def test_one_logit_is_an_error_and_not_a_loss_of_zero(name):
    def first_class(given):
        if isinstance(given, list):
            return [first_class(one) for one in given]
        return given[..., :1] if given.is_floating_point() else given * 0

    _, tensors, _ = CALLS[name]
    with pytest.raises(ValueError, match=r"at least two classes"):
        call(name, [first_class(given) for given in tensors])


@pytest.mark.trap(71)
def test_one_logit_beside_a_zero_is_the_sigmoid_model_that_was_meant():
    z, teacher = normal(6, 1), normal(6, 1, seed=1)
    two = [torch.cat([torch.zeros_like(x), x], dim=-1) for x in (z, teacher)]
    every = torch.ones(1, 6).bool()
    torch.testing.assert_close(
        kd_loss(*two, temperature=2),
        detection_classification_loss(z[None], teacher[None], foreground=every, temperature=2),
    )


@pytest.mark.trap(77)
@pytest.mark.parametrize("name", ["distillation_loss", "decoupled_kd_loss"])
def test_labels_that_are_no_class_indices_are_told_what_they_are(name):
    soft, real = STUDENT.softmax(1), torch.rand(6)
    multi_hot = (STUDENT > 0).long()
    for labels, message in [
        (soft, r"shape of the logits.*kd_loss\(student_logits, soft_labels.log\(\), temperature=1\)"),
        (multi_hot, r"shape of the logits.*sigmoid for each class"),
        (real, r"Real-valued labels name no class"),
        (LABELS.float(), r"labels.long\(\)"),
    ]:
        with pytest.raises(ValueError, match=message):
            call(name, (*PAIR, labels))


@pytest.mark.trap(77)
def test_soft_labels_as_a_teacher_are_cross_entropy_without_their_own_entropy():
    soft = TEACHER.softmax(1)
    entropy = -(soft * soft.log()).sum(1).mean()
    expected = torch.nn.functional.cross_entropy(STUDENT, soft) - entropy
    torch.testing.assert_close(kd_loss(STUDENT, soft.log(), temperature=1), expected)


PROBABILITIES = [*ON_LOGITS, "distilbert_loss", "mutual_learning_loss"]


@pytest.mark.trap(83)
@pytest.mark.parametrize("name", PROBABILITIES)
def test_probabilities_handed_over_as_logits_are_noticed_on_either_side(name):
    _, tensors, _ = CALLS[name]
    sides = [[STUDENT.softmax(1), TEACHER]] if name.startswith("mutual") else None
    for place in range(1 if len(tensors) == 1 or sides else 2):
        given = sides[0] if sides else tensors[place].softmax(-1)
        with pytest.warns(UserWarning, match=r"look like probabilities.*before the softmax, or probabilities.log"):
            call(name, (*tensors[:place], given, *tensors[place + 1 :]))


@pytest.mark.trap(83)
@pytest.mark.parametrize("name", CALLS)
def test_logits_log_probabilities_and_one_row_of_probabilities_are_not_mistaken(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        call(name)
        logits = STUDENT.clone()
        logits[0] = logits[0].softmax(0)
        kd_loss(logits, TEACHER, temperature=2)
        kd_loss(STUDENT.log_softmax(1), TEACHER.abs(), temperature=2)


@pytest.mark.trap(83)
def test_probabilities_are_noticed_in_large_batches_and_half_precision_and_as_attention_scores():
    large = normal(64, 1000).softmax(1)
    for student in (large, large.bfloat16(), large.half()):
        with pytest.warns(UserWarning, match="student logits look like probabilities"):
            kd_loss(student, normal(64, 1000, seed=1), temperature=2)
    with pytest.warns(UserWarning, match="teacher attention scores look like probabilities"):
        attention_scores_loss(HEADS, TEACHER_HEADS.softmax(-1))


# Temperatures, high and low


def exact_kd(student, teacher, temperature):
    """KD and its gradient with 120 digits, from the very numbers that the loss gets."""
    with mpmath.workdps(120):
        value, gradient = mpmath.mpf(0), []
        for z_s, z_t in zip(student.tolist(), teacher.tolist(), strict=True):
            q, p = ([mpmath.exp(mpmath.mpf(z) / temperature) for z in row] for row in (z_s, z_t))
            q, p = ([x / mpmath.fsum(row) for x in row] for row in (q, p))
            value += mpmath.fsum(b * mpmath.log(b / a) for a, b in zip(q, p, strict=True))
            gradient.append([float(temperature * (a - b) / len(student)) for a, b in zip(q, p, strict=True)])
        return float(mpmath.mpf(temperature) ** 2 * value / len(student)), torch.tensor(gradient, dtype=torch.float64)


@given(
    exponent=st.floats(1.9, 30),
    scale=st.sampled_from([1e-2, 1.0, 30.0, 1e3]),
    seed=st.integers(0, 1000),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    form=st.sampled_from(["number", "tensor", "vmap"]),
)
@settings(max_examples=60, deadline=None)
def test_kd_is_exact_at_any_high_temperature(exponent, scale, seed, dtype, form):
    temperature = 10.0**exponent
    student = (scale * normal(3, 7, seed=seed)).to(dtype).requires_grad_()
    teacher = (scale * normal(3, 7, seed=seed + 5000)).to(dtype)
    if form == "vmap":
        loss = torch.vmap(lambda t: kd_loss(student, teacher, temperature=t))(
            torch.tensor([temperature], dtype=torch.float64)
        )[0]
    else:
        given_as = temperature if form == "number" else torch.tensor(temperature, dtype=torch.float64)
        loss = kd_loss(student, teacher, temperature=given_as)
    (gradient,) = torch.autograd.grad(loss, student)
    value, slope = exact_kd(student.detach(), teacher, temperature)
    tolerance = 1e4 * torch.finfo(dtype).eps
    assert loss.item() == pytest.approx(value, rel=tolerance)
    torch.testing.assert_close(gradient.double(), slope, rtol=0, atol=tolerance * slope.abs().max().item())


def test_kd_at_the_temperature_that_gave_minus_23840_is_half_the_variance_of_the_difference():
    student, teacher = normal(128, 10), normal(128, 10, seed=1)
    expected = (student - teacher).var(dim=1, correction=0).mean() / 2
    for temperature in (1e6, 1e12, 1e30, 1e300):
        torch.testing.assert_close(kd_loss(student, teacher, temperature=temperature), expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("temperature", [63.0, 65.0, 1e3, 1e6, 1e12])
def test_other_losses_with_t_squared_are_as_exact_as_kd(temperature):
    student, teacher = 3 * normal(6, 5), 3 * normal(6, 5, seed=1)
    low = 1e-3 if temperature < 64 else 1e-5  # the plain formula loses T² digits
    kd, _ = exact_kd(student, teacher, temperature)
    two = decoupled_kd_loss(student[:, :2], teacher[:, :2], LABELS % 2, temperature=temperature)
    assert two.item() == pytest.approx(exact_kd(student[:, :2], teacher[:, :2], temperature)[0], rel=low)
    terms = distilbert_terms(
        student[None], teacher[None], LABELS[None], student[None], teacher[None], temperature=temperature
    )
    assert terms["kd"].item() == pytest.approx(5 * kd, rel=low)
    with_zero = [torch.stack([x[:, 0], torch.zeros(6)], dim=1) for x in (student, teacher)]
    every = torch.ones(1, 6).bool()
    boxes = detection_classification_loss(
        student[None, :, :1], teacher[None, :, :1], foreground=every, temperature=temperature
    )
    assert boxes.item() == pytest.approx(exact_kd(*with_zero, temperature)[0], rel=low)


@pytest.mark.parametrize("temperature", [100.0, 1e4])
def test_decoupled_kd_at_high_temperature_is_the_formula_in_double_precision(temperature):
    student, teacher = 3 * normal(6, 5), 3 * normal(6, 5, seed=1)
    student.requires_grad_()
    double = student.detach().double().requires_grad_()
    exact = reference_decoupled_kd(double, teacher.double(), LABELS, temperature)
    loss = decoupled_kd_loss(student, teacher, LABELS, temperature=temperature, alpha=1.0, beta=8.0)
    torch.testing.assert_close(loss.double(), exact, rtol=1e-5, atol=0)
    (slope,), (exact_slope,) = torch.autograd.grad(loss, student), torch.autograd.grad(exact, double)
    torch.testing.assert_close(slope.double(), exact_slope, rtol=1e-4, atol=1e-6)


def reference_decoupled_kd(student, teacher, labels, temperature):
    q, p = ((x / temperature).softmax(1) for x in (student, teacher))
    rows = torch.arange(len(labels))
    q_y, p_y = q[rows, labels], p[rows, labels]
    target = p_y * (p_y / q_y).log() + (1 - p_y) * ((1 - p_y) / (1 - q_y)).log()
    others = torch.ones_like(p).scatter(1, labels[:, None], 0)
    q_n, p_n = others * q / (1 - q_y)[:, None], others * p / (1 - p_y)[:, None]
    rest = (p_n * ((p_n + 1 - others).log() - (q_n + 1 - others).log())).sum(1)
    return temperature**2 * (target + 8 * rest).mean()


def correlate(student, teacher, dim):
    student, teacher = (x - x.mean(dim, keepdim=True) for x in (student, teacher))
    return (student * teacher).sum(dim) / (student.norm(dim=dim) * teacher.norm(dim=dim))


@pytest.mark.parametrize("temperature", [65.0, 1e4, 1e6, 1e12, 1e30])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 10.0])
def test_dist_at_high_temperature_correlates_logits_once_they_are_centred_per_sample(temperature, scale):
    student, teacher = scale * normal(8, 10), scale * normal(8, 10, seed=1)
    student.requires_grad_()
    loss = dist_loss(student, teacher, temperature=temperature)
    (slope,) = torch.autograd.grad(loss, student)
    double = student.detach().double().requires_grad_()
    flat = [x - x.mean(1, keepdim=True) for x in (double, teacher.double())]
    # At a finite T, probabilities are exp(z / T): the limit is reached like z / T.
    probabilities = [(x / temperature).softmax(1) for x in flat] if temperature < 1e5 else flat
    exact = 2 - correlate(*probabilities, dim=1).mean() - correlate(*probabilities, dim=0).mean()
    (exact_slope,) = torch.autograd.grad(exact, double)
    torch.testing.assert_close(loss.double(), exact, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(slope.double(), exact_slope, rtol=1e-3, atol=1e-4 * exact_slope.abs().max().item())


@pytest.mark.parametrize("scale", [1e-2, 1e-4, 1e-8, 1e-20])
def test_dist_of_logits_close_to_zero_still_has_its_digits(scale):
    student, teacher = scale * normal(8, 10), normal(8, 10, seed=1)
    loss, exact = dist_loss(student, teacher), dist_loss(student.double(), teacher.double())
    torch.testing.assert_close(loss.double(), exact, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 100.0])
def test_dist_of_a_constant_side_at_any_temperature_counts_what_the_teacher_has(temperature):
    flat, teacher = torch.full((8, 10), 5.1), normal(8, 10)
    assert dist_loss(flat, teacher, temperature=temperature).item() == pytest.approx(2, abs=1e-5)
    assert dist_loss(teacher, flat, temperature=temperature).item() == pytest.approx(0, abs=1e-5)


def test_both_forms_of_kd_agree_where_one_takes_over_from_the_other():
    student, teacher = normal(64, 10, dtype=torch.float64), normal(64, 10, seed=1, dtype=torch.float64)
    below, above = (kd_loss(student, teacher, temperature=t) for t in (64 - 1e-9, 64.0))
    torch.testing.assert_close(below, above, rtol=1e-9, atol=0)


def test_a_temperature_too_low_for_floats_is_an_error():
    with pytest.raises(ValueError, match="temperature must be at least 1e-20, got 1e-40"):
        kd_loss(STUDENT, TEACHER, temperature=1e-40)
    assert kd_loss(STUDENT, TEACHER, temperature=1e-20).isfinite()


# Scales and places


FREE_OF_SCALE = {
    "info_nce_loss": (lambda s, t: info_nce_loss(s, t, temperature=0.2), (6, 5)),
    "gram_loss": (losses.gram_loss, (6, 5)),
    "similarity_preserving_loss": (losses.similarity_preserving_loss, (6, 5)),
    "rkd_distance_loss": (losses.rkd_distance_loss, (6, 5)),
    "rkd_angle_loss": (losses.rkd_angle_loss, (6, 5)),
    "hidden_cosine_loss": (lambda s, t: losses.hidden_cosine_loss(s[None], t[None]), (6, 5)),
    "attention_transfer_loss": (losses.attention_transfer_loss, (2, 3, 4, 4)),
    "standardize_logits": (lambda s, t: (standardize_logits(s) * t).sum(), (6, 5)),
}


@pytest.mark.trap(80)
@pytest.mark.parametrize("power", [-120, -76, -66, -24, 33, 63, 83, 119])
@pytest.mark.parametrize("name", FREE_OF_SCALE)
def test_losses_that_do_not_see_the_scale_do_not_see_it_at_the_ends_of_float32(name, power):
    loss, shape = FREE_OF_SCALE[name]
    scale = 2.0**power  # 1e-36 to 1e36; squares leave float32 from 1e-19 and 1e19 on
    student, teacher = normal(*shape) + 0.3, normal(*shape, seed=1) + 0.3
    ordinary = student.clone().requires_grad_()
    scaled = (scale * student).requires_grad_()
    expected, value = loss(ordinary, teacher), loss(scaled, teacher)
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)
    (slope,), (scaled_slope,) = torch.autograd.grad(expected, ordinary), torch.autograd.grad(value, scaled)
    torch.testing.assert_close(scale * scaled_slope.double(), slope.double(), rtol=1e-3, atol=1e-5)


@pytest.mark.trap(80)
@pytest.mark.parametrize("scale", [1e-30, 1e-23, 1e-10, 1e-7, 1.0, 1e19, 1e30])
def test_an_attention_map_has_norm_one_at_any_scale(scale):
    torch.testing.assert_close(attention_map(scale * MAPS).norm(dim=1), torch.ones(4))
    assert (attention_map(0 * MAPS) == 0).all()


def test_importance_of_any_scale_weighs_by_its_ratios():
    expected = losses.fpn_feature_loss([MAPS], [TEACHER_MAPS], importance=[torch.ones(4, 4, 4)])
    for size in (1e-38, 1e-20, 3e38):
        value = losses.fpn_feature_loss([MAPS], [TEACHER_MAPS], importance=[torch.full((4, 4, 4), size)])
        torch.testing.assert_close(value, expected)


@pytest.mark.trap(79)
@pytest.mark.parametrize("place", [0.0, 1.0, 100.0, 1e4])
@pytest.mark.parametrize("loss", [losses.rkd_distance_loss, losses.rkd_angle_loss])
def test_relations_keep_their_digits_far_from_the_origin(loss, place):
    student, teacher = place + 0.01 * normal(64, 16), normal(64, 16, seed=1)
    student.requires_grad_()
    double = student.detach().double().requires_grad_()
    (slope,) = torch.autograd.grad(loss(student, teacher), student)
    (exact,) = torch.autograd.grad(loss(double, teacher.double()), double)
    assert (slope - exact).norm() < 1e-6 * exact.norm()


DEAD = {
    **FREE_OF_SCALE,
    "fpn_feature_loss": (lambda s, t: losses.fpn_feature_loss([s], [t]), (2, 3, 4, 4)),
    "dist_loss": (dist_loss, (6, 5)),
}


@pytest.mark.parametrize("who", ["student", "teacher", "both"])
@pytest.mark.parametrize("dead", [slice(1, 2), slice(None)], ids=["one sample", "all samples"])
@pytest.mark.parametrize("name", DEAD)
def test_a_dead_sample_has_a_finite_gradient_under_a_large_weight(name, dead, who):
    loss, shape = DEAD[name]
    student, teacher = normal(*shape), normal(*shape, seed=1)
    if who != "teacher":
        student[dead] = 0
    if who != "student":
        teacher[dead] = 0
    value = 1e6 * loss(student.requires_grad_(), teacher)
    value.backward()
    assert value.isfinite()
    assert student.grad.isfinite().all()


# Second derivatives


@pytest.mark.trap(78)
@pytest.mark.parametrize("name", CALLS)
def test_a_gradient_penalty_is_what_finite_differences_say(name):
    if name in ("deep_supervision_loss", "mutual_learning_loss", "mutual_ensemble_loss"):
        pytest.skip("its students are each other's constant teachers, which finite differences would move")
    _, (first, *others), _ = CALLS[name]
    others = [x.double() if not isinstance(x, list) and x.is_floating_point() else x for x in others]
    as_list = isinstance(first, list)
    if as_list:
        first, others = first[0], [[x[0].double()] for x in others]
    weights = normal(*call(name, (first, *CALLS[name][1][1:])).shape, seed=3).double() if not as_list else 1.0

    def value(x):
        return (weights * call(name, ([x] if as_list else x, *others))).sum()

    def penalty(x):
        return torch.autograd.grad(value(x), x, create_graph=True)[0].square().sum()

    x, step = first.double().requires_grad_(), 1e-6 * normal(*first.shape, seed=4).double()
    (slope,) = torch.autograd.grad(penalty(x), x)
    there, back = (penalty((x + sign * step).detach().requires_grad_()).detach() for sign in (1, -1))
    assert (slope * step).sum().item() == pytest.approx(((there - back) / 2).item(), rel=1e-3, abs=1e-13)
