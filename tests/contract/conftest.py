"""The backends that the contract's tests run on."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator

import pytest

from backends.base import Backend
from backends.docker.backend import DockerBackend
from backends.process import predictor
from backends.process.backend import ProcessBackend
from digits.settings import Settings
from tests.helpers.backend_world import CANARY, BackendWorld, FirstRun
from tests.helpers.engines import cleaned, engine, settings_for
from tests.helpers.fake_backend import FakeBackend


def _backends() -> dict[str, Callable[[Settings], Backend]]:
    return {"fake": FakeBackend, "process": ProcessBackend, "docker": DockerBackend}


@pytest.fixture(
    scope="package",
    params=["fake", "process", pytest.param("docker", marks=pytest.mark.docker)],
)
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BackendWorld]:
    """Yield each backend in turn, with a home of its own."""
    name = request.param
    settings = settings_for(tmp_path_factory.mktemp(name), endpoint_token=CANARY)
    with contextlib.ExitStack() as stack:
        if name == "docker":
            engine().close()
            settings = dataclasses.replace(settings, backend="docker")
            stack.enter_context(cleaned(settings))
        backend = _backends()[name](settings)
        try:
            yield BackendWorld(settings, backend)
        finally:
            predictor.stop_all(settings)
            backend.close()


@pytest.fixture(scope="package")
def first(world: BackendWorld) -> FirstRun:
    """The result and the events of the backend's first run in an empty home."""
    return world.run()
