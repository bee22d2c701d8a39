"""What the losses cost: against the usual way where that is the trouble, and each against its installed peer.

Run ``python -m benchmarks.losses`` from the repository's root, with the ``peers`` extra installed and 12 GB of memory
free. Times are medians of ways run in turn, forward and backward, in one run on one thread; memory is the rise of the
peak resident size of a fresh process around one step, its tensors already made. Recorded in
``benchmarks/results/losses.json``.
"""

import argparse
import importlib.metadata
import logging
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks._timing import interleave, median, write_json
from kdcourse import losses as ours

Step = Callable[[], object]
SP_BATCH, SP_WIDTH = 256, 6272  # 128 channels of 7×7
ANGLE_BATCH, ANGLE_WIDTH = 512, 128
CRD = {"batch": 64, "samples": 50_000, "width": 128, "negatives": 16_384}  # the paper's, on CIFAR


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def step(loss: Callable[[Tensor], Tensor], student: Tensor) -> Step:
    """One forward and backward pass with the gradient of the student's tensor, as in training."""
    student = student.clone().requires_grad_()

    def run() -> Tensor:
        student.grad = None
        value = loss(student)
        value.backward()
        return value.detach()

    return run


# The usual ways that cost too much


def cosine_by_broadcasting(student: Tensor, teacher: Tensor) -> Tensor:
    """Similarity-preserving as it is often written: every pair of samples beside each other, B×B×D."""
    similarities = [F.cosine_similarity(x.unsqueeze(1), x.unsqueeze(0), dim=2) for x in (student, teacher)]
    return F.mse_loss(*similarities)


def angles_all_at_once(student: Tensor, teacher: Tensor) -> Tensor:
    """RKD's angles as they are often written: all B³ cosines of both networks, and what autograd keeps of them."""
    directions = [F.normalize(x.unsqueeze(0) - x.unsqueeze(1), dim=2) for x in (student, teacher)]
    return F.smooth_l1_loss(*(u @ u.transpose(1, 2) for u in directions))


class GatheringCRD(nn.Module):
    """CRD as it is often written: a vector of both memories for every sample and negative, B·M·D numbers each."""

    def __init__(self, *, samples: int, width: int, negatives: int) -> None:
        super().__init__()
        self.negatives, self.width = negatives, width
        self.heads = nn.ModuleList([nn.Linear(width, width) for _ in range(2)])
        self.memories = [F.normalize(normal(samples, width, seed=seed), dim=1) for seed in (1, 2)]
        self.normalizers: list[Tensor] | None = None

    def forward(self, student: Tensor, teacher: Tensor, index: Tensor) -> Tensor:
        samples = len(self.memories[0])
        embeddings = [F.normalize(head(x), dim=1) for head, x in zip(self.heads, (student, teacher), strict=True)]
        rows = torch.randint(samples, (len(index), self.negatives + 1))  # (B, 1 + M)
        rows[:, 0] = index
        scores = []
        for anchors, memory in zip(embeddings, reversed(self.memories), strict=True):
            gathered = memory.index_select(0, rows.flatten()).view(len(index), -1, self.width)  # (B, 1 + M, D)
            scores.append(torch.exp(torch.bmm(gathered, anchors.unsqueeze(2)).squeeze(2) / 0.07))
        if self.normalizers is None:
            self.normalizers = [score.detach().mean() * samples for score in scores]
        noise = self.negatives / samples
        loss = student.new_zeros(())
        for score, z in zip(scores, self.normalizers, strict=True):
            h = (score / z) / (score / z + noise)
            loss = loss - (h[:, 0].log().sum() + torch.log1p(-h[:, 1:]).sum()) / len(index)
        with torch.no_grad():
            for vectors, memory in zip(embeddings, self.memories, strict=True):
                memory[index] = F.normalize((memory[index] + vectors) / 2, dim=1)
        return loss


