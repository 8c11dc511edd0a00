"""Starting and stopping the predictor, as a real process."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from backends.ports import free_port as free_port_near
from digits.errors import ReleaseError
from digits.release import releases
from digits.serving import client
from digits.serving.slot import load
from digits.serving.start import Options, run
from digits.settings import Settings
from digits.tasks.task import find
from tests.helpers.engines import wait_until
from tests.helpers.support import (
    Finished,
    Predictor,
    StartPredictor,
    child_environment,
    free_port,
    get_json,
    has_ipv6,
)
from tests.helpers.tasks import LinearModel, task_text

pytestmark = pytest.mark.filterwarnings("ignore")  # of kserve's and grpc's clients


def test_a_damaged_folder_is_an_error(finished: Finished, tmp_path: Path) -> None:
    """`--model-dir` with a damaged release ends with an error and its reason."""
    folder = tmp_path / "release"
    releases.download(finished.store, finished.version, folder)
    (folder / "model.onnx").write_bytes((folder / "model.onnx").read_bytes()[:-1] + b"x")
    ports = ["--http-port", str(free_port()), "--grpc-port", str(free_port())]
    done = subprocess.run(
        [sys.executable, "-m", "digits", "serve", "--model-dir", str(folder), *ports],
        capture_output=True,
        text=True,
        timeout=60,
        env=child_environment(Settings(home=tmp_path)),
        check=False,
    )
    assert done.returncode == 1
    assert "model.onnx is damaged" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_is_served_under_the_name_of_its_task(start_predictor: StartPredictor, tmp_path: Path) -> None:
    """A release's folder is served without a store, whatever the settings' task is, and named after its own task."""
    linear = LinearModel(find(task_text()))
    folder = linear.release(tmp_path / "model")
    predictor = start_predictor(Settings(home=tmp_path / "none"), "--model-dir", str(folder), ready=False)
    predictor.wait_for(lambda p: bool(get_json(f"{p.url}/v2/models/colours/ready")), "readiness")
    answer = client.predict(predictor.url, linear.image[None], task=linear.task)
    assert answer.labels == [linear.task.labels[linear.golden()["class"]]]


def test_it_listens_on_ipv6(
    start_predictor: StartPredictor, finished: Finished, expected: tuple[np.ndarray, np.ndarray]
) -> None:
    """With `--host ::1` REST and gRPC listen there."""
    import grpc
    from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
    from kserve.protocol.grpc import grpc_predict_v2_pb2_grpc as stubs

    if not has_ipv6():
        pytest.skip("this machine has no IPv6")
    predictor = start_predictor(finished.settings, "--host", "::1", ready=False)
    predictor.url, predictor.grpc = (at.replace("127.0.0.1", "[::1]") for at in (predictor.url, predictor.grpc))
    predictor.wait_for(lambda p: bool(get_json(f"{p.url}/v2/models/digits/ready")), "readiness")
    assert client.predict(predictor.url, expected[0]).release == finished.version
    with grpc.insecure_channel(predictor.grpc) as channel:
        assert stubs.GRPCInferenceServiceStub(channel).ServerReady(pb.ServerReadyRequest(), timeout=30).ready


def test_free_ports_are_chosen_and_named(tmp_path: Path) -> None:
    """With port 0 for both, REST and gRPC listen on two free ports, which the standard error names."""
    folder = LinearModel(find(task_text())).release(tmp_path / "model")
    environment = child_environment(Settings(home=tmp_path / "home")) | {"DIGITS_PORT": "0", "DIGITS_GRPC_PORT": "0"}
    command = [sys.executable, "-m", "digits", "serve", "--model-dir", str(folder)]
    with (log := tmp_path / "log").open("wb") as file:
        process = subprocess.Popen(command, stderr=file, env=environment)
    try:
        assert wait_until(lambda: b"\n" in log.read_bytes(), 60)
        found = re.search(r"REST on port (\d+), gRPC on port (\d+)", log.read_text())
        assert found
        ports = [*map(int, found.groups())]
        assert wait_until(lambda: all(free_port_near(port) != port for port in ports), 60)
    finally:
        process.terminate()
        process.wait(60)


def test_a_port_in_use_is_reported(predictor: Predictor, finished: Finished) -> None:
    """A port in use is an error with exit code 3 that names it; the other process continues."""
    port = predictor.url.rsplit(":", 1)[1]
    done = subprocess.run(
        [sys.executable, "-m", "digits", "serve", "--http-port", port, "--grpc-port", str(free_port())],
        capture_output=True,
        text=True,
        timeout=60,
        env=child_environment(finished.settings),
        check=False,
    )
    assert done.returncode == 3
    assert f"port {port}" in done.stderr
    assert "DIGITS_PORT" in done.stderr
    assert predictor.about()["release"] == finished.version


def test_a_release_is_served_by_its_first_letters(start_predictor: StartPredictor, finished: Finished) -> None:
    """`--release` takes a version's first letters, as the other commands do, also of a release that is no champion."""
    predictor = start_predictor(finished.settings, "--release", finished.version[:5])
    assert predictor.about()["release"] == finished.version


def test_a_release_that_is_not_in_the_store_is_an_error(finished: Finished) -> None:
    """`--release` with another version ends with an error at the start, instead of waiting for it."""
    options = Options(http_port=free_port(), grpc_port=free_port(), release="x")
    with pytest.raises(ReleaseError, match="no release begins with 'x'"):
        run(options, finished.settings)


def test_a_folder_of_another_release_is_an_error(tmp_path: Path) -> None:
    """`--model-dir` with another release than `--release`, a version or its first letters, ends with an error."""
    folder = LinearModel(find(task_text())).release(tmp_path / "model")
    assert load(folder, release="0000").version == "0" * 12
    with pytest.raises(ReleaseError, match=f"expected release 1 in .*, found {'0' * 12}"):
        load(folder, release="1")


@pytest.mark.parametrize("name", ["../x", "a/b", "a b", "a%2F", "é", "x" * 300])
def test_a_name_that_cannot_be_part_of_a_path_is_refused(name: str, settings: Settings) -> None:
    """`--name` must be one part of a path, so that the model has an address."""
    command = [sys.executable, "-m", "digits", "serve", f"--name={name}", "--release", "none"]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, env=child_environment(settings), check=False
    )
    assert "--name: expected" in done.stderr
    assert done.returncode == 2
