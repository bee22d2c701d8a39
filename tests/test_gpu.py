"""Capture, training, recipes and the live trainer with models on a GPU, beside the same on the CPU.

Only kdcourse and torch are needed; what needs ipywidgets or transformers is skipped where they are missing.
"""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kdcourse.data import Minibatches, load_mnist
from kdcourse.losses import CRDLoss, distillation_loss
from kdcourse.models import capture, make_cnn, make_mlp
from kdcourse.objectives import label_objective
from kdcourse.recipes import (
    born_again,
    difficulty_by_loss,
    difficulty_by_margin,
    distilbert,
    distill,
    fitnets,
    make_adam,
    mutual_learning,
    progressive,
)
from kdcourse.sweeps import sweep
from kdcourse.training import accuracy, fit, predict_logits, train

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
FEW = {"epochs": 2, "batch_size": 50}


@pytest.fixture(autouse=True)
def full_float32():
    """Convolutions in float32: cuDNN's default, TF32, keeps ten bits."""
    before, torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.allow_tf32, False
    yield
    torch.backends.cudnn.allow_tf32 = before


@pytest.fixture(scope="module")
def data():
    """200 digits on the CPU."""
    images, labels = load_mnist().train.take(200)
    return images.cpu(), labels.cpu()


def make(build=make_mlp, *widths, seed=0):
    torch.manual_seed(seed)
    return build(*(widths or (16,)))


def on(device, data):
    return tuple(tensor.to(device) for tensor in data)


def device_of(model):
    return {tensor.device.type for tensor in [*model.parameters(), *model.buffers()]}


def assert_same_history(there, here):
    assert set(there.terms) == set(here.terms)
    for name, values in here.terms.items():
        torch.testing.assert_close(there.terms[name], values, rtol=2e-2, atol=2e-3, msg=lambda text, n=name: n + text)


# Capture, the loop, fit


def test_captured_features_are_on_the_models_device_and_train_it(data):
    images, _ = data
    student = make(make_cnn, 4, 8)
    with capture(student, "stage1") as here:
        student(images)
    student = copy.deepcopy(make(make_cnn, 4, 8)).cuda()
    with capture(student, "stage1") as features:
        student(images.cuda())
    assert features["stage1"].device.type == "cuda"
    torch.testing.assert_close(features["stage1"].cpu(), here["stage1"], rtol=1e-3, atol=1e-4)
    features["stage1"].square().mean().backward()
    assert student.stage1[0].weight.grad.abs().sum() > 0


def test_models_and_images_on_different_devices_are_refused_by_name(data):
    student = make()
    step = train(student, [on("cuda", data)], label_objective, make_adam(list(student.parameters())))
    with pytest.raises(ValueError, match="the model is on cpu, the images are on cuda"):
        next(step)


@pytest.mark.trap(12)
def test_the_loop_itself_never_waits_for_the_device(data):
    student = make().cuda()
    batches = [on("cuda", [tensor[start : start + 50] for tensor in data]) for start in (0, 50, 100, 150)]
    optimizer = make_adam(list(student.parameters()))
    steps = train(student, batches, label_objective, optimizer)
    first = next(steps)  # kernels are loaded, the optimizer's state is made
    torch.cuda.set_sync_debug_mode("error")
    try:
        later = list(steps)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert [first.index, *(step.index for step in later)] == [0, 1, 2, 3]
    assert later[-1].loss.device.type == "cuda"


def test_a_run_continued_from_its_checkpoint_goes_on_as_the_whole_run(data, tmp_path):
    data = on("cuda", data)

    def start(epochs, path):
        student = make().cuda()
        optimizer = make_adam(list(student.parameters()))
        losses = []

        def interrupt(step):
            losses.append(step)
            if len(losses) == epochs * 4:
                raise KeyboardInterrupt

        return student, fit(
            student, data, label_objective, optimizer, epochs=3, batch_size=50, progress=False,
            checkpoint=path, checkpoint_seconds=0, after_step=interrupt if epochs < 3 else None,
        )  # fmt: skip

    whole, history = start(3, tmp_path / "whole.pt")
    with pytest.raises(KeyboardInterrupt):
        start(1, tmp_path / "stopped.pt")
    continued, continued_history = start(3, tmp_path / "stopped.pt")
    assert_same_history(continued_history, history)
    assert device_of(continued) == {"cuda"}
    images, labels = data
    assert accuracy(continued, images, labels) == pytest.approx(accuracy(whole, images, labels), abs=0.02)


