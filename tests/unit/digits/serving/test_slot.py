"""Loading and replacing the predictor's model: signature, golden check and promotions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest

from digits.errors import ReleaseError, StoreError
from digits.release import ledger, releases
from digits.release.write import write_release
from digits.serving.slot import MAX_REASON, LedgerWatcher, ModelSlot, load
from digits.settings import Settings
from digits.store import open_store
from digits.store.file import FileStore
from digits.tasks.task import find
from tests.helpers.predict import Load
from tests.helpers.support import Finished, StartPredictor, another_release, get_json
from tests.helpers.tasks import COLOURS, LinearModel, task_text

LINEAR = LinearModel(find("digits"))
WEIGHTS, GOLDEN = LINEAR.weights, LINEAR.golden()
INTACT = LINEAR.onnx()


def test_an_intact_release_is_loaded(tmp_path: Path) -> None:
    """The small model of these tests is accepted, so that each rejection below is due to the change it makes."""
    loaded = load(LINEAR.release(tmp_path))
    assert loaded.version == "0" * 12
    assert loaded.run(np.zeros((3, 28, 28, 1), np.float32)).shape == (3, 10)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (b"no ONNX at all", "ONNX Runtime cannot load release 000000000000: "),
        (INTACT[:-100], "ONNX Runtime cannot load release 000000000000: "),
        (LINEAR.onnx([784], WEIGHTS), r"expected a model of float \(n, 28, 28, 1\), got tensor\(float\) .*784"),
        (LINEAR.onnx([1, 28, 28], WEIGHTS), r"expected a model of float .*, got tensor\(float\) .*1, 28, 28"),
        (LINEAR.onnx([28, 28, 1], WEIGHTS.astype(np.float64)), r"expected a model of float .*, got tensor\(double"),
        (LINEAR.onnx([28, 28, 1], WEIGHTS[:, :5]), r"expected probabilities \(1, 10\) for one image, got \(1, 5\)"),
        (LINEAR.onnx([28, 28, 1], WEIGHTS[:, :1]), r"expected probabilities \(1, 10\) for one image, got \(1, 1\)"),
    ],
    ids=["no ONNX", "cut", "rows", "channels first", "double", "five classes", "one class"],
)
def test_a_model_of_another_signature_is_rejected(model: bytes, message: str, tmp_path: Path) -> None:
    """A file that ONNX Runtime cannot load, and a model of another signature, raise ReleaseError."""
    with pytest.raises(ReleaseError, match=message):
        load(LINEAR.release(tmp_path, onnx=model))


@pytest.mark.parametrize(
    ("golden", "message"),
    [
        (None, "has no usable golden image: TypeError"),
        ({}, "has no usable golden image: KeyError"),
        (GOLDEN | {"image": [[0] * 28] * 27}, "has no usable golden image: ValueError"),
        (GOLDEN | {"probabilities": [0.1] * 9}, "has no usable golden image: ValueError"),
        ({k: v for k, v in GOLDEN.items() if k != "class"}, "has no usable golden image: KeyError"),
        (
            GOLDEN | {"class": (GOLDEN["class"] + 1) % 10},
            r"answers its golden image with \d \(.*\); expected \d \(.*\)",
        ),
        (GOLDEN | {"probabilities": [0.1] * 10}, r"answers its golden image with \d \(.*\); expected \d \(0\.1000\)"),
        (GOLDEN | {"probabilities": [float("nan")] * 10}, r"answers its golden image with \d \(.*\); expected \d"),
    ],
    ids=["null", "empty", "small image", "nine probabilities", "no class", "wrong class", "other probabilities", "NaN"],
)
def test_a_failed_golden_check_is_rejected(golden: Any, message: str, tmp_path: Path) -> None:
    """A missing or malformed golden image, and a different class or probability, raise ReleaseError."""
    with pytest.raises(ReleaseError, match=message):
        load(LINEAR.release(tmp_path, golden=golden))


@pytest.mark.parametrize(
    ("labels", "shape", "message"),
    [
        (COLOURS, (10, 12, 3), r"expected a model of float \(n, 10, 12, 3\), got tensor\(float\) .*12, 10, 3"),
        (COLOURS, (12, 10, 1), r"no usable golden image|expected a model of float \(n, 12, 10, 1\)"),
        (COLOURS[:2], (12, 10, 3), r"no usable golden image"),
    ],
    ids=["turned", "grey", "two labels"],
)
def test_a_model_of_another_task_is_rejected(
    labels: tuple[str, ...], shape: tuple[int, int, int], message: str, tmp_path: Path
) -> None:
    """A model whose shape or number of classes is not that of the manifest's task raises ReleaseError."""
    linear = LinearModel(find(task_text()))
    assert load(linear.release(tmp_path / "intact")).task.labels == COLOURS
    with pytest.raises(ReleaseError, match=message):
        load(linear.release(tmp_path / "other", task=task_text(labels, shape)))


