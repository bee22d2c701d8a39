"""The command line: its parser, and what becomes of errors. What a command does is in ``kdcourse/commands``.

A command's module is imported when it runs, so that ``kdcourse --help`` is quick.
"""

import argparse
import importlib
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

from .commands import console

STUDENTS = ("mlp", "hinton", "cnn")
_MOST_SEED = 2**32 - 1  # NumPy's largest, and so what every generator takes


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Returns
    -------
    int
        0 when all is well; 1 when a check or test found something; 2 when a value was wrong or a file could not be
        used; 130 when interrupted; 141 when nobody reads the output any more.
    """
    console.never_stop_at_a_letter()
    command = "kdcourse"
    try:
        options = make_parser().parse_args(arguments)
        command = f"kdcourse {options.command}"
        return importlib.import_module(f".commands.{options.command}", __package__).run(options)
    except console.OutputClosed:
        return 141
    except OSError as error:
        console.complain(f"{command}: {console.sentence_about(error)}")
        return 2
    except ValueError as error:
        console.complain(f"{command}: {error}")
        return 2
    except ModuleNotFoundError as error:
        if not error.name or error.name.partition(".")[0] == "kdcourse":  # a mistake of ours: show where
            raise
        console.complain(f"{command}: {error.name} is missing: pip install {error.name.partition('.')[0]}")
        return 2
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not re.search("out of memory|can't allocate memory", str(error)):
            raise
        console.complain(f"{command}: not enough memory; fewer seeds, a smaller student or another device need less")
        return 2
    except KeyboardInterrupt:
        console.complain("interrupted")
        return 130
    finally:
        console.let_go_of_closed_streams()


class _Parser(argparse.ArgumentParser):
    """Wrong usage gets one clear line and exit code 2."""

    def error(self, message: str) -> NoReturn:
        console.complain(f"{self.prog}: {message} (see {self.prog} --help)")
        raise SystemExit(2)


class _Help(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Shows defaults, and leaves the lines of examples as they are."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        unsaid = action.default is None or action.default is False
        return action.help if unsaid else super()._get_help_string(action)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands; ``docs/cli.md`` is made from it."""
    parser = _Parser(prog="kdcourse", description="A course on knowledge distillation, from the command line.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)
    for add in (_add_distill, _add_doctor, _add_notebooks, _add_zoo, _add_grade, _add_release, _add_selftest):
        add(commands)
    return parser


def _add(commands: Any, name: str, summary: str, *, examples: str, description: str = "") -> argparse.ArgumentParser:
    return commands.add_parser(
        name,
        help=summary,
        description=description or f"{summary[0].upper()}{summary[1:]}.",
        epilog=f"examples:\n{examples}",
        formatter_class=_Help,
    )


def _add_distill(commands: Any) -> None:
    distill = _add(
        commands,
        "distill",
        "see when a teacher helps, or compare students at one setting, on MNIST",
        description="""\
Train students on MNIST from the labels, from smoothed labels and from a teacher, and compare them with intervals.
Without a setting it asks when a teacher helps: two shapes of student, from 300 training images to all 55,000.
With any of --temperature, --alpha, --epochs, --teacher or --student it makes that one comparison, on all images.""",
        examples="""\
  kdcourse distill                                  # when does a teacher help? About a minute, two cores
  kdcourse distill --images 1000 5000 --seeds 5     # the same at other sizes, and narrower intervals
  kdcourse distill --temperature 4 --alpha 0.7      # one comparison at these settings
  kdcourse distill --teacher teacher_cnn --student cnn --epochs 3""",
    )
    distill.add_argument(
        "--images", type=_images, nargs="+", help="numbers of training images; 300 to 55,000 if absent"
    )
    distill.add_argument("--steps", type=_count, help="steps of each student; about 300 if absent")
    distill.add_argument("--temperature", type=float, help="one comparison: T > 0; 4 if absent")
    distill.add_argument(
        "--alpha", type=float, help="one comparison: share of the teacher's term, 0 to 1; 0.7 if absent"
    )
    distill.add_argument("--epochs", type=_count, help="one comparison: passes over all images; 5 if absent")
    distill.add_argument("--teacher", help="one comparison: a name that kdcourse zoo lists; teacher_mlp if absent")
    distill.add_argument(
        "--student", choices=STUDENTS, help="one comparison: 784-128-10, Hinton's 2×800, or a CNN; mlp if absent"
    )
    distill.add_argument("--seed", type=_seed, default=0, help="first seed of weights and sample order")
    distill.add_argument(
        "--seeds", type=_few, help="students per method, 2 or more give an interval; by default 3, 5 of the small shape"
    )
    distill.add_argument("--device", default="auto", help="auto, cuda, mps or cpu")
    distill.add_argument("--threads", type=_count, help="CPU threads; 1 keeps all in one process; chosen if absent")
    distill.add_argument("--picture", type=_path, default=Path("distill.png"), help="file for the picture, a .png")


def _add_doctor(commands: Any) -> None:
    _add(commands, "doctor", "print what works on this machine", examples="  kdcourse doctor")


def _add_notebooks(commands: Any) -> None:
    notebooks = _add(
        commands,
        "notebooks",
        "write chapters and exercises into a folder",
        examples="  kdcourse notebooks course                         # then: jupyter lab --notebook-dir=course",
    )
    notebooks.add_argument("folder", type=_path, help="folder that gets notebooks/ and exercises/")


def _add_zoo(commands: Any) -> None:
    zoo = _add(
        commands,
        "zoo",
        "list the trained teachers, or train one again",
        examples="""\
  kdcourse zoo                                      # names, test errors, how settings were chosen
  kdcourse zoo train teacher_cnn --seed 1           # writes teachers/teacher_cnn.safetensors and .json""",
    )
    actions = zoo.add_subparsers(dest="action", metavar="ACTION", parser_class=_Parser)
    _add(
        actions,
        "list",
        "list the teachers with their measured test errors (the default)",
        examples="  kdcourse zoo list",
    )
    train = _add(
        actions,
        "train",
        "train a teacher as the shipped one was",
        examples="""\
  kdcourse zoo train teacher_mlp
  kdcourse zoo train hinton_teacher --device cuda --checkpoint runs/hinton_teacher.pt""",
    )
    train.add_argument("name", help="name of a teacher, as kdcourse zoo lists them")
    train.add_argument("--seed", type=_seed, default=0, help="seed of weights, dropout, order and augmentation")
    train.add_argument("--epochs", type=_count, help="passes over the training images; the teacher's own if absent")
    train.add_argument("--folder", type=_path, default=Path("teachers"), help="folder for weights and provenance")
    train.add_argument("--force", action="store_true", help="replace a teacher that is in the folder already")
    train.add_argument("--device", default="cpu", help="auto, cuda, mps or cpu")
    train.add_argument("--checkpoint", type=_path, help="file to continue from, and to keep writing")


def _add_grade(commands: Any) -> None:
    grade = _add(
        commands,
        "grade",
        "grade an exercise, or a folder of them",
        description="Give points for an exercise (FILE.ipynb), or for a class: FOLDER, with --out for the results.",
        examples="""\
  kdcourse grade ex02_soft_targets.ipynb            # your own: points, and what is wrong
  kdcourse grade submitted/ --out graded/           # a class: grades.csv, feedback, a sandbox for each
  kdcourse grade submitted/ --out graded/ -j 8 --key keys/""",
    )
    grade.add_argument("path", type=_path, help="notebook, or folder of what learners handed in")
    grade.add_argument("--key", type=_path, help="key, or folder of keys, if not found by itself")
    grade.add_argument("--timeout", type=_seconds, default=60.0, help="seconds for one cell")
    grade.add_argument("--no-sandbox", action="store_true", help="run it as yourself: for people you trust")
    grade.add_argument("--json", action="store_true", help="one file: print the result as JSON")
    grade.add_argument("--out", type=_path, help="a folder: where grades.csv and feedback/ are written")
    grade.add_argument("-j", "--jobs", type=_count, help="a folder: how many at once (all cores if absent)")
    grade.add_argument("--show-hidden", action="store_true", help="a folder: feedback tells what hidden tests found")
    grade.add_argument("--executor", type=_address, metavar="ADDRESS", help="a folder: a Dask scheduler, tcp://…")


def _add_release(commands: Any) -> None:
    release = _add(
        commands,
        "release",
        "make exercises/ (and a checkout's kdcourse/keys/) from the keys in solutions/",
        examples="""\
  kdcourse release                                  # in a checkout, or in a teacher's folder
  kdcourse release --check                          # in continuous integration""",
    )
    release.add_argument("--check", action="store_true", help="write nothing, fail if an exercise is not its key's")
    release.add_argument("--root", type=_path, default=Path(), help="folder that holds solutions/")


def _add_selftest(commands: Any) -> None:
    selftest = _add(
        commands,
        "selftest",
        "test keys: each gets all points, each unmodified exercise none",
        examples="""\
  kdcourse selftest
  kdcourse selftest ex02 ex13
  kdcourse selftest --key keys/                     # your own keys""",
    )
    selftest.add_argument("names", nargs="*", help="beginnings of names; every exercise if absent")
    selftest.add_argument("--key", type=_path, help="folder of keys, if not found by itself")


def _whole(text: str, what: str, least: int, most: int) -> int:
    is_number = text.isascii() and text.isdigit()  # "²" is a digit too, and no number
    if is_number and len(text) <= len(str(most)) and least <= int(text) <= most:
        return int(text)
    limit = f"; at most {most:,}" if is_number and text.strip("0") else ""
    raise argparse.ArgumentTypeError(f"must be {what}, got {console.one_line(repr(text))[:80]}{limit}")


def _count(text: str) -> int:
    return _whole(text, "a positive integer", 1, 1_000_000)


def _few(text: str) -> int:
    return _whole(text, "a positive integer", 1, 1000)


def _images(text: str) -> int:
    return _whole(text, "a positive integer", 1, 55_000)


def _seed(text: str) -> int:
    return _whole(text, "a whole number from 0", 0, _MOST_SEED)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"must be a positive number of seconds, got {text!r}")
    return value


def _path(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError("must be a path, got ''")
    return Path(text)


def _address(text: str) -> str:
    try:
        parts = urlsplit(text)
        good = parts.scheme in ("tcp", "tls", "ucx", "ws", "wss") and bool(parts.hostname and parts.port)
    except ValueError:  # a port that is no number, or out of range
        good = False
    if not good:
        raise argparse.ArgumentTypeError(f"must be a Dask scheduler's address, such as tcp://host:8786, got {text!r}")
    return text


if __name__ == "__main__":
    sys.exit(main())
