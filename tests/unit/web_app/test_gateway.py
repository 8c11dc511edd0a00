"""The gateway against a server of the Open Inference protocol on a real socket."""

from __future__ import annotations

import base64
import io
import json
import re
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image, ImageDraw

from digits.data import corrections
from digits.data.preprocessing import to_mnist
from digits.errors import MissingError, UsageError
from digits.settings import Settings
from digits.store.file import FileStore
from tests.helpers.serving import serving
from tests.helpers.standin import StandIn, TensorFlowServing
from tests.helpers.support import has_ipv6
from web_app import guard
from web_app.endpoints import WHOLE_SECONDS, Endpoint
from web_app.gateway import STATIC, STORE_SECONDS, GatewayConfig, create_app
from web_app.guard import RateLimit
from web_app.server import listening

PNG = {"Content-Type": "image/png"}


def drawing(*lines: list[tuple[int, int]], side: int = 280) -> bytes:
    picture = Image.new("RGBA", (side, side), (0, 0, 0, 0))
    for line in lines:
        ImageDraw.Draw(picture).line(line, fill="black", width=14)
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


ONE = drawing([(140, 40), (140, 240)])


def always(probabilities: list[float]) -> Any:
    return lambda image: np.array(probabilities, np.float32)


SURE_OF_3 = [0.01, 0.0, 0.0, 0.97, 0.0, 0.02, 0.0, 0.0, 0.0, 0.0]


@pytest.fixture
def standin() -> StandIn:
    return StandIn(always(SURE_OF_3))


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path)


@pytest.fixture
def gateway(standin: StandIn, store: FileStore) -> Iterator[httpx.Client]:
    """A client of a gateway with the endpoints `here`, which answers, and `gone`, which does not."""
    with serving(standin.app) as url:
        here, gone = Endpoint("here", url, host="digits.example.com"), Endpoint("gone", "http://127.0.0.1:1")
        app = create_app(GatewayConfig((here, gone), store, token="secret", feedback_per_minute=3, most_bytes=100_000))
        with serving(app) as address, httpx.Client(base_url=address, timeout=15, trust_env=False) as client:
            yield client


def recognise(gateway: httpx.Client, png: bytes = ONE, endpoint: str = "here") -> httpx.Response:
    return gateway.post("/api/recognise", params={"endpoint": endpoint}, content=png, headers=PNG)


def correct(gateway: httpx.Client) -> httpx.Response:
    return gateway.post("/api/feedback", params={"label": 1}, content=ONE, headers=PNG)


def test_recognises_a_drawing(gateway: httpx.Client, standin: StandIn) -> None:
    """An answer holds the class, ten probabilities, the verdict, the picture that was asked about, and the model."""
    answer = recognise(gateway).raise_for_status().json()
    assert answer["class"] == 3
    assert answer["probabilities"] == pytest.approx(SURE_OF_3)
    assert answer["verdict"]["state"] == "sure"
    assert answer["model"]["release"] == "v1"
    assert answer["milliseconds"] > 0
    assert base64.b64decode(answer["picture"]) == standin.images[-1].tobytes()


def test_sends_the_host_and_the_token(gateway: httpx.Client, standin: StandIn) -> None:
    """The endpoint gets its Host header and the bearer token, on every kind of request."""
    for ask in (lambda: recognise(gateway), lambda: gateway.get("/api/model")):
        ask()
        assert standin.headers["host"] == "digits.example.com"
        assert standin.headers["authorization"] == "Bearer secret"


def test_an_empty_drawing_asks_nobody(gateway: httpx.Client, standin: StandIn) -> None:
    """An empty canvas is said to be empty without asking the model."""
    answer = recognise(gateway, drawing()).raise_for_status().json()
    assert (answer["class"], answer["verdict"]["state"]) == (None, "empty")
    assert standin.images == []


def test_flat_probabilities_are_unsure(gateway: httpx.Client, standin: StandIn) -> None:
    """A model that does not know is not made to guess."""
    standin.answer = always([0.4, 0.35] + [0.03125] * 8)
    assert recognise(gateway).json()["verdict"] == {
        "state": "unsure",
        "text": "Not sure: perhaps a 0, perhaps a 1.",
    }


