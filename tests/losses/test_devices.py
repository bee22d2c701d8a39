"""Every loss on a GPU: the CPU's numbers, finite in half precision, and no wait for the device.

What waits is seen without a GPU too: a tensor on the device ``meta`` has a shape and no values, so whatever looks at
a value fails there.
"""

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from kdcourse import losses

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Case(NamedTuple):
    """A loss with its input: ``loss(module, *student, *others)``, or without a module where there is none."""

    loss: Callable[..., Tensor]
    student: tuple[Tensor, ...]  # these get a gradient
    others: tuple[Tensor, ...] = ()
    make_module: Callable[[], nn.Module] | None = None
    waits: bool = False  # it picks out the entries of a mask, and how many there are is data


LOGITS, TEACHER_LOGITS, LABELS = 3 * normal(8, 10), 3 * normal(8, 10, seed=1), torch.arange(8) * 3 % 10
VECTORS, TEACHER_VECTORS = normal(8, 6), normal(8, 6, seed=1)
MAPS, TEACHER_MAPS, WIDE_MAPS = normal(4, 3, 6, 6), normal(4, 3, 6, 6, seed=1), normal(4, 5, 3, 3, seed=2)
TEXT, TEACHER_TEXT = normal(3, 5, 12), normal(3, 5, 12, seed=1)
WORDS = torch.where(torch.arange(5) % 2 == 0, torch.arange(15).view(3, 5) % 12, -100)  # -100: not to be guessed
REAL = (torch.arange(5) < torch.tensor([[5], [3], [2]])).long()  # (3, 5) a tokenizer's mask
HEADS, TEACHER_HEADS = normal(3, 2, 5, 5), normal(3, 2, 5, 5, seed=1)
FOREGROUND = torch.arange(8).view(2, 4) % 3 == 0


