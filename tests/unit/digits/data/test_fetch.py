"""Fetching a data set from a folder, a URL, the cache or a mirror, and the fallback."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import numpy as np
import pytest

from digits import files
from digits.data import catalog, fetch, sources
from digits.data import idx as idx_file
from digits.data.idx import FILES, TEST_IMAGES, TEST_LABELS, TRAIN_IMAGES, TRAIN_LABELS
from digits.errors import DataError, MissingError
from digits.tasks.task import Source, Task, find
from tests.helpers.mirror import CONTENT, Mirror
from tests.helpers.mnist_files import idx, tiny_task


def fill(folder: Path, *, compressed: bool = True) -> Path:
    folder.mkdir()
    for name, raw in CONTENT.items():
        (folder / (f"{name}.gz" if compressed else name)).write_bytes(gzip.compress(raw) if compressed else raw)
    return folder


def test_the_real_data_set(mnist_folder: Path, tmp_path: Path) -> None:
    """MNIST's files have the published digests and hold 60,000 and 10,000 images; the first test image is a 7."""
    fetched = fetch.fetch(find("digits"), "mnist", str(mnist_folder), tmp_path)
    assert (len(fetched.train), len(fetched.test)) == (60_000, 10_000)
    assert fetched.test.labels[0] == 7
    assert np.bincount(fetched.test.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert not list(tmp_path.iterdir())


def test_an_unreadable_file_is_named(tiny: Task, tmp_path: Path) -> None:
    """A folder with the name of a data file is a DataError with its name and reason."""
    (path := fill(tmp_path / "folder") / f"{TRAIN_IMAGES}.gz").unlink()
    path.mkdir()
    with pytest.raises(DataError, match=rf"{path} cannot be read: Is a directory"):
        sources.check_place(tiny, "mnist", str(path.parent))


def test_an_inaccessible_folder_is_named(tiny: Task, tmp_path: Path) -> None:
    """A folder that the system refuses to look at, here because its name is too long, is a DataError."""
    with pytest.raises(DataError, match="cannot be read: File name too long"):
        fetch.fetch(tiny, "mnist", str(tmp_path / ("long" * 99)), tmp_path / "cache")


@pytest.mark.parametrize("form", ["dotted", "torchvision", "keras", "keras file"])
def test_other_forms_of_the_same_content_are_accepted(form: str, tiny: Task, tmp_path: Path) -> None:
    """Names with a dot, torchvision's folders and Keras's mnist.npz hold the same images, so they are used."""
    fill(plain := tmp_path / "plain", compressed=False)
    place = tmp_path / "other"
    if form == "torchvision":
        (place / "MNIST").mkdir(parents=True)
        plain.rename(place / "MNIST" / "raw")
    elif form == "dotted":
        place.mkdir()
        for name, raw in CONTENT.items():
            (place / name.replace("-idx", ".idx")).write_bytes(raw)
    else:
        place.mkdir()
        arrays = [idx_file.parse(CONTENT[file], file) for file in FILES]
        np.savez_compressed(
            place / "mnist.npz", **dict(zip(("x_train", "y_train", "x_test", "y_test"), arrays, strict=False))
        )
    fetched = fetch.fetch(
        tiny, "mnist", str(place / "mnist.npz" if form == "keras file" else place), tmp_path / "cache"
    )
    assert (len(fetched.train), len(fetched.test)) == (7, 3)


@pytest.mark.parametrize(
    ("name", "content", "named"),
    [
        ("train.csv", b"label,pixel0\n", "it holds train.csv .*Kaggle"),
        ("mnist.npz", b"not an archive", "mnist.npz: expected an NPZ file"),
        ("photo.jpg", b"", "it holds photo.jpg"),
    ],
)
def test_what_is_there_instead_is_named(name: str, content: bytes, named: str, tiny: Task, tmp_path: Path) -> None:
    """A folder without the files is refused with what it holds; a damaged mnist.npz is named."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises((DataError, MissingError), match=named):
        sources.check_place(tiny, "mnist", str(tmp_path))


@pytest.mark.parametrize("name", ["train.csv", "mnist.zip"])
def test_a_file_that_is_no_data_set_is_called_a_file(name: str, tiny: Task, tmp_path: Path) -> None:
    """The error for a file in the place of the folder does not state that nothing is there."""
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(MissingError, match=rf"{name}; it is a file"):
        sources.check_place(tiny, "mnist", str(tmp_path / name))


def test_files_in_folders_of_their_names_are_read(tiny: Task, tmp_path: Path) -> None:
    """Kaggle's archive of MNIST's files has some of them in folders that have the files' names."""
    for name, content in CONTENT.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / name).write_bytes(content)
    sources.check_place(tiny, "mnist", str(tmp_path))


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("form", ["path", "uri"])
def test_a_folder_may_hold_compressed_files_or_not(compressed: bool, form: str, tiny: Task, tmp_path: Path) -> None:
    """The files may be compressed or not, and the folder may be given as a path or a URI."""
    folder = fill(tmp_path / "with space", compressed=compressed)
    fetched = fetch.fetch(tiny, "mnist", str(folder) if form == "path" else folder.as_uri(), tmp_path / "cache")
    assert (len(fetched.train), len(fetched.test)) == (7, 3)
    assert idx(fetched.train.images) == CONTENT[TRAIN_IMAGES]
    assert fetched.digest == catalog.published_digest(tiny.data)


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        ("truncated", "truncated or damaged gzip"),
        ("other", "expected SHA-256"),
        ("web page", r"found a web page \(HTML\)"),
        ("bomb", "found more than"),
        ("short", "it is truncated or another file"),
        ("empty", "found 0"),
    ],
)
def test_a_damaged_file_in_a_folder(damage: str, expected: str, tiny: Task, tmp_path: Path) -> None:
    """The error names the file, the expected and the actual content, and a remedy."""
    folder = fill(tmp_path / "data")
    path, raw = folder / f"{TEST_IMAGES}.gz", CONTENT[TEST_IMAGES]
    path.write_bytes(
        {
            "truncated": gzip.compress(raw)[:-30],
            "other": gzip.compress(raw[:-1] + bytes([raw[-1] ^ 1])),
            "web page": b"\n<html><body>Service Unavailable",
            "bomb": gzip.compress(bytes(100_000_000), compresslevel=1),
            "short": gzip.compress(raw[:-1]),
            "empty": b"",
        }[damage]
    )
    for check in (
        lambda: fetch.fetch(tiny, "mnist", str(folder), tmp_path / "cache"),
        lambda: sources.check_place(tiny, "mnist", str(folder)),
    ):
        with pytest.raises(DataError, match=expected) as error:
            check()
        assert str(path) in str(error.value)
        assert "try:" in str(error.value)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("suffix", [".gz", ""])
