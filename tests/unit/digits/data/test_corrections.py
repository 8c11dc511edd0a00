"""Corrected drawings in the object store."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from digits.data import corrections
from digits.errors import DataError, MissingError
from digits.files import canonical_json
from digits.store.folder import FileStore


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path)


def image(seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (28, 28), dtype=np.uint8)


def record(store: FileStore, seed: int, label: int) -> str:
    return corrections.record(store, image(seed), label, drawing_png=b"png", release="v1", answer=None)


def dated(store: FileStore, key: str, at: object) -> None:
    """Set the time of a record; None: it has none, as those of earlier versions."""
    said = json.loads(store.get(key)) | {"time": at}
    store.put(key, json.dumps({name: value for name, value in said.items() if value is not None}).encode())


def test_what_is_recorded_is_collected(store: FileStore) -> None:
    """Images and labels come back as they were, in the order of their keys."""
    keys = {record(store, seed, seed % 10): seed for seed in range(12)}
    collected = corrections.collect(store, limit=100)
    assert collected.count == 12
    assert (collected.images.dtype, collected.images.shape) == (np.uint8, (12, 28, 28))
    for key, picture, label in zip(sorted(keys), collected.images, collected.labels, strict=True):
        assert np.array_equal(picture, image(keys[key]))
        assert label == keys[key] % 10
    assert collected.rejected == {}


def test_what_is_said_twice_is_kept_once(store: FileStore) -> None:
    """The same correction has the same key and changes no digest; its record is the last, with that one's time."""
    key = record(store, 1, 7)
    dated(store, key, 1000.0)
    before = corrections.digest(store), corrections.collect(store, limit=10).digest
    assert corrections.record(store, image(1), 7, drawing_png=b"other", release="v2", answer=3) == key
    said = json.loads(store.get(key))
    assert (said["release"], said["answer"]) == ("v2", 3)
    assert said["time"] > 1000
    assert (corrections.digest(store), corrections.collect(store, limit=10).digest) == before


def test_the_latest_label_holds(store: FileStore) -> None:
    """Correcting a correction replaces it."""
    record(store, 1, 7)
    record(store, 1, 1)
    assert corrections.collect(store, limit=10).labels.tolist() == [1]


def test_a_correction_that_was_given_up_removes_no_later_one(tmp_path: Path) -> None:
    """What a store takes in after its visitor was told to try again does not undo what he then saw stored."""

    class Slow(FileStore):
        def put(self, key: str, content: bytes | Path) -> None:
            record(FileStore(tmp_path), 1, 5)  # meanwhile
            super().put(key, content)

    corrections.record(Slow(tmp_path), image(1), 3, drawing_png=b"", release="", answer=None, given_up=lambda: True)
    said = [one.label for one in corrections.listed(FileStore(tmp_path))]
    assert 5 in said


def test_of_two_corrections_at_once_one_stands(tmp_path: Path) -> None:
    """Two people who correct one picture at the same moment do not delete each other's corrections."""
    both = threading.Barrier(2, timeout=10)

    class Together(FileStore):
        def put(self, key: str, content: bytes | Path) -> None:
            super().put(key, content)
            both.wait()

    store = Together(tmp_path)
    with ThreadPoolExecutor(2) as pool:
        told = list(pool.map(lambda label: record(store, 1, label), (3, 4)))
    assert store.keys()
    assert set(store.keys()) <= set(told)


def test_conflicting_labels_are_dropped(store: FileStore) -> None:
    """Where two labels of one picture stand, neither is taken, and it is said."""
    key = record(store, 1, 7)
    content = store.get(key)
    record(store, 1, 1)
    store.put(key, content)
    record(store, 2, 2)
    collected = corrections.collect(store, limit=10)
    assert collected.labels.tolist() == [2]
    assert collected.rejected == {"the same picture has several labels": 2}


def test_the_digest_follows_the_content(tmp_path: Path) -> None:
    """The same corrections in another order have the same digests; another one changes both."""
    stores = [FileStore(tmp_path / name) for name in "ab"]
    for store, seeds in zip(stores, ([1, 2, 3], [3, 1, 2]), strict=True):
        for seed in seeds:
            record(store, seed, seed)
    a, b = stores
    assert corrections.digest(a) == corrections.digest(b)
    assert corrections.collect(a, limit=10).digest == corrections.collect(b, limit=10).digest
    before = corrections.digest(a), corrections.collect(a, limit=10).digest
    record(a, 1, 9)
    assert corrections.digest(a) != before[0]
    assert corrections.collect(a, limit=10).digest != before[1]


