"""Creating objects once, on S3 servers that lose responses, are busy, or ignore If-None-Match."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from digits.errors import ObjectRefused, StoreError
from digits.settings import Settings
from digits.store import s3
from digits.store.s3 import PROBE, S3Store, open_bucket
from digits.store.s3_client import s3_client
from tests.helpers.store_servers import create_concurrently

KEYS = {"minio_region": "eu-test-1", "minio_access_key": "access", "minio_secret_key": "secret"}


class Server(ThreadingHTTPServer):
    """A small S3 server in memory.

    Attributes:
        objects: path to content.
        puts: the paths of the PUT requests.
        faults: the next PUT requests: "busy", or the connection is "lost before" or "lost after" the write.
        ignores_header: whether If-None-Match has no effect.
        lists: the keys that each page of an endless listing has.
        has_bucket: whether the bucket exists. Without it, an upload is refused without being read.
        unread: the paths of the uploads that were not read.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.objects: dict[str, bytes] = {}
        self.puts: list[str] = []
        self.faults: list[str] = []
        self.ignores_header = False
        self.lists: list[str] = []
        self.has_bucket = True
        self.unread: list[str] = []
        self.lock = threading.Lock()

    def store(self) -> S3Store:
        """Return the store as a new program would open it."""
        settings = Settings(minio_endpoint=f"127.0.0.1:{self.server_port}", **KEYS)  # type: ignore[arg-type]
        return S3Store(s3_client(settings), "digits")


