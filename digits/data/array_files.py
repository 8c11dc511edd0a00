"""The NPZ and CSV files of a data set: which they are, their contents, and the parts in them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from digits.data import arrays, idx
from digits.data.idx_place import SPARE_BYTES
from digits.data.places import Files
from digits.data.screening import Findings, Part, digest_of, named
from digits.errors import DataError, MissingError
from digits.tasks.task import Source, Task


def read(task: Task, opened: Files, findings: Findings) -> tuple[str, list[Part]]:
    """Return the digest of the source, and the training part and, if there is one, the test part.

    Raises as `read_files`, and DataError if a file does not have the images and labels of the task.
    """
    contents, parts = [], list[Part]()
    for name, content in read_files(task.data, opened):
        found = arrays.read(task, content, f"{opened.where}: {name}")
        if not found and not parts:
            raise DataError(f"{opened.where}: {name}: expected a column of labels, found none", remedy=arrays.REMEDY)
        if not found:  # Kaggle keeps the labels of the test part
            findings.add(f"{name} has no column of labels and is not used", 0)
            continue
        contents.append(content)
        parts += [named(part, f"{Path(name).name}{' (test)' * index}") for index, part in enumerate(found)]
    return digest_of(contents), parts[:2]


def find_files(source: Source, files: Files) -> list[str]:
    """Return the names of the files of a data set, that of the training part first. Raises MissingError."""
    form = source.format
    names = [name for name in files.names() if name.lower().removesuffix(".gz").endswith(f".{form}")]
    stems = [Path(name).name.partition(".")[0].lower() for name in names]
    if "train" in stems and max(map(stems.count, ("train", "test"))) == 1:  # of several, the right one is not known
        return [names[stems.index(part)] for part in ("train", "test") if part in stems]
    if len(names) != 1:
        raise MissingError(
            f"{files.where}: expected one {form.upper()} file, or train.{form} and test.{form}, "
            f"found {', '.join(names[:5]) or 'none'}",
            remedy="set data.place to the file",
        )
    return names


def read_files(source: Source, files: Files) -> Iterator[tuple[str, bytes]]:
    """Yield (name, content) of each file, decompressed, and verified if its digest is stated.

    Raises:
        MissingError: there is no such file, or there are several.
        DataError: a file is damaged or too large.
    """
    for name in find_files(source, files):
        file = Path(name).name
        raw = files.read(name, idx.max_bytes(source, file) + SPARE_BYTES)
        yield name, idx.unpack(source, file, raw, f"{files.where}: {name}")
