"""`digits images`."""

from __future__ import annotations

import contextlib

import click

from digits.cli.common import emit, json_option
from digits.errors import UsageError
from digits.settings import Settings


@click.group(name="images")
def images() -> None:
    """Build the container images of digits."""


@images.command(short_help="Build missing images.")
@click.argument("names", nargs=-1)
@json_option
def build(names: tuple[str, ...], as_json: bool) -> None:
    """Build the images NAMES (steps, predictor, web, minio) that are missing; by default all that a run needs.

    \b
    digits images build
    digits images build predictor web
    """
    from backends.docker import containers, images

    settings = Settings.load()
    for name in names:
        if name not in images.IMAGES:
            raise UsageError(f"expected one of {', '.join(images.IMAGES)}, got {name!r}")
    needed = names or ("steps", "predictor", "web", *(() if settings.minio_image else ("minio",)))
    with contextlib.closing(containers.connect()) as client:
        built = {
            name: images.ensure_image(client, settings, name, lambda text: click.echo(f"  {text}", err=True))
            for name in needed
        }
    if as_json:
        emit({"images": built})
    else:
        click.echo("\n".join(built.values()))
