"""`digits images`."""

from __future__ import annotations

from typing import Any

import click

from digits.cli.common import emit, json_option
from digits.errors import DigitsError, UsageError
from digits.settings import Settings


@click.group()
def images() -> None:
    """Build and list our container images."""


@images.command(short_help="Build images that are missing.")
@click.argument("names", nargs=-1)
@json_option
def build(names: tuple[str, ...], as_json: bool) -> None:
    """Build NAMES (steps, predictor, web, minio), those that are missing; without NAMES all that a run needs.

    \b
    digits images build
    digits images build predictor web
    """
    from backends.docker import containers
    from backends.docker import images as ours

    settings = Settings.load()
    for name in names:
        if name not in ours.IMAGES:
            raise UsageError(f"expected images of {', '.join(ours.IMAGES)}, got {name!r}")
    wanted = names or ("steps", "predictor", "web", *(() if settings.minio_image else ("minio",)))
    client = containers.connect()
    try:
        built = {
            name: ours.ensure(client, settings, name, lambda text: click.echo(f"  {text}", err=True)) for name in wanted
        }
    finally:
        client.close()
    for reference in built.values():
        click.echo(f"  {reference}", err=True)
    if as_json:
        emit({"images": built})


@images.command(name="list", short_help="Say which images a run would use, and which are there.")
@json_option
def list_images(as_json: bool) -> None:
    """Say which images a run would use now, and which of them are there.

    \b
    digits images list
    """
    from backends.docker import containers
    from backends.docker import images as ours

    settings = Settings.load()
    client = containers.connect()
    rows: list[dict[str, Any]] = []
    try:
        for name in ours.IMAGES:
            row: dict[str, Any] = {"name": name, "image": "", "present": False, "megabytes": 0}
            try:
                given = settings.minio_image if name == "minio" else ""
                row["image"] = given or ours.reference(client, settings, name)
                row["present"] = ours.present(client, row["image"])
                if row["present"]:
                    row["megabytes"] = round(client.images.get(row["image"]).attrs["Size"] / 1e6)
            except DigitsError as exc:
                row["why"] = exc.message
            rows.append(row)
    finally:
        client.close()
    if as_json:
        emit({"images": rows})
        return
    for row in rows:
        size = f"{row['megabytes']} MB" if row["present"] else "not built"
        click.echo(f"{row['image'] or row['name']:<44} {size:<10} {row.get('why', '')}".rstrip())
