"""Are digits that touch read correctly? Single digits, pairs and threes of MNIST's test digits, with fixed seeds.

    python dev/bench/touching.py model.onnx ../shared/mnist --count 1000

Prints, for single digits and each way in which digits touch, the share read correctly, called sure, and called sure and
wrong, also of the sure ones; how many images the model reads, and the CPU time of `split`. The threshold is that of the
release's manifest, if the model's folder has one.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from groups import WAYS, Group, Writer
from pens import Model

from digits.data.number import images_of, split


def read(model: Model, group: Group, threshold: float | None) -> tuple[Any, ...]:
    """Return whether a drawing is right, sure, and sure and wrong, how many images were read, and milliseconds."""
    started = time.process_time()
    digits = split(np.pad(group.ink, max(group.ink.shape) // 3))
    seconds = time.process_time() - started
    answer, sure = model.read(digits, threshold)
    right = answer == group.label
    return right, sure, sure and not right, len(images_of(digits)), 1000 * seconds


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("mnist", type=Path)
    parser.add_argument("--count", type=int, default=300, help="drawings of each number of digits")
    parser.add_argument("--first", type=int, default=0, help="seed")
    parser.add_argument("--part", choices=("t10k", "train"), default="t10k")
    given = parser.parse_args()
    cv2.setNumThreads(1)
    manifest = given.model.with_name("manifest.json")
    threshold = json.loads(manifest.read_text())["calibration"]["threshold"] if manifest.exists() else None
    model, r = Model(given.model), np.random.default_rng(given.first)
    first, last = (55_000, 60_000) if given.part == "train" else (0, 10_000)  # those that the network did not learn
    writer = Writer(given.mnist, given.part, first, last, given.count)
    print("digits  how        drawings  right   sure  sure and wrong  of the sure  images  ms  most ms")
    for digits in (1, 2, 3):
        groups = [
            writer.single(r, wide=bool(r.random() < 0.2)) if digits == 1 else writer.group(r, digits)
            for _ in range(given.count)
        ]
        rows = np.array([read(model, group, threshold) for group in groups])
        for way in ("single",) if digits == 1 else (*WAYS, "all"):
            chosen = rows[[way in (group.way, "all") for group in groups]]
            right, sure, wrong, images, spent = chosen.mean(0)
            print(
                f"{digits:6}  {way:10} {len(chosen):8} {right:6.1%} {sure:6.1%} {wrong:15.2%} "
                f"{wrong / max(sure, 1e-9):12.2%} {images:7.1f} {spent:3.0f} {chosen[:, 4].max():8.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
