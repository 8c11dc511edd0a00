"""Serving side by side: our predictor and its peers, one core, the same ONNX file and client; start, memory, size.

    python -m dev.bench.serving [--repeats 5] [--seconds 2] [--only digits,bare,kserve] [--keep | --render]

Every server runs on one core, alone while the others are suspended, the client (wrk; ghz for gRPC) on another; the
contestants take turns. One image and 32 a request, over 1 and 16 connections. Peers get environments of their own on
first use; one that cannot be had is named and left out. --keep writes dev/bench/results/serving.json, the plot and
the tables of docs/performance.md; --render writes them again from the stored results.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import os
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from dev.bench import environments, load, results, servers
from dev.bench.environments import Unavailable
from digits.data.dataset import Images

CASES = {"1 image": 1, "32 images": 32}
CONNECTIONS = (1, 16)
BASE = "digits V1"
PEERS = ("KServe sample", "MLServer", "mlflow", "BentoML", "LitServe")
Runs = dict[str, dict[str, list[load.Figures]]]


def test_images(data: Path) -> tuple[Images, list[int]]:
    """Return the first 32 of MNIST's test images and their labels."""
    images = gzip.decompress((data / "t10k-images-idx3-ubyte.gz").read_bytes())[16 : 16 + 32 * 784]
    labels = gzip.decompress((data / "t10k-labels-idx1-ubyte.gz").read_bytes())[8:40]
    return np.frombuffer(images, np.uint8).reshape(32, 28, 28), list(labels)


def throughput(
    folder: Path, images: Images, labels: list[int], names: list[str], repeats: int, seconds: int
) -> dict[str, Any]:
    """Measure all contestants in all cases in turns. Return {"runs", "memory" per server, "left_out" with reasons}."""
    core, client = servers.cores()
    up: dict[str, servers.Server] = {}
    left_out: dict[str, str] = {}
    contestants = []
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="digits-bench-")))
        for contestant in (one for one in load.CONTESTANTS if one.server in names):
            try:
                if contestant.server in left_out:
                    continue
                if contestant.server not in up:
                    up[contestant.server] = stack.enter_context(servers.running(contestant.server, folder, core))
                load.check(contestant, up[contestant.server], images, labels)
                load.measure(contestant, up[contestant.server], images[:1], 16, 1, client, scratch)  # warms it up
                contestants.append(contestant)
            except Unavailable as exc:
                name = contestant.name if contestant.server in up else contestant.server
                left_out[name] = str(exc)
                print(f"left out: {name}: {exc}", file=sys.stderr)
        runs: Runs = {one.name: {} for one in contestants}
        for _ in range(repeats):
            for case, count in CASES.items():
                for connections in CONNECTIONS:
                    for one in contestants:
                        with servers.alone(one.server, up) as server:
                            figures = load.measure(one, server, images[:count], connections, seconds, client, scratch)
                        if figures["errors"]:
                            raise SystemExit(f"{one.name}, {case}, {connections} connections: {figures}")
                        runs[one.name].setdefault(_key(case, connections), []).append(figures)
                print(f"{case}: " + ", ".join(_last(runs, case)), file=sys.stderr)
        memory = {name: server.peak() for name, server in up.items()}
    return {"runs": runs, "memory": memory, "left_out": left_out}


def _key(case: str, connections: int) -> str:
    return f"{case}, {connections} connection{'s' if connections > 1 else ''}"


def _last(runs: Runs, case: str) -> list[str]:
    key = _key(case, CONNECTIONS[-1])
    return [f"{name} {cases[key][-1]['rate']:.0f}" for name, cases in runs.items()]


def starts(folder: Path, names: list[str], repeats: int) -> dict[str, dict[str, Any]]:
    """Return, per server, the seconds from start to ready on all cores, and the bytes then and of its packages."""
    found: dict[str, dict[str, Any]] = {}
    for _ in range(repeats):
        for name in names:
            with servers.running(name, folder) as server:
                row = found.setdefault(name, {"seconds": [], "idle": server.peak(), "size": 0})
                row["seconds"].append(server.ready_after)
    for name, row in found.items():
        row["size"] = environments.size(environments.python(name))
    return found


