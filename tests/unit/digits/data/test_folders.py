"""Data sets of picture files in a folder for each class."""

from __future__ import annotations

import dataclasses
import random
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from digits.data import folders, sources
from digits.data.fetch import Fetched, fetch
from digits.data.places import Folder
from digits.data.screening import Findings
from digits.errors import DataError
from tests.helpers.shapes import LABELS, shape, shapes_task, write_shapes


def fetched(place: Path) -> Fetched:
    return fetch(shapes_task(), "auto", str(place), place.parent / "cache")


def test_a_folder_for_each_class_is_read(tmp_path: Path) -> None:
    """Labels follow the task's order, a share of each class is held out, and the images are those of the files."""
    read = fetched(write_shapes(tmp_path / "shapes", 20))
    assert (read.name, read.findings) == ("shapes", ())
    assert np.bincount(read.train.labels).tolist() == [17, 17, 17]
    assert np.bincount(read.test.labels).tolist() == [3, 3, 3]
    assert read.train.images.shape[1:] == (24, 32, 3)
    circle = np.asarray(shape("circle", 0).crop((0, 1, 60, 46)).resize((32, 24)))[12, 16]
    assert (np.abs(read.train.images[:, 12, 16].astype(int) - circle).max(axis=1) < 4).any()


@pytest.mark.parametrize("names", ["train valid test", "Train Val TEST", "Training validation Testing"])
def test_train_and_test_folders_are_the_parts(tmp_path: Path, names: str) -> None:
    """The folders `train` and `test` are the parts; pictures for validation are training images."""
    for name, count, first in zip(names.split(), (8, 2, 3), (0, 8, 100), strict=True):
        write_shapes(tmp_path / "shapes" / name, count, first=first)
    found = Folder(tmp_path / "shapes").names()
    assert folders.find_labels(found) == sorted(LABELS)
    read = fetched(tmp_path / "shapes")
    assert (len(read.train), len(read.test)) == (30, 9)


