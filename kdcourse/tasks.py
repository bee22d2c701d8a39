"""What the trained teachers of `kdcourse.zoo` are trained on: data, objective and score of each task.

``TASKS`` has digits (chapters 01 to 07), scenes (chapter 08), definitions (chapter 09) and
writing (chapter 11).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .data import load_mnist, minibatches
from .data.batches import Minibatches
from .data.masking import WordMasker
from .objectives import label_objective
from .training import Objective, count_errors


@dataclass(frozen=True)
class Task:
    """What a teacher learns from, what it minimizes, and how it is measured.

    Attributes
    ----------
    train : tuple of Tensor
        What `fit` slices.
    objective : callable
    measure : callable
        From a model to its score on the test samples, a dict of numbers.
    prepare : callable, optional
        Called with the new model before it is trained.
    normalized : callable
        From a model to the part whose batch statistics are taken anew after averaging; it takes images.
    make_batches : callable
    parts : dict
        What the objective remembers.
    samples : str
        What one sample is called, in the plural.
    choose : callable, optional
        From a model to a number on samples held out from training: the weights of the epoch where it is least are kept.
    chosen_by : str
        What that number is called in the teacher's record.

    Examples
    --------
    >>> images, labels = torch.rand(4, 1, 28, 28), torch.arange(4)
    >>> Task((images, labels), label_objective, lambda model: {"test_errors": 4}).parts
    {}
    """

    train: tuple[Tensor, ...]
    objective: Objective
    measure: Callable[[nn.Module], dict[str, float]]
    prepare: Callable[[nn.Module], None] = lambda model: None
    normalized: Callable[[nn.Module], nn.Module] = lambda model: model
    make_batches: Callable[..., Minibatches] = Minibatches
    parts: dict = field(default_factory=dict)
    samples: str = "images"
    choose: Callable[[nn.Module], float] | None = None
    chosen_by: str = "held_out_errors"


def _digits(held_out: int, device: torch.device, seed: int) -> Task:
    """Single digits of MNIST."""
    mnist = load_mnist(device=device, held_out=held_out)
    size = len(mnist.test.labels)

    def measure(model: nn.Module) -> dict[str, float]:
        return {"test_errors": count_errors(model, *mnist.test), "test_images": size}

    return Task(mnist.train, label_objective, measure)


def _definitions(held_out: int, device: torch.device, seed: int) -> Task:
    """Definitions, their kinds, and hidden words: the same masked text serves both terms."""
    from .data.definitions import load_definitions
    from .data.tokens import SPECIAL, VOCABULARY, LengthBatches, encode, load_tokenizer
    from .models.language import count_kind_errors

    definitions, tokenizer = load_definitions(held_out=held_out), load_tokenizer()
    train, dev, test = (
        (*(tensor.to(device) for tensor in encode(tokenizer, split.texts)), split.labels.to(device))
        for split in (definitions.train, definitions.held_out, definitions.test)
    )
    masker = WordMasker(device, seed)
    masking = {"mask_id": tokenizer.mask_token_id, "vocabulary_size": VOCABULARY, "special_ids": range(len(SPECIAL))}

    def objective(student: Any, input_ids: Tensor, real: Tensor, labels: Tensor) -> dict[str, Tensor]:
        masked, words = masker(input_ids, real, **masking)
        output = student(masked, real)
        hidden = words != -100  # (B, L): only these go through the large decoder
        guessed = student.word_logits(output["last_hidden_state"][hidden])  # (hidden words, vocabulary)
        ce = F.cross_entropy(output.logits.float(), labels, label_smoothing=0.1)
        return {"ce": ce, "words": 0.5 * F.cross_entropy(guessed.float(), words[hidden])}

    def measure(model: nn.Module) -> dict[str, float]:
        return {"test_errors": count_kind_errors(model, *test), "test_definitions": len(test[2])}

    return Task(
        train,
        objective,
        measure,
        make_batches=LengthBatches,
        parts={"masker": masker},
        samples="definitions",
        choose=lambda model: count_kind_errors(model, *dev),
    )


def _writing(held_out: int, device: torch.device, seed: int) -> Task:
    """Definitions again, to be written when their kind is given."""
    from .data.definitions import load_definitions
    from .data.tokens import LengthBatches, encode, load_tokenizer
    from .models.writer import start_with_kind, text_loss
    from .recipes.writing import text_objective

    definitions, tokenizer = load_definitions(held_out=held_out), load_tokenizer()

    def texts(split: Any) -> tuple[Tensor, Tensor]:
        ids, real = (tensor.to(device) for tensor in encode(tokenizer, split.texts))
        return start_with_kind(ids, split.labels.to(device)), real

    train, dev, test = texts(definitions.train), texts(definitions.held_out), texts(definitions.test)

    def measure(model: nn.Module) -> dict[str, float]:
        return {"test_nats_per_token": round(text_loss(model, *test), 4), "test_texts": len(test[0])}

    return Task(
        train,
        text_objective,
        measure,
        make_batches=LengthBatches,
        samples="texts",
        choose=lambda model: round(text_loss(model, *dev), 4),
        chosen_by="held_out_nats_per_token",
    )


def _scenes(_: int, device: torch.device, seed: int) -> Task:
    """Scenes of digits; the body of the detector first learns to classify single digits."""
    from .data.scenes import load_scenes, make_scenes, unpacked
    from .models.detection import detect, mean_average_precision

    scenes = load_scenes(train=20_000, held_out=1, test=1000, seed=seed)

    def objective(student: nn.Module, *batch: Tensor) -> dict[str, Tensor]:
        return student(*unpacked(*batch))

    def measure(model: nn.Module) -> dict[str, float]:
        found = [{key: value.cpu() for key, value in part.items()} for part in detect(model, scenes.test.images)]
        return {**mean_average_precision(found, scenes.test.targets), "test_scenes": len(scenes.test.targets)}

    def prepare(model: Any) -> None:
        single = make_scenes(load_mnist().train, 20_000, objects=(1, 1), size=56, clutter=2, seed=seed)
        labels = torch.cat([target["labels"][:1] for target in single.targets])
        body = model.backbone.body
        head = nn.Linear(128, 10)
        optimizer = torch.optim.Adam([*body.parameters(), *head.parameters()], lr=2e-3)
        for images, digits in minibatches(single.images, labels, batch_size=64, epochs=4):
            optimizer.zero_grad()
            last = list(body(images.to(device)).values())[-1]
            F.cross_entropy(head(last.mean(dim=(2, 3))), digits.to(device)).backward()
            optimizer.step()

    packed = tuple(tensor.to(device) for tensor in scenes.train.packed())
    return Task(packed, objective, measure, prepare=prepare, normalized=_backbone, samples="scenes")


def _backbone(model: Any) -> nn.Module:
    return model.backbone


TASKS = {"digits": _digits, "scenes": _scenes, "definitions": _definitions, "writing": _writing}
