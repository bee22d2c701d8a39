"""``kdcourse zoo``: list the trained teachers, or train one again."""

import argparse

from .. import zoo
from .._files import check_writable
from ..training import choose_threads, pick_device
from .console import say


def run(options: argparse.Namespace) -> int:
    """List the teachers, or train the named one."""
    return _train(options) if options.action == "train" else _list()


def _list() -> int:
    for name, teacher in zoo.TEACHERS.items():
        record = zoo.provenance(name)
        say(f"{name:<20} {zoo.score(record)}: {teacher.about}")
        say(f"{'':<20} settings: {record['settings_chosen']}")
    return 0


def _train(options: argparse.Namespace) -> int:
    zoo.is_shipped(options.name)  # a name that is unknown is told before anything else
    device = pick_device(options.device)
    weights = options.folder / f"{options.name}.safetensors"
    if weights.exists() and not options.force:
        raise ValueError(f"{weights} exists: choose another --folder, or replace it with --force.")
    check_writable(weights, size=2**23)
    if options.checkpoint is not None:
        check_writable(options.checkpoint, size=2**23)
    choose_threads()
    record = zoo.train_teacher(
        options.name, seed=options.seed, epochs=options.epochs, folder=options.folder, force=options.force,
        device=device, checkpoint=options.checkpoint,
    )  # fmt: skip
    say(f"{record['name']}: {zoo.score(record)}: {weights}")
    return 0
