"""`digits serve`."""

from __future__ import annotations

import re
from pathlib import Path

import click

from digits.errors import UsageError
from digits.settings import Settings


@click.command()
@click.option("--name", default="", help="Name of the model in the paths.  [the task's name]")
@click.option("--host", default="127.0.0.1", help="Address to listen on; 0.0.0.0 in a container.  [127.0.0.1]")
@click.option("--http-port", type=click.IntRange(0, 65535), help="REST port; 0: any free one.  [8080]")
@click.option("--grpc-port", type=click.IntRange(0, 65535), help="gRPC port; 0: any free one.  [8081]")
@click.option("--model-dir", type=click.Path(path_type=Path), help="Serve the release in this folder.")
@click.option("--release", default="", help="Serve this release, a version or its first letters, and no other.")
def serve(
    name: str, host: str, http_port: int | None, grpc_port: int | None, model_dir: Path | None, release: str
) -> None:
    """Serve the champion over KServe V1 and V2 (REST and gRPC), and switch to a new champion when there is one.

    \b
    digits serve
    digits serve --release 3f2a9c81d0b4
    curl localhost:8080/v2/models/digits
    """
    from digits.serving import start

    settings = Settings.load()
    http_port = settings.port if http_port is None else http_port
    grpc_port = settings.grpc_port if grpc_port is None else grpc_port
    if name and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}", name):
        raise UsageError(f"--name: expected letters and digits, after the first also . _ -, got {name!r}")
    if http_port and http_port == grpc_port:
        raise UsageError(f"expected two different ports for REST and gRPC, got {http_port} twice")
    start.run(start.Options(name, host, http_port, grpc_port, model_dir, release), settings)
