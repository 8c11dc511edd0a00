"""The log of corrections in the object store."""

from __future__ import annotations

import dataclasses
import itertools
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
from numpy.typing import NDArray

from digits.data import correction_log, corrections
from digits.errors import DataError, MissingError, ObjectRefused
from digits.files import canonical_json, sha256_of
from digits.store.file import FileStore
from tests.helpers.shapes import shapes_task


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path / "store")


@pytest.fixture
def other(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path / "other")


def image(seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (28, 28), dtype=np.uint8)


def record(store: FileStore, seed: int, label: int, *, at: float | None = None) -> str:
    """Record a correction of the image `seed`, as if the clock showed `at` seconds."""
    with pytest.MonkeyPatch.context() as clock:
        if at is not None:
            clock.setattr("time.time_ns", lambda: int(at * 1e9))
        return corrections.record(store, image(seed), label, drawing_png=b"png", release="v1", answer=None)


def remove(store: FileStore, prefix: str = "", *, at: float) -> None:
    with pytest.MonkeyPatch.context() as clock:
        clock.setattr("time.time_ns", lambda: int(at * 1e9))
        corrections.remove(store, prefix)


def labels(store: FileStore) -> list[int]:
    return corrections.collect(store, limit=100).labels.tolist()


def forge(store: FileStore, content: bytes, folder: str, label: int = 7) -> None:
    """Put an entry whose name states the right digest of its content."""
    store.put(f"feedback/{folder}/1000-{label}-{sha256_of(content)[:16]}.json", content)


def test_recorded_corrections_are_collected(store: FileStore) -> None:
    """Images and labels are returned unchanged, in the order of their keys."""
    keys = {record(store, seed, seed % 10): seed for seed in range(12)}
    collected = corrections.collect(store, limit=100)
    assert len(collected) == 12
    assert (collected.images.dtype, collected.images.shape) == (np.uint8, (12, 28, 28))
    for key, picture, label in zip(sorted(keys), collected.images, collected.labels, strict=True):
        assert np.array_equal(picture, image(keys[key]))
        assert label == keys[key] % 10
    assert collected.rejected == {}


def test_a_repeated_correction_counts_once(store: FileStore) -> None:
    """Repeating a correction changes no digest; the list shows the release and the answer of the last one."""
    record(store, 1, 7)
    before = correction_log.digest(store), corrections.collect(store, limit=10).digest()
    corrections.record(store, image(1), 7, drawing_png=b"other", release="v2", answer=3)
    assert (correction_log.digest(store), corrections.collect(store, limit=10).digest()) == before
    (correction,) = corrections.list_current(store)
    assert (correction.label, correction.release, correction.answer) == (7, "v2", 3)


def test_the_latest_label_wins(store: FileStore) -> None:
    """A correction replaces an earlier one of the same image, however short the time between them."""
    for label in (7, 1, 3, 2):
        record(store, 1, label)
    assert labels(store) == [2]


