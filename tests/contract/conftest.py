"""One world for each backend: its home, one run of it, and how to ask its endpoint."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from backends.base import Backend, Request, Result
from backends.docker.backend import DockerBackend
from backends.fake import FakeBackend
from backends.process import predictor
from backends.process.backend import ProcessBackend
from digits.http import request_json
from digits.settings import Settings
from tests.helpers.engines import PARAMETERS, cleaned, engine, settings_for

CANARY = "canary-7f1c0d9e55"
Events = list[dict[str, Any]]


@dataclass
class World:
    """A backend in a home of its own."""

    settings: Settings
    backend: Backend

    def run(self, *, use_cache: bool = True, resume: str = "", **changed: Any) -> tuple[Result, Events]:
        """Run with PARAMETERS but for what is changed; returns the result and the events."""
        events: Events = []
        self.backend.check()
        return self.backend.run(Request(PARAMETERS | changed, use_cache), events.append, resume=resume), events

    def ask(self, images: NDArray[np.uint8]) -> NDArray[np.float64]:
        """The endpoint's probabilities (n, 10) for uint8 (n, 28, 28)."""
        pixels = images.astype(np.float32)[..., None] / np.float32(255)
        if isinstance(self.backend, FakeBackend):
            assert self.backend.served
            return np.asarray(self.backend.served.run(pixels), np.float64)
        url = f"{self.backend.endpoint()}/v1/models/digits:predict"
        return np.asarray(request_json(url, {"instances": pixels[..., 0].tolist()}, seconds=30)["predictions"])

    def served(self) -> str:
        """The release behind the endpoint."""
        if isinstance(self.backend, FakeBackend):
            assert self.backend.served
            return self.backend.served.version
        about = request_json(f"{self.backend.endpoint()}/v2/models/digits")
        return str(about["parameters"]["release"])


def _worlds() -> dict[str, Callable[[Settings], Backend]]:
    return {"fake": FakeBackend, "process": ProcessBackend, "docker": DockerBackend}


@pytest.fixture(
    scope="package",
    params=["fake", "process", pytest.param("docker", marks=pytest.mark.docker)],
)
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Each backend in turn."""
    name = request.param
    settings = settings_for(tmp_path_factory.mktemp(name), endpoint_token=CANARY)
    with contextlib.ExitStack() as stack:
        if name == "docker":
            engine().close()
            settings = dataclasses.replace(settings, backend="docker")
            stack.enter_context(cleaned(settings))
        backend = _worlds()[name](settings)
        try:
            yield World(settings, backend)
        finally:
            predictor.stop(settings)
            backend.close()


@pytest.fixture(scope="package")
def first(world: World) -> tuple[Result, Events]:
    """The first run of that backend, from nothing."""
    return world.run()
