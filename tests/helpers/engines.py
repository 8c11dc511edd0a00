"""The Docker engine for tests, and homes whose containers are removed."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from backends.docker import containers
from digits.errors import MissingError
from digits.settings import Settings
from tests.helpers.support import missing

# This machine's images, read before a test changes the environment.
IMAGES = {name: os.environ[name] for name in ("DIGITS_BASE_IMAGE", "DIGITS_MINIO_IMAGE") if name in os.environ}
# Little training on little data, because the model is not tested here.
PARAMETERS = {"dataset": "sklearn-digits", "epochs": 1, "seed": 7, "min_accuracy": 0.3}


def engine() -> Any:
    """Return a client of the Docker engine. Without one, skip the test, or fail it if DIGITS_REQUIRE names docker."""
    try:
        return containers.connect()
    except MissingError as exc:
        missing("docker", f"it needs a Docker engine: {exc.message}")


def settings_for(home: Path, **values: Any) -> Settings:
    """Return settings of a home, with free ports and this machine's images."""
    images = {"base_image": IMAGES.get("DIGITS_BASE_IMAGE", ""), "minio_image": IMAGES.get("DIGITS_MINIO_IMAGE", "")}
    plain = images | {"data": "", "port": 0, "grpc_port": 0}
    return Settings(home=home, **(plain | values))


@contextmanager
def cleaned(settings: Settings) -> Iterator[Settings]:
    """Yield the settings; afterwards remove their containers, networks and volumes."""
    try:
        yield settings
    finally:
        client = containers.connect()
        containers.clean(client, settings)
        client.close()


def wait_until(condition: Any, seconds: float = 20) -> bool:
    """Return whether `condition()` becomes true within `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return False
