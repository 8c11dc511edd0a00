"""Task files: the built-in ones, the text that travels with a run, and errors that name the key."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from digits.errors import UsageError
from digits.tasks.task import Source, built_in_names, find
from tests.helpers.support import ROOT

FLOWERS = """
name = "flowers"
labels = ["daisy", "rose"]
[image]
height = 32
width = 24
channels = 3
[data]
place = "pictures"
"""


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def write(text: str) -> str:
        path = tmp_path / "task.toml"
        path.write_text(text)
        return str(path)

    return write


@pytest.mark.parametrize("name", built_in_names())
def test_text_rebuilds_the_task(name: str) -> None:
    """The text of a task gives the same task on another machine."""
    task = find(name)
    assert task.is_built_in
    assert find(task.text()) == task


def test_default_task() -> None:
    """The default task is that of MNIST's digits."""
    task = find(built_in_names()[0])
    assert (task.name, task.shape, task.input_shape, task.is_number) == ("digits", (28, 28), (28, 28, 1), True)


def test_own_file(write: Any, tmp_path: Path) -> None:
    """A file of a few lines is a task; its place is relative to the file."""
    task = find(write(FLOWERS))
    assert (task.labels, task.shape, task.reading, task.drawn) == (("daisy", "rose"), (32, 24, 3), "photo", False)
    assert task.data.place == str(tmp_path / "pictures")
    assert not task.data.is_remote
    assert find(task.text()) == task


@pytest.mark.parametrize(
    "change", ["preset = 'accurate'", "model = 'baseline'", "epochs = 9", "min_accuracy = 0.9", "augmentation = 'none'"]
)
def test_what_a_model_is(write: Any, change: str) -> None:
    """Another place, and what a run sets by parameters, leave the model what it is; its augmentation does not."""
    task = find(write(FLOWERS))
    other = find(write(f"{FLOWERS}[training]\n{change}")).with_place("s3://bucket/flowers")
    assert (task.of_model() == other.of_model()) == ("augmentation" not in change)
    assert task.of_model().data == Source()


def test_text_has_no_default_values() -> None:
    """The text of a model's task names only what a model has."""
    text = json.loads(find(built_in_names()[0]).of_model().text())
    assert (text["data"], text["training"]) == ({}, {"augmentation": "pen"})


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ('name = "flowers"', 'name = "Flowers"', "name"),
        ('name = "flowers"', "", "name"),
        ('name = "flowers"', f'name = "{"f" * 41}"', "name"),
        ('"daisy", "rose"', '"daisy"', "labels"),
        ('"daisy", "rose"', '"rose", "rose"', "labels"),
        ('"daisy", "rose"', '"daisy", 7', "labels"),
        ('"daisy", "rose"', '"daisy", "ro\\nse"', "labels"),
        ('name = "flowers"', 'name = "digits"', "name"),
        ('name = "flowers"', 'name = "detect-digits"', "name"),
        ('name = "flowers"', 'name = "digits-predictor"', "name"),
        ('name = "flowers"', 'name = "mnist"', "name"),
        ('name = "flowers"', 'name = "sklearn-digits"', "name"),  # of which the run would get scikit-learn's digits
        ('"daisy", "rose"', '"caf\u00e9", "cafe\u0301"', "labels"),
        ("height = 32", "height = 1000", "image.height"),
        ("height = 32", "height = 32.0", "image.height"),
        ("height = 32", "height = true", "image.height"),
        ("channels = 3", "channels = 2", "image.channels"),
        ("channels = 3", "channels = true", "image.channels"),
        ("channels = 3", 'channels = 3\nreading = "pen"', "image.channels"),
        ("channels = 3", "channels = 3\ndrawn = true", "image.drawn"),
        ("channels = 3", "channels = 3\ncolor = 1", "image.color"),
        ("[data]", '[data]\nformat = "zip"', "data.format"),
        ("[data]", "[data]\ntest_share = 0.9", "data.test_share"),
        ("[data]", "[data]\ntest_share = nan", "data.test_share"),
        ("[data]", '[data]\nmirrors = ["file:///x"]', "data.mirrors"),
        ("[data]", '[data]\nfiles.a = {sha256 = "0", bytes = 1}', "data.files.a.sha256"),
        ("[data]", "[data]\nfiles.a = 1", "data.files.a"),
        ("[data]", '[data.files]\n"../a" = {}\n[data]', "data.files"),
        ("[data]", '[data.files]\n"/a" = {}\n[data]', "data.files"),
        ("[data]", '[data.files]\n".." = {}\n[data]', "data.files"),
        ("[data]", "[training]\npreset = 1\n[data]", "training.preset"),
        ("[data]", "[training]\nepochs = -1\n[data]", "training.epochs"),
        ("[data]", "[training]\nmin_accuracy = 95\n[data]", "training.min_accuracy"),
        ("[data]", f"[training]\nmin_accuracy = 1{'0' * 400}\n[data]", "training.min_accuracy"),
        ("[data]", '[data]\nmirrors = ["http://["]', "data.mirrors"),
        ('place = "pictures"', 'place = "a\\u0000b"', "data.place"),
        ('place = "pictures"', 'place = "a:b/c"', "data.place"),
        ('place = "pictures"', 'place = "http://["', "data.place"),
        ("[data]", "[[data]]", "data"),
    ],
)
def test_errors_name_the_key(write: Any, old: str, new: str, key: str) -> None:
    """An invalid value is refused; the message names the file and the key."""
    assert old in FLOWERS
    with pytest.raises(UsageError) as caught:
        find(path := write(FLOWERS.replace(old, new)))
    assert f"{path}: {key}: expected" in str(caught.value)


