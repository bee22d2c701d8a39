"""Wrong answers to exercise 09, task 2: DistilBERT's triple loss."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from ...losses import distilbert_loss
from . import Slip


def triple_loss(
    student_logits: Tensor, teacher_logits: Tensor, words: Tensor, student_hidden: Tensor, teacher_hidden: Tensor,
    real: Tensor, *, temperature: float,
) -> Tensor:  # fmt: skip
    """Return DistilBERT's loss over real tokens, weights 5, 2 and 1."""
    return distilbert_loss(
        student_logits, teacher_logits, words, student_hidden, teacher_hidden, attention_mask=real,
        temperature=temperature,
    )  # fmt: skip


def _over_real(values: Tensor, real: Tensor) -> Tensor:
    return values[real.bool()].mean()


def _over_all(values: Tensor, real: Tensor) -> Tensor:
    return values.mean()


def _per_text(values: Tensor, real: Tensor) -> Tensor:
    return values.sum() / len(values)


def _masked_per_text(values: Tensor, real: Tensor) -> Tensor:
    return (values * real).sum() / len(values)


def _counting_all(values: Tensor, real: Tensor) -> Tensor:
    return (values * real).mean()


def _of_hidden(values: Tensor, hidden: Tensor) -> Tensor:
    return values[hidden].sum() / hidden.sum().clamp(min=1)


def _triple(
    *, kd: Callable[[Tensor, Tensor], Tensor] = _over_real, cosine: Callable[[Tensor, Tensor], Tensor] = _over_real,
    mlm: Callable[[Tensor, Tensor], Tensor] = _of_hidden, weights: tuple[float, float, float] = (5, 2, 1),
    power: int = 2, turned: bool = False, soft_words: bool = False, similarity: bool = False,
    places: str = "real", sides: tuple[bool, bool] = (True, True), cells: bool = False,
) -> Callable:  # fmt: skip
    """Return a triple loss in which some part is another one."""

    def wrong(
        student_logits: Tensor, teacher_logits: Tensor, words: Tensor, student_hidden: Tensor, teacher_hidden: Tensor,
        real: Tensor, *, temperature: float,
    ) -> Tensor:  # fmt: skip
        divided = [temperature if softened else 1.0 for softened in sides]
        q = (student_logits / divided[0]).log_softmax(dim=-1)
        p = (teacher_logits.detach() / divided[1]).log_softmax(dim=-1)
        if turned:
            p, q = q, p
        divergence = (p.exp() * (p - q)).sum(dim=-1) / (p.shape[-1] if cells else 1)  # (B, L)
        hidden = words != -100
        logits = student_logits / (temperature if soft_words else 1.0)
        surprise = F.cross_entropy(logits.mT, words, reduction="none")
        alike = F.cosine_similarity(student_hidden, teacher_hidden.detach(), dim=-1)
        where = hidden if places == "hidden" else real
        parts = (
            temperature**power * kd(divergence, where),
            mlm(surprise, hidden),
            cosine(alike if similarity else 1 - alike, real),
        )
        return sum(weight * part for weight, part in zip(weights, parts, strict=True))  # type: ignore[return-value]

    return wrong


KD_PADDING = (
    "The divergence runs over padding: what the teacher says behind the end of a text is noise. Take the mean over "
    "real tokens (trap 68)."
)
KD_SENTENCE = (
    "The divergence is divided by the number of texts, B, as reduction='batchmean' does with (B, L, K): it grows with "
    "the length. Take the mean over real tokens."
)
COSINE_PADDING = "The cosine runs over padding. Take the mean over real tokens (trap 68)."
NO_COSINE = "The weight of the cosine is 0: a triple loss with two terms (trap 67). Asked for are 5, 2 and 1."
WEIGHTS = "The weights are others. Asked for are 5 for the divergence, 2 for the hidden words and 1 for the cosine."

