"""Prediction for many pictures: the rows, and what happens if a program is killed or another one works on the same."""

from __future__ import annotations

import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet

from digits.data import touching
from digits.data.batch_input import Load, Shard, open_batch
from digits.data.touching import Counts
from digits.errors import DataError, MissingError, StoreError, UsageError
from digits.serving import batch_prediction
from digits.serving.batch_prediction import MANIFEST, PLAN, predict_batch
from digits.serving.slot import LoadedModel
from digits.store.file import FileStore
from digits.tasks.task import find
from tests.helpers.drawings import NOUGHT, ONE, SEVEN, draw, touching_pair

COUNT = 23


class Numbers:
    """Pictures with 0, 1 or 2 digits; the model answers each with the number in its first pixel."""

    count, digest, limit = COUNT, "numbers", 20_000

    def shards(self, size: int) -> Iterator[Load]:
        for start in range(0, COUNT, size):
            yield lambda start=start: self._load(range(start, min(start + size, COUNT)))  # type: ignore[misc]

    def _load(self, indices: range) -> Shard:
        counts = [index % 3 for index in indices]
        values = [index % 10 for index, count in zip(indices, counts, strict=True) for _ in range(count)]
        images = np.zeros((len(values), 28, 28), np.uint8)
        images[:, 0, 0] = values
        problems = {n: "no picture" for n, index in enumerate(indices) if index == 9}
        return Shard([str(index) for index in indices], images, counts, [value == 4 for value in values], problems)


def run(pixels: np.ndarray) -> np.ndarray:
    classes = np.rint(pixels[:, 0, 0, 0] * 255).astype(int)
    return np.where(np.arange(10) == classes[:, None], np.float32(0.91), np.float32(0.01))


MODEL = LoadedModel({"version": "v1", "task": find("digits").text(), "calibration": {"threshold": 0.6}}, run)

ANOTHER = LoadedModel(MODEL.manifest | {"version": "v2"}, run)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a part have five pictures."""
    monkeypatch.setattr(batch_prediction, "MAX_PICTURES", 5)


def contents(store: FileStore) -> dict[str, bytes]:
    return {key: store.get(key) for key in store.keys("")}


def rows(store: FileStore) -> list[dict[str, Any]]:
    parts = [key for key in store.keys("") if key.startswith("part")]
    return [row for key in parts for row in parquet.read_table(io.BytesIO(store.get(key))).to_pylist()]


def test_rows(tmp_path: Path) -> None:
    """Each picture has a row: a class for one digit, the number for several, nothing if it is empty or damaged."""
    manifest = predict_batch(MODEL, Numbers(), store := FileStore(tmp_path))
    found = rows(store)
    assert [row["name"] for row in found] == [str(index) for index in range(COUNT)]
    assert [(row["class"], row["label"], row["verdict"]) for row in found[:6]] == [
        (None, None, "empty"),
        (1, "1", "sure"),
        (None, "22", "sure"),
        (None, None, "empty"),
        (4, "4", "unsure"),
        (None, "55", "sure"),
    ]
    assert found[9]["verdict"] == "damaged"
    assert found[1]["probabilities"] == pytest.approx(run(np.full((1, 1, 1, 1), 1 / 255))[0].tolist())
    assert found[0]["probabilities"] is None
    assert manifest["pictures"] == sum(manifest["verdicts"].values()) == COUNT
    assert len(manifest["parts"]) == 5


def test_digits_that_touch_are_divided(tmp_path: Path) -> None:
    """Digits that touch are a number, between other pictures, as `digits predict` reads them."""
    (folder := tmp_path / "pictures").mkdir()
    for name, ink in (("a", draw(SEVEN)), ("b", touching_pair(NOUGHT, SEVEN)), ("c", draw(ONE))):
        Image.fromarray(255 - ink).save(folder / f"{name}.png")

    def answer(pixels: np.ndarray) -> np.ndarray:  # 0 for a ring, else 7; unsure of wide images only
        wide = (np.count_nonzero(pixels.max(axis=(1, 3)), axis=1) > 18)[:, None]
        label = np.where(pixels[:, 11:17, 13:16].any(axis=(1, 2, 3)), 7, 0)[:, None]
        return np.where(np.arange(10) == label, np.where(wide, np.float32(0.6), np.float32(0.997)), np.float32(0.0003))

    batch = open_batch(MODEL.task, folder, tmp_path)
    predict_batch(LoadedModel(MODEL.manifest, answer), batch, store := FileStore(tmp_path / "out"))
    assert [row["label"] for row in rows(store)] == ["7", "07", "7"]
    assert [row["verdict"] for row in rows(store)] == ["sure", "unsure", "sure"]


def test_ink_that_cannot_be_divided_may_be_unsure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A digit that is perhaps two is unsure as in `digits predict`, also if no cut goes through it."""
    (folder := tmp_path / "pictures").mkdir()
    Image.fromarray(255 - draw(SEVEN)).save(folder / "a.png")
    counts = Counts(0.85, 0.15, digits=(0.1,) * 10)
    monkeypatch.setattr(touching, "count_whole", lambda inks: [counts] * len(inks))
    monkeypatch.setattr(touching, "divide", lambda *_: [])
    model = LoadedModel(MODEL.manifest, lambda pixels: np.tile(np.float32([0.001] * 9 + [0.991]), (len(pixels), 1)))
    predict_batch(model, open_batch(MODEL.task, folder, tmp_path), store := FileStore(tmp_path / "out"))
    assert [row["verdict"] for row in rows(store)] == ["unsure"]


