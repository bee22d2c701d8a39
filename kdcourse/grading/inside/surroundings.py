"""What a learner's code gets in its hands beside its own names: a stream to print to, and a stand-in for IPython.

The inner half of the grader. Nothing else is in this module, because code can reach the module of each object it holds.
"""

import io
from typing import Any

MOST_OUTPUT = 4_000  # characters kept of what a cell prints


class Printed(io.TextIOBase):
    """A stream that keeps the beginning of what is written and counts the rest."""

    def __init__(self) -> None:
        self.kept: list[str] = []
        self.size = 0

    def write(self, text: str) -> int:
        """Keep the text while there is room."""
        if self.size < MOST_OUTPUT:
            self.kept.append(str(text)[: MOST_OUTPUT - self.size])
        self.size += len(text)
        return len(text)

    def writable(self) -> bool:
        """Answer what libraries ask of a stream."""
        return True


class Shell:
    """Stands for IPython's shell in ``get_ipython().…``: every method does nothing."""

    def __getattr__(self, name: str) -> Any:
        """Return something that can be called."""
        return lambda *args, **kwargs: None


def display(*args: Any, **kwargs: Any) -> None:
    """Stand for IPython's function: nobody sees what is shown."""


def fresh_names() -> dict[str, Any]:
    """Return the names that a notebook has before its first cell."""
    return {"get_ipython": Shell, "display": display}