@pytest.mark.parametrize("autocast", [None, torch.bfloat16])
def test_steps_recorded_as_a_cuda_graph_are_the_ordinary_ones(data, autocast):
    """Batches of 60, 60, 60 and 20 in each of three epochs: the last one is never recorded."""
    losses, weights = [], []
    for graph in (False, True):
        student = make().cuda()
        optimizer = torch.optim.Adam(student.parameters(), lr=1e-2, fused=True, capturable=True)
        batches = Minibatches(*on("cuda", data), batch_size=60, epochs=3)
        steps = list(train(student, batches, label_objective, optimizer, graph=graph, autocast=autocast))
        losses.append(torch.stack([step.loss for step in steps]))
        weights.append(torch.cat([parameter.detach().flatten() for parameter in student.parameters()]))
    torch.testing.assert_close(losses[1], losses[0], rtol=2e-3, atol=1e-4)
    torch.testing.assert_close(weights[1], weights[0], rtol=1e-2, atol=1e-3)
    assert len(losses[1].unique()) == 12


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_mixed_precision_learns_and_continues_from_its_checkpoint(data, tmp_path, dtype):
    data = on("cuda", data)

    def run(epochs, **more):
        student = make().cuda()
        scaler = torch.amp.GradScaler("cuda") if dtype == torch.float16 else None
        return fit(
            student, data, label_objective, make_adam(list(student.parameters()), lr=1e-2), epochs=epochs,
            batch_size=50, autocast=dtype, scaler=scaler, progress=False, **more,
        )  # fmt: skip

    whole = run(6)
    run(3, checkpoint=tmp_path / "run.pt")
    continued = run(6, checkpoint=tmp_path / "run.pt", more_epochs=True)
    assert_same_history(continued, whole)
    assert whole.terms["ce"][-4:].mean() < 0.7 * whole.terms["ce"][:4].mean()


def test_large_logits_go_by_rows_on_the_gpu_with_the_numbers_of_the_cpu():
    generator = torch.Generator().manual_seed(0)
    student, teacher = (3 * torch.randn(160, 32_000, generator=generator) for _ in range(2))  # 5.1 million numbers each
    labels = torch.arange(160)
    results = []
    for device in ("cuda", "cpu"):
        logits = student.to(device).requires_grad_()
        loss = distillation_loss(logits, teacher.to(device), labels.to(device), temperature=2.0)
        loss.backward()
        results.append((loss.detach().cpu(), logits.grad.cpu()))
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-8)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_a_sweep_uses_every_gpu(data, monkeypatch):
    monkeypatch.setattr("kdcourse.sweeps.sharing.WORTH_A_PROCESS", 1)
    images, labels = data
    settings = {
        "make_student": make_mlp_16, "data": {"train": (images, labels), "test": (images, labels)}, "seeds": range(4),
        "teacher": torch.randn(len(labels), 10), "temperature": [2, 8], "batch_size": 50, "epochs": 1,
        "metrics": {"device": lambda logits, labels: float(logits.device.index)}, "progress": False,
    }  # fmt: skip
    runs = sweep(**settings, executor="gpus")
    assert set(runs.device) == set(map(float, range(torch.cuda.device_count())))


# Recipes


def run_distill(device, data):
    student, teacher = make().to(device), make(make_mlp, 32, seed=1).to(device)
    return distill(student, teacher, data, **FEW), [student]


def run_mutual(device, data):
    students = [make(seed=seed).to(device) for seed in (1, 2, 3)]
    return mutual_learning(students, data, **FEW), students


def run_progressive(device, data):
    student, teacher = make().to(device), make(make_mlp, 32, seed=1).to(device)
    # An order that rounding cannot change; the teacher's own difficulty is compared below.
    return progressive(student, teacher, data, difficulty=lambda logits, labels: labels.float(), **FEW), [student]


def run_crd(device, data):
    student, teacher = make(make_mlp, 16, 12).to(device), make(make_mlp, 32, 20, seed=1).to(device)
    torch.manual_seed(2)
    crd = CRDLoss(12, 20, len(data[0]), embedding_dim=16, num_negatives=32, temperature=0.2).to(device)

    def objective(student, images, labels, teacher_logits, index, *, crd):
        with torch.no_grad(), capture(teacher, "3") as taught:
            teacher(images)
        with capture(student, "3") as learned:
            logits = student(images)
        return {"ce": F.cross_entropy(logits, labels), "crd": 0.1 * crd(learned["3"], taught["3"], index, labels)}

    index = torch.arange(len(data[0]), device=device)
    history = distill(student, teacher, (*data, index), objective=objective, parts={"crd": crd}, **FEW)
    return history, [student, crd]


