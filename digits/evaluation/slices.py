"""Slices of a test set: groups of images that a model may recognise worse, although it gains on the others."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from digits.data.dataset import Dataset, Images

# The thirds of each digit's images, from the smallest value of the property to the largest.
THIRDS = {
    "slant": ("leaning left", "upright", "leaning right"),
    "stroke": ("thin strokes", "medium strokes", "thick strokes"),
    "ink": ("little ink", "medium ink", "much ink"),
}


def slices(dataset: Dataset) -> dict[str, NDArray[np.bool_]]:
    """Return masks (n,) by name: each digit, the thirds by slant, stroke and ink, and each digit's thirds by slant."""
    labels = dataset.labels
    result = {f"{digit}s": labels == digit for digit in range(10)}
    for name, values in _properties(dataset.images).items():
        third = np.zeros(len(labels), int)
        for digit in range(10):
            own = np.flatnonzero(labels == digit)
            third[own[np.argsort(values[own], kind="stable")]] = 3 * np.arange(len(own)) // max(1, len(own))
        result |= {text: third == n for n, text in enumerate(THIRDS[name])}
    slants = THIRDS["slant"]
    result |= {f"{digit}s {text}": result[f"{digit}s"] & result[text] for digit in range(10) for text in slants}
    return {name: mask for name, mask in result.items() if mask.any()}


def _properties(images: Images) -> dict[str, NDArray[np.float64]]:
    """Return the slant (pixels to the right per pixel up), the stroke's width and the ink of images, (n,) each."""
    level = images.astype(np.float32) / 255
    ink = np.maximum(level.sum(axis=(1, 2)), 1)
    side = np.arange(images.shape[1], dtype=np.float32)
    x, y = (side - (level.sum(axis=axis) @ side / ink)[:, None] for axis in (1, 2))
    across = np.einsum("nyx,ny,nx->n", level, y, x)
    padded = np.pad(level, ((0, 0), (1, 1), (1, 1)))
    outline = np.hypot(np.diff(padded, axis=2)[:, :-1], np.diff(padded, axis=1)[:, :, :-1]).sum(axis=(1, 2))
    return {
        "slant": -across / np.maximum(np.einsum("nyx,ny->n", level, y**2), 1),
        "stroke": 2 * ink / np.maximum(outline, 1),  # as digits.data.preprocessing.stroke_width
        "ink": ink,
    }
