"""What all commands share on the terminal: output that no code page stops, and one line for each failure."""

import codecs
import contextlib
import errno
import os
import sys
import unicodedata

# What these letters become where the terminal cannot show them; other letters lose their accents or are escaped.
PLAIN = {"±": "+-", "×": "x", "−": "-", "–": "-", "≥": ">=", "≤": "<=", "→": "->", "…": "...", "α": "alpha", "²": "^2"}


class OutputClosed(Exception):
    """Nobody reads the output any more, as after ``| head -1``."""


def never_stop_at_a_letter() -> None:
    """Let standard output and error write every text, whatever their encoding is."""
    codecs.register_error("kdcourse.plain", _plain)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="kdcourse.plain")


def say(text: str) -> None:
    """Print a result at once. If standard output cannot be written, the result goes to standard error.

    Raises
    ------
    OutputClosed
        If the reader of a pipe has gone.
    OSError
        If standard output cannot be written, for example because the disk is full.
    """
    try:
        print(text, flush=True)
    except BrokenPipeError:
        raise OutputClosed from None
    except OSError as error:
        if error.errno == errno.EINVAL:  # a closed pipe, as Windows says it
            raise OutputClosed from None
        print(text, file=sys.stderr)
        raise OSError(error.errno, error.strerror, "standard output") from None


def complain(text: str) -> None:
    """Write one line to standard error; if that is closed too, nobody is left to be told."""
    with contextlib.suppress(OSError):
        print(one_line(text), file=sys.stderr, flush=True)


def one_line(text: str) -> str:
    """Return a text as one line, in which every letter can be seen and none moves the cursor."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape", "surrogatepass").decode()
        for letter in " ".join(text.split())
    )


def sentence_about(error: OSError) -> str:
    """Say which file could not be used, and why."""
    names = " to ".join(str(name) for name in (error.filename, error.filename2) if name is not None)
    try:
        os.getcwd()
    except FileNotFoundError:  # an error that nobody puts a name on
        names = names or "the current folder"
    return f"{names}: {error.strerror}" if names and error.strerror else str(error)


def let_go_of_closed_streams() -> None:
    """Send what is left in the buffers nowhere, so that Python does not complain about a closed pipe as it ends."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OSError:
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _plain(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    letters = []
    for letter in error.object[error.start : error.end]:
        bare = unicodedata.normalize("NFKD", letter).encode("ascii", "ignore").decode()
        letters.append(PLAIN.get(letter) or bare or letter.encode("unicode_escape", "surrogatepass").decode())
    return "".join(letters), error.end
