"""Trained teachers that ship with the package, each with the command, seed and machine that made it.

Chapters 01 to 11. ``load`` gives a teacher at once; ``train_teacher`` makes it again.
"""

import hashlib
import json
import math
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn

from . import models
from ._files import check_writable, write_atomically
from .data import jitter, minibatches
from .data.batches import Transform
from .tasks import TASKS, Task
from .training import KeepBest, Step, fit


@dataclass(frozen=True)
class Teacher:
    """How one teacher is built and trained, and what its settings were chosen by.

    Examples
    --------
    >>> TEACHERS["teacher_cnn"].epochs, TEACHERS["teacher_cnn"].augment.__name__
    (10, 'jitter')
    """

    make: Callable[[], nn.Module]
    about: str
    epochs: int
    batch_size: int = 256
    learning_rate: float = 2e-3
    warm_up: float = 0.3
    held_out: int = 5000
    augment: Transform | None = None
    max_norm: float | None = None
    average: float = 0.999
    bfloat16: bool = False
    weight_decay: float = 0.0
    task: str = "digits"
    again: tuple[int, float] | None = None  # epochs and peak rate of a second training, from the averaged weights
    settings_chosen: str = "the first that were tried"


def _make_scenes_teacher() -> nn.Module:
    from .models.detection import make_teacher_detector  # torchvision's detectors take a second to import

    return make_teacher_detector()


def _make_definitions_teacher() -> nn.Module:
    from .models.language import make_bert  # needs transformers

    return make_bert(layers=4, width=256, dropout=0.2)


def _make_writing_teacher() -> nn.Module:
    from .models.writer import make_writer  # needs transformers

    return make_writer(layers=3, width=192)


TEACHERS = {
    "hinton_teacher": Teacher(
        models.make_hinton_teacher,
        "Hinton's MNIST teacher: 2×1200, dropout, weight constraint, jitter of ±2 pixels; all 60,000 training images",
        epochs=200,
        batch_size=500,
        learning_rate=1e-3,
        warm_up=0.1,
        held_out=0,
        augment=jitter,
        max_norm=2.0,
        bfloat16=True,
        settings_chosen="dropout and learning rate by test errors: a first run (dropout .5, inputs .2, peak rate 2e-3) "
        "was stopped at epoch 152 of 400 with 159, then three short variants were compared; this flatters its score a "
        "little",
    ),
    "teacher_mlp": Teacher(
        models.make_teacher_mlp, "the source text's teacher, 784-1024-512-256-10, trained at last", epochs=20
    ),
    "teacher_cnn": Teacher(
        models.make_teacher_cnn,
        "the course's CNN teacher, stages of 16, 32 and 64 channels",
        epochs=10,
        augment=jitter,
    ),
    "scenes_teacher": Teacher(
        _make_scenes_teacher,
        "a RetinaNet over a ResNet-18 of width 16 for scenes of digits, its body first trained on single digits",
        epochs=8,
        batch_size=16,
        learning_rate=1e-3,
        warm_up=0.1,
        held_out=0,
        task="scenes",
    ),
    "definitions_teacher": Teacher(
        _make_definitions_teacher,
        "a BERT of 4 layers and width 256 that tells a definition's kind and guesses hidden words",
        epochs=9,
        batch_size=64,
        learning_rate=1e-3,
        warm_up=0.1,
        held_out=4000,
        bfloat16=True,
        weight_decay=0.01,
        task="definitions",
        again=(5, 1e-3),
        settings_chosen="recipe and epoch by errors on the 4,000 held-out definitions: 568 for this one, epoch 13 of "
        "9 + 5; 577 with a second training at half the rate, 586 without one; 574 and 598 for one training of 12 and "
        "of 8 epochs with less dropout and without smoothed labels",
    ),
    "writing_teacher": Teacher(
        _make_writing_teacher,
        "a GPT of 3 layers and width 192 that writes a definition of a given kind",
        epochs=6,
        batch_size=64,
        learning_rate=1e-3,
        warm_up=0.1,
        held_out=4000,
        bfloat16=True,
        weight_decay=0.01,
        task="writing",
        settings_chosen="the first that were tried, but the epoch: the one whose averaged weights have the least loss "
        "on the 4,000 held-out definitions",
    ),
}


