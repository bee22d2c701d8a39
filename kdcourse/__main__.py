"""The command line: ``kdcourse distill``, ``kdcourse doctor``, ``kdcourse zoo``.

Each subcommand imports what it needs when it runs, so that ``kdcourse --help`` is quick.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

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
    return parser


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
    return 0


if __name__ == "__main__":
    sys.exit(main())
