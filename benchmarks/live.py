"""The live trainer in JupyterLab: time from a moved slider to the picture on the screen, and what live costs training.

``python -m benchmarks.live`` writes ``results/live.json``. Everything is timed in one browser on one kernel, in turn:
the same students without any picture or message, then playing untouched, then playing while T is dragged, and last two
floors: a slider that only swaps two stored pictures, in a page of its own, and the same in this notebook, where the
kernel sends the pictures and does nothing else. It takes about three minutes.
"""

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from itertools import chain
from pathlib import Path

import nbformat
import psutil
from jupyter_client import BlockingKernelClient

from benchmarks._floor import floor_latencies, open_floor, stored_picture
from benchmarks._timing import write_json
from kdcourse.records import environment

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))

from lab_browser import browser_page, drag, lab, open_notebook, slider  # noqa: E402

SETUP = """
import time, torch
from kdcourse import zoo
from kdcourse.data import load_mnist
from kdcourse.models import make_student_mlp
from kdcourse.widgets import LiveTrainer
torch.set_num_threads({threads})
mnist = load_mnist()
mnist = mnist._replace(train=mnist.train.take(20_000))
def make_live():
    torch.manual_seed(0)
    return LiveTrainer(make_student_mlp(), teacher, mnist, teacher_logits=logits)
teacher, logits = zoo.load("teacher_mlp"), None
logits = make_live().race.track.data[2]
live = make_live()
"""
# A slider whose pictures are ready: its frames say T as the trainer's do, in a text before the end of 12 bytes.
KERNEL_FLOOR = """
import struct, zlib
from kdcourse.widgets.canvas import NamedImage
from kdcourse.widgets.controls import temperature_slider
import ipywidgets
stored, floor_image = [bytes(live.image.value)], NamedImage(format="png", layout=live.image.layout)
floor_slider = temperature_slider(4.0, description="floor")
def swap(change):
    text = b"tEXttemperature" + bytes(1) + str(change["new"]).encode()
    chunk = struct.pack(">I", len(text) - 4) + text + struct.pack(">I", zlib.crc32(text))
    picture = stored[0] if len(stored) == 1 else stored[floor_image.frames % 2]
    floor_image.frames += 1
    floor_image.value = picture[:-12] + chunk + picture[-12:]
floor_image.frames = 0
floor_slider.observe(swap, "value")
ipywidgets.VBox([floor_slider, floor_image])
"""
# The same students and evaluations by the same code; no frame, no status line, no message.
BARE = """
race, start, first = live.race, time.perf_counter(), live.steps
while time.perf_counter() < start + {seconds}:
    race.advance(seconds=1)
race.rest()
print((race.step - first) / (time.perf_counter() - start))
"""


def latencies(page) -> list[float]:
    """Return the milliseconds from each move to the first frame on the screen that shows it or a later move."""
    moves, frames = page.evaluate("[slider_moves, frames_seen]")
    found = []
    for place, move in enumerate(moves):
        for frame in frames:
            if frame["time"] <= move["time"]:
                continue
            shown = float(f"{frame['temperature']:.3g}")
            if any(later["value"] == shown and later["time"] < frame["time"] for later in moves[place:]):
                found.append(frame["time"] - move["time"])
                break
    return found


def clear(page) -> None:
    page.evaluate("slider_moves.length = 0; frames_seen.length = 0")


def steps_per_second(page) -> float:
    frames = page.evaluate("frames_seen")
    return (frames[-1]["step"] - frames[0]["step"]) / (frames[-1]["time"] - frames[0]["time"]) * 1000


def percentile(values: list[float], share: float) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[round(100 * share) - 1]


def summary(values: list[float]) -> dict:
    return {
        "median_ms": round(statistics.median(values), 1),
        "p95_ms": round(percentile(values, 0.95), 1),
        "largest_ms": round(max(values), 1),
        "count": len(values),
    }


def cpu_seconds() -> tuple[float, float, float]:
    """Return the time, the CPU seconds of all programs, and those of this one with its children."""
    system = psutil.cpu_times()
    mine = [psutil.Process(), *psutil.Process().children(recursive=True)]
    own = sum(sum(process.cpu_times()[:2]) for process in mine)
    return time.monotonic(), system.user + system.system + system.nice, own


def cores_taken_by_others(before: tuple[float, float, float]) -> float:
    now, total, own = (after - start for after, start in zip(cpu_seconds(), before, strict=True))
    return round(max(0.0, total - own) / now, 2)


