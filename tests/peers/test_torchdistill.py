"""Our losses against torchdistill's, with the settings under which the two formulas agree.

Where they differ on purpose, a test says how: torchdistill's alpha weighs the cross-entropy, and its KD forgets T²
without labels; its similarity-preserving loss divides rows by their sum of absolute values, not by the Euclidean
norm of the paper; its RKD distances come from a product, and are not 0 between equal points; its CRD takes the
positive from the memory and gathers a vector for every sample and negative; its DIST has a T².
"""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kdcourse.losses import (
    CRDLoss,
    attention_transfer_loss,
    dist_loss,
    distillation_loss,
    hint_loss,
    kd_loss,
    rkd_angle_loss,
    rkd_distance_loss,
    similarity_preserving_loss,
    standardize_logits,
)

pytestmark = pytest.mark.peers
peer = pytest.importorskip("torchdistill.losses.mid_level")

PATHS = ("layer", "output", "layer", "output")  # the student's module and side, the teacher's


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def io(tensor, **more):
    """What torchdistill's hooks hand to a loss."""
    return {"layer": {"output": tensor}, **more}


def assert_same_value_and_gradient(ours, theirs, student, **tolerance):
    """Compare two functions of the student, and their gradients."""
    results = []
    for loss in (ours, theirs):
        x = student.clone().requires_grad_()
        value = loss(x)
        results.append((value.detach(), torch.autograd.grad(value, x)[0]))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a.reshape(()) if a.numel() == 1 else a, b.reshape(a.shape), **tolerance)


@pytest.fixture
def logits():
    return 3 * normal(16, 10, seed=1), 3 * normal(16, 10, seed=2), torch.arange(16) % 10


@pytest.mark.parametrize("temperature", [1.0, 4.0, 20.0])
@pytest.mark.parametrize("alpha", [0.1, 0.7])
def test_kd_agrees_when_their_alpha_is_one_minus_ours(logits, temperature, alpha):
    student, teacher, labels = logits
    theirs = peer.KDLoss(*PATHS, temperature=temperature, alpha=1 - alpha)
    assert_same_value_and_gradient(
        lambda x: distillation_loss(x, teacher, labels, temperature=temperature, alpha=alpha),
        lambda x: theirs(io(x), io(teacher), labels),
        student,
    )


def test_kd_without_labels_keeps_t_squared_with_us_and_loses_it_with_them(logits):
    student, teacher, _ = logits
    theirs = peer.KDLoss(*PATHS, temperature=4.0, alpha=0.5)(io(student), io(teacher))
    torch.testing.assert_close(kd_loss(student, teacher, temperature=4.0), 16 * theirs)


def test_hints_agree_with_a_wrapped_mean_squared_error():
    student, teacher = normal(4, 3, 5, 5, seed=1), normal(4, 3, 5, 5, seed=2)
    side = {"module_path": "layer", "io": "output"}
    sides = {"input": side | {"is_from_teacher": False}, "target": side | {"is_from_teacher": True}}
    theirs = peer.SimpleLossWrapper(nn.MSELoss(), **sides)
    assert_same_value_and_gradient(lambda x: hint_loss(x, teacher), lambda x: theirs(io(x), io(teacher), None), student)


