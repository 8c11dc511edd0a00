"""Data sets: checked when made, saved whole, split by seed."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from digits.data import dataset
from digits.data.dataset import Dataset
from digits.errors import DataError


def some(count: int, seed: int = 0) -> Dataset:
    rng = np.random.default_rng(seed)
    return Dataset(rng.integers(0, 256, (count, 28, 28), np.uint8), rng.integers(0, 10, count).astype(np.uint8))


@pytest.mark.parametrize(
    ("images", "labels", "expected"),
    [
        (
            np.zeros((2, 28, 27), np.uint8),
            np.zeros(2, np.uint8),
            r"images uint8 \(n, 28, 28\), got uint8 \(2, 28, 27\)",
        ),
        (np.zeros((2, 28, 28), np.float32), np.zeros(2, np.uint8), "got float32"),
        (np.zeros((2, 28, 28, 1), np.uint8), np.zeros(2, np.uint8), r"got uint8 \(2, 28, 28, 1\)"),
        (np.zeros((2, 28, 28), np.uint8), np.zeros(3, np.uint8), r"labels uint8 \(2,\), got uint8 \(3,\)"),
        (np.zeros((2, 28, 28), np.uint8), np.zeros(2, np.int64), "got int64"),
        (np.zeros((2, 28, 28), np.uint8), np.array([3, 10], np.uint8), "found 10"),
    ],
)
def test_what_is_no_data_set_is_refused(images: np.ndarray, labels: np.ndarray, expected: str) -> None:
    """Wrong shapes, types and labels are refused with what came."""
    with pytest.raises(DataError, match=expected):
        Dataset(images, labels)


def test_saved_and_loaded_is_the_same(tmp_path: Path) -> None:
    """The digest of the content survives saving, whatever the file is called."""
    whole_set = some(5)
    digest = whole_set.save(tmp_path / "set.any")
    loaded = Dataset.load(tmp_path / "set.any", digest=digest)
    assert np.array_equal(loaded.images, whole_set.images)
    assert loaded.digest() == digest == whole_set.digest()


def test_an_empty_data_set_can_be_saved(tmp_path: Path) -> None:
    """No corrections at all is a data set too."""
    digest = dataset.empty().save(tmp_path / "none")
    assert len(Dataset.load(tmp_path / "none", digest=digest)) == 0


def test_the_digest_tells_content_apart() -> None:
    """One pixel, one label or the order changes the digest; a copy does not."""
    whole_set = some(4)
    images, labels = whole_set.images.copy(), whole_set.labels.copy()
    assert Dataset(images.copy(), labels.copy()).digest() == whole_set.digest()
    images[0, 0, 0] ^= 1
    labels[1] = (labels[1] + 1) % 10
    others = {Dataset(images, whole_set.labels).digest(), Dataset(whole_set.images, labels).digest()}
    others |= {whole_set[[1, 0, 2, 3]].digest(), whole_set[:3].digest()}
    assert len(others | {whole_set.digest()}) == 5


@pytest.mark.parametrize("damage", ["missing", "truncated", "garbage", "one array"])
def test_a_damaged_file_is_named(damage: str, tmp_path: Path) -> None:
    """A file that is missing, cut, or something else is a DataError with its path and a remedy."""
    path = tmp_path / "set.npz"
    some(3).save(path)
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(path.read_bytes()[:-200])
    elif damage == "garbage":
        path.write_bytes(b"<html>")
    else:
        np.savez(path, images=np.zeros((1, 28, 28), np.uint8))
    with pytest.raises(DataError, match="cannot read the data set") as refused:
        Dataset.load(path)
    assert str(path) in str(refused.value)
    assert "--no-cache" in str(refused.value)


def head_of(shape: tuple[int, ...], dtype: str = "|u1") -> bytes:
    """The head of an .npy file."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})
    return file.getvalue()


@pytest.mark.parametrize("bomb", ["compressed", "claims a terabyte", "claims an exabyte", "pickle"])
def test_a_bomb_is_refused(bomb: str, tmp_path: Path) -> None:
    """A file that unpacks to much, claims to, or holds Python objects is damaged like any other."""
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
        with zipfile.ZipFile(path, "a") as packed:
            packed.writestr("images.npy", head_of((size,)) + bytes(100))
    with pytest.raises(DataError, match="cannot read the data set"):
        Dataset.load(path)


def test_a_changed_file_is_found_by_its_digest(tmp_path: Path) -> None:
    """An intact file with another content is refused where the digest is given."""
    digest = some(3).save(tmp_path / "set.npz")
    some(3, seed=1).save(tmp_path / "set.npz")
    Dataset.load(tmp_path / "set.npz")
    with pytest.raises(DataError, match=f"expected digest {digest}, found"):
        Dataset.load(tmp_path / "set.npz", digest=digest)


def test_a_split_is_decided_by_its_seed() -> None:
    """The same seed gives the same split, another one another, and no image is lost or doubled."""
    whole_set = some(30)
    rest, part = dataset.split(whole_set, 10, seed=3)
    again = dataset.split(whole_set, 10, seed=3)
    assert (rest.digest(), part.digest()) == (again[0].digest(), again[1].digest())
    assert part.digest() != dataset.split(whole_set, 10, seed=4)[1].digest()
    assert (len(rest), len(part)) == (20, 10)
    whole = {image.tobytes() for image in whole_set.images}
    assert {image.tobytes() for image in dataset.join(rest, part).images} == whole


@pytest.mark.parametrize("count", [0, 3, 4, -1])
def test_an_impossible_split_is_refused(count: int) -> None:
    """Neither part may be empty."""
    with pytest.raises(DataError, match=f"cannot split {count} images off 3"):
        dataset.split(some(3), count, seed=0)


def test_corrections_are_repeated_but_stay_few() -> None:
    """Corrected drawings are shown several times an epoch, and never make up more than a twentieth."""
    train = some(1000)
    assert dataset.with_feedback(train, dataset.empty()) is train
    one = dataset.with_feedback(train, some(1, seed=9))
    assert len(one) == 1000 + min(dataset.FEEDBACK_REPEATS, 50)
    for count in (7, 50, 400):
        joined = dataset.with_feedback(train, some(count, seed=9))
        assert 1000 < len(joined) <= 1050
        assert np.array_equal(joined.images[:1000], train.images)
