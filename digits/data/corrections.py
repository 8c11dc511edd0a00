"""Corrections that users make on the page, as an append-only log in the object store.

Each is an object `feedback/<SHA-256 of the image>/<time in µs>-<label or "removed">-<digest of the content>.json`; of
another task than digits, it is below `feedback/<task>/`. The label is its index in the task's labels; the content has
its text, which counts, because the labels of a task file may change. The newest entry of an image wins. If times are
equal, `removed` wins, and then the greatest label. Entries are neither changed nor deleted, so two stores are merged by
copying the missing entries, in any order.

    key = corrections.record(store, image, 7, drawing_png=png, release="", answer=1)
    corrections.collect(store, limit=100).labels   # array([7], dtype=uint8)
"""

from __future__ import annotations

import base64
import math
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from digits.data.correction_log import REMOVED, Entry, current, current_labels, folder, list_entries
from digits.data.dataset import Dataset, Images
from digits.errors import DataError, MissingError, ObjectMissing, ObjectRefused
from digits.files import canonical_json, parse_json, sha256_of
from digits.store import ObjectStore
from digits.tasks.task import BUILT_IN, Task, find

DIGITS = find(BUILT_IN)
MIN_INK = 255  # least sum of a drawing's pixels; one with less counts as empty
MAX_RELEASE = 100  # characters
SLOW_WRITE = 60_000_000  # µs that a store may take to write an entry


@dataclass(frozen=True)
class Collected(Dataset):
    """The corrections to train on, sorted by the images' SHA-256. `rejected` counts all others by reason."""

    rejected: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Correction:
    """A correction, for a list. If the record is damaged, `damaged` states the reason and the label is None."""

    id: str  # hex SHA-256 of the image
    label: int | None = None
    answer: int | None = None  # the class that the model answered; None if it did not answer
    release: str = ""  # version of the model that answered
    damaged: str = ""


def record(
    store: ObjectStore,
    image: Images,
    label: int,
    *,
    drawing_png: bytes,
    release: str,
    answer: int | None,
    task: Task = DIGITS,
) -> str:
    """Append an entry: `image`, uint8, which the model received, shows the class `label` of the task. Return its key.

    The entry's time is taken before the store is called, so that a slow write does not replace a newer correction. If
    the image has an entry that is later by more than SLOW_WRITE, a clock was wrong, and the new entry follows it.
    `drawing_png`, the drawing's ink or the photo, is for people who review corrections. `release` is the version of the
    model that answered, `answer` its class, or None if it did not answer.

    Raises:
        DataError: the image or a class is invalid, the drawing is empty, or the store is another task's.
        StoreError: the store refused the write.
    """
    _check_task(store, task)
    if image.shape != task.shape or image.dtype != np.uint8:
        raise DataError(f"expected an image uint8 {task.shape}, got {image.dtype} {image.shape}")
    classes = range(len(task.labels))
    if label not in classes or answer not in {None, *classes}:
        raise DataError(f"expected a class 0 to {classes[-1]}, got the label {label!r} and the answer {answer!r}")
    if task.reading == "pen" and int(image.sum()) < MIN_INK:
        raise DataError("expected a drawing, got an empty image", remedy="draw a digit first")
    name, now = sha256_of(image.tobytes()), time.time_ns() // 1000
    newest = max((entry.time for entry in list_entries(store, name)), default=0)
    when = newest + 1 if newest > now + SLOW_WRITE else now
    pixels, drawing = (base64.b64encode(content).decode() for content in (image.tobytes(), drawing_png))
    answered = None if answer is None else task.labels[answer]
    payload = {"image": pixels, "drawing": drawing, "release": release, "label": task.labels[label], "answer": answered}
    return _append(store, name, when, str(label), payload)