def test_a_huge_file_is_not_read(suffix: str, tiny: Task, tmp_path: Path) -> None:
    """A sparse file of a terabyte is rejected by its size, before it is read into memory."""
    folder = fill(tmp_path / "data", compressed=bool(suffix))
    path = folder / f"{TRAIN_IMAGES}{suffix}"
    os.truncate(path, 1 << 40)
    with pytest.raises(DataError, match=rf"{path}: expected at most \d+ bytes, found {1 << 40}"):
        fetch.fetch(tiny, "mnist", str(folder), tmp_path / "cache")


def test_a_pipe_in_the_place_of_a_file_is_bounded(tiny: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe that nothing writes to, in the place of a data file, is refused with the reason."""
    monkeypatch.setattr(files, "READ_SECONDS", 0.1)
    folder = fill(tmp_path / "data", compressed=True)
    (path := folder / f"{TRAIN_IMAGES}.gz").unlink()
    os.mkfifo(path)
    with pytest.raises(DataError, match=rf"{path} cannot be read: it did not end"):
        fetch.fetch(tiny, "mnist", str(folder), tmp_path / "cache")


def test_arrays_of_another_task_are_named(tmp_path: Path) -> None:
    """If an IDX file has labels that the task lacks, the error names the file."""
    task = Task("two", ("a", "b"), 8, 8, 1, "photo", False, Source("idx"))
    images = np.arange(6 * 64, dtype=np.uint8).reshape(6, 8, 8)
    for file in FILES:
        (tmp_path / file).write_bytes(idx(images if "images" in file else np.arange(6, dtype=np.uint8)))
    with pytest.raises(DataError, match=f"{TRAIN_LABELS}.*expected labels below 2"):
        fetch.fetch(task, "auto", str(tmp_path), tmp_path / "cache")


def test_a_missing_folder_or_file_is_named(tiny: Task, tmp_path: Path) -> None:
    """The error states what is missing and where it was expected."""
    with pytest.raises(MissingError, match="no folder") as error:
        fetch.fetch(tiny, "mnist", str(tmp_path / "nowhere"), tmp_path / "cache")
    assert str(tmp_path / "nowhere") in str(error.value)
    folder = fill(tmp_path / "data")
    (folder / f"{TRAIN_LABELS}.gz").unlink()
    with pytest.raises(MissingError, match=f"holds neither {TRAIN_LABELS}.gz nor {TRAIN_LABELS}"):
        fetch.fetch(tiny, "mnist", str(folder), tmp_path / "cache")


def test_a_url_is_fetched_once_and_then_cached(tiny: Task, mirror: Mirror, tmp_path: Path) -> None:
    """Four requests fill the cache; the next fetch makes none."""
    first = fetch.fetch(tiny, "mnist", mirror.url("good"), tmp_path)
    assert len(mirror.requests) == 4
    again = fetch.fetch(tiny, "mnist", mirror.url("good"), tmp_path)
    assert len(mirror.requests) == 4
    assert first.train.digest() == again.train.digest()
    assert sorted(p.name for p in (tmp_path / "mnist").iterdir()) == sorted(FILES)


def test_a_damaged_cache_heals(tiny: Task, mirror: Mirror, tmp_path: Path) -> None:
    """Only the cached file whose content changed is downloaded again."""
    fetch.fetch(tiny, "mnist", mirror.url("good"), tmp_path)
    mirror.requests.clear()
    (tmp_path / "mnist" / TEST_LABELS).write_bytes(b"rubbish")
    fetch.fetch(tiny, "mnist", mirror.url("good"), tmp_path)
    assert mirror.requests == [f"/good/{TEST_LABELS}.gz"]
    assert (tmp_path / "mnist" / TEST_LABELS).read_bytes() == CONTENT[TEST_LABELS]


def test_a_bad_mirror_is_skipped(mirror: Mirror, tmp_path: Path) -> None:
    """If a mirror sends a web page, the file comes from the next one."""
    tiny = tiny_task(mirror.url("web-page"), mirror.url("good"))
    assert sources.resolve(tiny, "auto", "", tmp_path) == "mnist"
    assert len(fetch.fetch(tiny, "auto", "", tmp_path).test) == 3


def test_without_a_mirror_the_fallback_is_used(tmp_path: Path) -> None:
    """If there is no place, no cache and no reachable mirror, scikit-learn's digits are used under their own name."""
    tiny = tiny_task("http://127.0.0.1:9/", "http://127.0.0.1:1/")
    assert sources.resolve(tiny, "auto", "", tmp_path) == catalog.FALLBACK
    fetched = fetch.fetch(tiny, "auto", "", tmp_path)
    assert fetched.name == catalog.FALLBACK
    assert (len(fetched.train), len(fetched.test)) == (1437, 360)
    assert fetched.train.images.max() > 200
    with pytest.raises(MissingError, match=r"cannot get .*:9/: connection refused"):
        fetch.fetch(tiny, "mnist", "", tmp_path)


def test_a_complete_cache_needs_no_mirror(tiny: Task, tmp_path: Path) -> None:
    """If all four files are cached, no request is made."""
    fill(tmp_path / "mnist", compressed=False)
    assert sources.resolve(tiny, "auto", "", tmp_path) == "mnist"
    assert len(fetch.fetch(tiny, "auto", "", tmp_path).train) == 7
