"""Contrastive representation distillation against NumPy written from the paper, sample by sample."""

import copy
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kdcourse.losses import CRDLoss

BATCH, SAMPLES, WIDTH, NEGATIVES = 6, 40, 8, 50


def make_crd(seed=0, **options):
    torch.manual_seed(seed)
    options = {"embedding_dim": WIDTH, "num_negatives": NEGATIVES} | options
    return CRDLoss(5, 7, SAMPLES, **options).double()


def random_batch(seed=0, batch=BATCH, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    student = torch.randn(batch, 5, generator=generator, dtype=dtype)
    teacher = torch.randn(batch, 7, generator=generator, dtype=dtype)
    index = torch.randperm(SAMPLES, generator=generator)[:batch]
    return student, teacher, index, index % 3


def know_all_labels(crd):
    crd.labels.copy_(torch.arange(SAMPLES) % 3)
    return crd


def next_draw(crd):
    """The negatives that the next forward pass will draw."""
    return torch.randint(len(crd.labels), (crd.num_negatives,), generator=copy.deepcopy(crd.generator)).tolist()


def oracle(crd, student, teacher, index, labels, normalizers=None):
    """The noise-contrastive loss with its ratio written out: e^s/Z against N/M. Gives the loss and both Z."""
    drawn, tau, m = next_draw(crd), crd.temperature, crd.num_negatives
    vectors = []
    for head, inputs in ((crd.student_head, student), (crd.teacher_head, teacher)):
        projected = inputs.numpy() @ head.weight.detach().numpy().T + head.bias.detach().numpy()
        vectors.append(projected / np.linalg.norm(projected, axis=1, keepdims=True))
    memories = [crd.teacher_memory.numpy(), crd.student_memory.numpy()]
    known = crd.labels.tolist()
    total, used = 0.0, []
    for direction in (0, 1):
        anchors, partners = vectors[direction], vectors[1 - direction]
        positives, negatives = [], []
        for i, anchor in enumerate(anchors):
            positives.append(math.exp(anchor @ partners[i] / tau))
            allowed = [j for j in drawn if j != index[i] and (labels is None or known[j] != labels[i])]
            negatives.append([math.exp(anchor @ memories[direction][j] / tau) for j in allowed])
        if normalizers is None:
            # The mean over one positive and N negatives a sample; those allowed stand for N.
            sums = [p + m * np.mean(n) for p, n in zip(positives, negatives, strict=True)]
            used.append(SAMPLES * np.sum(sums) / (len(anchors) * (m + 1)))
        else:
            used.append(normalizers[direction])
        z, noise = used[-1], m / SAMPLES
        losses = []
        for positive, others in zip(positives, negatives, strict=True):
            h = (positive / z) / (positive / z + noise)
            told_apart = [math.log(1 - (n / z) / (n / z + noise)) for n in others]
            losses.append(-math.log(h) - m * np.mean(told_apart))
        total += np.mean(losses)
    return total, used


# The value


@pytest.mark.parametrize("labelled", [True, False])
def test_crd_is_the_noise_contrastive_loss_of_both_directions(labelled):
    crd = know_all_labels(make_crd())
    student, teacher, index, labels = random_batch()
    labels = labels if labelled else None
    expected, normalizers = oracle(crd, student, teacher, index, labels)
    assert crd(student, teacher, index, labels).item() == pytest.approx(expected, rel=1e-7)
    np.testing.assert_allclose(crd.log_normalizers.exp().numpy() * SAMPLES, normalizers, rtol=1e-9)


def test_the_normalizers_are_fixed_by_the_first_batch_in_training_mode():
    crd = know_all_labels(make_crd())
    crd.eval()
    crd(*random_batch(5))
    assert (crd.log_normalizers == 0).all()  # looking on fixes nothing
    crd.train()
    _, normalizers = oracle(crd, *random_batch(0))
    crd(*random_batch(0))
    fixed = crd.log_normalizers.clone()
    for seed in (1, 2):
        expected, _ = oracle(crd, *random_batch(seed), normalizers)
        assert crd(*random_batch(seed)).item() == pytest.approx(expected, rel=1e-7)
        assert torch.equal(crd.log_normalizers, fixed)


@pytest.mark.trap(38)
def test_memories_start_as_unit_vectors_and_perfect_positives_then_cost_little():
    crd = CRDLoss(128, 128, 4096)
    for memory in (crd.student_memory, crd.teacher_memory):
        torch.testing.assert_close(memory.norm(dim=1), torch.ones(4096))
    assert not torch.equal(crd.student_memory, crd.teacher_memory)
    # The mistake, where all positives are perfect: InfoNCE against unit vectors, and against raw randn.
    positives = torch.ones(64, 1)
    anchors = F.normalize(torch.randn(64, 128, generator=torch.Generator().manual_seed(1)), dim=1)

    def info_nce(bank):
        return F.cross_entropy(torch.cat([positives, anchors @ bank.T], 1) / 0.07, torch.zeros(64, dtype=torch.long))

    assert info_nce(crd.teacher_memory) < 0.1
    assert info_nce(torch.randn(4096, 128, generator=torch.Generator().manual_seed(2))) > 20


def test_crd_falls_when_student_and_teacher_agree_about_the_sample_and_about_nothing_else():
    crd = know_all_labels(make_crd())
    for head in (crd.student_head, crd.teacher_head):
        nn.init.zeros_(head.bias)
    _, teacher, index, labels = random_batch()
    crd.eval()

    def loss_at(student_vectors):
        pre_image = torch.linalg.lstsq(crd.student_head.weight.detach(), student_vectors.T).solution.T
        return crd(pre_image, teacher, index, labels).item()

    vectors = F.normalize(crd.teacher_head(teacher).detach(), dim=1)
    assert loss_at(vectors) < loss_at(-vectors)
    assert loss_at(vectors) < loss_at(vectors.roll(1, 0))


# Negatives


@pytest.mark.trap(40)
def test_neither_the_sample_itself_nor_its_class_is_ever_a_negative():
    crd = know_all_labels(make_crd(num_negatives=400)).eval()
    student, teacher, index, labels = random_batch()
    reference = crd(student, teacher, index, labels)
    own_class = torch.arange(SAMPLES) % 3 == 1
    pick = (labels == 1).nonzero()[0].item()
    single = [x[pick : pick + 1] for x in (student, teacher, index, labels)]
    alone = crd(*single)
    # Whatever stands in the memories of its own class, the sample's loss is the same.
    for memory in (crd.student_memory, crd.teacher_memory):
        memory[own_class] = F.normalize(torch.randn(int(own_class.sum()), WIDTH, dtype=torch.float64), dim=1)
    torch.testing.assert_close(crd(*single), alone)
    assert not torch.isclose(crd(student, teacher, index, labels), reference)  # others do see them
    # Without labels, only its own row is left out.
    unlabelled = crd(*single[:3])
    assert not torch.isclose(unlabelled, alone)
    for memory in (crd.student_memory, crd.teacher_memory):
        memory[single[2]] = -memory[single[2]]
    torch.testing.assert_close(crd(*single[:3]), unlabelled)


@pytest.mark.trap(40)
def test_index_is_required_and_counts_the_data_set_not_the_batch():
    crd = make_crd()
    student, teacher, index, labels = random_batch()
    with pytest.raises(TypeError):
        crd(student, teacher)
    before = crd.student_memory.clone()
    crd(student, teacher, index, labels)
    changed = (crd.student_memory != before).any(dim=1).nonzero().flatten()
    assert changed.tolist() == sorted(index.tolist())


@pytest.mark.trap(40)
def test_samples_of_unknown_class_are_noise_and_may_be_negatives_of_anyone():
    crd = make_crd()
    assert (crd.labels == -1).all()
    student, teacher, index, labels = random_batch()
    expected, _ = oracle(crd, student, teacher, index, labels)
    assert crd(student, teacher, index, labels).item() == pytest.approx(expected, rel=1e-7)
    assert torch.equal(crd.labels[index], labels)
    assert (crd.labels == -1).sum() == SAMPLES - BATCH


def test_a_sample_without_any_allowed_negative_still_has_a_finite_loss():
    crd = make_crd()
    crd.labels.fill_(1)
    student, teacher, index, _ = random_batch()
    loss = crd(student, teacher, index, torch.ones(BATCH, dtype=torch.long))
    loss.backward()
    assert loss.isfinite()


def test_what_is_left_out_is_made_up_for_so_that_the_expectation_is_that_of_m_negatives():
    m = 20_000
    crd = know_all_labels(make_crd(num_negatives=m)).eval()
    crd.normalized = True  # Z = M in both directions
    student, teacher, index, labels = random_batch(batch=1)
    others = [j for j in range(SAMPLES) if j % 3 != labels.item()]
    s = F.normalize(crd.student_head(student), dim=1).squeeze(0)
    t = F.normalize(crd.teacher_head(teacher), dim=1).squeeze(0)
    offset = math.log(m)
    # N draws from the other classes cost N times their mean; nothing here is drawn.
    expected = 2 * F.softplus(offset - s @ t / 0.07)
    expected += m * F.softplus(crd.teacher_memory[others] @ s / 0.07 - offset).mean()
    expected += m * F.softplus(crd.student_memory[others] @ t / 0.07 - offset).mean()
    assert crd(student, teacher, index, labels).item() == pytest.approx(expected.item(), rel=0.05)


@pytest.mark.trap(43)
def test_no_step_gathers_a_vector_for_each_sample_and_negative():
    crd = CRDLoss(32, 32, 500, embedding_dim=32, num_negatives=256)
    sizes = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            output = function(*args, **(kwargs or {}))
            sizes.extend(x.numel() for x in (output if isinstance(output, tuple) else (output,)) if torch.is_tensor(x))
            return output

    batch = 64
    with Watch():
        index = torch.arange(batch)
        crd(torch.randn(batch, 32, requires_grad=True), torch.randn(batch, 32), index, index % 3).backward()
    assert max(sizes) <= batch * (256 + 1)  # scores, and not batch·256·32 coordinates
    assert CRDLoss(4, 4, 10).num_negatives < 16_384  # the paper's number is not what any data set gets unasked


def test_draws_belong_to_the_loss_and_not_to_the_global_generator():
    losses = []
    for disturbed in (False, True):
        crd = make_crd(seed=3)
        for seed in range(3):
            if disturbed:
                torch.rand(10)
                crd.eval()
                crd(*random_batch(9))  # nor does looking at the loss in between change what is drawn
                crd.train()
            losses.append(crd(*random_batch(seed)).item())
    assert losses[:3] == losses[3:]


def test_a_generator_of_the_callers_draws_the_memories_and_the_negatives():
    one, two = (CRDLoss(5, 7, 20, generator=torch.Generator().manual_seed(4)) for _ in range(2))
    assert torch.equal(one.student_memory, two.student_memory)
    assert next_draw(one) == next_draw(two)
    assert not torch.equal(CRDLoss(5, 7, 20).student_memory, CRDLoss(5, 7, 20).student_memory)


# Memories


def test_memories_are_momentum_averages_of_unit_vectors_scaled_back_to_length_one():
    crd = make_crd(momentum=0.7)
    student, teacher, index, labels = random_batch()
    before = [crd.student_memory.clone().numpy(), crd.teacher_memory.clone().numpy()]
    crd(student, teacher, index, labels)
    pairs = [(crd.student_head, student, crd.student_memory), (crd.teacher_head, teacher, crd.teacher_memory)]
    for old, (head, inputs, memory) in zip(before, pairs, strict=True):
        vectors = head(inputs).detach().numpy()
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        blend = 0.7 * old[index] + 0.3 * vectors
        blend /= np.linalg.norm(blend, axis=1, keepdims=True)
        np.testing.assert_allclose(memory[index].numpy(), blend, rtol=1e-9, atol=1e-12)
        untouched = np.setdiff1d(np.arange(SAMPLES), index)
        np.testing.assert_array_equal(memory[untouched].numpy(), old[untouched])


def test_memories_are_refreshed_after_the_loss_and_converge_to_the_vectors():
    crd = make_crd()
    batch = random_batch()
    for _ in range(60):
        crd(*batch)
    vectors = F.normalize(crd.student_head(batch[0]), dim=1)
    torch.testing.assert_close(crd.student_memory[batch[2]], vectors.detach(), rtol=1e-6, atol=1e-9)


@pytest.mark.trap(39)
def test_every_row_has_its_sample_so_there_is_no_pointer_that_could_miss_the_tail_or_overrun():
    crd = make_crd()
    before = crd.teacher_memory.clone()
    everything = torch.arange(SAMPLES)
    student, teacher = torch.randn(SAMPLES, 5).double(), torch.randn(SAMPLES, 7).double()
    crd(student, teacher, everything, everything % 3)  # one batch as large as the memory
    assert (crd.teacher_memory != before).any(dim=1).all()
    last = crd.teacher_memory[-1].clone()
    crd(student[:1], teacher[:1], torch.tensor([SAMPLES - 1]))
    assert not torch.equal(crd.teacher_memory[-1], last)
    twice = torch.zeros(50, dtype=torch.long)  # a batch larger than the memory, drawn with replacement
    assert crd(torch.randn(50, 5).double(), torch.randn(50, 7).double(), twice).isfinite()


@pytest.mark.trap(42)
def test_nothing_changes_in_evaluation_mode():
    crd = make_crd()
    crd(*random_batch(0))
    crd.eval()
    before = copy.deepcopy(crd.state_dict())
    first, second = crd(*random_batch(1)), crd(*random_batch(1))
    after = crd.state_dict()
    assert first == second
    for name, value in before.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(after[name], value), name
    assert torch.equal(before["_extra_state"]["generator"], after["_extra_state"]["generator"])


@pytest.mark.trap(42)
def test_no_value_is_ever_read_back_from_the_device():
    # Tensors on the meta device have no values: int(pointer), .item() or a mask as index would raise.
    crd = CRDLoss(5, 7, SAMPLES, num_negatives=NEGATIVES).to("meta")
    student, teacher, index, labels = (x.to("meta") for x in random_batch(dtype=torch.float32))
    for _ in range(2):
        assert crd(student, teacher, index, labels).shape == ()
    assert crd.eval()(student, teacher, index).shape == ()


@pytest.mark.parametrize("dtype", [torch.int32, torch.int16, torch.uint8])
def test_an_index_of_any_integer_type_names_the_same_rows(dtype):
    *embeddings, index, labels = random_batch()
    given, long = make_crd(), make_crd()
    for _ in range(2):
        torch.testing.assert_close(
            given(*embeddings, index.to(dtype), labels.to(dtype)), long(*embeddings, index, labels)
        )
    assert torch.equal(given.student_memory, long.student_memory)
    assert torch.equal(given.labels, long.labels)


def test_in_half_precision_throughout_only_heads_and_memories_are_rounded():
    student, teacher, index, labels = random_batch(dtype=torch.float16)
    half, full = make_crd().half(), make_crd().half().float()
    for _ in range(2):
        rounded = half(student, teacher, index, labels)
        assert rounded.dtype == torch.float32
        torch.testing.assert_close(rounded, full(student.float(), teacher.float(), index, labels), rtol=2e-2, atol=0)


def test_a_saved_and_restored_loss_goes_on_with_the_same_numbers(tmp_path):
    crd = make_crd(seed=0)
    crd(*random_batch(0))
    torch.save(crd.state_dict(), tmp_path / "crd.pt")
    other = make_crd(seed=1)
    other.load_state_dict(torch.load(tmp_path / "crd.pt", weights_only=True))
    for seed in (1, 2):
        assert crd(*random_batch(seed)).item() == other(*random_batch(seed)).item()
    copied = copy.deepcopy(crd)
    assert copied(*random_batch(3)).item() == crd(*random_batch(3)).item()


# Gradients


def test_the_gradient_agrees_with_finite_differences_where_the_other_networks_vectors_are_constants():
    crd = know_all_labels(make_crd())
    student, teacher, index, labels = random_batch(batch=3)
    crd(student, teacher, index, labels)  # fixes Z
    crd.eval()
    partner = F.normalize(crd.teacher_head(teacher), dim=1).detach()
    drawn = torch.tensor(next_draw(crd))
    valid = ((drawn[None] != index[:, None]) & (crd.labels[drawn] != labels[:, None])).double()
    offset = crd.log_normalizers[0] + math.log(NEGATIVES)

    def from_the_student(x):
        anchor = F.normalize(crd.student_head(x), dim=1)
        told_apart = F.softplus(anchor @ crd.teacher_memory[drawn].T / crd.temperature - offset)
        told_apart = (valid * told_apart).sum(1) * NEGATIVES / valid.sum(1)
        return (F.softplus(offset - (anchor * partner).sum(1) / crd.temperature) + told_apart).mean()

    x = student.clone().requires_grad_()
    assert torch.autograd.gradcheck(from_the_student, x)
    (expected,) = torch.autograd.grad(from_the_student(x), x)
    (actual,) = torch.autograd.grad(crd(x, teacher, index, labels), x)
    torch.testing.assert_close(actual, expected)


@pytest.mark.trap(41)
def test_both_heads_learn_and_the_teacher_itself_receives_no_gradient():
    crd = make_crd()
    student, teacher, index, labels = random_batch()
    crd(student.requires_grad_(), teacher.requires_grad_(), index, labels).backward()
    assert teacher.grad is None
    names = ["student_head.weight", "student_head.bias", "teacher_head.weight", "teacher_head.bias"]
    assert [name for name, _ in crd.named_parameters()] == names
    assert all(x.grad.abs().sum() > 0 for x in (student, *crd.parameters()))
    assert not any(buffer.requires_grad for buffer in crd.buffers())


@pytest.mark.trap(41)
def test_the_training_loop_refuses_an_optimizer_that_forgot_the_heads():
    from kdcourse.training import train

    student_model, crd = nn.Linear(4, 5), make_crd().float()
    _, teacher, index, labels = random_batch(dtype=torch.float32)
    batches = [(torch.randn(BATCH, 4), labels, teacher, index)] * 2

    def objective(student, inputs, labels, teacher_embeddings, index):
        return {"crd": 0.8 * crd(student(inputs), teacher_embeddings, index, labels)}

    with pytest.raises(ValueError, match="optimizer does not hold"):
        next(train(student_model, batches, objective, torch.optim.SGD(student_model.parameters(), lr=0.1)))
    both = torch.optim.SGD([*student_model.parameters(), *crd.parameters()], lr=0.1)
    assert len(list(train(student_model, batches, objective, both))) == 2


def test_training_with_crd_makes_student_and_teacher_recognise_each_others_samples():
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    teacher = torch.randn(64, 7, generator=generator)
    inputs = torch.cat([teacher @ torch.randn(7, 9, generator=generator), torch.randn(64, 3, generator=generator)], 1)
    student = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 5))
    crd = CRDLoss(5, 7, 64, embedding_dim=16, num_negatives=256)
    optimizer = torch.optim.Adam([*student.parameters(), *crd.parameters()], lr=0.01)

    def share_recognised():
        s, t = F.normalize(crd.student_head(student(inputs)), dim=1), F.normalize(crd.teacher_head(teacher), dim=1)
        return ((s @ t.T).argmax(dim=1) == torch.arange(64)).float().mean().item()

    before = share_recognised()
    for _ in range(40):
        for index in torch.randperm(64, generator=generator).split(16):
            loss = crd(student(inputs[index]), teacher[index], index)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    assert before < 0.2
    assert share_recognised() > 0.7