def test_two_digits_are_several(gateway: httpx.Client) -> None:
    """Two digits side by side are no digit, however sure the model is."""
    two = drawing([(80, 40), (80, 240)], [(200, 40), (200, 240)])
    assert recognise(gateway, two).json()["verdict"]["state"] == "several"


@pytest.mark.parametrize(
    ("state", "status", "said"),
    [("starting", 503, "starting"), ("busy", 503, "busy"), ("wrong", 502, "wrong model")],
)
def test_names_the_endpoints_state(gateway: httpx.Client, standin: StandIn, state: str, status: int, said: str) -> None:
    """An endpoint that starts, is busy or serves another model is told apart; none is a success."""
    standin.state = state
    answer = recognise(gateway)
    assert (answer.status_code, answer.json()["state"]) == (status, said)
    asked = gateway.get("/api/model", params={"endpoint": "here"}).json()["state"]
    assert asked == ("ready" if state == "busy" else said)


def test_an_endpoint_that_is_gone(gateway: httpx.Client) -> None:
    """An endpoint where nothing listens is unreachable, and the answer keeps its address to itself."""
    answer = recognise(gateway, endpoint="gone")
    assert (answer.status_code, answer.json()["state"]) == (502, "unreachable")
    assert "127.0.0.1" not in answer.text
    assert gateway.get("/api/model", params={"endpoint": "gone"}).json()["state"] == "unreachable"


def test_the_endpoint_comes_back(gateway: httpx.Client, standin: StandIn) -> None:
    """Trouble is not remembered: the next request is answered."""
    standin.state = "starting"
    assert recognise(gateway).status_code == 503
    standin.state = "ready"
    assert recognise(gateway).status_code == 200