def heavy_steps() -> dict[str, Callable[[], Step]]:
    """Return builders by name: a process that measures memory must build only what it measures."""

    def similarity(loss: Callable[[Tensor, Tensor], Tensor]) -> Step:
        teacher = normal(SP_BATCH, SP_WIDTH, seed=1)
        return step(lambda x: loss(x, teacher), normal(SP_BATCH, SP_WIDTH))

    def angles(loss: Callable[[Tensor, Tensor], Tensor]) -> Step:
        teacher = normal(ANGLE_BATCH, ANGLE_WIDTH, seed=1)
        return step(lambda x: loss(x, teacher), normal(ANGLE_BATCH, ANGLE_WIDTH))

    def crd(make: Callable[[], nn.Module]) -> Step:
        module = make()
        index, teacher = torch.arange(CRD["batch"]) * 7, normal(CRD["batch"], CRD["width"], seed=1)
        return step(lambda x: module(x, teacher, index), normal(CRD["batch"], CRD["width"]))

    width, samples, negatives = CRD["width"], CRD["samples"], CRD["negatives"]
    return {
        "similarity/ours": lambda: similarity(ours.similarity_preserving_loss),
        "similarity/usual": lambda: similarity(cosine_by_broadcasting),
        "angles/ours": lambda: angles(ours.rkd_angle_loss),
        "angles/usual": lambda: angles(angles_all_at_once),
        "crd/ours": lambda: crd(partial(ours.CRDLoss, width, width, samples, num_negatives=negatives)),
        "crd/usual": lambda: crd(partial(GatheringCRD, samples=samples, width=width, negatives=negatives)),
    }