# Precision and size


@pytest.mark.parametrize("temperature", [1e-3, 0.07, 10.0])
def test_crd_is_finite_at_any_temperature_also_where_the_exponential_overflows(temperature):
    crd = make_crd(temperature=temperature).float()
    student, teacher, index, labels = random_batch(dtype=torch.float32)
    loss = crd(student.requires_grad_(), teacher, index, labels)
    loss.backward()
    assert loss.isfinite()
    assert student.grad.isfinite().all()
    if temperature == 1e-3:
        assert torch.tensor(1 / temperature).exp().isinf()  # what the ratio as written would compute


def test_under_autocast_only_the_heads_are_rounded():
    crd, student_batch = make_crd().float(), random_batch(dtype=torch.float32)
    crd.eval()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        heads = crd.student_head(student_batch[0]), crd.teacher_head(student_batch[1])
        actual = crd(*student_batch)
    assert heads[0].dtype == torch.bfloat16
    assert actual.dtype == torch.float32
    torch.testing.assert_close(actual, crd._compare(*(x.float() for x in heads), *student_batch[2:]))


# Bad input


@pytest.mark.parametrize("position", range(3))
@pytest.mark.parametrize("size", [0, -1, 2.5, None, "5", True])
def test_sizes_must_be_positive_integers(position, size):
    sizes = [5, 7, 40]
    sizes[position] = size
    name = ("student_dim", "teacher_dim", "num_samples")[position]
    with pytest.raises(ValueError, match=rf"{name} must be a positive integer, got {size!r}"):
        CRDLoss(*sizes)