@pytest.mark.parametrize("writes", range(6))
def test_a_program_that_was_killed_is_continued(writes: int, tmp_path: Path) -> None:
    """After a failure at any write, the same call ends with the same bytes as an undisturbed one."""
    predict_batch(MODEL, Numbers(), undisturbed := FileStore(tmp_path / "undisturbed"))

    class Failing(FileStore):
        left = writes

        def create(self, key: str, content: bytes) -> bool:
            self.left -= 1
            if self.left < 0:
                raise StoreError("no space left")
            return super().create(key, content)

    with pytest.raises(StoreError):
        predict_batch(MODEL, Numbers(), Failing(tmp_path / "out"))
    assert not FileStore(tmp_path / "out").exists(MANIFEST)
    predict_batch(MODEL, Numbers(), store := FileStore(tmp_path / "out"))
    assert contents(store) == contents(undisturbed)


def test_parts_are_not_computed_twice(tmp_path: Path) -> None:
    """A finished part is taken as it is, and a damaged one is written again."""
    store = FileStore(tmp_path)
    predict_batch(MODEL, Numbers(), store)
    before = contents(store)
    store.put("part-00002.parquet", before["part-00002.parquet"][:-9])
    asked = []

    def count(pixels: np.ndarray) -> np.ndarray:
        asked.append(len(pixels))
        return run(pixels)

    predict_batch(LoadedModel(MODEL.manifest, count), Numbers(), store)
    assert len(asked) == 1
    assert contents(store) == before


@pytest.mark.parametrize("complete", [True, False])
def test_a_changed_byte_of_a_part_is_damage(complete: bool, tmp_path: Path) -> None:
    """The rows of a part have checksums, and a finished batch the digest of each part; the part is written again."""
    store = FileStore(tmp_path)
    predict_batch(MODEL, Numbers(), store)
    before = contents(store)
    part, manifest = before["part-00002.parquet"], before[MANIFEST]
    at = (part.index(b"sure"), part.index(b"ARROW:schema")) if complete else (part.index(b"sure"),)
    for place in at:
        store.put("part-00002.parquet", part[:place] + b"?" + part[place + 1 :])
        store.put(MANIFEST, manifest) if complete else store.delete(MANIFEST)
        predict_batch(MODEL, Numbers(), store)
        assert contents(store) == before


def test_two_programs_write_the_same(tmp_path: Path) -> None:
    """Several programs may work on one output; the result is that of one."""
    predict_batch(MODEL, Numbers(), alone := FileStore(tmp_path / "alone"))
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda _: predict_batch(MODEL, Numbers(), FileStore(tmp_path / "shared")), range(3)))
    assert contents(FileStore(tmp_path / "shared")) == contents(alone)


@pytest.mark.parametrize("shares", [1, 2, 3, 7])
def test_shares_are_the_whole(shares: int, tmp_path: Path) -> None:
    """Shares in any order, and then the whole, write the bytes of one program; a share alone writes no manifest."""
    predict_batch(MODEL, Numbers(), alone := FileStore(tmp_path / "alone"))
    store, seen = FileStore(tmp_path / "shared"), list[tuple[int, int]]()
    for index in range(shares, 0, -1):
        predict_batch(MODEL, Numbers(), store, lambda *done: seen.append(done), share=(index, shares))
        assert store.exists(MANIFEST) == (shares == 1)
    assert sum(done for done, total in seen if done == total) == COUNT
    parts = [key for key in contents(alone) if key.startswith("part")]
    assert [key for key in contents(store) if key.startswith("part")] == parts
    predict_batch(MODEL, Numbers(), store)
    assert contents(store) == contents(alone)


