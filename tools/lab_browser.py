"""JupyterLab in a folder of its own with a headless Chromium in front of it: for the browser test and the benchmark."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Locator, Page, sync_playwright

PATIENCE = 240  # seconds: for a machine that does other things as well; nothing is judged by it
CHROMIUM = [
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-quic", "--no-first-run",
]  # fmt: skip

BADGE = "https://colab.research.google.com/assets/colab-badge.svg"
EMPTY_SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="117" height="20"/>'

# Run in the page before anything else. It reads the text that a frame carries in its PNG, and notes when it was seen.
WATCH = """
window.frames_seen = [];
window.slider_moves = [];
const texts = new Map(), create = URL.createObjectURL;
URL.createObjectURL = blob => {
  const url = create.call(URL, blob);
  if (blob.type === 'image/png') texts.set(url, blob.arrayBuffer().then(buffer => {
    const view = new DataView(buffer), found = {};
    for (let at = 8; at < view.byteLength;) {
      const size = view.getUint32(at), kind = String.fromCharCode(...new Uint8Array(buffer, at + 4, 4));
      if (kind === 'tEXt') {
        const [key, value] = String.fromCharCode(...new Uint8Array(buffer, at + 8, size)).split('\\0');
        found[key] = Number(value);
      }
      at += size + 12;
    }
    return found;
  }));
  return url;
};
document.addEventListener('load', event => {
  const text = event.target.tagName === 'IMG' && texts.get(event.target.src);
  if (!text) return;
  // The frame after the next one begins when the picture is on the screen.
  requestAnimationFrame(() => requestAnimationFrame(() => {
    const time = performance.now();
    text.then(found => window.frames_seen.push({time, ...found}));
  }));
}, true);
window.watch_slider = readout => {
  let moved = 0;  // when the browser got the move of the mouse
  window.addEventListener('mousemove', event => { moved = event.timeStamp; }, true);
  new MutationObserver(() => {
    const value = Number(readout.textContent), last = window.slider_moves.at(-1);
    if (!last || last.value !== value) window.slider_moves.push({time: moved, value});
  }).observe(readout, {characterData: true, childList: true, subtree: true});
};
"""


@contextmanager
def lab(folder: Path, *, dark: bool = False, seconds: float = PATIENCE) -> Iterator[str]:
    """Start JupyterLab with its settings, its kernels' files and its home inside a folder; hand out its address."""
    settings = {
        "apputils-extension/themes": {"theme": f"JupyterLab {'Dark' if dark else 'Light'}"},
        "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    }
    for name, content in settings.items():
        path = folder / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content), encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **os.environ,
        "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces"),
        "JUPYTER_CONFIG_DIR": str(folder / "config"),
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        "IPYTHONDIR": str(folder / "ipython"),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
    }
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}", "--port-retries=0",
        "--ip=127.0.0.1", "--IdentityProvider.token=", f"--ServerApp.root_dir={folder}",
        "--LabApp.expose_app_in_browser=True",  # as jupyterapp: a test switches the theme with it
    ]  # fmt: skip
    log = (folder / "lab.log").open("w", encoding="utf-8")
    server = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT)
    address = f"http://127.0.0.1:{port}"
    try:
        _wait_for(address, server, folder / "lab.log", seconds)
        yield address
    finally:
        server.terminate()
        try:
            server.wait(15)
        except subprocess.TimeoutExpired:
            server.kill()
        log.close()


@contextmanager
def browser_page(*, width: int = 1366, height: int = 900) -> Iterator[tuple[Page, list[str]]]:
    """Open a page in headless Chromium; hand it out with the list of what its console called an error."""
    with sync_playwright() as playwright:
        chromium = os.environ.get("KDCOURSE_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM)
        page = browser.new_page(viewport={"width": width, "height": height})
        page.set_default_timeout(1000 * PATIENCE)
        complaints: list[str] = []
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        # The one thing a chapter asks the web for; anything else from outside is a complaint.
        page.route(BADGE, lambda route: route.fulfill(content_type="image/svg+xml", body=EMPTY_SVG))
        page.add_init_script(WATCH)
        try:
            yield page, complaints
        finally:
            browser.close()


def open_notebook(page: Page, address: str, name: str) -> None:
    """Open a notebook and run all its cells; return when the kernel has done them."""
    page.goto(f"{address}/lab/tree/{name}?reset", wait_until="domcontentloaded")
    page.wait_for_selector(".jp-NotebookPanel .jp-Cell")
    # The page stands before its kernel does, and calls itself idle: cells run then make JupyterLab ask which kernel.
    page.locator(".jp-Toolbar-kernelName", has_not_text="No Kernel").first.wait_for()
    page.wait_for_selector(".jp-Notebook-ExecutionIndicator[data-status='idle']")
    if page.locator(".jp-SideBar.jp-mod-left .lm-TabBar-tab.lm-mod-current").count():
        page.keyboard.press("Control+b")  # the file browser takes room from the picture
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()


def slider(page: Page, label: str) -> Locator:
    """Return the first slider on the page whose label says exactly this."""
    return page.locator(".widget-label", has_text=re.compile(f"^{re.escape(label)}$")).first.locator("xpath=..")


def drag(page: Page, handle: Locator, *, pixels: int, seconds: float = 1.0) -> None:
    """Drag a slider's handle to the right (or left, if negative) at the pace of a hand, 50 moves a second."""
    box = handle.bounding_box()
    assert box is not None, "the handle is not on the page"
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    moves = max(1, round(seconds * 50))
    page.mouse.move(x, y)
    page.mouse.down()
    for move in range(1, moves + 1):
        page.mouse.move(x + pixels * move / moves, y)
        page.wait_for_timeout(20)
    page.mouse.up()


def _wait_for(address: str, server: subprocess.Popen, log: Path, seconds: float) -> None:
    end = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(f"{address}/api", timeout=2):
                return
        except OSError:
            if server.poll() is not None or time.monotonic() > end:
                text = log.read_text(encoding="utf-8")[-2000:]
                raise RuntimeError(f"JupyterLab did not start:\n{text}") from None
            time.sleep(0.2)