def test_attention_transfer_agrees_with_their_code_mode_summed_over_pairs():
    layers = [
        (normal(4, 3, 6, 5, seed=1), normal(4, 8, 6, 5, seed=2)),
        (normal(4, 2, 3, 3, seed=3), normal(4, 4, 3, 3)),
    ]
    side = {"teacher": {"io": "output"}, "student": {"io": "output"}}
    pairs = {f"pair{i}": {k: v | {"path": f"layer{i}"} for k, v in side.items()} for i in range(2)}
    theirs = peer.ATLoss(pairs, mode="code")
    student_io, teacher_io = ({f"layer{i}": {"output": x[j]} for i, x in enumerate(layers)} for j in (0, 1))
    ours = attention_transfer_loss([s for s, _ in layers], [t for _, t in layers])
    torch.testing.assert_close(ours, theirs(student_io, teacher_io))
    student, teacher = layers[0]
    one = peer.ATLoss({"pair": {k: v | {"path": "layer"} for k, v in side.items()}}, mode="code")
    assert_same_value_and_gradient(
        lambda x: attention_transfer_loss(x, teacher), lambda x: one(io(x), io(teacher)), student
    )
    # The paper's equation has the norm without the square.
    paper = peer.ATLoss({"pair": {k: v | {"path": "layer"} for k, v in side.items()}}, mode="paper")
    unsquared = [attention_transfer_loss(student[i : i + 1], teacher[i : i + 1]).mul(30).sqrt() for i in range(4)]
    torch.testing.assert_close(paper(io(student), io(teacher)), torch.stack(unsquared).mean())


@pytest.mark.parametrize(("distance", "angle"), [(1.0, 0.0), (0.0, 1.0), (25.0, 50.0)])
def test_rkd_agrees_where_no_two_samples_are_equal(distance, angle):
    student, teacher = normal(12, 7, seed=1), normal(12, 9, seed=2)
    theirs = peer.RKDLoss("layer", "layer", distance, angle, "mean")
    assert_same_value_and_gradient(
        lambda x: distance * rkd_distance_loss(x, teacher) + angle * rkd_angle_loss(x, teacher),
        lambda x: theirs(io(x), io(teacher)),
        student,
        rtol=1e-6,
        atol=1e-9,
    )


def test_equal_samples_are_apart_for_them_and_not_for_us():
    student, teacher = (torch.cat([x, x]) for x in (normal(32, 64).float() + 30, normal(32, 9, seed=1).float()))
    assert peer.RKDLoss.pdist(student)[:32, 32:].diagonal().max() > 0.01
    exact = rkd_distance_loss(student.double(), teacher.double()).float()
    torch.testing.assert_close(rkd_distance_loss(student, teacher), exact, rtol=1e-5, atol=0)
    theirs = peer.RKDLoss("layer", "layer", 1.0, 0.0, "mean")(io(student), io(teacher))
    assert not torch.isclose(theirs, exact, rtol=1e-3)


def test_similarity_preserving_agrees_once_their_rows_are_normalised_as_in_the_paper(monkeypatch):
    student, teacher = normal(10, 3, 4, 4, seed=1), normal(10, 5, 2, 2, seed=2)
    theirs = peer.SPKDLoss("layer", "layer", "batchmean")
    as_shipped = theirs(io(student), io(teacher))
    ours = similarity_preserving_loss(student, teacher)
    assert not torch.isclose(as_shipped, ours, rtol=0.1)
    grams = [x.flatten(1) @ x.flatten(1).T for x in (student, teacher)]
    summed = [gram / gram.abs().sum(dim=1, keepdim=True) for gram in grams]  # p = 1: a positional dim taken for p
    torch.testing.assert_close(as_shipped, (summed[0] - summed[1]).square().sum() / 100)
    monkeypatch.setattr(peer, "normalize", lambda gram, p: F.normalize(gram, p=2, dim=1))
    assert_same_value_and_gradient(
        lambda x: similarity_preserving_loss(x, teacher), lambda x: theirs(io(x), io(teacher)), student
    )


@pytest.mark.parametrize(("beta", "gamma", "temperature"), [(1.0, 1.0, 1.0), (2.0, 0.5, 1.0), (1.0, 1.0, 4.0)])
def test_dist_agrees_but_for_the_t_squared_of_theirs(logits, beta, gamma, temperature):
    student, teacher, _ = logits
    theirs = peer.DISTLoss(*PATHS, beta=beta, gamma=gamma, tau=temperature)
    assert_same_value_and_gradient(
        lambda x: dist_loss(x, teacher, beta=beta, gamma=gamma, temperature=temperature),
        lambda x: theirs(io(x), io(teacher)) / temperature**2,
        student,
        rtol=1e-6,
        atol=1e-8,
    )


