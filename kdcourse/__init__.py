"""A course on knowledge distillation, and the reference code for it.

``kdcourse.losses`` holds the formulas, ``kdcourse.training`` the loop, ``kdcourse.recipes`` what a method does
beyond one loss. Importing the package loads neither matplotlib nor ipywidgets.
"""

from importlib import metadata as _metadata

from ._moved import keep_old_names as _keep_old_names

try:
    __version__ = _metadata.version("kdcourse")
except _metadata.PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"

_keep_old_names(__name__)

__all__ = ["__version__", "check_env"]


def check_env() -> None:
    """Print one short table of what works here (device, threads, widgets); see ``kdcourse doctor`` for all of it."""
    from .commands.doctor import check_env as run

    run()
