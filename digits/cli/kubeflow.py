"""`digits submit`, `upload` and `schedule`: Kubeflow Pipelines without waiting for a run."""

from __future__ import annotations

import dataclasses
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from digits.cli import emit
from digits.cli.common import json_option
from digits.cli.run import chosen, parameter_options
from digits.errors import UsageError
from digits.settings import Settings

if TYPE_CHECKING:
    from backends.kubeflow.api import Pipelines

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def _connect() -> tuple[Settings, Pipelines]:
    """The settings for Kubeflow, and its API, which has answered."""
    from backends.kubeflow.api import Pipelines

    settings = dataclasses.replace(Settings.load(), backend="kubeflow")
    api = Pipelines(settings)
    api.check()
    return settings, api


@click.command()
@parameter_options
@click.option("--cache/--no-cache", default=True, help="Take steps that nothing changed for from the cache.  [cache]")
@json_option
def submit(cache: bool, as_json: bool, **options: Any) -> None:
    """Submit a run to Kubeflow Pipelines and return; `digits run --backend kubeflow` waits for it.

    \b
    digits submit --epochs 5 --experiment my-experiment
    """
    from backends.base import Request
    from backends.kubeflow.submit import submission

    settings, api = _connect()
    asked = submission(settings, Request(chosen(options), use_cache=cache))
    run_id = api.submit(asked.spec, asked.name, asked.experiment, asked.parameters)
    click.echo(f"submitted {run_id}\n{api.url(run_id)}", err=True)
    if as_json:
        emit({"run": run_id, "url": api.url(run_id)})


@click.command()
@json_option
def upload(as_json: bool) -> None:
    """Upload the pipeline as a new version, named by the digest of our code and of the settings that go in.

    \b
    DIGITS_KFP_HOST=http://127.0.0.1:8888 digits upload
    """
    from backends.kubeflow.submit import compile_version
    from pipeline import NAME

    settings, api = _connect()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "pipeline.yaml")
        version = compile_version(settings, path)
        pipeline_id, version_id, made = api.upload(path, NAME, version)
    click.echo(f"{'uploaded' if made else 'already there:'} {NAME} version {version}", err=True)
    if as_json:
        emit({"pipeline": pipeline_id, "version": version_id, "name": version, "made": made})


@click.command()
@parameter_options
@click.option("--cron", help="Cron expression of five or six fields (six: seconds first), in the server's time zone.")
@click.option("--every", help="Time between runs: 30m, 24h, 7d.")
@click.option("--list", "show", is_flag=True, help="List the schedules.")
@click.option("--delete", metavar="ID", help="Remove a schedule; a run of it that goes on is cut off.")
@json_option
def schedule(
    cron: str | None, every: str | None, show: bool, delete: str | None, as_json: bool, **options: Any
) -> None:
    """Run the pipeline on Kubeflow at set times.

    \b
    digits schedule --cron "0 3 * * *"        every night at three
    digits schedule --every 12h --epochs 5
    digits schedule --list
    digits schedule --delete ID
    """
    if sum(map(bool, (cron, every, show, delete))) != 1:
        raise UsageError("expected one of --cron, --every, --list and --delete", remedy="digits schedule --help")
    from backends.kubeflow.submit import compiled
    from pipeline import EXPERIMENT, NAME

    trigger = {"cron": _cron(cron)} if cron else {"every": _seconds(every)} if every else {}
    settings, api = _connect()
    if show:
        found = api.schedules(NAME)
        for item in found:
            click.echo(f"{item['id']}  {item['when']}  {item['status']}", err=as_json)
        if as_json:
            emit({"schedules": found})
        return
    if delete:
        api.unschedule(delete)
        click.echo(f"removed {delete}", err=True)
        if as_json:
            emit({"removed": delete})
        return
    parameters = chosen(options)
    spec = compiled(settings)
    made = api.schedule(spec, NAME, str(parameters.get("experiment", EXPERIMENT)), parameters, trigger)
    click.echo(f"scheduled {made}", err=True)
    if as_json:
        emit({"schedule": made})


def _cron(text: str) -> str:
    """Kubeflow's six fields, of which the first is the second."""
    fields = text.split()
    if len(fields) not in {5, 6} and not text.startswith("@"):
        raise UsageError(
            f"--cron: expected five or six fields, got {text!r}", remedy='digits schedule --cron "0 3 * * *"'
        )
    return " ".join(["0", *fields] if len(fields) == 5 else fields)


def _seconds(text: str) -> int:
    found = re.fullmatch(r"(\d+)([smhd])", text)
    seconds = int(found[1]) * _UNITS[found[2]] if found else 0
    if seconds < 60:
        raise UsageError(f"--every: expected at least 1m, as in 30m, 24h or 7d, got {text!r}")
    return seconds
