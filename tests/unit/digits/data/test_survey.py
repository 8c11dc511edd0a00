"""A look at a data set that no task file describes yet."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from digits.data import survey
from digits.data.folders import find_labels
from digits.data.survey import propose_size
from digits.errors import DataError
from tests.helpers.shapes import LABELS, write_shapes


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([(28, 28)] * 3, (28, 28)),
        ([(60, 48)] * 3, (48, 60)),
        ([(8, 8), (8, 8)], (8, 8)),
        ([(5, 5)], (8, 8)),
        ([(20, 20), (22, 22), (21, 21)], (21, 21)),
        ([(500, 400), (480, 500), (640, 480)], (64, 64)),
        ([(800, 400), (820, 400), (780, 400)], (32, 64)),
        ([(400, 800)], (64, 32)),
        ([(90, 95), (70, 70), (100, 50)], (48, 64)),
        ([(5000, 10)], (8, 64)),
    ],
)
def test_a_size_is_proposed(sizes: list[tuple[int, int]], expected: tuple[int, int]) -> None:
    """One allowed size of all pictures is kept; otherwise the median and its aspect ratio choose a usual size."""
    assert propose_size(sizes) == expected


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["b/1.png", "a/1.png", "readme.md"], ["a", "b"]),
        (["train/b/1.png", "test/a/1.png", "valid/c/1.png", "other/1.png"], ["a", "b", "c"]),
        (["all/a/1.png", "all/b/more/1.png"], ["a", "b"]),
        (["10/1.png", "9/1.png", "x/1.png"], ["9", "10", "x"]),
        (["train/1.png", "car/1.png"], ["car", "train"]),
        (["1/1.png", "02/1.png", "01/1.png", "001/1.png", "\u0661/1.png"], ["001", "01", "1", "\u0661", "02"]),
        (["9" * 5000 + "/1.png", "x/1.png"], ["9" * 5000, "x"]),
        ([], []),
    ],
)
def test_the_classes_are_the_folders_with_pictures(names: list[str], expected: list[str]) -> None:
    """The folders `train` and `test`, and one that holds all, are no classes; numbers are sorted by value."""
    assert find_labels(names) == expected


def test_colour_and_parts_are_found(tmp_path: Path) -> None:
    """Coloured pictures need three channels, grey ones in any format one; the folder `test` is counted."""
    write_shapes(tmp_path / "colour" / "train", 4)
    write_shapes(tmp_path / "colour" / "test", 2, first=50)
    found = survey.survey(tmp_path / "colour")
    assert (found.channels, found.tested, found.counts) == (3, 6, dict.fromkeys(LABELS, 6))
    for path in (tmp_path / "colour").rglob("*.png"):
        Image.open(path).convert("L").convert("RGB").save(path.with_suffix(".jpg"))
        path.unlink()
    assert survey.survey(tmp_path / "colour").channels == 1


def test_upright_photos_are_counted_as_upright(tmp_path: Path) -> None:
    """The orientation that a camera stored counts for the proposed size."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    for path in write_shapes(tmp_path / "shapes", 3, size=(400, 200)).rglob("*.png"):
        Image.open(path).save(path.with_suffix(".jpg"), exif=exif)
        path.unlink()
    found = survey.survey(tmp_path / "shapes")
    assert (found.height, found.width, found.sizes) == (64, 32, "200 x 400")


def test_of_many_pictures_a_part_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of decoded pictures is limited, and of equal and damaged ones twenty are listed."""
    folder = write_shapes(tmp_path / "shapes", 20)
    for number in range(30):
        shutil.copy(folder / "circle" / "1.png", folder / "circle" / f"copy{number}.png")
        (folder / "square" / f"broken{number}.png").touch()
    found = survey.survey(folder)
    assert len(found.warnings) == 20 + 1  # the last of the damaged ones counts the others; the equal ones
    monkeypatch.setattr(survey, "MAX_LOOKED", 10)
    assert "only 10 of 120 pictures" in survey.survey(folder).warnings[-1]


@pytest.mark.parametrize("form", ["csv", "npz"])
def test_one_class_in_a_file_is_no_data_set(form: str, tmp_path: Path) -> None:
    """A file whose images have one label is refused, with a remedy for files, which have no folder for each label."""
    place = tmp_path / f"data.{form}"
    if form == "csv":
        place.write_text("label," + ",".join(f"p{n}" for n in range(64)) + "\n" + ("7" + ",0" * 64 + "\n") * 9)
    else:
        np.savez(place, x_train=np.zeros((9, 8, 8), np.uint8), y_train=np.full(9, 7))
    with pytest.raises(DataError, match="2 to 200 classes, found 1") as caught:
        survey.survey(place)
    assert "folder" not in caught.value.remedy


def test_one_class_is_no_data_set(tmp_path: Path) -> None:
    """A folder with a single class, and one with damaged pictures alone, are refused."""
    write_shapes(tmp_path / "shapes", 2)
    for path in (tmp_path / "shapes").rglob("*.png"):
        path.write_bytes(b"x")
    with pytest.raises(DataError, match="expected pictures in a folder for each class"):
        survey.survey(tmp_path / "shapes")
    shutil.rmtree(tmp_path / "shapes" / "circle")
    shutil.rmtree(tmp_path / "shapes" / "square")
    with pytest.raises(DataError, match="2 to 200 classes, found 1"):
        survey.survey(tmp_path / "shapes")
