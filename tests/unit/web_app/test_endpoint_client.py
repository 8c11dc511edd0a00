"""The client of an endpoint: its headers, the endpoint's states, deadlines and metadata."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import logging
import re
import socket
import ssl
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from digits.release import releases
from tests.helpers.asgi_server import asgi_server
from tests.helpers.gateway_requests import ONE, PNG, coloured, gateway_server, recognise
from tests.helpers.impostor import ENDLESS, Impostor
from tests.helpers.signing import signed_store
from tests.helpers.small_releases import small_release
from tests.helpers.standin import PAINTS, StandIn, by_colour
from tests.helpers.tasks import task_text
from web_app.endpoint_client import TOTAL_SECONDS, EndpointClient, EndpointStateError
from web_app.endpoints import Endpoint
from web_app.gateway import STATIC, STORE_SECONDS, GatewayConfig, create_listener
from web_app.transport import MAX_RECEIVED


def test_sends_the_host_and_the_token(gateway: httpx.Client, standin: StandIn) -> None:
    """Every request to the endpoint has the configured Host header and the bearer token."""
    for send in (lambda: recognise(gateway), lambda: gateway.get("/api/model")):
        send()
        assert standin.headers["host"] == "digits.example.com"
        assert standin.headers["authorization"] == "Bearer secret"


@pytest.mark.parametrize(
    ("state", "status", "reported"),
    [("starting", 503, "starting"), ("busy", 503, "busy"), ("wrong", 502, "wrong model")],
)
def test_each_endpoint_state_has_its_status(
    gateway: httpx.Client, standin: StandIn, state: str, status: int, reported: str
) -> None:
    """Starting, busy and wrong model are different states, and none is a success."""
    standin.state = state
    answer = recognise(gateway)
    assert (answer.status_code, answer.json()["state"]) == (status, reported)
    model_state = gateway.get("/api/model", params={"endpoint": "here"}).json()["state"]
    assert model_state == ("ready" if state == "busy" else reported)


def test_an_endpoint_where_nothing_listens_is_unreachable(gateway: httpx.Client) -> None:
    """An endpoint where nothing listens is unreachable, and the response does not show its address."""
    answer = recognise(gateway, endpoint="gone")
    assert (answer.status_code, answer.json()["state"]) == (502, "unreachable")
    assert "127.0.0.1" not in answer.text
    assert gateway.get("/api/model", params={"endpoint": "gone"}).json()["state"] == "unreachable"


def test_an_endpoint_is_used_again_once_it_is_ready(gateway: httpx.Client, standin: StandIn) -> None:
    """An endpoint that was starting is used again as soon as it is ready."""
    standin.state = "starting"
    assert recognise(gateway).status_code == 503
    standin.state = "ready"
    assert recognise(gateway).status_code == 200


@pytest.mark.parametrize("path", ["/api/recognise", "/api/model"])
def test_the_gateway_times_out_before_the_page(
    gateway: httpx.Client, standin: StandIn, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """All requests of one call share one deadline, which is shorter than the page's timeout."""
    monkeypatch.setattr("web_app.endpoint_client.TOTAL_SECONDS", 0.5)
    standin.delay = 0.4  # one request is in time, two are not
    answer = gateway.post(path, content=ONE, headers=PNG) if path == "/api/recognise" else gateway.get(path)
    assert answer.json()["state"] == "busy"
    assert "0.5 s" in answer.text
    monkeypatch.undo()
    (timeout,) = re.findall(r"TIMEOUT = ([\d_]+);", (STATIC / "gateway.js").read_text())
    assert max(TOTAL_SECONDS, STORE_SECONDS) + 1 < int(timeout) / 1000


