"""Labelled digit images in memory and on disk, and how they are joined and split."""

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

Images = NDArray[np.uint8]
Labels = NDArray[np.uint8]


@dataclass(frozen=True)
class Dataset:
    """Images `uint8 (n, 28, 28)`, 0 paper to 255 ink, and their labels `uint8 (n,)` in 0..9.

    Raises:
        DataError: the arrays are not of that shape, type or range.
    """

    images: Images
    labels: Labels

    def __post_init__(self) -> None:
        images, labels = self.images, self.labels
        if images.dtype != np.uint8 or images.ndim != 3 or images.shape[1:] != (28, 28):
            raise DataError(f"expected images uint8 (n, 28, 28), got {images.dtype} {images.shape}")
        if labels.dtype != np.uint8 or labels.shape != images.shape[:1]:
            raise DataError(f"expected labels uint8 ({len(images)},), got {labels.dtype} {labels.shape}")
        if len(labels) and labels.max() > 9:
            raise DataError(f"expected labels 0 to 9, found {labels.max()}")

    def __len__(self) -> int:
        return len(self.labels)

    def digest(self) -> str:
        """Hex SHA-256 over count, images and labels: what was learned from, whatever file it lay in."""
        hashed = hashlib.sha256(len(self).to_bytes(8, "big"))
        hashed.update(np.ascontiguousarray(self.images).data)
        hashed.update(np.ascontiguousarray(self.labels).data)
        return hashed.hexdigest()

    def __getitem__(self, index: Any) -> Dataset:
        return Dataset(self.images[index], self.labels[index])

    def save(self, path: Path) -> str:
        """Write as NumPy's `.npz` (whatever the name), whole. Returns the digest."""
        with whole_file(path) as file:
            np.savez(file, images=self.images, labels=self.labels)
        return self.digest()

    @staticmethod
    def load(path: Path, *, digest: str = "") -> Dataset:
        """Read what `save` wrote.

        Raises:
            DataError: the file is missing, damaged, or its content has not the given digest.
        """
        try:
            with zipfile.ZipFile(path) as packed:
                # `save` compresses nothing, so a file cannot become larger than it is; and an array's head may claim
                # any size, for which memory is taken before there is anything to put in it.
                if any(part.compress_type != zipfile.ZIP_STORED for part in packed.infolist()):
                    raise ValueError("it is compressed")
            with np.load(path, allow_pickle=False) as file:
                dataset = Dataset(file["images"], file["labels"])
        except (OSError, ValueError, KeyError, MemoryError, zipfile.BadZipFile) as exc:
            raise DataError(
                f"cannot read the data set {path}: {exc}", remedy="run again with --no-cache to make it anew"
            ) from exc
        if digest and dataset.digest() != digest:
            raise DataError(
                f"the data set {path} changed: expected digest {digest}, found {dataset.digest()}",
                remedy="run again with --no-cache to make it anew",
            )
        return dataset


def empty() -> Dataset:
    """A data set without images."""
    return Dataset(np.empty((0, 28, 28), np.uint8), np.empty(0, np.uint8))


def join(*parts: Dataset) -> Dataset:
    """The data sets one after the other."""
    return Dataset(np.concatenate([p.images for p in parts]), np.concatenate([p.labels for p in parts]))


def split(dataset: Dataset, count: int, seed: int) -> tuple[Dataset, Dataset]:
    """(rest, `count` images chosen at random by `seed`), both in a random order.

    Raises:
        DataError: there are not more than `count` images.
    """
    if not 0 < count < len(dataset):
        raise DataError(f"cannot split {count} images off {len(dataset)}")
    order = np.random.default_rng(seed).permutation(len(dataset))
    return dataset[order[count:]], dataset[order[:count]]


# A handful of corrected drawings among tens of thousands would teach nothing, so each is shown several
# times an epoch, but together they never make up more than this share of the training set.
FEEDBACK_SHARE = 0.05
FEEDBACK_REPEATS = 60


def with_feedback(train: Dataset, feedback: Dataset) -> Dataset:
    """`train` with corrected drawings repeated among it, at most FEEDBACK_SHARE of its size (the first ones)."""
    room = int(len(train) * FEEDBACK_SHARE)
    if not len(feedback) or not room:
        return train
    feedback = feedback[:room]
    return join(train, *[feedback] * min(FEEDBACK_REPEATS, room // len(feedback)))