def resident(field: str) -> float:
    """Resident size of this process in MB: VmRSS now, VmHWM at its peak."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(field)) / 1024


def peak_memory(build: Callable[[], Step]) -> float:
    """Return the MB by which one step raises the peak resident size of this process, which has done nothing else."""
    torch.set_num_threads(1)
    (normal(64, 64, seed=1).requires_grad_() @ normal(64, 64)).sum().backward()  # libraries start up
    run = build()
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the peak starts from here
    before = resident("VmRSS")
    run()
    return resident("VmHWM") - before


def measure_heavy(*, repeats: int) -> dict:
    """Measure time and memory of the usual ways beside ours."""
    record = {}
    for family in ("similarity", "angles", "crd"):
        names = [f"{family}/ours", f"{family}/usual"]
        megabytes = {}
        for name in names:
            command = [sys.executable, "-m", "benchmarks.losses", "--peak-memory", name]
            megabytes[name] = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        ways = {name: heavy_steps()[name]() for name in names}
        for run in ways.values():
            run()
        seconds = {name: median(values) for name, values in interleave(ways, repeats=repeats).items()}
        record[family] = {
            "milliseconds": {name.split("/")[1]: round(value * 1e3, 2) for name, value in seconds.items()},
            "peak_megabytes": {name.split("/")[1]: round(value, 1) for name, value in megabytes.items()},
            "times_faster": round(seconds[names[1]] / seconds[names[0]], 1),
            "share_of_memory": round(megabytes[names[0]] / megabytes[names[1]], 4),
        }
        print(family, record[family], flush=True)
    return record


# Peers


def peer_steps() -> dict[str, tuple[Step, Step]]:
    """Name of a loss and its setting to (ours, the peer's), the same formula on the same tensors."""
    logging.disable(logging.WARNING)
    from textbrewer import losses as textbrewer
    from torchdistill.losses import mid_level as torchdistill

    def hooked(tensor: Tensor) -> dict:
        return {"layer": {"output": tensor}}

    def against(loss: nn.Module, teacher: Tensor, *more: Tensor) -> Callable[[Tensor], Tensor]:
        hooked_teacher = hooked(teacher)
        return lambda x: loss(hooked(x), hooked_teacher, *more)

    sides = ("layer", "output", "layer", "output")
    pairs: dict[str, tuple[Step, Step]] = {}

    def add(name: str, mine: Callable[[Tensor], Tensor], theirs: Callable[[Tensor], Tensor], student: Tensor) -> None:
        pairs[name] = (step(mine, student), step(theirs, student))

    for batch, classes in ((128, 10), (128, 1000), (64, 30_000)):
        student, teacher = normal(batch, classes), normal(batch, classes, seed=1)
        labels = torch.arange(batch) % classes
        add(
            f"KD {batch}×{classes} (torchdistill)",
            partial(ours.distillation_loss, teacher_logits=teacher, labels=labels, temperature=4.0, alpha=0.5),
            against(torchdistill.KDLoss(*sides, temperature=4.0, alpha=0.5), teacher, labels),
            student,
        )
    for batch, classes in ((128, 10), (128, 1000)):
        student, teacher = normal(batch, classes), normal(batch, classes, seed=1)
        add(
            f"DIST {batch}×{classes} (torchdistill)",
            partial(ours.dist_loss, teacher_logits=teacher),
            against(torchdistill.DISTLoss(*sides), teacher),
            student,
        )
        labels = torch.arange(batch) % classes

        def standardised(x: Tensor, teacher: Tensor = teacher, labels: Tensor = labels) -> Tensor:
            x_standard, teacher_standard = ours.standardize_logits(x), ours.standardize_logits(teacher)
            return ours.distillation_loss(x_standard, teacher_standard, temperature=2.0) + F.cross_entropy(x, labels)

        add(
            f"standardised KD {batch}×{classes} (torchdistill)",
            standardised,
            against(torchdistill.LogitStdKDLoss(*sides, temperature=2.0, alpha=1.0, beta=1.0), teacher, labels),
            student,
        )
    for shape in ((128, 16, 14, 14), (128, 64, 28, 28)):
        student, teacher = normal(*shape), normal(*shape, seed=1)
        pair = {side: {"io": "output", "path": "layer"} for side in ("student", "teacher")}
        name = "×".join(map(str, shape))
        layer = {"module_path": "layer", "io": "output"}
        wrapped = {"input": layer | {"is_from_teacher": False}, "target": layer | {"is_from_teacher": True}}
        add(
            f"hint {name} (torchdistill)",
            partial(ours.hint_loss, teacher_features=teacher),
            against(torchdistill.SimpleLossWrapper(nn.MSELoss(), **wrapped), teacher, None),
            student,
        )
        add(
            f"attention transfer {name} (torchdistill)",
            partial(ours.attention_transfer_loss, teacher_features=teacher),
            against(torchdistill.ATLoss({"pair": pair}), teacher),
            student,
        )
        add(
            f"similarity-preserving {name} (torchdistill, rows by p = 1)",
            partial(ours.similarity_preserving_loss, teacher_features=teacher),
            against(torchdistill.SPKDLoss("layer", "layer", "batchmean"), teacher),
            student,
        )
    for batch, width in ((64, 64), (128, 128), (256, 512)):
        student, teacher = normal(batch, width), normal(batch, width, seed=1)
        for name, loss, weights in (
            ("distance", ours.rkd_distance_loss, (1, 0)),
            ("angle", ours.rkd_angle_loss, (0, 1)),
        ):
            if name == "angle" and batch > 128:
                continue  # against the usual way above
            add(
                f"RKD {name} {batch}×{width} (torchdistill)",
                partial(loss, teacher_embeddings=teacher),
                against(torchdistill.RKDLoss("layer", "layer", *weights, "mean"), teacher),
                student,
            )
    for batch, negatives in ((64, 1024), (64, 4096)):
        pairs[f"CRD {batch} samples, {negatives} negatives (torchdistill)"] = _crd_pair(torchdistill, batch, negatives)

    hidden, teacher_hidden = normal(16, 64, 256), normal(16, 64, 256, seed=1)
    mask = (torch.arange(64) < torch.arange(4, 68, 4)[:, None]).long()  # (16, 64)
    scores, teacher_scores = normal(16, 4, 64, 64), normal(16, 4, 64, 64, seed=1).abs()
    with_mask = {"attention_mask": mask}
    add(
        "hidden states 16×64×256 (TextBrewer)",
        partial(ours.hidden_state_loss, teacher_hidden=teacher_hidden, **with_mask),
        partial(textbrewer.hid_mse_loss, state_T=teacher_hidden, mask=mask),
        hidden,
    )
    add(
        "hidden cosine 16×64×256 (TextBrewer)",
        partial(ours.hidden_cosine_loss, teacher_hidden=teacher_hidden, **with_mask),
        partial(textbrewer.cos_loss, state_T=teacher_hidden, mask=mask),
        hidden,
    )
    add(
        "attention scores 16×4×64×64 (TextBrewer)",
        partial(ours.attention_scores_loss, teacher_scores=teacher_scores, **with_mask),
        partial(textbrewer.att_mse_loss, attention_T=teacher_scores, mask=mask),
        scores,
    )
    # Models return probabilities, which ours takes; the peer takes scores: the logarithm of a probability is one.
    probabilities, teacher_probabilities = scores.softmax(-1), teacher_scores.softmax(-1)
    tiny = torch.finfo(torch.float32).tiny
    add(
        "attention 16×4×64×64, from probabilities (TextBrewer)",
        partial(ours.attention_loss, teacher_attention=teacher_probabilities, **with_mask),
        lambda x: textbrewer.att_ce_loss(
            x.clamp(min=tiny).log(), teacher_probabilities.clamp(min=tiny).log(), mask=mask
        ),
        probabilities,
    )
    add(
        OTHER_INPUT,
        lambda x: ours.attention_loss(x.softmax(-1), teacher_scores.softmax(-1), **with_mask),
        partial(textbrewer.att_ce_loss, attention_T=teacher_scores, mask=mask),
        scores,
    )
    return pairs


# Scores are what the peer takes and ours does not: ours pays for a softmax first. Recorded, and not a goal.
OTHER_INPUT = "attention 16×4×64×64, from scores, which ours does not take (TextBrewer)"


def _crd_pair(
    torchdistill: object, batch: int, negatives: int, *, width: int = 128, samples: int = 16_384
) -> tuple[Step, Step]:
    """Both with a linear head and unit vectors on either side; only the peer's negatives are drawn beforehand."""
    mine = ours.CRDLoss(width, width, samples, num_negatives=negatives)
    heads = nn.ModuleList([nn.Linear(width, width) for _ in range(2)])
    theirs = torchdistill.CRDLoss("layer", "empty", "layer", width, samples, negatives, samples)
    index, teacher = torch.arange(batch) * 5, normal(batch, width, seed=1)
    rows = torch.randint(samples, (batch, negatives + 1))
    rows[:, 0] = index

    def peer(x: Tensor) -> Tensor:
        s, t = (F.normalize(head(y), dim=1) for head, y in zip(heads, (x, teacher), strict=True))
        given = {"input": {"pos_idx": index, "contrast_idx": rows}}
        return theirs({"layer": {"output": s}, "empty": given}, {"layer": {"output": t}}).sum()

    return step(lambda x: mine(x, teacher, index), normal(batch, width)), step(peer, normal(batch, width))


def measure_peers(*, repeats: int, slice_seconds: float = 0.02) -> dict:
    """Time each loss beside its peer; return medians, and the median ratio of runs that follow one another."""
    record = {}
    for name, (mine, theirs) in peer_steps().items():
        for run in (mine, theirs):
            run()
        loops = max(1, round(slice_seconds / _seconds(theirs)))
        ways = {"ours": partial(_repeat, mine, loops), "peer": partial(_repeat, theirs, loops)}
        seconds = interleave(ways, repeats=repeats)
        ratio = median([a / b for a, b in zip(seconds["ours"], seconds["peer"], strict=True)])
        milliseconds = {way: round(median(values) / loops * 1e3, 4) for way, values in seconds.items()}
        record[name] = {"milliseconds": milliseconds, "ours_over_peer": round(ratio, 3)}
        print(f"{ratio:6.3f}  {name}  {milliseconds}", flush=True)
    return record


def _seconds(run: Step) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def _repeat(run: Step, times: int) -> None:
    for _ in range(times):
        run()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=21, help="number of runs of each loss and its peer")
    parser.add_argument("--heavy-repeats", type=int, default=5, help="number of runs of the ways that take seconds")
    parser.add_argument("--peak-memory", choices=heavy_steps(), help=argparse.SUPPRESS)
    parser.add_argument("--peers-only", action="store_true", help="print the comparison with peers, record nothing")
    arguments = parser.parse_args()
    if arguments.peak_memory:
        print(peak_memory(heavy_steps()[arguments.peak_memory]))
        return
    torch.set_num_threads(1)
    torch.manual_seed(0)
    peers = measure_peers(repeats=arguments.repeats)
    if arguments.peers_only:
        return
    heavy = measure_heavy(repeats=arguments.heavy_repeats)
    slower = {
        name: pair["ours_over_peer"]
        for name, pair in peers.items()
        if pair["ours_over_peer"] > 1.05 and name != OTHER_INPUT
    }
    goals = {
        "similarity: at most 2 % of the memory": heavy["similarity"]["share_of_memory"] <= 0.02,
        "similarity: at least 20 times faster": heavy["similarity"]["times_faster"] >= 20,
        "angles at 512 with gradient: under 700 MB": heavy["angles"]["peak_megabytes"]["ours"] < 700,
        "no loss slower than its peer, 5 % left to noise": not slower,
    }
    record = {
        "command": "python -m benchmarks.losses",
        "about": "forward and backward on one thread; memory is the rise of the peak resident size around one step",
        "settings": {
            "similarity": {"batch": SP_BATCH, "width": SP_WIDTH},
            "angles": {"batch": ANGLE_BATCH, "width": ANGLE_WIDTH},
            "crd": CRD,
        },
        "goals_met": goals,
        "slower_than_peer": slower,
        "against_the_usual_way": heavy,
        "against_peers": peers,
        "peers": {name: importlib.metadata.version(name) for name in ("torchdistill", "textbrewer")},
    }
    print(f"goals met: {goals}\nslower than the peer: {slower}\nrecorded in {write_json('losses', record)}")


if __name__ == "__main__":
    main()
