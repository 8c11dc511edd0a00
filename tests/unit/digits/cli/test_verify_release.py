"""`digits verify`."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from digits.release import ledger, releases
from digits.settings import Settings
from digits.store.file import FileStore
from tests.helpers.asgi_server import asgi_server
from tests.helpers.command import Digits
from tests.helpers.support import Finished, open_mlflow

pytestmark = pytest.mark.filterwarnings("ignore")  # warnings of kfp and MLflow


@pytest.mark.parametrize(
    ("part", "remedy"),
    [
        ("models/digits/{version}/model.onnx", "digits rollback"),
        ("models/digits/{version}/manifest.json", "digits releases"),
        ("promotions/digits/*.json", "restore promotions/digits/"),
    ],
)
def test_each_failed_check_has_a_remedy(
    part: str, remedy: str, digits: Digits, finished: Finished, tmp_path: Path
) -> None:
    """The error about a failed check has the remedy for that check."""
    settings = finished.copy(tmp_path / "home")
    version = ledger.champion(FileStore(settings.home / "store"))
    damaged = next((settings.home / "store").glob(part.format(version=version)))
    damaged.write_bytes(damaged.read_bytes()[:-40])
    result = digits("verify", version, on=settings)
    assert result.code == 1
    assert "failed these checks" in result.err
    assert f"try: {remedy}" in result.err


def test_a_check_whose_error_has_a_remedy_of_its_own_gives_that(
    digits: Digits, finished: Finished, tmp_path: Path
) -> None:
    """A run does not remove a file that is not of the release, nor a link that leads out of the store."""
    settings = finished.copy(tmp_path / "home")
    release = settings.home / "store" / "models" / "digits" / finished.version
    (release / "notes.txt").touch()
    result = digits("verify", finished.version, on=settings)
    assert "failed these checks: files" in result.err
    assert "try: move them out of" in result.err
    (release / "manifest.json").unlink()
    (release / "manifest.json").symlink_to("/dev/null")
    assert "try: replace the link" in digits("verify", finished.version, on=settings).err


def test_the_remedy_for_a_lost_mlflow_record_leads_out(digits: Digits, finished: Finished, tmp_path: Path) -> None:
    """A run with other corrections makes another release, so it is not said to restore this one in any case."""
    settings = finished.copy(tmp_path / "home")
    open_mlflow(settings).delete_registered_model("digits")
    result = digits("verify", finished.version, on=settings)
    assert "failed these checks: run" in result.err
    assert "or makes another if corrections or digits changed since; digits promote makes" in result.err


def test_variables_of_other_projects_do_not_reach_the_libraries_of_a_command(
    finished: Finished, tmp_path: Path
) -> None:
    """A release is not said to be damaged because a variable makes MLflow, OpenTelemetry or protobuf fail."""
    theirs = {
        "MLFLOW_ENABLE_WORKSPACES": "true",
        "MLFLOW_LOGGING_LEVEL": "loud",
        "MLFLOW_SQLALCHEMYSTORE_POOLCLASS": "x",
        "OTEL_PYTHON_CONTEXT": "x",
        "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "cpp",
    }
    command = [sys.executable, "-m", "digits", "verify", finished.version, "--json"]
    environment = os.environ | finished.copy(tmp_path / "home").environ() | theirs
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    (check,) = [check for check in json.loads(done.stdout)["hops"] if check["hop"] == "run"]
    assert check["holds"], check


def test_an_endpoint_is_verified_with_its_token(digits: Digits, settings: Settings) -> None:
    """`digits verify ADDRESS` sends the endpoint's token, and accepts an address with a trailing slash."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        del receive
        let_in = dict(scope["headers"]).get(b"authorization") == b"Bearer key"
        known = let_in and scope["path"] == "/v2/models/digits"
        await send({"type": "http.response.start", "status": 200 if known else 401, "headers": []})
        await send({"type": "http.response.body", "body": b'{"parameters": {"release": "000000000000"}}'})

    with asgi_server(app, lifespan="off", log_config=None) as url:
        result = digits("verify", f"{url}/", "--json", on=dataclasses.replace(settings, endpoint_token="key"))
    assert result.json["release"] == "000000000000"


def test_a_failed_check_exits_with_1(digits: Digits, finished: Finished, tmp_path: Path) -> None:
    """Verifying exits with 0 if all checks pass and with 1 otherwise, with one JSON object in both cases."""
    settings = finished.copy(tmp_path / "home")
    result = digits("verify", finished.version, "--json", on=settings)
    assert (result.code, result.json["holds"]) == (0, True)
    result = digits("verify", "--json", on=settings)
    assert (result.code, [hop["hop"] for hop in result.json["hops"] if not hop["holds"]]) == (1, ["endpoint"])
    store = FileStore(settings.home / "store")
    store.put(releases.release_prefix(store, finished.version) + "model.keras", b"x")
    result = digits("verify", finished.version, "--json", on=settings)
    assert result.code == 1
    assert [hop["hop"] for hop in result.json["hops"] if not hop["holds"]] == ["files"]
    assert "files" in digits("verify", on=settings).err
