"""`digits clean`."""

from __future__ import annotations

import shutil
import sys

import click

from digits.cli.common import emit, json_option
from digits.errors import MissingError, UsageError
from digits.settings import Settings

MADE = ("runs", "cache", "pipeline", "logs", "endpoint.json", "endpoint.lock", "docker.lock", "cluster.lock")
OF_CONTAINERS = ("minio.json",)  # MinIO's credentials; without them its objects are lost
KEPT = ("store", "mlflow.db", "mlartifacts", "data")  # what only --all removes


@click.command()
@click.option("--yes", is_flag=True, help="Ask nothing.")
@click.option(
    "--all", "everything", is_flag=True, help="Remove the local store, MLflow's database and downloaded data too."
)
@json_option
def clean(yes: bool, everything: bool, as_json: bool) -> None:
    """Stop the predictor; remove containers, network, volume, runs and cache of this DIGITS_HOME.

    \b
    digits clean            asks first; releases in the local store are kept
    digits clean --all      those, MLflow and downloaded data too
    """
    settings = Settings.load()
    parts = [settings.home / name for name in MADE + OF_CONTAINERS + (KEPT if everything else ())]
    parts = [part for part in parts if part.exists()]
    if not yes:
        if as_json or not sys.stdin.isatty():
            raise UsageError("without a terminal, or with --json, nothing can be asked", remedy="add --yes")
        click.echo("this stops the predictor, and removes")
        for what in ("containers, network and volume of the docker backend, its store among them", *map(str, parts)):
            click.echo(f"  {what}")
        if not click.confirm("go on?"):
            click.echo("nothing removed", err=True)
            return
    stopped = _stop(settings)
    containers, left, unseen = _containers(settings)
    removed = stopped + containers
    for part in parts:
        if part.name in OF_CONTAINERS and unseen:
            continue
        if part.is_dir():
            shutil.rmtree(part)
        else:
            part.unlink(missing_ok=True)
        removed.append(str(part))
    if kept := [str(path) for name in KEPT if (path := settings.home / name).exists()]:
        left.append(f"{', '.join(kept)}, which --all removes")
    if (settings.home / "kubeconfig").exists():
        left.append("the cluster: digits cluster down")
    for line in removed:
        click.echo(f"  removed {line}", err=True)
    if not removed:
        click.echo("  there was nothing to remove", err=True)
    for line in left:
        click.echo(f"  left {line}", err=True)
    if as_json:
        emit({"removed": removed, "left": left})


def _stop(settings: Settings) -> list[str]:
    """End the predictor process and what is left of runs that were killed. A run that goes on is refused."""
    from backends import runs
    from backends.process import predictor

    runs.bury_dead(settings.home)
    going = [run.id for run in runs.all_runs(settings.home) if run.record()["state"] == runs.RUNNING]
    if going:
        raise UsageError(f"run {going[0]} is going on", remedy="wait for it, or interrupt it (Ctrl-C) where it runs")
    state = predictor.running(settings)
    if state is None:
        return []
    predictor.stop(settings)
    return [f"predictor process {state.pid}"]


def _containers(settings: Settings) -> tuple[list[str], list[str], bool]:
    """Remove what is ours of the Docker engine but the images.

    Returns (what was removed, what is left, in words; whether no engine answered, so that what there was stays).
    """
    from backends.docker import containers, images

    try:
        client = containers.connect()
    except MissingError as exc:
        theirs = [str(path) for name in OF_CONTAINERS if (path := settings.home / name).exists()]
        left = [f"containers as they are, and {', '.join(theirs)}: {exc.message}; digits clean again, once one does"]
        return [], left if theirs else [], True
    try:
        removed = containers.clean(client, settings)
        count = images.built(client)
    finally:
        client.close()
    prune = f"docker image prune --all --filter label={containers.ROLE_LABEL}"
    return removed, [f"images, {count}, which all installations share: {prune}"] if count else [], False
