"""Files that hold results: how they are written, and whether a later run may use them again.

The grader. A result is used again only if everything it depends on is the same, which a digest tells, and if its file
is as it was written, which its seal tells.
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

FORMAT = 4  # of results; a change makes older files stale

SEAL = "seal"  # beside the fields of a result in its file


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
    """Return the result in a file if the file is as it was written and the result still holds, or None."""
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        if fields.pop(SEAL, None) != _seal_of(fields):
            return None
        result = result_from_json(fields)
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return None
    return result if result.digest == digest else None


def write_result(path: Path, result: Result) -> None:
    """Write a result atomically, with a digest of itself: one that is altered by hand or by a disk is made again."""
    fields = result.as_json()
    write_text(path, json.dumps({**fields, SEAL: _seal_of(fields)}, indent=1, ensure_ascii=False) + "\n")


def _seal_of(fields: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()