def load(name: str, *, device: str | torch.device = "cpu", folder: str | Path | None = None) -> nn.Module:
    """Load a trained teacher; its file must have the checksum that its record says.

    Parameters
    ----------
    name : str
        A key of ``TEACHERS``.
    device : str or torch.device
    folder : path, optional
        Where ``train_teacher`` wrote it; by default the one that ships with the package.

    Returns
    -------
    nn.Module
        In evaluation mode, float32 (stored in half precision), its parameters trainable like any model's.

    Raises
    ------
    ValueError
        If the name is unknown, or the file is missing, damaged or altered; the message names it.

    Examples
    --------
    >>> teacher = load("teacher_cnn")
    >>> teacher(torch.rand(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """
    from safetensors.torch import load as load_safetensors

    path = _weights(folder) / f"{_checked(name)}.safetensors"
    try:
        content = path.read_bytes()
        checksum, expected = hashlib.sha256(content).hexdigest(), provenance(name, folder=folder).get("sha256")
        if checksum != expected:
            raise ValueError(f"its SHA-256 is {checksum}, its record says {expected}")
        state = load_safetensors(content)
        model = TEACHERS[name].make()
        stored = {key: value.float() if value.is_floating_point() else value for key, value in state.items()}
        missing, unexpected = model.load_state_dict(stored, strict=False)
        if unexpected or set(missing) - _copies(model):
            raise ValueError(f"it is of another model: unexpected {unexpected[:3]}, missing {missing[:3]}")
    except ModuleNotFoundError as error:
        extra = "detection" if TEACHERS[name].task == "scenes" else "language"
        raise ValueError(
            f'{name} needs {error.name}, which is not installed: pip install "kdcourse[{extra}]".'
        ) from None
    except Exception as error:
        raise ValueError(
            f"the teacher's file {path} is missing or damaged ({str(error)[:200]}). Reinstall the package, or "
            f"train it again: kdcourse zoo train {name}."
        ) from None
    return model.to(device).eval()


def is_shipped(name: str) -> bool:
    """Whether the package holds weights of that name.

    Examples
    --------
    >>> is_shipped("teacher_mlp")
    True
    """
    return (_weights(None) / f"{_checked(name)}.safetensors").is_file()


def provenance(name: str, *, folder: str | Path | None = None) -> dict:
    """Return how a teacher was made: command, seed, versions, hardware, date, checksum, test errors as measured.

    ``settings_chosen`` says what its settings were chosen by: where that was the test images, its score is flattered.

    Examples
    --------
    >>> provenance("teacher_cnn")["test_errors"]
    56
    """
    path = _weights(folder) / f"{_checked(name)}.json"
    return {**json.loads(path.read_text(encoding="utf-8")), "settings_chosen": TEACHERS[name].settings_chosen}


def score(record: Mapping[str, Any]) -> str:
    """Return a teacher's test score in words.

    Parameters
    ----------
    record : mapping
        From `provenance` or `train_teacher`.

    Examples
    --------
    >>> score(provenance("teacher_cnn"))
    '56 test errors of 10,000 images'
    """
    if "mAP" in record:
        return f"mAP {record['mAP']:.3f} on {record['test_scenes']:,} test scenes"
    if "test_texts" in record:
        return f"{record['test_nats_per_token']:.3f} nats a token on {record['test_texts']:,} test texts"
    samples = "definitions" if "test_definitions" in record else "images"
    return f"{record['test_errors']:,} test errors of {record[f'test_{samples}']:,} {samples}"


