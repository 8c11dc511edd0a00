"""The start of the predictor: its options, the check of its ports, and its first model."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from digits.errors import Unavailable
from digits.serving.slot import LedgerWatcher, ModelSlot, load
from digits.serving.sockets import bind
from digits.store import open_store

if TYPE_CHECKING:
    from digits.settings import Settings

log = logging.getLogger("digits.predictor")


@dataclass(frozen=True)
class Options:
    """The model that the predictor serves, and its addresses.

    Attributes:
        name: the model's name in the paths; empty: its task's.
        host: an address, or a host name, of which the first address is used. `::` includes IPv4.
        model_dir: a release's folder; None: serve from the settings' store.
        release: the version to serve or its first letters; empty: any in `model_dir`, or the store's champion, and
            each new one.
    """

    name: str = ""
    host: str = "127.0.0.1"
    http_port: int = 8080
    grpc_port: int = 8081
    model_dir: Path | None = None
    release: str = ""


def run(options: Options, settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; requests in flight are answered first.

    Raises:
        ReleaseError: `model_dir` holds no intact release, or another one, or none that a trusted key has signed; or the
            store has no release or several that begin with `release`.
        UsageError: without `model_dir`, a setting of the store is missing or not valid.
        MissingError: a port is in use.
    """
    sock = bind(options.host, options.http_port, "DIGITS_PORT")
    with bind(options.host, options.grpc_port, "DIGITS_GRPC_PORT") as probe:  # gRPC itself would not name the setting
        grpc_port = probe.getsockname()[1]  # of 0, a free one
    if 0 in (options.http_port, options.grpc_port):
        log.warning("REST on port %d, gRPC on port %d", sock.getsockname()[1], grpc_port)
    slot = ModelSlot(settings.declaration)
    name = options.name or settings.declaration.name
    if options.model_dir:
        model = load(options.model_dir, settings.trusted_keys, options.release)
        name = options.name or model.task.name
        slot.swap(model)
    else:
        watcher = LedgerWatcher(slot, settings, options.release)
        with contextlib.suppress(Unavailable):  # it tries again
            watcher.find_pinned(open_store(settings))
        watcher.poll()
        watcher.start()
    from digits.serving import server

    server.run(slot, name, sock, options.host, grpc_port)
