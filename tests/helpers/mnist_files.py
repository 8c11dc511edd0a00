"""Small data sets in MNIST's file format (IDX)."""

from __future__ import annotations

import dataclasses
import struct

import numpy as np

from digits.data.idx import FILES
from digits.files import sha256_of
from digits.tasks.task import DataFile, Task, find


def idx(array: np.ndarray) -> bytes:
    """An array as an IDX file."""
    return b"\0\0\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def tiny_files() -> dict[str, bytes]:
    """A data set in MNIST's form of seven and three images."""
    rng = np.random.default_rng(5)
    content = {}
    for (images, labels), count in zip((FILES[:2], FILES[2:]), (7, 3), strict=True):
        content[images] = idx(rng.integers(0, 256, (count, 28, 28), np.uint8))
        content[labels] = idx(rng.integers(0, 10, count).astype(np.uint8))
    return content


def tiny_task(*mirrors: str, content: dict[str, bytes] | None = None) -> Task:
    """The task digits, whose data set has these files, by default `tiny_files`, and mirrors."""
    files = {name: DataFile(sha256_of(raw), len(raw)) for name, raw in (content or tiny_files()).items()}
    digits = find("digits")
    return dataclasses.replace(digits, data=dataclasses.replace(digits.data, files=files, mirrors=mirrors))
