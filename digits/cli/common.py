"""What several commands share: options, and a backend with its store for as long as a command needs them."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from digits.settings import BACKENDS, Settings

if TYPE_CHECKING:
    from backends.base import Backend
    from digits.store import ObjectStore

json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
backend_option = click.option("--backend", type=click.Choice(BACKENDS), help="Whose releases and endpoint.  [process]")
# Those that serve on this machine: what Kubeflow serves, and its releases, may not be reached from here.
HERE = tuple(name for name in BACKENDS if name != "kubeflow")


@contextlib.contextmanager
def opened(backend: str | None) -> Iterator[tuple[Settings, ObjectStore, Backend]]:
    """(settings as this machine reaches things, the object store, the backend) of a backend, by name or the settings'.

    Raises what `Backend.here` and `open_store` do.
    """
    from backends import open_backend
    from digits.store import open_store

    settings = Settings.load()
    chosen = open_backend(dataclasses.replace(settings, backend=backend) if backend else settings)
    try:
        here = chosen.here()
        yield here, open_store(here), chosen
    finally:
        chosen.close()
