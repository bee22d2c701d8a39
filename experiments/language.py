"""Chapter 09 at full size: which part of a BERT should a student learn, and from which start?

``python -m experiments.language --processes 2`` runs all; two terminals with ``--part 0/2`` and ``--part 1/2`` do the
same. A finished run is one line in the work folder, written at once, so a process that is killed loses the run that it
was in, and the same command goes on. ``python -m experiments.language --record`` writes the record of what is there.

Written before the runs.

**Size.** The students are small and train shortly, so that all fits into about 90 minutes of one processor core: full
size for this course, not for the literature. 300 steps of 32 definitions, of at most 32 tokens. Errors are counted on
3,000 test definitions, perplexity on the hidden words of 1,000 of them.

**Task.** Kinds of definitions, and 15 % hidden words with weight 0.3, in *every* arm. (The teacher learned both too,
its hidden words with weight 0.5.) So plain students too learn from definitions without a label. Words were hidden once;
the seed decides weights, dropout and order. Teacher and student read the same text with the same words hidden, and the
teacher was asked once.

**Arms.** Each adds one term to the labels and hidden words: the kinds' logits; embeddings; attention scores, or
probabilities, of the mapped blocks; hidden states of the mapped blocks; MiniLM's attention and value relation of the
last block; DistilBERT's triple loss over hidden words, in place of the hidden words alone. *all together* has all but
the scores. Baselines: ``no_teacher``, and ``label_smoothing`` of 0.1.

**Blocks.** *1,000 labels*: each of 1,000 definitions with a label comes four times, and 5,600 without a label once.
*all labels*: 9,600 definitions, each once with its label, and fewer arms. *narrow student*: 2 × 64 instead of 2 × 256,
1,000 labels; *student of width 128*: 2 × 128, added when the other blocks had been recorded, no rule uses it.
The start is random, or the teacher's embeddings, blocks 2 and 4, and both of its heads. The classifier among them has
seen 67,000 labels: this start hands over more than shape.

**Choice.** One learning rate for each kind of student and start, by its plain arm; then a weight for each term, from
two, with a random start; both by errors on 2,000 held-out definitions, with a seed that is not among the recorded ones.
The start from the teacher's layers and the narrow student take these weights as they are, and so do the mixtures.

**Rule.** Paired differences of errors over seeds 0 to 4 with 95 % t intervals. The smallest effect of interest is 1 %
of the definitions. "Attention matching is the most impactful" *holds* for a start if the attention term with the fewest
errors is better than the best other single term and than both baselines; it *does not hold* if it is worse than
the best other one; else it is unclear, or too small to matter. Asked twice: against all other terms, and against
the other terms on the inside of the network. "The start does more than any term" *holds* if the plain student that
starts from the teacher's layers is better than the best single term with a random start. Picking the best of several
terms by the errors that are then compared favours neither side alone, but flatters both.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import time
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from experiments._language_plan import COPIED, Settings, Task, stages
from experiments._language_terms import SMOOTHING, Taught, hide_words, language_objective, teach
from experiments._language_verdicts import summarise
from experiments._record import write_json
from kdcourse import zoo
from kdcourse.data.definitions import TextSplit, load_definitions
from kdcourse.data.tokens import LengthBatches, encode, load_tokenizer
from kdcourse.losses import HiddenProjection
from kdcourse.models import evaluating
from kdcourse.models.language import body_and_embedding_parameters, count_kind_errors, make_bert
from kdcourse.recipes.student_layers import init_student_from_teacher
from kdcourse.training import fit


class Material:
    """Texts, teacher, and what the teacher says; made once in a process."""

    def __init__(self, settings: Settings, teacher: Any) -> None:
        self.settings, self.teacher = settings, teacher
        definitions, self.tokenizer = load_definitions(), load_tokenizer()
        self.train, self.held_out = definitions.train, self._read(definitions.held_out.take(settings.held_out))
        self.test = self._read(definitions.test.take(settings.test))
        words = self._encode(definitions.test.take(settings.test_words))
        self.test_words = (*hide_words(words, self.tokenizer.mask_token_id, seed=1), words.attention_mask)
        self._block, self._data = "", ((), None)

    def _encode(self, split: TextSplit) -> Any:
        return encode(self.tokenizer, split.texts, max_length=self.settings.max_length)

    def _read(self, split: TextSplit) -> tuple[Tensor, Tensor, Tensor]:
        return (*self._encode(split), split.labels)

    def of(self, block: str) -> tuple[tuple[Tensor, ...], Taught]:
        """Return what students of a block read, and what the teacher says to it; the last block's is kept."""
        block = "all labels" if block == "all labels" else "few labels"
        if block != self._block:
            few, settings = block == "few labels", self.settings
            known = torch.arange(settings.labelled if few else settings.rows)
            rows = known
            if few:
                rows = torch.cat([known.repeat(settings.copies), settings.labelled + torch.arange(settings.unlabelled)])
            tokens = self._encode(self.train.take(int(rows.max()) + 1))
            tokens = type(tokens)(*(tensor[rows] for tensor in tokens))
            labels = torch.where(torch.isin(rows, known), self.train.labels[rows], -100)
            masked, words = hide_words(tokens, self.tokenizer.mask_token_id, seed=0)
            data = (masked, tokens.attention_mask, labels, words, torch.arange(len(rows)))
            self._data = data, teach(self.teacher, masked, tokens.attention_mask, blocks=2)
            self._block = block
        return self._data


