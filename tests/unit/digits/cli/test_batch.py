"""`digits batch`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
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


def test_no_champion(digits: Digits, tmp_path: Path) -> None:
    """Without a champion the command says what to do first."""
    (tmp_path / "in").mkdir()
    result = digits("batch", "in", "out")
    assert result.code == 3
    assert "digits run" in result.err
