"""Files that are written atomically. Used by checkpoints, the zoo, sweeps and records."""

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
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    try:
        write(Path(temporary))
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
