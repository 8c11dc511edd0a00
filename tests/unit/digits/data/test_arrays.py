"""Data sets as arrays in one file: NPZ and CSV."""

from __future__ import annotations

import dataclasses
import gzip
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from digits.data import arrays
from digits.data.arrays import as_labels, load_npz, read_csv, read_npz
from digits.data.fetch import Fetched, fetch
from digits.errors import DataError, MissingError
from digits.tasks.task import Source, Task

GREY = Task("letters", ("a", "b", "c"), 8, 9, 1, "photo", False, Source("npz"))
COLOUR = dataclasses.replace(GREY, channels=3)
RANDOM = np.random.default_rng(2)


def npz(**content: np.ndarray) -> io.BytesIO:
    file = io.BytesIO()
    np.savez_compressed(file, **content)
    file.seek(0)
    return file


def numbered(count: int, task: Task = GREY) -> tuple[np.ndarray, np.ndarray]:
    """Random images, and the labels 0, 1, 2, 0, …."""
    return RANDOM.integers(0, 256, (count, *task.shape), np.uint8), np.arange(count) % 3


def csv(images: np.ndarray, labels: list[str] | np.ndarray, header: bool = True) -> bytes:
    rows = [",".join([str(label), *map(str, image.ravel())]) for image, label in zip(images, labels, strict=True)]
    names = ["label", *(f"pixel{number}" for number in range(images[0].size))]
    return "\n".join([*([",".join(names)] if header else []), *rows, ""]).encode()


def fetched(task: Task, place: Path, form: str) -> Fetched:
    return fetch(dataclasses.replace(task, data=Source(form)), "auto", str(place), place / "cache")


@pytest.mark.parametrize("task", [GREY, COLOUR], ids=["grey", "colour"])
@pytest.mark.parametrize("names", [("x_train", "y_train", "x_test", "y_test"), arrays.PAIRS[1][0] + arrays.PAIRS[1][1]])
def test_npz_files_of_keras_and_medmnist_are_read(names: tuple[str, ...], task: Task) -> None:
    """Both names of the four arrays are known; labels may be a column, and grey images may have a channel."""
    (x, y), (v, w) = numbered(6, task), numbered(3, task)
    more = (..., None) if task is GREY else ...
    train, test = read_npz(
        task, npz(**dict(zip(names, (x[more], y[:, None], v, w.astype(float)), strict=True))), "here"
    )
    assert np.array_equal(train.images, x)
    assert np.array_equal(test.images, v)
    assert (train.labels.tolist(), test.labels.tolist()) == ([0, 1, 2, 0, 1, 2], [0, 1, 2])


@pytest.mark.parametrize("kind", ["U", "S", "int8", "float32"])
def test_labels_of_any_type_are_read(kind: str) -> None:
    """Labels may be texts, bytes, whole numbers and floats without a fraction."""
    images, labels = numbered(6)
    texts = np.array(GREY.labels)[labels] if kind in "US" else labels
    (read,) = read_npz(GREY, npz(images=images, labels=texts.astype(kind)), "here")
    assert read.labels.tolist() == labels.tolist()


@pytest.mark.parametrize("kind", ["bool", "uint8", "int64", "float32"])
def test_two_values_are_black_and_white(kind: str) -> None:
    """Values 0 to 1 are fractions in each type, also in that of bytes."""
    images = (numbered(3)[0] > 127).astype(kind)
    (read,) = read_npz(GREY, npz(images=images, labels=np.arange(3)), "x")
    assert np.array_equal(read.images, images.astype(np.uint8) * 255)


