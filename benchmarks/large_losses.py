"""The losses at sizes of real projects: 4,096 tokens of a vocabulary of 128,000, and 1,024 samples of width 2,048.

``python -m benchmarks.large_losses`` takes about four minutes on two cores and 8 GB of free memory. Forward and
backward on one thread; memory is the rise of the peak resident size of a fresh process around one step. The plain
formula is the loss written with torch's functions; it is measured where it fits.
"""

import argparse
import subprocess
import sys
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks._timing import interleave, measure_units, median, ratio
from benchmarks.losses import Step, angles_all_at_once, normal, peak_memory, step
from kdcourse import losses

VOCABULARY, SAMPLES, WIDTH, NEGATIVES = 128_000, 1024, 2048, 16_384
Loss = Callable[[Tensor, Tensor], Tensor]


def plain_kd(student: Tensor, teacher: Tensor) -> Tensor:
    """Soft targets at T = 2, all at once."""
    log_q, log_p = F.log_softmax(student / 2, -1), F.log_softmax(teacher / 2, -1)
    return 4 * F.kl_div(log_q, log_p, reduction="batchmean", log_target=True)


def plain_similarity(student: Tensor, teacher: Tensor) -> Tensor:
    """Similarity-preserving with torch's own normalisation."""
    return F.mse_loss(*(F.normalize(x @ x.T, dim=1) for x in (student, teacher)))


def distilbert(student: Tensor, teacher: Tensor) -> Tensor:
    """Soft targets and masked words, one of seven tokens; without the hidden states, which are small."""
    tokens = torch.arange(len(student))
    labels = torch.where(tokens % 7 == 0, tokens, -100).unsqueeze(0)
    hidden = torch.ones(1, len(student), 1)
    terms = losses.distilbert_terms(student.unsqueeze(0), teacher.unsqueeze(0), labels, hidden, hidden)
    return terms["kd"] + terms["mlm"]


def pair(loss: Loss, rows: int, width: int) -> Step:
    teacher = normal(rows, width, seed=1)
    return step(lambda student: loss(student, teacher), normal(rows, width))


def crd() -> Step:
    module = losses.CRDLoss(WIDTH, WIDTH, 50_000, num_negatives=NEGATIVES)
    index, teacher = torch.arange(SAMPLES) * 7, normal(SAMPLES, WIDTH, seed=1)
    return step(lambda student: module(student, teacher, index), normal(SAMPLES, WIDTH))


kd = partial(losses.kd_loss, temperature=2.0)
CASES: dict[str, dict[str, Callable[[], Step]]] = {
    f"soft targets, 4,096 × {VOCABULARY:,}": {"ours": partial(pair, kd, 4096, VOCABULARY)},
    f"DistilBERT's soft targets and masked words, 4,096 × {VOCABULARY:,}": {
        "ours": partial(pair, distilbert, 4096, VOCABULARY)
    },
    f"soft targets, 512 × {VOCABULARY:,}": {
        "ours": partial(pair, kd, 512, VOCABULARY), "plain": partial(pair, plain_kd, 512, VOCABULARY)
    },
    f"RKD angles, 1,024 × {WIDTH:,}": {"ours": partial(pair, losses.rkd_angle_loss, SAMPLES, WIDTH)},
    f"RKD angles, 256 × {WIDTH:,}": {
        "ours": partial(pair, losses.rkd_angle_loss, 256, WIDTH), "plain": partial(pair, angles_all_at_once, 256, WIDTH)
    },
    f"similarity-preserving, 1,024 × {WIDTH:,}": {
        "ours": partial(pair, losses.similarity_preserving_loss, SAMPLES, WIDTH),
        "plain": partial(pair, plain_similarity, SAMPLES, WIDTH),
    },
    f"CRD, 1,024 × {WIDTH:,}, {NEGATIVES:,} negatives": {"ours": crd},
}  # fmt: skip


def student_megabytes(name: str) -> float:
    rows, width = name.rsplit(" × ", 1)
    return int(rows.rsplit(" ", 1)[1].replace(",", "")) * int(width.split(", ")[0].replace(",", "")) * 4 / 2**20


def measure(name: str, *, repeats: int) -> dict:
    """Return time and memory of each way; memory also as a multiple of the student's tensor."""
    megabytes = {}
    for way in CASES[name]:
        command = [sys.executable, "-m", "benchmarks.large_losses", "--peak-memory", name, way]
        megabytes[way] = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    ways = {way: build() for way, build in CASES[name].items()}
    seconds = interleave(ways, repeats=repeats)
    return {
        "seconds": {way: round(median(values), 3) for way, values in seconds.items()},
        "peak_megabytes": {way: round(value, 1) for way, value in megabytes.items()},
        "peak_over_student": {way: round(value / student_megabytes(name), 2) for way, value in megabytes.items()},
        "ours_over_plain": ratio(seconds["ours"], seconds["plain"]) if "plain" in seconds else None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--again", action="store_true", help="measure what the record has already, too")
    parser.add_argument("--peak-memory", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peak_memory:
        name, way = arguments.peak_memory
        print(peak_memory(CASES[name][way]))
        return
    units = {name: partial(measure, name, repeats=arguments.repeats) for name in CASES}
    about = "float32, forward and backward on one thread"
    measure_units("large_losses", units, about=about, again=arguments.again)


if __name__ == "__main__":
    main()
