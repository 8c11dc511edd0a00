"""`digits doctor`, `digits clean` and `digits images`."""

from __future__ import annotations

import shutil
import sys
from typing import Any

import click

from digits.cli import emit
from digits.cli.common import json_option
from digits.cli.doctor import Finding, findings
from digits.cli.progress import wrapped
from digits.errors import DigitsError, MissingError, UsageError
from digits.settings import BACKENDS, Settings

MADE = ("runs", "cache", "pipeline", "logs", "endpoint.json", "endpoint.lock", "docker.lock", "cluster.lock")
OF_CONTAINERS = ("minio.json",)  # MinIO's credentials; without them its objects are lost
KEPT = ("store", "mlflow.db", "mlartifacts", "data")  # what only --all removes


@click.command()
@click.option("--backend", type=click.Choice(BACKENDS), help="Backend whose needs count.  [process]")
@json_option
def doctor(backend: str | None, as_json: bool) -> None:
    """Say what is there, what is missing and how to get it, and the settings in force; secrets are masked.

    Exit code 3 if the backend lacks something; - marks what it can do without.

    \b
    digits doctor
    digits doctor --backend docker
    digits doctor > doctor.txt      for a bug report
    """
    import dataclasses

    settings = Settings.load()
    if backend:
        settings = dataclasses.replace(settings, backend=backend)
    found = []
    for finding in findings(settings):
        _show(finding, as_json)
        found.append(finding)
    click.echo("", err=as_json)
    rows = settings.describe()
    for variable, value, meaning in rows:
        if value:
            click.echo(f"  {variable}={value}\n      {click.style(wrapped(meaning, 6), dim=True)}", err=as_json)
    unset = sum(not value for _, value, _ in rows)
    click.echo(f"  {unset} settings unset: docs/configuration.md", err=as_json)
    missing = [finding.name for finding in found if finding.ok is False]
    if as_json:
        emit(
            {
                "ok": not missing,
                "backend": settings.backend,
                "missing": missing,
                "findings": [dataclasses.asdict(finding) for finding in found],
                "settings": {variable: value for variable, value, _ in rows},
            }
        )
    if missing:
        click.echo(f"\nthe {settings.backend} backend lacks: {', '.join(missing)}", err=as_json)
        sys.exit(MissingError.exit_code)


def _show(finding: Finding, as_json: bool) -> None:
    mark, colour = {True: ("✓", "green"), False: ("✗", "red"), None: ("-", "yellow")}[finding.ok]
    click.echo(f"  {click.style(mark, fg=colour)} {finding.name:<16} {wrapped(finding.found, 21)}", err=as_json)
    if finding.remedy:
        click.echo(f"    {'':<16} try: {wrapped(finding.remedy, 26)}", err=as_json)


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
    from backends.docker import containers
    from backends.docker import images as ours

    try:
        client = containers.connect()
    except MissingError as exc:
        theirs = [str(path) for name in OF_CONTAINERS if (path := settings.home / name).exists()]
        left = [f"containers as they are, and {', '.join(theirs)}: {exc.message}; digits clean again, once one does"]
        return [], left if theirs else [], True
    try:
        removed = containers.clean(client, settings)
        count = ours.built(client)
    finally:
        client.close()
    prune = f"docker image prune --all --filter label={containers.ROLE_LABEL}"
    return removed, [f"images, {count}, which all installations share: {prune}"] if count else [], False


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
