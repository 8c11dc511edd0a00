"""Labelled images in memory and in files; joining and splitting them. See `blocks` for sets larger than the memory."""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from digits.errors import DataError
from digits.files import whole_file
from digits.tasks.task import MAX_LABELS, MAX_SIDE, MIN_SIDE, Task

Images = NDArray[np.uint8]
Labels = NDArray[np.uint8]
Indices = NDArray[np.int64]

REMEDY = "run again with --no-cache to create it again"


@dataclass(frozen=True)
class Dataset:
    """Images `uint8 (n, height, width)`, in colour `(n, height, width, 3)`, and their labels `uint8 (n,)`.

    For digits, 0 is paper and 255 ink. A label is the index of a class in the task's labels.

    Raises:
        DataError: an array has another shape, type or range.
    """

    images: Images
    labels: Labels

    def __post_init__(self) -> None:
        images, labels = self.images, self.labels
        if images.dtype != np.uint8 or not (images.ndim == 3 or (images.ndim == 4 and images.shape[3] == 3)):
            expected = "images uint8 (n, height, width) or (n, height, width, 3)"
            raise DataError(f"expected {expected}, got {images.dtype} {images.shape}")
        if not all(MIN_SIDE <= side <= MAX_SIDE for side in images.shape[1:3]):
            raise DataError(f"expected images of {MIN_SIDE} to {MAX_SIDE} pixels on a side, got {images.shape}")
        if labels.dtype != np.uint8 or labels.shape != images.shape[:1]:
            raise DataError(f"expected labels uint8 ({len(images)},), got {labels.dtype} {labels.shape}")
        if len(labels) and labels.max() >= MAX_LABELS:
            raise DataError(f"expected labels below {MAX_LABELS}, found {labels.max()}")

    def __len__(self) -> int:
        return len(self.labels)

    def digest(self) -> str:
        """Return the hex SHA-256 over count, images and labels, independent of the file format."""
        hashed = hashlib.sha256(len(self).to_bytes(8, "big"))
        hashed.update(np.ascontiguousarray(self.images).data)
        hashed.update(np.ascontiguousarray(self.labels).data)
        return hashed.hexdigest()

    def check(self, task: Task) -> Dataset:
        """Return the data set. Raises DataError unless it has the task's image size, channels and labels."""
        if self.images.shape[1:] != task.shape:
            raise DataError(f"expected images of {task.shape} for the task {task.name}, got {self.images.shape[1:]}")
        if len(self) and self.labels.max() >= len(task.labels):
            raise DataError(f"expected labels below {len(task.labels)} for {task.name}, found {self.labels.max()}")
        return self

    def __getitem__(self, index: Any) -> Dataset:
        return Dataset(self.images[index], self.labels[index])

    def save(self, path: Path) -> str:
        """Write a NumPy `.npz` file, whatever the suffix of `path`. Return the digest of the data set."""
        with whole_file(path) as file:
            np.savez(file, images=self.images, labels=self.labels)
        return self.digest()

    @staticmethod
    def load(path: Path, *, digest: str = "") -> Dataset:
        """Read a file that `save` wrote.

        Raises:
            DataError: the file is missing or damaged, or the data set's digest is not `digest`.
        """
        dataset = Dataset(*_load_arrays(path, "images", "labels"))
        if digest and dataset.digest() != digest:
            raise DataError(
                f"the data set {path} changed: expected digest {digest}, found {dataset.digest()}", remedy=REMEDY
            )
        return dataset


def empty(shape: tuple[int, ...] = (28, 28)) -> Dataset:
    """Return a data set without images of this shape."""
    return Dataset(np.empty((0, *shape), np.uint8), np.empty(0, np.uint8))


def join(*parts: Dataset) -> Dataset:
    """Return the data sets joined in order."""
    return Dataset(np.concatenate([p.images for p in parts]), np.concatenate([p.labels for p in parts]))


def load_labels(path: Path) -> Labels:
    """Return the labels in a file of `Dataset.save`, unverified, without reading the images. Raises DataError."""
    return _load_arrays(path, "labels")[0]


def _load_arrays(path: Path, *names: str) -> list[NDArray[Any]]:
    """Return arrays of a file that `Dataset.save` wrote. Raises DataError if it is missing or damaged."""
    try:
        with zipfile.ZipFile(path) as archive:
            # `save` does not compress. A compressed file could be far larger in memory than on disk.
            if any(part.compress_type != zipfile.ZIP_STORED for part in archive.infolist()):
                raise ValueError("it is compressed")
        with np.load(path, allow_pickle=False) as file:
            return [file[name] for name in names]
    except (OSError, ValueError, KeyError, MemoryError, zipfile.BadZipFile) as exc:  # a header may claim any size
        raise DataError(f"cannot read the data set {path}: {exc}", remedy=REMEDY) from exc


MAX_VALIDATION = 50_000  # images; the standard error of an accuracy of 99 % is then 0.04 points


def split_validation(labels: Labels, share: int, seed: int) -> tuple[Indices, Indices]:
    """Return the indices of the rest, and of one in `share` images, at most MAX_VALIDATION, for validation.

    `seed` chooses them and the order of both. If a class has few images, it is one in `share` of each class, at least
    one, unless that is the class's only one.

    Raises:
        DataError: there are too few images.
    """
    counts, order = np.bincount(labels), np.random.default_rng(seed).permutation(len(labels))
    if len(labels) and counts[counts > 0].min() >= 2 * share:
        count = min(len(labels) // share, MAX_VALIDATION)
        return order[count:], order[:count]
    members = [order[labels[order] == label] for label in np.flatnonzero(counts > 1)]
    chosen = np.concatenate([part[: max(1, len(part) // share)] for part in members] or [order[:0]])
    if not len(chosen):
        raise DataError(
            f"expected at least 2 images of a class to validate with, got {len(labels)} of different classes"
        )
    held = np.isin(order, chosen)
    return order[~held], order[held]


# A few corrections among tens of thousands of images would have no effect, so each is repeated. All of them add at most
# this share to the training set.
FEEDBACK_SHARE = 0.05
FEEDBACK_REPEATS = 60


def repeat_feedback(count: int, train_count: int) -> Indices:
    """Return the indices of the corrections, of `count`, that are added to `train_count` images, each up to 60 times.

    They add at most FEEDBACK_SHARE to the training set; corrections beyond that are left out.
    """
    used = min(count, int(train_count * FEEDBACK_SHARE))
    repeats = min(FEEDBACK_REPEATS, int(train_count * FEEDBACK_SHARE) // used) if used else 0
    return np.tile(np.arange(used), repeats)