def wait_for_quiet(patience: float) -> None:
    """Wait until other programs have been quiet for three seconds, at most ``patience`` seconds."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        before = cpu_seconds()
        time.sleep(3)
        if cores_taken_by_others(before) < 0.15:
            return


def measure(*, rounds: int, seconds: float, threads: int, patience: float = 0.0) -> dict:
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = nbformat.v4.new_notebook(metadata={"kernelspec": kernel})
    cells = (SETUP.format(threads=threads), "live", KERNEL_FLOOR)
    notebook.cells = [nbformat.v4.new_code_cell(code) for code in cells]
    rates: dict[str, list[float]] = {"bare": [], "live": [], "live, dragged": []}
    dragged: list[list[float]] = []
    single: list[list[float]] = []
    others: list[float] = []
    floors: list[list[float]] = []
    through_kernel: list[list[float]] = []
    hand = random.Random(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        nbformat.write(notebook, folder / "live.ipynb")
        with lab(folder) as address, browser_page() as (page, complaints):
            open_notebook(page, address, "live.ipynb")
            page.wait_for_selector(".widget-play", timeout=120_000)
            page.wait_for_function("frames_seen.length > 0")
            temperature = slider(page, "T")
            of_the_floor = slider(page, "floor")
            for watched in (temperature, of_the_floor):
                watched.locator(".widget-readout").evaluate("readout => watch_slider(readout)")
            handle, play = temperature.locator(".noUi-handle"), page.locator(".widget-play button").first
            client = connect(folder)
            first_picture, floor = stored_picture(page), None
            for number in range(rounds):
                wait_for_quiet(patience)
                before = cpu_seconds()
                rates["bare"].append(run(client, BARE.format(seconds=seconds)))
                play.click()
                page.wait_for_timeout(1500)
                clear(page)
                page.wait_for_timeout(1000 * seconds)
                rates["live"].append(steps_per_second(page))

                clear(page)
                drag_to_and_fro(page, handle, seconds=seconds)
                dragged.append(latencies(page))
                rates["live, dragged"].append(steps_per_second(page))

                page.wait_for_timeout(500)
                clear(page)
                for way in (1, -1) * 10:
                    page.wait_for_timeout(hand.randint(300, 700))
                    drag(page, handle, pixels=way * hand.randint(10, 30), seconds=0.02)
                page.wait_for_timeout(600)
                single.append(latencies(page))
                play.click()  # pause
                page.wait_for_timeout(500)
                floor = floor or open_floor(page, (first_picture, stored_picture(page)))
                floors.append(time_floor(floor, seconds=seconds))
                page.bring_to_front()
                run(client, "stored.append(bytes(live.image.value)) if len(stored) == 1 else None; print(0)")
                of_the_floor.scroll_into_view_if_needed()
                clear(page)
                drag_to_and_fro(page, of_the_floor.locator(".noUi-handle"), seconds=seconds)
                through_kernel.append(latencies(page))
                temperature.scroll_into_view_if_needed()
                others.append(cores_taken_by_others(before))
                found = {name: round(values[-1]) for name, values in rates.items()}
                print(f"round {number + 1}: others took {others[-1]} cores, steps per second {found}", flush=True)
            size = page.evaluate(
                "fetch(document.querySelector('.widget-image').src).then(r => r.blob()).then(b => b.size)"
            )
            client.stop_channels()
    dragging, floor_summary, kernel_floor = (
        summary(list(chain.from_iterable(each))) for each in (dragged, floors, through_kernel)
    )
    kept = {
        name: [live / bare for live, bare in zip(rates[name], rates["bare"], strict=True)]
        for name in ("live", "live, dragged")
    }
    return {
        "what": "LiveTrainer in JupyterLab and Chromium on this machine: students 784-128-10, batch 128, two at a time",
        "slider_to_picture": {
            "while dragging": dragging,
            "while dragging, each round": [summary(values) for values in dragged],
            "single moves after a pause": summary(list(chain.from_iterable(single))),
            "single moves after a pause, each round": [summary(values) for values in single],
        },
        "floor: two stored pictures, while dragging": floor_summary,
        "floor, each round": [summary(values) for values in floors],
        "floor through the kernel: two stored pictures, while dragging": kernel_floor,
        "floor through the kernel, each round": [summary(values) for values in through_kernel],
        "p95_over_floor_through_the_kernel": round(dragging["p95_ms"] / kernel_floor["p95_ms"], 2),
        "p95_over_floor": round(dragging["p95_ms"] / floor_summary["p95_ms"], 2),
        "steps_per_second": {name: [round(value, 1) for value in values] for name, values in rates.items()},
        "rate_kept": {name: round(statistics.median(values), 3) for name, values in kept.items()},
        "rate_kept, each round": {name: [round(value, 3) for value in values] for name, values in kept.items()},
        "frame_bytes": size,
        "console_errors": complaints,
        "rounds": rounds,
        "cores_taken_by_other_programs": others,
        "seconds_each": seconds,
        "kernel_threads": threads,
    }


def time_floor(floor, *, seconds: float) -> list[float]:
    """Drag the floor's slider as long as the live trainer's, with the kernel at rest."""
    floor.bring_to_front()
    drag_to_and_fro(floor, floor.locator("#slider"), seconds=seconds)
    return floor_latencies(floor)


def drag_to_and_fro(page, handle, *, seconds: float) -> None:
    end, way = time.monotonic() + seconds, 1
    while time.monotonic() < end:
        drag(page, handle, pixels=60 * way, seconds=1.2)
        way = -way
    page.wait_for_timeout(600)


def connect(folder: Path) -> BlockingKernelClient:
    (file,) = (folder / "runtime").glob("kernel-*.json")
    client = BlockingKernelClient()
    client.load_connection_file(str(file))
    client.start_channels()
    client.wait_for_ready(timeout=60)
    return client


def run(client: BlockingKernelClient, code: str) -> float:
    printed: list[str] = []

    def keep(message: dict) -> None:
        if message["msg_type"] == "stream":
            printed.append(message["content"]["text"])

    client.execute_interactive(code, output_hook=keep, timeout=120)
    return float("".join(printed))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument(
        "--threads", type=int, default=1, help="threads of the kernel; the browser needs a core as well"
    )
    parser.add_argument("--patience", type=float, default=60, help="seconds to wait for a quiet machine, each round")
    options = parser.parse_args()
    before = environment()["load_average"]
    record = measure(rounds=options.rounds, seconds=options.seconds, threads=options.threads, patience=options.patience)
    record["load_average_before"] = before
    print(json.dumps(record, indent=2))
    print(write_json("live", record))


if __name__ == "__main__":
    main()
