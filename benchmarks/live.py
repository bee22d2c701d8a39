"""The live trainer in JupyterLab: time from a moved slider to the picture on the screen, and what live costs training.

``python -m benchmarks.live`` writes ``results/live.json``. Everything is timed in one browser on one kernel, in turn:
the same students without any picture or message, then playing untouched, then playing while T is dragged, and last the
floor: a slider that only swaps two stored pictures. It takes about two minutes.
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
    notebook.cells = [nbformat.v4.new_code_cell(code) for code in (SETUP.format(threads=threads), "live")]
    rates: dict[str, list[float]] = {"bare": [], "live": [], "live, dragged": []}
    dragged: list[list[float]] = []
    single: list[list[float]] = []
    others: list[float] = []
    floors: list[list[float]] = []
    hand = random.Random(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        nbformat.write(notebook, folder / "live.ipynb")
        with lab(folder) as address, browser_page() as (page, complaints):
            open_notebook(page, address, "live.ipynb")
            page.wait_for_selector(".widget-play", timeout=120_000)
            page.wait_for_function("frames_seen.length > 0")
            temperature = slider(page, "T")
            temperature.locator(".widget-readout").evaluate("readout => watch_slider(readout)")
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
                end, way = time.monotonic() + seconds, 1
                while time.monotonic() < end:
                    drag(page, handle, pixels=60 * way, seconds=1.2)
                    way = -way
                page.wait_for_timeout(600)
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
                others.append(cores_taken_by_others(before))
                found = {name: round(values[-1]) for name, values in rates.items()}
                print(f"round {number + 1}: others took {others[-1]} cores, steps per second {found}", flush=True)
            size = page.evaluate(
                "fetch(document.querySelector('.widget-image').src).then(r => r.blob()).then(b => b.size)"
            )
            client.stop_channels()
    dragging, floor_summary = summary(list(chain.from_iterable(dragged))), summary(list(chain.from_iterable(floors)))
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
    handle, end, way = floor.locator("#slider"), time.monotonic() + seconds, 1
    while time.monotonic() < end:
        drag(floor, handle, pixels=60 * way, seconds=1.2)
        way = -way
    floor.wait_for_timeout(600)
    return floor_latencies(floor)


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