RECIPES = [run_distill, run_mutual, run_progressive, run_crd]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.__name__)
def test_a_recipe_trains_on_the_gpu_as_on_the_cpu(recipe, data):
    (there, models), (here, _) = (recipe(device, on(device, data)) for device in ("cuda", "cpu"))
    assert_same_history(there, here)
    assert all(device_of(model) == {"cuda"} for model in models)


def test_generations_are_born_again_on_the_datas_device(data):
    def evaluate(model):
        return {"sum": float(predict_logits(model, data[0].to(next(model.parameters()).device)).double().abs().mean())}

    there, here = (
        born_again(make_mlp_16, on(device, data), generations=2, evaluate=evaluate, **FEW) for device in ("cuda", "cpu")
    )
    for ours, theirs in zip(there.histories, here.histories, strict=True):
        assert_same_history(ours, theirs)
    assert device_of(there.ensemble) == {"cuda"}
    assert there.ensemble_evaluation["sum"] == pytest.approx(here.ensemble_evaluation["sum"], rel=0.02)


def make_mlp_16():
    return make_mlp(16)


def test_both_stages_of_fitnets_train_on_the_gpu(data):
    def run(device):
        student, teacher = make(make_cnn, 4, 8).to(device), make(make_cnn, 6, 12, seed=1).to(device)
        return fitnets(student, teacher, on(device, data), student_layer="stage2", teacher_layer="stage2",
                       hint_epochs=1, epochs=1, batch_size=50), student  # fmt: skip

    (there, student), (here, _) = run("cuda"), run("cpu")
    assert_same_history(there.hint, here.hint)
    assert_same_history(there.kd, here.kd)
    assert device_of(student) == {"cuda"}


@pytest.mark.parametrize("difficulty", [difficulty_by_loss, difficulty_by_margin])
def test_difficulty_is_measured_where_the_logits_are_and_orders_a_curriculum_there(difficulty, data):
    images, labels = data
    logits = predict_logits(make(), images)
    there = difficulty(logits.cuda(), labels.cuda())
    torch.testing.assert_close(there.cpu(), difficulty(logits, labels), rtol=1e-4, atol=1e-5)
    student, teacher = make(seed=3).cuda(), make(seed=1).cuda()
    history = progressive(student, teacher, on("cuda", data), difficulty=difficulty, **FEW)
    assert all(torch.isfinite(values).all() for values in history.terms.values())


def test_distilbert_hides_words_trains_and_resumes_on_the_gpu(tmp_path):
    transformers = pytest.importorskip("transformers")

    def make_bert(layers, seed):
        torch.manual_seed(seed)
        return transformers.BertForMaskedLM(
            transformers.BertConfig(
                vocab_size=60, hidden_size=16, num_hidden_layers=layers, num_attention_heads=2, intermediate_size=32,
                max_position_embeddings=16, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
            )
        ).cuda()  # fmt: skip

    ids = torch.randint(5, 60, (24, 10), generator=torch.Generator().manual_seed(0)).cuda()
    mask = (torch.arange(10) < torch.arange(24)[:, None] % 8 + 3).long().cuda()
    settings = {"mask_id": 4, "vocabulary_size": 60, "special_ids": range(5), "batch_size": 8}
    teacher, student = make_bert(4, 0), make_bert(2, 1)
    path = tmp_path / "run.pt"
    history = distilbert(student, teacher, (ids, mask), epochs=2, checkpoint=path, **settings)
    assert all(torch.isfinite(values).all() for values in history.terms.values())
    assert set(history.terms) == {"kd", "mlm", "cosine"}
    assert device_of(student) == {"cuda"}
    again = distilbert(make_bert(2, 1), teacher, (ids, mask), epochs=2, checkpoint=path, **settings)
    assert again.steps == history.steps  # nothing is left to do, and the generator of the masks was put back


# The live trainer


def test_the_live_trainer_steps_forks_and_measures_on_the_gpu():
    pytest.importorskip("ipywidgets")
    from kdcourse.widgets import LiveTrainer

    mnist = load_mnist(device="cuda")
    live = LiveTrainer(make().cuda(), make(make_mlp, 32, seed=1).cuda(), mnist, held_out=500)
    try:
        before = live.arms["distilled"].errors[-1]
        live.step(30)
        live.temperature.value = 8
        live.fork()
        live.fork_alpha.value = 0.2
        live.step(30)
        assert live.steps == 60
        assert set(live.arms) == {"distilled", "no teacher", "fork"}
        assert live.arms["distilled"].errors[-1] < before
        assert set(live.measure_test()) == set(live.arms)
        assert all(isinstance(arm.student, nn.Module) and device_of(arm.student) == {"cuda"}
                   for arm in live.arms.values())  # fmt: skip
    finally:
        live.close()