def test_the_result_depends_on_the_contents_alone(tmp_path: Path) -> None:
    """Other names, another order of the files, another place and a ZIP file give the same parts and digest."""
    first = fetched(write_shapes(tmp_path / "shapes"))
    order = random.Random(1)
    for label in LABELS:
        names = [f"{number:03}.PNG" for number in range(10)]
        order.shuffle(names)
        (tmp_path / "other" / label / "more").mkdir(parents=True)
        for name, path in zip(names, sorted((tmp_path / "shapes" / label).iterdir()), strict=True):
            shutil.copy(path, tmp_path / "other" / label / "more" / name)
    with zipfile.ZipFile(tmp_path / "shapes.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted((tmp_path / "other").rglob("*.PNG"), reverse=True):
            archive.write(path, f"download/{path.relative_to(tmp_path / 'other')}")
        archive.writestr("download/.DS_Store", b"x")
        archive.writestr("__MACOSX/download/._1.png", b"x")
    for place in (tmp_path / "other", tmp_path / "shapes.zip"):
        again = fetched(place)
        assert (again.digest, again.findings) == (first.digest, ())
        assert (again.train.digest(), again.test.digest()) == (first.train.digest(), first.test.digest())
    (tmp_path / "shapes" / "circle" / "0.png").unlink()
    assert fetched(tmp_path / "shapes").digest != first.digest


def test_what_cannot_be_used_is_listed(tmp_path: Path) -> None:
    """Damaged pictures, other files and unknown folders are left out and listed; hidden files are not mentioned."""
    folder = write_shapes(tmp_path / "shapes", 40)
    (folder / "circle" / "0.png").write_bytes((folder / "circle" / "0.png").read_bytes()[:60])
    (folder / "square" / "notes.txt").write_text("notes")
    (folder / "star").mkdir()
    (folder / "star" / "1.png").touch()
    (folder / "readme.md").touch()
    (folder / "circle" / ".DS_Store").touch()
    (folder / "circle" / "Thumbs.db").touch()
    read = fetched(folder)
    assert len(read.train) + len(read.test) == 119
    text = "\n".join(read.findings)
    for name in ("circle/0.png: ", "square/notes.txt: ", "folder star with 1 files", "readme.md is in no folder"):
        assert name in text
    assert len(read.findings) == 4


def test_too_many_unusable_files_are_refused(tmp_path: Path) -> None:
    """If more than a tenth cannot be used, the error states how many, and lists at most twenty."""
    folder = write_shapes(tmp_path / "shapes", 5)
    for number in range(40):
        (folder / "circle" / f"{number}.jpg").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(DataError, match="40 of 55 images cannot be used") as error:
        fetched(folder)
    lines = error.value.message.splitlines()
    assert (len(lines), lines[-1]) == (21, "and 21 more")


@pytest.mark.parametrize("content", ["empty", "pictures without folders", "other classes"])
def test_a_place_without_pictures_is_refused(content: str, tmp_path: Path) -> None:
    """The error names the classes that were expected, and the form of the folders."""
    folder = tmp_path / "place"
    folder.mkdir()
    if content == "pictures without folders":
        shape("circle", 1).save(folder / "1.png")
    elif content == "other classes":
        (folder / "daisy").mkdir()
        shape("circle", 1).save(folder / "daisy" / "1.png")
    for read in (lambda: fetched(folder), lambda: sources.check_place(shapes_task(), "shapes", str(folder))):
        with pytest.raises(DataError, match="expected pictures of circle, square, triangle") as error:
            read()
        assert "PLACE/LABEL/" in error.value.remedy


def test_a_class_may_be_named_like_a_part() -> None:
    """If a label is `train`, that folder is a class, not a part; accented names match in both of Unicode's forms."""
    names = ["train/1.png", "test/2.png", "café/3.png", "cafe\u0301/4.png"]
    findings = Findings()
    assert [picture.label for picture in folders.sort(("train", "test", "café"), names, findings)] == [0, 1, 2, 2]
    assert findings.count == 0


@pytest.mark.parametrize("top", ["", "download/"])
def test_a_class_named_like_a_part_may_be_in_the_parts(top: str) -> None:
    """In `train/train` and `test/train` the first folder is the part, and the second is the class."""
    labels = ("bus", "test", "train")
    names = [f"{top}{part}/{label}/{number}.png" for part in ("train", "test") for label in labels for number in "12"]
    found = folders.sort(labels, names, findings := Findings())
    assert [(p.tested, labels[p.label]) for p in found] == [
        (n.split("/")[-3] == "test", n.split("/")[-2]) for n in names
    ]
    assert findings.count == 0


def test_a_class_named_like_a_part_may_have_folders() -> None:
    """A folder `train` next to another class is a class, even if a folder in it has the name of a class."""
    names = ["bus/1.png", "train/bus/2.png", "train/3.png"]
    found = folders.sort(("bus", "train"), names, Findings())
    assert [(picture.tested, picture.label) for picture in found] == [(False, 0), (False, 1), (False, 1)]


def test_a_pen_picture_without_ink_is_left_out(tmp_path: Path) -> None:
    """A blank page among drawings is listed."""
    task = dataclasses.replace(shapes_task(), reading="pen", channels=1)
    folder = tmp_path / "drawn"
    for label in LABELS:
        (folder / label).mkdir(parents=True)
        for number in range(12):
            picture = Image.new("L", (100, 100), 255)
            sides = {"circle": 40, "square": 4, "triangle": 3}[label]
            ImageDraw.Draw(picture).regular_polygon((50, 50, 25 + number), sides, fill=None, outline=0, width=4)
            picture.save(folder / label / f"{number}.png")
    Image.new("L", (60, 60), 255).save(folder / "circle" / "blank.png")
    read = fetch(task, "auto", str(folder), tmp_path / "cache")
    assert read.findings == ("circle/blank.png shows no ink",)
    assert read.train.images.shape[1:] == (24, 32)
