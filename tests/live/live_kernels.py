"""A real kernel, and a front end of a few lines: it sends what JupyterLab and Colab send and keeps what they show."""

import io
import os
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


class FrontEnd:
    """Talks to one kernel; after each message it waits until the kernel is idle, as ipywidgets' front end does."""

    def __init__(self, client):
        self.client = client
        self.frames: dict[str, list[Image.Image]] = {}
        self.state: dict[str, dict] = {}
        self.trouble: list[str] = []

    def run(self, code: str) -> str:
        """Execute a cell; return what it printed."""
        # An error must not make the kernel drop the next cell, which it does for a moment unless told so.
        return self._answer(self.client.execute(code, stop_on_error=False))

    def update(self, model_id: str, **state) -> None:
        """Change a widget's state, as a hand on it does."""
        self._post(model_id, {"method": "update", "state": state, "buffer_paths": []})

    def click(self, model_id: str) -> None:
        """Press a button."""
        self._post(model_id, {"method": "custom", "content": {"event": "click"}})

    def _post(self, model_id: str, data: dict) -> None:
        message = self.client.session.msg("comm_msg", {"comm_id": model_id, "data": data})
        self.client.shell_channel.send(message)
        self._answer(message["header"]["msg_id"])

    def _answer(self, msg_id: str) -> str:
        printed, end = [], time.monotonic() + 90
        while True:
            assert time.monotonic() < end, "the kernel did not answer in time"
            message = self._read(1)
            if message is None or message["parent_header"].get("msg_id") != msg_id:
                continue
            if message["msg_type"] == "stream":
                printed.append(message["content"]["text"])
            if message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
                break
        return "".join(printed)

    def _read(self, timeout: float):
        try:
            message = self.client.get_iopub_msg(timeout=timeout)
        except Exception:  # queue.Empty, which jupyter_client raises from different places
            return None
        content = message["content"]
        if message["msg_type"] == "error":
            self.trouble.append(f"{content['ename']}: {content['evalue']}")
        if message["msg_type"] == "stream" and content["name"] == "stderr":
            self.trouble.append(content["text"])
        if message["msg_type"] == "comm_msg" and content["data"].get("method") == "update":
            self.state.setdefault(content["comm_id"], {}).update(content["data"]["state"])
            for path, buffer in zip(content["data"].get("buffer_paths", []), message.get("buffers", []), strict=False):
                if path == ["value"]:
                    image = Image.open(io.BytesIO(bytes(buffer)))
                    self.frames.setdefault(content["comm_id"], []).append(image)
        return message


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
        client.wait_for_ready(timeout=60)
        yield FrontEnd(client)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def python_of_stack(stack: str) -> Path:
    """Return the Python of this environment, or of the one with Colab's packages."""
    if stack == "current":
        return Path(sys.executable)
    import colab_env

    return colab_env.ensure()
