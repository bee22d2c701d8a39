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

    The file's folder is made if needed; a file that is there already stays as it is.

    Raises
    ------
    OSError
        If the file could not be written; the error names ``path``.
    """
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent) as file:
            file.write(bytes(size))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
