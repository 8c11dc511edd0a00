"""Data sets: checking, saving and splitting."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from digits.data import dataset
from digits.data.dataset import Dataset
from digits.errors import DataError
from digits.tasks.task import find


def random_set(count: int, seed: int = 0) -> Dataset:
    rng = np.random.default_rng(seed)
    return Dataset(rng.integers(0, 256, (count, 28, 28), np.uint8), rng.integers(0, 10, count).astype(np.uint8))


@pytest.mark.parametrize(
    ("images", "labels", "expected"),
    [
        (np.zeros((2, 28, 7), np.uint8), np.zeros(2, np.uint8), r"8 to 96 pixels on a side, got \(2, 28, 7\)"),
        (np.zeros((2, 97, 28), np.uint8), np.zeros(2, np.uint8), r"8 to 96 pixels on a side, got \(2, 97, 28\)"),
        (np.zeros((2, 28, 28), np.float32), np.zeros(2, np.uint8), "got float32"),
        (np.zeros((2, 28, 28, 1), np.uint8), np.zeros(2, np.uint8), r"got uint8 \(2, 28, 28, 1\)"),
        (np.zeros((2, 28, 28), np.uint8), np.zeros(3, np.uint8), r"labels uint8 \(2,\), got uint8 \(3,\)"),
        (np.zeros((2, 28, 28), np.uint8), np.zeros(2, np.int64), "got int64"),
        (np.zeros((2, 28, 28), np.uint8), np.array([3, 200], np.uint8), "below 200, found 200"),
    ],
)
def test_invalid_arrays_are_rejected(images: np.ndarray, labels: np.ndarray, expected: str) -> None:
    """The error states the wrong shape, type or label."""
    with pytest.raises(DataError, match=expected):
        Dataset(images, labels)


def test_a_data_set_is_checked_against_a_task() -> None:
    """Another size, other channels, and a label that the task does not have are refused."""
    task = find("digits")
    assert len(random_set(5).check(task)) == 5
    colour = Dataset(np.zeros((2, 28, 28, 3), np.uint8), np.zeros(2, np.uint8))
    small = Dataset(np.zeros((2, 8, 28), np.uint8), np.zeros(2, np.uint8))
    high = Dataset(np.zeros((2, 28, 28), np.uint8), np.array([0, 10], np.uint8))
    for wrong, found in ((colour, r"\(28, 28, 3\)"), (small, r"\(8, 28\)"), (high, "found 10")):
        with pytest.raises(DataError, match=found):
            wrong.check(task)


@pytest.mark.parametrize("shape", [(28, 28), (9, 96, 3)])
def test_a_loaded_data_set_equals_the_saved_one(shape: tuple[int, ...], tmp_path: Path) -> None:
    """The digest stays the same for every file name, for grey and coloured images."""
    whole_set = Dataset(np.random.default_rng(1).integers(0, 256, (5, *shape), np.uint8), np.arange(5, dtype=np.uint8))
    digest = whole_set.save(tmp_path / "set.any")
    loaded = Dataset.load(tmp_path / "set.any", digest=digest)
    assert np.array_equal(loaded.images, whole_set.images)
    assert loaded.digest() == digest == whole_set.digest()


def test_an_empty_data_set_can_be_saved(tmp_path: Path) -> None:
    """A data set may have no images, as without corrections."""
    digest = dataset.empty().save(tmp_path / "none")
    assert len(Dataset.load(tmp_path / "none", digest=digest)) == 0


def test_the_digest_follows_the_content() -> None:
    """A changed pixel, label or order changes the digest; a copy does not."""
    whole_set = random_set(4)
    images, labels = whole_set.images.copy(), whole_set.labels.copy()
    assert Dataset(images.copy(), labels.copy()).digest() == whole_set.digest()
    images[0, 0, 0] ^= 1
    labels[1] = (labels[1] + 1) % 10
    others = {Dataset(images, whole_set.labels).digest(), Dataset(whole_set.images, labels).digest()}
    others |= {whole_set[[1, 0, 2, 3]].digest(), whole_set[:3].digest()}
    assert len(others | {whole_set.digest()}) == 5


@pytest.mark.parametrize("damage", ["missing", "truncated", "garbage", "one array"])
def test_a_damaged_file_is_named(damage: str, tmp_path: Path) -> None:
    """The error for a missing, truncated or other file has its path and a remedy."""
    path = tmp_path / "set.npz"
    random_set(3).save(path)
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(path.read_bytes()[:-200])
    elif damage == "garbage":
        path.write_bytes(b"<html>")
    else:
        np.savez(path, images=np.zeros((1, 28, 28), np.uint8))
    with pytest.raises(DataError, match="cannot read the data set") as error:
        Dataset.load(path)
    assert str(path) in str(error.value)
    assert "--no-cache" in str(error.value)


def header(shape: tuple[int, ...], dtype: str = "|u1") -> bytes:
    """Return the header of an .npy file."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})
    return file.getvalue()


