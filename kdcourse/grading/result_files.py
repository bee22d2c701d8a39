"""Files that hold results: how they are written, and whether a later run may use them again.

The grader. A result is used again only if everything it depends on is the same, which a digest tells.
"""

import functools
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .notebooks import notebook_text, write_text
from .results import Result, result_from_json
from .sandbox import PACKAGE

FORMAT = 3  # of results; a change makes older files stale


def digest_of(submission: bytes, key: Mapping[str, Any], **settings: object) -> str:
    """Return a digest of what a result depends on: submission, key, package, settings."""
    parts = [submission, notebook_text(dict(key)).encode(), repr((FORMAT, sorted(settings.items()))).encode()]
    digest = hashlib.sha256()
    for part in [*parts, _package_digest()]:
        digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()[:32]


@functools.lru_cache(maxsize=1)
def _package_digest() -> bytes:
    """Return a digest of the package's version and text: in a checkout the checks change while the version stays."""
    from .. import __version__

    digest = hashlib.sha256(__version__.encode())
    for path in sorted(PACKAGE.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.digest()


def read_result(path: Path, digest: str) -> Result | None:
    """Return the result in a file if the file is whole and the result still holds, or None."""
    try:
        result = result_from_json(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return result if result.digest == digest else None


def write_result(path: Path, result: Result) -> None:
    """Write a result atomically."""
    write_text(path, json.dumps(result.as_json(), indent=1, ensure_ascii=False) + "\n")
