"""Write README's measured tables and docs/results.md from the records; ``--check`` fails where they differ.

No number there is typed: what stands in README between ``<!-- NAME:begin -->`` and ``<!-- NAME:end -->``, and all of
docs/results.md, comes from here.
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
    if (RESULTS / "sweeps_cuda.json").exists():
        on_gpu, on_cpu = record("sweeps_cuda"), record("sweeps")
        case, same = on_gpu["cases"][0], on_cpu["cases"][0]
        rows.append(
            (
                f"{case['students']} students stacked in one program against one by one, on one "
                f"{on_gpu['environment']['gpu']}",
                f"{case['ratio']:.1f} times faster",
                "",
                f"the course's MLPs, torch {on_gpu['environment']['torch']}; on two CPU cores {same['ratio']:.1f}; "
                f"CNNs {on_gpu['cases'][-1]['ratio']:.1f} times",
            )
        )
    if (RESULTS / "grading.json").exists():
        grading = record("grading")
        ours, theirs = grading["kdcourse"], grading["nbgrader"]
        rows.append(
            (
                f"a class of {ours['submissions']} of the heaviest exercise ({grading['exercise'][:4]}), each in a "
                "sandbox, against nbgrader",
                f"{grading['times_faster']:.1f} times faster",
                "5",
                f"{ours['seconds_per_submission']:.1f} s a submission, {theirs['seconds_per_submission']:.1f} s; the "
                f"exercise's own work is {ours['of_that_the_exercises_own_cells']:.1f} s of ours",
            )
        )
    lines = ["| | measured | goal | |", "|---|---|---|---|", *("| " + " | ".join(row) + " |" for row in rows)]
    lines += ["", f"Machine: {machine(training)}. Costs of the losses against peers: `benchmarks/results/losses.json`."]
    return "\n".join(lines)


RESULTS_HEAD = """# Full-size results of the chapters

Each chapter's experiment runs small, in the notebook, and at full size by one command that runs the chapter's own
source with `FULL = True`. Below are the records in `benchmarks/results/`, every arm, those against us too.
*Difference* is arm minus baseline, paired by seed, in test errors, with its 95 % interval; an interval that holds 0
decides nothing. Of twenty comparisons without any effect one leaves out 0: read the wide tables with that in mind.
Chapter 02's record, `hinton.json`, is shown in its notebook beside the paper's figures.
"""


def chapter_results() -> str:
    """Every comparison of every chapter's record, a table each."""
    parts = [RESULTS_HEAD]
    for path in sorted(RESULTS.glob("chapter*.json")):
        found = record(path.stem)
        (notebook,) = (ROOT / "notebooks").glob(f"{path.stem.removeprefix('chapter')}_*.ipynb")
        title = notebook.stem.partition("_")[2].replace("_", " ")
        parts.append(f"## {notebook.stem[:2]} [{title}](../notebooks/{notebook.name})\n")
        parts.append(f"{found['about']}.\n\n`{found['command']}`, {found['minutes']:g} minutes on {machine(found)}.\n")
        for name, rows in found["comparisons"].items():
            parts.append(f"**{name}**\n\n{_comparison(rows)}\n")
    return "\n".join(parts)


def _comparison(rows: list[dict]) -> str:
    lines = ["| arm | mean | against | its mean | difference | seeds | |", "|---|---:|---|---:|---|---:|---|"]
    for row in rows:
        interval = f"{row['difference']:+.1f} [{row['low']:+.1f}, {row['high']:+.1f}]"
        own, its = (f"{row[key]:.1f}" if key in row else "" for key in ("mean", "baseline_mean"))
        verdict = row.get("verdict", "better" if row["high"] < 0 else "worse" if row["low"] > 0 else "unclear")
        lines.append(f"| {row['arm']} | {own} | {row['baseline']} | {its} | {interval} | {row['n']} | {verdict} |")
    return "\n".join(lines)


def readme() -> str:
    """README with its generated parts made anew."""
    new = (ROOT / "README.md").read_text(encoding="utf-8")
    for make in (distill, benchmarks):
        begin, end = f"<!-- {make.__name__}:begin -->", f"<!-- {make.__name__}:end -->"
        before, _, rest = new.partition(begin)
        after = rest.partition(end)[2]
        new = f"{before}{begin}\n{make()}\n{end}{after}"
    return new


def main() -> int:
    """Write both, or with ``--check`` compare; return 0 if all is well."""
    stale = []
    for path, text in ((ROOT / "README.md", readme()), (ROOT / "docs" / "results.md", chapter_results())):
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(path.name)
        if "--check" not in sys.argv:
            path.write_text(text, encoding="utf-8")
    if "--check" in sys.argv:
        print(
            f"{' and '.join(stale)} differ: python tools/update_readme.py" if stale else "all is what the records give"
        )
        return int(bool(stale))
    return 0


if __name__ == "__main__":
    sys.exit(main())
