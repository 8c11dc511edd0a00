"""The Docker engine goes away half-way: a proxy before its socket is cut, the engine itself goes on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from engines import cleaned, engine, settings_for
from homes import BASIC, Home
from proxy import proxy
from table import Fault

from backends import runs
from backends.docker import containers

pytestmark = pytest.mark.docker


@pytest.mark.fault(
    "Docker engine gone while a step runs", "the run is FAILED; the next one removes what is left and resumes"
)
def test_an_engine_that_goes_away(tmp_path: Path, fault: Fault) -> None:
    """The run fails and names the engine; when that is back, its lost container goes and the run resumes."""
    client = engine()
    socket = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").removeprefix("unix://")
    with (
        cleaned(settings_for(tmp_path / "home", backend="docker")) as settings,
        proxy(socket, listen=tmp_path / "engine.sock") as between,
    ):
        settings.home.mkdir()
        home = Home(settings)
        home.environment["DOCKER_HOST"] = f"unix://{between.address}"
        process = home.start("run", *BASIC, "--json")

        def trains() -> bool:
            assert process.poll() is None, home.finish(process, 0)
            return any(c.labels.get("org.digits.step") == "train" and c.status == "running"
                       for c in containers.ours(client, settings, "step"))  # fmt: skip

        home.wait_for(trains, "training")
        between.cut()
        answer = home.answer(process, 3)
        fault.row.green += "error" not in answer
        assert "step train failed" in answer["error"]
        assert "engine" in answer["error"]
        assert answer["remedy"]
        (failed,) = runs.all_runs(settings.home)
        assert failed.record()["state"] == "FAILED"
        assert containers.ours(client, settings, "step"), "what is tested is that this one is found again"
        between.mend()
        resumed = home.digits("run", "--resume")
        assert resumed["state"] == "SUCCEEDED"
        assert resumed["champion"] == resumed["release"]
        assert resumed["steps"]["prepare"]["state"] == "cached"
        assert containers.ours(client, settings, "step") == []
        assert home.digits("verify", "--backend", "docker")["holds"]
    client.close()
    fault.saw("exit code 3; its container removed, resumed")
