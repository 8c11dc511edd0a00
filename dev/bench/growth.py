"""Growth: the steps as the data grows, and the predictor as the requests come faster than it can answer.

    python -m dev.bench.growth [--images 60000,960000,9600000] [--rates 0.5,0.8,1.2,2,3] [--keep | --render]

The larger sets are MNIST with shifted copies; each step runs in a process of its own, training for one epoch of the
preset fast. Requests come at a fixed rate (dev.bench.overload), as multiples of what wrk got out of the server just
before, on one core, the client on another. --keep writes dev/bench/results/growth.json and the tables of
docs/scale.md, for which it also needs serving.json; --render writes them again from the stored results.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from dev.bench import load, results, servers, serving, training
from digits.data import blocks
from digits.data.dataset import Dataset, empty
from digits.files import write_json
from digits.results import CollectedFeedback, FetchedData, PreparedData, Result, read
from digits.tasks.task import find

STEPS = ("prepare", "train")
STEP_SECONDS, REST_SECONDS, LOAD_SECONDS = 3600, 2, 5
OPEN_LOOP = ("digits V1", "bare Starlette", "KServe sample")
CONNECTIONS = 4096
BUSY = 0.6  # of a core, on average; the rest is for peaks, and for the seconds until a new replica is ready


def grow(dataset: Dataset, times: int) -> Iterator[Dataset]:
    """Yield `dataset` and `times - 1` copies of it, each shifted by up to two pixels, with its number in a corner."""
    draw = np.random.default_rng(times)
    yield dataset
    for number in range(1, times):
        images = np.roll(dataset.images, draw.integers(-2, 3, 2), (1, 2))
        images[:, 0, 0] = number % 256  # equal blocks would be prepared once
        yield Dataset(images, dataset.labels)


def write_fetched(folder: Path, data: Path, count: int) -> None:
    """Write the results of the first two steps, with `count` training images, in blocks of 60,000."""
    fetched = folder / "fetched"
    train, test = (Dataset(*training.mnist(data, part)) for part in ("train", "test"))
    fetched_data = FetchedData(
        "mnist",
        "",
        train=blocks.write(fetched / "train", grow(train, count // len(train))),
        test=test.save(fetched / "test.npz"),
        train_count=count,
        test_count=len(test),
        task=find("digits").text(),
    )
    write_json(folder / "data.json", asdict(fetched_data))
    empty().save(folder / "feedback.npz")


def one(step: str, folder: Path) -> dict[str, float]:
    """Run one step in this process. Return its seconds and CPU seconds, without imports, and its peak memory."""
    from digits import steps

    sets = {f"{name}_set": folder / name for name in ("train", "validation", "test")}
    if step == "train":
        import digits.training.export
        import digits.training.fit  # noqa: F401 # imported before the clock runs
    began, busy = time.perf_counter(), time.process_time()
    if step == "prepare":
        data, feedback = _read(FetchedData, folder / "data.json"), CollectedFeedback(empty().digest(), 0, 0)
        result = steps.prepare(folder / "fetched", folder / "feedback.npz", data, feedback, 1, **sets)
        write_json(folder / "prepare.json", asdict(result))
    else:
        prepared, chosen = _read(PreparedData, folder / "prepare.json"), {"epochs": 1, "seed": 1}
        outputs = folder / "model", folder / "history.json"
        steps.train(sets["train_set"], sets["validation_set"], prepared, chosen, *outputs)
    spent = {"seconds": time.perf_counter() - began, "cpu": time.process_time() - busy}
    return spent | {"bytes": servers.peak(os.getpid())}


def _read(kind: type[Result], path: Path) -> Result:
    return read(kind, json.loads(path.read_text()))


def data_growth(data: Path, counts: list[int]) -> dict[str, dict[str, dict[str, float]]]:
    """Return {images: {step: {"seconds", "cpu", "bytes"}}}."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for count in counts:
        with tempfile.TemporaryDirectory(prefix="digits-bench-") as folder:
            write_fetched(Path(folder), data, count)
            for step in STEPS:
                command = [sys.executable, "-m", "dev.bench.growth", "--one", step, folder]
                home = os.environ | {"DIGITS_HOME": str(Path(folder, "home"))}
                done = subprocess.run(command, stdout=subprocess.PIPE, timeout=STEP_SECONDS, check=True, env=home)
                found.setdefault(str(count), {})[step] = json.loads(done.stdout.splitlines()[-1])
                print(count, step, found[str(count)][step], file=sys.stderr)
    return found