def remove(store: ObjectStore, prefix: str, task: Task = DIGITS) -> Correction:
    """Withdraw and return the correction whose id begins with `prefix`. The image may be corrected again later.

    Raises:
        MissingError: no correction begins with `prefix`, or more than one.
    """
    matches = [entry for entry in current(list_entries(store)) if entry.image.startswith(prefix)]
    if len(matches) != 1:
        raise MissingError(f"{len(matches) or 'no'} corrections begin with {prefix!r}", remedy="digits feedback")
    correction = _describe(store, matches[0], task)
    # The correction's time may be from another machine's clock, or from before this one was set back.
    _append(store, correction.id, max(time.time_ns() // 1000, matches[0].time), REMOVED, {})
    return correction


def copy(source: ObjectStore, target: ObjectStore) -> int:
    """Copy the intact entries that `target` lacks. Return the number of images whose label in `target` is new."""
    before = set(list_entries(target))
    after = set(before)
    for entry in sorted(set(list_entries(source)) - before):
        try:
            content, _ = _load(source, entry)
        except DataError:
            continue  # a damaged entry would hide an older, intact one
        target.put(folder(target) + entry.name, content)
        after.add(entry)
    return len(current_labels(after) - current_labels(before))


def list_current(store: ObjectStore, task: Task = DIGITS) -> list[Correction]:
    """Return the newest correction of each image, damaged ones included, sorted by id."""
    return [_describe(store, entry, task) for entry in current(list_entries(store))]


def collect(store: ObjectStore, *, limit: int, task: Task = DIGITS) -> Collected:
    """Read and verify the newest corrections, at most `limit`. An image whose newest entry is damaged is left out.

    Raises:
        DataError: the store is another task's.
    """
    _check_task(store, task)
    rejected: Counter[str] = Counter()
    kept: list[tuple[Entry, bytes, int]] = []
    for entry in sorted(current(list_entries(store)), key=lambda entry: -entry.time):
        if len(kept) == limit:
            rejected[f"more than {limit} corrections"] += 1
            continue
        try:
            _, payload = _load(store, entry)
            kept.append((entry, _check_image(task, payload["image"]), _find_class(task, entry, payload)))
        except DataError as exc:
            rejected[exc.message] += 1
    kept.sort()
    pixels = np.frombuffer(b"".join(image for _, image, _ in kept), np.uint8).reshape(-1, *task.shape)
    return Collected(pixels, np.array([label for _, _, label in kept], np.uint8), dict(rejected))


def _append(store: ObjectStore, image: str, when: int, label: str, payload: Mapping[str, Any]) -> str:
    """Write an entry. Return its key."""
    content = canonical_json(payload)
    entry = Entry(image, when, label, sha256_of(content)[:16])
    store.put(key := folder(store) + entry.name, content)
    return key


def _describe(store: ObjectStore, entry: Entry, task: Task) -> Correction:
    try:
        _, payload = _load(store, entry)
        label = _find_class(task, entry, payload)
    except DataError as exc:
        return Correction(entry.image, damaged=exc.message)
    answer = str(payload.get("answer"))
    answered = task.labels.index(answer) if answer in task.labels else None
    release = str(payload.get("release", ""))[:MAX_RELEASE]
    return Correction(entry.image, label, answered, release if release.isprintable() else "")


def _load(store: ObjectStore, entry: Entry) -> tuple[bytes, dict[str, Any]]:
    """Return an entry's content, and its fields with the image as bytes. Raises DataError if it is damaged."""
    try:
        content = store.get(folder(store) + entry.name)
        payload = parse_json(content)
        if entry.label != REMOVED:
            payload["image"] = base64.b64decode(payload["image"], validate=True)
    except ObjectMissing as exc:
        raise DataError("the record is missing") from exc
    except (ObjectRefused, ValueError, KeyError, TypeError) as exc:
        raise DataError("the record cannot be read") from exc
    if entry.label != REMOVED and sha256_of(payload["image"]) != entry.image:
        raise DataError("the image does not match its name")
    if sha256_of(content)[:16] != entry.content:
        raise DataError("the content does not match its name")
    return content, payload


def _check_task(store: ObjectStore, task: Task) -> None:
    if store.task != task.name:
        raise DataError(f"expected a store of the task {task.name}, got one of {store.task}")


def _find_class(task: Task, entry: Entry, payload: Mapping[str, Any]) -> int:
    """Return the index of an entry's label in the task's labels. Raises DataError if the task does not have it."""
    label = str(payload.get("label", entry.label))
    if label not in task.labels:
        raise DataError(f"the task {task.name} has no class {label!r}")
    return task.labels.index(label)


def _check_image(task: Task, image: bytes) -> bytes:
    """Return the image of an entry. Raises DataError if the task has no such images."""
    pen = task.reading == "pen"
    if len(image) != math.prod(task.shape) or (pen and sum(image) < MIN_INK):
        raise DataError(f"the image is not {' x '.join(map(str, task.shape))} pixels{' with ink' * pen}")
    return image
