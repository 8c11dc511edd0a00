"""Other people's clients and probes get the answers of the released model from the predictor."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.clients.conftest import Question
from tests.helpers.support import Predictor, free_port, missing

TRITON = os.environ.get("DIGITS_CLIENTS_PYTHON", "")  # read here, because the tests run without our variables
PROGRAMS = Path(__file__).parent / "programs"
CURL = ("curl", "--silent", "--show-error", "--fail", "--max-time", "20", "-H", "Content-Type: application/json")
# Each posts the file FILE to URL, and prints the answer.
POSTS: dict[str, tuple[str, ...]] = {
    "curl HTTP/1.0": (*CURL, "--http1.0", "--data-binary", "@FILE", "URL"),
    "curl HTTP/1.1": (*CURL, "--http1.1", "--data-binary", "@FILE", "URL"),
    "curl HTTP/2": (*CURL, "--http2", "--data-binary", "@FILE", "URL"),
    "wget": (
        "wget",
        "-q",
        "-O",
        "-",
        "--timeout=20",
        "--header=Content-Type: application/json",
        "--post-file=FILE",
        "URL",
    ),
    "Java's HttpClient": ("java", str(PROGRAMS / "Client.java"), "URL", "FILE"),
    "Go's net/http": ("go", "run", str(PROGRAMS / "client.go"), "URL", "FILE"),
    "Node's fetch": ("node", str(PROGRAMS / "client.mjs"), "URL", "FILE"),
}
# Each requests the URL of a health page, and fails unless its status is a success.
PROBES: dict[str, tuple[str, ...]] = {
    "wget --spider": ("wget", "-q", "--spider", "--tries=1", "--timeout=20", "URL"),
    "curl --head": ("curl", "--silent", "--fail", "--head", "--max-time", "20", "URL"),
}
HAPROXY = """
defaults
  mode http
  timeout connect 5s
  timeout client 20s
  timeout server 20s
frontend entrance
  bind 127.0.0.1:{port}
  default_backend digits
backend digits
  option httpchk
  http-check send {check}
  http-check expect status 200
  server one {server} check inter 100ms
