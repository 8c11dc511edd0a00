"""The pictures of a batch, in each form that is accepted."""

from __future__ import annotations

import gzip
import io
import threading
import zipfile
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet

from digits.data import batch_input
from digits.data.arrays import load_npz
from digits.data.batch_input import Shard, open_batch
from digits.data.places import Stored
from digits.errors import DataError, Interrupted, MissingError
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
    """A file that is no picture, as a link to nothing, has no image; the others keep theirs."""
    folder = write(tmp_path / "in", "folder")
    (folder / "3.png").unlink()
    (folder / "3.png").symlink_to("nothing")
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
    "content",
    [b"", b"\0\0\x08\3", b"\0\0\x0d\3" + bytes(12), idx(IMAGES)[:-1], idx(IMAGES) + b"\0", idx(IMAGES[:, :4])],
)
def test_a_file_of_another_form_is_refused(content: bytes, tmp_path: Path) -> None:
    """A damaged file, or one with images of another size, is an error that names the file."""
    path = tmp_path / "x-ubyte"
    path.write_bytes(content)
    with pytest.raises(DataError, match="x-ubyte"):
        open_batch(TASK, path, tmp_path)


@pytest.mark.parametrize("header", ["{", "'''", "  x\n y\n", "{'descr': (), 'fortran_order': False, 'shape': ()}"])
def test_a_damaged_header_is_refused(header: str, tmp_path: Path) -> None:
    """NumPy reads the header of an array as Python, with more kinds of errors than it documents."""
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("images.npy", b"\x93NUMPY\1\0" + bytes([len(header), 0]) + header.encode())
    with pytest.raises(DataError, match="x"):
        open_batch(TASK, tmp_path / "x.npz", tmp_path)
    with pytest.raises(DataError, match="x"):
        load_npz(tmp_path / "x.npz", "x.npz")


@pytest.mark.parametrize(("shape", "count"), [((5, 8, 12, 3), 5), ((5, 288), 5), ((0, 8, 12, 3), 0)])
def test_arrays_of_images_are_read(shape: tuple[int, ...], count: int, tmp_path: Path) -> None:
    """The images of an NPZ file have the task's shape, or are rows."""
    np.savez(tmp_path / "x.npz", images=np.zeros(shape, np.uint8))
    assert open_batch(TASK, tmp_path / "x.npz", tmp_path).count == count


@pytest.mark.parametrize("shape", [(), (288,), (8, 12, 3), (5, 3, 8, 12), (5, 12, 8, 3), (5, 96, 3), (0,), (5, 288, 1)])
def test_arrays_of_another_shape_are_refused(shape: tuple[int, ...], tmp_path: Path) -> None:
    """Other shapes are refused even if they have as many numbers, and the error has what was expected and found."""
    np.savez(tmp_path / "x.npz", images=np.zeros(shape, np.uint8))
    with pytest.raises(DataError, match=r"expected images uint8 \(n, .*found uint8 \("):
        open_batch(TASK, tmp_path / "x.npz", tmp_path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_arrays_of_one_name_are_refused(tmp_path: Path) -> None:
    """Neither a batch nor a data set is read from an NPZ file with two arrays of one name."""
    path = write(tmp_path / "in", "npz")
    with zipfile.ZipFile(path, "a") as archive:
        (name,) = archive.namelist()
        archive.writestr(name, archive.read(name))
    for read in (lambda: open_batch(TASK, path, tmp_path), lambda: load_npz(path, "x.npz")):
        with pytest.raises(DataError, match=f"two files named '{name}'; pack it again"):
            read()


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    """A batch is not read from a Parquet file with two columns of one name."""
    column = pyarrow.array([b"picture"])
    parquet.write_table(pyarrow.Table.from_arrays([column, column], ["image", "image"]), tmp_path / "two.parquet")
    with pytest.raises(DataError, match="expected one column"):
        open_batch(TASK, tmp_path / "two.parquet", tmp_path)


@pytest.mark.parametrize("form", ["idx.gz", "npz compressed"])
def test_what_is_unpacked_is_bounded(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small file cannot fill the disk."""
    monkeypatch.setattr(batch_input, "MAX_UNPACKED", 1000)
    with pytest.raises(DataError, match="more than 1000 bytes unpacked"):
        open_batch(TASK, write(tmp_path / "in", form), tmp_path)


@pytest.mark.parametrize("form", ["idx.gz", "npz compressed"])
def test_a_full_disk_is_not_called_a_damaged_file(form: str, tmp_path: Path) -> None:
    """If there is no space to unpack a file, the error names the place that is full."""
    for name in ("images", "images.npy"):
        (tmp_path / name).symlink_to("/dev/full")
    with pytest.raises(MissingError, match=f"cannot write {tmp_path}: No space left"):
        open_batch(TASK, write(tmp_path / "in", form), tmp_path)


def test_large_pictures_of_a_parquet_file_make_small_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The size of a shard follows the encoded pictures, and one picture that is many rows is refused."""
    path = write(tmp_path / "in", "parquet")
    monkeypatch.setattr(batch_input, "MAX_SHARD", 2 * path.stat().st_size // 5)
    assert open_batch(TASK, path, tmp_path).limit in {1, 2}
    parquet.write_table(pyarrow.table({"image": [bytes(1000)] * 100_000}), path)
    with pytest.raises(DataError, match="at most"):
        [load() for load in open_batch(TASK, path, tmp_path).shards(1000)]


def test_a_parquet_file_with_damaged_pages_is_refused(tmp_path: Path) -> None:
    """A Parquet file whose schema, at its end, is intact, but not its pages, is refused."""
    path = write(tmp_path / "in", "parquet")
    content = path.read_bytes()
    path.write_bytes(content[:4] + bytes(100) + content[104:])
    with pytest.raises(DataError, match="x"):
        list(open_batch(TASK, path, tmp_path).shards(9))


def test_decoding_stops(tmp_path: Path) -> None:
    """After Ctrl-C, a shard of thousands of pictures is not decoded to its end."""
    stopped = threading.Event()
    (load,) = open_batch(TASK, write(tmp_path / "in", "folder"), tmp_path, stopped).shards(9)
    stopped.set()
    with pytest.raises(Interrupted):
        load()


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


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="the system does not list mapped files")
@pytest.mark.parametrize("form", ["idx", "idx.gz", "npz", "npz compressed"])
def test_what_was_read_of_a_file_of_images_leaves_the_memory(form: str, tmp_path: Path) -> None:
    """A file of millions of images is not mapped between two shards, so that the batch needs the memory of a few."""
    batch = open_batch(TASK, write(tmp_path / "in", form), tmp_path)
    shards = [load() for load in batch.shards(2)]
    assert sum(len(shard.images) for shard in shards) == batch.count
    assert str(tmp_path) not in Path("/proc/self/maps").read_text()
