"""The same load for every server: wrk over HTTP, ghz over gRPC; and the requests to each server."""

from __future__ import annotations

import base64
import json
import subprocess
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dev.bench import environments
from dev.bench.servers import PEERS, Server
from digits.data.dataset import Images

SPARE_SECONDS = 30
Figures = dict[str, float]


@dataclass(frozen=True)
class Contestant:
    """A way to ask one of the servers."""

    name: str
    server: str
    path: str
    body: Callable[[Images], bytes]
    headers: Callable[[Images], dict[str, str]] = lambda _: {"Content-Type": "application/json"}


def _instances(images: Images) -> bytes:
    return json.dumps({"instances": (images / 255).tolist()}).encode()


def _model_shaped(images: Images) -> bytes:
    """Return the request body for a model whose signature is (n, 28, 28, 1)."""
    return _instances(images[..., None])


def _v2_json(images: Images) -> bytes:
    data = (images / 255).astype(np.float32).reshape(-1).tolist()
    tensor = {"name": "image", "shape": list(images.shape), "datatype": "FP32", "data": data}
    return json.dumps({"inputs": [tensor]}).encode()


def _v2_head(images: Images) -> bytes:
    tensor = {"name": "image", "shape": list(images.shape), "datatype": "UINT8"}
    tensor["parameters"] = {"binary_data_size": images.size}
    return json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()


def _v2_binary(images: Images) -> bytes:
    return _v2_head(images) + images.tobytes()


def _v2_binary_headers(images: Images) -> dict[str, str]:
    length = str(len(_v2_head(images)))
    return {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": length}


def _grpc(datatype: str) -> Callable[[Images], bytes]:
    def body(images: Images) -> bytes:
        raw = images.tobytes() if datatype == "UINT8" else (images / 255).astype("<f4").tobytes()
        tensor = {"name": "image", "datatype": datatype, "shape": list(images.shape)}
        content = base64.b64encode(raw).decode()
        return json.dumps({"model_name": "digits", "inputs": [tensor], "raw_input_contents": [content]}).encode()

    return body


V1, V2, GRPC = "/v1/models/digits:predict", "/v2/models/digits/infer", ""
CONTESTANTS = (
    Contestant("digits V1", "digits", V1, _instances),
    Contestant("digits V2 JSON", "digits", V2, _v2_json),
    Contestant("digits V2 binary", "digits", V2, _v2_binary, _v2_binary_headers),
    Contestant("digits gRPC", "digits", GRPC, _grpc("UINT8")),
    Contestant("bare Starlette", "bare", V1, _instances),
    Contestant("KServe sample", "kserve", V1, _instances),
    Contestant("MLServer", "mlserver", V2, _v2_json),
    Contestant("MLServer gRPC", "mlserver", GRPC, _grpc("FP32")),
    Contestant("mlflow", "mlflow", "/invocations", _model_shaped),
    Contestant("BentoML", "bentoml", "/predict", _instances),
    Contestant("LitServe", "litserve", "/predict", _instances),
)


def check(contestant: Contestant, server: Server, images: Images, expected: list[int]) -> None:
    """Raise Unavailable unless the server recognises the images, so that only correct answers are measured."""
    if contestant.path == GRPC:
        environments.ghz()
        return  # ghz counts errors; the unit tests check the answers
    request = urllib.request.Request(
        f"http://127.0.0.1:{server.port}{contestant.path}", contestant.body(images), contestant.headers(images)
    )
    with urllib.request.urlopen(request, timeout=SPARE_SECONDS) as answer:
        head, content = answer.headers.get("Inference-Header-Content-Length"), answer.read()
    raw = content[-40 * len(images) :]
    found = np.frombuffer(raw, "<f4") if head else np.array(_probabilities(json.loads(content)))
    if (said := found.reshape(-1, 10).argmax(1).tolist()) != expected:
        raise environments.Unavailable(f"expected {expected}, got {said}")


def _probabilities(answer: Any) -> Any:
    """Return the innermost rows of an answer."""
    while isinstance(answer, dict):
        answer = answer.get("predictions") or answer.get("probabilities") or answer["outputs"]
    return answer[-1]["data"] if isinstance(answer[0], dict) else answer


def measure(
    contestant: Contestant, server: Server, images: Images, connections: int, seconds: int, core: str, scratch: Path
) -> Figures:
    """Measure as a client on `core`.

    Returns {"rate": answers a second, "p50", "p99": milliseconds, "count", "errors", "cpu": the server's milliseconds
    of processor time a request}.
    """
    body = scratch / "body"
    body.write_bytes(contestant.body(images))
    pinned = ["taskset", "-c", core] if core else []
    before = server.cpu()
    if contestant.path == GRPC:
        figures = _of_ghz(json.loads(_call([*pinned, *_ghz(body, server, connections, seconds)], seconds)))
    else:
        headers = [f"{name}: {value}" for name, value in contestant.headers(images).items()]
        wrk = _wrk(f"http://127.0.0.1:{server.port}{contestant.path}", connections, seconds)
        figures = json.loads(_call([*pinned, *wrk, "--", str(body), *headers], seconds).splitlines()[-1])
    return figures | {"cpu": 1000 * (server.cpu() - before) / figures["count"]}


def _wrk(url: str, connections: int, seconds: int) -> list[str]:
    script = str(PEERS / "wrk.lua")
    return ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "-s", script, url]


def _ghz(body: Path, server: Server, connections: int, seconds: int) -> list[str]:
    call = ["--insecure", "--proto", str(PEERS / "infer.proto"), "--call", "inference.GRPCInferenceService.ModelInfer"]
    much = ["-c", str(connections), "--connections", str(connections), "-z", f"{seconds}s", "--duration-stop", "wait"]
    return [
        str(environments.ghz()),
        *call,
        *much,
        "--cpus",
        "1",
        "-O",
        "json",
        "-D",
        str(body),
        f"127.0.0.1:{server.grpc_port}",
    ]


def _of_ghz(said: dict[str, Any]) -> Figures:
    at = {row["percentage"]: row["latency"] / 1e6 for row in said.get("latencyDistribution") or []}
    figures: Figures = {"rate": said["rps"], "p50": at.get(50, 0.0), "p99": at.get(99, 0.0)}
    return figures | {"count": said["count"], "errors": sum((said.get("errorDistribution") or {}).values())}


def _call(command: list[str], seconds: int) -> str:
    done = subprocess.run(command, stdout=subprocess.PIPE, timeout=seconds + SPARE_SECONDS, check=True)
    return done.stdout.decode()