@pytest.mark.parametrize(
    "task",
    [
        *("nothing", "", "/nowhere/task.toml", "x" * 5000, "~no-such-user/x", "a\0b"),
        *("{", "{}", '{"name": "x"}', f'{{"name": "{"x" * 200_000}"}}', '{"a":' * 10_000),
    ],
)
def test_unknown_task(task: str) -> None:
    """Any text but a built-in name, an existing file and a task's text is a usage error."""
    with pytest.raises(UsageError):
        find(task)


@pytest.mark.parametrize("place", ["folder", "pipe", "/dev/zero", "x" * 5000, "circle"])
def test_what_prevents_the_reading_of_a_file_is_named(place: str, tmp_path: Path) -> None:
    """A place that is no file, or that the system refuses, is named, and not called an unknown task."""
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "circle").symlink_to("circle")
    with pytest.raises(UsageError, match=r"expected a (readable|task file, got a folder)") as caught:
        find(str(tmp_path / place))
    assert place in str(caught.value)


@pytest.mark.parametrize("text", ["name = ", f"a = {'[' * 2000}", f"a = 1{'0' * 5000}", "#" * 70_000])
def test_file_that_is_no_toml(write: Any, text: str) -> None:
    """A file that cannot be parsed is a usage error that names it."""
    with pytest.raises(UsageError, match=r"task\.toml"):
        find(write(text))


@pytest.mark.parametrize(
    ("place", "folder"),
    [
        ("./a:b", "a:b"),
        ("~no-such-user/x", "~no-such-user/x"),
        ("file:///tmp/a%20b", "/tmp/a b"),
        ("FILE:///tmp/x", "/tmp/x"),
    ],
)
def test_a_place_is_the_folder_that_it_names(write: Any, tmp_path: Path, place: str, folder: str) -> None:
    """Colons, tildes and the escapes of a file:// address name the same folder as in other programs."""
    task = find(write("\ufeff" + FLOWERS.replace("pictures", place)))
    assert task.data.place == str(tmp_path / folder)
    assert not task.data.is_remote


def test_the_documented_file_has_the_defaults(write: Any) -> None:
    """The file in the documentation is a task, and its optional values are the defaults."""
    text = (ROOT / "docs/your-images.md").read_text(encoding="utf-8")
    blocks = [block.partition("```")[0] for block in text.split("```toml\n")[1:]]
    documented = find(write(blocks[0]))
    assert (documented.name, documented.shape) == ("scenes", (48, 48, 3))
    given = 'name = "scenes"\nlabels = ["building", "flower", "portrait"]\ndata.place = "pictures"\n'
    assert find(write(given + "image = {height = 48, width = 48, channels = 3}\n")) == documented
