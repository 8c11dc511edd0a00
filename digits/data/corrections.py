"""Corrected drawings in the object store: `feedback/<SHA-256 of the image's bytes and the label>.json`.

The latest correction of a drawing holds: recording one removes what the same picture was called before. Where two
people raced and both records stand, nobody knows who is right, and `collect` takes neither.

Of a correction that was taken back stays when that was, `feedback/removed/<SHA-256 of the image's bytes>.json`. Only
`copy` looks there, lest it come back from another store: what is trained on is told by the records' names alone.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import math
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from digits.errors import DataError, MissingError, ObjectMissing
from digits.files import canonical_json, sha256_of
from digits.store import ObjectStore

FOLDER = "feedback/"
REMOVED = FOLDER + "removed/"
DIGITS = 10
LEAST_INK = 255  # the sum of an image's pixels: less is no drawing
_KEY = re.compile(r"feedback/[0-9a-f]{64}\.json")


@dataclass(frozen=True)
class Collected:
    """The corrected drawings that may be trained on.

    Attributes:
        images: uint8 (n, 28, 28), paper 0 and ink 255, sorted by key.
        labels: uint8 (n,) in 0..9.
        digest: hex SHA-256 of the images and the labels.
        rejected: records not taken, by reason.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    digest: str
    rejected: Mapping[str, int]

    @property
    def count(self) -> int:
        """How many drawings were taken."""
        return len(self.labels)


@dataclass(frozen=True)
class Correction:
    """A correction as it is listed: its id (hex SHA-256), what it is, what which release took it for, what is wrong."""

    id: str
    label: int | None = None
    answer: int | None = None
    release: str = ""
    damaged: str = ""


def record(
    store: ObjectStore,
    image: NDArray[np.uint8],
    label: int,
    *,
    drawing_png: bytes,
    release: str,
    answer: int | None,
    given_up: Callable[[], bool] = lambda: False,
) -> str:
    """Store that `image` is a `label`; of the same said again the last is kept, with its time.

    Args:
        store: where to.
        image: uint8 (28, 28), what the model saw.
        label: the digit that it is, 0..9.
        drawing_png: the drawing itself, for people.
        release: the version of the model that answered.
        answer: the digit that it gave; None if it gave none.
        given_up: whether nobody waits any longer; what was called the same picture meanwhile is then left.

    Returns:
        The record's key.

    Raises:
        DataError: no such image or label.
        StoreError: the store refused.
    """
    if image.shape != (28, 28) or image.dtype != np.uint8:
        raise DataError(f"expected an image uint8 (28, 28), got {image.dtype} {image.shape}")
    if label not in range(DIGITS) or answer not in {None, *range(DIGITS)}:
        raise DataError(f"expected a digit 0 to 9, got the label {label!r} and the answer {answer!r}")
    if int(image.sum()) < LEAST_INK:
        raise DataError("expected a drawing, got an empty picture", remedy="draw a digit first")
    pixels = image.tobytes()
    content = {
        "image": base64.b64encode(pixels).decode(),
        "label": label,
        "drawing": base64.b64encode(drawing_png).decode(),
        "release": release,
        "answer": answer,
        "time": time.time(),
    }
    key = _key(pixels, label)
    _store(store, key, canonical_json(content), pixels, label, given_up)
    return key


def copy(source: ObjectStore, target: ObjectStore) -> int:
    """Take over what `target` lacks of another store's corrections, if it is whole. Returns how many these were.

    What `target` called the same picture is removed, as by `record`. What it called the same picture later, or took
    back later, holds; so does what it says where neither has a time, or both the same. An earlier version's record has
    none, and counts as older than any that has.

    Raises:
        StoreError: a store refused.
    """
    known, taken = set(_keys(target)), 0
    for key in _keys(source):
        if key not in known:
            with contextlib.suppress(ObjectMissing, DataError):  # corrected again since we listed; damaged
                content = source.get(key)
                pixels, label = _read(content, key)
                if _time(content) > _settled(target, key, pixels):
                    _store(target, key, content, pixels, label)
                    taken += 1
    return taken


def listed(store: ObjectStore) -> list[Correction]:
    """What there is, damaged or not, by id."""
    found = []
    for key in _keys(store):
        with contextlib.suppress(ObjectMissing):  # corrected again since we listed
            found.append(_described(key, store.get(key)))
    return found


def _described(key: str, content: bytes) -> Correction:
    try:
        label = _read(content, key)[1]
    except DataError as exc:
        return Correction(_id(key), damaged=exc.message)
    said = json.loads(content)
    return Correction(_id(key), label, said.get("answer"), str(said.get("release", "")))


