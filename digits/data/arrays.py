"""Data sets as arrays in one file: NPZ as Keras and MedMNIST write it, and CSV as on Kaggle.

x_train, y_train, x_test, y_test          NPZ; or train_images, train_labels, test_images, test_labels
images, labels                            NPZ without a test part
label,pixel0,pixel1,…                     CSV, a row per image; the label's column may also be the last one
"""

from __future__ import annotations

import csv
import io
import itertools
import lzma
import math
import re
import struct
import tokenize
import unicodedata
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from digits.data.dataset import Dataset, Images
from digits.errors import DataError
from digits.tasks.task import Task

MAX_ARRAYS = 2 << 30  # bytes of the arrays in a file
PAIRS: tuple[tuple[tuple[str, str], ...], ...] = (
    (("x_train", "y_train"), ("x_test", "y_test")),
    (("train_images", "train_labels"), ("test_images", "test_labels")),
    (("images", "labels"),),
)
# What `zipfile` raises for a damaged archive, or one that needs a password or another program, and NumPy for a damaged
# header of an array.
ARCHIVE_ERRORS = (
    OSError, ValueError, KeyError, RuntimeError, EOFError, struct.error, zlib.error, lzma.LZMAError, zipfile.BadZipFile,
    SyntaxError, TypeError, IndexError, OverflowError, tokenize.TokenError,
)  # fmt: skip
LABEL_COLUMNS = ("label", "labels", "class", "target")
REMEDY = "docs/your-images.md describes the formats of data sets"


def read(task: Task, content: bytes, origin: str) -> list[Dataset]:
    """Return the training part and the test part, as far as the file has them. Raises DataError."""
    if task.data.format == "npz":
        return read_npz(task, io.BytesIO(content), origin)
    return read_csv(task, content, origin)


def open_zip(file: Path | IO[bytes]) -> zipfile.ZipFile:
    """Open a ZIP file. Raises one of ARCHIVE_ERRORS, also if two files in it have one name: programs read either."""
    archive = zipfile.ZipFile(file)
    names = sorted(part.filename for part in archive.infolist() if not part.is_dir())
    for name, following in itertools.pairwise(names):
        if name == following:
            raise zipfile.BadZipFile(f"it has two files named {name!r}; pack it again with one of them")
    return archive


def load_npz(file: Path | IO[bytes], origin: str) -> dict[str, NDArray[Any]]:
    """Return the arrays in an NPZ file by name.

    Raises:
        DataError: it is no NPZ file, it has more than MAX_ARRAYS bytes, or an array holds Python objects.
    """
    try:
        with open_zip(file) as archive:
            members = [part for part in archive.infolist() if part.filename.endswith(".npy")]
            if sum(part.file_size for part in members) > MAX_ARRAYS:
                raise ValueError(f"it has more than {MAX_ARRAYS} bytes")
            return {part.filename.removesuffix(".npy"): _load_array(archive.read(part)) for part in members}
    except (*ARCHIVE_ERRORS, MemoryError) as exc:
        raise DataError(f"{origin}: expected an NPZ file with arrays of images: {exc}", remedy=REMEDY) from exc


def _load_array(content: bytes) -> NDArray[Any]:
    """Return the array of an NPY file. Raises ValueError, also if its header states another size than it has."""
    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read_header(file)
    size = math.prod(shape) * dtype.itemsize
    if dtype.hasobject or size != len(content) - file.tell():
        raise ValueError(f"an array of {dtype} {shape} does not have {len(content) - file.tell()} bytes")
    array = np.frombuffer(content, dtype, offset=file.tell())
    return array.reshape(shape, order="F" if fortran else "C")


def read_npz(task: Task, file: Path | IO[bytes], origin: str) -> list[Dataset]:
    """Return the training part and, if there is one, the test part of an NPZ file. Raises DataError."""
    arrays = load_npz(file, origin)
    return [_dataset(task, arrays[x], arrays[y], f"{origin}: {x}") for x, y in find_pairs(arrays, origin)]


def find_pairs(names: Iterable[str], origin: str) -> list[tuple[str, str]]:
    """Return the names of the images and labels of each part of an NPZ file. Raises DataError."""
    found = set(names)
    for pairs in PAIRS:
        if set(pairs[0]) <= found:
            return [pair for pair in pairs if set(pair) <= found]
    expected = " or ".join(", ".join(name for pair in pairs for name in pair) for pairs in PAIRS)
    raise DataError(
        f"{origin}: expected the arrays {expected}, found {', '.join(sorted(found)) or 'none'}", remedy=REMEDY
    )


def from_keras(path: Path, file: str) -> bytes:
    """Return the content of the IDX file `file`, made from Keras's file with the four arrays of MNIST.

    Raises:
        DataError: it is not such a file.
    """
    name = ("x" if "images" in file else "y") + ("_train" if file.startswith("train") else "_test")
    arrays = load_npz(path, str(path))
    if name not in arrays:
        raise DataError(f"{path}: expected Keras's mnist.npz with the array {name}", remedy=REMEDY)
    header = bytes([0, 0, 8, arrays[name].ndim]) + np.array(arrays[name].shape, ">u4").tobytes()
    return header + arrays[name].astype(np.uint8).tobytes()