def test_concurrent_calls_share_the_metadata(
    gateway: httpx.Client, standin: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Concurrent calls fetch the model's metadata once."""
    monkeypatch.setattr("web_app.endpoint_client.METADATA_SECONDS", 60.0)
    standin.delay = 0.1
    with ThreadPoolExecutor(6) as pool:
        calls = [pool.submit(recognise, gateway) for _ in range(4)]
        calls += [pool.submit(gateway.get, "/api/model") for _ in range(2)]
    assert [call.result().status_code for call in calls] == [200] * 6
    assert standin.described == 1


METADATA = {"name": "digits", "versions": ["v1"], "inputs": [{"name": "image"}], "outputs": []}


def prediction(digit: int) -> bytes:
    """Return the body of a V2 prediction of a digit."""
    outputs = [{"name": "probabilities", "data": [float(n == digit) for n in range(10)]}]
    return json.dumps({"model_version": "v1", "outputs": outputs}).encode()


def v2_server(_: str, path: str) -> tuple[list[bytes], bytes]:
    """Return the answers of a server of V2 that predicts a 3."""
    if path.endswith("infer"):
        return [], prediction(3)
    return [], b"" if path.endswith("ready") else json.dumps(METADATA).encode()


def test_nonsense_is_a_state_of_the_endpoint(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Any nonsense is an answer or a state of the endpoint, in time, without a log entry, and nothing of it is kept."""
    monkeypatch.setattr("web_app.endpoint_client.TOTAL_SECONDS", 0.4)
    monkeypatch.setattr("web_app.endpoint_client.METADATA_SECONDS", 0.0)
    impostor = Impostor(1, v2_server, after=prediction(7))
    with (
        impostor.serve() as host,
        gateway_server(GatewayConfig((Endpoint("the lab's", f"http://{host}"),))) as address,
        httpx.Client(base_url=address, timeout=15, trust_env=False) as client,
        ThreadPoolExecutor(4) as pool,
    ):
        digit = list(pool.map(lambda _: recognise(client, endpoint="the lab's"), range(40)))
        model = list(pool.map(lambda _: client.get("/api/model"), range(20)))
    assert {answer.json()["class"] for answer in digit if answer.status_code == 200} == {3}
    for answer in digit + model:
        assert answer.status_code in {200, 502, 503}
        assert answer.status_code == 200 or "the lab's" in answer.json()["error"]
        assert answer.elapsed.total_seconds() < 10
        assert len(answer.content) < 3000
    assert impostor.cookies == 0
    assert impostor.sent < ENDLESS
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({}, b"<html>log in</html>"),
        ({"Content-Encoding": "gzip"}, gzip.compress(bytes(1 << 20))),
        ({}, b"[" * 1000),
        ({}, b'{"ready": ["' + b"x" * 70_000 + b'"]}'),
    ],
    ids=["page", "compressed", "nested", "large"],
)
def test_an_endpoint_without_readiness_is_of_a_wrong_model(headers: dict[str, str], body: bytes) -> None:
    """An endpoint whose readiness is something else, such as a page to log in, is one of a wrong model."""
    bodies = iter([b'{"name": "digits"}'])

    async def status(_: Request) -> Response:
        content = next(bodies, None)
        return Response(content) if content else Response(body, headers=headers)

    with (
        asgi_server(Starlette(routes=[Route("/v1/models/digits", status)])) as url,
        gateway_server(GatewayConfig((Endpoint("here", url),))) as address,
        httpx.Client(base_url=address, timeout=15, trust_env=False) as client,
    ):
        answer = client.get("/api/model")
    assert (answer.status_code, answer.json()["state"]) == (200, "wrong model")
    assert len(answer.content) < 500


def test_an_overloaded_endpoint_of_v1_is_busy() -> None:
    """An endpoint without V2 that is overloaded when the gateway first asks it is busy, not starting."""
    answers = iter([503, 200, 429])

    async def status(_: Request) -> JSONResponse:
        return JSONResponse({"name": "digits", "ready": True}, next(answers))

    with (
        asgi_server(Starlette(routes=[Route("/v1/models/digits", status)])) as url,
        gateway_server(GatewayConfig((Endpoint("here", url),))) as address,
        httpx.Client(base_url=address, timeout=15, trust_env=False) as client,
    ):
        assert [client.get("/api/model").json()["state"] for _ in range(2)] == ["busy", "busy"]


def test_a_failure_is_shared_by_the_calls_that_wait_for_it(gateway: httpx.Client, standin: StandIn) -> None:
    """Calls that wait for an endpoint that fails get its state too, instead of waiting for one attempt each."""
    standin.state, standin.delay = "starting", 1.0
    with ThreadPoolExecutor(6) as pool:
        states = [pool.submit(recognise, gateway) for _ in range(6)]
    assert [state.result().json()["state"] for state in states] == ["starting"] * 6
    assert standin.described <= 2


def test_an_answer_has_the_release_that_predicted(gateway: httpx.Client, standin: StandIn) -> None:
    """After a promotion an answer has the metadata of its own release, if the endpoint describes it."""
    assert recognise(gateway).json()["model"]["release"] == "v1"
    standin.release = standin.answering = "v2"
    model = recognise(gateway).json()["model"]
    assert (model["release"], model["accuracy"]) == ("v2", 0.99)
    standin.answering = "v3"
    model = recognise(gateway).json()["model"]
    assert (model["name"], model["release"], model["digest"], model["accuracy"]) == ("digits", "v3", None, None)


def test_an_answer_never_has_the_labels_of_an_earlier_release(painter: StandIn, gallery: httpx.Client) -> None:
    """If the labels change their order with a release, no answer has the wrong one of them."""
    assert recognise(gallery, coloured("red")).json()["number"] == "red"
    painter.task = task_text(PAINTS.labels[::-1], (24, 32, 3))
    painter.release = painter.answering = "v2"
    painter.answer = lambda image: by_colour(image)[::-1]
    answer = recognise(gallery, coloured("red"))
    assert (answer.status_code, answer.json()["state"]) == (503, "busy")
    assert recognise(gallery, coloured("red")).json()["number"] == "red"


def test_only_a_signed_release_is_shown_where_keys_are_trusted(standin: StandIn, tmp_path: Path) -> None:
    """The page uses an endpoint whose release a trusted key signed; otherwise it reports what is missing."""
    store, public = signed_store(tmp_path)
    version, other = (small_release(store, tmp_path / "made", seed) for seed in (1, 2))

    def read(release: str) -> str:
        return store.get(releases.release_prefix(store, release) + releases.SIGNATURE).decode()

    signature = read(version)
    with asgi_server(standin.app) as url:
        config = GatewayConfig((Endpoint("here", url),), trusted_keys=str(public))
        with gateway_server(config) as address, httpx.Client(base_url=address, timeout=15, trust_env=False) as client:
            for release, text, reason in (
                (version, "", "not signed; expected a signature by key"),
                (version, "{}", "damaged"),
                (other, signature, "one for another release"),
            ):
                standin.release, standin.signature = release, text
                answer = recognise(client)
                assert (answer.status_code, answer.json()["state"]) == (502, "wrong model")
                assert reason in answer.json()["error"]
            standin.release = standin.answering = version
            standin.signature = signature
            answer = recognise(client)
            assert (answer.status_code, answer.json()["model"]["release"]) == (200, version)
            standin.answering = other  # which the metadata does not describe
            assert recognise(client).status_code == 503
            standin.release, standin.signature = other, read(other)
            assert recognise(client).json()["model"]["release"] == other


def own_certificate(folder: Path) -> tuple[Path, Path]:
    """Return the files of a key and of its certificate for 127.0.0.1, which is its own authority."""
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return key, certificate


def test_the_certificate_authorities_of_the_system_are_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SSL_CERT_FILE counts for the page as for `digits predict`, so that an own authority can be used."""
    key, certificate = own_certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def shake_hands() -> None:
            with contextlib.suppress(OSError), context.wrap_socket(server.accept()[0], server_side=True) as connection:
                connection.recv(1 << 16)
                connection.sendall(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")

        threading.Thread(target=shake_hands, daemon=True).start()
        client = EndpointClient(Endpoint("here", f"https://127.0.0.1:{server.getsockname()[1]}"))
        with pytest.raises(EndpointStateError, match="rejected our token"):
            asyncio.run(client.task())


def test_the_endpoints_share_the_certificate_authorities(monkeypatch: pytest.MonkeyPatch) -> None:
    """The certificate authorities are loaded once, however many endpoints the page has."""
    loaded: list[None] = []
    load = httpx.create_ssl_context
    monkeypatch.setattr(httpx, "create_ssl_context", lambda **options: (loaded.append(None), load(**options))[1])
    create_listener(GatewayConfig(tuple(Endpoint(str(n), f"http://127.0.0.1:{n}") for n in range(1, 9))))
    assert len(loaded) == 1


@pytest.mark.parametrize("secure", [False, True])
def test_interim_answers_without_end_are_not_read(secure: bool, tmp_path: Path) -> None:
    """An endpoint that only sends answers with a status 1xx is unreachable after MAX_RECEIVED bytes."""
    context, sent = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), 0
    authorities = ssl.create_default_context()
    if secure:
        key, certificate = own_certificate(tmp_path)
        context.load_cert_chain(certificate, key)
        authorities.load_verify_locations(certificate)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def repeat() -> None:
            nonlocal sent
            connection = server.accept()[0]
            with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
                connection = stack.enter_context(
                    context.wrap_socket(connection, server_side=True) if secure else connection
                )
                connection.recv(1 << 16)
                while sent < 64 * MAX_RECEIVED:
                    sent += connection.send(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100)

        sender = threading.Thread(target=repeat, daemon=True)
        sender.start()
        address = f"http{'s' * secure}://127.0.0.1:{server.getsockname()[1]}"
        client = EndpointClient(Endpoint("here", address), certificates=authorities)
        with pytest.raises(EndpointStateError, match="broke the connection off"):
            asyncio.run(client.task())
        sender.join(10)
    assert sent < 64 * MAX_RECEIVED  # the sockets' buffers hold some


def test_a_name_that_cannot_be_resolved_is_unreachable() -> None:
    """A host that is no international name is a state of the endpoint."""
    with pytest.raises(EndpointStateError, match="cannot be reached"):
        asyncio.run(EndpointClient(Endpoint("here", "http://xn--:80")).task())