def load_growth(folder: Path, data: Path, rates: list[float]) -> dict[str, dict[str, Any]]:
    """Return {contestant: {"capacity": requests a second, "runs": the outcome of each rate}}."""
    core, client = servers.cores()
    images, _ = serving.test_images(data)
    found: dict[str, dict[str, Any]] = {}
    for asked in (contestant for contestant in load.CONTESTANTS if contestant.name in OPEN_LOOP):
        with servers.running(asked.server, folder, core) as server, tempfile.TemporaryDirectory() as scratch:
            body = Path(scratch, "open-loop")
            body.write_bytes(asked.body(images[:1]))
            closed = [load.measure(asked, server, images[:1], 16, 2, client, Path(scratch)) for _ in range(3)]
            capacity = statistics.median(figures["rate"] for figures in closed)
            runs = []
            for rate in rates:
                request = [str(server.port), asked.path, str(body), str(rate * capacity), str(LOAD_SECONDS)]
                command = [sys.executable, "-m", "dev.bench.overload", *request, str(CONNECTIONS)]
                done = subprocess.run(
                    ["taskset", "-c", client, *command], stdout=subprocess.PIPE, timeout=STEP_SECONDS, check=True
                )
                runs.append(json.loads(done.stdout))
                print(asked.name, rate, runs[-1], file=sys.stderr)
                time.sleep(REST_SECONDS)
            found[asked.name] = {"capacity": capacity, "runs": runs}
    return found


def render_data(found: dict[str, Any]) -> str:
    """Return the figures of the steps as the data grows, as Markdown."""
    rows = []
    for step in STEPS:
        for what, name, unit in (("seconds", "s", 1), ("cpu", "s of CPU", 1), ("bytes", "MiB at most", 2**20)):
            cells = [f"{by_step[step][what] / unit:,.{unit == 1:d}f}" for by_step in found["data"].values()]
            rows.append([f"`{step}`, {name}", *cells])
    table = results.table(["images", *(f"{int(count):,}" for count in found["data"])], rows)
    return f"{results.measured(found)}. {found['note']}\n\n{table}"


def render_load(found: dict[str, Any]) -> str:
    """Return the goodput as the request rate grows, as Markdown."""
    rows = []
    for name, row in found["load"].items():
        for run in row["runs"]:
            times = run["offered"] / row["capacity"]
            failed = run["late"] + run["lost"]
            counts = (f"{value:,.0f}" for value in (run["offered"], run["good"], run["refused"], failed))
            rows.append([f"{name}, {times:.1f} x capacity", *counts, f"{run['p50']:.0f}", f"{run['p99']:.0f}"])
    return results.table(["per second", "offered", "good", "503", "late or lost", "p50, ms", "p99, ms"], rows)


def render_needs(measured: dict[str, Any]) -> str:
    """Return the resources for a rate of requests, from the processor time of one request, as Markdown."""
    gib, rows = measured["memory"]["digits"] / 2**30, []
    for name, case in (("digits V1", "1 image"), ("digits V2 binary", "1 image"), ("digits V2 binary", "32 images")):
        runs = measured["runs"][name][f"{case}, 16 connections"]
        cpu = statistics.median(figures["cpu"] for figures in runs) / serving.CASES[case]
        for rate in (1, 100, 100_000):
            replicas = max(1, math.ceil(rate * cpu / 1000 / BUSY))
            cells = (f"{cpu:.3f}", f"{rate * cpu / 1000:.2g}", f"{replicas:,}", f"{replicas * gib:,.1f}")
            rows.append([f"{rate:,} images/s, {name.removeprefix('digits ')}, {case} a request", *cells])
    return results.table(["", "CPU an image, ms", "cores busy", "replicas", "memory, GiB"], rows)


def write(found: dict[str, Any]) -> None:
    """Put the tables into docs/scale.md."""
    results.into_page("scale.md", "data", render_data(found))
    results.into_page("scale.md", "load", render_load(found))
    results.into_page("scale.md", "needs", render_needs(results.kept("serving")))


def main() -> None:
    """Measure and print; keep if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", default="60000,960000,9600000", help="multiples of 60000")
    parser.add_argument("--rates", default="0.5,0.8,1.2,2,3", help="of the server's capacity; '': the kept figures")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("DIGITS_DATA") or "../shared/mnist"))
    parser.add_argument("--release", type=Path, help="a release's folder, instead of one made by a run")
    parser.add_argument("--note", default="", help="a sentence for the page, on the machine's state for one")
    parser.add_argument("--keep", action="store_true", help="keep the figures and refresh the documentation")
    parser.add_argument("--render", action="store_true", help="refresh the documentation from the figures kept")
    parser.add_argument("--one", nargs=2, metavar=("STEP", "FOLDER"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(one(given.one[0], Path(given.one[1]))))
        return
    if given.render:
        write(results.kept("growth"))
        return
    found = results.head("python -m dev.bench.growth") | {"note": given.note}
    if given.rates:
        folder = (given.release or servers.release(given.data)).absolute()
        found["load"] = load_growth(folder, given.data, [float(rate) for rate in given.rates.split(",")])
    else:
        found["load"] = results.kept("growth")["load"]
    found["data"] = data_growth(given.data, [int(count) for count in given.images.split(",")])
    print(render_data(found), render_load(found), sep="\n")
    if given.keep:
        results.keep("growth", found)
        write(found)


if __name__ == "__main__":
    main()
