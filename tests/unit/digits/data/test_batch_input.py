"""The pictures of a batch, in each form that is accepted."""

from __future__ import annotations

import gzip
import io
import zipfile
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet

from digits.data.batch_input import Shard, open_batch
from digits.data.places import Stored
from digits.errors import DataError, MissingError
from digits.store.file import FileStore
from digits.tasks.task import find

TASK = find('{"name": "marks", "labels": ["a", "b"], "image": {"height": 8, "width": 12, "channels": 3}}')
IMAGES = np.random.default_rng(0).integers(0, 256, (5, *TASK.shape), np.uint8)


def encoded(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def idx(images: np.ndarray) -> bytes:
    return bytes([0, 0, 8, images.ndim]) + np.array(images.shape, ">u4").tobytes() + images.tobytes()


def write(folder: Path, form: str, images: np.ndarray = IMAGES) -> Path:
    folder.mkdir()
    if form == "folder":
        for n, image in enumerate(images):
            (folder / f"{n}.png").write_bytes(encoded(image))
        return folder
    path = folder / {"idx": "x-ubyte", "idx.gz": "x-ubyte.gz"}.get(form, f"x.{form.partition(' ')[0]}")
    if form.startswith("idx"):
        path.write_bytes(gzip.compress(idx(images)) if form == "idx.gz" else idx(images))
    elif form == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for n, image in enumerate(images):
                archive.writestr(f"{n}.png", encoded(image))
    elif form == "npz":
        np.savez(path, images=images)
    elif form == "npz compressed":
        np.savez_compressed(path, x_test=images)
    else:
        values: list[object] = [encoded(image) for image in images]
        if form == "parquet of structures":
            values = [{"bytes": value, "path": ""} for value in values]
        parquet.write_table(pyarrow.table({"image": values}), path)
    return path


FORMS = ("folder", "zip", "idx", "idx.gz", "npz", "npz compressed", "parquet", "parquet of structures")


@pytest.mark.parametrize("form", FORMS)
def test_each_form_gives_the_same_images(form: str, tmp_path: Path) -> None:
    """All forms give the same images in the same order, in shards of the requested size."""
    batch = open_batch(TASK, write(tmp_path / "in", form), tmp_path)
    shards = [load() for load in batch.shards(2)]
    assert (batch.count, [len(shard.names) for shard in shards]) == (5, [2, 2, 1])
    np.testing.assert_array_equal(np.concatenate([shard.images for shard in shards]), IMAGES)


@pytest.mark.parametrize("form", FORMS)
def test_a_batch_in_a_store(form: str, tmp_path: Path) -> None:
    """The pictures may be in an object store."""
    path = write(tmp_path / "in", form)
    stored = Stored(FileStore(tmp_path / "in"), "" if form == "folder" else path.name)
    (shard,) = [load() for load in open_batch(TASK, stored, tmp_path).shards(9)]
    np.testing.assert_array_equal(shard.images, IMAGES)


def test_a_damaged_picture_is_reported(tmp_path: Path) -> None:
    """A file that is no picture has no image; the others keep theirs."""
    folder = write(tmp_path / "in", "folder")
    (folder / "3.png").write_bytes(b"no picture")
    (shard,) = [load() for load in open_batch(TASK, folder, tmp_path).shards(9)]
    assert isinstance(shard, Shard)
    assert (list(shard.counts), list(shard.problems)) == ([1, 1, 1, 0, 1], [3])


@pytest.mark.parametrize("form", FORMS)
def test_the_digest_follows_the_content(form: str, tmp_path: Path) -> None:
    """Changed pictures have another digest, so that the predictions for others are not taken for theirs."""
    path = write(tmp_path / "in", form)
    before = open_batch(TASK, path, tmp_path).digest
    assert open_batch(TASK, path, tmp_path).digest == before
    if form == "folder":
        (path / "3.png").write_bytes(encoded(255 - IMAGES[3]))
    else:
        path.write_bytes(write(tmp_path / "other", form, 255 - IMAGES).read_bytes())
    assert open_batch(TASK, path, tmp_path).digest != before


@pytest.mark.parametrize(
    "content", [b"", b"\0\0\x08\3", b"\0\0\x0d\3" + bytes(12), idx(IMAGES)[:-1], idx(IMAGES[:, :4])]
)
def test_a_file_of_another_form_is_refused(content: bytes, tmp_path: Path) -> None:
    """A damaged file, or one with images of another size, is an error that names the file."""
    path = tmp_path / "x-ubyte"
    path.write_bytes(content)
    with pytest.raises(DataError, match="x-ubyte"):
        open_batch(TASK, path, tmp_path)


@pytest.mark.parametrize("name", ["x.npz", "x.parquet", "x-ubyte.gz"])
def test_no_archive(name: str, tmp_path: Path) -> None:
    """A file that is not what its name says is an error that names it."""
    (tmp_path / name).write_bytes(b"something else")
    with pytest.raises(DataError, match=name):
        open_batch(TASK, tmp_path / name, tmp_path)


def test_nothing_there(tmp_path: Path) -> None:
    """A missing place and an empty folder are errors that say so."""
    (tmp_path / "empty").mkdir()
    for place in (tmp_path / "nowhere", tmp_path / "empty"):
        with pytest.raises(MissingError):
            open_batch(TASK, place, tmp_path)
