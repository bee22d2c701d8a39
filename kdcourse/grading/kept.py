"""Results that are kept: under what name they hold, and whether they still do.

The grader.
"""

import functools
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .notebooks import notebook_text
from .sandbox import PACKAGE

FORMAT = 1  # of results; a change makes kept ones stale


def fingerprint(data: bytes, key: Mapping[str, Any], **settings: object) -> str:
    """Return a short name for what a result depends on: submission, key, package, settings."""
    parts = [data, notebook_text(dict(key)).encode(), repr((FORMAT, sorted(settings.items()))).encode(), _package()]
    digest = hashlib.sha256()
    for part in parts:
        digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()[:32]


@functools.lru_cache(maxsize=1)
def _package() -> bytes:
    """Return a hash of the package's version and text: in a checkout the checks change while the version stays."""
    from .. import __version__

    digest = hashlib.sha256(__version__.encode())
    for path in sorted(PACKAGE.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.digest()


def kept(path: Path, mark: str) -> dict[str, Any] | None:
    """Return the result in a file if it is whole and still holds, or None."""
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return result if isinstance(result, dict) and result.get("mark") == mark else None
