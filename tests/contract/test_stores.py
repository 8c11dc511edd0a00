"""The contract of object stores, for a folder, MinIO in Docker and MinIO as a program."""

from __future__ import annotations

import dataclasses
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from digits.data import fetch
from digits.errors import DigestMismatch, DigitsError, MissingError, ObjectMissing, StoreError, StoreUnreachable
from digits.files import sha256_of
from digits.settings import Settings
from digits.store import ObjectStore, open_store
from digits.store.trial import KEY, try_store
from digits.tasks.task import Source, Task, find
from tests.helpers.store_servers import SERVERS, Cable, create_concurrently, with_profile_keys

BIG = 200 * 1024 * 1024


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=pytest.mark.docker if "docker" in name else ()) for name in SERVERS],
)
def reached(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Each store's settings in turn, as this machine reaches it."""
    with SERVERS[request.param](tmp_path_factory.mktemp(request.param)) as settings:
        yield settings


@pytest.fixture
def store(reached: Settings) -> ObjectStore:
    """The store."""
    return open_store(reached)


@pytest.fixture
def server(reached: Settings) -> Settings:
    """The settings of a store that is a server."""
    if not reached.minio_endpoint:
        pytest.skip("a folder has no server, credentials or connection")
    return reached


def test_get_returns_what_was_put(store: ObjectStore) -> None:
    """An object's content comes back unchanged."""
    store.put("a/b.bin", b"\0\xffdigits")
    assert store.get("a/b.bin") == b"\0\xffdigits"
    assert store.exists("a/b.bin")


def test_a_second_put_replaces_the_object(store: ObjectStore) -> None:
    """An object is replaced whole, also by a shorter one."""
    store.put("over/written", b"a long first content")
    store.put("over/written", b"short")
    assert store.get("over/written") == b"short"


def test_one_of_ten_concurrent_creates_succeeds(store: ObjectStore) -> None:
    """Exactly one of ten threads that create the same key succeeds, and its content is stored."""
    winners = create_concurrently(store, "once/only")
    assert len(winners) == 1
    assert store.get("once/only") == str(winners[0]).encode()


def test_create_fails_if_the_object_exists(store: ObjectStore) -> None:
    """A create under a key that exists changes nothing, whatever the content is."""
    assert store.create("once/again", b"first")
    assert not store.create("once/again", b"second")
    assert not store.create("once/again", b"first")
    assert store.get("once/again") == b"first"


def test_the_region_of_a_bucket_is_requested_from_the_server(server: Settings, store: ObjectStore) -> None:
    """Without MINIO_REGION an existing bucket can be read and written, whatever its region is."""
    store.put("region/before", b"x")
    other = open_store(dataclasses.replace(server, minio_region=""))
    assert other.create("region/now", b"y")
    assert other.keys("region/") == ["region/before", "region/now"]


def test_keys_of_a_kubeflow_profile_suffice_for_its_folder(server: Settings) -> None:
    """Keys that may use only a profile's folders read and write there, and nowhere else."""
    open_store(dataclasses.replace(server, store="s3://mlpipeline")).put("shared/mnist/x", b"x")
    profile = with_profile_keys(server, "team-a")
    store = open_store(dataclasses.replace(profile, store="s3://mlpipeline/private/team-a/digits"))
    assert store.create("once", b"x")
    assert not store.create("once", b"y")
    store.put("twice", b"z")
    assert store.keys() == ["once", "probes/conditional-create", "twice"]
    assert not store.exists("none")
    assert open_store(dataclasses.replace(profile, store="s3://mlpipeline/shared")).get("mnist/x") == b"x"
    with pytest.raises(StoreError, match="AccessDenied") as caught:
        open_store(dataclasses.replace(profile, store="s3://mlpipeline/digits")).put("x", b"x")
    assert "private/NAMESPACE" in caught.value.remedy


def test_keys_that_may_not_delete_leave_one_empty_object(server: Settings) -> None:
    """The trial of a store with the keys of a profile leaves one object, empty and the same each time."""
    store = open_store(dataclasses.replace(server, store="s3://mlpipeline/private/team-b/digits"))
    store.put("other", b"1")
    profile = with_profile_keys(server, "team-b")
    for _ in range(2):
        finding = try_store(open_store(dataclasses.replace(profile, store="s3://mlpipeline/private/team-b/digits")))
        assert finding.ok is None
    assert (store.keys(), store.get(KEY)) == ([KEY, "other"], b"")


def test_a_listing_holds_no_sibling_with_a_longer_name(store: ObjectStore) -> None:
    """Listing v1/ returns nothing of v10/ or v1.txt, and everything in its subfolders."""
    for key in ("list/v1/a", "list/v1/deep/b", "list/v10/c", "list/v1.txt"):
        store.put(key, b"x")
    assert store.keys("list/v1/") == ["list/v1/a", "list/v1/deep/b"]
    assert store.keys("list/none/") == []
    with pytest.raises(StoreError, match="ending in '/'"):
        store.keys("list/v1")


def test_a_listing_may_be_limited_to_old_objects(store: ObjectStore) -> None:
    """An object is listed if it was written at least so many seconds ago, by a clock that may differ by a minute."""
    store.put("age/a", b"x")
    assert [store.keys("age/", min_age=age) for age in (-60, 3600)] == [["age/a"], []]


def test_a_missing_object_is_an_error_that_names_it(store: ObjectStore, tmp_path: Path) -> None:
    """Reading a missing object raises ObjectMissing; deleting it does nothing."""
    assert not store.exists("not/there")
    with pytest.raises(ObjectMissing, match="not/there"):
        store.get("not/there")
    with pytest.raises(ObjectMissing, match="not/there"):
        store.download("not/there", tmp_path / "file")
    store.delete("not/there")
    assert list(tmp_path.iterdir()) == []


def test_a_deleted_object_is_gone(store: ObjectStore) -> None:
    """After delete there is no object under the key."""
    store.put("to/delete", b"x")
    store.delete("to/delete")
    assert not store.exists("to/delete")


def test_an_empty_object_is_an_object(store: ObjectStore, tmp_path: Path) -> None:
    """An object of zero bytes is stored, listed and read."""
    store.put("empty/object", b"")
    assert store.get("empty/object") == b""
    assert store.keys("empty/") == ["empty/object"]
    store.download("empty/object", tmp_path / "empty")
    assert (tmp_path / "empty").read_bytes() == b""


def test_a_large_object_is_stored_from_and_to_a_file(store: ObjectStore, tmp_path: Path) -> None:
    """A file of 200 MB is stored and downloaded with its digest checked."""
    source = tmp_path / "source"
    block = bytes(range(256)) * 4096
    with source.open("wb") as file:
        for n in range(BIG // len(block)):
            file.write(n.to_bytes(4, "big") + block[4:])
    digest = sha256_of(source)
    store.put("large/object", source)
    store.download("large/object", tmp_path / "back", sha256=digest)
    assert sha256_of(tmp_path / "back") == digest
    store.delete("large/object")


def test_content_with_another_digest_is_refused(store: ObjectStore, tmp_path: Path) -> None:
    """If the digest differs, get and download raise DigestMismatch, and no file is left."""
    store.put("damaged/object", b"not what was promised")
    expected = sha256_of(b"what was promised")
    with pytest.raises(DigestMismatch, match=expected):
        store.get("damaged/object", sha256=expected)
    with pytest.raises(DigestMismatch, match=expected):
        store.download("damaged/object", tmp_path / "file", sha256=expected)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("key", ["../out", "/abs", "a//b", "a/../b", "a\nb", ""])
def test_a_key_that_is_not_a_plain_path_is_refused(store: ObjectStore, key: str) -> None:
    """No key refers to a place outside the store."""
    with pytest.raises(StoreError):
        store.put(key, b"x")


def test_wrong_credentials_are_named(server: Settings, store: ObjectStore) -> None:
    """The server's refusal becomes a StoreError that names the settings and shows no secret."""
    store.put("some/object", b"x")
    wrong = open_store(dataclasses.replace(server, minio_secret_key="a-wrong-secret-key"))
    for request in (lambda: wrong.get("some/object"), lambda: wrong.put("other", b"x"), lambda: wrong.keys("some/")):
        with pytest.raises(StoreError, match="MINIO_SECRET_KEY") as refused:
            request()
        assert "a-wrong-secret-key" not in str(refused.value)


def test_an_unreachable_server_is_named(server: Settings) -> None:
    """The error has exit code 3, the store's address and a remedy, and comes after a few attempts."""
    cable = Cable(server.minio_endpoint, cut_after=0)
    cable.cut()
    unreachable = open_store(dataclasses.replace(server, minio_endpoint=cable.endpoint))
    with pytest.raises(StoreUnreachable, match=r"(?s)s3://digits.*MINIO_ENDPOINT") as error:
        unreachable.put("a", b"x")
    assert error.value.exit_code == 3


def test_a_connection_that_breaks_leaves_nothing_partial(server: Settings, store: ObjectStore, tmp_path: Path) -> None:
    """An interrupted download leaves no file; an interrupted put leaves the earlier object."""
    store.put("half/way", b"before")
    store.put("half/read", b"r" * 4_000_000)
    down = Cable(server.minio_endpoint, cut_after=1_000_000)
    with pytest.raises(StoreUnreachable):
        open_store(dataclasses.replace(server, minio_endpoint=down.endpoint)).download("half/read", tmp_path / "file")
    assert list(tmp_path.iterdir()) == []
    source = tmp_path / "source"
    source.write_bytes(b"w" * 40_000_000)
    up = Cable(server.minio_endpoint, cut_after=600)
    with pytest.raises(StoreUnreachable):
        open_store(dataclasses.replace(server, minio_endpoint=up.endpoint)).put("half/way", source)
    assert store.get("half/way") == b"before"


def test_mnist_is_read_from_a_store_and_checked(store: ObjectStore, mnist_folder: Path, tmp_path: Path) -> None:
    """DIGITS_DATA may be a place in a store; a missing or damaged file is named and not cached."""
    files = sorted(mnist_folder.glob("*-ubyte.gz"))
    for file in files[1:]:
        store.put(file.name, file)
    with pytest.raises(MissingError, match=f"holds neither {files[0].name}"):
        fetch.fetch(find("digits"), "mnist", store, tmp_path / "cache")
    store.put(files[0].name, files[0].read_bytes()[:-100])
    with pytest.raises(DigitsError, match="truncated or damaged gzip"):
        fetch.fetch(find("digits"), "mnist", store, tmp_path / "cache")
    store.put(files[0].name, files[0])
    fetched = fetch.fetch(find("digits"), "mnist", store, tmp_path / "cache")
    assert (len(fetched.train), len(fetched.test)) == (60_000, 10_000)
    for file in files:
        store.delete(file.name)


def test_the_store_of_the_data_is_opened_by_its_address(server: Settings) -> None:
    """An s3:// address in DIGITS_DATA is opened with the store's credentials; other places stay addresses."""
    place = fetch.open_place(dataclasses.replace(server, data="s3://datasets/mnist"))
    assert not isinstance(place, str)
    assert place.uri == "s3://datasets/mnist"
    assert fetch.open_place(dataclasses.replace(server, data="http://files/mnist")) == "http://files/mnist"


@pytest.mark.parametrize("form", ["npz", "folder"])
def test_the_address_of_a_file_of_a_task(form: str, server: Settings, store: ObjectStore, tmp_path: Path) -> None:
    """A data set may be one object: an NPZ file, or a ZIP file of pictures."""
    path = tmp_path / ("shapes.npz" if form == "npz" else "shapes.zip")
    images = np.random.default_rng(0).integers(0, 256, (12, 8, 8), np.uint8)
    if form == "npz":
        np.savez(path, images=images, labels=np.arange(12) % 2)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            for n, image in enumerate(images):
                Image.fromarray(image).save(file := io.BytesIO(), "PNG")
                archive.writestr(f"{n % 2}/{n}.png", file.getvalue())
    store.put(path.name, path)
    task = Task("shapes", ("0", "1"), 8, 8, 1, "photo", False, Source(form))
    settings = dataclasses.replace(server, data=f"{store.uri}/{path.name}")
    fetched = fetch.fetch(task, "auto", fetch.open_place(settings), tmp_path / "cache")
    assert sorted([*fetched.train.images.tolist(), *fetched.test.images.tolist()]) == sorted(images.tolist())
    store.delete(path.name)
