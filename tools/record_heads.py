"""The numbers of the site's explorer ``heads``: attention and logits of chapter 09's teacher and of one student.

The student is trained here, as experiment ``language`` trains its arm "attention probabilities" from the teacher's
layers; ``tools/record_explorers.py heads`` takes about a minute of one core.
"""

import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from notebook_parts import ROOT
from torch import Tensor, nn

sys.path.insert(0, str(ROOT))  # experiments is no installed package

from experiments._language_plan import Settings
from experiments._language_terms import language_objective
from experiments.language import Material
from kdcourse.data.definitions import TextSplit, load_definitions
from kdcourse.data.tokens import LengthBatches, encode, load_tokenizer
from kdcourse.losses import map_layers
from kdcourse.models import evaluating
from kdcourse.models.language import make_bert, predict_kinds
from kdcourse.recipes.student_layers import init_student_from_teacher
from kdcourse.training import fit

LENGTHS = range(7, 12)  # tokens of a definition that is shown, the two special ones included
LONGEST = 11  # letters of a word
# How many definitions are shown of which (teacher is right, student is right).
SHOWN = {(True, True): 3, (True, False): 2, (False, True): 1, (False, False): 2}
RATE, WEIGHT = 3e-4, 10.0  # both are among those that the experiment chooses from


def heads(teacher: Any, settings: Settings | None = None) -> dict[str, Any]:
    """Train the student and return the record.

    Parameters
    ----------
    teacher : nn.Module
        The zoo's ``definitions_teacher``.
    settings : Settings, optional
        Sizes of the student's training; by default those of experiment ``language``.
    """
    settings, definitions = settings or Settings(), load_definitions()
    about = (
        f"Student: experiment language's arm attention probabilities with {settings.labelled:,} labels, from the "
        f"teacher's layers; {settings.steps} steps of {settings.batch_size} definitions, seed 0, learning rate "
        f"{RATE:g}, weight of the attention {WEIGHT:g}"
    )
    return {"about": about, **compare(teacher, train_student(teacher, settings), definitions.test, definitions.kinds)}


def train_student(teacher: Any, settings: Settings) -> nn.Module:
    """Return a student of two blocks that started from the teacher's and learned from labels, words and attention."""
    data, taught = Material(settings, teacher).of("1,000 labels")
    torch.manual_seed(0)
    student = make_bert(layers=2, width=teacher.config.hidden_size, heads=teacher.config.num_attention_heads)
    init_student_from_teacher(student, teacher)
    optimizer = torch.optim.AdamW(student.parameters(), lr=RATE, weight_decay=0.01)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=settings.steps, pct_start=0.1)
    objective = partial(
        language_objective, weights={"probabilities": WEIGHT}, taught=taught, teacher=teacher, bfloat16=True
    )
    fit(
        student, data, objective, optimizer, epochs=1, batch_size=settings.batch_size, seed=0,
        make_batches=LengthBatches, after_step=lambda step: scheduler.step(), progress=False,
    )  # fmt: skip
    return student


def compare(teacher: Any, student: Any, test: TextSplit, kinds: Sequence[str]) -> dict[str, Any]:
    """Return what both answer in the whole test, and attention and logits of the definitions that are shown.

    Attention is in thousandths, as [teacher, student][block][head][row][column]; the blocks are the student's, and
    the teacher's from which they learn.
    """
    models = (teacher, student)
    tokenizer = load_tokenizer()
    tokens = encode(tokenizer, test.texts, max_length=Settings.max_length)  # as students of the experiment are asked
    answers = [predict_kinds(model, *tokens).argmax(dim=1) for model in models]
    depths = [int(model.config.num_hidden_layers) for model in models]
    layer_map = map_layers(depths[1], depths[0])
    blocks = [list(layer_map.values()), list(layer_map)]
    words = [tokenizer.convert_ids_to_tokens(row[: LENGTHS[-1]].tolist()) for row in tokens.input_ids]
    lengths = tokens.attention_mask.sum(dim=1)
    fitting = (lengths >= LENGTHS[0]) & (lengths <= LENGTHS[-1])
    fitting &= torch.tensor([all(map(is_short_word, row)) for row in words])
    return {
        "kinds": list(kinds),
        "depths": depths,
        "blocks": blocks,
        "heads": min(int(model.config.num_attention_heads) for model in models),
        "count": len(test.texts),
        "agree": int((answers[0] == answers[1]).sum()),
        "right": [int((answer == test.labels).sum()) for answer in answers],
        "definitions": [
            {
                "text": test.texts[place],
                "kind": int(test.labels[place]),
                **look(models, tokenizer, test.texts[place], blocks),
            }
            for place in choose(test.labels, answers, fitting)
        ],
    }


def is_short_word(token: str) -> bool:
    """Return whether a token is a whole word, or a special token, that has room beside a map."""
    return len(token) <= LONGEST and not token.startswith(("##", "[UNK"))


def choose(labels: Tensor, answers: Sequence[Tensor], fitting: Tensor) -> list[int]:
    """Return the places of the first definitions of each group in ``SHOWN``, each of another kind."""
    right = [answer == labels for answer in answers]
    places: dict[int, int] = {}  # by kind
    for (teacher_right, student_right), count in SHOWN.items():
        rows = fitting & (right[0] == teacher_right) & (right[1] == student_right)
        most = len(places) + count
        for place in rows.nonzero()[:, 0].tolist():
            if len(places) < most:
                places.setdefault(int(labels[place]), place)
    return list(places.values())


def look(models: Sequence[Any], tokenizer: Any, text: str, blocks: Sequence[Sequence[int]]) -> dict[str, Any]:
    """Return a definition's tokens, and logits and attention of both models."""
    ids, real = encode(tokenizer, [text])
    logits, maps = [], []
    for model, places in zip(models, blocks, strict=True):
        model.set_attn_implementation("eager")  # no other gives its attention
        with evaluating(model), torch.no_grad():
            output = model(ids, real, output_attentions=True)
        logits.append([round(value, 4) for value in output.logits[0].tolist()])
        attention = torch.stack([output.attentions[place - 1][0] for place in places])  # (blocks, heads, L, L)
        maps.append((1000 * attention).round().int().tolist())
    return {"tokens": tokenizer.convert_ids_to_tokens(ids[0].tolist()), "logits": logits, "maps": maps}
