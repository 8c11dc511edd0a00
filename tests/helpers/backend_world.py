"""A backend under the tests of the contract: its home, its runs, and its endpoint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from backends.base import Backend, Request, Result
from backends.docker import containers
from digits.http import request_json
from digits.settings import Settings
from tests.helpers.engines import PARAMETERS
from tests.helpers.fake_backend import FakeBackend

# A secret, to be searched for.
CANARY = "canary-7f1c0d9e55"
Events = list[dict[str, Any]]
FirstRun = tuple[Result, Events]


@dataclass
class BackendWorld:
    """A backend with a home of its own."""

    settings: Settings
    backend: Backend

    def run(self, *, use_cache: bool = True, resume: str = "", **changed: Any) -> tuple[Result, Events]:
        """Run the pipeline with PARAMETERS and these changes. Return the result and the events."""
        events: Events = []
        self.backend.check()
        return self.backend.run(Request(PARAMETERS | changed, use_cache), events.append, resume=resume), events

    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Return the endpoint's probabilities (n, 10) for images uint8 (n, 28, 28)."""
        pixels = images.astype(np.float32)[..., None] / np.float32(255)
        if isinstance(self.backend, FakeBackend):
            assert self.backend.served
            return np.asarray(self.backend.served.run(pixels), np.float64)
        url = f"{self.backend.endpoint()}/v1/models/digits:predict"
        return np.asarray(request_json(url, {"instances": pixels[..., 0].tolist()}, seconds=30)["predictions"])

    def served(self) -> str:
        """Return the version of the release that the endpoint serves."""
        if isinstance(self.backend, FakeBackend):
            assert self.backend.served
            return self.backend.served.version
        metadata = request_json(f"{self.backend.endpoint()}/v2/models/digits")
        return str(metadata["parameters"]["release"])

    def leftovers(self) -> list[Any]:
        """Return the processes and step containers that belong to runs of this home."""
        runs = str(self.settings.home / "runs")
        processes = psutil.process_iter(["pid", "cmdline"])
        remaining: list[Any] = [p.info["pid"] for p in processes if runs in " ".join(p.info["cmdline"] or [])]
        if self.backend.name == "docker":
            client = containers.connect()
            remaining += [c.name for c in containers.list_containers(client, self.settings, "step")]
            client.close()
        return remaining