def test_an_empty_store_is_no_error(store: FileStore) -> None:
    """Without corrections there are no images, and the digests exist all the same."""
    collected = corrections.collect(store, limit=10)
    assert collected.images.shape == (0, 28, 28)
    assert collected.labels.shape == (0,)
    assert len(collected.digest) == len(corrections.digest(store)) == 64


def test_takes_no_more_than_asked(store: FileStore) -> None:
    """Beyond the limit, records are left out and counted."""
    for seed in range(5):
        record(store, seed, seed)
    collected = corrections.collect(store, limit=3)
    assert collected.count == 3
    assert sum(collected.rejected.values()) == 2


@pytest.mark.parametrize(
    "change",
    [
        {"label": 11},
        {"label": True},
        {"label": "7"},
        {"image": "AAAA"},
        {"image": "no base64!"},
        {"image": None},
        {"label": 8},  # a digit, but not the one that the name was made of
    ],
)
def test_damaged_records_are_left_out(store: FileStore, change: dict[str, object]) -> None:
    """A record that was tampered with is counted, not trained on; the others are taken."""
    key = record(store, 1, 7)
    record(store, 2, 2)
    store.put(key, canonical_json(json.loads(store.get(key)) | change))
    collected = corrections.collect(store, limit=10)
    assert collected.labels.tolist() == [2]
    assert sum(collected.rejected.values()) == 1


def test_other_files_are_nobodys_business(store: FileStore) -> None:
    """Objects beside the records, broken ones too, neither fail the collection nor change the digest."""
    before = corrections.digest(store)
    store.put("feedback/readme.txt", b"hello")
    store.put("feedback/" + "0" * 63 + ".json", b"{")
    assert corrections.digest(store) == before
    store.put("feedback/" + "0" * 64 + ".json", b"{")
    assert corrections.collect(store, limit=10).rejected == {"the record cannot be read": 1}


@pytest.mark.parametrize(
    ("picture", "label", "answer"),
    [
        (image(1), 10, None),
        (image(1), -1, None),
        (image(1), 1, 10),
        (image(1).astype(np.float32), 1, None),
        (image(1)[:27], 1, None),
        (np.zeros((28, 28), np.uint8), 1, None),
    ],
)
def test_refuses_what_is_no_correction(
    store: FileStore, picture: NDArray[np.uint8], label: int, answer: int | None
) -> None:
    """Only a picture of 28 x 28 with ink on it and a digit can be recorded."""
    with pytest.raises(DataError, match="expected"):
        corrections.record(store, picture, label, drawing_png=b"", release="", answer=answer)
    assert store.keys() == []


def test_another_stores_corrections_are_taken_over(store: FileStore, tmp_path: Path) -> None:
    """What is new and whole is copied, once; a picture that both have is what the other store calls it."""
    other = FileStore(tmp_path / "other")
    record(store, 1, 7)
    record(store, 2, 2)
    record(other, 1, 1)
    record(other, 2, 2)
    key = record(other, 3, 3)
    other.put(record(other, 4, 4), b"damaged")
    assert corrections.copy(other, store) == 2
    assert sorted(corrections.collect(store, limit=10).labels.tolist()) == [1, 2, 3]
    assert store.get(key) == other.get(key)
    assert corrections.copy(other, store) == 0


def test_what_was_taken_back_is_not_taken_over_again(store: FileStore, tmp_path: Path) -> None:
    """A correction removed here stays away however often the other store is copied; said there anew, it comes."""
    other = FileStore(tmp_path / "other")
    key = record(other, 1, 7)
    none = corrections.digest(store)
    assert corrections.copy(other, store) == 1
    corrections.remove(store, "")
    assert corrections.copy(other, store) == corrections.collect(store, limit=10).count == 0
    assert corrections.digest(store) == none
    record(store, 1, 2)  # corrected to something else, and that taken back too
    corrections.remove(store, "")
    assert corrections.copy(other, store) == 0
    assert record(other, 1, 7) == key
    assert corrections.copy(other, store) == 1
    assert corrections.collect(store, limit=10).labels.tolist() == [7]


