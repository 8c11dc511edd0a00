"""The source of a data set: which one a run uses, whether it is there, and its part of the cache key.

A command asks this before each run, so MNIST's files are verified here without importing NumPy.
"""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from digits.data import catalog, idx, idx_place
from digits.data.download import find_mirror
from digits.errors import UsageError
from digits.files import folder_from_url, sha256_of, sha256_of_folder
from digits.tasks.task import BUILT_IN, Task

if TYPE_CHECKING:
    from digits.data.places import Stored

RANDOM = 8  # bytes of the value for a place on the network; shorter than a digest


def resolve(task: Task, name: str, place: idx_place.Place | Stored, cache: Path) -> str:
    """Return the name of the data set that a run of the task will use, within 10 s.

    A task other than digits has one data set, of its own name. For digits, "auto" is MNIST if `place` is set, the cache
    is complete or a mirror responds, else scikit-learn's digits. The files in `place` are not checked.

    Raises:
        UsageError: there is no data set of that name.
    """
    if not is_mnist(task):
        if name not in {catalog.AUTO, task.name}:
            raise UsageError(f"the task {task.name} has its own data set, got --dataset {name}", remedy="omit it")
        return task.name
    catalog.check_name(name)
    if name != catalog.AUTO:
        return name
    if place or all((cache / catalog.MNIST / file).is_file() for file in task.data.files):
        return catalog.MNIST
    return catalog.MNIST if find_mirror(task.data) else catalog.FALLBACK


def is_mnist(task: Task) -> bool:
    """Return whether the data set of a task is MNIST as it was published."""
    return task.name == BUILT_IN and bool(task.data.files) and task.data.format == "idx"


def digest(task: Task, place: str, recorded: str = "") -> str:
    """Return what changes when a task's own data may have changed, for the cache key of the step that fetches it.

    It is the digest of the files in a folder; '' if the task states the digests of its files, which the step verifies;
    else a random value, because a place on the network cannot be examined without reading all of it. A run that is
    resumed keeps such a value, which is `recorded`.
    """
    stated = bool(task.data.files)
    if idx_place.is_folder(place) and not (stated and task.data.format == "idx"):
        path = folder_from_url(place, "DIGITS_DATA")
        return sha256_of_folder(path) if path.is_dir() else sha256_of(path) if path.is_file() else ""
    random = recorded if len(recorded) == 2 * RANDOM else secrets.token_hex(RANDOM)
    return random if place and not stated else ""


def check_place(task: Task, name: str, place: str) -> None:
    """Check that a data set is in `place` if that is a folder; a URL is not requested. Raises as `fetch`.

    The four IDX files are verified; pictures and arrays are checked when they are fetched.
    """
    if not idx_place.is_folder(place) or name == catalog.FALLBACK:
        return
    if task.data.format == "idx":
        for file in idx.FILES:
            idx_place.read_folder(task.data, file, place)
        return
    from digits.data import array_files, folders
    from digits.data.places import open_files
    from digits.data.screening import Findings

    opened = open_files(task.data, place, Path())
    if task.data.format == "folder":
        folders.find_pictures(task, opened, Findings())
    else:
        array_files.find_files(task.data, opened)
