"""Ten thousand malformed requests: each is rejected, memory stays bounded, and valid requests are still answered."""

from __future__ import annotations

import concurrent.futures
import contextlib
import http.client
import io
import json
import socket
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.helpers.fuzz import fuzz
from tests.helpers.targets import Tally, Target

# Values of thousands of characters are intended here.
pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")

PREDICT = ("/v1/models/digits:predict", "/v2/models/digits/infer")
TYPES = ("application/json", "application/octet-stream", "text/plain; charset=utf-7")

# Numbers and texts that decoders often handle wrongly.
NUMBERS = st.one_of(
    st.integers(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.sampled_from([0, -1, 28, 784, 1024, 1025, 2**31, 2**63, 2**64, 1e308, -0.0, 5e-324]),
)
ANYTHING = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, st.text(max_size=20)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)


@st.composite
def tensors(draw: Any) -> dict[str, Any]:
    """Generate input tensors in which each field is valid or arbitrary."""
    count = draw(st.integers(0, 3))
    right: dict[str, Any] = {
        "name": "image",
        "shape": draw(st.sampled_from([[count, 28, 28], [count, 28, 28, 1], [count, 784]])),
        "datatype": draw(st.sampled_from(["FP32", "UINT8"])),
        "data": [draw(NUMBERS)] * draw(st.sampled_from([0, 1, 784, 784 * count])),
        "parameters": {"binary_data_size": draw(st.sampled_from([None, 0, 784 * count, 3136 * count]))},
    }
    for name in draw(st.sets(st.sampled_from(sorted(right)), max_size=2)):
        right[name] = draw(ANYTHING)
    for name in draw(st.sets(st.sampled_from(sorted(right)), max_size=1)):
        del right[name]
    return right


@st.composite
def requests(draw: Any) -> bytes:
    """Generate JSON that is almost a valid request, and sometimes is not JSON."""
    image = np.zeros((28, 28)).tolist()
    image[draw(st.integers(0, 27))] = draw(st.one_of(ANYTHING, st.lists(NUMBERS, min_size=28, max_size=28)))
    body = json.dumps(
        draw(
            st.one_of(
                st.fixed_dictionaries(
                    {"inputs": st.lists(tensors(), max_size=2) | ANYTHING},
                    optional={"outputs": ANYTHING, "parameters": ANYTHING, "id": ANYTHING},
                ),
                st.fixed_dictionaries({"instances": ANYTHING | st.just([image]) | st.just(image)}),
                ANYTHING,
            )
        )
    ).encode()
    if draw(st.booleans()):
        at = draw(st.integers(0, len(body)))
        body = body[:at] + draw(st.binary(max_size=6)) + body[at + draw(st.integers(0, 3)) :]
    return body


@fuzz(500)
@given(body=st.one_of(requests(), st.binary(max_size=300)))
def test_bodies(body: bytes, predictor: Target) -> None:
    """Every body of an inference request, with any content type, is answered or rejected with a message."""
    with predictor.session() as session:
        for path in PREDICT:
            for content_type in TYPES:
                status, answer = session.ask("POST", path, body, {"Content-Type": content_type})
                assert status in {200, 400}, answer
                assert status == 200 or json.loads(answer)["error"]
    assert predictor.tally.new_failures() == []


@fuzz(300)
@given(
    raw=st.binary(max_size=4000),
    length=st.one_of(st.integers(-1, 5000).map(str), st.text("0123456789 +-_xe²", max_size=30)),
)
def test_raw_tensors(raw: bytes, length: str, predictor: Target) -> None:
    """Raw tensors of a wrong size, or with a wrong length of the JSON before them, are rejected."""
    tensor = {"name": "image", "shape": [1, 784], "datatype": "FP32", "parameters": {"binary_data_size": len(raw)}}
    head = json.dumps({"inputs": [tensor]}).encode()
    with predictor.session() as session:
        for said in (length, str(len(head))):
            headers = {"Inference-Header-Content-Length": said.encode("utf-8").decode("latin-1")}
            status, answer = session.ask("POST", PREDICT[1], head + raw, headers)
            assert status in {200, 400}, answer
    assert predictor.tally.new_failures() == []


