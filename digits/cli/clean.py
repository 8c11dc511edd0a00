"""`digits clean`."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from pathlib import Path

import click

from digits import homes
from digits.cli.common import emit, json_option
from digits.errors import DigitsError, MissingError, UsageError, one_line
from digits.settings import Settings

# Files and folders of DIGITS_HOME.
LOCKS = ("runs.lock", "endpoint.lock", "docker.lock", "cluster.lock")
CREATED = ("runs", "cache", "pipeline", "logs", "seen")
CONTAINER_FILES = ("minio.json",)  # MinIO's credentials, which remain as long as its container may
KEPT = ("store", "mlflow.db", "mlartifacts", "data")  # removed by --all only


@click.command()
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@click.option(
    "--all", "everything", is_flag=True, help="Also remove the local store, MLflow's database and downloaded data."
)
@json_option
def clean(yes: bool, everything: bool, as_json: bool) -> None:
    """Stop the predictor, and remove the containers, network, volume, runs and cache of this DIGITS_HOME.

    A folder that digits did not create is refused. Of a link only the link is removed.

    \b
    digits clean            asks first; keeps releases, MLflow's runs and data
    digits clean --all      removes these too
    """
    from backends import locks, runs
    from backends.process import predictor

    settings = Settings.load()
    homes.check(settings.home)
    parts = [settings.home / name for name in CREATED + CONTAINER_FILES + (KEPT if everything else ())]
    parts = [part for part in parts if os.path.lexists(part)]
    if not yes:
        if as_json or not sys.stdin.isatty():
            raise UsageError("cannot ask for confirmation with --json or without a terminal", remedy="add --yes")
        click.echo("this stops the predictor, and removes")
        for what in ("containers, network and volume of the docker backend, with its object store", *map(str, parts)):
            click.echo(f"  {what}")
        if not click.confirm("continue?"):
            click.echo("nothing removed", err=True)
            return
    created = [folder for folder in (settings.home, *settings.home.parents) if not folder.exists()]  # by the next lines
    runs.reap_dead_runs(settings.home)
    with runs.changing(settings.home):  # a run that begins meanwhile waits; it would lose its containers
        _refuse_running(settings)
        removed, failed = [f"predictor process {pid}" for pid in predictor.stop_all(settings)], list[str]()
        containers, kept, engine_absent = _remove_containers(settings)
        removed += containers
        for part in [*parts, *settings.home.glob(predictor.FILES)]:  # of the latter only what is no file is left
            if part.name in CONTAINER_FILES and engine_absent:
                continue
            try:
                removed.append(_remove(part))
            except OSError as exc:
                failed.append(f"{exc.filename or part}: {exc.strerror}")
    for name in LOCKS:  # last, because a command that waits begins as soon as the file of its lock is removed
        locks.remove(settings.home / name)
    with contextlib.suppress(OSError):  # it has content
        for folder in created:
            folder.rmdir()
    if remaining := [str(path) for name in KEPT if (path := settings.home / name).exists()]:
        kept.append(f"{', '.join(remaining)} (--all removes them)")
    if (settings.home / "kubeconfig").exists():
        kept.append("the kind cluster (digits cluster down removes it)")
    for line in removed:
        click.echo(f"  removed {line}", err=True)
    if not removed:
        click.echo("  there was nothing to remove", err=True)
    for line in kept:
        click.echo(f"  kept {line}", err=True)
    if failed:
        raise DigitsError(
            f"cannot remove {'; '.join(failed)}", remedy="remove it as its owner, then digits clean again"
        )
    if as_json:
        emit({"removed": removed, "left": kept})


def _remove(part: Path) -> str:
    """Remove a file, a folder, or a link but not what it points to. Return a description. Raises OSError."""
    if part.is_symlink():
        target = part.readlink()
        part.unlink()
        return f"{part} (a link; {one_line(str(target))} is kept)"
    if part.is_dir():
        shutil.rmtree(part)
    else:
        part.unlink(missing_ok=True)
    return str(part)


def _refuse_running(settings: Settings) -> None:
    """Raise UsageError if a run, or the creation or removal of the kind cluster, is in progress."""
    from backends import runs
    from backends.locks import is_held

    if is_held(settings.home / "cluster.lock"):  # another command would not wait for it any more
        raise UsageError("digits cluster up or down is in progress", remedy="wait until it ends")
    running = [run.id for run in runs.all_runs(settings.home) if run.record()["state"] == runs.RUNNING]
    if running:
        raise UsageError(f"run {running[0]} is in progress", remedy="wait until it ends, or stop it with Ctrl-C")


def _remove_containers(settings: Settings) -> tuple[list[str], list[str], bool]:
    """Remove the containers, network and volume of this DIGITS_HOME from the Docker engine; keep the images.

    Returns:
        (descriptions of the removed objects, descriptions of the kept ones, whether no Docker engine answered).
    """
    from backends.docker import containers, images

    try:
        client = containers.connect()
    except MissingError as exc:
        files = [str(path) for name in CONTAINER_FILES if (path := settings.home / name).exists()]
        kept = [f"containers and {', '.join(files)}: {exc.message}; run digits clean again when it does"]
        return [], kept if files else [], True
    with contextlib.closing(client):
        removed = containers.clean(client, settings)
        count = images.built(client)
    prune = f"docker image prune --all --filter label={containers.ROLE_LABEL}"
    return removed, [f"{count} images, which all installations share ({prune})"] if count else [], False
