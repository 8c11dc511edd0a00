"""`digits new`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from digits.data import survey
from digits.data.fetch import fetch
from digits.tasks.task import find
from tests.helpers.command import Digits
from tests.helpers.mnist_files import tiny_files
from tests.helpers.shapes import LABELS, write_shapes


def test_a_folder_of_pictures_becomes_a_task(digits: Digits, tmp_path: Path) -> None:
    """The file that is written declares the classes and a fitting image, and its data set can be fetched."""
    write_shapes(tmp_path / "shapes", 25)
    answer = digits("new", "shapes", "shapes")
    assert (answer.code, answer.err) == (0, "")
    assert "digits run --task shapes.toml" in answer.out
    assert "!" not in answer.out
    task = find(str(tmp_path / "shapes.toml"))
    assert (task.name, task.labels, task.shape, task.reading) == ("shapes", LABELS, (48, 60, 3), "photo")
    assert 'place = "shapes"' in (tmp_path / "shapes.toml").read_text()
    read = fetch(task, "auto", task.data.place, tmp_path / "cache")
    assert (len(read.train) + len(read.test), read.findings) == (75, ())


@pytest.mark.parametrize("place", ["/dev/null", "nowhere", "link"])
def test_a_place_without_a_data_set_is_named(digits: Digits, tmp_path: Path, place: str) -> None:
    """The remedy is what to give as FOLDER; there is no task file yet that could be corrected."""
    (tmp_path / "link").symlink_to("nothing")
    answer = digits("new", "shapes", place)
    assert (answer.code, "is neither a folder nor a file" in answer.err, "task file" in answer.err) == (3, True, False)
    assert not (tmp_path / "shapes.toml").exists()


@pytest.mark.parametrize("name", ["a:b", "~c", "d e", "f\x7fg", "h'i\"j\\k", "née", "#l?m%20"])
def test_any_name_of_a_folder_is_written_as_its_place(digits: Digits, tmp_path: Path, name: str) -> None:
    """The task file names the folder of the pictures, whatever TOML and addresses make of its letters."""
    folder = write_shapes(tmp_path / name, 3)
    assert digits("new", "shapes", str(folder)).code == 0
    assert find(str(tmp_path / "shapes.toml")).data.place == str(folder)


def test_what_may_be_wrong_is_shown(digits: Digits, tmp_path: Path) -> None:
    """Few pictures of a class, equal and damaged pictures, and files outside of the folders are warnings."""
    folder = write_shapes(tmp_path / "pictures", 22)
    for number in range(2, 22):
        (folder / "circle" / f"{number}.png").unlink()
    (folder / "square" / "copy.png").write_bytes((folder / "square" / "1.png").read_bytes())
    (folder / "triangle" / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    (folder / "readme.txt").touch()
    answer = digits("new", "shapes", "pictures", "--output", "own.toml", "--json").json
    assert answer["counts"] == {"circle": 2, "square": 23, "triangle": 23}
    text = "\n".join(answer["warnings"])
    for expected in ("circle has 2 pictures: at least 3", "square/1.png and square/copy.png are equal", "broken.jpg: "):
        assert expected in text
    assert "readme.txt is in no folder" in text
    assert len(answer["warnings"]) == 4
    assert find(answer["task"]).data.place == str(folder)


def test_a_file_is_never_overwritten(digits: Digits, tmp_path: Path) -> None:
    """An existing file stays, and a wrong name or place writes none."""
    write_shapes(tmp_path / "shapes", 3)
    (tmp_path / "shapes.toml").write_text("mine")
    for arguments, code in (
        (("shapes", "shapes"), 2),
        (("Shapes!", "shapes"), 2),
        (("digits", "shapes"), 2),
        (("other", "nowhere"), 3),
        (("other", "s3://b/x"), 2),
    ):
        assert digits("new", *arguments).code == code
    assert (tmp_path / "shapes.toml").read_text() == "mine"
    assert [path.name for path in tmp_path.glob("*.toml")] == ["shapes.toml"]
    (tmp_path / "empty").mkdir()
    assert digits("new", "other", "empty").code == 1


@pytest.mark.parametrize(
    ("name", "folders", "expected"),
    [
        ("fine", [f"class-{number}" for number in range(201)], "2 to 200 classes, found 201"),
        ("fine", ["one"], "2 to 200 classes, found 1"),
        ("fine", ["a", "b\x1b[2J"], "printable characters"),
        ("Not a name", ["a", "b"], "name: expected"),
    ],
)
def test_what_cannot_be_a_task_is_refused_before_any_picture_is_decoded(
    digits: Digits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, folders: list[str], expected: str
) -> None:
    """Too many or too few classes, and names that are not allowed, cost no look at thousands of pictures."""
    monkeypatch.setattr(survey, "open_picture", lambda _: pytest.fail("a picture was decoded"))
    for folder in folders:
        (tmp_path / "all" / folder).mkdir(parents=True)
        (tmp_path / "all" / folder / "1.png").touch()
    answer = digits("new", name, "all")
    assert answer.code in {1, 2}
    assert expected in answer.err


@pytest.mark.parametrize("form", ["idx", "npz", "csv"])
def test_arrays_become_a_task(form: str, digits: Digits, tmp_path: Path) -> None:
    """For IDX, NPZ and CSV files, the classes and the size of the images are those of the arrays."""
    images = np.random.default_rng(1).integers(0, 256, (30, 10, 10), np.uint8)
    labels = np.arange(30) % 10
    place = tmp_path / "data"
    place.mkdir()
    if form == "idx":
        for name, content in tiny_files().items():
            (place / name).write_bytes(content)
    elif form == "npz":
        np.savez(place / "all.npz", images=images, labels=labels)
    else:
        rows = [",".join(map(str, [label, *image.ravel()])) for image, label in zip(images, labels, strict=True)]
        (place / "train.csv").write_text("\n".join([",".join(["label", *map(str, range(100))]), *rows]))
    answer = digits("new", "ten", str(place))
    assert answer.code == 0, answer.err
    task = find(str(tmp_path / "ten.toml"))
    assert task.data.format == form
    assert task.shape == ((28, 28) if form == "idx" else (10, 10))
    assert task.labels == tuple("0123456789")[: len(task.labels)]
    if form != "idx":
        assert len(fetch(task, "auto", task.data.place, tmp_path / "cache").test) == 10


GREY = np.random.default_rng(1).integers(0, 256, (30, 10, 10), np.uint8)
CLASSES = np.arange(30) % 3


@pytest.mark.parametrize(
    ("images", "labels", "pen", "expected"),
    [
        (GREY, np.eye(3)[CLASSES], False, "expected 30 labels, found 90"),
        (GREY, CLASSES[:-1], False, "expected 30 labels, found 29"),
        (GREY.astype(int) - 128, CLASSES, False, "expected values 0 to 255"),
        (np.where(GREY > 200, np.nan, GREY / 255), CLASSES, False, "expected values 0 to 255"),
        (GREY.astype(complex), CLASSES, False, "expected numbers, found complex128"),
        (np.stack([GREY] * 3, 3), CLASSES, True, "expected images of (10, 10)"),
    ],
)
def test_arrays_that_a_run_refuses_become_no_task(
    images: Any, labels: Any, pen: bool, expected: str, digits: Digits, tmp_path: Path
) -> None:
    """Arrays whose labels or values do not belong to the images are refused, as a run of the task would do."""
    np.savez(tmp_path / "all.npz", images=images, labels=labels)
    answer = digits("new", "three", "all.npz", *(["--pen"] if pen else []))
    assert answer.code == 1
    assert expected in answer.err
    assert not (tmp_path / "three.toml").exists()


@pytest.mark.parametrize(
    ("row", "expected"),
    [("0,1,2", "expected a label and 100 numbers"), ("0" + ",1e999" * 100, "expected values"), ("", "found none")],
)
def test_rows_that_a_run_refuses_become_no_task(row: str, expected: str, digits: Digits, tmp_path: Path) -> None:
    """A CSV file with a row that is no image, or without rows, is refused, as a run of the task would do."""
    rows = [
        ",".join(["label", *map(str, range(100))]),
        *([f"{n % 3}{',7' * 100}" for n in range(9)] if row else []),
        row,
    ]
    (tmp_path / "train.csv").write_text("\n".join(rows))
    answer = digits("new", "three", "train.csv")
    assert answer.code == 1
    assert expected in answer.err
    assert not (tmp_path / "three.toml").exists()


def test_drawings_are_declared_as_such(digits: Digits, tmp_path: Path) -> None:
    """With --pen the images are grey, of MNIST's size, and drawn on the page."""
    write_shapes(tmp_path / "shapes", 3)
    assert digits("new", "shapes", "shapes", "--pen").code == 0
    task = find(str(tmp_path / "shapes.toml"))
    assert (task.reading, task.drawn, task.shape) == ("pen", True, (28, 28))


def test_labels_may_have_any_printable_characters(digits: Digits, tmp_path: Path) -> None:
    """Quotes, accents, backslashes and other scripts in the names of folders survive the file."""
    names = ['a "b"', "c\\d", "über", "日本", "#1 = x"]
    for name, shape in zip(names, LABELS * 2, strict=False):
        write_shapes(tmp_path / "all", 3)
        (tmp_path / "own" / name).mkdir(parents=True)
        for path in (tmp_path / "all" / shape).iterdir():
            (tmp_path / "own" / name / path.name).write_bytes(path.read_bytes())
    assert digits("new", "own", "own").code == 0
    assert set(find(str(tmp_path / "own.toml")).labels) == set(names)