@pytest.mark.parametrize("path", ["/api/recognise", "/api/model"])
def test_the_gateway_gives_up_before_the_page(
    gateway: httpx.Client, standin: StandIn, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """However many requests an answer takes, all of them have one deadline, before which the page goes on waiting."""
    monkeypatch.setattr("web_app.endpoints.WHOLE_SECONDS", 0.5)
    standin.delay = 0.4  # each in time, both together not
    answer = gateway.post(path, content=ONE, headers=PNG) if path == "/api/recognise" else gateway.get(path)
    assert answer.json()["state"] == "busy"
    assert "0.5 s" in answer.text
    monkeypatch.undo()
    (patience,) = re.findall(r"PATIENCE = ([\d_]+);", (STATIC / "gateway.js").read_text())
    assert max(WHOLE_SECONDS, STORE_SECONDS) + 1 < int(patience) / 1000


def test_a_model_is_described_once(gateway: httpx.Client, standin: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawings and looks that come at once ask once what model it is; so does each of them alone."""
    monkeypatch.setattr("web_app.endpoints.FRESH_SECONDS", 60.0)
    standin.delay = 0.1
    with ThreadPoolExecutor(6) as pool:
        asked = [pool.submit(recognise, gateway) for _ in range(4)]
        asked += [pool.submit(gateway.get, "/api/model") for _ in range(2)]
    assert [one.result().status_code for one in asked] == [200] * 6
    assert standin.described == 1


def test_the_release_told_is_the_one_that_answered(gateway: httpx.Client, standin: StandIn) -> None:
    """After a promotion an answer names its own release, with no facts of another; the next one has them again."""
    assert recognise(gateway).json()["model"]["release"] == "v1"
    standin.release = standin.answering = "v2"
    told = recognise(gateway).json()["model"]
    assert (told["name"], told["release"], told["digest"], told["accuracy"]) == ("digits", "v2", None, None)
    told = recognise(gateway).json()["model"]
    assert (told["release"], told["accuracy"]) == ("v2", 0.99)


def test_an_endpoint_that_speaks_v1_alone(store: FileStore) -> None:
    """TensorFlow Serving, which knows neither V2 nor the release, is asked over V1 and says when it is ready."""
    v1 = TensorFlowServing(always(SURE_OF_3))
    with serving(v1.app) as url:
        app = create_app(GatewayConfig((Endpoint("here", url),), store))
        with serving(app) as address, httpx.Client(base_url=address, timeout=15, trust_env=False) as client:
            answer = recognise(client).raise_for_status().json()
            assert (answer["class"], answer["model"]["release"], answer["model"]["digest"]) == (3, "3", None)
            picture = np.frombuffer(base64.b64decode(answer["picture"]), np.uint8).reshape(28, 28, 1)
            assert v1.images[-1] == pytest.approx(picture / 255, abs=1e-6)
            assert client.get("/api/model").json()["state"] == "ready"
            v1.state = "LOADING"
            assert client.get("/api/model").json()["state"] == "starting"


def test_only_configured_endpoints(gateway: httpx.Client) -> None:
    """A name that is not configured, an address above all, is refused: the gateway fetches nothing else."""
    for name in ("http://127.0.0.1:1", "nowhere"):
        assert recognise(gateway, endpoint=name).status_code == 404
        assert gateway.get("/api/model", params={"endpoint": name}).status_code == 404


def test_endpoints_by_name_only(gateway: httpx.Client) -> None:
    """The page learns names, not addresses."""
    assert gateway.get("/api/endpoints").json() == {"endpoints": ["here", "gone"], "feedback": True}


@pytest.mark.parametrize("path", ["/api/recognise", "/api/feedback?label=1"])
def test_refuses_large_bodies(gateway: httpx.Client, path: str) -> None:
    """A body over the limit is refused, with its length announced or without."""
    large = bytes(100_001)
    assert gateway.post(path, content=large, headers=PNG).status_code == 413
    assert gateway.post(path, content=iter([large[:60_000], large[:60_000]]), headers=PNG).status_code == 413


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"no picture", "image/png", 400),
        (ONE[:200], "image/png", 400),
        (ONE, "text/plain", 415),
        (b"", "image/png", 400),
    ],
)
def test_refuses_what_is_no_drawing(gateway: httpx.Client, content: bytes, kind: str, status: int) -> None:
    """Anything but a whole PNG is refused; so is what another site's page could send without asking."""
    answer = gateway.post("/api/recognise", content=content, headers={"Content-Type": kind})
    assert answer.status_code == status
    assert answer.json()["error"]


def test_stores_a_correction(gateway: httpx.Client, store: FileStore, standin: StandIn) -> None:
    """A correction stores the image that the model received under its label; sent twice, it counts once."""
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
    said = json.loads(store.get(key))
    assert (said["release"], said["answer"]) == ("v1", 3)


def test_a_store_that_hangs_holds_up_corrections_alone(
    standin: StandIn, store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many corrections wait for a store that hangs, drawings are recognised; once it is back all are stored."""
    monkeypatch.setattr("web_app.gateway.STORE_SECONDS", 60.0)
    back, many, prepared = threading.Event(), 41, threading.Semaphore(0)
    put = store.put
    monkeypatch.setattr(store, "put", lambda key, content: back.wait(60) and put(key, content))
    monkeypatch.setattr("web_app.gateway.to_mnist", lambda ink: (prepared.release(), to_mnist(ink))[1])
    with serving(standin.app) as url:
        app = create_app(GatewayConfig((Endpoint("here", url),), store, feedback_per_minute=many))
        with (
            serving(app) as address,
            httpx.Client(base_url=address, timeout=15, trust_env=False) as client,
            ThreadPoolExecutor(many) as pool,
        ):
            try:
                asked = [pool.submit(correct, client) for _ in range(many)]
                assert all(prepared.acquire(timeout=10) for _ in asked)
                assert recognise(client).status_code == 200
                assert not any(one.done() for one in asked)
            finally:
                back.set()
            assert {one.result().status_code for one in asked} == {200}


def test_a_store_that_hangs_is_given_up(
    gateway: httpx.Client, store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A correction that the store does not answer is answered 503 and when to come again; then it is stored, once."""
    back = threading.Event()
    put = store.put
    with monkeypatch.context() as hanging:
        hanging.setattr("web_app.gateway.STORE_SECONDS", 0.2)
        hanging.setattr(store, "put", lambda key, content: back.wait(60) and put(key, content))
        answer = correct(gateway)
    back.set()
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "10")
    assert "may be stored" in answer.json()["error"]
    assert correct(gateway).status_code == 200
    assert len(corrections.collect(store, limit=10)) == 1


@pytest.mark.parametrize("params", [{}, {"label": "x"}, {"label": "10"}, {"label": "²"}, {"label": 1, "answer": "-1"}])
def test_refuses_odd_labels(gateway: httpx.Client, store: FileStore, params: dict[str, str]) -> None:
    """A label is one digit; nothing is stored otherwise."""
    assert gateway.post("/api/feedback", params=params, content=ONE, headers=PNG).status_code == 400
    assert store.keys() == []


def test_refuses_an_empty_correction(gateway: httpx.Client, store: FileStore) -> None:
    """Nothing can be learned from an empty canvas."""
    answer = gateway.post("/api/feedback", params={"label": 1}, content=drawing(), headers=PNG)
    assert answer.status_code == 400
    assert store.keys() == []


def test_refuses_a_correction_that_hides_much(gateway: httpx.Client, store: FileStore) -> None:
    """What is appended to a drawing, or hidden in it, would be kept with it: a drawing is small."""
    padded = ONE + bytes(70_000)
    assert gateway.post("/api/feedback", params={"label": 1}, content=padded, headers=PNG).status_code == 413
    assert store.keys() == []


@pytest.mark.parametrize("picture", ["large", "jpeg", "eps"])
def test_refuses_pictures_that_are_no_drawings(gateway: httpx.Client, picture: str) -> None:
    """A small file that unpacks to much, and formats other than PNG, are refused before they are decoded."""
    file = io.BytesIO()
    if picture == "large":
        Image.new("L", (1200, 1200)).save(file, "PNG")
    else:
        Image.new("L", (28, 28)).save(file, picture.upper())
    answer = recognise(gateway, file.getvalue())
    assert answer.status_code == 400
    assert ("1,000,000 pixels" if picture == "large" else "cannot be read") in answer.json()["error"]


def test_too_many_bytes_at_once_are_refused(gateway: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond what the process may hold it answers 503 and when to come again; afterwards it serves as before."""
    monkeypatch.setattr(guard, "MOST_HELD", len(ONE) - 1)
    answer = recognise(gateway)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    monkeypatch.setattr(guard, "MOST_HELD", 2 * len(ONE) - 1)
    assert [recognise(gateway).status_code for _ in range(3)] == [200, 200, 200]


def test_limits_the_rate_of_corrections(gateway: httpx.Client) -> None:
    """More corrections than allowed in a minute are refused with 429."""
    codes = [gateway.post("/api/feedback", params={"label": n}, content=ONE, headers=PNG).status_code for n in range(4)]
    assert codes == [200, 200, 200, 429]


def test_rate_limit_recovers() -> None:
    """What was used comes back with time, for each caller by itself; the callers known are bounded."""
    limit = RateLimit(2, callers=2)
    assert [limit.allows("a", now) for now in (0, 0, 0, 31)] == [True, True, False, True]
    assert limit.allows("b", 0)
    assert limit.allows("c", 0)
    assert len(limit._known) == 2


def test_without_a_store_nothing_is_offered(standin: StandIn) -> None:
    """A gateway without a store says so and refuses corrections."""
    with serving(standin.app) as url, serving(create_app(GatewayConfig((Endpoint("here", url),)))) as address:
        assert httpx.get(f"{address}/api/endpoints").json()["feedback"] is False
        assert httpx.post(f"{address}/api/feedback?label=1", content=ONE, headers=PNG).status_code == 404


def test_security_headers(gateway: httpx.Client) -> None:
    """Every answer, refusals too, carries a policy that allows nothing inline and nothing from elsewhere."""
    for answer in (gateway.get("/"), gateway.get("/nowhere"), gateway.post("/api/recognise", content=bytes(200_000))):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_an_unexpected_error_is_answered_and_counted(
    gateway: httpx.Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What no handler expected is a JSON 500 with the security headers; it is logged with its cause, and counted."""

    def broken(*_: Any) -> None:
        raise RuntimeError("a fault of ours")

    with monkeypatch.context() as fault:
        fault.setattr("web_app.gateway.judge", broken)
        answer = recognise(gateway)
    assert (answer.status_code, answer.json()["error"]) == (500, "the page's server failed; its log says why")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["cache-control"] == "no-store"
    assert "a fault of ours" in caplog.text
    assert 'digits_web_requests_total{route="/api/recognise",status="500"} 1.0' in gateway.get("/metrics").text
    assert recognise(gateway).status_code == 200


def test_health_and_metrics(gateway: httpx.Client) -> None:
    """Probes answer without the model; the metrics count answers by route, not by path."""
    recognise(gateway)
    recognise(gateway, endpoint="gone")
    gateway.get("/somebody's/own/path")
    gateway.get("/")
    assert gateway.get("/healthz").status_code == 200
    metrics = gateway.get("/metrics").text
    assert 'digits_web_requests_total{route="/api/recognise",status="200"} 1.0' in metrics
    assert 'digits_web_requests_total{route="/api/recognise",status="502"} 1.0' in metrics
    assert 'digits_web_requests_total{route="static",status="200"} 1.0' in metrics
    assert "somebody" not in metrics


def test_the_page_is_small_and_self_contained() -> None:
    """All of the page is under 60 kB and names no other host; it has no inline script or style."""
    files = list(STATIC.iterdir())
    assert sum(file.stat().st_size for file in files) < 60_000
    text = "\n".join(file.read_text() for file in files).replace("http://www.w3.org/2000/svg", "")
    assert "http:" not in text
    assert "https:" not in text
    page = (STATIC / "index.html").read_text()
    assert "style=" not in page
    assert "<script>" not in page


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("http://127.0.0.1:8080", Endpoint("127.0.0.1:8080", "http://127.0.0.1:8080")),
        ("lab=https://kserve.example.com/", Endpoint("lab", "https://kserve.example.com")),
        (
            "cluster=http://127.0.0.1:8081@digits.default.example.com",
            Endpoint("cluster", "http://127.0.0.1:8081", "digits.default.example.com"),
        ),
        ("http://h:1/v1/models/mine:predict", Endpoint("h:1", "http://h:1", "", "mine")),
        ("a=http://h:1/path/v2/models/mine/infer", Endpoint("a", "http://h:1/path", "", "mine")),
    ],
)
def test_reads_endpoints(text: str, endpoint: Endpoint) -> None:
    """An endpoint is read from its address, with a name, a Host header and a model's name where given."""
    assert Endpoint.parse(text) == endpoint


@pytest.mark.parametrize("text", ["", "here", "=http://h", "ftp://h", "http://", "http://h/?q=1", "a=b", "http://[::1"])
def test_refuses_odd_endpoints(text: str) -> None:
    """What is no address is refused with an example."""
    with pytest.raises(UsageError, match="expected an endpoint"):
        Endpoint.parse(text)


def test_refuses_names_given_twice() -> None:
    """Each endpoint needs a name of its own, and there must be one."""
    for texts in (["a=http://h:1", "a=http://h:2"], []):
        with pytest.raises(UsageError, match="names of their own"):
            Endpoint.parse_all(texts)


def test_a_taken_port_is_said(standin: StandIn, tmp_path: Path) -> None:
    """A port that is taken is named, with what to do."""
    with serving(standin.app) as url:
        port = int(url.rsplit(":", 1)[1])
        with pytest.raises(MissingError, match=f"port {port}"):
            listening(Settings(home=tmp_path), port=port)


@pytest.mark.parametrize(
    ("host", "reached"), [("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("::", "::1"), ("::", "127.0.0.1")]
)
def test_addresses_of_both_families_can_be_listened_on(host: str, reached: str, tmp_path: Path) -> None:
    """The page can be had at IPv4 and IPv6 addresses, and with `::` at both."""
    if ":" in host and not has_ipv6():
        pytest.skip("this machine has no IPv6")
    with (
        listening(Settings(home=tmp_path), host, 0) as listener,
        socket.create_connection((reached, listener.getsockname()[1]), timeout=10),
    ):
        pass
