"""`digits data`."""

from __future__ import annotations

from pathlib import Path

import click

from digits.cli.common import emit, json_option
from digits.cli.parameters import load_settings
from digits.data import fetch
from digits.store import find_scheme, open_store


@click.command()
@click.argument("destination")
@click.option("--data", help="Folder, URL or s3://… to copy from.  [a public mirror]")
@json_option
def data(destination: str, data: str | None, as_json: bool) -> None:
    """Copy the data set of the task to the folder or s3:// address DESTINATION, for DIGITS_DATA or data.place.

    \b
    digits data s3://mlpipeline/shared/mnist      for the steps on Kubeflow
    digits data ~/mnist
    digits data s3://mlpipeline/shared/flowers --task flowers.toml
    """
    settings = load_settings(data, None)
    address = destination if find_scheme(destination) else Path(destination).expanduser().resolve().as_uri()
    store, copied = open_store(settings, address), []
    for file, content in fetch.files(settings.declaration, fetch.open_place(settings), settings.home / "data"):
        store.put(file, content)
        copied.append(file)
        click.echo(f"{store.uri}/{file}  {len(content)} bytes", err=True)
    if as_json:
        emit({"data": store.uri, "files": copied})
