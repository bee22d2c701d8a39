"""Chapter 09: what half of a teacher loses, a lesson from its lower half, attention by heart, and what depth costs."""

from types import SimpleNamespace
from unittest.mock import patch

import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from experiments._language_terms import hide_words
from experiments.language import perplexity
from experiments.think.sentences import Answer, difference, mean
from kdcourse.data.tokens import encode
from kdcourse.models import evaluating
from kdcourse.models.language import count_kind_errors, make_bert, predict_kinds
from kdcourse.models.self_attention import watch_attention
from kdcourse.records import read_record

NEEDS = ("ARMS", "RATES", "TESTED", "attention_term", "cut", "definitions", "lesson", "teacher", "test", "tokenizer")
LOWER_HALF = {1: 1, 2: 2}
SEEDS = 6
TEXTS, STEPS, NARROW_SEEDS = 64, 300, 5


def hidden_words(ch: SimpleNamespace) -> tuple[Tensor, Tensor, Tensor]:
    """Return the first 1,000 test definitions with words hidden as in the chapter's record, the words, and the mask."""
    words = encode(ch.tokenizer, ch.definitions.test.take(1000).texts, max_length=32)
    return (*hide_words(words, ch.tokenizer.mask_token_id, seed=1), words.attention_mask)


# 1. What the upper half is for


def answer_1(ch: SimpleNamespace) -> Answer:
    """Perplexities of the teacher and of three halves, and the definitions that only one of two gets right."""
    halves = {blocks: ch.cut(*blocks) for blocks in ((1, 2), (2, 4), (3, 4))}
    hidden = hidden_words(ch)
    whole, lower, even, upper = (perplexity(model, *hidden) for model in (ch.teacher, *halves.values()))
    best_trained = min(row["perplexity"] for row in read_record("language")["means"])
    if not whole < lower < min(best_trained, even, upper):
        raise ValueError(f"the order of perplexities is another: {whole, lower, even, upper, best_trained}.")
    ids, real, labels = ch.test
    by_whole, by_lower = (predict_kinds(m, ids, real).argmax(dim=1) == labels for m in (ch.teacher, halves[1, 2]))
    only_whole, only_lower = by_whole & ~by_lower, ~by_whole & by_lower
    one = only_whole | only_lower
    lengths = real.sum(dim=1).double()
    found = {
        "perplexity": {"teacher": whole, "blocks 1, 2": lower, "blocks 2, 4": even, "blocks 3, 4": upper},
        "only the teacher": int(only_whole.sum()),
        "only blocks 1, 2": int(only_lower.sum()),
        "kinds": int(labels[one].unique().numel()),
        "tokens": [float(lengths[one].mean()), float(lengths.mean())],
    }
    return Answer(
        f"""What else the model is for. This teacher also guesses hidden words, and its layer for words was trained on
        what leaves block 4. Its perplexity on 1,000 test definitions is {whole:.0f}. That of blocks 1 and 2 is
        {lower:.0f}, of blocks 2 and 4 {even:.0f}, of blocks 3 and 4 {upper:.0f}. So the lower half loses
        something there, and still guesses better than every trained student of the tables above: the best of them has
        {best_trained:.0f}.

        And look at the definitions that only one of them gets right. Of {ch.TESTED:,} test definitions,
        {found["only the teacher"]} are right only with the whole teacher, and {found["only blocks 1, 2"]} only with the
        lower half. These definitions are of {found["kinds"]} different kinds. They have {found["tokens"][0]:.1f} tokens
        on average; all {ch.TESTED:,} have {found["tokens"][1]:.1f}.""",
        other=found,
    )


# 2. A lesson from the lower half


def lessons(ch: SimpleNamespace) -> pd.DataFrame:
    """Run the chapter's lesson from blocks 1 and 2, at its learning rate and a third of it; the cut is an arm too."""
    start = "teacher's layers"
    cut_errors = count_kind_errors(ch.cut(1, 2), *ch.test)
    rows = []
    for slower in (1, 3):
        with patch.dict(ch.RATES, {start: ch.RATES[start] / slower}):
            for seed in range(SEEDS):
                errors = {arm: ch.lesson(seed, start, knobs, LOWER_HALF) for arm, knobs in ch.ARMS.items()}
                errors["cut"] = cut_errors
                rows += [(slower, arm, seed, number) for arm, number in errors.items()]
    return pd.DataFrame(rows, columns=["slower", "arm", "seed", "test_errors"])


def answer_2(ch: SimpleNamespace) -> Answer:
    """Say whether any lesson beats the cut that it starts from."""
    runs = lessons(ch)
    return Answer(say_2(ch, runs), runs)