def remove(store: ObjectStore, which: str) -> Correction:
    """Take a correction back, by the first letters of its id, and return it. What learned from it has learned.

    `copy` does not bring it back, nor anything else that was said of the picture before; what is said later holds.

    Raises:
        MissingError: there is no such one, or more than one.
    """
    found = [key for key in _keys(store) if _id(key).startswith(which)]
    if len(found) != 1:
        raise MissingError(f"{len(found) or 'no'} corrections begin with {which!r}", remedy="digits feedback")
    content = store.get(found[0])
    try:
        note = _removed(_read(content, found[0])[0])
    except DataError:
        note = _removed_id(found[0])  # of which picture, nobody can tell
    # Never before what it takes back, whose clock may have been ahead. Noted first: else it could come back for ever.
    store.put(note, canonical_json({"time": max(time.time(), _time(content))}))
    store.delete(found[0])
    return _described(found[0], content)


def collect(store: ObjectStore, *, limit: int) -> Collected:
    """Read at most `limit` corrections, each checked; the order, and with it the digest, depends on their content only.

    Raises:
        StoreError: the store refused.
    """
    rejected: Counter[str] = Counter()
    found: dict[bytes, dict[int, str]] = {}
    for key in _keys(store):
        try:
            pixels, label = _read(store.get(key), key)
        except ObjectMissing:
            continue  # corrected again since we listed
        except DataError as exc:
            rejected[exc.message] += 1
            continue
        found.setdefault(pixels, {})[label] = key
    agreed = sorted(
        (key, label, pixels) for pixels, said in found.items() if len(said) == 1 for label, key in said.items()
    )
    if conflicting := sum(len(said) for said in found.values() if len(said) > 1):
        rejected["the same picture has several labels"] += conflicting
    if len(agreed) > limit:
        rejected[f"more than the {limit} asked for"] += len(agreed) - limit
    taken = agreed[:limit]
    images = np.frombuffer(b"".join(pixels for *_, pixels in taken), np.uint8).reshape(-1, 28, 28)
    labels = np.array([label for _, label, _ in taken], np.uint8)
    return Collected(images, labels, sha256_of(images.tobytes() + labels.tobytes()), dict(rejected))


def digest(store: ObjectStore) -> str:
    """Hex SHA-256 of which corrections there are, from their names alone: they are addresses of the content."""
    return sha256_of("\n".join(_keys(store)).encode())


def _store(
    store: ObjectStore,
    key: str,
    content: bytes,
    pixels: bytes,
    label: int,
    given_up: Callable[[], bool] = lambda: False,
) -> None:
    store.put(key, content)
    if given_up():
        return  # and a later correction, which somebody saw stored, is not removed for this one
    for other in range(DIGITS):
        if other != label:
            store.delete(_key(pixels, other))
    store.create(key, content)  # whoever raced with us may have removed it, as we removed theirs: one must stand


def _settled(store: ObjectStore, key: str, pixels: bytes) -> float:
    """When `store` was last told what a picture is, or that it is none for us; -1 where it never was."""
    times = [-1.0]
    for name in (*(_key(pixels, label) for label in range(DIGITS)), _removed(pixels), _removed_id(key)):
        with contextlib.suppress(ObjectMissing):
            times.append(_time(store.get(name)))
    return max(times)


def _time(content: bytes) -> float:
    """When a record or a removal was made, in seconds since 1970; 0 where it does not say."""
    try:
        said = json.loads(content).get("time")
    except (ValueError, AttributeError):
        return 0.0
    return said if isinstance(said, float) and 0 < said < math.inf else 0.0


def _removed(pixels: bytes) -> str:
    return f"{REMOVED}{sha256_of(pixels)}.json"


def _removed_id(key: str) -> str:
    return f"{REMOVED}{_id(key)}.json"


def _id(key: str) -> str:
    return key.removeprefix(FOLDER).removesuffix(".json")


def _keys(store: ObjectStore) -> list[str]:
    return [key for key in store.keys(FOLDER) if _KEY.fullmatch(key)]


def _key(pixels: bytes, label: int) -> str:
    return f"{FOLDER}{sha256_of(pixels + bytes([label]))}.json"


def _read(content: bytes, key: str) -> tuple[bytes, int]:
    """A record's pixels and label. Raises DataError with the reason in a few words."""
    try:
        said = json.loads(content)
        pixels, label = base64.b64decode(said["image"], validate=True), said["label"]
    except (ValueError, KeyError, TypeError, binascii.Error) as exc:
        raise DataError("the record cannot be read") from exc
    if not isinstance(label, int) or isinstance(label, bool) or label not in range(DIGITS):
        raise DataError("the label is no digit")
    if len(pixels) != 28 * 28 or sum(pixels) < LEAST_INK:
        raise DataError("the image is not one of 28 x 28 with ink on it")
    if _key(pixels, label) != key:
        raise DataError("the content is not what the name says")
    return pixels, label
