"""Data sets of picture files in a folder for each class, which may be in the folders `train` and `test`."""

from __future__ import annotations

import io
import math
import os
import unicodedata
from collections import Counter
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from digits.data.dataset import Dataset, Images
from digits.data.places import MAX_PICTURE, Files
from digits.data.reader import read_image
from digits.data.screening import Findings, Part
from digits.errors import DataError
from digits.files import canonical_json, sha256_of
from digits.tasks.task import MAX_LABEL, Task

# The names of parts in lower case; True: the test part.
TRAIN = ("train", "training")
PARTS = dict.fromkeys((*TRAIN, "valid", "val", "validation"), False) | {"test": True, "testing": True}
MAX_IMAGES = 2 << 30  # bytes of all images, of which there are up to four copies while they are checked
# Threads, because decoding does not hold Python's lock. Each needs up to 640 MB for a picture of the greatest size.
WORKERS = min(4, os.cpu_count() or 1)
REMEDY = "put the pictures into a folder for each label: PLACE/LABEL/NAME.jpg"


class Picture(NamedTuple):
    """A picture file of a class."""

    tested: bool  # whether it is in the folder `test`
    label: int
    name: str


def read(task: Task, files: Files, findings: Findings) -> tuple[str, list[Part]]:
    """Return the digest over the files' contents, and the training part and, if there is one, the test part.

    The digest does not depend on the files' names. What cannot be used is left out and added to `findings`.

    Raises as `find_pictures`.
    """
    pictures = find_pictures(task, files, findings)

    def load(picture: Picture) -> tuple[str, Images | str]:
        """Return the digest of a file, and its image or what is wrong with it."""
        digest = ""
        try:
            content = files.read(picture.name, MAX_PICTURE)
            digest = sha256_of(content)
            image = read_image(task, io.BytesIO(content))
        except DataError as exc:
            return digest, f"{picture.name}: {exc.message}"
        return digest, f"{picture.name} shows no ink" if image is None else image

    pool = ThreadPoolExecutor(WORKERS)
    digests: list[tuple[bool, int, str]] = []
    parts: dict[bool, list[tuple[Images, int, str]]] = {False: [], True: []}
    try:
        for picture, (digest, image) in zip(pictures, pool.map(load, pictures), strict=True):
            digests.append((picture.tested, picture.label, digest))
            if isinstance(image, str):
                findings.add(image)
            else:
                parts[picture.tested].append((image, picture.label, picture.name))
    finally:
        pool.shutdown(cancel_futures=True)
    read_parts = [_part(task, parts[tested]) for tested in (False, True) if parts[tested] or not tested]
    return sha256_of(canonical_json(sorted(digests))), read_parts


def find_pictures(task: Task, files: Files, findings: Findings) -> list[Picture]:
    """Return the pictures of all classes; add the files that are in no folder of a class to `findings`.

    Raises:
        DataError: there are no pictures of a class, or too many.
    """
    pictures = sort(task.labels, files.names(), findings)
    if not pictures:
        raise DataError(f"{files.where}: expected pictures of {', '.join(task.labels[:5])}, found none", remedy=REMEDY)
    if len(pictures) * math.prod(task.shape) > MAX_IMAGES:
        raise DataError(f"{files.where}: expected images of at most {MAX_IMAGES} bytes, found {len(pictures)} images")
    return pictures


def find_labels(names: list[str]) -> list[str]:
    """Return the names of the folders that hold pictures, the classes of a data set without a task, sorted."""
    paths = [path for name in names if len(path := _plain(name).split("/")) > 1]
    tops = {path[0].lower() for path in paths}
    if len(tops) == 1 and all(len(path) > 2 for path in paths) and not tops & PARTS.keys():
        paths = [path[1:] for path in paths]  # flowers/ in flowers.zip
    if any(path[0].lower() in TRAIN and len(path) > 2 for path in paths):
        paths = [path[1:] for path in paths if path[0].lower() in PARTS and len(path) > 2]
    return natural({path[0] for path in paths})


def natural(labels: Collection[str]) -> list[str]:
    """Return labels sorted, numbers by their value, and those of one value by their text."""
    numbers = {label: int(label) for label in labels if label.isdecimal() and len(label) <= MAX_LABEL}
    return sorted(labels, key=lambda label: (label not in numbers, numbers.get(label, 0), label))


def sort(task_labels: Sequence[str], names: list[str], findings: Findings) -> list[Picture]:
    """Return the pictures of each class among the names of files; add the other names to `findings`."""
    labels = {label: index for index, label in enumerate(task_labels)}
    paths = [(name, [_plain(part) for part in name.split("/")]) for name in names]
    tops = {path[0] for _, path in paths}
    second = {path[1] for _, path in paths if len(path) > 2}
    inside = any(name in labels or name.lower() in TRAIN for name in second)
    if len(tops) == 1 and not tops & labels.keys() and inside:  # flowers/ in flowers.zip
        paths = [(name, path[1:]) for name, path in paths]
        tops = second
    # A class may have the name of a part: in train/bus, train/train and test/train, the first folder is the part.
    nested = {path[1] for _, path in paths if path[0].lower() in TRAIN and len(path) > 2}
    only_parts = not any(top in labels and top.lower() not in PARTS for top in tops)
    divided = any(
        top.lower() in TRAIN and (top not in labels or (nested & labels.keys() and only_parts)) for top in tops
    )
    found, unknown = [], Counter[str]()
    for name, path in paths:
        part = PARTS.get(path[0].lower()) if divided else None
        inner = path if part is None else path[1:]
        if len(inner) < 2:
            findings.add(f"{name} is in no folder of a class")
        elif inner[0] in labels:
            found.append(Picture(bool(part), labels[inner[0]], name))
        else:
            unknown["/".join(path[: len(path) - len(inner) + 1])] += 1
    for folder, count in sorted(unknown.items()):
        findings.add(f"the folder {folder} with {count} files has the name of no class", count)
    return found


def _plain(name: str) -> str:
    """Return a name with composed characters; macOS stores some names with separate accents."""
    return unicodedata.normalize("NFC", name)


def _part(task: Task, items: list[tuple[Images, int, str]]) -> Part:
    images = np.array([image for image, _, _ in items], np.uint8).reshape(-1, *task.shape)
    return Part(Dataset(images, np.array([label for _, label, _ in items], np.uint8)), [name for _, _, name in items])