@pytest.mark.parametrize(("kind", "factor"), [("float32", 1), ("float64", 255), ("int64", 255), ("uint8", 255)])
def test_values_of_other_types_become_bytes(kind: str, factor: int) -> None:
    """Fractions 0 to 1 and whole numbers 0 to 255 of any type are the same images."""
    images, labels = numbered(3)
    (read,) = read_npz(GREY, npz(images=(images / 255 * factor).round(6).astype(kind), labels=labels), "here")
    assert np.abs(read.images.astype(int) - images).max() <= 1


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"images": np.zeros((3, 8, 8)), "labels": np.zeros(3)}, r"images of \(8, 9\), found \(8, 8\)"),
        ({"images": np.zeros((3, 8, 9, 3)), "labels": np.zeros(3)}, r"found \(8, 9, 3\)"),
        ({"images": np.zeros((3, 8, 9)), "labels": np.zeros(4)}, "expected 3 labels, found 4"),
        ({"images": np.zeros((3, 8, 9)), "labels": np.array([0, 1, 3])}, "found '3'"),
        ({"images": np.full((3, 8, 9), 256), "labels": np.zeros(3)}, "found 256 to 256"),
        ({"images": np.full((3, 8, 9), -1.0), "labels": np.zeros(3)}, "found -1 to -1"),
        ({"images": np.full((3, 8, 9), np.nan), "labels": np.zeros(3)}, "found nan"),
        ({"images": np.full((3, 8, 9), "x"), "labels": np.zeros(3)}, "expected numbers"),
        ({"images": np.zeros((3, 8, 9))}, "found images"),
        ({"images": np.array([{}], object), "labels": np.zeros(1)}, "expected an NPZ file"),
    ],
)
def test_other_arrays_are_refused(content: dict[str, np.ndarray], expected: str) -> None:
    """Another size, other labels, values out of range, and Python objects are refused with what was found."""
    with pytest.raises(DataError, match=f"here: .*{expected}"):
        read_npz(GREY, npz(**content), "here")


def test_a_header_that_claims_more_than_there_is_allocates_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """An array that claims an exabyte, or a member that unpacks to too much, is refused."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (10**18,)})
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as written:
        written.writestr("images.npy", header.getvalue() + bytes(100))
    with pytest.raises(DataError, match="expected an NPZ file"):
        load_npz(file, "here")
    monkeypatch.setattr(arrays, "MAX_ARRAYS", 10_000)
    with pytest.raises(DataError, match="more than 10000 bytes"):
        load_npz(npz(images=np.zeros(10_001, np.uint8)), "here")


def test_any_damage_of_an_npz_file_is_an_error_of_the_data() -> None:
    """With random bytes changed or removed, a file is read or is a DataError."""
    images, labels = numbered(4)
    intact = npz(images=images, labels=labels).getvalue()
    stored = io.BytesIO()
    np.savez(stored, images=images, labels=labels)
    for number in range(400):
        content = bytearray(intact if number % 2 else stored.getvalue())
        for _ in range(RANDOM.integers(1, 5)):
            content[RANDOM.integers(len(content))] = RANDOM.integers(256)
        if number % 5 == 0:
            del content[RANDOM.integers(len(content)) :]
        try:
            read_npz(GREY, io.BytesIO(content), "here")
        except DataError:
            continue


@pytest.mark.parametrize("kind", ["numbers", "texts", "quoted", "no header", "last column", "windows", "fractions"])
def test_csv_files_are_read(kind: str) -> None:
    """Labels may be numbers or the labels' texts, in the first or last column, with and without a header."""
    images, labels = numbered(6)
    texts = [GREY.labels[label] for label in labels]
    content = {
        "numbers": csv(images, labels),
        "texts": csv(images, texts),
        "quoted": csv(images, [f'"{text}"' for text in texts]),
        "no header": csv(images, labels, header=False),
        "last column": b"\n".join(
            b",".join(row.split(b",")[1:] + row.split(b",")[:1]) for row in csv(images, labels).split()
        ),
        "windows": b"\xef\xbb\xbf" + csv(images, texts).replace(b"\n", b"\r\n"),
        "fractions": csv(images / 255, labels),
    }[kind]
    (read,) = read_csv(GREY, content, "here")
    assert np.array_equal(read.images, images)
    assert read.labels.tolist() == labels.tolist()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda text: text.replace(b"\na,", b"\nx,"), "found 'x'"),
        (lambda text: text[:-4] + b"\n", "a label and 72 numbers"),
        (lambda text: text.rstrip() + b",1\n", "a label and 72 numbers"),
        (lambda text: text.rstrip() + b"x\n", "a label and 72 numbers"),
        (lambda text: text.rstrip() + b"99999\n", "0 to 255"),
        (lambda text: b"a\n" + text, "separated by commas"),
        (lambda _: b"\xff\xfe\x00", "expected a CSV file"),
        (lambda _: b"<html>", "separated by commas"),
    ],
)
def test_other_csv_content_is_refused(change: object, expected: str) -> None:
    """An unknown label, too few or too many numbers, other texts and values out of range are refused."""
    images, labels = numbered(6)
    content = change(csv(images, [GREY.labels[label] for label in labels], header=False))  # type: ignore[operator]
    with pytest.raises(DataError, match=expected):
        read_csv(GREY, content, "here")