def test_what_was_taken_back_here_can_be_said_here_again(store: FileStore) -> None:
    """A removal stands in the way of no later correction of the same picture."""
    before = record(store, 1, 7), corrections.digest(store)
    corrections.remove(store, "")
    assert (record(store, 1, 7), corrections.digest(store)) == before
    assert corrections.collect(store, limit=10).labels.tolist() == [7]


@pytest.mark.parametrize(
    ("there", "here", "holds"),
    [
        (1000.0, 2000.0, 2),
        (2000.0, 1000.0, 7),
        (1000.0, 1000.0, 2),
        (1000.0, None, 7),
        (None, 1000.0, 2),
        (None, None, 2),
        (2000.0, float("nan"), 7),
        (float("inf"), 1000.0, 2),
        (True, 1000.0, 2),
        ("3000", 1000.0, 2),
        (2000.0, [], 7),
    ],
)
def test_of_two_stores_the_later_correction_holds(
    there: object, here: object, holds: int, store: FileStore, tmp_path: Path
) -> None:
    """What a picture was called later holds; a record without a time is older; of equals this store's stays."""
    other = FileStore(tmp_path / "other")
    dated(other, record(other, 1, 7), there)
    dated(store, record(store, 1, 2), here)
    for taken in (int(holds == 7), 0):
        assert corrections.copy(other, store) == taken
        assert corrections.collect(store, limit=10).labels.tolist() == [holds]


def test_an_earlier_versions_record_is_taken_over_and_taken_back(store: FileStore, tmp_path: Path) -> None:
    """A record without a time is read, copied once, and stays away once it was removed."""
    other = FileStore(tmp_path / "other")
    dated(other, record(other, 1, 7), None)
    assert [corrections.copy(other, store), corrections.copy(other, store)] == [1, 0]
    assert corrections.collect(store, limit=10).labels.tolist() == [7]
    corrections.remove(store, "")
    assert corrections.copy(other, store) == 0


def test_a_clock_that_is_ahead_does_not_bring_a_correction_back(store: FileStore, tmp_path: Path) -> None:
    """A removal is never older than what it removes, whatever this machine's clock says."""
    other = FileStore(tmp_path / "other")
    dated(other, record(other, 1, 7), 9e9)
    assert corrections.copy(other, store) == 1
    corrections.remove(store, "")
    assert corrections.copy(other, store) == 0


def test_a_damaged_correction_that_was_removed_stays_away(store: FileStore, tmp_path: Path) -> None:
    """The whole record of another store does not take the place of a damaged one that was taken back."""
    other = FileStore(tmp_path / "other")
    key = record(other, 1, 7)
    corrections.copy(other, store)
    store.put(key, b"damaged")
    corrections.remove(store, "")
    assert corrections.copy(other, store) == 0


def test_of_two_labels_one_can_be_taken_back(store: FileStore, tmp_path: Path) -> None:
    """Where both labels of a picture stand, the other one is trained on as soon as one is removed, and stays so."""
    key = record(store, 1, 7)
    content = store.get(key)
    kept = record(store, 1, 1)
    store.put(key, content)
    corrections.remove(store, key.removeprefix(corrections.FOLDER).removesuffix(".json"))
    other = FileStore(tmp_path / "other")
    other.put(key, content)
    assert corrections.copy(other, store) == 0
    assert corrections.collect(store, limit=10).labels.tolist() == [1]
    assert store.exists(kept)


def test_corrections_are_listed_and_taken_back(store: FileStore) -> None:
    """Each is listed with what it was taken for, damaged ones too; one is removed by the first letters of its id."""
    corrections.record(store, image(1), 7, drawing_png=b"png", release="v1", answer=1)
    damaged = record(store, 2, 2)
    store.put(damaged, b"{}")
    found = {one.label: one for one in corrections.listed(store)}
    assert (found[7].answer, found[7].release, found[7].damaged) == (1, "v1", "")
    assert found[None].damaged == "the record cannot be read"
    assert damaged == f"feedback/{found[None].id}.json"
    assert corrections.remove(store, found[None].id[:12]) == found[None]
    assert [one.label for one in corrections.listed(store)] == [7]
    with pytest.raises(MissingError, match="no corrections begin with 'x'"):
        corrections.remove(store, "x")
    record(store, 3, 3)
    with pytest.raises(MissingError, match="2 corrections begin with ''"):
        corrections.remove(store, "")