def test_recording_is_one_write(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A correction is stored with a single `put`; of others only the names are read."""
    for method in ("get", "exists", "delete", "create"):
        monkeypatch.setattr(store, method, _unexpected)
    record(store, 1, 7)


def test_the_digest_reads_names_only(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The digest for the cache key is computed without reading a record."""
    record(store, 1, 7)
    monkeypatch.setattr(store, "get", _unexpected)
    assert len(correction_log.digest(store)) == 64


def _unexpected(*_: object) -> NoReturn:
    raise AssertionError("unexpected request to the store")


def test_a_late_write_does_not_replace_a_newer_correction(tmp_path: Path) -> None:
    """A correction that a slow store writes after its client gave up does not replace the one made meanwhile."""

    class Slow(FileStore):
        def put(self, key: str, content: bytes | Path) -> None:
            record(FileStore(tmp_path), 1, 5)  # meanwhile
            super().put(key, content)

    corrections.record(Slow(tmp_path), image(1), 3, drawing_png=b"", release="", answer=None)
    assert labels(FileStore(tmp_path)) == [5]


def test_one_of_two_concurrent_corrections_wins(tmp_path: Path) -> None:
    """Two users who correct one image at the same time delete nothing, and exactly one of the labels wins."""
    both = threading.Barrier(2, timeout=10)

    class Together(FileStore):
        def put(self, key: str, content: bytes | Path) -> None:
            super().put(key, content)
            both.wait()

    store = Together(tmp_path)
    with ThreadPoolExecutor(2) as pool:
        keys = list(pool.map(lambda label: record(store, 1, label), (3, 4)))
    assert store.keys() == sorted(keys)
    assert labels(store) in ([3], [4])


@pytest.mark.parametrize("order", itertools.permutations((1, 7, None)))
def test_equal_times_have_a_defined_winner(order: tuple[int | None, ...], store: FileStore, other: FileStore) -> None:
    """If times are equal, a withdrawal wins, then the greater label, in each order of arrival."""
    made = FileStore(store.root.parent / "made")
    entries = {1: record(made, 1, 1, at=1000), 7: record(made, 1, 7, at=1000)}
    remove(made, at=1000.000001)
    (removed,) = set(made.keys()) - set(entries.values())
    entries[None] = removed.replace("1000000001-", "1000000000-")
    for label in order:
        store.put(entries[label], made.get(removed if label is None else entries[label]))
        if label is not None:
            other.put(entries[label], made.get(entries[label]))
    assert (labels(store), labels(other)) == ([], [7])


def test_the_digest_follows_the_content(store: FileStore, other: FileStore) -> None:
    """The same corrections in another order have the same digests; a different label changes both."""
    for target, seeds in ((store, [1, 2, 3]), (other, [3, 1, 2])):
        for seed in seeds:
            record(target, seed, seed)
    before = correction_log.digest(store), corrections.collect(store, limit=10).digest()
    assert (correction_log.digest(other), corrections.collect(other, limit=10).digest()) == before
    record(store, 1, 9)
    assert correction_log.digest(store) != before[0]
    assert corrections.collect(store, limit=10).digest() != before[1]


def test_an_empty_store_is_no_error(store: FileStore) -> None:
    """Without corrections there are no images, and both digests exist."""
    collected = corrections.collect(store, limit=10)
    assert collected.images.shape == (0, 28, 28)
    assert collected.labels.shape == (0,)
    assert len(collected.digest()) == len(correction_log.digest(store)) == 64


def test_at_most_limit_corrections_are_collected(store: FileStore) -> None:
    """The oldest corrections beyond the limit are left out and counted."""
    for seed in range(5):
        record(store, seed, seed)
    collected = corrections.collect(store, limit=3)
    assert sorted(collected.labels.tolist()) == [2, 3, 4]
    assert sum(collected.rejected.values()) == 2


@pytest.mark.parametrize(
    "change",
    [
        {"image": "AAAA"},
        {"image": "no base64!"},
        {"image": None},
        {"answer": 3},
        {"drawing": ""},
        {"release": "v2"},
        {"label": 8},
    ],
)
def test_damaged_records_are_left_out(store: FileStore, change: dict[str, object]) -> None:
    """A record that was changed is counted, not trained on; the others are used."""
    key = record(store, 1, 7)
    record(store, 2, 2)
    store.put(key, canonical_json(json.loads(store.get(key)) | change))
    collected = corrections.collect(store, limit=10)
    assert collected.labels.tolist() == [2]
    assert sum(collected.rejected.values()) == 1


def test_a_record_that_the_store_refuses_is_left_out(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record that is too large for the store to be read is counted and listed, and does not end the run."""
    large, read = record(store, 1, 7), store.get
    record(store, 2, 2)

    def get(key: str, *, sha256: str = "") -> bytes:
        if key == large:
            raise ObjectRefused(f"{key} has more than 67108864 bytes")
        return read(key, sha256=sha256)

    monkeypatch.setattr(store, "get", get)
    collected = corrections.collect(store, limit=10)
    assert (collected.labels.tolist(), collected.rejected) == ([2], {"the record cannot be read": 1})
    assert [one.damaged for one in corrections.list_current(store) if one.damaged] == ["the record cannot be read"]


@pytest.mark.parametrize("content", [b"", b"{", b"{}", b"[]", b"7", b'{"image": 7}', b'{"image": "AAAA"}', b"[" * 9999])
def test_forged_records_are_left_out(store: FileStore, other: FileStore, content: bytes) -> None:
    """A record that matches the digest in its name is still parsed and checked. It is not copied either."""
    forge(store, content, "0" * 64)
    assert sum(corrections.collect(store, limit=10).rejected.values()) == 1
    assert corrections.list_current(store)[0].damaged
    assert corrections.copy(store, other) == 0
    assert other.keys() == []


def test_an_image_must_match_its_name(store: FileStore) -> None:
    """A record under the name of another image is rejected, and so is an empty image under its own name."""
    content = store.get(record(store, 1, 7))
    forge(store, content, "0" * 64)
    blank = bytes(28 * 28)
    forge(store, canonical_json({"image": "A" * 1044 + "AA=="}), sha256_of(blank))
    collected = corrections.collect(store, limit=10)
    assert collected.labels.tolist() == [7]
    assert collected.rejected == {
        "the image does not match its name": 1,
        "the image is not 28 x 28 pixels with ink": 1,
    }


@pytest.fixture
def photos(tmp_path: Path) -> FileStore:
    """The same folder as `store`, opened for the task shapes."""
    opened = FileStore(tmp_path / "store")
    opened.task = "shapes"
    return opened


def test_tasks_share_a_store(store: FileStore, photos: FileStore) -> None:
    """The corrections of each task have their own folder; images have the task's shape and may be black."""
    task, black = shapes_task(), np.zeros((24, 32, 3), np.uint8)
    record(store, 1, 7)
    key = corrections.record(photos, black, 2, drawing_png=b"", release="", answer=1, task=task)
    assert key.startswith(f"feedback/shapes/{sha256_of(bytes(24 * 32 * 3))}/")
    collected = corrections.collect(photos, limit=10, task=task)
    assert (collected.images.shape, collected.labels.tolist()) == ((1, 24, 32, 3), [2])
    assert labels(store) == [7]
    assert corrections.remove(photos, "", task).answer == 1
    assert len(corrections.collect(photos, limit=10, task=task)) == 0
    assert labels(store) == [7]


def test_corrections_that_do_not_fit_the_task_are_left_out(photos: FileStore) -> None:
    """After the task file was changed, images of another size and classes that are no more are counted by reason."""
    task = shapes_task()
    for label in range(3):
        image = np.full((24, 32, 3), label, np.uint8)
        corrections.record(photos, image, label, drawing_png=b"", release="", answer=None, task=task)
    fewer = dataclasses.replace(task, labels=task.labels[:2])
    assert corrections.collect(photos, limit=10, task=fewer).rejected == {
        f"the task shapes has no class {task.labels[2]!r}": 1
    }
    larger = dataclasses.replace(task, height=32)
    assert corrections.collect(photos, limit=10, task=larger).rejected == {"the image is not 32 x 32 x 3 pixels": 3}


def test_a_correction_keeps_its_label_when_the_labels_change(photos: FileStore) -> None:
    """A class that is added in front, as `digits new` does for a new folder, moves the index of the others."""
    task, image = shapes_task(), np.zeros((24, 32, 3), np.uint8)
    corrections.record(photos, image, 1, drawing_png=b"", release="", answer=0, task=task)
    longer = dataclasses.replace(task, labels=("arrow", *task.labels))
    assert corrections.collect(photos, limit=10, task=longer).labels.tolist() == [2]
    (correction,) = corrections.list_current(photos, longer)
    assert (correction.label, correction.answer) == (2, 1)
    other = dataclasses.replace(task, labels=("cat", "dog", "owl"))
    assert corrections.list_current(photos, other)[0].damaged
    assert corrections.collect(photos, limit=10, task=other).labels.tolist() == []


def test_a_store_of_another_task_is_refused(store: FileStore) -> None:
    """An image of one task cannot be recorded or collected in the store of another."""
    with pytest.raises(DataError, match="a store of the task shapes, got one of digits"):
        corrections.collect(store, limit=10, task=shapes_task())
    image = np.zeros((24, 32, 3), np.uint8)
    with pytest.raises(DataError, match="a store of the task shapes, got one of digits"):
        corrections.record(store, image, 0, drawing_png=b"", release="", answer=None, task=shapes_task())


def test_an_older_label_does_not_replace_a_damaged_one(store: FileStore) -> None:
    """If the newest record of an image is damaged, the label that it corrected is not used."""
    record(store, 1, 7)
    store.put(record(store, 1, 1), b"damaged")
    collected = corrections.collect(store, limit=10)
    assert (len(collected), sum(collected.rejected.values())) == (0, 1)


@pytest.mark.parametrize(
    "name",
    [
        "readme.txt",
        "0" * 64 + ".json",
        "0" * 63 + "/1000-7-" + "0" * 16 + ".json",
        *(f"{'0' * 64}/{when}-7-{'0' * 16}.json" for when in ("0", "01", "-1", "nan", "٣", "1e9", "9" * 20)),
        *(f"{'0' * 64}/1000-{label}-{'0' * 16}.json" for label in ("01", "1000", "-1", "lost", "")),
        *(f"{'0' * 64}/1000-7{content}.json" for content in ("", "-0", "-" + "g" * 16)),
    ],
)
def test_other_objects_are_ignored(store: FileStore, name: str) -> None:
    """Objects with other names do not affect the collection, the list or the digest."""
    before = correction_log.digest(store)
    store.put(f"feedback/{name}", b"{")
    assert correction_log.digest(store) == before
    assert corrections.collect(store, limit=10).rejected == {}
    assert corrections.list_current(store) == []


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
def test_an_invalid_correction_is_rejected(
    store: FileStore, picture: NDArray[np.uint8], label: int, answer: int | None
) -> None:
    """Only an image of 28 x 28 pixels with ink on it and a digit can be recorded."""
    with pytest.raises(DataError, match="expected"):
        corrections.record(store, picture, label, drawing_png=b"", release="", answer=answer)
    assert store.keys() == []


def test_corrections_are_copied_from_another_store(store: FileStore, other: FileStore) -> None:
    """Intact entries are copied once; the later label of an image wins, and the changed labels are counted."""
    record(store, 1, 7)
    record(store, 2, 2)
    record(other, 1, 1)
    record(other, 2, 2)
    key = record(other, 3, 3)
    other.put(record(other, 4, 4), b"damaged")
    assert corrections.copy(other, store) == 2
    assert sorted(labels(store)) == [1, 2, 3]
    assert store.get(key) == other.get(key)
    assert corrections.copy(other, store) == 0


def test_stores_agree_after_copying_both_ways(store: FileStore, other: FileStore) -> None:
    """After a copy in each direction both stores hold the same entries, whichever copy was first."""
    record(store, 1, 7)
    record(other, 1, 1)
    record(store, 2, 2)
    remove(store, sha256_of(image(2).tobytes()), at=2e9)
    record(other, 3, 3)
    corrections.copy(store, other)
    corrections.copy(other, store)
    assert store.keys() == other.keys()
    assert correction_log.digest(store) == correction_log.digest(other)


def test_copying_does_not_bring_a_withdrawn_correction_back(store: FileStore, other: FileStore) -> None:
    """A withdrawn correction stays withdrawn however often it is copied, until it is made again."""
    record(other, 1, 7)
    none = correction_log.digest(store)
    assert corrections.copy(other, store) == 1
    corrections.remove(store, "")
    assert corrections.copy(other, store) == len(labels(store)) == 0
    assert correction_log.digest(store) == none
    record(store, 1, 2)  # corrected to something else, which is withdrawn too
    corrections.remove(store, "")
    assert corrections.copy(other, store) == 0
    record(other, 1, 7)
    assert corrections.copy(other, store) == 1
    assert labels(store) == [7]


def test_a_withdrawn_correction_can_be_made_again(store: FileStore) -> None:
    """A withdrawal does not prevent a later correction of the same image."""
    record(store, 1, 7)
    before = correction_log.digest(store)
    corrections.remove(store, "")
    record(store, 1, 7)
    assert correction_log.digest(store) == before
    assert labels(store) == [7]


def test_withdrawing_does_not_restore_an_older_label(store: FileStore, other: FileStore) -> None:
    """After a withdrawal the image has no label, even if an older entry is copied from another store."""
    record(other, 1, 7)
    corrections.copy(other, store)
    record(store, 1, 1)
    corrections.remove(store, "")
    assert corrections.copy(other, store) == 0
    assert labels(store) == []


@pytest.mark.parametrize(("there", "here", "winner"), [(1000, 2000, 2), (2000, 1000, 7), (1000, 1000, 7)])
def test_the_later_correction_of_two_stores_wins(
    there: int, here: int, winner: int, store: FileStore, other: FileStore
) -> None:
    """The later label of an image wins after a copy; of equal times, the greater label."""
    record(other, 1, 7, at=there)
    record(store, 1, 2, at=here)
    for changed in (int(winner == 7), 0):
        assert corrections.copy(other, store) == changed
        assert labels(store) == [winner]


def test_a_correction_after_the_clock_was_set_back_wins(store: FileStore) -> None:
    """A correction, and the withdrawal of it, replace those made while the clock was far ahead."""
    record(store, 1, 7, at=2e9)
    record(store, 1, 2, at=1e9)
    assert labels(store) == [2]
    remove(store, at=1e9)
    record(store, 1, 3, at=1e9)
    assert labels(store) == [3]


def test_a_fast_clock_does_not_bring_a_correction_back(store: FileStore, other: FileStore) -> None:
    """A withdrawal is later than the correction it withdraws, even if that one's writer had a fast clock."""
    record(other, 1, 7, at=9e9)
    assert corrections.copy(other, store) == 1
    corrections.remove(store, "")
    assert corrections.copy(other, store) == 0
    assert labels(store) == []


def test_a_damaged_correction_stays_withdrawn(store: FileStore, other: FileStore) -> None:
    """The intact record of another store does not replace a damaged one that was withdrawn."""
    key = record(other, 1, 7)
    corrections.copy(other, store)
    store.put(key, b"damaged")
    corrections.remove(store, "")
    assert corrections.copy(other, store) == 0


def test_corrections_are_listed_and_withdrawn(store: FileStore) -> None:
    """Each correction is listed with the model's answer, damaged ones too; the first letters of an id suffice."""
    corrections.record(store, image(1), 7, drawing_png=b"png", release="v1", answer=1)
    damaged = record(store, 2, 2)
    store.put(damaged, b"{}")
    listed = {one.label: one for one in corrections.list_current(store)}
    assert (listed[7].answer, listed[7].release, listed[7].damaged) == (1, "v1", "")
    assert listed[None].damaged == "the record cannot be read"
    assert damaged.startswith(f"feedback/{listed[None].id}/")
    assert corrections.remove(store, listed[None].id[:12]) == listed[None]
    assert [one.label for one in corrections.list_current(store)] == [7]
    with pytest.raises(MissingError, match="no corrections begin with 'x'"):
        corrections.remove(store, "x")
    record(store, 3, 3)
    with pytest.raises(MissingError, match="2 corrections begin with ''"):
        corrections.remove(store, "")


def test_a_correction_of_the_last_time_is_removed(store: FileStore) -> None:
    """A correction whose time is the greatest that a key can state can be removed."""
    folder = store.root / "feedback"
    record(store, 1, 7)
    (entry,) = folder.rglob("*.json")
    entry.rename(entry.with_name("9" * 19 + entry.name[entry.name.index("-") :]))
    corrections.remove(store, "")
    assert corrections.list_current(store) == []
    assert labels(store) == []
