"""Training side by side: our presets, the earlier design, keras.io's convnet.

    python -m dev.bench.training --seeds 5 --out training.json [--contestants fast,accurate,baseline,keras-io]

Each contestant trains with each seed in a process of its own, in turns, so that a busy machine treats them alike. The
clock runs from the first to the last epoch with the building of the graph, without imports. The sets that are measured
are never trained or tuned on.
"""

from __future__ import annotations

import argparse
import datetime
import gzip
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dev.bench import drawings

CONTESTANTS = ("fast", "accurate", "baseline", "keras-io")
VALIDATION = 5000
_LONGEST_SECONDS = 7200
_FILES = {"train": "train-images-idx3 train-labels-idx1", "test": "t10k-images-idx3 t10k-labels-idx1"}


def mnist(folder: Path, part: str) -> drawings.Labelled:
    """Return the IDX files of a part, "train" or "test"."""
    images, labels = (
        np.frombuffer(gzip.decompress((folder / f"{name}-ubyte.gz").read_bytes()), np.uint8)
        for name in _FILES[part].split()
    )
    return images[16:].reshape(-1, 28, 28), labels[8:]


def write_sets(folder: Path, file: Path) -> None:
    """Write the sets that each contestant gets: train, validation, test, and digits from other sources."""
    images, labels = mnist(folder, "train")
    order = np.random.default_rng(0).permutation(len(images))
    held, kept = order[:VALIDATION], order[VALIDATION:]
    validation = images[held], labels[held]
    sets = {
        "train": (images[kept], labels[kept]),
        "validation": validation,
        "test": mnist(folder, "test"),
        "scans": drawings.scans(),
        "moved": drawings.moved(validation),
        "pen": drawings.pen(validation),
        "sketched": drawings.sketched(4000),
    }
    np.savez(file, **{f"{name}_{i}": array for name, pair in sets.items() for i, array in enumerate(pair)})


def run_once(contestant: str, seed: int, file: Path) -> dict[str, float]:
    """Train one contestant in this process. Return its seconds and its accuracy on each set."""
    with np.load(file) as arrays:
        sets = {name[:-2]: (arrays[name], arrays[name[:-1] + "1"]) for name in arrays if name.endswith("_0")}
    train, validation = sets.pop("train"), sets["validation"]
    if contestant == "keras-io":
        model, seconds = _keras_io(train, seed)
        last = {}
    else:
        from digits.tasks.task import find
        from digits.training.fit import train as fit
        from digits.training.recipe import TrainingConfig

        choice = {"model": "baseline"} if contestant == "baseline" else {"preset": contestant}
        start = time.perf_counter()
        fitted = fit(train, validation, TrainingConfig(seed=seed, **choice), task=find("digits"))
        model, seconds = fitted.model, time.perf_counter() - start
        last = {"last_epoch": fitted.history[-1].seconds}
    return {"seconds": seconds} | last | {name: _accuracy(model, *pair) for name, pair in sets.items()}


def _keras_io(train: drawings.Labelled, seed: int) -> tuple[Any, float]:
    """Train keras.io's "Simple MNIST convnet" as on its page: 15 epochs, a tenth held out."""
    from digits.training.tensorflow import keras

    keras.utils.set_random_seed(seed)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(32, kernel_size=(3, 3), activation="relu"),
            layers.MaxPooling2D(pool_size=(2, 2)),
            layers.Conv2D(64, kernel_size=(3, 3), activation="relu"),
            layers.MaxPooling2D(pool_size=(2, 2)),
            layers.Flatten(),
            layers.Dropout(0.5),
            layers.Dense(10, activation="softmax"),
        ]
    )
    start = time.perf_counter()
    images, labels = train[0][..., None].astype("float32") / 255, keras.utils.to_categorical(train[1], 10)
    model.compile(loss="categorical_crossentropy", optimizer="adam", metrics=["accuracy"])
    model.fit(images, labels, batch_size=128, epochs=15, validation_split=0.1, verbose=0)
    return model, time.perf_counter() - start


def _accuracy(model: Any, images: drawings.Images, labels: npt.NDArray[np.uint8]) -> float:
    answers = [
        np.asarray(model(images[i : i + 1000, ..., None] / np.float32(255), training=False)).argmax(1)
        for i in range(0, len(images), 1000)
    ]
    return float((np.concatenate(answers) == labels).mean())


def summarise(runs: dict[str, list[dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Return median, spread and mean of each contestant's figures; `ratio` is to the baseline of the same round."""
    table = {}
    for name, rounds in runs.items():
        seconds = [one["seconds"] for one in rounds]
        row = {"seconds": statistics.median(seconds), "least": min(seconds), "most": max(seconds)}
        if "baseline" in runs:
            pairs = zip(rounds, runs["baseline"], strict=False)
            row["ratio"] = statistics.median(one["seconds"] / base["seconds"] for one, base in pairs)
        for key in rounds[0].keys() - {"seconds"}:
            row[key] = statistics.mean(one[key] for one in rounds)
        row["test_sd"] = statistics.stdev(one["test"] for one in rounds) if len(rounds) > 1 else 0.0
        table[name] = row
    return table


def show(table: dict[str, dict[str, float]]) -> None:
    """Print the table: seconds as median (least to most), accuracies in per cent as means."""
    print(f"{'':10} {'seconds':>22} {'ratio':>6} {'test':>14} {'valid.':>7}  scans  moved    pen sketched")
    for name, row in table.items():
        print(
            f"{name:10} {row['seconds']:7.1f} ({row['least']:.1f} to {row['most']:.1f})".ljust(33),
            f"{row.get('ratio', float('nan')):6.3f} {100 * row['test']:6.2f} ± {100 * row['test_sd']:.2f}",
            *(f"{100 * row[key]:6.2f}" for key in ("validation", "scans", "moved", "pen", "sketched")),
        )


def main() -> None:
    """Run the contestants in turns and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--contestants", default=",".join(CONTESTANTS))
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("DIGITS_DATA") or "../shared/mnist"))
    parser.add_argument("--out", type=Path, help="JSON file for all runs")
    parser.add_argument("--one", nargs=3, metavar=("CONTESTANT", "SEED", "SETS"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(run_once(given.one[0], int(given.one[1]), Path(given.one[2]))))
        return
    names = given.contestants.split(",")
    if unknown := set(names) - set(CONTESTANTS):
        parser.error(f"expected contestants of {', '.join(CONTESTANTS)}, got {', '.join(sorted(unknown))}")
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as folder:
        sets = Path(folder, "sets.npz")
        write_sets(given.data, sets)
        for seed in range(given.seeds):
            for name in names:
                command = [sys.executable, "-m", "dev.bench.training", "--one", name, str(seed), str(sets)]
                done = subprocess.run(command, stdout=subprocess.PIPE, timeout=_LONGEST_SECONDS, check=True)
                runs[name].append(json.loads(done.stdout.splitlines()[-1]))
                print(f"{name} {seed}: {runs[name][-1]}", file=sys.stderr)
    table = summarise(runs)
    show(table)
    if given.out:
        machine = {"cores": os.cpu_count(), "processor": platform.machine(), "system": platform.platform()}
        date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        given.out.write_text(
            json.dumps({"date": date, "machine": machine, "table": table, "runs": runs}, indent=2) + "\n"
        )


if __name__ == "__main__":
    main()
