"""The command line: ``kdcourse distill``, ``doctor``, ``zoo`` for learners, ``grade``, ``release``, ``selftest``.

Each subcommand imports what it needs when it runs, so that ``kdcourse --help`` is quick.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

STUDENTS = {"mlp": "make_student_mlp", "hinton": "make_hinton_student", "cnn": "make_student_cnn"}


class _Parser(argparse.ArgumentParser):
    """Wrong usage gets one clear line and exit code 2."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code: 0 when done, 2 when a value was wrong, 130 when interrupted."""
    parser = _make_parser()
    options = parser.parse_args(arguments)
    try:
        return options.run(options)
    except ValueError as error:
        print(f"kdcourse {options.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _make_parser() -> _Parser:
    parser = _Parser(prog="kdcourse", description="A course on knowledge distillation, from the command line.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    distill = commands.add_parser(
        "distill",
        help="train students with and without a teacher on MNIST, compare them, draw a picture",
        description="Train students on MNIST from the labels, from smoothed labels and from a teacher, and compare.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    distill.add_argument("--temperature", type=float, default=4.0, help="T > 0, softens teacher and student")
    distill.add_argument("--alpha", type=float, default=0.7, help="share of the teacher's term, from 0 to 1")
    distill.add_argument("--epochs", type=_count, default=5, help="passes over the training images")
    distill.add_argument("--seed", type=int, default=0, help="first seed of weights and sample order")
    distill.add_argument("--seeds", type=_count, default=3, help="students per method; 2 or more give an interval")
    distill.add_argument("--teacher", default="teacher_mlp", help="a trained teacher, as kdcourse zoo lists them")
    distill.add_argument("--student", default="mlp", choices=STUDENTS, help="784-128-10, Hinton's 2×800, or a CNN")
    distill.add_argument("--device", default="auto", help="auto, cuda, mps or cpu")
    distill.add_argument("--threads", type=_count, default=None, help="CPU threads; chosen by a short timing if absent")
    distill.add_argument("--picture", default="distill.png", help="where the picture is written")
    distill.set_defaults(run=_distill)

    doctor = commands.add_parser("doctor", help="print what works on this machine")
    doctor.set_defaults(run=_doctor)

    zoo = commands.add_parser("zoo", help="list the trained teachers, or train one again")
    actions = zoo.add_subparsers(dest="action", metavar="ACTION")
    actions.add_parser("list", help="list the teachers with their measured test errors (the default)")
    training = actions.add_parser("train", help="train a teacher as the shipped one was")
    training.add_argument("name")
    training.add_argument("--seed", type=int, default=0)
    training.add_argument("--epochs", type=_count, default=None)
    training.add_argument("--folder", default=None, help="where the files are written; inside the package if absent")
    training.add_argument("--device", default="cpu")
    training.add_argument("--checkpoint", default=None, help="continue from, and keep writing, this file")
    zoo.set_defaults(run=_zoo)
    _add_grading(commands)
    return parser


def _add_grading(commands: Any) -> None:
    grading = commands.add_parser(
        "grade",
        help="grade an exercise, or a folder of them",
        description="Give points for an exercise (FILE.ipynb), or for a class: FOLDER, with --out for the results.",
    )
    grading.add_argument("path", type=Path, help="a notebook, or a folder of what learners handed in")
    grading.add_argument("--key", type=Path, default=None, help="a key, or the folder of keys, if not found by itself")
    grading.add_argument("--timeout", type=_seconds, default=60.0, help="seconds for one cell (60)")
    grading.add_argument("--no-sandbox", action="store_true", help="run it as yourself: for people you trust")
    grading.add_argument("--json", action="store_true", help="one file: print the result as JSON")
    grading.add_argument("--out", type=Path, default=None, help="a folder: where grades.csv and feedback/ are written")
    grading.add_argument("-j", "--jobs", type=_count, default=None, help="a folder: how many at once (all cores)")
    grading.add_argument("--show-hidden", action="store_true", help="a folder: feedback tells what hidden tests found")
    grading.add_argument("--executor", default=None, metavar="ADDRESS", help="a folder: a Dask scheduler, tcp://…")
    grading.set_defaults(run=_grade)

    release = commands.add_parser("release", help="make exercises/ from the keys in solutions/")
    release.add_argument("--check", action="store_true", help="write nothing, fail if an exercise is not its key's")
    release.add_argument("--root", type=Path, default=Path(), help="the folder that holds solutions/; here if absent")
    release.set_defaults(run=_release)

    selftest = commands.add_parser("selftest", help="test keys: each gets all points, each unmodified exercise none")
    selftest.add_argument("names", nargs="*", help="beginnings of names; every exercise if absent")
    selftest.add_argument("--key", type=Path, default=None, help="the folder of keys, if not found by itself")
    selftest.set_defaults(run=_selftest)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"must be a positive number of seconds, got {text!r}")
    return value


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a positive integer, got {text!r}")
    return int(text)


def _distill(options: argparse.Namespace) -> int:
    from .report import distillation_report
    from .training import choose_threads, pick_device

    device = pick_device(options.device)
    choose_threads(options.threads)
    from . import models

    make_student: Callable = getattr(models, STUDENTS[options.student])
    text = distillation_report(
        make_student,
        teacher_name=options.teacher,
        temperature=options.temperature,
        alpha=options.alpha,
        epochs=options.epochs,
        seeds=range(options.seed, options.seed + options.seeds),
        device=device,
        picture=options.picture,
    )
    print(text)
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from . import doctor

    found = doctor.report()
    for name, value in found.items():
        print(f"{name:<9} {value}")
    return 0


def _zoo(options: argparse.Namespace) -> int:
    from . import zoo

    if options.action == "train":
        from .training import choose_threads, pick_device

        choose_threads()
        record = zoo.train_teacher(
            options.name, seed=options.seed, epochs=options.epochs, folder=options.folder,
            device=pick_device(options.device), checkpoint=options.checkpoint,
        )  # fmt: skip
        print(f"{record['name']}: {record['test_errors']} test errors of {record['test_images']:,}")
        return 0
    for name, teacher in zoo.TEACHERS.items():
        record = zoo.provenance(name)
        print(f"{name:<15} {record['test_errors']:>4} test errors of {record['test_images']:,}  {teacher.about}")
        print(f"{'':<15} settings: {record['settings_chosen']}")
    return 0


def _grade(options: argparse.Namespace) -> int:
    if options.path.is_dir():
        return _grade_class(options)
    for name in ("out", "jobs", "executor"):
        if getattr(options, name) is not None:
            raise ValueError(f"--{name} is for a folder; {options.path} is none.")
    from .grading import report
    from .grading.collect import find_keys, identify, read_bytes
    from .grading.grader import grade, make_worker
    from .grading.notebooks import read_notebook

    if not options.path.exists():
        raise ValueError(f"there is no file {options.path}: save the notebook, and give the path of its .ipynb file.")
    data, keys = read_bytes(options.path.resolve()), find_keys(options.path.parent, folder=options.key)
    if not keys:
        raise ValueError(f"there is no key in or above {options.path.parent}, nor in the package: give one with --key.")
    exercise = identify(options.path.resolve(), data, keys)
    worker = make_worker(sandboxed=False if options.no_sandbox else None)
    try:
        result = grade(
            data, options.path.name, read_notebook(keys[exercise]), worker=worker, timeout=options.timeout
        ) | {"exercise": exercise, "file": str(options.path)}  # fmt: skip
    finally:
        worker.close()
    if result["status"] == "ungraded":
        raise ValueError(result["reason"])
    if options.json:
        print(json.dumps(result, indent=1, ensure_ascii=False))
    else:
        print(report.points_table(result, exercise))
    return 0


def _grade_class(options: argparse.Namespace) -> int:
    from .grading.course import grade_class

    if options.out is None:
        raise ValueError(f"{options.path} is a folder: say with --out where grades.csv and the feedback are written.")
    if options.json:
        raise ValueError("--json is for one file; a folder gets OUT/results/ with a JSON file for each.")
    results = grade_class(
        options.path, options.out, jobs=options.jobs, keys=options.key, timeout=options.timeout,
        sandboxed=not options.no_sandbox, show_hidden=options.show_hidden, executor=options.executor,
    )  # fmt: skip
    counts = Counter(result["status"] for result in results)
    told = ", ".join(
        f"{counts[status]} {status}" for status in ("graded", "stopped", "tampered", "ungraded") if counts[status]
    )
    print(f"{told}; {sum(bool(result['flags']) for result in results)} flagged: {options.out / 'grades.csv'}")
    return 0


def _release(options: argparse.Namespace) -> int:
    from .grading.release import release_folder

    told = release_folder(options.root, check=options.check)
    print("\n".join(told) or "every exercise is what its key gives")
    return 1 if options.check and told else 0


def _selftest(options: argparse.Namespace) -> int:
    from .grading.selftest import selftest

    failed = 0
    for name, wrong in selftest(Path(), names=tuple(options.names), keys=options.key):
        print(f"{name:<32} {wrong or 'ok'}", flush=True)
        failed += bool(wrong)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
