"""`digits serve` and `digits web`."""

from __future__ import annotations

import webbrowser
from pathlib import Path

import click

from digits.cli.common import opened
from digits.errors import EndpointError
from digits.settings import Settings


@click.command()
@click.option("--name", default="digits", help="The model's name in the paths.  [digits]")
@click.option("--host", default="127.0.0.1", help="Address to listen on; 0.0.0.0 in a container.  [127.0.0.1]")
@click.option("--http-port", type=click.IntRange(1, 65535), help="REST port.  [8080]")
@click.option("--grpc-port", type=click.IntRange(1, 65535), help="gRPC port.  [8081]")
@click.option("--model-dir", type=click.Path(path_type=Path), help="A release's folder, instead of the store.")
@click.option("--release", default="", help="Pin this release instead of following the champion.")
def serve(
    name: str,
    host: str,
    http_port: int | None,
    grpc_port: int | None,
    model_dir: Path | None,
    release: str,
) -> None:
    """Serve the champion over KServe V1 and V2, REST and gRPC, and follow promotions.

    \b
    digits serve
    digits serve --release 3f2a9c81d0b4
    curl localhost:8080/v2/models/digits
    """
    from digits.serving import start
    from digits.serving.options import Options

    settings = Settings.load()
    options = Options(
        name=name,
        host=host,
        http_port=http_port or settings.port,
        grpc_port=grpc_port or settings.grpc_port,
        model_dir=model_dir,
        release=release,
    )
    start.run(options, settings)


@click.command()
@click.option(
    "--endpoint",
    "endpoints",
    multiple=True,
    metavar="[NAME=]URL[@HOST]",
    help="A KServe endpoint; HOST is its Host header behind Istio. May be given several times.",
)
@click.option("--host", default="127.0.0.1", help="Address to listen on.  [127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65535), help="Port of the page, 0 for any.  [8000]")
@click.option("--open/--no-open", "open_page", default=True, help="Open the page in a browser.  [open]")
def web(endpoints: tuple[str, ...], host: str, port: int | None, open_page: bool) -> None:
    """Serve the drawing page for any KServe endpoint.

    \b
    digits web
    digits web --endpoint http://localhost:8080
    digits web --endpoint cluster=http://10.0.0.7@digits.digits.example.com
    """
    from web_app.server import listening
    from web_app.server import serve as serve_page

    settings = Settings.load()
    chosen = list(endpoints) or settings.endpoints.split()
    if not chosen or settings.backend == "docker":  # whose runs look for corrections in a store that only it can reach
        with opened(None) as (settings, _, backend):
            chosen = chosen or [url for url in [backend.endpoint()] if url]
        if not chosen and settings.backend != "process":  # of that one, a `digits serve` may be at the usual port
            raise EndpointError(
                f"nothing is served by the {settings.backend} backend", remedy="digits run, or --endpoint URL"
            )

    def announce(url: str) -> None:
        click.echo(f"draw at {url}   (Ctrl-C ends it)", err=True)
        if open_page:
            webbrowser.open(url)

    serve_page(settings, chosen, listener=listening(settings, host, port), ready=announce)