def test_a_kaggle_folder_is_read(tmp_path: Path) -> None:
    """A test.csv without labels is reported, and a share of train.csv is held out instead."""
    images, labels = numbered(60)
    (tmp_path / "train.csv").write_bytes(csv(images[:40], labels[:40]))
    (tmp_path / "test.csv").write_bytes(csv(images[40:], labels[40:]))
    both = fetched(GREY, tmp_path, "csv")
    assert (len(both.train), len(both.test), both.findings) == (40, 20, ())
    rows = (tmp_path / "test.csv").read_bytes().split(b"\n")
    (tmp_path / "test.csv").write_bytes(b"\n".join(row.partition(b",")[2] for row in rows))
    alone = fetched(GREY, tmp_path, "csv")
    assert (len(alone.train) + len(alone.test), len(alone.findings)) == (40, 1)
    assert np.bincount(alone.test.labels).tolist() == [2, 2, 2]


def test_a_compressed_file_gives_the_same_data_set(tmp_path: Path) -> None:
    """A file and its compressed form, in any order of the rows and with any name, give the same parts."""
    images, labels = numbered(30)
    (tmp_path / "one").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "one" / "letters.csv").write_bytes(csv(images, labels))
    (tmp_path / "other" / "data.csv.gz").write_bytes(gzip.compress(csv(images[::-1], labels[::-1])))
    one, other = (fetched(GREY, tmp_path / name, "csv") for name in ("one", "other"))
    assert (one.train.digest(), one.test.digest()) == (other.train.digest(), other.test.digest())


@pytest.mark.parametrize(
    "names",
    [(), ("a.npz", "b.npz"), ("a.csv",), ("1/train.npz", "2/train.npz"), ("train.npz", "1/test.npz", "2/test.npz")],
)
def test_the_file_must_be_clear(names: tuple[str, ...], tmp_path: Path) -> None:
    """None or several files in a folder are refused with what is there."""
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(MissingError, match="expected one NPZ file"):
        fetched(GREY, tmp_path, "npz")


def test_csv_cells_may_be_quoted() -> None:
    """Quotes are read as RFC 4180 defines them, in labels and numbers, with each kind of line end."""
    task = dataclasses.replace(GREY, labels=("a,1", 'b"2', "c"))
    images, _ = numbered(3)
    names = ['"a,1"', '"b""2"', "c"]
    rows = [",".join([name, *(f'"{v}"' for v in image.ravel())]) for name, image in zip(names, images, strict=True)]
    for end in ("\n", "\r\n", "\r"):
        (read,) = read_csv(task, end.join([*rows, ""]).encode(), "x.csv")
        assert np.array_equal(read.images, images)
        assert read.labels.tolist() == [0, 1, 2]


def test_labels_are_compared_as_people_read_them() -> None:
    """A version is no number with a fraction, and an accent may be a character of its own."""
    assert as_labels(dataclasses.replace(GREY, labels=("v1.0", "v2.0")), ["v2.0", "v1.0"], "x").tolist() == [1, 0]
    assert as_labels(dataclasses.replace(GREY, labels=("1.0", "2.0")), ["2.0", "1.0"], "x").tolist() == [1, 0]
    assert as_labels(dataclasses.replace(GREY, labels=("caf\u00e9", "a")), ["cafe\u0301"], "x").tolist() == [0]
    images, _ = numbered(2)
    content = npz(images=images, labels=np.array(["v2.0", "v1.0"]))
    (read,) = read_npz(dataclasses.replace(GREY, labels=("v1.0", "v2.0")), content, "x")
    assert read.labels.tolist() == [1, 0]


def test_labels_that_are_numbers_mean_their_text_first() -> None:
    """If the labels of the task are themselves numbers, a number is the label, not its index."""
    years = dataclasses.replace(GREY, labels=("2", "1", "0"))
    assert as_labels(years, ["0", "1", "2"], "here").tolist() == [2, 1, 0]
    assert as_labels(GREY, ["0", "1.0", "2"], "here").tolist() == [0, 1, 2]


def test_scikit_learns_digits_are_read_at_their_size(tmp_path: Path) -> None:
    """The 1,797 images of 8 x 8 pixels, saved as fractions, are a data set of ten classes."""
    datasets = pytest.importorskip("sklearn.datasets")
    digits = datasets.load_digits()
    np.savez(tmp_path / "digits.npz", images=digits.images / 16, labels=digits.target)
    task = Task("small", tuple("0123456789"), 8, 8, 1, "photo", False, Source("npz"))
    read = fetched(task, tmp_path, "npz")
    assert len(read.train) + len(read.test) == 1797
    assert 0.14 < len(read.test) / 1797 < 0.16
    assert read.train.images.max() == 255
