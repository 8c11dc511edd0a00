"""The gateway's API, with an endpoint on a real socket."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image, ImageDraw, PngImagePlugin
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Mount

from digits.data import corrections
from digits.data.pictures import read_ink
from digits.data.preprocessing import to_mnist
from digits.settings import Settings
from digits.store import ObjectStore, open_store
from digits.store.file import FileStore
from tests.helpers.asgi_server import asgi_server
from tests.helpers.gateway_requests import ONE, PNG, correct, drawing, gateway_server, recognise
from tests.helpers.standin import SURE_OF_3, StandIn, always
from web_app.endpoints import Endpoint
from web_app.gateway import MAX_CONCURRENT, STATIC, GatewayConfig


def test_recognises_a_drawing(gateway: httpx.Client, standin: StandIn) -> None:
    """An answer holds the class, ten probabilities, the verdict, the image that the model got, and the model."""
    answer = recognise(gateway).raise_for_status().json()
    assert answer["class"] == 3
    assert answer["probabilities"] == pytest.approx(SURE_OF_3)
    assert answer["verdict"]["state"] == "sure"
    assert answer["model"]["release"] == "v1"
    assert answer["milliseconds"] > 0
    assert base64.b64decode(answer["picture"]) == standin.images[-1].tobytes()


def test_an_empty_drawing_is_not_sent_to_the_model(gateway: httpx.Client, standin: StandIn) -> None:
    """An empty drawing is reported as empty, without a request to the model."""
    answer = recognise(gateway, drawing()).raise_for_status().json()
    assert (answer["class"], answer["verdict"]["state"]) == (None, "empty")
    assert standin.images == []


def test_flat_probabilities_are_unsure(gateway: httpx.Client, standin: StandIn) -> None:
    """Two nearly equal probabilities give the verdict unsure, with both digits."""
    standin.answer = always([0.4, 0.35] + [0.03125] * 8)
    assert recognise(gateway).json()["verdict"] == {
        "state": "unsure",
        "text": "Not sure: perhaps a 0, perhaps a 1.",
    }


@pytest.mark.parametrize(
    ("sure_from", "state"),
    [(0.9, "sure"), (0.98, "unsure"), (1.01, "unsure"), (0, "sure"), ("x", "sure"), (True, "sure"), (7, "sure")],
)
def test_the_release_states_from_which_probability_an_answer_is_sure(
    gateway: httpx.Client, standin: StandIn, sure_from: object, state: str
) -> None:
    """The release's threshold decides on each digit and the whole; what is no threshold is ignored."""
    standin.sure_from = sure_from
    answer = recognise(gateway).json()
    assert (answer["verdict"]["state"], answer["digits"][0]["verdict"]) == (state, state)


TWO = drawing([(80, 40), (80, 240)], [(200, 40), (200, 240), (260, 240)])


def test_a_number_is_read_digit_by_digit(gateway: httpx.Client, standin: StandIn) -> None:
    """Digits next to each other are one request, and the answer has the number, and each digit with its box."""
    standin.answer = lambda image: np.roll(SURE_OF_3, 1 if np.ptp(np.nonzero(image)[1]) > 4 else 0).astype(np.float32)
    answer = recognise(gateway, TWO).raise_for_status().json()
    assert (answer["number"], answer["class"], answer["verdict"]["state"]) == ("34", None, "sure")
    assert [base64.b64decode(digit["picture"]) for digit in answer["digits"]] == [i.tobytes() for i in standin.images]
    boxes = [side * 280 for digit in answer["digits"] for side in digit["box"]]
    assert boxes == pytest.approx([73, 40, 87, 240, 193, 40, 260, 247], abs=8)


