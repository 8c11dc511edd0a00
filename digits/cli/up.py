"""`digits up`."""

from __future__ import annotations

from typing import Any

import click

from digits.cli.common import LOCAL_BACKENDS, announce_page, backend_option, open_backend_store
from digits.cli.parameters import chosen_parameters, load_settings, parameter_options
from digits.cli.run import execute
from digits.cli.summary import summary
from digits.errors import EndpointError


@click.command()
@parameter_options
@click.option("--data", help="Folder, URL or s3://… with MNIST's four files.")
@backend_option("Where to run the pipeline.  [process]", LOCAL_BACKENDS)
@click.option("--open/--no-open", "open_page", default=True, help="Open the page in a browser.  [open]")
@click.option("--port", type=click.IntRange(0, 65535), help="Port of the page.  [8000]")
def up(data: str | None, open_page: bool, port: int | None, **options: Any) -> None:
    """Run the pipeline, serve the model and open the drawing page; Ctrl-C stops the page.

    Steps whose inputs are unchanged are taken from the cache.

    \b
    digits up
    digits up --backend docker
    digits up --epochs 5 --no-open --port 8001
    """
    from web_app.server import listen, serve

    settings = load_settings(data)
    listener = listen(settings, port=port)  # fails before the run if the port is in use
    result, _ = execute(settings, chosen_parameters(options, settings), cache=True, resume=None, quiet=False)
    answer = summary(result, settings, with_next=False)
    if not answer["endpoint"]:
        raise EndpointError(f"nothing is served: {answer['why']}", remedy="digits releases")

    def announce(url: str) -> None:
        click.echo("", err=True)
        announce_page(settings, url, "Ctrl-C stops the page; the model is still served", opens=open_page)

    with open_backend_store() as (settings, _, _):  # with the backend's store, for the page's corrections
        serve(settings, [f"local={answer['endpoint']}"], listener=listener, ready=announce)