@pytest.mark.parametrize("bomb", ["compressed", "claims a terabyte", "claims an exabyte", "pickle"])
def test_a_bomb_is_rejected(bomb: str, tmp_path: Path) -> None:
    """A file that decompresses to far more, claims a huge size, or holds Python objects counts as damaged."""
    path = tmp_path / "set.npz"
    labels = np.zeros(3, np.uint8)
    if bomb == "compressed":
        np.savez_compressed(path, images=np.zeros((300_000, 28, 28), np.uint8), labels=labels)
        assert path.stat().st_size < 1_000_000
    elif bomb == "pickle":
        np.savez(path, images=np.array([{}] * 3, object), labels=labels)
    else:
        np.savez(path, labels=labels)
        size = 10**12 if bomb == "claims a terabyte" else 10**18
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("images.npy", header((size,)) + bytes(100))
    with pytest.raises(DataError, match="cannot read the data set"):
        Dataset.load(path)


def test_a_changed_file_is_detected_by_its_digest(tmp_path: Path) -> None:
    """An intact file with other content is rejected if the digest is given."""
    digest = random_set(3).save(tmp_path / "set.npz")
    random_set(3, seed=1).save(tmp_path / "set.npz")
    Dataset.load(tmp_path / "set.npz")
    with pytest.raises(DataError, match=f"expected digest {digest}, found"):
        Dataset.load(tmp_path / "set.npz", digest=digest)


LARGE = np.repeat(np.arange(10), 30).astype(np.uint8)  # labels, with enough of each class to split at random


def test_the_seed_determines_the_split() -> None:
    """The same seed gives the same split, another seed gives another, and no image is lost or duplicated."""
    rest, held = dataset.split_validation(LARGE, 12, 3)
    again = dataset.split_validation(LARGE, 12, 3)
    assert rest.tolist() == again[0].tolist()
    assert held.tolist() == again[1].tolist() != dataset.split_validation(LARGE, 12, 4)[1].tolist()
    assert (len(rest), len(held)) == (275, 25)
    assert sorted([*rest, *held]) == list(range(300))


def test_a_class_with_few_images_keeps_some_for_each_part() -> None:
    """With few images of a class, each class has a twelfth, at least one image, for validation, and keeps the rest."""
    labels = np.repeat(np.arange(4), [2, 3, 100, 1]).astype(np.uint8)
    for seed in range(20):
        rest, held = dataset.split_validation(labels, 12, seed)
        assert np.bincount(labels[held], minlength=4).tolist() == [1, 1, 8, 0]
        assert np.bincount(labels[rest], minlength=4).tolist() == [1, 2, 92, 1]
        assert dataset.split_validation(labels, 12, seed)[1].tolist() == held.tolist()
    with pytest.raises(DataError, match="at least 2 images of a class"):
        dataset.split_validation(labels[[0, 3, 105]], 12, 0)


def test_validation_needs_no_more_images_than_the_limit() -> None:
    """No more images than the limit are held out of a very large data set."""
    rest, held = dataset.split_validation(np.arange(1_000_000, dtype=np.int64).astype(np.uint8) % 10, 12, 0)
    assert (len(rest), len(held)) == (1_000_000 - dataset.MAX_VALIDATION, dataset.MAX_VALIDATION)


@pytest.mark.parametrize(
    ("corrections", "used", "added"), [(0, 0, 0), (1, 1, 50), (7, 7, 49), (50, 50, 50), (400, 50, 50)]
)
def test_corrections_are_repeated_up_to_a_share(corrections: int, used: int, added: int) -> None:
    """Corrections are repeated, and add at most a twentieth to 1,000 training images."""
    indices = dataset.repeat_feedback(corrections, 1000)
    assert sorted(set(indices.tolist())) == list(range(used))
    assert len(indices) == added


def test_a_correction_is_repeated_at_most_sixty_times() -> None:
    """A single correction is added 60 times to a large set."""
    assert dataset.repeat_feedback(1, 100_000).tolist() == [0] * dataset.FEEDBACK_REPEATS