"""


def run(command: tuple[str, ...], *arguments: str) -> str:
    """Run a client, and return what it prints. Skip the test if its program is missing."""
    program = "javac" if command[0] == "java" else command[0]  # `java` alone may lack the compiler
    if not shutil.which(program):
        missing(command[0], f"it needs {program}")
    environment = os.environ | {"CGO_ENABLED": "0"}  # Go compiles less
    done = subprocess.run(
        [*command, *arguments], capture_output=True, text=True, timeout=240, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def run_python(python: str, program: str, *arguments: str) -> dict[str, Any]:
    """Run a Python program of this folder. Return the JSON that it prints."""
    answers: dict[str, Any] = json.loads(run((python, str(PROGRAMS / program)), *arguments))
    return answers


def rows(answer: str | bytes) -> Any:
    """Return the predictions of an answer of V1."""
    return json.loads(answer)["predictions"]


def same(found: Any, expected: np.ndarray) -> bool:
    """Return whether probabilities are those of the model."""
    return np.shape(found) == expected.shape and bool(np.allclose(found, expected, rtol=0, atol=1e-5))


@pytest.mark.parametrize("client", POSTS)
def test_a_client_gets_the_predictions(question: Question, client: str) -> None:
    """A client that posts TensorFlow Serving's rows, in its own form of HTTP, gets the model's predictions."""
    places = {"URL": question.url, "FILE": str(question.file), "@FILE": f"@{question.file}"}
    places["--post-file=FILE"] = f"--post-file={question.file}"
    assert same(rows(run(tuple(places.get(part, part) for part in POSTS[client]))), question.expected)


@pytest.mark.parametrize(
    "path", ["/v1/models/digits:predict", "/v1/models/digits/versions/VERSION:predict"], ids=["plain", "with a version"]
)
@pytest.mark.parametrize("shape", [(28, 28), (28, 28, 1)], ids=["28x28", "28x28x1"])
def test_requests_of_tensorflow_serving(
    question: Question, predictor: Predictor, path: str, shape: tuple[int, ...]
) -> None:
    """The rows that clients of TensorFlow Serving send get its form of answer, also with a version in the path."""
    url = predictor.url + path.replace("VERSION", predictor.about()["release"])
    pixels = (np.load(question.images).astype(np.float32) / 255).reshape(-1, *shape)
    body = json.dumps({"instances": pixels.tolist(), "signature_name": "serving_default"}).encode()
    with urllib.request.urlopen(url, body, timeout=20) as answer:  # it sends another Content-Type, that of a form
        assert same(rows(answer.read()), question.expected)


def test_tritonclient(question: Question, predictor: Predictor) -> None:
    """Over HTTP and gRPC tritonclient gets the same answers and the same errors, in each form that it asks for."""
    python = TRITON or missing("tritonclient", "nox -s clients installs tritonclient")
    release = predictor.about()["release"]
    images, address = str(question.images), predictor.url.removeprefix("http://")
    http = run_python(python, "triton.py", "http", address, images, release)
    grpc = run_python(python, "triton.py", "grpc", predictor.grpc, images, release)
    assert http == grpc
    for form in ("all", "none named", "both", "probabilities", "as JSON", "with an id", "with the version"):
        assert same(http[form]["probabilities"], question.expected), form
    assert http["class"] == {"class": question.expected.argmax(1).tolist()}
    assert http["ready"] == [True] * 4
    assert (http["another version"], http["another output"]) == ("InferenceServerException",) * 2
    assert not http["another model"]


def test_the_sdk_of_kserve(question: Question, predictor: Predictor) -> None:
    """KServe's clients of V1, V2 and gRPC get the model's predictions."""
    answers = run_python(sys.executable, "kserve_sdk.py", predictor.url, predictor.grpc, str(question.images))
    assert list(answers) == ["V1", "V2", "gRPC", "V2, binary", "gRPC, binary"]
    for protocol, found in answers.items():
        assert same(found, question.expected), protocol


@pytest.mark.parametrize("page", ["/", "/v1/models/digits", "/v2/health/live", "/v2/models/digits/ready", "/metrics"])
@pytest.mark.parametrize("probe", PROBES)
def test_a_probe_is_answered(predictor: Predictor, probe: str, page: str) -> None:
    """Probes that send HEAD get a success from the pages that report health."""
    run(tuple(predictor.url + page if part == "URL" else part for part in PROBES[probe]))


@pytest.mark.parametrize(
    "check", ["meth GET uri /v2/health/ready", "meth HEAD uri /v2/models/digits/ready ver HTTP/1.1 hdr Host digits"]
)
def test_haproxy(question: Question, predictor: Predictor, tmp_path: Path, check: str) -> None:
    """HAProxy finds the predictor healthy, by HTTP/1.0 too, and forwards requests to it."""
    if not shutil.which("haproxy"):
        missing("haproxy", "it needs haproxy")
    port, server = free_port(), predictor.url.removeprefix("http://")
    (tmp_path / "haproxy.cfg").write_text(HAPROXY.format(port=port, check=check, server=server))
    process = subprocess.Popen(["haproxy", "-db", "-f", str(tmp_path / "haproxy.cfg")], stderr=subprocess.DEVNULL)
    try:
        deadline, answer = time.monotonic() + 20, b""
        while not answer and time.monotonic() < deadline:
            with contextlib.suppress(OSError):  # it does not listen yet, or has not checked the predictor
                url = f"http://127.0.0.1:{port}/v1/models/digits:predict"
                with urllib.request.urlopen(url, question.file.read_bytes(), timeout=20) as response:
                    answer = response.read()
            time.sleep(0.05)
        assert same(rows(answer), question.expected)
        time.sleep(0.3)  # three more checks
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/health/ready", timeout=20) as response:
            assert response.status == 200
    finally:
        process.terminate()
        process.wait(10)
