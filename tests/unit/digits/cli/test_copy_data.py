"""`digits data`."""

from __future__ import annotations

from pathlib import Path

import pytest

from digits.settings import Settings
from tests.helpers.command import Digits
from tests.helpers.mnist_files import tiny_files, tiny_task
from tests.helpers.shapes import shapes_task, write_shapes


def test_a_data_set_is_copied_for_digits_data(digits: Digits, settings: Settings, tmp_path: Path) -> None:
    """The copy has the files' content, and is itself a place to copy from; nothing is copied if a file is damaged."""
    content = tiny_files()
    on = settings.with_task(tiny_task().text())
    source, copy, again = (tmp_path / name for name in ("source", "copy", "again"))
    source.mkdir()
    for name, data in content.items():
        (source / name).write_bytes(data)
    assert digits("data", str(copy), "--data", str(source), "--dataset", "mnist", on=on).code == 0
    assert digits("data", again.as_uri(), "--data", str(copy), on=on).code == 0
    assert digits("data", str(copy / "inside"), "--data", str(copy), on=on).code == 0  # no file there is read
    assert {path.name: path.read_bytes() for path in again.iterdir()} == content
    last = [*content][-1]
    (source / last).write_bytes(b"x" + content[last][1:])
    refused = digits("data", str(tmp_path / "none"), "--data", str(source), on=on)
    assert (refused.code, "expected SHA-256" in refused.err) == (1, True)
    assert not (tmp_path / "none").exists()


def test_pictures_are_copied_in_their_folders(digits: Digits, settings: Settings, tmp_path: Path) -> None:
    """The copy of a folder of pictures has the same files, and the answer names them."""
    folder = write_shapes(tmp_path / "shapes", 3)
    on = settings.with_task(shapes_task().text())
    answer = digits("data", str(tmp_path / "copy"), "--data", str(folder), "--json", on=on).json
    assert len(answer["files"]) == 9
    assert digits("data", str(tmp_path / "none"), "--data", str(folder), "--dataset", "mnist", on=on).code == 2
    for name in answer["files"]:
        assert (tmp_path / "copy" / name).read_bytes() == (folder / name).read_bytes()


def test_a_name_that_no_store_has_is_refused_before_the_copy(
    digits: Digits, settings: Settings, tmp_path: Path
) -> None:
    """A file whose name is no key of a store ends the command before the first file is written."""
    folder = write_shapes(tmp_path / "shapes", 3)
    (folder / "triangle" / "2.png").rename(folder / "triangle" / "a\\b.png")
    on = settings.with_task(shapes_task().text())
    refused = digits("data", str(tmp_path / "copy"), "--data", str(folder), on=on)
    assert (refused.code, "a\\\\b.png" in refused.err) == (1, True)
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize("destination", ["shapes", "shapes/copy", "shapes/circle/../copy", "link/copy"])
def test_the_copy_is_not_part_of_the_data_set(
    digits: Digits, settings: Settings, tmp_path: Path, destination: str
) -> None:
    """A destination in the folder of the pictures is refused, because the next run would find the copies there."""
    folder = write_shapes(tmp_path / "shapes", 3)
    (tmp_path / "link").symlink_to(folder)
    on = settings.with_task(shapes_task().text())
    refused = digits("data", str(tmp_path / destination), "--data", str(folder), on=on)
    assert (refused.code, "DESTINATION outside of" in refused.err) == (2, True)
    assert len([*folder.rglob("*.png")]) == 9
    assert not (folder / "copy").exists()