def test_the_output_of_another_batch_is_kept(tmp_path: Path) -> None:
    """Another release, or other pictures, need another place."""
    predict_batch(MODEL, Numbers(), store := FileStore(tmp_path))
    before = contents(store)
    with pytest.raises(UsageError, match="release") as error:
        predict_batch(ANOTHER, Numbers(), store)
    assert "--release v1" in error.value.remedy  # the champion has changed since
    assert contents(store) == before


def test_a_foreign_manifest_is_kept(tmp_path: Path) -> None:
    """A file of the manifest's name that belongs to something else, such as a web page, is not replaced."""
    store = FileStore(tmp_path)
    store.put(MANIFEST, b'{"name": "page"}')
    with pytest.raises(UsageError, match="no batch wrote"):
        predict_batch(MODEL, Numbers(), store)
    assert contents(store) == {MANIFEST: b'{"name": "page"}'}


def test_a_foreign_part_is_kept(tmp_path: Path) -> None:
    """A Parquet file of a part's name that another program wrote, as Spark does, is not replaced."""
    parquet.write_table(pyarrow.table({"x": [1]}), tmp_path / "part-00003.parquet")
    before = (tmp_path / "part-00003.parquet").read_bytes()
    with pytest.raises(UsageError, match=r"part-00003\.parquet that no batch wrote"):
        predict_batch(MODEL, Numbers(), store := FileStore(tmp_path))
    assert store.get("part-00003.parquet") == before


def test_parts_of_another_plan_are_not_taken(tmp_path: Path) -> None:
    """After the plan was removed, the parts that it had left are written again by the release of the new plan."""
    predict_batch(MODEL, Numbers(), store := FileStore(tmp_path / "out"))
    store.delete(PLAN)
    predict_batch(ANOTHER, Numbers(), store)
    predict_batch(ANOTHER, Numbers(), undisturbed := FileStore(tmp_path / "undisturbed"))
    assert contents(store) == contents(undisturbed)
    assert {row["release"] for row in rows(store)} == {"v2"}


def test_parts_that_were_removed_meanwhile(tmp_path: Path) -> None:
    """No manifest states parts that are not there; the same call again writes them."""
    store = FileStore(tmp_path)
    with pytest.raises(StoreError, match=r"part-00000\.parquet"):
        predict_batch(MODEL, Numbers(), store, lambda *_: store.delete("part-00000.parquet"))
    assert not store.exists(MANIFEST)
    assert set(predict_batch(MODEL, Numbers(), store)["parts"]) == {f"part-{n:05d}.parquet" for n in range(5)}
    assert len(rows(store)) == COUNT


def test_pictures_of_which_none_can_be_read(tmp_path: Path) -> None:
    """A batch without pictures, and one of which all are damaged, fail with the reason and have no manifest."""
    (tmp_path / "in").mkdir()
    for name in ("1.txt", "2.txt"):
        (tmp_path / "in" / name).write_text("no picture")
    batch = open_batch(MODEL.task, tmp_path / "in", tmp_path)
    with pytest.raises(DataError, match=r"none of the 2 pictures can be read; the first: expected a picture"):
        predict_batch(MODEL, batch, store := FileStore(tmp_path / "out"))
    assert not store.exists(MANIFEST)
    Image.new("L", (28, 28), 255).save(tmp_path / "in" / "3.png")
    manifest = predict_batch(MODEL, open_batch(MODEL.task, tmp_path / "in", tmp_path), FileStore(tmp_path / "other"))
    assert manifest["verdicts"] == {"sure": 0, "unsure": 0, "empty": 1, "damaged": 2}
    parquet.write_table(pyarrow.table({"image": pyarrow.array([], pyarrow.binary())}), tmp_path / "empty.parquet")
    with pytest.raises(MissingError, match="got 0"):
        predict_batch(MODEL, open_batch(MODEL.task, tmp_path / "empty.parquet", tmp_path), FileStore(tmp_path / "none"))


def test_progress(tmp_path: Path) -> None:
    """Progress is the number of pictures that are done, in order."""
    seen: list[tuple[int, int]] = []
    predict_batch(MODEL, Numbers(), FileStore(tmp_path), lambda *done: seen.append(done))
    assert seen == [(5, COUNT), (10, COUNT), (15, COUNT), (20, COUNT), (COUNT, COUNT)]
