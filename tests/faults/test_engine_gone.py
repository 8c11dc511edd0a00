"""The Docker engine becomes unreachable during a run: a proxy in front of its socket is cut."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from backends.docker import containers
from backends.docker.backend import DockerBackend
from digits import homes
from tests.helpers.engines import cleaned, engine, settings_for
from tests.helpers.faulty_proxy import faulty_proxy
from tests.helpers.table import Fault
from tests.helpers.world import RUN, World

pytestmark = pytest.mark.docker


@pytest.mark.fault(
    "Docker engine gone while a step runs", "the run is FAILED; the next one removes its container and resumes"
)
def test_an_engine_that_becomes_unreachable(tmp_path: Path, fault: Fault) -> None:
    """The run fails and names the engine; once that is reachable, its container is removed and the run resumes."""
    client = engine()
    socket = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").removeprefix("unix://")
    with (
        cleaned(settings_for(tmp_path / "home", backend="docker")) as settings,
        faulty_proxy(socket, listen=tmp_path / "engine.sock") as between,
    ):
        homes.claim(settings.home)
        backend = DockerBackend(settings)
        world = World(settings, tmp_path / "kept", backend.prepare(lambda event: None)).make()
        backend.close()
        world.before("train")
        holds = fault.watch(world)
        world.environment["DOCKER_HOST"] = f"unix://{between.address}"
        process = world.start(*RUN, "--json")

        def trains() -> bool:
            assert process.poll() is None, world.finish(process, 0)
            return any(c.labels.get("org.digits.step") == "train" and c.status == "running"
                       for c in containers.list_containers(client, settings, "step"))  # fmt: skip

        world.wait_for(trains, "training")
        between.cut()
        answer = world.answer(process, 3)
        holds.reported(answer, names="step train failed", run=world.newest())
        assert "engine" in answer["error"]
        holds.nothing_lost()
        assert containers.list_containers(client, settings, "step"), "the test needs a container that remains"
        between.restore()
        resumed = world.digits("run", "--resume")
        assert resumed["steps"]["prepare"]["state"] == "cached"
        assert containers.list_containers(client, settings, "step") == []
        holds.recovered(resumed)
    client.close()
    fault.saw("exit code 3; its container removed, resumed, the same digest")
