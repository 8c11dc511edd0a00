"""`digits batch`."""

from __future__ import annotations

import contextlib
import sys
from typing import Any

import click

from digits.cli.common import backend_option, emit, json_option, open_backend_store
from digits.cli.progress import Progress
from digits.errors import UsageError, mask_address, one_line
from digits.settings import Settings
from digits.store import find_scheme
from digits.tasks.task import BUILT_IN
from pipeline import PODS, defaults_of, shares_of


@click.command()
@click.argument("pictures")
@click.argument("output")
@click.option("--release", default="", help="Version of the release to use, or its first letters.  [the champion]")
@backend_option("Backend whose releases are used; Kubeflow's pods do the work.  [process]")
@click.option("--pods", type=click.IntRange(1, 1000), help=f"Pods on Kubeflow.  [{PODS}]")
@json_option
@click.option("-q", "--quiet", is_flag=True, help="Show no progress.")
def batch(pictures: str, output: str, release: str, pods: int | None, as_json: bool, quiet: bool) -> None:
    """Recognise many PICTURES without the endpoint, and write the answers to the folder or s3:// address OUTPUT.

    PICTURES is a folder or ZIP file of pictures, an IDX or NPZ file of images of the task's size, a Parquet file with a
    column of pictures, or an s3:// address of one of them. OUTPUT gets Parquet files and a manifest. If the command was
    interrupted, the same command continues it.

    \b
    digits batch scans/ answers/
    digits batch t10k-images-idx3-ubyte.gz answers/ --release fb8e47d9ae35
    digits batch s3://bucket/scans s3://bucket/answers --backend kubeflow --pods 8
    """
    settings = Settings.load()
    if settings.backend == "kubeflow":
        manifest = _on_kubeflow(settings, pictures, output, release, pods or PODS, quiet=quiet)
    elif pods:
        raise UsageError("--pods is for Kubeflow", remedy="add --backend kubeflow, or omit --pods")
    else:
        manifest = _here(pictures, output, release, quiet=quiet)
    report(output, manifest, as_json=as_json)


def report(output: str, manifest: dict[str, Any], *, as_json: bool) -> None:
    """Print what a batch found by its manifest, or where it is if that is {}; with `as_json`, also the manifest."""
    from digits.serving.batch_prediction import MANIFEST

    if not manifest:
        click.echo(f"finished; Kubeflow has no log of the last step, so see {one_line(output)}/{MANIFEST}", err=True)
    else:
        found = ", ".join(f"{count} {verdict}" for verdict, count in manifest["verdicts"].items() if count)
        click.echo(f"{manifest['pictures']} pictures by release {manifest['release']}: {found}", err=True)
    if as_json:
        emit({"output": output, **manifest})


def _here(pictures: str, output: str, release: str, *, quiet: bool) -> dict[str, Any]:
    """Predict in this process; return the manifest."""
    from digits.serving.batch_prediction import predict_batch
    from digits.serving.batch_steps import opened

    with (
        open_backend_store() as (settings, store, _),
        opened(settings, store, pictures, output, release) as (model, batch, place),
        click.progressbar(length=batch.count, label="pictures", file=sys.stderr, hidden=quiet) as bar,
    ):
        return predict_batch(model, batch, place, lambda done, _: bar.update(done - bar.pos))


def _on_kubeflow(
    settings: Settings, pictures: str, output: str, release: str, pods: int, *, quiet: bool
) -> dict[str, Any]:
    """Predict in pods on Kubeflow; return the manifest, {} if Kubeflow no longer has the log with it."""
    from backends.kubeflow.batch_run import KubeflowBatch

    for name, address in {"PICTURES": pictures, "OUTPUT": output}.items():
        scheme = find_scheme(address)
        if not scheme or not scheme.remote:
            raise UsageError(
                f"{name}: on Kubeflow expected an address that the pods reach, s3://bucket/folder, "
                f"got {mask_address(address)!r}",
                remedy="upload them, or add --backend process",
            )
    task = defaults_of(settings.declaration).get("task", BUILT_IN)
    parameters = {"pictures": pictures, "output": output, "release": release, "shares": shares_of(pods), "task": task}
    with contextlib.closing(KubeflowBatch(settings)) as kubeflow:
        kubeflow.check()
        with Progress(quiet=quiet) as progress:
            return kubeflow.predict(parameters, progress.watch)