def ask_queue(queue: nn.Module, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    """InfoNCE against what was pushed before."""
    queue.push(teacher.roll(1, 0), labels.roll(1, 0))
    queue.push(teacher.roll(2, 0))
    return losses.info_nce_loss(student, teacher, temperature=0.1, labels=labels, queue=queue)


def ask_crd(crd: nn.Module, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    """Two steps: the second one against what the first one left."""
    index = 5 * torch.arange(8, device=student.device)
    return crd(student, teacher, index, labels) + crd(student, teacher, index, labels)


def project(projection: nn.Module, hidden: Tensor, teacher: Tensor) -> Tensor:
    return losses.hidden_state_loss(hidden, teacher, projection=projection)


LOGIT_CASE = ((LOGITS,), (TEACHER_LOGITS,))
LABEL_CASE = ((LOGITS,), (TEACHER_LOGITS, LABELS))
EXITS_CASE = ((LOGITS, normal(8, 10, seed=3), normal(8, 10, seed=4)), (LABELS,))
VECTOR_CASE = ((VECTORS,), (TEACHER_VECTORS,))
TEXT_CASE = ((TEXT,), (TEACHER_TEXT, REAL))

CASES = {
    "soften": Case(lambda z: losses.soften(z, temperature=4.0).square().sum(), (LOGITS,)),
    "kd_loss": Case(lambda s, t: losses.kd_loss(s, t, temperature=4.0), *LOGIT_CASE),
    "sorted_probability_loss": Case(losses.sorted_probability_loss, *LOGIT_CASE),
    "top_targets": Case(
        lambda s, t: losses.top_kd_loss(s, *losses.top_targets(t, 3, temperature=2.0), temperature=2.0), *LOGIT_CASE
    ),
    "top_kd_loss": Case(lambda s, t: losses.top_kd_loss(s, *losses.top_targets(t, 10)), *LOGIT_CASE),
    "sampled_kd_loss": Case(
        lambda s, t: losses.sampled_kd_loss(s, t.topk(3, dim=-1).indices, t.softmax(-1)[:, :3]), *LOGIT_CASE
    ),
    "lwf_loss": Case(lambda s, t: losses.lwf_loss(s, t, heads=[[0, 1], [4, 5, 6]]), *LOGIT_CASE),
    "only_own_head": Case(
        lambda z, labels: F.cross_entropy(losses.only_own_head(z, labels, heads=[list(range(10))]), labels),
        (LOGITS,),
        (LABELS,),
    ),
    "binary_kd_loss": Case(lambda s, t: losses.binary_kd_loss(s, t, temperature=4.0), *LOGIT_CASE),
    "distillation_loss": Case(losses.distillation_loss, *LABEL_CASE),
    "HintRegressor": Case(
        lambda regressor, s, t: losses.hint_loss(regressor(s), t),
        (MAPS,),
        (WIDE_MAPS,),
        lambda: losses.HintRegressor(3, 5, size=3),
    ),
    "hint_loss": Case(losses.hint_loss, (MAPS,), (TEACHER_MAPS,)),
    "attention_map": Case(lambda x: losses.attention_map(x).pow(3).sum(), (MAPS,)),
    "attention_transfer_loss": Case(losses.attention_transfer_loss, (MAPS,), (normal(4, 9, 6, 6, seed=1),)),
    "rkd_distance_loss": Case(losses.rkd_distance_loss, *VECTOR_CASE),
    "rkd_angle_loss": Case(losses.rkd_angle_loss, *VECTOR_CASE),
    "gram_loss": Case(losses.gram_loss, (MAPS,), (WIDE_MAPS,)),
    "similarity_preserving_loss": Case(losses.similarity_preserving_loss, (MAPS,), (WIDE_MAPS,)),
    "EmbeddingQueue": Case(ask_queue, (VECTORS,), (TEACHER_VECTORS, LABELS), lambda: losses.EmbeddingQueue(6, 12)),
    "info_nce_loss": Case(
        lambda s, t, y: losses.info_nce_loss(s, t, temperature=0.1, labels=y), (VECTORS,), (TEACHER_VECTORS, LABELS)
    ),
    "CRDLoss": Case(
        ask_crd,
        (VECTORS,),
        (normal(8, 9, seed=1), LABELS),
        lambda: losses.CRDLoss(6, 9, 64, embedding_dim=16, num_negatives=32, temperature=0.2),
    ),
    "deep_supervision_loss": Case(
        lambda *given: losses.deep_supervision_loss(
            given[:3], given[3], temperature=4.0, alpha=0.5, exit_features=given[:3], hint_weight=0.01
        ),
        *EXITS_CASE,
    ),
    "mutual_learning_loss": Case(
        lambda *given: torch.stack(losses.mutual_learning_loss(given[:3], given[3])).sum(), *EXITS_CASE
    ),
    "mutual_ensemble_loss": Case(
        lambda *given: torch.stack(losses.mutual_ensemble_loss(given[:3], given[3])).sum(), *EXITS_CASE
    ),
    "detection_classification_loss": Case(
        lambda s, t, f: (
            losses.detection_classification_loss(s, t)
            + losses.detection_classification_loss(s, t, foreground=f, background_weight=0.1)
        ),
        (normal(2, 4, 3),),
        (normal(2, 4, 3, seed=1), FOREGROUND),
    ),
    "box_regression_loss": Case(
        lambda s, t, y, f: (
            losses.box_regression_loss(s, t, y, foreground=f, margin=0.1) + losses.box_regression_loss(s, t)
        ),
        (normal(2, 4, 4),),
        (normal(2, 4, 4, seed=1), normal(2, 4, 4, seed=2), FOREGROUND),
    ),
    "FPNAdapters": Case(
        lambda adapters, s, t: losses.fpn_feature_loss(adapters([s]), [t]),
        (MAPS,),
        (normal(4, 7, 6, 6, seed=1),),
        lambda: losses.FPNAdapters([3], [7]),
    ),
    "fpn_feature_loss": Case(
        lambda s, t, w: losses.fpn_feature_loss({"p3": s}, {"p3": t}, importance={"p3": w}),
        (MAPS,),
        (TEACHER_MAPS, normal(4, 6, 6, seed=2).abs()),
    ),
    "HiddenProjection": Case(project, (TEXT,), (normal(3, 5, 7),), lambda: losses.HiddenProjection(12, 7)),
    "embedding_loss": Case(lambda s, t, m: losses.embedding_loss(s, t, attention_mask=m), *TEXT_CASE, waits=True),
    "hidden_state_loss": Case(
        lambda s, t, m: losses.hidden_state_loss([s, s * s], [t, t, t * t], attention_mask=m), *TEXT_CASE, waits=True
    ),
    "attention_loss": Case(
        lambda s, t, m: losses.attention_loss(s.softmax(-1), t.softmax(-1), attention_mask=m),
        (HEADS,),
        (TEACHER_HEADS, REAL),
        waits=True,
    ),
    "attention_loss without a mask": Case(
        lambda s, t: losses.attention_loss(s.softmax(-1), t.softmax(-1)), (HEADS,), (TEACHER_HEADS,)
    ),
    "attention_scores_loss": Case(
        lambda s, t, m: losses.attention_scores_loss(s, t, attention_mask=m), (HEADS,), (TEACHER_HEADS, REAL)
    ),
    "value_relation_loss": Case(
        lambda s, t, m: losses.value_relation_loss(s, t, attention_mask=m), (HEADS,), (TEACHER_HEADS, REAL)
    ),
    "hidden_cosine_loss": Case(
        lambda s, t, m: losses.hidden_cosine_loss(s, t, attention_mask=m), *TEXT_CASE, waits=True
    ),
    "distilbert_loss": Case(
        lambda s, t, m, y: losses.distilbert_loss(s, t, y, s, t, attention_mask=m),
        (TEXT,),
        (TEACHER_TEXT, REAL, WORDS),
        waits=True,
    ),
    "distilbert_terms": Case(
        lambda s, t, y: sum(losses.distilbert_terms(s, t, y, s, t).values()), (TEXT,), (TEACHER_TEXT, WORDS), waits=True
    ),
    "decoupled_kd_loss": Case(lambda s, t, y: losses.decoupled_kd_loss(s, t, y, temperature=4.0), *LABEL_CASE),
    "dist_loss": Case(losses.dist_loss, *LOGIT_CASE),
    "standardize_logits": Case(lambda z: losses.standardize_logits(z).pow(3).sum(), (LOGITS,)),
    "generalized_jsd_loss": Case(lambda s, t: losses.generalized_jsd_loss(s, t, beta=0.3), *LOGIT_CASE),
}


def run(case: Case, device: str, *, dtype: torch.dtype | None = None, autocast: bool = False) -> dict[str, Tensor]:
    """Value of a case on a device, and the gradient of each of the student's tensors and of each learned part.

    With ``dtype`` the floating point input is rounded to it, as a network under autocast gives it; it stays of that
    dtype under ``autocast``, and goes back to float32 without.
    """

    def prepare(tensor: Tensor) -> Tensor:
        if dtype is not None and tensor.is_floating_point():
            tensor = tensor.to(dtype) if autocast else tensor.to(dtype).float()
        return tensor.to(device, copy=True).detach()  # a leaf

    torch.manual_seed(0)  # the same weights, memories and negatives on each device
    modules = () if case.make_module is None else (case.make_module().to(device),)
    students = [prepare(tensor).requires_grad_() for tensor in case.student]
    others = [prepare(tensor) for tensor in case.others]
    with torch.autocast(device, dtype=dtype, enabled=autocast):
        value = case.loss(*modules, *students, *others)
    value.backward()
    gradients = {f"student {place}": student.grad for place, student in enumerate(students)}
    for module in modules:
        gradients |= {name: parameter.grad for name, parameter in module.named_parameters()}
    assert all(gradient is not None for gradient in gradients.values()), "a part got no gradient"
    return {"value": value.detach(), **gradients}


@pytest.fixture
def full_float32():
    """Convolutions in float32: cuDNN's default, TF32, keeps ten bits."""
    before, torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.allow_tf32, False
    yield
    torch.backends.cudnn.allow_tf32 = before


def test_no_loss_is_missing_here():
    others = {"map_layers", "sampled_targets", "TopTargets", "SampledTargets"}  # counts blocks; draws; two types
    assert {name.split()[0] for name in CASES} == set(losses.__all__) - others


# Without a GPU


class Copies(TorchDispatchMode):
    """Fails where a tensor goes to the device by a copy that waits until the device has caught up."""

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        moves = func is torch.ops.aten._to_copy.default and kwargs.get("device") not in (None, args[0].device)
        assert not moves or kwargs.get("non_blocking"), "a copy to the device waits for it: non_blocking=True"
        return func(*args, **kwargs)


def step_without_values(case: Case) -> None:
    modules = () if case.make_module is None else (case.make_module().to("meta"),)
    students = [tensor.to("meta").requires_grad_() for tensor in case.student]
    others = [tensor.to("meta") for tensor in case.others]
    with Copies():
        case.loss(*modules, *students, *others).backward()


@pytest.mark.trap(12, 42)
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if not case.waits])
def test_no_value_is_looked_at_and_nothing_is_copied_in_a_way_that_waits(name):
    step_without_values(CASES[name])


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.waits])
def test_only_what_picks_out_real_tokens_or_masked_words_waits(name):
    with pytest.raises(NotImplementedError, match="nonzero"):
        step_without_values(CASES[name])