def test_a_number_with_an_unsure_digit_is_unsure(gateway: httpx.Client, standin: StandIn) -> None:
    """If one digit is unsure, the number is, and the verdict names which."""
    flat = [0.4, 0.35] + [0.03125] * 8
    standin.answer = lambda image: np.array(flat if np.ptp(np.nonzero(image)[1]) > 4 else SURE_OF_3, np.float32)
    answer = recognise(gateway, TWO).json()
    assert answer["verdict"] == {"state": "unsure", "text": "Not sure: perhaps 30, where the 2nd digit is unclear."}
    assert [digit["verdict"] for digit in answer["digits"]] == ["sure", "unsure"]


def test_digits_that_may_touch_are_unsure(gateway: httpx.Client, standin: StandIn) -> None:
    """The model also receives the pieces between cuts, in the same request; what may be a 4 or 11 is unsure."""
    joined = drawing([(80, 40), (80, 240)], [(200, 40), (200, 240)], [(80, 140), (200, 140)])
    answer = recognise(gateway, joined).raise_for_status().json()
    assert len(standin.images) > 3
    assert {digit["verdict"] for digit in answer["digits"]} == {"unsure"}
    assert answer["verdict"]["state"] == "unsure"


def test_a_picture_that_may_show_another_digit_is_unsure(gateway: httpx.Client) -> None:
    """Two digits on opaque paper, one above the other, give the verdict unsure, even if the model is sure."""
    picture, file = Image.new("L", (400, 400), 230), io.BytesIO()
    for top in (40, 230):
        ImageDraw.Draw(picture).line([(140, top), (250, top), (180, top + 130)], fill=40, width=10)
    picture.save(file, "PNG")
    assert recognise(gateway, file.getvalue()).json()["verdict"] == {
        "state": "unsure",
        "text": "Not sure: perhaps a 3.",
    }


def test_only_configured_endpoints_are_used(gateway: httpx.Client) -> None:
    """A name that is not configured, such as a URL, gets 404: the gateway sends requests to no other address."""
    for name in ("http://127.0.0.1:1", "nowhere"):
        assert recognise(gateway, endpoint=name).status_code == 404
        assert gateway.get("/api/model", params={"endpoint": name}).status_code == 404


def test_endpoints_are_listed_by_name(gateway: httpx.Client) -> None:
    """The page gets the endpoints' names, not their addresses, and the gateway's task."""
    answer = gateway.get("/api/endpoints").json()
    assert (answer["endpoints"], answer["feedback"], answer["task"]["name"]) == (["here", "gone"], True, "digits")
    assert "127.0.0.1" not in str(answer)


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"no picture", "image/png", 400),
        (ONE[:200], "image/png", 400),
        (b"no picture", "Image/PNG; name=a", 400),
        (ONE, "text/plain", 415),
        (b"", "image/png", 400),
    ],
)
def test_other_bodies_than_drawings_are_rejected(gateway: httpx.Client, content: bytes, kind: str, status: int) -> None:
    """A body that is not a complete PNG gets 400, and another content type 415 (no CORS preflight)."""
    answer = gateway.post("/api/recognise", content=content, headers={"Content-Type": kind})
    assert answer.status_code == status
    assert answer.json()["error"]


@pytest.mark.parametrize("kinds", [("image/png", "text/plain"), ("text/plain", "image/png"), ("image/png",) * 2, ()])
def test_a_body_with_several_content_types_or_none_is_rejected(gateway: httpx.Client, kinds: tuple[str, ...]) -> None:
    """A drawing has one field for its content type, because programs differ in which of two they take."""
    answer = gateway.post("/api/recognise", content=ONE, headers=[("Content-Type", kind) for kind in kinds])
    assert answer.status_code == 415


@pytest.mark.parametrize("picture", ["large", "jpeg", "eps"])
def test_pictures_of_another_kind_are_rejected(gateway: httpx.Client, picture: str) -> None:
    """A small file with too many pixels, and other formats than PNG, are rejected before they are decoded."""
    file = io.BytesIO()
    if picture == "large":
        Image.new("L", (1200, 1200)).save(file, "PNG")
    else:
        Image.new("L", (28, 28)).save(file, picture.upper())
    answer = recognise(gateway, file.getvalue())
    assert answer.status_code == 400
    assert ("1,000,000 pixels" if picture == "large" else "cannot be read") in answer.json()["error"]