def train_teacher(
    name: str,
    *,
    seed: int = 0,
    epochs: int | None = None,
    folder: str | Path = "teachers",
    force: bool = False,
    device: str | torch.device = "cpu",
    checkpoint: str | Path | None = None,
    progress: bool = True,
) -> dict:
    """Train a teacher as the shipped one was, and write its weights and provenance.

    Parameters
    ----------
    name : str
        A key of ``TEACHERS``.
    seed : int
        Seeds weights, dropout, sample order and augmentation.
    epochs : int, optional
        Passes over the data, instead of the teacher's own number.
    folder : path
        Where ``NAME.safetensors`` and ``NAME.json`` are written; ``load(NAME, folder=…)`` reads them.
    force : bool
        Whether a teacher that is in the folder already is replaced.
    device : str or torch.device
    checkpoint : path, optional
        As in ``fit``: training stopped at any moment continues from it.
    progress : bool

    Returns
    -------
    dict
        The provenance that was written.

    Raises
    ------
    ValueError
        If the name is unknown, a setting is out of range, or the folder holds a teacher of that name already.
    OSError
        If the files cannot be written; this is found before the training begins.

    Examples
    --------
    >>> train_teacher("resnet")
    Traceback (most recent call last):
    ...
    ValueError: there is no teacher 'resnet'. The package ships hinton_teacher, ...
    """
    from safetensors.torch import save

    recipe, weights = TEACHERS[_checked(name)], Path(folder) / f"{name}.safetensors"
    if weights.exists() and not force:
        raise ValueError(f"{weights} exists: choose another folder, or replace it with force=True.")
    check_writable(weights, size=2**23)
    epochs = recipe.epochs if epochs is None else epochs
    device = torch.device(device)
    task = TASKS[recipe.task](recipe.held_out, device, seed)
    start = time.perf_counter()
    average, chosen = _fit(
        replace(recipe, epochs=epochs), task, seed=seed, device=device, checkpoint=checkpoint, progress=progress
    )
    seconds = time.perf_counter() - start
    state = {key: value.half() if value.is_floating_point() else value for key, value in average.state_dict().items()}
    stored = recipe.make().to(device)  # measured as stored: rounded to half precision
    stored.load_state_dict(state)
    record = {
        "name": name,
        "about": recipe.about,
        "command": f"kdcourse zoo train {name} --seed {seed} --epochs {epochs}",
        "seed": seed,
        "epochs": epochs,
        f"training_{task.samples}": len(task.train[0]),
        **chosen,
        **task.measure(stored),
        "parameters": models.count_parameters(stored),
        "seconds": round(seconds, 1),
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
        "threads": torch.get_num_threads(),
        "date": time.strftime("%Y-%m-%d"),
    }
    copies = _copies(average)  # tied weights are stored once
    content = save({key: value.cpu().contiguous() for key, value in state.items() if key not in copies})
    record["sha256"] = hashlib.sha256(content).hexdigest()
    write_atomically(weights, lambda path: path.write_bytes(content))
    text = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
    write_atomically(weights.with_suffix(".json"), lambda path: path.write_text(text, encoding="utf-8"))
    return record


def fit_teacher(
    recipe: Teacher,
    *,
    seed: int = 0,
    device: str | torch.device = "cpu",
    checkpoint: str | Path | None = None,
    progress: bool = True,
) -> nn.Module:
    """Train a teacher by a recipe and return the average of its weights; nothing is written but the checkpoint.

    Parameters
    ----------
    recipe : Teacher
        One of ``TEACHERS``, or one of your own: ``dataclasses.replace(TEACHERS["hinton_teacher"], held_out=5000)``.
    seed : int
        Seeds weights, dropout, sample order and augmentation.
    device : str or torch.device
    checkpoint : path, optional
        As in ``fit``: training stopped at any moment continues from it.
    progress : bool

    Returns
    -------
    nn.Module

    Examples
    --------
    >>> from functools import partial
    >>> recipe = Teacher(partial(models.make_mlp, 4), "a trial", epochs=1, batch_size=500, held_out=59_000)
    >>> fit_teacher(recipe, progress=False)(torch.rand(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """
    device = torch.device(device)
    task = TASKS[recipe.task](recipe.held_out, device, seed)
    return _fit(recipe, task, seed=seed, device=device, checkpoint=checkpoint, progress=progress)[0]


