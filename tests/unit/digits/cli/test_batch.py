"""`digits batch`."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pyarrow import parquet

from digits.data.dataset import Dataset
from tests.helpers.command import Digits
from tests.helpers.support import Finished


def test_the_champion_answers(digits: Digits, finished: Finished, tmp_path: Path) -> None:
    """The champion's answers to the test images are as accurate as its evaluation states."""
    test = Dataset.load(finished.folder / "test.npz")
    np.savez(tmp_path / "images.npz", images=test.images)
    answer = digits("batch", str(tmp_path / "images.npz"), "answers", "--json", on=finished.settings).json
    table = parquet.read_table(tmp_path / "answers/part-00000.parquet")
    accuracy = float((np.asarray(table["class"]) == test.labels).mean())
    assert accuracy == finished.published.accuracy
    assert (answer["pictures"], answer["release"]) == (len(test), finished.published.version)


@pytest.mark.parametrize("output", ["in", "in/answers", "link", "file"])
def test_the_output_is_no_input(digits: Digits, finished: Finished, tmp_path: Path, output: str) -> None:
    """Answers among the pictures would be pictures of the next attempt; a file is never replaced."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "1.png").touch()
    (tmp_path / "link").symlink_to("in")
    (tmp_path / "file").write_text("mine")
    assert digits("batch", "in", output, on=finished.settings).code == 2
    assert ([path.name for path in (tmp_path / "in").iterdir()], (tmp_path / "file").read_text()) == (["1.png"], "mine")


def test_an_output_that_is_a_link_to_nothing_yet(digits: Digits, finished: Finished, tmp_path: Path) -> None:
    """The answers are written where the link points to, as into a folder that does not exist yet."""
    (tmp_path / "in").mkdir()
    Image.new("L", (28, 28), 255).save(tmp_path / "in" / "1.png")
    (tmp_path / "out").symlink_to(tmp_path / "disk" / "answers")
    assert digits("batch", "in", "out", on=finished.settings).code == 0
    assert (tmp_path / "disk" / "answers" / "manifest.json").is_file()


def test_a_name_that_is_no_text(digits: Digits, finished: Finished, tmp_path: Path) -> None:
    """The bytes of a file's name that are no UTF-8 are written as escapes."""
    (tmp_path / "in").mkdir()
    Image.new("L", (28, 28), 255).save(tmp_path / "in" / os.fsdecode(b"\xff.png"))
    digits("batch", "in", "out", on=finished.settings)
    assert parquet.read_table(tmp_path / "out/part-00000.parquet")["name"].to_pylist() == ["\\xff.png"]


@pytest.mark.parametrize("name", ["notes.txt", "empty.png", "pipe"])
def test_a_file_that_is_no_picture(digits: Digits, finished: Finished, tmp_path: Path, name: str) -> None:
    """A command that could read nothing at all does not succeed."""
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "empty.png").touch()
    os.mkfifo(tmp_path / "pipe")
    answer = digits("batch", name, "out", on=finished.settings)
    assert answer.code == 1
    assert "none of the 1 pictures can be read" in answer.err
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_pods_are_kubeflows(digits: Digits) -> None:
    """On this machine --pods has no meaning, so it is refused rather than ignored."""
    result = digits("batch", "in", "out", "--pods", "3")
    assert result.code == 2
    assert "--backend kubeflow" in result.err


def test_no_champion(digits: Digits, tmp_path: Path) -> None:
    """Without a champion the command says what to do first."""
    (tmp_path / "in").mkdir()
    result = digits("batch", "in", "out")
    assert result.code == 3
    assert "digits run" in result.err
