"""The checks of a user's data set, and the division into a training and a test part."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from digits.data.dataset import Dataset
from digits.errors import DataError, one_line
from digits.files import canonical_json, sha256_of
from digits.tasks.task import Task

MAX_LISTED = 20  # lines of findings
# A collection of pictures has a few files that are damaged or occur twice. If there are more, the place is probably the
# wrong one or a copy broke off, and a model of the rest would be worse than the user expects.
MAX_SHARE = 0.1
MIN_TRAIN, MIN_TEST = 2, 1  # images of each class: one image of the training part is for validation


class Findings:
    """The reasons why single images of a data set are left out."""

    def __init__(self) -> None:
        self.count = 0  # images
        self._lines: list[str] = []

    def add(self, text: str, count: int = 1) -> None:
        """Add a finding that concerns `count` images."""
        self.count += count
        self._lines.append(one_line(text))  # the names of files may have any characters

    def lines(self) -> list[str]:
        """Return at most MAX_LISTED lines."""
        if len(self._lines) <= MAX_LISTED:
            return list(self._lines)
        shown = self._lines[: MAX_LISTED - 1]
        return [*shown, f"and {len(self._lines) - len(shown)} more"]

    def refuse_above(self, share: float, total: int) -> None:
        """Raise DataError, which lists the findings, if they concern more than a share of `total` images."""
        if self.count > share * total:
            raise DataError(
                f"{self.count} of {total} images cannot be used, more than {share:.0%}:\n" + "\n".join(self.lines()),
                remedy="correct or remove these files, or correct the labels and data.place of the task file",
            )


@dataclass(frozen=True)
class Part:
    """A part of a data set, and a name of each image for messages."""

    images: Dataset
    names: Sequence[str]

    def take(self, chosen: Sequence[int]) -> Part:
        """Return the images of these indexes."""
        return Part(self.images[chosen], [self.names[index] for index in chosen])


def named(images: Dataset, file: str) -> Part:
    """Return images of a file with their numbers as names."""
    return Part(images, [f"image {index} of {file}" for index in range(len(images))])


def digest_of(contents: Sequence[bytes]) -> str:
    """Return the hex SHA-256 of a source whose files have these contents, whatever their names."""
    return sha256_of(canonical_json([sha256_of(content) for content in contents]))


def screen(task: Task, parts: Sequence[Part], findings: Findings) -> tuple[Dataset, Dataset]:
    """Return the training and the test part of a data set, in an order that depends on the images alone.

    `parts` are these two, or one, of which a share is held out. Training images that are equal to test images are left
    out and added to `findings`.

    Raises:
        DataError: more than MAX_SHARE of all images are left out, or a class has too few.
    """
    total = findings.count + sum(len(part.images) for part in parts)
    train, test = parts if len(parts) == 2 else hold_out(parts[0], task.data.test_share)
    held = dict(zip(_digests(test.images), test.names, strict=True))
    kept = []
    for index, digest in enumerate(_digests(train.images)):
        if digest in held:
            findings.add(f"{train.names[index]} is equal to {held[digest]} of the test images")
        else:
            kept.append(index)
    findings.refuse_above(MAX_SHARE, total)
    chosen, tested = train.images[kept].check(task), test.images.check(task)
    counts = [np.bincount(part.labels, minlength=len(task.labels)) for part in (chosen, tested)]
    few = [
        f"{label} ({left} and {right})"
        for label, left, right in zip(task.labels, *counts, strict=True)
        if left < MIN_TRAIN or right < MIN_TEST
    ]
    if few:
        more = f", and {len(few) - MAX_LISTED} more" if len(few) > MAX_LISTED else ""
        raise DataError(
            f"expected at least {MIN_TRAIN} training images and {MIN_TEST} test image of each class, "
            f"found fewer of {', '.join(few[:MAX_LISTED])}{more}",
            remedy="add pictures of these classes, or remove their labels from the task file",
        )
    return _arranged(chosen), _arranged(tested)


def hold_out(whole: Part, share: float) -> tuple[Part, Part]:
    """Return the training part, and a test part with about this share of each class.

    The digest of an image decides, so that the parts depend neither on the order of the files nor on the machine, equal
    images are in the same part, and most images stay in their part if others are added.
    """
    digests, labels = _digests(whole.images), whole.images.labels
    parts = list[int](), list[int]()
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label).tolist()
        ordered = sorted(digests[index] for index in members)
        last = ordered[max(1, round(share * len(members))) - 1]
        for index in members:
            parts[digests[index] <= last].append(index)
    return whole.take(parts[False]), whole.take(parts[True])


def _digests(images: Dataset) -> list[bytes]:
    return [hashlib.sha256(image.tobytes()).digest() for image in images.images]


def _arranged(images: Dataset) -> Dataset:
    """Return the images sorted by digest, which mixes the classes."""
    digests = _digests(images)
    return images[sorted(range(len(images)), key=lambda index: (digests[index], images.labels[index]))]
