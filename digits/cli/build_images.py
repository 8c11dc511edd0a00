"""`digits images`."""

from __future__ import annotations

import contextlib
from typing import Any

import click

from digits.cli.common import emit, json_option
from digits.errors import DigitsError, UsageError
from digits.settings import Settings


@click.group(name="images")
def images() -> None:
    """Build and list the container images of digits."""


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


@images.command(name="list", short_help="List the images of a run.")
@json_option
def list_images(as_json: bool) -> None:
    """List the images that a run would use now, and their sizes if they are built.

    \b
    digits images list
    """
    from backends.docker import containers, images

    settings = Settings.load()
    rows: list[dict[str, Any]] = []
    with contextlib.closing(containers.connect()) as client:
        for name in images.IMAGES:
            row: dict[str, Any] = {"name": name, "image": "", "present": False, "megabytes": 0}
            try:
                configured = settings.minio_image if name == "minio" else ""
                row["image"] = configured or images.reference(client, settings, name)
                row["present"] = images.present(client, row["image"])
                if row["present"]:
                    row["megabytes"] = round(client.images.get(row["image"]).attrs["Size"] / 1e6)
            except DigitsError as exc:
                row["why"] = exc.message
            rows.append(row)
    if as_json:
        emit({"images": rows})
        return
    for row in rows:
        size = f"{row['megabytes']} MB" if row["present"] else "not built"
        click.echo(f"{row['image'] or row['name']:<44} {size:<10} {row.get('why', '')}".rstrip())
