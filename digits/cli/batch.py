"""`digits batch`."""

from __future__ import annotations

import os
import sys
import tempfile
import threading
from pathlib import Path

import click

from digits.cli.common import emit, json_option, open_store_of
from digits.errors import MissingError, UsageError
from digits.files import user_path
from digits.release import ledger, releases
from digits.settings import BACKENDS
from digits.store import find_scheme, open_store


@click.command()
@click.argument("pictures")
@click.argument("output")
@click.option("--release", default="", help="Version of the release to use.  [the champion]")
@click.option("--backend", type=click.Choice(BACKENDS), help="Backend whose releases are used.  [process]")
@json_option
@click.option("-q", "--quiet", is_flag=True, help="Show no progress.")
def batch(pictures: str, output: str, release: str, backend: str | None, as_json: bool, quiet: bool) -> None:
    """Recognise many PICTURES without the endpoint, and write the answers to the folder or s3:// address OUTPUT.

    PICTURES is a folder or ZIP file of pictures, an IDX or NPZ file of images of the task's size, a Parquet file with a
    column of pictures, or an s3:// address of one of them. OUTPUT gets Parquet files and a manifest. If the command was
    interrupted, the same command continues it.

    \b
    digits batch scans/ answers/
    digits batch t10k-images-idx3-ubyte.gz answers/ --release fb8e47d9ae35
    """
    from digits.data.batch_input import open_batch
    from digits.data.places import open_stored
    from digits.serving import slot
    from digits.serving.batch_prediction import predict_batch

    with open_store_of(backend) as (settings, store, _), tempfile.TemporaryDirectory(prefix="digits-batch-") as name:
        folder = Path(name)
        version = releases.find(store, release) if release else ledger.champion(store)
        if not version:
            raise MissingError("there is no champion to use", remedy="digits run")
        releases.download(store, version, folder / "release", only="model.onnx")
        model = slot.load(folder / "release", settings.trusted_keys, version)
        place = open_stored(settings, pictures) if _is_store(pictures) else user_path(pictures)
        address = output if _is_store(output) else user_path(output).absolute().as_uri()
        _check_output(output, pictures)
        pictures_there = open_batch(model.task, place, folder, stopped := threading.Event())
        with click.progressbar(length=pictures_there.count, label="pictures", file=sys.stderr, hidden=quiet) as bar:

            def show(done: int, _: int) -> None:
                bar.update(done - bar.pos)

            try:
                manifest = predict_batch(model, pictures_there, open_store(settings, address), show)
            finally:
                stopped.set()
    found = ", ".join(f"{count} {verdict}" for verdict, count in manifest["verdicts"].items() if count)
    click.echo(f"{manifest['pictures']} pictures by release {version}: {found}", err=True)
    if as_json:
        emit({"output": output, **manifest})


def _check_output(output: str, pictures: str) -> None:
    """Raise UsageError unless OUTPUT is a folder, or nothing yet, outside of PICTURES, whose files it would change."""
    if f"{_plain(output)}/".startswith(f"{_plain(pictures)}/"):
        raise UsageError(f"expected an OUTPUT outside of {pictures}, got {output}", remedy="give another folder")
    if not _is_store(output) and os.path.lexists(_plain(output)) and not Path(_plain(output)).is_dir():
        raise UsageError(f"expected a folder as OUTPUT, got the file {output}", remedy="give another folder")


def _plain(place: str) -> str:
    return place.rstrip("/") if _is_store(place) else os.path.realpath(user_path(place))


def _is_store(address: str) -> bool:
    return "://" in address and find_scheme(address) is not None
