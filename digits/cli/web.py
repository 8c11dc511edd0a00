"""`digits web`."""

from __future__ import annotations

import webbrowser

import click

from digits.cli.common import open_store_of
from digits.errors import EndpointError
from digits.settings import Settings


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
    from web_app.server import listen
    from web_app.server import serve as serve_page

    settings = Settings.load()
    chosen = list(endpoints) or settings.endpoints.split()
    if not chosen or settings.backend == "docker":  # whose runs look for corrections in a store that only it can reach
        with open_store_of(None) as (settings, _, backend):
            chosen = chosen or [url for url in [backend.endpoint()] if url]
        if not chosen and settings.backend != "process":  # of that one, a `digits serve` may be at the usual port
            raise EndpointError(
                f"nothing is served by the {settings.backend} backend", remedy="digits run, or --endpoint URL"
            )

    def announce(url: str) -> None:
        click.echo(f"draw at {url}   (Ctrl-C ends it)", err=True)
        if open_page:
            webbrowser.open(url)

    serve_page(settings, chosen, listener=listen(settings, host, port), ready=announce)