def goals(runs: Runs) -> list[tuple[str, str, str, bool]]:
    """Return (subject, goal, found, whether it is reached), from the medians of the ratios within a round."""
    one, many = _key("1 image", 1), _key("1 image", 16)
    rows = []
    for peer in (name for name in PEERS if name in runs):
        times = min(ratio(runs, BASE, peer, key) for key in (one, many))
        rows.append((f"V1 over {peer}, times", "2 or more", f"{times:.1f}", times >= 2))
    if "bare Starlette" in runs:
        share = min(ratio(runs, BASE, "bare Starlette", key) for key in (one, many))
        rows.append(("V1 over bare Starlette, times", "0.9 or more", f"{share:.2f}", share >= 0.9))
    if "digits V2 binary" in runs:
        for case in CASES:
            times = min(ratio(runs, "digits V2 binary", BASE, _key(case, n)) for n in CONNECTIONS)
            rows.append((f"V2 binary over V1, {case}, times", "1.5 or more", f"{times:.2f}", times >= 1.5))
    if BASE in runs:
        tail = max(statistics.median(f["p99"] / f["p50"] for f in runs[BASE][key]) for key in (one, many))
        rows.append(("V1, p99 over p50", "below 4", f"{tail:.1f}", tail < 4))
    return rows


def ratio(runs: Runs, name: str, other: str, key: str) -> float:
    """Return the median ratio of requests per second to those of `other` in the same round."""
    pairs = zip(runs[name][key], runs[other][key], strict=True)
    return statistics.median(ours["rate"] / theirs["rate"] for ours, theirs in pairs)


def render(found: dict[str, Any]) -> str:
    """Return the figures as Markdown."""
    runs: Runs = found["runs"]
    parts = [f"{results.measured(found)}; median (least to most) of {found['repeats']} rounds.\n"]
    if found["note"]:
        parts.append(f"{found['note']}\n")
    for key in next(iter(runs.values())):
        rows = []
        for name, cases in runs.items():
            rates, tails = [f["rate"] for f in cases[key]], cases[key]
            times = f"{ratio(runs, name, BASE, key):.2f}" if BASE in runs else ""
            also = [f"{statistics.median(f[p] for f in tails):.2f}" for p in ("p50", "p99", "cpu")]
            rows.append([name, results.spread(rates), times, *also])
        header = [f"**{key}**", "requests/s", "of our V1", "p50, ms", "p99, ms", "server's CPU a request, ms"]
        parts.append(results.table(header, rows))
    rows = [[what, goal, got, "yes" if reached else "**no**"] for what, goal, got, reached in goals(runs)]
    parts.append(
        results.table(
            ["goal (one image unless stated; the worse of 1 and 16 connections)", "", "measured", "reached"], rows
        )
    )
    rows = []
    for name, row in found["starts"].items():
        loaded = found["memory"].get(name)
        mib = [f"{size / 2**20:,.0f}" if size else "" for size in (row["idle"], loaded, row["size"])]
        rows.append([name, results.spread(row["seconds"], ".1f"), *mib])
    header = ["server", "ready after, s", "memory then, MiB", "maximum under load, MiB", "packages, MiB"]
    parts.append(results.table(header, rows))
    parts += [f"Left out: {name} ({why.splitlines()[0]}).\n" for name, why in found["left_out"].items()]
    return "\n".join(parts)


def write(found: dict[str, Any]) -> None:
    """Put table and plot into the documentation."""
    key = _key("1 image", 16)
    medians = {name: statistics.median(f["rate"] for f in cases[key]) for name, cases in found["runs"].items()}
    title = f"Requests a second on one core: {key}"
    results.bars(results.ROOT / "docs" / "pictures" / "serving.svg", title, medians)
    results.into_page("performance.md", "serving", render(found))


def main() -> None:
    """Measure and print; keep if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2, help="of each measurement")
    parser.add_argument("--only", default=",".join(servers.NAMES), help="the servers to compare")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("DIGITS_DATA") or "../shared/mnist"))
    parser.add_argument("--release", type=Path, help="a release's folder, instead of one made by a run")
    parser.add_argument("--note", default="", help="a sentence for the page, on the machine's state for one")
    parser.add_argument("--keep", action="store_true", help="keep the figures and refresh the documentation")
    parser.add_argument("--render", action="store_true", help="refresh the documentation from the figures kept")
    given = parser.parse_args()
    if given.render:
        write(results.kept("serving"))
        return
    if missing := [program for program in ("wrk", "taskset", "uv") if not shutil.which(program)]:
        parser.error(f"not on PATH: {', '.join(missing)} (wrk: apt-get install wrk; taskset: util-linux; uv: pip)")
    names = given.only.split(",")
    if unknown := set(names) - set(servers.NAMES):
        parser.error(f"expected servers of {', '.join(servers.NAMES)}, got {', '.join(sorted(unknown))}")
    folder = (given.release or servers.release(given.data)).absolute()
    images, labels = test_images(given.data)
    found = results.head("python -m dev.bench.serving") | {"repeats": given.repeats, "note": given.note}
    found |= throughput(folder, images, labels, names, given.repeats, given.seconds)
    ready = [name for name in names if name in found["memory"]]
    found["starts"] = starts(folder, [*ready, "gateway"], given.repeats)
    print(render(found))
    if given.keep:
        results.keep("serving", found)
        write(found)


if __name__ == "__main__":
    main()
