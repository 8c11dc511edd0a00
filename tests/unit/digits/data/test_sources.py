"""The source of a data set."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from digits.data import catalog, sources
from digits.errors import UsageError
from digits.tasks.task import DataFile, Task, find
from tests.helpers.shapes import shapes_task, write_shapes
from tests.helpers.support import ROOT


def test_a_configured_place_is_never_replaced(tiny: Task, tmp_path: Path) -> None:
    """If the configured place has no data, there is an error, not other data."""
    assert sources.resolve(tiny, "auto", str(tmp_path / "nowhere"), tmp_path) == "mnist"


def test_an_unknown_data_set_lists_the_known(tmp_path: Path) -> None:
    """The error lists the known names."""
    known = ", ".join(catalog.names())
    with pytest.raises(UsageError, match=f"{known}, got 'letters'"):
        sources.resolve(find("digits"), "letters", "", tmp_path)


def test_the_digest_of_the_source_follows_its_files(tiny: Task, tmp_path: Path) -> None:
    """For the cache key, a folder counts by its contents, stated digests suffice, and a remote place is always new."""
    task, folder = shapes_task(), write_shapes(tmp_path / "shapes", 2)
    first = sources.digest(task, str(folder))
    assert sources.digest(task, folder.as_uri()) == first
    (folder / "circle" / "0.png").write_bytes(b"other")
    assert sources.digest(task, str(folder)) != first
    assert sources.digest(tiny, str(tmp_path)) == sources.digest(find("digits"), "") == ""
    stated = dataclasses.replace(task, data=dataclasses.replace(task.data, files={"shapes.zip": DataFile("0" * 64, 1)}))
    assert sources.digest(stated, "https://host.example/") == ""
    assert sources.digest(stated, str(folder)) == sources.digest(task, str(folder))
    remote = [sources.digest(task, "s3://bucket/shapes") for _ in range(2)]
    assert len({*remote, ""}) == 3


def test_a_resumed_run_keeps_the_value_for_a_remote_place_only(tmp_path: Path) -> None:
    """Pictures that were corrected after a failure are not cached under the digest of the former ones."""
    task, folder = shapes_task(), write_shapes(tmp_path / "shapes", 2)
    before = sources.digest(task, str(folder))
    (folder / "circle" / "0.png").write_bytes(b"other")
    assert sources.digest(task, str(folder), before) == sources.digest(task, str(folder)) != before
    remote = sources.digest(task, "s3://bucket/shapes")
    assert sources.digest(task, "s3://bucket/shapes", remote) == remote
    assert sources.digest(task, "s3://bucket/shapes", before) != before


def test_published_files_are_verified_without_numpy(mnist_folder: Path) -> None:
    """A command verifies MNIST's files and looks for corrections before a run without importing NumPy."""
    script = (
        "import sys; from digits.data import correction_log, sources; from digits.tasks.task import find\n"
        "sources.check_place(find('digits'), 'mnist', sys.argv[1]); print('numpy' in sys.modules)"
    )
    command = [sys.executable, "-c", script, str(mnist_folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT, check=True)
    assert done.stdout.strip() == "False"
