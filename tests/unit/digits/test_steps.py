"""The steps that make the data sets, for a small task. `tests/conftest.py` runs all steps for digits."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from digits import events, steps
from digits.data import blocks, corrections
from digits.data.dataset import Dataset
from digits.errors import DataError
from digits.settings import Settings
from digits.store import open_store
from tests.helpers.shapes import shapes_task, write_shapes


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The settings of the task shapes, which the steps read from the environment, too."""
    made = Settings(home=tmp_path / "home", data=str(tmp_path / "shapes"), task=shapes_task().text())
    for name, value in made.environ().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv(events.VARIABLE, str(tmp_path / "events"))
    return made


def test_thirty_pictures_are_enough_to_train_on(settings: Settings, tmp_path: Path) -> None:
    """Ten pictures of each of three classes give sets with some of each class, and a correction is added."""
    (write_shapes(tmp_path / "shapes") / "circle" / "notes.txt").touch()
    store, task = open_store(settings), settings.declaration
    image = np.zeros(task.shape, np.uint8)
    corrections.record(store, image, 2, drawing_png=b"", release="", answer=0, task=task)

    data = steps.fetch_mnist("auto", settings.task, tmp_path / "fetched")
    feedback = steps.collect_feedback("", settings.task, tmp_path / "corrections")
    paths = {f"{name}_set": tmp_path / name for name in ("train", "validation", "test")}
    prepared = steps.prepare(tmp_path / "fetched", tmp_path / "corrections", data, feedback, 0, **paths)

    assert (data.dataset, data.train_count, data.test_count, feedback.count) == ("shapes", 24, 6, 1)
    loaded = {name: Dataset.load(path).labels for name, path in paths.items() if name != "train_set"}
    loaded["train_set"] = blocks.read(paths["train_set"], prepared.train).load(0).labels
    counts = {name: np.bincount(labels).tolist() for name, labels in loaded.items()}
    assert counts == {"train_set": [7, 7, 8], "validation_set": [1, 1, 1], "test_set": [2, 2, 2]}
    assert prepared.feedback_used == 1
    texts = [json.loads(line).get("text", "") for line in (tmp_path / "events").read_text().splitlines()]
    assert any(text.startswith("left out: circle/notes.txt") for text in texts)


def test_a_data_set_that_is_too_small_fails_before_training(settings: Settings, tmp_path: Path) -> None:
    """Two pictures of each class are refused by the first step, with what is needed."""
    write_shapes(tmp_path / "shapes", 2)
    with pytest.raises(DataError, match="at least 2 training images and 1 test image of each class"):
        steps.fetch_mnist("auto", settings.task, tmp_path / "fetched")
    assert not (tmp_path / "fetched").exists()
