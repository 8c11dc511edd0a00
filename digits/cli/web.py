"""`digits web`."""

from __future__ import annotations

import click

from digits import homes
from digits.cli.common import announce_page, open_backend_store
from digits.errors import EndpointError
from digits.settings import Settings
from digits.store import get_scheme


@click.command()
@click.option(
    "--endpoint",
    "endpoints",
    multiple=True,
    metavar="[NAME=]URL[@HOST]",
    help="A KServe endpoint; HOST is the Host header to send, for Istio. Can be repeated.",
)
@click.option("--host", default="127.0.0.1", help="Address to listen on.  [127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65535), help="Port of the page; 0 chooses a free one.  [8000]")
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
    if not get_scheme(settings.store).remote:
        homes.claim(settings.home)  # corrections are written there
    addresses = list(endpoints) or settings.endpoints.split()
    # The docker backend's runs read corrections from its own store, whose address only the backend knows.
    if not addresses or settings.backend == "docker":
        with open_backend_store() as (settings, _, backend):
            addresses = addresses or [url for url in [backend.endpoint()] if url]
        if not addresses and settings.backend != "process":  # for process, `digits serve` may use the default port
            raise EndpointError(
                f"the {settings.backend} backend serves nothing", remedy="digits run, or --endpoint URL"
            )

    def announce(url: str) -> None:
        announce_page(settings, url, "Ctrl-C stops the page", opens=open_page)

    serve_page(settings, addresses, listener=listen(settings, host, port), ready=announce)