_KD_MISTAKES: dict[str, tuple[Callable, str]] = {
    "batchmean": (_per_text, KD_SENTENCE),
    "masked batchmean": (_masked_per_text, KD_SENTENCE),
    "padding": (_over_all, KD_PADDING),
    "padding counted": (
        _counting_all,
        "The divergence of padding is left out of the sum, and padding is counted. Divide by the number of real "
        "tokens.",
    ),
    "sum": (
        lambda values, real: values[real.bool()].sum(),
        "The divergence is summed over tokens: twice the text would mean twice the step.",
    ),
}
_COSINE_MISTAKES: dict[str, tuple[Callable, str]] = {
    "padding": (_over_all, COSINE_PADDING),
    "padding counted": (
        _counting_all, "Padding counts in the mean of the cosine term: divide by the number of real tokens."
    ),
    "per text": (_masked_per_text, "The cosine term is divided by the number of texts. Divide by that of real tokens."),
}  # fmt: skip
_OTHER_WEIGHTS = ((0.5, 0.5, 1), (1, 1, 1), (2, 5, 1), (5, 1, 2), (1, 2, 5), (0.5, 0.5, 0.5), (5, 2, 5))
TRIPLE = {
    **{
        f"kd {name}": Slip(message, _triple(kd=reduce), *(
            _triple(kd=reduce, cosine=other, weights=weights)
            for other, weights in ((_over_all, (5, 2, 1)), (_over_all, (0.5, 0.5, 0)), (_over_real, (0.5, 0.5, 0)),
                                   (_over_real, (5, 2, 0)), (_over_all, (0.5, 0.5, 1)), (_over_real, (0.5, 0.5, 1)))
        ))
        for name, (reduce, message) in _KD_MISTAKES.items()
    },
    **{f"cosine {name}": Slip(message, _triple(cosine=reduce), _triple(cosine=reduce, weights=(0.5, 0.5, 1)))
       for name, (reduce, message) in _COSINE_MISTAKES.items()},
    "mean over words": Slip(
        "The divergence is divided by the number of words of the vocabulary too: reduction='mean' counts every cell.",
        _triple(cells=True), _triple(cells=True, kd=_over_all),
    ),
    "no cosine": Slip(NO_COSINE, _triple(weights=(5, 2, 0)), _triple(weights=(0.5, 0.5, 0))),
    "weights": Slip(WEIGHTS, *(_triple(weights=weights) for weights in _OTHER_WEIGHTS)),
    "no kd": Slip("The divergence is missing, or its weight is 0.", _triple(weights=(0, 2, 1))),
    "no words": Slip("The hidden words are missing, or their weight is 0.", _triple(weights=(5, 0, 1))),
    "mean of three": Slip("The sum was divided: asked for is 5 · kd + 2 · mlm + 1 · cosine.", *(
        _triple(weights=(5 / n, 2 / n, 1 / n)) for n in (3, 8))),
    "no T²": Slip("T² is missing in front of the divergence.", _triple(power=0)),
    "one T": Slip("A factor T stands in front of the divergence where T² is needed.", _triple(power=1)),
    "T twice": Slip("T² is there twice.", _triple(power=4)),
    "only teacher softened": Slip("Only the teacher's logits are divided by T.", _triple(sides=(False, True))),
    "only student softened": Slip("Only the student's logits are divided by T.", _triple(sides=(True, False))),
    "T unused": Slip("The temperature has no effect inside the softmax: divide both sides' logits by T.", *(
        _triple(sides=(False, False), power=power) for power in (0, 2))),
    "reversed": Slip("The direction is turned round: this is KL(student‖teacher).", _triple(turned=True)),
    "softened words": Slip("The hidden words are judged at temperature T. Labels are learned at T = 1.",
                           _triple(soft_words=True)),
    "words over all places": Slip(
        "The loss of hidden words is divided by all places. Divide by the number of hidden words.",
        _triple(mlm=lambda values, hidden: values.mean()),
    ),
    "words summed": Slip("The losses of hidden words are added up. Take their mean.",
                         _triple(mlm=lambda values, hidden: values.sum())),
    "words per text": Slip("The loss of hidden words is divided by the number of texts, not of hidden words.",
                           _triple(mlm=lambda values, hidden: values.sum() / len(values))),
    "only hidden": Slip(
        "The divergence runs over hidden words only. The teacher says something about every real token.",
        _triple(places="hidden"),
    ),
    "similarity": Slip("The cosine itself is added: minimising it turns the student away from the teacher. Asked for "
                       "is 1 minus the cosine.", _triple(similarity=True)),
    "minus the cosine": Slip("Minus the cosine instead of 1 minus the cosine: the loss is not 0 when both agree.",
                             _triple(similarity=True, weights=(5, 2, -1))),
}  # fmt: skip