@pytest.mark.parametrize("option", ["embedding_dim", "num_negatives"])
def test_options_that_count_must_be_positive(option):
    with pytest.raises(ValueError, match=rf"{option} must be a positive integer, got 0"):
        CRDLoss(5, 7, 40, **{option: 0})


@pytest.mark.parametrize("temperature", [0, -1.0, math.nan, math.inf])
def test_a_temperature_that_is_not_positive_and_finite_is_refused(temperature):
    with pytest.raises(ValueError, match="temperature must be positive and finite"):
        CRDLoss(5, 7, 40, temperature=temperature)


@pytest.mark.parametrize("momentum", [-0.1, 1.0, 1.5, math.nan])
def test_a_momentum_outside_zero_and_one_is_refused(momentum):
    with pytest.raises(ValueError, match=r"momentum must be in \[0, 1\), got .*share of the old vector"):
        CRDLoss(5, 7, 40, momentum=momentum)


def test_embeddings_index_and_labels_that_do_not_fit_are_refused():
    crd = make_crd()
    student, teacher, index, labels = random_batch()
    with pytest.raises(ValueError, match=r"student embeddings must have shape \(B, 5\), .* got \(6, 7\)"):
        crd(teacher, student, index, labels)
    with pytest.raises(
        ValueError, match=r"teacher embeddings must have shape \(B, 7\), .*Pool or flatten feature maps"
    ):
        crd(student, teacher[:, :, None, None], index, labels)
    with pytest.raises(ValueError, match=r"embeddings must come from the same batch, got 6 and 5"):
        crd(student, teacher[:5], index, labels)
    with pytest.raises(ValueError, match=r"index must hold one integer per sample, shape \(6,\), got torch.int64"):
        crd(student, teacher, index[:5], labels)
    with pytest.raises(ValueError, match=r"index must hold one integer per sample.* got torch.float64"):
        crd(student, teacher, index.double(), labels)
    with pytest.raises(ValueError, match=r"labels must hold one integer per sample"):
        crd(student, teacher, index, labels[:, None])
    with pytest.raises(ValueError, match=r"index must be a torch.Tensor of integers, got list"):
        crd(student, teacher, index.tolist(), labels)
    for wrong in (SAMPLES, -1):
        with pytest.raises(ValueError, match=rf"index must be in \[0, {SAMPLES}\), got .*one row for each"):
            crd(student, teacher, torch.tensor([0, 1, 2, 3, 4, wrong]), labels)
    assert (crd.labels == -1).all()  # and nothing was remembered of any of them
