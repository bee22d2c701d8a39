"""The progress bar of everything that takes long. Imported late: tqdm is not needed to train."""

from typing import Any


def progress_bar(*, total: int | None, done: int, show: bool) -> Any:
    """Return a bar that counts steps; hidden, it costs nothing.

    Parameters
    ----------
    total, done : int
        Steps in all (None if that is not known), and steps of an earlier session.
    show : bool
        Whether anything is drawn.

    Examples
    --------
    >>> with progress_bar(total=10, done=0, show=False) as bar:
    ...     bar.update()
    """
    from tqdm import tqdm

    return tqdm(total=total, initial=done, disable=not show, leave=False, unit="step", mininterval=0.25)
