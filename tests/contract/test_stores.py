"""What every object store promises: a folder, MinIO in Docker, MinIO as a program."""

from __future__ import annotations

import dataclasses
import threading

import pytest
import urllib3

from digits.data import fetch
from digits.errors import DigestMismatch, DigitsError, MissingError, ObjectMissing, StoreError, StoreUnreachable
from digits.files import sha256_of
from digits.store import open_store
from digits.store.s3 import PROBE, RACERS, s3_client
from tests.helpers.store_servers import SERVERS, Cable
from tests.helpers.support import answering, free_port

BIG = 200 * 1024 * 1024


@pytest.fixture(
    scope="module",
    params=["file", pytest.param("minio-docker", marks=pytest.mark.docker), "minio-program"],
)
def reached(request, tmp_path_factory):
    """Each store's settings in turn, as this machine reaches it."""
    with SERVERS[request.param](tmp_path_factory.mktemp(request.param)) as settings:
        yield settings


@pytest.fixture
def store(reached):
    """The store."""
    return open_store(reached)


def _s3_only(settings):
    if not settings.store.startswith("s3:"):
        pytest.skip("a folder has no server, credentials or cable")


def test_an_object_comes_back_as_it_was_put(store):
    """Bytes in, the same bytes out, from memory and to a file."""
    store.put("a/b.bin", b"\0\xffdigits")
    assert store.get("a/b.bin") == b"\0\xffdigits"
    assert store.exists("a/b.bin")


def test_a_second_put_replaces_the_first(store):
    """An object is overwritten whole, also by a shorter one."""
    store.put("over/written", b"a long first content")
    store.put("over/written", b"short")
    assert store.get("over/written") == b"short"


