"""Files of data inside the package: unpacked after their checksum is verified. Chapters 01 and 09."""

import gzip
import hashlib
import zlib
from importlib.resources.abc import Traversable


def unpack(path: Traversable, *, sha256: str, what: str) -> bytes:
    """Unpack one gzip-compressed file and verify its checksum.

    Parameters
    ----------
    path : Traversable
        The ``.gz`` file.
    sha256 : str
        Hex digest that the unpacked bytes must have.
    what : str
        What the file is, as a message names it, such as ``"MNIST file"``.

    Returns
    -------
    bytes

    Raises
    ------
    ValueError
        If the file is missing, does not unpack, or has another checksum; the message names it.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "text.gz"
    >>> _ = path.write_bytes(gzip.compress(b"a large cat"))
    >>> unpack(path, sha256=hashlib.sha256(b"a large cat").hexdigest(), what="file")
    b'a large cat'
    """
    advice = "Reinstall the package: pip install --force-reinstall --no-deps kdcourse."
    try:
        raw = gzip.decompress(path.read_bytes())
    except FileNotFoundError:
        raise ValueError(f"{what} {path} is missing. {advice}") from None
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{what} {path} is damaged and does not unpack ({error}). {advice}") from None
    checksum = hashlib.sha256(raw).hexdigest()
    if checksum != sha256:
        raise ValueError(f"{what} {path} has been altered: SHA-256 {checksum}, expected {sha256}. {advice}")
    return raw
