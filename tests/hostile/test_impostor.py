"""Each server that digits asks (endpoint, S3, MLflow, Kubeflow Pipelines, Docker), replaced by one that sends nonsense.

A request succeeds, or its error is one of ours that names the other side, in time, with little memory and nothing that
a terminal would act on. Answers to a part of the requests are valid, so that later requests come to their turn, too.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import logging
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from backends import runs
from backends.base import Request
from backends.docker import containers, images, minio, predictor
from backends.docker.step_runner import StepRunner
from backends.kubeflow import backend as kubeflow
from backends.kubeflow import connection
from backends.kubeflow import logs as kubeflow_logs
from backends.kubeflow.backend import KubeflowBackend
from backends.process.backend import ProcessBackend
from digits import answers, homes
from digits.cli import cli, engine_checks, inputs
from digits.errors import DigitsError
from digits.release import deploy, ledger, mlflow_check, mlflow_client, mlflow_log, mlflow_registry, releases
from digits.serving import client
from digits.settings import Settings
from digits.store import ObjectStore, open_store, s3, s3_client
from digits.tasks.task import BUILT_IN, find
from tests.helpers.impostor import Impostor, Right
from tests.helpers.kfp_runs import compile_quickly

DIGITS = find("digits").text()

pytestmark = pytest.mark.filterwarnings("ignore")  # of the libraries

SEEDS = 100
SECONDS = 15.0  # for a call of ours, which makes up to ten requests
MIB = 1 << 20
JSON = [b"Content-Type: application/json"]
XML = b'<?xml version="1.0"?>'

Uses = dict[str, Callable[[str], object]]


@pytest.fixture(autouse=True)
def _small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name, value in (
        *((answers, "ANSWER_SECONDS", 0.5), (answers, "STREAM_SECONDS", 1.0)),
        *((answers, "MAX_ANSWER", 4 * MIB), (answers, "MAX_STREAM", 32 * MIB)),
        *((s3_client, "ATTEMPTS", 2), (s3_client, "READ_SECONDS", 0.5), (s3, "OBJECT_SECONDS", 0.5)),
        *((s3, "SETTLE_SECONDS", 0.0), (client, "TIMEOUT_SECONDS", 0.5)),
        *((kubeflow, "POLL_SECONDS", 0.01), (kubeflow, "OUTAGE_SECONDS", 0.3), (kubeflow_logs, "REPORT_SECONDS", 0.5)),
        *((connection, "ANSWER_SECONDS", 1), (containers, "SECONDS", 1), (minio, "START_SECONDS", 0.5)),
        (images, "BUILD_SECONDS", 1),
    ):
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr("digits.http.request.__kwdefaults__", {"seconds": 0.5})
    monkeypatch.setattr("digits.http.request_json.__kwdefaults__", {"token": "", "seconds": 0.5})
    for name, text in (("MAX_RETRIES", "1"), ("BACKOFF_FACTOR", "0"), ("BACKOFF_JITTER", "0"), ("TIMEOUT", "1")):
        monkeypatch.setenv(f"MLFLOW_HTTP_REQUEST_{name}", text)


def survive(right: Right, uses: Uses, caplog: pytest.LogCaptureFixture, *, services: tuple[str, ...] = ()) -> None:
    """Let each of `uses`, in turn, ask another impostor at host:port. Errors name that address or one of `services`."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    succeeded = set()
    for seed in range(SEEDS):
        name, use = list(uses.items())[seed % len(uses)]
        impostor, where = Impostor(seed, right, wrong=0.3), f"{name}, seed {seed}"
        began = time.monotonic()
        with impostor.serve() as address:
            error = ""
            try:
                use(address)
                succeeded.add(name)
            except DigitsError as exc:
                error = str(exc)
            except Exception as exc:
                raise AssertionError(f"{where}: an error that is not ours") from exc
        assert not error or any(name in error for name in (address, *services)), f"{where}: {error}"
        assert len(error) < 2000, where
        assert error.replace("\n", "").isprintable(), where
        assert time.monotonic() - began < SECONDS, where
        assert impostor.sent < 64 * MIB, where
    assert [record for record in caplog.records if record.exc_info and record.levelno >= logging.WARNING] == []
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < 200
    assert succeeded  # else the valid answers are none