def run(task: Task, material: Material) -> dict:
    """Train one student and measure it."""
    settings, teacher = material.settings, material.teacher
    data, taught = material.of(task.block)
    width = task.width if task.width != 256 else teacher.config.hidden_size
    torch.manual_seed(task.seed)
    student = make_bert(layers=2, width=width, heads=teacher.config.num_attention_heads)
    if task.start == COPIED:
        init_student_from_teacher(student, teacher)
    projects = width != teacher.config.hidden_size and "hidden" in dict(task.weights)
    projection = HiddenProjection(width, teacher.config.hidden_size) if projects else None
    parameters = [*student.parameters(), *(projection.parameters() if projection is not None else ())]
    optimizer = torch.optim.AdamW(parameters, lr=task.lr, weight_decay=0.01, fused=True)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, task.lr, total_steps=settings.steps, pct_start=0.1)
    bfloat16 = width >= 256  # below it gains nothing
    objective = partial(
        language_objective, weights=dict(task.weights), taught=taught, teacher=teacher, projection=projection,
        label_smoothing=SMOOTHING if task.arm == "label_smoothing" else 0.0, bfloat16=bfloat16,
    )  # fmt: skip
    start = time.process_time()
    history = fit(
        student, data, objective, optimizer, epochs=1, batch_size=settings.batch_size, seed=task.seed,
        make_batches=LengthBatches, after_step=lambda step: scheduler.step(), progress=False,
    )  # fmt: skip
    last = {name: round(float(values[-50:].mean()), 4) for name, values in history.terms.items()}
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16):
        if task.block == "choice":
            measured = {"held_out_errors": count_kind_errors(student, *material.held_out)}
        else:
            measured = {
                "test_errors": count_kind_errors(student, *material.test),
                "perplexity": round(perplexity(student, *material.test_words), 2),
            }
    body, embeddings = body_and_embedding_parameters(student)
    return {
        **asdict(task), **measured, "steps": settings.steps, "last_terms": last, "body_parameters": body,
        "embedding_parameters": embeddings, "cpu_seconds": round(time.process_time() - start, 1),
    }  # fmt: skip


def perplexity(model: Any, masked: Tensor, words: Tensor, real: Tensor, *, batch_size: int = 250) -> float:
    """Return exp of the mean cross-entropy of the hidden words: among how many words the model hesitates."""
    total, count = 0.0, 0
    with evaluating(model):
        for part in zip(*(tensor.split(batch_size) for tensor in (masked, words, real)), strict=True):
            hidden = part[1] != -100
            logits = model.word_logits(model(part[0], part[2])["last_hidden_state"][hidden])
            total += float(F.cross_entropy(logits.float(), part[1][hidden], reduction="sum"))
            count += int(hidden.sum())
    return math.exp(total / count)