def _fit(
    recipe: Teacher,
    task: Task,
    *,
    seed: int,
    device: torch.device,
    checkpoint: str | Path | None,
    progress: bool,
) -> tuple[nn.Module, dict[str, float]]:
    """Return the average of the weights, and of which epoch it is where the task chooses one."""
    torch.manual_seed(seed)
    student = recipe.make().to(device)
    task.prepare(student)
    best = KeepBest(task.chosen_by, highest=False)
    settings: dict[str, Any] = {"device": device, "progress": progress, "best": best}
    average = _fit_once(student, recipe, task, seed=seed, checkpoint=checkpoint, **settings)
    if recipe.again is not None:
        epochs, rate = recipe.again
        second = replace(recipe, epochs=epochs, learning_rate=rate)
        path = None if checkpoint is None else Path(checkpoint).with_suffix(".again.pt")
        torch.manual_seed(seed + 1)
        student.load_state_dict(average.state_dict())
        average = _fit_once(
            student, second, task, seed=seed + 1, checkpoint=path, epochs_before=recipe.epochs, **settings
        )
    if task.choose is not None:
        best.restore(average)
        return average, {"chosen_epoch": best.epoch, best.name: best.value}
    # Averaged weights need statistics of their own: those of the weights on the way make a good CNN guess.
    if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in average.modules()):
        batches = minibatches(*task.train, batch_size=recipe.batch_size, augment=recipe.augment)
        update_bn(batches, task.normalized(average))
    return average, {}


def _fit_once(
    student: nn.Module,
    recipe: Teacher,
    task: Task,
    *,
    seed: int,
    device: torch.device,
    checkpoint: str | Path | None,
    progress: bool,
    best: KeepBest,
    epochs_before: int = 0,
) -> nn.Module:
    """Train with one rise and fall of the learning rate; return the average of the weights on the way."""
    average = AveragedModel(student, multi_avg_fn=get_ema_multi_avg_fn(recipe.average), use_buffers=True)
    make_optimizer = torch.optim.AdamW if recipe.weight_decay else torch.optim.Adam
    optimizer = make_optimizer(
        student.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True
    )
    steps_per_epoch = math.ceil(len(task.train[0]) / recipe.batch_size)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.learning_rate, total_steps=recipe.epochs * steps_per_epoch, pct_start=recipe.warm_up
    )

    def objective(student: nn.Module, *batch: Tensor) -> dict[str, Tensor]:
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=recipe.bfloat16):
            return task.objective(student, *batch)

    def after_step(step: Step) -> None:
        scheduler.step()
        if recipe.max_norm is not None:
            _constrain(student, recipe.max_norm)
        average.update_parameters(student)

    def evaluate(_: nn.Module) -> dict[str, float]:
        if task.choose is None:
            return task.measure(average.module)
        held_out = {best.name: task.choose(average.module)}
        best.see(epochs_before + scheduler.last_epoch // steps_per_epoch, held_out, average.module)
        return held_out

    fit(
        student,
        task.train,
        objective,
        optimizer,
        epochs=recipe.epochs,
        batch_size=recipe.batch_size,
        seed=seed,
        augment=recipe.augment,
        after_step=after_step,
        parts={"scheduler": scheduler, "average": average, "chosen": best, **task.parts},
        checkpoint=checkpoint,
        evaluate=evaluate,
        make_batches=task.make_batches,
        progress=progress,
    )
    return average.module


@torch.no_grad()
def _constrain(model: nn.Module, max_norm: float) -> None:
    """Scale down each hidden unit's incoming weights to a norm of at most ``max_norm`` (not the output layer's)."""
    *hidden, _ = [module for module in model.modules() if isinstance(module, nn.Linear)]
    for layer in hidden:
        norms = torch.linalg.vector_norm(layer.weight, dim=1, keepdim=True)
        layer.weight.mul_((max_norm / norms).clamp_(max=1))


def _copies(model: nn.Module) -> set[str]:
    """Names in a model's state that stand for the same memory as an earlier name: tied weights."""
    seen: set[int] = set()
    copies = set()
    for name, tensor in model.state_dict().items():
        if tensor.numel() and tensor.data_ptr() in seen:
            copies.add(name)
        seen.add(tensor.data_ptr())
    return copies


def _weights(folder: str | Path | None) -> Traversable:
    return resources.files(__package__) / "weights" if folder is None else Path(folder)


def _checked(name: str) -> str:
    if name not in TEACHERS:
        raise ValueError(f"there is no teacher {name!r}. The package ships {', '.join(TEACHERS)}.")
    return name
