"""Measure `digits batch`: the time of a batch, and whether kills at random moments change what it writes.

    python -m dev.bench.batch [--images 960000] [--kills 20]

It uses the champion of DIGITS_HOME (`digits run` makes one) and repeats MNIST's test images of DIGITS_DATA.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from digits.data import fetch
from digits.files import sha256_of_folder
from digits.settings import Settings

SECONDS = 1800


def write_images(path: Path, count: int) -> None:
    """Write `count` images to an IDX file."""
    settings = Settings.load()
    test = fetch.fetch(settings.declaration, "mnist", fetch.open_place(settings), settings.home / "data").test.images
    with path.open("wb") as file:
        file.write(bytes([0, 0, 8, 3]) + np.array((count, *test.shape[1:]), ">u4").tobytes())
        for start in range(0, count, len(test)):
            file.write(test[: count - start].tobytes())


def start(images: Path, output: Path) -> subprocess.Popen[bytes]:
    """Start the command."""
    command = [sys.executable, "-m", "digits", "batch", str(images), str(output), "--quiet", "--json"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)


def finish(child: subprocess.Popen[bytes]) -> float:
    """Wait until the command ends, and return the seconds of waiting."""
    began = time.perf_counter()
    if child.wait(SECONDS):
        raise SystemExit(f"digits batch failed with exit code {child.returncode}")
    return time.perf_counter() - began


def main() -> None:
    """Measure, and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=960_000)
    parser.add_argument("--kills", type=int, default=20)
    given = parser.parse_args()
    dice = random.Random(0)  # not for cryptography
    with tempfile.TemporaryDirectory(prefix="digits-bench-") as name:
        folder = Path(name)
        write_images(images := folder / "images-idx3-ubyte", given.images)
        seconds = finish(start(images, folder / "undisturbed"))
        for _ in range(given.kills):
            child = start(images, folder / "killed")
            time.sleep(dice.uniform(0, seconds / 2))
            os.killpg(child.pid, signal.SIGKILL)
            child.wait(SECONDS)
        finish(start(images, folder / "killed"))
        found: dict[str, Any] = {
            "images": given.images,
            "seconds": round(seconds, 1),
            "kills": given.kills,
            "same": sha256_of_folder(folder / "killed") == sha256_of_folder(folder / "undisturbed"),
        }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
