"""`digits up`."""

from __future__ import annotations

import webbrowser
from typing import Any

import click

from digits.cli.common import LOCAL_BACKENDS, open_store_of
from digits.cli.parameters import chosen, load_settings, parameter_options
from digits.cli.run import execute
from digits.cli.summary import summary
from digits.errors import EndpointError


@click.command()
@parameter_options
@click.option("--data", help="Folder, URL or s3://… with MNIST's four files.")
@click.option("--backend", type=click.Choice(LOCAL_BACKENDS), help="Where to run.  [process]")
@click.option("--open/--no-open", "open_page", default=True, help="Open the page in a browser.  [open]")
@click.option("--port", type=click.IntRange(0, 65535), help="Port of the page.  [8000]")
def up(data: str | None, backend: str | None, open_page: bool, port: int | None, **options: Any) -> None:
    """Run what is not cached, serve the model and the drawing page until Ctrl-C.

    \b
    digits up
    digits up --backend docker
    digits up --epochs 5 --no-open --port 8001
    """
    from web_app.server import listen, serve

    settings = load_settings(data, backend)
    listener = listen(settings, port=port)  # a port that is taken is said before the pipeline runs
    result = execute(settings, chosen(options), cache=True, resume=None, quiet=False)
    answer = summary(result, settings, following=False)
    if not answer["endpoint"]:
        raise EndpointError(f"nothing is served: {answer['why']}", remedy="digits releases")

    def announce(url: str) -> None:
        click.echo(f"\ndraw at {url}  (Ctrl-C ends the page; the model goes on serving)", err=True)
        if open_page:
            webbrowser.open(url)

    with open_store_of(settings.backend) as (here, _, _):  # where corrections go
        reached = here
    serve(reached, {"local": answer["endpoint"]}, listener=listener, ready=announce)
