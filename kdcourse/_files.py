"""Files that are written atomically. Used by checkpoints, the zoo, sweeps, commands and records."""

import errno
import os
import tempfile
from collections.abc import Callable
from pathlib import Path


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file so that readers see the old content or the new, never a part of it.

    Parameters
    ----------
    path : Path
        The file. Its folder is made if needed.
    write : callable
        ``write(temporary)`` writes the content to a temporary file beside ``path``, which then replaces ``path``. If
        it raises, ``path`` is as before and the temporary file is removed.

    Raises
    ------
    OSError
        If the file cannot be written; the error names ``path``.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}"[:100] + ".")
        os.close(handle)
        write(Path(temporary))
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno is not None:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def check_writable(path: Path, *, size: int) -> None:
    """Raise unless a file of about ``size`` bytes can be written there. Asked before long work, so that none is lost.

    Nothing is left behind: a file that exists stays as it is, and a missing folder is not made.

    Raises
    ------
    OSError
        If the file could not be written; the error names ``path``.
    """
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        folder = next(parent for parent in path.absolute().parents if parent.exists())
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(size))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