def command(*arguments: str) -> Callable[[str], None]:
    """Return a function that runs a command of ours with an address instead of ADDRESS."""
    return lambda address: cli.main([part.replace("ADDRESS", address) for part in arguments], standalone_mode=False)


def endpoint(_: str, path: str) -> tuple[list[bytes], bytes]:
    """Return the answers of a predictor to one image."""
    if not path.endswith("infer"):
        about = {"release": "v1", "dataset": "sklearn-digits"}
        return JSON, json.dumps({"name": "digits", "versions": ["v1"], "inputs": [], "parameters": about}).encode()
    outputs = [
        {"name": "class", "datatype": "INT64", "shape": [1], "parameters": {"binary_data_size": 8}},
        {"name": "probabilities", "datatype": "FP32", "shape": [1, 10], "parameters": {"binary_data_size": 40}},
    ]
    head = json.dumps({"model_name": "digits", "model_version": "v1", "outputs": outputs}).encode()
    raw = np.int64(3).tobytes() + np.eye(10, dtype=np.float32)[3].tobytes()
    return [b"Inference-Header-Content-Length: %d" % len(head)], head + raw


def test_endpoint(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Predictions, checks of a deployment and of doctor name the endpoint that answers nonsense."""
    for name, value in settings.environ().items():
        monkeypatch.setenv(name, value)
    drawing = np.full((40, 40), 255, np.uint8)
    drawing[8:32, 18:22] = 0
    Image.fromarray(drawing).save(picture := tmp_path / "one.png")
    golden = {"image": [[0] * 28] * 28, "class": 3, "probabilities": np.eye(10)[3].tolist()}
    release = {"version": "v1", "task": DIGITS, "golden": golden}

    def doctor(address: str) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(ProcessBackend, "endpoint", lambda _: f"http://{address}")
            engine_checks.check_endpoint(settings)

    uses: Uses = {
        "predict": command("predict", str(picture), "--endpoint", "http://ADDRESS"),
        "predict as JSON": command("predict", str(picture), "--endpoint", "http://ADDRESS", "--json"),
        "data set": lambda a: inputs._find_dataset(settings, f"http://{a}"),
        "wait": lambda a: deploy.wait_for(f"http://{a}", release, seconds=0.3),
        "verify": command("verify", "http://ADDRESS"),
        "doctor": doctor,
    }
    survive(endpoint, uses, caplog, services=("release",))


def bucket(method: str, path: str) -> tuple[list[bytes], bytes]:
    """Return the answers of an S3 server with a ledger."""
    if "list-type" in path:
        key = b"<Contents><Key>%s</Key><LastModified>2026-11-28T00:00:00.000Z</LastModified><ETag>0</ETag></Contents>"
        name = b"models/digits/v1/manifest.json" if "models" in path else b"promotions/digits/00000001.json"
        listing = b"<ListBucketResult><Name>digits</Name><Prefix>a/</Prefix><IsTruncated>false</IsTruncated>"
        return [b"Content-Type: application/xml"], XML + listing + key % name + b"</ListBucketResult>"
    headers = [b'ETag: "0"', b"Last-Modified: Thu, 01 Jan 1970 00:00:00 GMT"]
    return headers, b'{"n": 1, "version": "v1", "files": {"model.onnx": "0"}}' if method == "GET" else b""


def test_s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """All that a store does, and commands that read it, name the store whose server answers nonsense."""
    requests: dict[str, Callable[[ObjectStore], object]] = {
        "put": lambda store: store.put("a", b"x"),
        "create": lambda store: store.create("a", b"x"),
        "get": lambda store: store.get("a"),
        "exists": lambda store: store.exists("a"),
        "delete": lambda store: store.delete("a"),
        "keys": lambda store: store.keys("a/"),
        "download": lambda store: store.download("a", tmp_path / "a"),
        "load": lambda store: releases.load(store, "v1"),
        "entries": ledger.entries,
    }

    def settings(address: str) -> Settings:
        keys = {"minio_access_key": "access", "minio_secret_key": "a-secret-key", "minio_region": "us-east-1"}
        return Settings(home=tmp_path / "home", store="s3://digits", minio_endpoint=address, **keys)

    def run(*arguments: str) -> Callable[[str], object]:
        def use(address: str) -> None:
            for variable, value in settings(address).environ().items():
                monkeypatch.setenv(variable, value)
            command(*arguments)("")

        return use

    uses: Uses = {name: lambda a, use=use: use(open_store(settings(a))) for name, use in requests.items()}  # type: ignore[misc]
    uses |= {"releases": run("releases"), "promote": run("promote", "v1"), "verify": run("verify", "v1")}
    survive(bucket, uses, caplog, services=("s3://digits", "ledger entry", "release v1 failed"))


MANIFEST = {
    "version": "v",
    "digest": "d",
    "code": "c",
    "mlflow_run": "1",
    "task": find(BUILT_IN).of_model().text(),
    "files": dict.fromkeys(("model.onnx", "architecture.json"), hashlib.sha256(b"m").hexdigest()),
    "data": {"dataset": "mnist", "source": "s"},
    "parameters": {"seed": 1},
    "metrics": {"accuracy": 0.5},
}
LOGGED = ("manifest.json", "architecture.json", "confusion_matrix.json", "report.html")  # of the run
LOGGED_MODEL = ("MLmodel", "requirements.txt", "model.onnx")


def pairs(**values: str | float) -> list[dict[str, str | float]]:
    """Return params, tags or metrics as MLflow's server does."""
    return [{"key": key, "value": value} for key, value in values.items()]


def mlflow(_: str, path: str) -> tuple[list[bytes], bytes]:
    """Return the answers of an MLflow server with one run and its registered model."""
    owned = [{"key": "digits.owner", "value": "digits"}]
    experiment = {"experiment_id": "1", "name": "x", "lifecycle_stage": "active", "tags": owned}
    info = {"run_id": "1", "run_uuid": "1", "experiment_id": "1", "lifecycle_stage": "active", "status": "RUNNING"}
    # MLflow keeps a client for each such address, which asks the first server that gave it.
    info["artifact_uri"] = f"mlflow-artifacts:/{time.monotonic_ns()}/artifacts"
    version = {"name": "digits", "version": "1", "run_id": "1", "source": "models:/m-1"}
    tagged = version | {"status": "READY", "tags": pairs(version="v", digest="d", code="c")}
    names = (*LOGGED, *LOGGED_MODEL)
    files = [] if any(name in path for name in names) else [{"path": name, "is_dir": False} for name in names]
    shares = {f"test_{kind}_{n}": 0.5 for kind in ("precision", "recall") for n in range(10)}
    tags = pairs(release="v", release_digest="d", dataset="mnist", data_digest="s", code_digest="c", promoted="True")
    data = {"tags": tags + pairs(decision="good"), "params": pairs(seed="1")}
    schemas = mlflow_registry.schemas_of(MANIFEST)
    described = {"signature": {name: schema.to_json() for name, schema in schemas.items()}}
    answers: dict[str, Any] = {
        "artifacts?": {"files": files},
        "manifest.json": MANIFEST,
        "MLmodel": described | {"flavors": {"python_function": {"env": {}}}},
        "metrics/get-history": {"metrics": [{"key": "loss", "value": 1.0, "timestamp": 1, "step": 1}]},
        "model-versions": {"model_versions": [tagged], "model_version": tagged, "artifact_uri": info["artifact_uri"]},
        "registered-models": {
            "registered_model": {"name": "digits", "tags": owned, "aliases": [{"alias": "champion", "version": "1"}]}
        },
        "runs": {"run": {"info": info, "data": data | {"metrics": pairs(test_accuracy=0.5, **shares)}}},
        "experiments": {"experiment": experiment, "experiment_id": "1", "experiments": [experiment]},
    }
    return JSON, next((json.dumps(body).encode() for part, body in answers.items() if part in path), b"m")


def test_mlflow(settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """All that digits records in MLflow or checks there names MLflow if its server answers nonsense."""
    from digits.release import mlflow_library

    assert mlflow_library.mlflow  # its import takes longer than an answer may, on a busy machine
    (files := tmp_path / "files").mkdir()
    (files / mlflow_log.CONFUSION).write_text("a")
    logged: dict[str, Any] = {"parameters": {"a": 1}, "history": [{"epoch": 1, "loss": 1.0}], "metrics": {"a": 1.0}}
    requests: dict[str, Callable[[Settings], object]] = {
        "check": mlflow_client.check_connection,
        "start": lambda s: mlflow_log.start_run(s, "x", "x", {}),
        "end": lambda s: mlflow_log.end_run(s, "1", "FINISHED"),
        "model": mlflow_registry.ensure_model,
        "logged": lambda s: mlflow_check.check_logged(s, MANIFEST),
        "manifest": lambda s: mlflow_check.logged_manifest(s, "v", "1"),
        "training": lambda s: mlflow_log.log_training(s, "1", **logged, tags={"a": "b"}, folder=files),
        "decision": lambda s: mlflow_log.log_decision(s, "1", promoted=True, why="x", report="x"),
        "link": lambda s: mlflow_log.link(s, "1"),
        "mirror": lambda s: mlflow_registry.mirror_ledger(s, open_store(settings)),
    }
    uses: Uses = {
        name: lambda a, use=use: use(dataclasses.replace(settings, tracking_uri=f"http://{a}"))  # type: ignore[misc]
        for name, use in requests.items()
    }
    survive(mlflow, uses, caplog, services=("MLflow",))


def pipelines(_: str, path: str) -> tuple[list[bytes], bytes]:
    """Return the answers of a Pipelines API with one run that has succeeded."""
    path = path.partition("?")[0]
    outputs = {"published": {"version": "v", "champion": "v", "mlflow_run": "1"}, "deployed": {"version": "v"}}
    log = json.dumps({"event": "outputs", "step": "deploy", "time": 1, "outputs": outputs})
    moment = {"start_time": "2026-01-01T00:00:00Z", "end_time": "2026-01-01T00:00:09Z"}
    task = {"display_name": "train", "state": "SUCCEEDED", "child_tasks": [{"pod_name": "w-1"}]} | moment
    run = {"run_id": "1", "state": "SUCCEEDED", "state_history": [{"state": "RUNNING"}]}
    schedule = {"recurring_run_id": "1", "status": "ENABLED", "trigger": {"cron_schedule": {"cron": "* * * * * *"}}}
    answers: dict[str, Any] = {
        "/nodes/": json.loads(log),
        "/healthz": {"multi_user": False},
        "/experiments": {"experiments": [{"experiment_id": "1", "display_name": "x"}], "experiment_id": "1"},
        "/runs/": run | {"run_details": {"task_details": [task]}},
        "/runs": {"run_id": "1", "runs": [{"run_id": "1"}]},
        "/recurringruns": {"recurring_run_id": "1", "recurringRuns": [schedule], "next_page_token": ""},
        "ersion": {"pipeline_versions": [{"pipeline_version_id": "1"}], "pipeline_version_id": "1"},
        "/pipelines": {"pipelines": [{"pipeline_id": "1"}], "pipeline_id": "1"},
    }
    return JSON, next((json.dumps(body).encode() for part, body in answers.items() if part in path), b"{}")


def test_kubeflow(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A run, a schedule and an upload name the Kubeflow whose API answers nonsense."""
    compile_quickly(monkeypatch)
    (package := tmp_path / "pipeline.yaml").write_text("pipelineInfo: x")
    homes.claim(settings.home)
    requests: dict[str, Callable[[KubeflowBackend], object]] = {
        "check": lambda b: b.check(),
        "run": lambda b: b.run(Request({}), lambda _: None),
        "upload": lambda b: b.api.upload(package, "p", "v"),
        "schedule": lambda b: b.api.schedule({}, "n", "x", {}, {"every": 60}),
        "schedules": lambda b: b.api.schedules("n"),
        "unschedule": lambda b: b.api.unschedule("1"),
        "delete": lambda b: b.api.delete("1"),
        "log": lambda b: b.api.log("1", "p"),
        "archived log": lambda b: b.api.archived_log("1", "n"),
        "stop": lambda b: b._stop("1"),
        "report": lambda b: kubeflow_logs.fetch_report(b.settings.tracking_uri, "1", tmp_path),
    }

    def asking(request: Callable[[KubeflowBackend], object]) -> Callable[[str], object]:
        def use(address: str) -> object:
            there = {"kfp_host": f"http://{address}", "tracking_uri": f"http://{address}"}
            with contextlib.closing(KubeflowBackend(dataclasses.replace(settings, **there))) as backend:
                return request(backend)

        return use

    survive(pipelines, {name: asking(request) for name, request in requests.items()}, caplog)


def engine(_: str, path: str) -> tuple[list[bytes], bytes]:
    """Return the answers of a Docker engine with one container of ours."""
    ports = {"9000/tcp": [{"HostPort": "1"}], "8080/tcp": [{"HostPort": "1"}]}
    state = {"Status": "running", "OOMKilled": False}
    container = {
        "Id": "c1",
        "Name": "/c1",
        "Config": {"Image": "i", "Labels": {}, "Env": []},
        "State": state,
        "Image": "sha256:1",
    }
    answers: dict[str, Any] = {
        "/_ping": "OK",
        "/version": {"ApiVersion": "1.44", "Version": "27"},
        "/info": {"SecurityOptions": ["name=seccomp"]},
        "/containers/json": [{"Id": "c1"}],
        "/containers/create": {"Id": "c1"},
        "/wait": {"StatusCode": 0},
        "/containers": container | {"NetworkSettings": {"Ports": ports, "Networks": {}}},
        "/images/json": [{"Id": "sha256:1"}],
        "/images": {"Id": "sha256:1", "RepoTags": ["i:1"]},
        "/networks/create": {"Id": "n1"},
        "/networks": [{"Id": "n1", "Name": "n"}],
        "/volumes/create": {"Name": "v"},
        "/volumes": {"Volumes": [{"Name": "v"}]},
        "/build": {"stream": "Step 1"},
    }
    path = path.partition("?")[0]
    return JSON, next((json.dumps(body).encode() for part, body in answers.items() if part in path), b"{}")


def test_docker(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """All that is asked of a Docker engine names the engine that answers nonsense."""
    homes.claim(settings.home)

    def step(client: Any) -> object:
        run = runs.create(settings.home, "docker", Request({}), "")
        return StepRunner(client, settings, run, "i:1").start("train", ["x"], {}, tmp_path / "log")

    def quiet(_: str) -> None:
        return

    requests: dict[str, Callable[[Any], object]] = {
        "list": lambda c: containers.list_containers(c, settings),
        "network": lambda c: containers.ensure_network(c, settings),
        "clean": lambda c: containers.clean(c, settings),
        "present": lambda c: images.present(c, "i:1"),
        "built": images.built,
        "build": lambda c: images.build(c, settings, "minio", "digits-minio:1", quiet),
        "pull": lambda c: images.pull(c, "i:2", "DIGITS_BASE_IMAGE", quiet),
        "reference": lambda c: images.reference(c, settings, "steps"),
        "predictor": lambda c: predictor.ensure(c, settings, quiet),
        "minio": lambda c: minio.host_settings(c, settings),
        "step": step,
    }

    def asking(request: Callable[[Any], object]) -> Callable[[str], object]:
        def use(address: str) -> object:
            monkeypatch.setenv("DOCKER_HOST", f"tcp://{address}")
            with contextlib.closing(containers.connect()) as client:
                return request(client)

        return use

    def doctor(address: str) -> object:
        monkeypatch.setenv("DOCKER_HOST", f"tcp://{address}")
        return engine_checks.check_docker(), engine_checks.check_images(settings)

    survive(engine, {name: asking(request) for name, request in requests.items()} | {"doctor": doctor}, caplog)