def test_a_drawing_with_large_texts_is_rejected(gateway: httpx.Client) -> None:
    """A small PNG whose texts unpack to megabytes, which Pillow would keep, is rejected."""
    texts, file = PngImagePlugin.PngInfo(), io.BytesIO()
    for number in range(2):
        texts.add_text(f"text {number}", "x" * 800_000, zip=True)
    Image.open(io.BytesIO(ONE)).save(file, "PNG", pnginfo=texts)
    assert len(file.getvalue()) < 20_000
    assert recognise(gateway, file.getvalue()).status_code == 400


def test_a_drawing_is_not_kept_while_the_endpoint_is_waited_for(
    gateway: httpx.Client, standin: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many visitors may wait for a slow endpoint, so the decoded drawing, up to a megabyte, is released before."""
    drawings: list[weakref.ref[Any]] = []

    def remembered(*arguments: Any, **options: Any) -> Any:
        reading = read_ink(*arguments, **options)
        drawings.append(weakref.ref(reading.ink))
        return reading

    monkeypatch.setattr("digits.data.reader.read_ink", remembered)
    kept: list[bool] = []
    standin.answer = lambda _: (kept.append(drawings[0]() is not None), np.array(SURE_OF_3, np.float32))[1]
    assert recognise(gateway).status_code == 200
    assert kept == [False]


def test_a_correction_is_stored_once(gateway: httpx.Client, store: FileStore, standin: StandIn) -> None:
    """A correction stores the model's input image with the label, once, however often it is sent."""
    recognise(gateway)
    for _ in range(2):
        answer = gateway.post(
            "/api/feedback", params={"label": 1, "answer": 3, "release": "v1"}, content=ONE, headers=PNG
        )
    key = answer.raise_for_status().json()["key"]
    assert store.exists(key)
    collected = corrections.collect(store, limit=10)
    assert collected.labels.tolist() == [1]
    assert np.array_equal(collected.images[0], standin.images[-1])
    record = json.loads(store.get(key))
    assert (record["release"], record["answer"]) == ("v1", "3")


def test_a_correction_may_name_a_whole_number(gateway: httpx.Client, store: FileStore, standin: StandIn) -> None:
    """A number with as many digits as were read stores each digit, and each counts for the limit per minute."""
    recognise(gateway, TWO)
    assert correct(gateway, "1", TWO).status_code == 400
    assert store.keys() == []
    answer = gateway.post("/api/feedback", params={"label": "07", "answer": "33"}, content=TWO, headers=PNG)
    assert answer.raise_for_status().json()["label"] == "07"
    collected = corrections.collect(store, limit=10)
    images = {image.tobytes(): label for image, label in zip(collected.images, collected.labels, strict=True)}
    assert [images[image.tobytes()] for image in standin.images] == [0, 7]
    assert correct(gateway, "07", TWO).status_code == 429


PAIR = drawing(
    [(110 + 50 * np.cos(turn), 140 + 70 * np.sin(turn)) for turn in np.linspace(0, 6.4, 40)],
    [(130, 80), (235, 80), (185, 210)],
)


def test_digits_that_touch_are_recognised_and_corrected(
    gateway: httpx.Client, store: FileStore, standin: StandIn
) -> None:
    """Two digits that touch are a number of two, and a correction of both stores the image of each."""
    # The pieces are shown only if model and network agree. A 7 has no ink at the lower left.
    standin.answer = lambda image: np.roll(SURE_OF_3, -3 if image[18:, :10].any() else 4).astype(np.float32)
    answer = recognise(gateway, PAIR).raise_for_status().json()
    assert answer["number"] == "07"
    assert len(answer["digits"]) == 2
    correct(gateway, "07", PAIR).raise_for_status()
    collected = corrections.collect(store, limit=10)
    images = {image.tobytes(): label for image, label in zip(collected.images, collected.labels, strict=True)}
    pictures = [base64.b64decode(each["picture"]) for each in answer["digits"]]
    assert [images[picture] for picture in pictures] == [0, 7]


def test_a_digit_that_was_divided_can_be_corrected(gateway: httpx.Client, store: FileStore) -> None:
    """A correction of ink that was read as two digits to a single one stores it whole, without an answer."""
    correction = {"label": "4", "answer": "33"}
    gateway.post("/api/feedback", params=correction, content=PAIR, headers=PNG).raise_for_status()
    assert corrections.collect(store, limit=10).labels.tolist() == [4]
    correction = {"label": "40", "answer": "333"}
    assert gateway.post("/api/feedback", params=correction, content=PAIR, headers=PNG).status_code == 400


def test_a_store_that_hangs_does_not_block_recognition(
    standin: StandIn, store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Drawings are recognised while corrections wait for a store that hangs; all are stored once it responds."""
    monkeypatch.setattr("web_app.gateway.STORE_SECONDS", 60.0)
    responds, many, prepared = threading.Event(), 41, threading.Semaphore(0)
    put = store.put
    monkeypatch.setattr(store, "put", lambda key, content: responds.wait(60) and put(key, content))
    monkeypatch.setattr("digits.data.number.to_mnist", lambda ink: (prepared.release(), to_mnist(ink))[1])
    with asgi_server(standin.app) as url:
        config = GatewayConfig((Endpoint("here", url),), store, feedback_per_minute=many)
        with (
            gateway_server(config) as address,
            httpx.Client(base_url=address, timeout=15, trust_env=False) as client,
            ThreadPoolExecutor(many) as pool,
        ):
            try:
                requests = [pool.submit(correct, client) for _ in range(many)]
                assert all(prepared.acquire(timeout=10) for _ in requests)
                assert recognise(client).status_code == 200
                assert not any(request.done() for request in requests)
            finally:
                responds.set()
            assert {request.result().status_code for request in requests} == {200}


def test_a_correction_times_out(gateway: httpx.Client, store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A correction gets 503 with Retry-After if the store does not answer in time; a retry stores it once."""
    responds = threading.Event()
    put = store.put
    with monkeypatch.context() as hanging:
        hanging.setattr("web_app.gateway.STORE_SECONDS", 0.2)
        hanging.setattr(store, "put", lambda key, content: responds.wait(60) and put(key, content))
        answer = correct(gateway)
    responds.set()
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "10")
    assert "may be stored" in answer.json()["error"]
    assert correct(gateway).status_code == 200
    assert len(corrections.collect(store, limit=10)) == 1


def test_a_store_that_hangs_takes_few_threads(
    standin: StandIn, store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a store hangs, corrections that timed out do not start one thread after another."""
    responds, asked = threading.Event(), list[str]()
    monkeypatch.setattr("web_app.gateway.STORE_SECONDS", 0.2)
    monkeypatch.setattr(store, "put", lambda key, _: (asked.append(key), responds.wait(60)))
    with asgi_server(standin.app) as url:
        config = GatewayConfig((Endpoint("here", url),), store, feedback_per_minute=50)
        with gateway_server(config) as address, httpx.Client(base_url=address, timeout=15, trust_env=False) as client:
            try:
                assert {correct(client).status_code for _ in range(3 * MAX_CONCURRENT)} == {503}
                assert len(asked) == MAX_CONCURRENT
            finally:
                responds.set()


@pytest.mark.parametrize("failure", ["denied", "a file", "unavailable"])
def test_a_store_that_refuses_is_logged_and_not_described_to_the_visitor(
    failure: str, standin: StandIn, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A correction that is not stored gets 503 and Retry-After, without the store's address, which the log has."""
    store: ObjectStore = FileStore(tmp_path / "private" / "store")
    with contextlib.ExitStack() as stack:
        if failure == "a file":
            (tmp_path / "private").write_text("a file, not a folder")
        else:
            status = {"denied": 403, "unavailable": 503}[failure]
            address = stack.enter_context(asgi_server(Starlette(routes=[Mount("/", Response(status_code=status))])))
            credentials = Settings(minio_endpoint=address, minio_access_key="a", minio_secret_key="private-key")
            store = open_store(credentials, "s3://private-bucket")
        config = GatewayConfig((Endpoint("here", stack.enter_context(asgi_server(standin.app))),), store)
        address = stack.enter_context(gateway_server(config))
        client = stack.enter_context(httpx.Client(base_url=address, timeout=30, trust_env=False))
        answer = correct(client)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "10")
        assert "private" not in answer.text
        assert "private" in caplog.text
        assert recognise(client).status_code == 200


@pytest.mark.parametrize("params", [{}, {"label": "x"}, {"label": "10"}, {"label": "²"}, {"label": 1, "answer": "-1"}])
def test_other_labels_than_digits_are_rejected(gateway: httpx.Client, store: FileStore, params: dict[str, str]) -> None:
    """A label that is not the digit of a drawing with one digit gets 400, and nothing is stored."""
    assert gateway.post("/api/feedback", params=params, content=ONE, headers=PNG).status_code == 400
    assert store.keys() == []


@pytest.mark.parametrize(
    "query", ["label=1&label=2", "label=1&label=", "label=1&label=1", "label=1&release=&release=a"]
)
def test_a_query_with_two_values_is_rejected(gateway: httpx.Client, store: FileStore, query: str) -> None:
    """A correction whose query has a name twice gets 400, and nothing is stored."""
    assert gateway.post(f"/api/feedback?{query}", content=ONE, headers=PNG).status_code == 400
    assert store.keys() == []


def test_an_empty_correction_is_rejected(gateway: httpx.Client, store: FileStore) -> None:
    """A correction without ink gets 400, and nothing is stored."""
    answer = correct(gateway, png=drawing())
    assert answer.status_code == 400
    assert store.keys() == []


def test_only_the_digit_of_a_picture_is_stored(gateway: httpx.Client, store: FileStore) -> None:
    """A correction stores the digit's ink, at most 160 pixels high, and nothing else of the picture or the file."""
    picture, file = Image.new("L", (500, 500), 230), io.BytesIO()
    pen = ImageDraw.Draw(picture)
    pen.line([(180, 40), (380, 40), (240, 460)], fill=40, width=18)
    pen.line([(0, 100), (30, 300)], fill=40, width=20)
    picture.save(file, "PNG")
    key = correct(gateway, label=7, png=file.getvalue() + bytes(70_000)).raise_for_status().json()["key"]
    content = base64.b64decode(json.loads(store.get(key))["drawing"])
    stored = np.asarray(Image.open(io.BytesIO(content)))
    assert len(content) < 30_000
    assert stored.shape[0] == 160
    assert abs(stored.shape[1] - 80) < 10


def test_without_a_store_corrections_are_not_offered(standin: StandIn) -> None:
    """A gateway without a store reports that, and rejects corrections."""
    with asgi_server(standin.app) as url, gateway_server(GatewayConfig((Endpoint("here", url),))) as address:
        assert httpx.get(f"{address}/api/endpoints").json()["feedback"] is False
        assert httpx.post(f"{address}/api/feedback?label=1", content=ONE, headers=PNG).status_code == 404


def test_health_and_metrics(gateway: httpx.Client) -> None:
    """Health needs no model, and the metrics count responses by route, not by path."""
    recognise(gateway)
    recognise(gateway, endpoint="gone")
    gateway.get("/some/other/path")
    gateway.get("/")
    assert gateway.get("/healthz").status_code == 200
    metrics = gateway.get("/metrics").text
    assert 'digits_web_requests_total{route="/api/recognise",status="200"} 1.0' in metrics
    assert 'digits_web_requests_total{route="/api/recognise",status="502"} 1.0' in metrics
    assert 'digits_web_requests_total{route="static",status="200"} 1.0' in metrics
    assert "other" not in metrics


@pytest.mark.parametrize("path", ["/", "/app.js", "/api/endpoints", "/api/model", "/healthz", "/metrics"])
def test_head_is_answered_like_get(gateway: httpx.Client, path: str) -> None:
    """HEAD gets GET's status and content type without a body; other methods get 405 with the allowed ones."""
    answer, head = gateway.get(path), gateway.head(path)
    assert (head.status_code, head.headers["content-type"]) == (200, answer.headers["content-type"])
    assert head.content == b""
    for method in ("POST", "DELETE", "OPTIONS", "TRACE"):
        refused = gateway.request(method, path)
        assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD")


def test_a_drawing_is_only_posted(gateway: httpx.Client) -> None:
    """A method other than POST gets 405 with the allowed one, and an unknown path 404."""
    for method in ("GET", "HEAD", "PUT"):
        refused = gateway.request(method, "/api/recognise")
        assert (refused.status_code, refused.headers["allow"]) == (405, "POST")
    assert {gateway.request(method, "/api/other").status_code for method in ("GET", "POST", "PUT")} == {404}


def test_an_unchanged_file_is_not_sent_again(gateway: httpx.Client) -> None:
    """A browser that has a file of the page gets 304; it asks for each file each time."""
    first = gateway.get("/")
    assert first.headers["cache-control"] == "no-cache"
    again = gateway.get("/index.html", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert gateway.get("/app.js", headers={"If-None-Match": first.headers["etag"]}).status_code == 200


def test_preconditions_compare_the_tags_of_a_file(gateway: httpx.Client) -> None:
    """If-Match and If-None-Match name a file of the page by its tag or `*`; other preconditions are ignored."""
    tag = gateway.get("/app.js").headers["etag"]
    for field, value, status in (
        ("If-None-Match", "*", 304),
        ("If-None-Match", f"W/{tag}", 304),
        ("If-None-Match", f'"x" , {tag}', 304),
        ("If-None-Match", '"x"', 200),
        ("If-None-Match", f"x{tag}", 200),
        ("If-Match", "*", 200),
        ("If-Match", f'"x", {tag}', 200),
        ("If-Match", f"W/{tag}", 412),
        ("If-Match", '"x"', 412),
        ("If-Match", "\xff", 412),
        ("If-Unmodified-Since", "Sat, 29 Oct 1994 19:43:31 GMT", 200),
        ("Range", "bytes=0-3", 200),
    ):
        for method in ("GET", "HEAD"):
            answer = gateway.request(method, "/app.js", headers={field: value.encode("latin-1")})
            assert answer.status_code == status, (field, value)


def test_a_precondition_may_have_several_lines(gateway: httpx.Client) -> None:
    """A tag in the second of two lines is found."""
    tag = gateway.get("/app.js").headers["etag"]
    assert gateway.get("/app.js", headers=[("If-None-Match", '"x"'), ("If-None-Match", tag)]).status_code == 304


def test_an_upgrade_is_ignored(gateway: httpx.Client) -> None:
    """A drawing whose client offers another protocol, as Java's does, is recognised."""
    upgrade = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAMAAABkAAQAAP__"}
    assert gateway.post("/api/recognise", content=ONE, headers=PNG | upgrade).status_code == 200


def test_the_page_is_small_and_self_contained() -> None:
    """The page's files have less than 60 kB, name no other host, and have no inline script or style."""
    files = list(STATIC.iterdir())
    assert sum(file.stat().st_size for file in files) < 60_000
    text = "\n".join(file.read_text() for file in files).replace("http://www.w3.org/2000/svg", "")
    assert "http:" not in text
    assert "https:" not in text
    page = (STATIC / "index.html").read_text()
    assert "style=" not in page
    assert "<script>" not in page
