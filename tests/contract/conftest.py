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

BACKENDS: dict[str, Callable[[Settings], Backend]] = {
    "fake": FakeBackend,
    "process": ProcessBackend,
    "docker": DockerBackend,
}
MARKS = {"docker": [pytest.mark.docker]}


@pytest.fixture(scope="package", params=[pytest.param(name, marks=MARKS.get(name, [])) for name in BACKENDS])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BackendWorld]:
    """Yield each backend in turn, with a home of its own."""
    name = request.param
    settings = settings_for(tmp_path_factory.mktemp(name), endpoint_token=CANARY)
    with contextlib.ExitStack() as stack:
        if name == "docker":
            engine().close()
            settings = dataclasses.replace(settings, backend="docker")
            stack.enter_context(cleaned(settings))
        backend = BACKENDS[name](settings)
        try:
            yield BackendWorld(settings, backend)
        finally:
            predictor.stop_all(settings)
            backend.close()


@pytest.fixture(scope="package")
def first(world: BackendWorld) -> FirstRun:
    """The result and the events of the backend's first run in an empty home."""
    return world.run()
