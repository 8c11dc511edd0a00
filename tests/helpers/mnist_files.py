"""Small data sets in MNIST's file format (IDX)."""

from __future__ import annotations

import struct

import numpy as np

from digits.data import catalog

FILES = (catalog.TRAIN_IMAGES, catalog.TRAIN_LABELS, catalog.TEST_IMAGES, catalog.TEST_LABELS)


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
