"""A real kernel, and a front end of a few lines: it sends what JupyterLab and Colab send and keeps what they show.

Many tests share one kernel, because a start takes seconds. So that none needs another, ``forget`` takes away the names
that a test has made. A test that relied on one meets the kernel's NameError, alone and in any order.
"""

import io
import json
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import KernelManager
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
PATIENCE = 300  # seconds: for a machine that does other things as well; nothing is judged by it
FORGET = """
for _name in [*globals()]:
    if not _name.startswith("_") and _name not in _kept:
        del globals()[_name]
"""
ESCAPES = re.compile(r"\x1b\[[\d;]*m")  # the colours of a traceback


class CellError(Exception):
    """A cell failed: the kernel's own message and traceback."""


class FrontEnd:
    """Talks to one kernel; after each message it waits until the kernel is idle, as ipywidgets' front end does.

    ``shown`` holds what was displayed; ``trouble`` what the kernel wrote to stderr, and the errors met by a
    message of a widget.
    """

    def __init__(self, client, is_alive):
        self.client, self.is_alive = client, is_alive
        self.name = ""
        self.frames: dict[str, list[Image.Image]] = {}
        self.state: dict[str, dict] = {}
        self.shown: list[dict] = []
        self.trouble: list[str] = []

    def run(self, code: str) -> str:
        """Execute a cell; return what it printed, or raise ``CellError`` with what the kernel says of its error."""
        # An error must not make the kernel drop the next cell, which it does for a moment unless told so.
        printed, error = self._answer(self.client.execute(code, stop_on_error=False))
        if error is not None:
            raise CellError(_describe_error(error, code))
        return printed

    def ask(self, expression: str):
        """Return the value of an expression in the kernel, through JSON."""
        return json.loads(self.run(f"import json; print(json.dumps({expression}))"))

    def keep(self) -> None:
        """Note the kernel's names: what ``forget`` leaves."""
        self.run("_kept = {*globals()}")

    def forget(self) -> None:
        """Take away the names that came after ``keep``, and all that was seen since."""
        self.run(FORGET)
        self.frames, self.state, self.shown, self.trouble = {}, {}, [], []

    def update(self, model_id: str, **state) -> None:
        """Change a widget's state, as a hand on it does."""
        self._post(model_id, {"method": "update", "state": state, "buffer_paths": []})

    def click(self, model_id: str) -> None:
        """Press a button."""
        self._post(model_id, {"method": "custom", "content": {"event": "click"}})

    def _post(self, model_id: str, data: dict) -> None:
        message = self.client.session.msg("comm_msg", {"comm_id": model_id, "data": data})
        self.client.shell_channel.send(message)
        _, error = self._answer(message["header"]["msg_id"])
        if error is not None:
            self.trouble.append(_describe_error(error))

    def _answer(self, msg_id: str) -> tuple[str, dict | None]:
        """Wait until the kernel has dealt with a message; return what it printed and the error it met, if any."""
        printed, error, end = [], None, time.monotonic() + PATIENCE
        while True:
            assert time.monotonic() < end, "the kernel did not answer in time"
            message = self._read(1)
            assert message or self.is_alive(), "the kernel has died"
            if message is None or message["parent_header"].get("msg_id") != msg_id:
                continue
            if message["msg_type"] == "stream" and message["content"]["name"] == "stdout":
                printed.append(message["content"]["text"])
            if message["msg_type"] == "error":
                error = message["content"]
            if message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
                break
        return "".join(printed), error

    def _read(self, timeout: float):
        try:
            message = self.client.get_iopub_msg(timeout=timeout)
        except Exception:  # queue.Empty, which jupyter_client raises from different places
            return None
        content = message["content"]
        if message["msg_type"] == "stream" and content["name"] == "stderr":
            self.trouble.append(content["text"])
        if message["msg_type"] == "display_data":
            self.shown.append(content)
        if message["msg_type"] == "comm_msg" and content["data"].get("method") == "update":
            self.state.setdefault(content["comm_id"], {}).update(content["data"]["state"])
            for path, buffer in zip(content["data"].get("buffer_paths", []), message.get("buffers", []), strict=False):
                if path == ["value"]:
                    image = Image.open(io.BytesIO(bytes(buffer)))
                    self.frames.setdefault(content["comm_id"], []).append(image)
        return message


def _describe_error(content: dict, code: str = "") -> str:
    lines = [f"{content['ename']}: {content['evalue']}", *content["traceback"]]
    if code:
        lines += ["in the cell", code]
    return ESCAPES.sub("", "\n".join(lines))


@contextmanager
def front_end(python: str | Path) -> Iterator[FrontEnd]:
    """Start a kernel of that Python and hand out a front end for it."""
    argv = [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    manager = KernelManager()
    manager._kernel_spec = KernelSpec(argv=argv, display_name="test", language="python")
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    manager.start_kernel(env=environment | {"OMP_NUM_THREADS": "1", "PYDEVD_DISABLE_FILE_VALIDATION": "1"})
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=PATIENCE)
        yield FrontEnd(client, manager.is_alive)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def python_of_stack(stack: str) -> Path:
    """Return the Python of this environment, or of the one with Colab's packages."""
    if stack == "current":
        return Path(sys.executable)
    import colab_env

    return colab_env.ensure()