def read_csv(task: Task, content: bytes, origin: str) -> list[Dataset]:
    """Return the images of a CSV file as a list of one; an empty list if its header has no column of labels.

    Raises:
        DataError: a row is not a label and as many numbers 0 to 255 as an image of the task has.
    """
    labels, rows = split_csv(content, origin)
    size = math.prod(task.shape)
    if not labels and rows:
        return []
    try:
        if not rows or not all(row.strip() for row in rows):
            raise ValueError("found a row without numbers")
        pixels = np.loadtxt(rows, np.float32, comments=None, delimiter=",", ndmin=2)
        if pixels.shape != (len(rows), size):
            raise ValueError(f"found {pixels.shape[1]} numbers")
    except ValueError as exc:
        expected = f"a label and {size} numbers ({' x '.join(map(str, task.shape))}) in each row"
        raise DataError(f"{origin}: expected {expected}: {exc}", remedy=REMEDY) from exc
    return [Dataset(_bytes(pixels, origin).reshape(-1, *task.shape), as_labels(task, labels, origin))]


def split_csv(content: bytes, origin: str) -> tuple[list[str], list[str]]:
    """Return the labels of a CSV file, none if its header has no column of labels, and the rest of each row.

    Raises:
        DataError: it is not a text file of columns that are separated by commas.
    """
    labels, rows = list[str](), list[str]()
    try:
        reader = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""))
        head = next(reader, [])
        columns = [name.strip().lower() for name in head]
        if len(columns) < 2:
            raise ValueError(f"expected columns separated by commas, found {''.join(head)[:60]!r}")
        first, last = (columns[at] in LABEL_COLUMNS for at in (0, -1))
        header = first or last or any(name and not _is_number(name) for name in columns[1:-1])
        for row in itertools.chain([] if header else [head], reader):
            if len(row) > 1 or "".join(row).strip():
                if first or last or not header:
                    labels.append(row.pop(-1 if last else 0).strip())
                rows.append(",".join(row))
    except (ValueError, csv.Error) as exc:
        raise DataError(f"{origin}: expected a CSV file: {exc}", remedy=REMEDY) from exc
    return labels, rows


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _dataset(task: Task, images: NDArray[Any], labels: NDArray[Any], origin: str) -> Dataset:
    if images.ndim == 4 and images.shape[3] == 1:
        images = images[..., 0]
    if images.shape[1:] != task.shape:
        raise DataError(f"{origin}: expected images of {task.shape}, found {images.shape[1:]}", remedy=REMEDY)
    if labels.size != len(images):
        raise DataError(f"{origin}: expected {len(images)} labels, found {labels.size}", remedy=REMEDY)
    return Dataset(_bytes(images, origin), as_labels(task, [_decode(label) for label in labels.ravel()], origin))


def _bytes(values: NDArray[Any], origin: str) -> Images:
    """Return values 0 to 255, or fractions 0 to 1, as uint8. Raises DataError for others."""
    if values.dtype == np.uint8 and values.max(initial=0) > 1:
        return values
    if values.dtype.kind not in "buif" or not values.size:
        raise DataError(f"{origin}: expected numbers, found {values.dtype}", remedy=REMEDY)
    low, high = float(values.min()), float(values.max())
    if not 0 <= low <= high <= 255:  # also NaN
        raise DataError(f"{origin}: expected values 0 to 255, or 0 to 1, found {low:g} to {high:g}", remedy=REMEDY)
    result: Images = np.round(values * (np.float32(255) if high <= 1 else 1)).astype(np.uint8)
    return result


def as_text(label: Any) -> str:
    """Return a label of an array as text, a whole number without its fraction."""
    return re.sub(r"^(-?[0-9]+)\.0$", r"\1", _decode(label))


def _decode(label: Any) -> str:
    return label.decode(errors="replace") if isinstance(label, bytes) else str(label)


def as_labels(task: Task, texts: list[str], origin: str) -> Images:
    """Return the index of each label, uint8 (n,). All texts are labels of the task, or all are indexes.

    Raises:
        DataError: a text is neither.
    """
    index = {label: number for number, label in enumerate(task.labels)}
    texts = [unicodedata.normalize("NFC", text) for text in texts]
    texts = [as_text(text) for text in texts] if not set(texts) <= index.keys() else texts
    numbers = {str(number): number for number in range(len(task.labels))}
    if not set(texts) <= index.keys() and set(texts) & numbers.keys():
        index = numbers
    if unknown := sorted(set(texts) - index.keys()):
        raise DataError(
            f"{origin}: expected labels of the task, or 0 to {len(task.labels) - 1}, found {', '.join(unknown[:5])!r}",
            remedy="correct labels in the task file",
        )
    return np.array([index[text] for text in texts], np.uint8)