def test_kd_of_standardised_logits_agrees_when_their_beta_carries_the_t_squared(logits):
    student, teacher, labels = logits
    theirs = peer.LogitStdKDLoss(*PATHS, temperature=2.0, alpha=0.3, beta=0.7, eps=0.0)
    # torchdistill divides by the deviation with K - 1 under the root.
    scale = math.sqrt(9 / 10)

    def ours(x):
        soft = kd_loss(scale * standardize_logits(x), scale * standardize_logits(teacher), temperature=2.0)
        return 0.3 * F.cross_entropy(x, labels) + 0.7 * soft

    assert_same_value_and_gradient(ours, lambda x: theirs(io(x), io(teacher), labels), student, rtol=1e-6, atol=1e-8)


# CRD


@pytest.fixture
def crd_pair(monkeypatch):
    """Ours and theirs with the same memories, negatives and constants; heads that change nothing."""
    width, samples, negatives = 8, 64, 20
    ours = CRDLoss(width, width, samples, embedding_dim=width, num_negatives=negatives).double()
    for head in (ours.student_head, ours.teacher_head):
        nn.init.eye_(head.weight)
        nn.init.zeros_(head.bias)
    drawn = torch.arange(30, 30 + negatives)
    monkeypatch.setattr(ours, "_draw", lambda: drawn)
    theirs = peer.CRDLoss(
        "layer", "empty", "layer", width, samples, negatives, samples, temperature=0.07, momentum=0.5, eps=0.0
    ).double()
    theirs.memory_v1.copy_(ours.student_memory)
    theirs.memory_v2.copy_(ours.teacher_memory)
    index = torch.tensor([3, 9, 1, 20, 5])
    contrast = torch.cat([index[:, None], drawn.expand(5, -1)], dim=1)

    def run_theirs(student, teacher):
        given = {"pos_idx": index, "contrast_idx": contrast}
        return theirs(io(student, empty={"input": given}), io(teacher))

    student, teacher = (F.normalize(normal(5, width, seed=seed), dim=1) for seed in (1, 2))
    return ours, theirs, run_theirs, student, teacher, index


def test_crd_agrees_in_value_gradient_and_normalizer_where_the_memory_knows_the_samples(crd_pair):
    ours, theirs, run_theirs, student, teacher, index = crd_pair
    # Their positive is the other network's memory of the sample, ours its vector now: make the two the same.
    ours.student_memory[index] = theirs.memory_v1[index] = student
    ours.teacher_memory[index] = theirs.memory_v2[index] = teacher
    theirs.params = theirs.params.double()
    theirs.params[1] = 0.07
    for _ in range(2):  # the second step uses the normalizers of the first
        gradients = []
        for loss in (lambda s, t: ours(s, t, index), run_theirs):
            s, t = student.clone().requires_grad_(), teacher.clone().requires_grad_()
            value = loss(s, t)
            value.backward()
            # Ours normalises inside, so its gradient lacks what would change the length.
            radial = (s.grad * student).sum(dim=1, keepdim=True) * student
            gradients.append((value.detach().reshape(()), s.grad - radial))
        for a, b in zip(*gradients, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-9)
        z = ours.log_normalizers.exp() * 64
        torch.testing.assert_close(z, theirs.params[2:4], rtol=1e-7, atol=0)


def test_crd_refreshes_its_memories_as_theirs(crd_pair):
    ours, theirs, run_theirs, student, teacher, index = crd_pair
    ours(student, teacher, index)
    with torch.no_grad():
        run_theirs(student, teacher)
    torch.testing.assert_close(ours.student_memory, theirs.memory_v1)
    torch.testing.assert_close(ours.teacher_memory, theirs.memory_v2)