class Handler(BaseHTTPRequestHandler):
    """PUT, GET and HEAD of one object."""

    server: Server

    def do_PUT(self) -> None:
        if self.path == "/digits":
            self.server.has_bucket = True
        if not self.server.has_bucket:
            self.server.unread.append(self.path)
            self.close_connection = True
            self.respond(404, b"<Error><Code>NoSuchBucket</Code></Error>")
            return
        content = self.rfile.read(int(self.headers["Content-Length"]))
        with self.server.lock:
            self.server.puts.append(self.path)
            fault = self.server.faults.pop(0) if self.server.faults else ""
            refused = fault != "busy" and self.path in self.server.objects and self.is_conditional()
            if fault in {"", "lost after"} and not refused:
                self.server.objects[self.path] = content
        if fault.startswith("lost"):
            self.connection.close()
        elif refused:
            self.respond(412, b"<Error><Code>PreconditionFailed</Code></Error>")
        else:
            self.respond(503 if fault == "busy" else 200)

    def is_conditional(self) -> bool:
        return self.headers.get("If-None-Match") == "*" and not self.server.ignores_header

    def do_GET(self) -> None:
        content = self.server.objects.get(self.path)
        if self.path == "/digits" and self.server.has_bucket:
            content = b""
        if "list-type" in self.path:
            found = "".join(f"<Contents><Key>{key}</Key><ETag>0</ETag></Contents>" for key in self.server.lists)
            more = "<IsTruncated>true</IsTruncated><NextContinuationToken>again</NextContinuationToken>"
            content = f"<ListBucketResult><Name>digits</Name>{more}{found}</ListBucketResult>".encode()
        if content is None:
            self.respond(404, b"<Error><Code>NoSuchKey</Code></Error>")
        else:
            self.respond(200, content)

    do_HEAD = do_GET  # noqa: N815 # the name of its base class

    def respond(self, status: int, body: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    """A running server."""
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("fault", ["lost before", "lost after"])
@pytest.mark.parametrize("exists", [True, False])
def test_a_lost_response_does_not_change_the_result_of_create(server: Server, fault: str, exists: bool) -> None:
    """`create` reports the actual writer if a connection breaks before or after the object is written."""
    store = server.store()
    store.create("before", b"so that the server is known to have conditional writes")
    if exists:
        store.put("key", b"another writer's")
    server.faults = [fault]
    assert store.create("key", b"ours") is not exists
    assert server.faults == []
    assert store.get("key") == (b"another writer's" if exists else b"ours")
    assert store.create("key", b"ours") is False


def test_create_is_repeated_while_the_server_is_busy(server: Server) -> None:
    """After a 503 the next attempt writes the object."""
    store = server.store()
    store.create("before", b"so that the server is known to have conditional writes")
    server.faults = ["busy"]
    assert store.create("key", b"ours")
    assert (server.faults, store.get("key")) == ([], b"ours")


def test_a_server_without_conditional_writes_is_detected(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """If the server ignores If-None-Match, a warning is logged, and still one of ten concurrent writers succeeds."""
    monkeypatch.setattr(s3, "SETTLE_SECONDS", 2.0)  # enough for ten threads on a busy machine
    server.ignores_header = True
    store = server.store()
    winners = create_concurrently(store, "key")
    assert len(winners) == 1
    assert store.get("key") == str(winners[0]).encode()
    assert store.create("key", b"too late") is False
    assert server.store().create("another", b"x")  # a later program detects it again, although the probe exists
    assert caplog.text.count("has no conditional writes") >= 2


def test_a_program_probes_the_server_once(server: Server) -> None:
    """The first create of a program costs a request for the probe, of the first program two; the others cost none."""
    costs = []
    for name in ("a", "b"):
        store = server.store()
        for key in (name, f"{name}{name}"):
            before = len(server.puts)
            assert store.create(key, b"x")
            costs.append(len(server.puts) - before)
    assert costs == [3, 1, 2, 1]
    assert server.puts.count(f"/digits/{PROBE}") == 3


@pytest.mark.parametrize(
    ("endpoint", "region", "signed", "host"),
    [
        ("https://s3.eu-central-1.amazonaws.com", "", "eu-central-1", "digits.s3.eu-central-1.amazonaws.com"),
        ("https://s3.example", "eu-west", "eu-west", "s3.example"),
    ],
)
def test_a_request_is_signed_for_the_region_of_the_server(endpoint: str, region: str, signed: str, host: str) -> None:
    """AWS's region is taken from the host's name, another server's from MINIO_REGION; a session token is sent."""
    keys = {**KEYS, "minio_region": region, "minio_session_token": "a-token"}
    client = s3_client(Settings(minio_endpoint=endpoint, **keys))  # type: ignore[arg-type]
    url = client.presigned_put_object("digits", "key")
    assert url.startswith(f"https://{host}/")
    assert f"%2F{signed}%2Fs3%2F" in url
    assert "X-Amz-Security-Token=a-token" in url


@pytest.mark.parametrize(("keys", "seconds"), [([], 0.3), (["a", "b"], 60.0)])
def test_a_listing_ends(server: Server, monkeypatch: pytest.MonkeyPatch, keys: list[str], seconds: float) -> None:
    """A listing without an end is given up after a time or a number of keys, and the server is not called wrong."""
    monkeypatch.setattr(s3, "LISTING_SECONDS", seconds)
    monkeypatch.setattr(s3, "MAX_KEYS", 25)
    server.lists = keys
    with pytest.raises(StoreError, match=r"s3://digits/a/: a listing of more than 25 objects") as error:
        server.store().keys("a/")
    assert "move old ones out of there" in error.value.remedy
    assert "fewer objects" in error.value.remedy


def test_a_large_object_is_not_read(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """An object that states more bytes than are kept in memory is refused as this object, not as a lost server."""
    monkeypatch.setattr(s3, "MAX_IN_MEMORY", 10)
    server.objects = {"/digits/small": bytes(10), "/digits/large": bytes(11)}
    assert server.store().get("small") == bytes(10)
    with pytest.raises(ObjectRefused, match="large has more than 10 bytes"):
        server.store().get("large")


@pytest.mark.parametrize("address", ["s3://key:canary@digits", "s3://digits/a?key=canary", "s3://digits#canary"])
def test_an_address_with_credentials_is_refused(address: str) -> None:
    """The address of the store is on the command lines of steps and in records, so it may hold no key."""
    settings = Settings(minio_endpoint="127.0.0.1:9", **KEYS)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="without user, query or fragment"):
        open_bucket(settings, address)


def test_a_large_object_is_only_sent_to_a_bucket_that_exists(server: Server) -> None:
    """A large upload is not the request by which a missing bucket is noticed, because it would not be read."""
    server.has_bucket, store = False, server.store()
    store.put("large", bytes(1 << 20))
    assert (store.get("large"), server.unread) == (bytes(1 << 20), [])
    server.has_bucket, store = False, server.store()
    store.put("small", b"a")
    assert (store.get("small"), server.unread) == (b"a", ["/digits/small"])