def read_rows(folder: Path) -> dict[str, dict]:
    """Return the finished runs by key. A last line that a killed process left torn is no finished run."""
    rows = {}
    for path in sorted(folder.glob("runs-*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                continue
            rows[row["key"]] = row["row"]
    return rows


def append_row(path: Path, task: Task, row: dict) -> None:
    """Append one finished run as one line, with a single write; after a torn line it starts a new one."""
    line = json.dumps({"key": task.key, "row": row}) + "\n"
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        size = os.fstat(handle).st_size
        torn = size > 0 and os.pread(handle, 1, size - 1) != b"\n"
        os.write(handle, (b"\n" if torn else b"") + line.encode())
        os.fsync(handle)
    finally:
        os.close(handle)


def work(part: int, parts: int, folder: Path, settings: Settings, teacher: Any) -> None:
    """Train this part's share of every stage that is not finished yet."""
    material, done = Material(settings, teacher), read_rows(folder)
    for tasks in stages(settings, done):
        for task in tasks[part::parts]:
            if task.key in done:
                continue
            row = done[task.key] = run(task, material)
            append_row(folder / f"runs-{part}of{parts}.jsonl", task, row)
            scores = {key: row[key] for key in ("held_out_errors", "test_errors", "perplexity") if key in row}
            print(task.block, task.start, task.arm, task.seed, scores, row["cpu_seconds"], "s", flush=True)
        while tasks[0].block == "choice" and any(task.key not in done for task in tasks):
            time.sleep(2)  # the other parts' runs decide what comes next
            done |= read_rows(folder)


def record(
    folder: Path, settings: Settings, teacher: Any, provenance: dict, command: str, linear: dict | None = None
) -> Path:
    """Write the record of all finished runs; blocks that lack seeds say how many they have."""
    done = read_rows(folder)
    rows = {"choice": [], "runs": []}
    for tasks in stages(settings, done):
        found = [done[task.key] for task in tasks if task.key in done]
        rows["choice" if tasks[0].block == "choice" else "runs"] += found
    smallest = settings.test / 100
    every = [*rows["choice"], *rows["runs"]]
    return write_json(
        "language",
        {
            "about": f"Errors of {settings.test:,} test definitions. {settings.steps} steps of {settings.batch_size} "
            f"definitions; up to {settings.seeds} seeds; smallest effect of interest {smallest:g} errors; learning "
            "rates and weights chosen on held-out definitions, with a random start",
            "command": command,
            "minutes": round(sum(row["cpu_seconds"] for row in every) / 60, 1),
            "settings": asdict(settings),
            "smallest_effect": smallest,
            "teacher": {**provenance, "parameters apart": body_and_embedding_parameters(teacher)},
            "linear_model": linear,
            **summarise(rows["runs"], smallest),
            **rows,
        },
    )


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m experiments.language", description=__doc__.splitlines()[0])
    parser.add_argument("--part", default="0/1", help="which share of the runs this process trains, such as 1/2")
    parser.add_argument("--processes", type=int, default=0, help="start so many parts, wait, and write the record")
    parser.add_argument("--folder", type=Path, default=Path("runs/language"), help="folder of finished runs")
    parser.add_argument("--teacher-folder", default=None, help="where the teacher lies, if not in the package")
    parser.add_argument("--record", action="store_true", help="write the record of what is finished, and train nothing")
    parser.add_argument("--seeds", type=int, default=Settings.seeds)
    options = parser.parse_args(arguments)
    settings = replace(Settings(), seeds=options.seeds)
    options.folder.mkdir(parents=True, exist_ok=True)
    shared = ["--folder", str(options.folder), "--seeds", str(options.seeds)]
    shared += ["--teacher-folder", options.teacher_folder] if options.teacher_folder else []
    if options.processes:
        part_command = [sys.executable, "-m", "experiments.language", *shared]
        processes = [
            subprocess.Popen([*part_command, "--part", f"{part}/{options.processes}"])
            for part in range(options.processes)
        ]
        if any([process.wait() for process in processes]):
            sys.exit("a part failed; the same command goes on from what is finished")
    torch.set_num_threads(1)
    teacher = zoo.load("definitions_teacher", folder=options.teacher_folder)
    part, parts = (int(number) for number in options.part.split("/"))
    if not 0 <= part < parts:
        parser.error(f"--part must be I/N with I from 0 to N - 1, got {options.part}")
    if not (options.record or options.processes):
        work(part, parts, options.folder, settings, teacher)
    if options.record or options.processes or parts == 1:
        from experiments._language_linear import linear_model  # needs scikit-learn

        provenance = zoo.provenance("definitions_teacher", folder=options.teacher_folder)
        command = "python -m experiments.language --processes 2"
        print(record(options.folder, settings, teacher, provenance, command, linear_model()))


if __name__ == "__main__":
    main()
