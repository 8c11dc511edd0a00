"""Slices of a test set: groups of images that a model may recognise worse, although it gains on the others."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from digits.data.dataset import Dataset, Images
from digits.tasks.task import Task

# By reading: the thirds of each class's images, from the smallest value of the property to the largest.
THIRDS = {
    "pen": {
        "slant": ("leaning left", "upright", "leaning right"),
        "stroke": ("thin strokes", "medium strokes", "thick strokes"),
        "ink": ("little ink", "medium ink", "much ink"),
    },
    "photo": {"light": ("dark pictures", "medium pictures", "bright pictures")},
}


def slices(dataset: Dataset, task: Task) -> dict[str, NDArray[np.bool_]]:
    """Return masks (n,) by name: each class and the thirds by each property; for drawings, each class's by slant."""
    labels, thirds = dataset.labels, THIRDS[task.reading]
    classes = {class_name(task, n): labels == n for n in range(len(task.labels))}
    result = dict(classes)
    for name, values in (_strokes if task.reading == "pen" else _light)(dataset.images).items():
        third = np.zeros(len(labels), int)
        for mask in classes.values():
            own = np.flatnonzero(mask)
            third[own[np.argsort(values[own], kind="stable")]] = 3 * np.arange(len(own)) // max(1, len(own))
        result |= {text: third == n for n, text in enumerate(thirds[name])}
    slants = thirds.get("slant", ())
    result |= {f"{name} {text}": mask & result[text] for name, mask in classes.items() for text in slants}
    return {name: mask for name, mask in result.items() if mask.any()}


def class_name(task: Task, label: int) -> str:
    """Return the name of a class's slice: 7s, or "rose"."""
    return f"{label}s" if task.is_number else f'"{task.labels[label]}"'


def _light(images: Images) -> dict[str, NDArray[np.float64]]:
    """Return the mean of each image, (n,)."""
    return {"light": images.reshape(len(images), -1).mean(axis=1)}


def _strokes(images: Images) -> dict[str, NDArray[np.float64]]:
    """Return the slant (pixels to the right per pixel up), the stroke's width and the ink of images, (n,) each."""
    level = images.astype(np.float32) / 255
    ink = np.maximum(level.sum(axis=(1, 2)), 1)
    x, y = (
        (side := np.arange(images.shape[3 - axis], dtype=np.float32)) - (level.sum(axis=axis) @ side / ink)[:, None]
        for axis in (1, 2)
    )
    across = np.einsum("nyx,ny,nx->n", level, y, x)
    padded = np.pad(level, ((0, 0), (1, 1), (1, 1)))
    outline = np.hypot(np.diff(padded, axis=2)[:, :-1], np.diff(padded, axis=1)[:, :, :-1]).sum(axis=(1, 2))
    return {
        "slant": -across / np.maximum(np.einsum("nyx,ny->n", level, y**2), 1),
        "stroke": 2 * ink / np.maximum(outline, 1),  # as digits.data.preprocessing.stroke_width
        "ink": ink,
    }