def test_large_images_are_computed_in_smaller_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model gets as few images per call as have the pixels of 64 digits, because ONNX Runtime keeps the memory."""
    import onnxruntime

    sizes: list[int] = []

    class Session(onnxruntime.InferenceSession):  # type: ignore[misc] # has no types
        def run(self, outputs: Any, inputs: Any) -> Any:
            sizes.extend(map(len, inputs.values()))
            return super().run(outputs, inputs)

    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    linear = LinearModel(find(task_text(COLOURS, (96, 96, 3))))
    pixels = np.random.default_rng(0).random((29, 96, 96, 3), np.float32)
    assert np.allclose(load(linear.release(tmp_path)).run(pixels), linear(pixels), atol=1e-5)
    assert sizes == [1, 5, 5, 5, 5, 5, 4]


def test_the_champion_of_the_settings_task_is_served(tmp_path: Path) -> None:
    """Two tasks in one store have champions of their own, each with its shape."""
    shapes = {}
    for number, text in enumerate((task_text(), find("digits").text())):
        settings = Settings(home=tmp_path, task=text)
        store, folder = open_store(settings), LinearModel(find(text)).release(tmp_path / str(number), str(number) * 64)
        manifest = json.loads((folder / releases.MANIFEST).read_text())
        (folder / releases.MANIFEST).unlink()
        ledger.promote(store, write_release(store, folder, manifest)["version"], "the first")
        slot = ModelSlot(settings.declaration)
        assert LedgerWatcher(slot, settings).poll(), slot.rejected
        assert slot.current
        shapes[slot.current.version] = slot.current.task.shape
    assert shapes == {"0" * 12: (12, 10, 3), "1" * 12: (28, 28)}


def test_a_promotion_replaces_the_model_without_a_failed_request(
    start_predictor: StartPredictor, finished: Finished, expected: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    """Under load, the next champion replaces the model without a restart, and a damaged one does not."""
    settings = finished.copy(tmp_path / "home")
    store = FileStore(settings.home / "store")
    predictor = start_predictor(settings)
    second = another_release(store, finished.version, seed=2)["version"]
    third = another_release(store, finished.version, seed=3)["version"]
    store.put(releases.release_prefix(store, third) + "model.onnx", b"damaged")
    with Load(predictor, expected[0]) as load:
        ledger.promote(store, second, "next")
        predictor.wait_for(lambda p: p.about()["release"] == second, "the second release")
        ledger.append(store, ledger.newest(store), third, "damaged after the check of a promotion")
        predictor.wait_for(lambda p: p.about()["refused"].get("release") == third, "the rejection of the third")
        assert predictor.about()["release"] == second
        assert "model.onnx" in predictor.about()["refused"]["why"]
        assert get_json(f"{predictor.url}/v2/models/digits/ready")
        ledger.rollback(store)
        predictor.wait_for(lambda p: p.about()["refused"] == {}, "the rollback")
    assert load.failures == []
    assert load.count > 0
    assert load.releases <= {finished.version, second}
    assert predictor.about()["release"] == second


def test_a_pinned_release_is_found_once(
    finished: Finished, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    """The start, which refuses an unknown release, and the thread after it use one answer; an outage is tried again."""
    find = Mock(side_effect=[StoreError("away"), finished.version])
    monkeypatch.setattr(releases, "find", find)
    monkeypatch.setattr(releases, "download", Mock(side_effect=StoreError("away")))
    watcher = LedgerWatcher(slot := ModelSlot(), settings, finished.version[:4])
    for _ in range(4):
        assert not watcher.poll()
    assert find.call_count == 2
    assert slot.rejected["release"] == finished.version


def test_the_reason_of_a_rejected_release_is_short(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason that clients get has at most MAX_REASON letters, whatever an error holds."""
    for error in (StoreError("é" * 10_000), ValueError("é" * 10_000)):
        monkeypatch.setattr(ledger, "champion", Mock(side_effect=error))
        slot = ModelSlot()
        assert not LedgerWatcher(slot, settings).poll()
        assert 0 < len(slot.rejected["why"]) <= MAX_REASON


def test_a_reason_is_logged_once(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A store that stays away does not fill the log: the reason is logged when it changes."""
    watcher = LedgerWatcher(ModelSlot(), settings)
    for error in (StoreError("away"), ValueError("damaged"), StoreError("away")):
        monkeypatch.setattr(ledger, "champion", Mock(side_effect=error))
        for _ in range(3):
            assert not watcher.poll()
    assert [record.levelname for record in caplog.records] == ["ERROR"] * 3