def test_only_one_of_many_creates_wins(store):
    """Of ten that create the same key at once, one is told that it did, and its content stays."""
    won = []
    threads = [
        threading.Thread(target=lambda n=n: won.append(n) if store.create("once/only", str(n).encode()) else None)
        for n in range(10)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(won) == 1
    assert store.get("once/only") == str(won[0]).encode()


@pytest.mark.parametrize("sent", [True, False])
@pytest.mark.parametrize("there", [True, False])
def test_a_create_whose_answer_is_lost_is_told_rightly(reached, store, monkeypatch, sent, there):
    """A connection that breaks before or after the object was written changes neither the winner nor what is said."""
    _s3_only(reached)
    key, real, broken = f"once/lost-{sent}-{there}", urllib3.request, []

    def request(*args, **kwargs):
        if broken:
            return real(*args, **kwargs)
        broken.append(args)
        if sent:
            real(*args, **kwargs)
        raise urllib3.exceptions.ProtocolError("the connection broke")

    store.create(f"{key}-before", b"the server was seen to keep to it")
    if there:
        store.put(key, b"somebody else's")
    monkeypatch.setattr(urllib3, "request", request)
    assert store.create(key, b"ours") is not there
    assert broken
    assert store.get(key) == (b"somebody else's" if there else b"ours")
    assert store.create(key, b"ours") is False


def test_a_create_is_tried_again_while_the_server_is_busy(reached, store, monkeypatch):
    """A 503 to the conditional write is no refusal: the next attempt writes the object."""
    _s3_only(reached)
    store.create("once/before", b"the server was seen to keep to it")
    real, answers = urllib3.request, [urllib3.HTTPResponse(status=503)]
    monkeypatch.setattr(urllib3, "request", lambda *a, **k: answers.pop() if answers else real(*a, **k))
    assert store.create("once/busy", b"ours")
    assert (answers, store.get("once/busy")) == ([], b"ours")


def _counted(monkeypatch, *, without=""):
    """Let the conditional writes pass, without a header; what is returned gets the address of each."""
    real, seen = urllib3.request, []

    def request(method, url, *, headers, **others):
        seen.append(url)
        return real(method, url, headers={k: v for k, v in headers.items() if k != without}, **others)

    monkeypatch.setattr(urllib3, "request", request)
    return seen


def test_a_server_that_lets_every_writer_win_is_found_out(reached, monkeypatch, caplog):
    """Where If-None-Match is ignored, that is said, and still one of many writers wins, and its content stays."""
    _s3_only(reached)
    _counted(monkeypatch, without="If-None-Match")
    store = open_store(dataclasses.replace(reached, store="s3://digits/ignored"))
    test_only_one_of_many_creates_wins(store)
    assert store.create("once/only", b"too late") is False
    assert "has no conditional writes" in caplog.text


def test_a_server_that_looks_before_it_writes_is_found_out(reached, monkeypatch, caplog):
    """A server that refuses one by one, but lets writers at once win together, is found out too, and each time."""
    _s3_only(reached)
    real, all_looked = urllib3.request, threading.Barrier(RACERS)
    store = open_store(dataclasses.replace(reached, store="s3://digits/racing"))

    def request(method, url, *, headers, **others):
        taken = store.exists(PROBE)
        all_looked.wait(30)
        return urllib3.HTTPResponse(status=412) if taken else real(method, url, **others)

    store.put("racing", b"x")
    monkeypatch.setattr(urllib3, "request", request)
    for first in (True, False):
        store = open_store(dataclasses.replace(reached, store="s3://digits/racing"))
        assert store.create("promotions/digits/00000001.json", b"ours") is first
    assert caplog.text.count("has no conditional writes") == 2


def test_a_server_is_asked_once_whether_it_refuses(reached, monkeypatch):
    """The first create of a program costs some requests at once; the others cost none."""
    _s3_only(reached)
    seen, costs = _counted(monkeypatch), []
    for name in ("a", "b"):
        store = open_store(dataclasses.replace(reached, store="s3://digits/asked"))
        for key in (name, f"{name}{name}"):
            before = len(seen)
            assert store.create(key, b"x")
            costs.append(len(seen) - before)
    assert costs == [RACERS + 1, 1] * 2
    assert all("X-Amz-Expires=300&" in url for url in seen)


@pytest.mark.parametrize(
    ("endpoint", "region", "signed", "host"),
    [
        ("https://s3.eu-central-1.amazonaws.com", "", "eu-central-1", "digits.s3.eu-central-1.amazonaws.com"),
        ("https://s3.example", "eu-west", "eu-west", "s3.example"),
    ],
)
def test_a_request_is_signed_for_the_servers_region(settings, endpoint, region, signed, host):
    """AWS's is in its host's name, which is kept; another server's can be set; a session token is sent along."""
    keys = {"minio_access_key": "access", "minio_secret_key": "secret", "minio_session_token": "a-token"}
    client = s3_client(dataclasses.replace(settings, minio_endpoint=endpoint, minio_region=region, **keys))
    url = client.presigned_put_object("digits", "key")
    assert url.startswith(f"https://{host}/")
    assert f"%2F{signed}%2Fs3%2F" in url
    assert "X-Amz-Security-Token=a-token" in url


def test_a_buckets_region_is_asked_from_the_server(reached, store):
    """Without MINIO_REGION a bucket that is there is read and written, wherever it is."""
    _s3_only(reached)
    store.put("region/before", b"x")
    asking = open_store(dataclasses.replace(reached, minio_region=""))
    assert asking.create("region/now", b"y")
    assert asking.keys("region/") == ["region/before", "region/now"]


def test_a_listing_holds_no_sibling_with_a_longer_name(store):
    """Listing v1/ gives nothing of v10/ or v1.txt, and all that lies deeper."""
    for key in ("list/v1/a", "list/v1/deep/b", "list/v10/c", "list/v1.txt"):
        store.put(key, b"x")
    assert store.keys("list/v1/") == ["list/v1/a", "list/v1/deep/b"]
    assert store.keys("list/none/") == []
    with pytest.raises(StoreError, match="ending in '/'"):
        store.keys("list/v1")


def test_a_missing_object_is_said_to_be_missing(store, tmp_path):
    """Reading what is not there is an ObjectMissing that names it; deleting it is nothing."""
    assert not store.exists("not/there")
    with pytest.raises(ObjectMissing, match="not/there"):
        store.get("not/there")
    with pytest.raises(ObjectMissing, match="not/there"):
        store.download("not/there", tmp_path / "file")
    store.delete("not/there")
    assert list(tmp_path.iterdir()) == []


def test_a_deleted_object_is_gone(store):
    """After delete there is no object under the key."""
    store.put("to/delete", b"x")
    store.delete("to/delete")
    assert not store.exists("to/delete")


def test_an_empty_object_is_an_object(store, tmp_path):
    """Zero bytes are kept, listed and read."""
    store.put("empty/object", b"")
    assert store.get("empty/object") == b""
    assert store.keys("empty/") == ["empty/object"]
    store.download("empty/object", tmp_path / "empty")
    assert (tmp_path / "empty").read_bytes() == b""


def test_a_large_object_goes_there_and_back(store, tmp_path):
    """200 MB from a file and to a file, with its digest checked."""
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


def test_damaged_content_is_refused_and_not_kept(store, tmp_path):
    """A digest that differs is a DigestMismatch, on get and download, and leaves no file."""
    store.put("damaged/object", b"not what was promised")
    expected = sha256_of(b"what was promised")
    with pytest.raises(DigestMismatch, match=expected):
        store.get("damaged/object", sha256=expected)
    with pytest.raises(DigestMismatch, match=expected):
        store.download("damaged/object", tmp_path / "file", sha256=expected)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("key", ["../out", "/abs", "a//b", "a/../b", "a\nb", ""])
def test_a_key_that_is_no_plain_path_is_refused(store, key):
    """No key leads out of the store."""
    with pytest.raises(StoreError):
        store.put(key, b"x")


def test_wrong_credentials_are_named_as_such(reached, store):
    """The server's refusal becomes a StoreError that names the settings, and holds no secret."""
    _s3_only(reached)
    store.put("some/object", b"x")
    wrong = open_store(dataclasses.replace(reached, minio_secret_key="a-wrong-secret-key"))
    for attempt in (lambda: wrong.get("some/object"), lambda: wrong.put("other", b"x"), lambda: wrong.keys("some/")):
        with pytest.raises(StoreError, match="MINIO_SECRET_KEY") as refused:
            attempt()
        assert "a-wrong-secret-key" not in str(refused.value)


def test_a_server_that_is_not_there_is_said_to_be_unreachable(reached, tmp_path):
    """Exit code 3, the store's address and a remedy, within the bounded tries."""
    _s3_only(reached)
    cable = Cable(reached.minio_endpoint, cut_after=0)
    cable.cut()
    away = open_store(dataclasses.replace(reached, minio_endpoint=cable.endpoint))
    with pytest.raises(
        StoreUnreachable, match=r"s3://digits.*MINIO_ENDPOINT|(?s:s3://digits.*MINIO_ENDPOINT)"
    ) as error:
        away.put("a", b"x")
    assert error.value.exit_code == 3


WRITES_AND_LISTS = (
    lambda store: store.put("a", b"x"),
    lambda store: store.create("a", b"x"),
    lambda store: store.keys("a/"),
)


def _elsewhere(settings, endpoint):
    """The store at another S3 address."""
    keys = {"minio_access_key": "access", "minio_secret_key": "a-secret-key"}
    return open_store(dataclasses.replace(settings, store="s3://digits", minio_endpoint=endpoint, **keys))


@pytest.mark.parametrize("ask", WRITES_AND_LISTS, ids=["put", "create", "keys"])
@pytest.mark.parametrize("page", [b"<!doctype html><title>404</title>", b""])
def test_a_server_that_is_no_s3_server_is_said_to_be_none(settings, page, ask):
    """What refuses otherwise than S3 does is no matter of credentials: the remedy names the address."""
    with answering(page, 404) as endpoint, pytest.raises(StoreError, match="is no S3 server") as refused:
        ask(_elsewhere(settings, endpoint))
    assert "MINIO_ENDPOINT" in refused.value.remedy


@pytest.mark.parametrize("page", [b"<!doctype html><title>MinIO Console</title>", b"<html/>"])
def test_a_page_is_no_listing(settings, page):
    """What answers everything with a page, as MinIO's console does, is no S3 server, though the page be XML."""
    with answering(page) as endpoint, pytest.raises(StoreError, match="is no S3 server"):
        _elsewhere(settings, endpoint).keys()


@pytest.mark.parametrize("ask", WRITES_AND_LISTS, ids=["put", "create", "keys"])
def test_a_server_that_stays_busy_is_unreachable(settings, ask):
    """A 503 to every attempt is no matter of credentials or of the address."""
    with (
        answering(b"", 503) as endpoint,
        pytest.raises(StoreUnreachable, match="errors alone: too many 503") as refused,
    ):
        ask(_elsewhere(settings, endpoint))
    assert "MINIO_ENDPOINT" not in refused.value.remedy


@pytest.mark.parametrize("ask", WRITES_AND_LISTS, ids=["put", "create", "keys"])
@pytest.mark.parametrize(
    ("endpoint", "words"), [("no-such-host.invalid:9000", "name does not resolve"), ("", "connection refused")]
)
def test_why_a_server_does_not_answer_is_said(settings, endpoint, words, ask):
    """A name that nobody knows and a port where nobody listens are told apart, in words."""
    with pytest.raises(StoreUnreachable, match=f"did not answer: {words}") as refused:
        ask(_elsewhere(settings, endpoint or f"127.0.0.1:{free_port()}"))
    assert "MINIO_ENDPOINT" in refused.value.remedy


def test_a_server_that_goes_away_half_way_leaves_nothing_half_done(reached, store, tmp_path):
    """A download that is cut leaves no file; a put that is cut leaves no object, or the one from before."""
    _s3_only(reached)
    store.put("half/way", b"before")
    store.put("half/read", b"r" * 4_000_000)
    down = Cable(reached.minio_endpoint, cut_after=1_000_000)
    with pytest.raises(StoreUnreachable):
        open_store(dataclasses.replace(reached, minio_endpoint=down.endpoint)).download("half/read", tmp_path / "file")
    assert list(tmp_path.iterdir()) == []
    source = tmp_path / "source"
    source.write_bytes(b"w" * 40_000_000)
    up = Cable(reached.minio_endpoint, cut_after=600)
    with pytest.raises(StoreUnreachable):
        open_store(dataclasses.replace(reached, minio_endpoint=up.endpoint)).put("half/way", source)
    assert store.get("half/way") == b"before"


def test_mnist_is_read_from_a_store_and_checked(store, mnist_folder, tmp_path):
    """DIGITS_DATA may be a place in a store; what is missing or not MNIST there is named, and nothing of it is kept."""
    files = sorted(mnist_folder.glob("*-ubyte.gz"))
    for file in files[1:]:
        store.put(file.name, file)
    with pytest.raises(MissingError, match=f"holds neither {files[0].name}"):
        fetch.fetch("mnist", store, tmp_path / "cache")
    store.put(files[0].name, files[0].read_bytes()[:-100])
    with pytest.raises(DigitsError, match="truncated or damaged gzip"):
        fetch.fetch("mnist", store, tmp_path / "cache")
    store.put(files[0].name, files[0])
    fetched = fetch.fetch("mnist", store, tmp_path / "cache")
    assert (len(fetched.train), len(fetched.test)) == (60_000, 10_000)
    for file in files:
        store.delete(file.name)


def test_the_settings_open_the_store_that_the_data_is_in(reached):
    """An s3:// address in DIGITS_DATA is opened with the store's own credentials; other places stay addresses."""
    _s3_only(reached)
    place = fetch.place_of(dataclasses.replace(reached, data="s3://datasets/mnist"))
    assert not isinstance(place, str)
    assert place.uri == "s3://datasets/mnist"
    assert fetch.place_of(dataclasses.replace(reached, data="http://files/mnist")) == "http://files/mnist"
