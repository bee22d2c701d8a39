"""Put measured tables into README from the records that made them; ``--check`` fails where README differs.

No number in README is typed: what stands between ``<!-- NAME:begin -->`` and ``<!-- NAME:end -->`` comes from here.
"""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"


def record(name: str) -> dict:
    """Return one benchmark's record."""
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def machine(found: dict) -> str:
    """Return where and when a record was made."""
    where = found["environment"]
    load = ", ".join(f"{load:g}" for load in where["load_average"] or [])
    return f"{where['cpu']}, {where['cores']} cores, torch {where['torch']}, load {load}, {where['date']}"


def distill() -> str:
    """The table of ``kdcourse distill``."""
    found = record("distill")
    return (
        f"```text\n$ {found['command']}\n{found['table']}\n```\n\n![Test errors of each method, a dot per seed, the "
        f"teacher's as a dashed line](docs/images/distill.png)\n\n{found['seconds']:.0f} s on {machine(found)}."
    )


def benchmarks() -> str:
    """One row per goal: what was measured against what, in the same run."""
    training, live, imports, losses = (record(name) for name in ("training", "live", "imports", "losses"))
    del losses  # its table has many rows: benchmarks/results/losses.json
    whole, bound, dragged = training["end_to_end"], training["bound"], live["slider_to_picture"]
    rows = [
        (
            "five epochs of distillation, the source text's MLPs, against the usual loop",
            f"{whole['times_faster']['usual']:.1f} times faster",
            "20",
            f"at most {bound['times_faster_if_nothing_else_took_time']:.1f} here: matrix products alone take "
            f"{bound['share_of_our_time']:.0%} of our time",
        ),
        (
            "student step at batch 512, share of the machine's matrix-multiply rate",
            f"{training['step_at_512']['share_of_machine_matmul_rate']:.0%}",
            "60 %",
            "one thread",
        ),
        (
            "slider to picture in the browser while training, p95 (median)",
            f"{dragged['while dragging']['p95_ms']:.0f} ms ({dragged['while dragging']['median_ms']:.0f} ms)",
            "150 ms",
            f"a single move: {dragged['single moves after a pause']['p95_ms']:.0f} ms "
            f"({dragged['single moves after a pause']['median_ms']:.0f} ms)",
        ),
        (
            "training rate kept while live",
            f"{live['rate_kept']['live']:.0%}",
            "70 %",
            "browser and kernel share two cores",
        ),
        (
            "`import kdcourse` over `import torch`",
            f"{imports['over_torch']['kdcourse']:.1%}",
            "",
            f"with all that trains: {imports['over_torch']['kdcourse_all_for_training']:.2f} times",
        ),
    ]
    lines = ["| | measured | goal | |", "|---|---|---|---|", *("| " + " | ".join(row) + " |" for row in rows)]
    lines += ["", f"Machine: {machine(training)}. Costs of the losses against peers: `benchmarks/results/losses.json`."]
    return "\n".join(lines)


def main() -> int:
    """Write README, or with ``--check`` compare; return 0 if all is well."""
    path = ROOT / "README.md"
    old = new = path.read_text(encoding="utf-8")
    for make in (distill, benchmarks):
        begin, end = f"<!-- {make.__name__}:begin -->", f"<!-- {make.__name__}:end -->"
        before, _, rest = new.partition(begin)
        after = rest.partition(end)[2]
        new = f"{before}{begin}\n{make()}\n{end}{after}"
    if "--check" in sys.argv:
        print("README is what the records give" if new == old else "README differs: python tools/update_readme.py")
        return int(new != old)
    path.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
