"""One request, one reply, a line of JSON each: the inner end of the line to the grader.

The inner half of the grader. Requests are read and replies are written by functions in C that were taken before a
learner's code ran, because the module ``json`` is the learner's to change. The handles are the learner's too: a thread
can read the next request, nonce and all. So a reply is signed, with a key that came before any code of the learner's.
"""

import hmac
import json
import json.encoder
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, BinaryIO

from .bench import Bench, Shared
from .scan import suspicious, taken_from_the_package

MOST_TOLD = 100  # names in one reply
_write = os.write
_sign = hmac.digest
_parse = getattr(json.JSONDecoder(), "scan_once")  # noqa: B009 - the stubs do not know it
_make_encoder = getattr(json.encoder, "c_make_encoder", None)


def _refuse(value: Any) -> None:
    raise TypeError(f"a {type(value).__name__} is no part of a reply")


def _make_chunks() -> Callable[[Any, int], Iterable[str]]:
    if _make_encoder is None:  # a Python without it
        return lambda message, _: [json.dumps(message)]
    quote = json.encoder.encode_basestring_ascii
    return _make_encoder(None, _refuse, quote, None, ": ", ", ", False, False, True)


_chunks = _make_chunks()


def serve(requests: BinaryIO, replies: int, shared: Shared | None = None) -> None:
    """Answer requests until there are no more; each reply carries the nonce of its request, and is signed."""
    actions: dict[str, Callable[..., Any]] = {"scan": _scan}
    key = b""
    for line in requests:
        request = _parse(line.decode(), 0)[0]
        nonce, action = request.pop("nonce"), request.pop("action")
        if action == "begin":
            key = request["key"].encode()
            bench = Bench(request["imports"], request["answers"], shared)
            actions |= {kind: getattr(bench, kind) for kind in ("learner", "locked", "check", "canary")}
            reply: dict[str, Any] = {}
        else:
            reply = actions[action](**request)
        reply = {name: value[:MOST_TOLD] if type(value) is list else value for name, value in reply.items()}
        del request, line
        _send(replies, {"nonce": nonce, **reply}, key)


def forget_the_grader() -> None:
    """Take the grader's own modules out of Python's table: whoever imports them gets copies that nothing uses."""
    for name in [name for name in sys.modules if name.startswith("kdcourse.grading")]:
        del sys.modules[name]
    package = sys.modules.get("kdcourse")
    if package is not None:
        vars(package).pop("grading", None)


def _scan(sources: list[str], asked: list[str]) -> dict[str, Any]:
    # The package's own answers first: of very many only the first are told.
    return {"flags": taken_from_the_package(sources, asked) + suspicious(sources)}


def _send(replies: int, message: Mapping[str, Any], key: bytes) -> None:
    data = "".join(_chunks(message, 0)).encode()  # ASCII, so half a surrogate pair is no trouble
    data = _sign(key, data, "sha256").hex().encode() + b" " + data + b"\n"
    while data:
        data = data[_write(replies, data) :]