# With a GPU


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("name", CASES)
def test_on_a_gpu_value_and_gradient_are_the_cpus(name, full_float32):
    there, here = run(CASES[name], "cuda"), run(CASES[name], "cpu")
    assert {tensor.device.type for tensor in there.values()} == {"cuda"}
    for part, expected in here.items():
        torch.testing.assert_close(
            there[part].cpu(), expected, rtol=1e-3, atol=1e-5, msg=lambda text, part=part: f"{part}: {text}"
        )


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", CASES)
def test_on_a_gpu_half_precision_under_autocast_is_finite_and_near_float32(name, dtype):
    half, full = run(CASES[name], "cuda", dtype=dtype, autocast=True), run(CASES[name], "cpu", dtype=dtype)
    for part, expected in full.items():
        assert torch.isfinite(half[part]).all(), part
        # Against the largest entry: what autocast does in half precision (a head, a softmax) rounds at that scale.
        torch.testing.assert_close(
            half[part].float().cpu(),
            expected,
            rtol=0,
            atol=0.05 * float(expected.abs().max()),
            msg=lambda text, part=part: f"{part}: {text}",
        )


@pytest.mark.gpu
@needs_gpu
@pytest.mark.trap(12, 42)
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if not case.waits])
def test_on_a_gpu_no_step_waits_for_the_device(name):
    case = CASES[name]
    run(case, "cuda")  # kernels are loaded
    modules = () if case.make_module is None else (case.make_module().cuda(),)
    students = [tensor.cuda().requires_grad_() for tensor in case.student]
    others = [tensor.cuda() for tensor in case.others]
    torch.cuda.set_sync_debug_mode("error")
    try:
        case.loss(*modules, *students, *others).backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
@needs_gpu
def test_on_a_gpu_a_memory_measured_in_evaluation_mode_and_saved_goes_on_as_on_the_cpu(full_float32):
    histories = {}
    for device in ("cpu", "cuda"):
        torch.manual_seed(0)
        crd = losses.CRDLoss(6, 6, 64, embedding_dim=16, num_negatives=32, temperature=0.2).to(device)
        given = [tensor.to(device) for tensor in (VECTORS, TEACHER_VECTORS, 5 * torch.arange(8), LABELS)]
        values = [crd(*given)]
        values += [crd.eval()(*given), crd.train()(*given)]
        resumed = copy.deepcopy(crd)
        other = losses.CRDLoss(6, 6, 64, embedding_dim=16, num_negatives=32, temperature=0.2).to(device)
        other.load_state_dict(resumed.state_dict())
        histories[device] = torch.stack([*values, other(*given)]).detach().cpu()
    torch.testing.assert_close(histories["cuda"], histories["cpu"], rtol=1e-4, atol=1e-5)