def say_2(ch: SimpleNamespace, runs: pd.DataFrame) -> str:
    """Write the answer from the runs."""
    usual, slow = (runs[runs["slower"] == slower] for slower in (1, 3))

    def against(baseline, arm, part=usual):
        return difference(part, arm, baseline, smallest_effect=ch.TESTED / 100)

    for part in (usual, slow):
        for arm in ch.ARMS:
            against("cut", arm, part).is_("worse", "too small to matter", "unclear")
    errors = {arm: mean(usual, arm) for arm in (*ch.ARMS, "cut")}
    slower = {arm: mean(slow, arm) for arm in ch.ARMS}
    spoiled, kept = against("cut", "no_teacher").is_("worse"), against("cut", "logits").is_("too small to matter")
    return f"""No student beats the untrained cut, which makes {errors["cut"]} errors of {ch.TESTED:,} test definitions.
    Over {SEEDS} seeds the students make {errors["no_teacher"]} without a teacher, {errors["label_smoothing"]} with
    label smoothing and {errors["logits"]} with the logits.

    The few labels spoil what was there: without a teacher the students make {spoiled} than the cut. The logits mostly
    keep it: {kept} than the cut, which is too small to matter, {against("no_teacher", "logits").is_("better")} than
    without a teacher, and {against("label_smoothing", "logits").is_("better")} than with label smoothing.

    With a third of the learning rate the labels spoil less: {slower["no_teacher"]} errors without a teacher,
    {slower["label_smoothing"]} with label smoothing, {slower["logits"]} with the logits. None of the three is better
    than the cut."""


# 3. Attention learned by heart


def attended(ch: SimpleNamespace, student: nn.Module, maps: dict[int, Tensor], ids: Tensor, real: Tensor) -> Tensor:
    """Return the chapter's term of attention, the mean over a student's two blocks."""
    with watch_attention(student) as attention:
        student(ids, real)
    return torch.stack([ch.attention_term(attention.probabilities(s, real), maps[s], real) for s in maps]).mean()


def by_heart(ch: SimpleNamespace) -> pd.DataFrame:
    """Train narrow students on the attention of 64 definitions, and look at 64 others before and after."""
    sides = {}
    for name, first in (("learned", 0), ("others", TEXTS)):
        ids, real = encode(ch.tokenizer, ch.definitions.train.texts[first : first + TEXTS], max_length=32)
        with torch.no_grad(), evaluating(ch.teacher), watch_attention(ch.teacher) as attention:
            ch.teacher(ids, real)
        sides[name] = {s: attention.probabilities(2 * s, real) for s in (1, 2)}, ids, real
    rows = []
    for seed in range(NARROW_SEEDS):
        torch.manual_seed(seed)
        student = make_bert(layers=2, width=64, heads=4, dropout=0.0)
        optimizer = torch.optim.Adam(student.parameters(), lr=3e-3)
        for step in range(STEPS + 1):
            loss = attended(ch, student, *sides["learned"])
            if step in (0, STEPS):
                with torch.no_grad():
                    others = attended(ch, student, *sides["others"])
                rows.append(("before" if step == 0 else "after", seed, float(loss.detach()), float(others)))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return pd.DataFrame(rows, columns=["arm", "seed", "learned", "others"])


def answer_3(ch: SimpleNamespace) -> Answer:
    """Say how far the term falls on one batch, and what it does on another meanwhile."""
    runs = by_heart(ch)
    return Answer(say_3(runs), runs)


def say_3(runs: pd.DataFrame) -> str:
    """Write the answer from the runs."""

    def term(arm, side):
        return mean(runs, arm, metric=side, digits=2)

    difference(runs, "after", "before", metric="learned").is_("better")
    rise = difference(runs, "after", "before", metric="others").is_("worse")
    return f"""A narrow student has fewer dimensions for queries and keys in a head, so not every map of scores can be
    formed: $QK^\\top$ has at most rank $d$. On one batch it can come very near all the same, because it can learn each
    text by heart. We measured it with {TEXTS} definitions and {NARROW_SEEDS} seeds: in {STEPS} steps the term fell from
    {term("before", "learned")} to {term("after", "learned")}. On {TEXTS} other definitions it *rose* meanwhile, from
    {term("before", "others")} to {term("after", "others")}, which is {rise.mean:.2f} more ({rise.low:.2f} to
    {rise.high:.2f}). On new texts the student must tell from its own embeddings what the teacher tells from its own."""


# 4. What half of the blocks costs


def answer_4(ch: SimpleNamespace) -> Answer:
    """Count multiplications, for kinds and for hidden words."""
    masked, words, real = hidden_words(ch)
    hidden = words != -100

    def count(model, places):
        model.set_attn_implementation("eager")  # the counter sees every product
        with torch.no_grad(), evaluating(model), FlopCounterMode(display=False) as counter:
            last = model(masked, real)["last_hidden_state"]
            if places is not None:
                model.word_logits(last[places])
        return counter.get_total_flops()

    student = ch.cut(2, 4)
    outputs = {"kinds": None, "hidden words": hidden, "every word": real.bool()}
    share = {name: count(student, places) / count(ch.teacher, places) for name, places in outputs.items()}
    hidden_share = float(hidden.sum() / real.sum())
    return Answer(
        f"""In multiplications, for kinds half: {percent(share["kinds"])} of the teacher's, counted on 1,000 test
        definitions. For hidden words it is {percent(share["hidden words"])}, because the layer that guesses words costs
        the same in both. Its matrix is the largest of all, with {len(ch.tokenizer):,} outputs. That is why only hidden
        places go through it, {percent(hidden_share)} of the tokens. If every token did, the student would need
        {percent(share["every word"])}. Time follows this count only roughly, so measure it on the processor that will
        run the student.""",
        other={"share": share, "hidden": hidden_share},
    )


def percent(share: float) -> str:
    """Return a share as text: ``52 %``."""
    return f"{100 * share:.0f} %"


ANSWERS = {1: answer_1, 2: answer_2, 3: answer_3, 4: answer_4}