ODD_PATHS = ["/", "*", "", "//", "/.", "/..", "/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/%00", "/%", "/%zz"]
PARTS = (
    *("v1", "v2", "models", "digits", "digits:predict", "infer", "ready", "versions", "repository", "index", "load"),
    *("api", "recognise", "feedback", "model", "static", "app.js", "metrics", "health", "live", "openapi.json", "docs"),
    *("..", "%2e%2e", "%2f", "%00", "%ff", "é", "x" * 300),
)
PATHS = st.one_of(
    st.sampled_from(ODD_PATHS),
    st.lists(st.sampled_from(PARTS) | st.text(max_size=10), max_size=6).map(lambda p: "/" + "/".join(p)),
)
METHODS = st.sampled_from(
    ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PRI", "get", "FOO", "", "\0"]
)
ODD_QUERIES = ["", "endpoint=%ff", "endpoint=../x", "label=9", "a" * 9000]
QUERIES = st.one_of(st.sampled_from(ODD_QUERIES), st.text(max_size=30))


@fuzz(600)
@given(method=METHODS, path=PATHS, query=QUERIES, body=st.binary(max_size=20))
def test_paths_and_methods(method: str, path: str, query: str, body: bytes, target: Target) -> None:
    """Every path with every method is answered or rejected."""
    line = f"{method} {path}{'?' if query else ''}{query} HTTP/1.1\r\n".encode()
    status = target.raw(line + b"Host: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    assert target.tally.new_failures() == []
    assert not isinstance(status, int) or status < 500


NAMES = (
    *(b"Content-Length", b"Transfer-Encoding", b"Content-Type", b"Content-Encoding", b"Connection", b"Upgrade", b"TE"),
    *(b"Expect", b"Host", b"Accept", b"Accept-Encoding", b"Range", b"Cookie", b"If-None-Match", b"If-Modified-Since"),
    *(b"X-Forwarded-For", b"X-Forwarded-Host", b"Trailer", b"Origin", b"Inference-Header-Content-Length"),
)
VALUES = (
    *(b"", b"0", b"1", b"-1", b"00", b"18446744073709551616", b"9" * 5000, b"x" * 70_000, b"\xff\xfe", b"127.0.0.1"),
    *(b"chunked", b"gzip, chunked", b"identity", b"close", b"keep-alive", b"upgrade", b"websocket", b"h2c"),
    *(b"100-continue", b"bytes=0-", b"bytes=-1,5-,9-1", b"*/*", b"image/png", b"application/json"),
)
HEADERS = st.tuples(
    st.sampled_from(NAMES) | st.binary(max_size=20),
    st.sampled_from(VALUES) | st.binary(max_size=40),
)
VERSIONS = st.sampled_from(b"HTTP/1.1 HTTP/1.0 HTTP/0.9 HTTP/2.0 HTTP/1.2 http/1.1 HTTP/1.1\0".split())
ENDS = st.sampled_from([b"\r\n", b"\n", b"\r", b"\r\n\r\n", b""])
CHUNKS = [
    b"",
    b"5\r\nhello\r\n0\r\n\r\n",
    b"5;a=\xff\r\nhello\r\n0\r\nX: y\r\n\r\n",
    b"fffffffffffffffff\r\nx",
    b"-1\r\n",
]


@st.composite
def messages(draw: Any) -> bytes:
    """Generate HTTP messages with unusual versions, repeated headers, line endings and chunks."""
    path = draw(
        st.sampled_from([*PREDICT, "/", "/v2/models/digits", "/api/recognise", "/api/feedback?label=1"])
    ).encode()
    method, end = draw(st.sampled_from([b"GET", b"POST", b"PUT", b"HEAD"])), draw(ENDS)
    headers = draw(st.lists(HEADERS, max_size=6))
    if draw(st.booleans()):
        headers += draw(st.lists(st.sampled_from(headers), max_size=3)) if headers else []
    lines = [method + b" " + path + b" " + draw(VERSIONS), *(name + b": " + value for name, value in headers)]
    chunk = draw(st.sampled_from(CHUNKS))
    return (end or b"\r\n").join(lines) + b"\r\n\r\n" + chunk + draw(st.binary(max_size=60))


@fuzz(800)
@given(message=st.one_of(messages(), st.binary(min_size=1, max_size=400)))
def test_messages(message: bytes, target: Target) -> None:
    """Every sequence of bytes is answered, rejected, or its connection closed."""
    target.raw(message)
    assert target.tally.new_failures() == []


@fuzz(100)
@given(several=st.lists(messages(), min_size=2, max_size=12))
def test_requests_sent_ahead(several: list[bytes], target: Target) -> None:
    """Several messages sent together over one connection, as in request smuggling, are handled alike."""
    target.raw(b"".join(several))
    target.tally.requests[target.name] += len(several) - 1
    assert target.tally.new_failures() == []


def chunk_of(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, depth: int, colour: int, data: bytes, *more: bytes) -> bytes:
    """Return a PNG file with this header; its content may contradict the header."""
    head = chunk_of(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(more) + chunk_of(b"IDAT", data) + chunk_of(b"IEND", b"")


KINDS = b"tEXt zTXt iTXt iCCP PLTE tRNS gAMA acTL fcTL eXIf".split()


@st.composite
def drawings(draw: Any) -> bytes:
    """Generate images that are damaged, have wrong headers, or decompress to large sizes."""
    side = st.one_of(st.integers(0, 40), st.sampled_from([999, 1000, 4000, 65535, 2**31 - 1, 2**31, 2**32 - 1]))
    more = draw(st.lists(st.builds(chunk_of, st.sampled_from(KINDS), st.binary(max_size=40)), max_size=3))
    data = draw(st.one_of(st.binary(max_size=200), st.integers(0, 3_000_000).map(lambda n: zlib.compress(bytes(n)))))
    lying = png(
        draw(side), draw(side), draw(st.sampled_from([1, 2, 4, 8, 16, 3])), draw(st.integers(0, 7)), data, *more
    )
    mode = draw(st.sampled_from(["1", "L", "LA", "P", "RGB", "RGBA", "I;16"]))
    file = io.BytesIO()
    Image.new(mode, (draw(st.integers(1, 60)), draw(st.integers(1, 60)))).save(file, "PNG")
    content = bytearray(draw(st.sampled_from([lying, file.getvalue()])))
    for _ in range(draw(st.integers(0, 4))):
        if content:
            content[draw(st.integers(0, len(content) - 1))] = draw(st.integers(0, 255))
    return bytes(content)[: draw(st.sampled_from([None, None, 20, 50, len(content) // 2]))]


@fuzz(800)
@given(drawing=st.one_of(drawings(), st.binary(max_size=100)))
def test_drawings(drawing: bytes, gateway: Target) -> None:
    """Every body sent as a drawing is recognised, reported as empty, or rejected."""
    with gateway.session() as session:
        for path in ("/api/recognise", "/api/feedback?label=3"):
            status, answer = session.ask("POST", path, drawing, {"Content-Type": "image/png"})
            assert status in {200, 400, 429}, answer
    assert gateway.tally.new_failures() == []


def blocks(total: int, block: bytes = bytes(1 << 20)) -> Iterator[bytes]:
    for _ in range(total // len(block)):
        yield block


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("path", [*PREDICT, "/api/recognise", "/nowhere"])
def test_a_hundred_megabytes(path: str, chunked: bool, target: Target) -> None:
    """A body of 100 MB, with or without its length, is rejected before it is read and needs no memory."""
    before = target.memory()
    connection = http.client.HTTPConnection("127.0.0.1", target.port, timeout=60)
    status: int | str = "closed"
    try:
        headers = {"Transfer-Encoding": "chunked"} if chunked else {"Content-Length": str(100 << 20)}
        headers["Content-Type"] = "image/png"
        connection.request("POST", path, blocks(100 << 20), headers, encode_chunked=chunked)
        status = connection.getresponse().status
    except (ConnectionError, http.client.HTTPException):
        pass  # the server closed the connection while we were sending, which is a rejection, too
    finally:
        connection.close()
    target.tally.count(target.name, status, path)
    assert status in {404, 405, 413, "closed"}
    assert target.memory() - before < 64 << 20


LONG_IMAGE = json.dumps(np.full((28, 28, 1), 0.123456789012345).tolist(), separators=(",", ":")).encode()
LARGE = {
    "empty lists": b'{"instances":[' + b"[]," * 4_000_000 + b"[]]}",
    "numbers": b'{"instances":[' + b"0.1," * 3_000_000 + b"0]}",
    "texts": b'{"inputs":["' + b"x" * 12_000_000 + b'"]}',
    "objects": b'{"inputs":[' + b",".join([b'{"a":' * 999 + b"0" + b"}" * 999] * 1660) + b"]}",
    "keys": b'{"inputs":[{' + b",".join(b'"%x":0' % n for n in range(1_000_000)) + b"}]}",
    "open lists": b'{"inputs":' + b"[" * 12_000_000,
    # Valid: a thousand images, with nearly as many digits as fit.
    "many digits": b'{"instances":[' + b",".join([LONG_IMAGE] * 1000) + b"]}",
    "nearly the largest": json.dumps({"instances": np.full((1024, 28, 28, 1), 0.125).tolist()}).encode()[:-1] + b",0]}",
}


@pytest.mark.parametrize("what", LARGE)
def test_large_bodies_at_once(what: str, predictor: Target) -> None:
    """Sixteen concurrent bodies of the largest accepted size are answered or rejected within the memory limit."""

    def ask(_: int) -> int:
        with predictor.session() as session:
            return session.ask("POST", PREDICT[0], LARGE[what])[0]

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        statuses = set(pool.map(ask, range(32)))
    assert statuses <= {0, 400, 503} | ({200} if what == "many digits" else set())
    assert statuses & {200, 400}
    assert predictor.memory() < predictor.most_bytes


def test_unread_responses(predictor: Target) -> None:
    """Four hundred clients that ask for large responses and read nothing do not exhaust the memory."""
    tensor = {"name": "image", "shape": [1024, 784], "datatype": "UINT8", "parameters": {"binary_data_size": 802_816}}
    head = json.dumps({"id": "x" * 1000, "inputs": [tensor]}).encode()
    size = len(head) + 802_816
    start = f"POST {PREDICT[1]} HTTP/1.1\r\nHost: x\r\nInference-Header-Content-Length: {len(head)}\r\n"
    message = f"{start}Content-Length: {size}\r\n\r\n".encode() + head + bytes(802_816)

    def ask(client: socket.socket) -> None:
        client.settimeout(20)
        with contextlib.suppress(OSError):
            for _ in range(3):
                client.sendall(message)

    with contextlib.ExitStack() as stack, concurrent.futures.ThreadPoolExecutor(32) as pool:
        clients = [socket.socket() for _ in range(400)]
        for client in clients:
            stack.enter_context(client)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", predictor.port))
        list(pool.map(ask, clients))
        assert predictor.answers() == predictor.right
    assert predictor.memory() < 0.8 * predictor.most_bytes


def test_many_large_drawings_at_once(gateway: Target) -> None:
    """Many concurrent drawings of a million pixels are answered or rejected within the memory limit."""
    file = io.BytesIO()
    Image.new("RGBA", (1000, 1000), "white").save(file, "PNG")

    def ask(_: int) -> int:
        with gateway.session() as session:
            padded = file.getvalue() + bytes(900_000)
            return session.ask("POST", "/api/recognise", padded, {"Content-Type": "image/png"})[0]

    with concurrent.futures.ThreadPoolExecutor(40) as pool:
        assert set(pool.map(ask, range(80))) <= {0, 200, 503}


def test_afterwards(predictor: Target, gateway: Target, tally: Tally, whole_session: bool) -> None:
    """After ten thousand requests memory is within the containers' limits, and valid requests are answered."""
    if whole_session:
        assert tally.total >= 10_000
    for target in (predictor, gateway):
        assert target.process.poll() is None
        assert target.answers() == target.right
        tally.notes.append(
            f"{target.name}: {target.memory() >> 20} MiB of memory at most, of {target.most_bytes >> 20} allowed"
        )
        assert target.memory() < target.most_bytes
        assert b"Traceback" not in target.log.read_bytes()
