"""`digits data`."""

from __future__ import annotations

from urllib.parse import urlsplit

import click

from digits import homes
from digits.cli.common import emit, json_option
from digits.cli.parameters import load_settings
from digits.data import catalog, fetch, sources
from digits.data.idx_place import is_folder
from digits.errors import UsageError, one_line
from digits.files import folder_from_url, real_path, user_path
from digits.store import find_scheme, open_store
from digits.store.content import check_key

MAX_SHOWN = 20  # files that are listed


@click.command()
@click.argument("destination")
@click.option("--data", help="Folder, URL or s3://… to copy from.  [a public mirror]")
@click.option("--dataset", type=click.Choice([catalog.MNIST]), help="Data set of the task digits.  [mnist]")
@json_option
def data(destination: str, data: str | None, dataset: str | None, as_json: bool) -> None:
    """Copy the data set of the task to the folder or s3:// address DESTINATION, for DIGITS_DATA or data.place.

    \b
    digits data s3://mlpipeline/shared/mnist      for the steps on Kubeflow
    digits data ~/mnist
    digits data s3://mlpipeline/shared/flowers --task flowers.toml
    """
    settings = load_settings(data)
    homes.claim(settings.home)  # downloads are kept there
    address = destination if find_scheme(destination) else real_path(user_path(destination)).as_uri()
    task, place, cache = settings.declaration, fetch.open_place(settings), settings.home / "data"
    if dataset:
        sources.resolve(task, dataset, place, cache)  # raises UsageError for another task
    if task.data.format != "idx":  # of the others, all that is in the folder may be part of the data set
        _check_destination(address, place)
    # First, so that a damaged file ends the command before the first one is written; all may not fit into memory.
    for file, _ in fetch.files(task, place, cache):
        check_key(file)
    store, copied, size = open_store(settings, address), [], 0
    for file, content in fetch.files(task, place, cache):
        store.put(file, content)
        copied.append(file)
        size += len(content)
        if len(copied) <= MAX_SHOWN:
            click.echo(f"{store.uri}/{one_line(file)}  {len(content)} bytes", err=True)
    click.echo(f"{len(copied)} files, {size} bytes, in {store.uri}", err=True)
    if as_json:
        emit({"data": store.uri, "files": copied})


def _check_destination(address: str, place: object) -> None:
    """Raise UsageError if DESTINATION is in the folder that is copied, whose content it would change."""
    if isinstance(place, str) and is_folder(place) and urlsplit(address).scheme == "file":
        source, copy = (real_path(folder_from_url(each, "DESTINATION and --data")) for each in (place, address))
        if copy.is_relative_to(source):
            raise UsageError(f"expected a DESTINATION outside of {source}, got {copy}", remedy="give another folder")
