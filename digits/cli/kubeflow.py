"""`digits submit`, `digits watch`, `digits upload` and `digits schedule`."""

from __future__ import annotations

import contextlib
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from digits.cli.common import emit, json_option
from digits.cli.parameters import chosen_parameters, parameter_options
from digits.errors import UsageError
from digits.settings import Settings

if TYPE_CHECKING:
    from backends.kubeflow.api import Pipelines


def connect() -> tuple[Settings, Pipelines]:
    """Return the settings for Kubeflow, and its API after a successful request.

    Raises:
        DigitsError: the API cannot be reached or refuses access.
    """
    from backends.kubeflow.api import Pipelines

    settings = Settings.load().with_backend("kubeflow")
    api = Pipelines(settings)
    api.check()
    return settings, api


@click.command()
@parameter_options
@click.option("--cache/--no-cache", default=True, help="Take unchanged steps from the cache.  [cache]")
@json_option
def submit(cache: bool, as_json: bool, **options: Any) -> None:
    """Submit a run to Kubeflow Pipelines without waiting for it; `digits run --backend kubeflow` waits.

    \b
    digits submit --epochs 5 --experiment my-experiment
    """
    from backends.base import Request
    from backends.kubeflow.submit import submission

    settings, api = connect()
    submitted = submission(settings, Request(chosen_parameters(options, settings), use_cache=cache))
    run_id = api.submit(submitted.spec, submitted.name, submitted.experiment, submitted.parameters)
    click.echo(f"submitted {run_id}\n{api.place(run_id)}\ndigits watch {run_id}   to watch it", err=True)
    if as_json:
        emit({"run": run_id, "url": api.url(run_id)})


@click.command()
@click.argument("run", default="")
@json_option
@click.option("-q", "--quiet", is_flag=True, help="Show no progress.")
def watch(run: str, as_json: bool, quiet: bool) -> None:
    """Watch RUN on Kubeflow to its end; by default the last run of this machine.

    RUN is an id that `digits run` printed, or Kubeflow's id of any run of the pipeline, such as `digits submit` prints,
    or of a batch.

    \b
    digits watch
    digits watch 20261128-184500-123456-1f2e
    digits watch 0f4d2c1e-5a6b-4c7d-8e9f-a0b1c2d3e4f5
    """
    from backends.kubeflow.backend import KubeflowBackend
    from backends.kubeflow.batch_run import KubeflowBatch
    from digits.cli.batch import report
    from digits.cli.progress import Progress
    from digits.cli.summary import summary

    settings = Settings.load().with_backend("kubeflow")
    with contextlib.closing(KubeflowBatch(settings)) as batches:
        batches.check()
        if output := batches.output_of(run):
            with Progress(quiet=quiet) as progress:
                manifest = batches.follow(run, progress.watch)
            report(output, manifest, as_json=as_json)
            return
    with contextlib.closing(KubeflowBackend(settings)) as backend:
        backend.check()
        with Progress(quiet=quiet) as progress:
            result = backend.watch(run, progress.watch)
    answer = summary(result, settings)
    if as_json:
        emit(answer)


@click.command()
@json_option
def upload(as_json: bool) -> None:
    """Upload the pipeline as a new version, named after the digest of the code and of the compiled settings.

    \b
    DIGITS_KFP_HOST=http://127.0.0.1:8888 digits upload
    """
    from backends.kubeflow.submit import compile_version
    from pipeline import NAME

    settings, api = connect()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "pipeline.yaml")
        version = compile_version(settings, path)
        pipeline_id, version_id, created = api.upload(path, NAME, version)
    click.echo(f"{'uploaded' if created else 'exists already:'} {NAME} version {version}", err=True)
    if as_json:
        emit({"pipeline": pipeline_id, "version": version_id, "name": version, "made": created})


@click.command()
@parameter_options
@click.option("--cron", help="Cron expression with five fields, or six with seconds first, in the server's time zone.")
@click.option("--every", help="Time between runs, such as 30m, 24h or 7d.")
@click.option("--list", "show", is_flag=True, help="List the schedules.")
@click.option("--delete", metavar="ID", help="Remove a schedule. A run of it that is in progress is terminated.")
@json_option
def schedule(
    cron: str | None, every: str | None, show: bool, delete: str | None, as_json: bool, **options: Any
) -> None:
    """Run the pipeline on Kubeflow on a schedule.

    \b
    digits schedule --cron "0 3 * * *"        every night at three
    digits schedule --every 12h --epochs 5
    digits schedule --list
    digits schedule --delete ID
    """
    if sum(map(bool, (cron, every, show, delete))) != 1:
        raise UsageError("expected one of --cron, --every, --list and --delete", remedy="digits schedule --help")
    from backends.kubeflow.submit import compiled
    from pipeline import DEFAULTS, NAME

    trigger = {"cron": _cron(cron)} if cron else {"every": _seconds(every)} if every else {}
    settings, api = connect()
    if show:
        schedules = api.schedules(NAME)
        for item in schedules:
            click.echo(f"{item['id']}  {item['when']}  {item['status']}", err=as_json)
        if as_json:
            emit({"schedules": schedules})
        return
    if delete:
        api.unschedule(delete)
        click.echo(f"removed {delete}", err=True)
        if as_json:
            emit({"removed": delete})
        return
    parameters = chosen_parameters(options, settings)
    spec = compiled(settings)
    schedule_id = api.schedule(spec, NAME, str(parameters.get("experiment", DEFAULTS.experiment)), parameters, trigger)
    click.echo(f"scheduled {schedule_id}", err=True)
    if as_json:
        emit({"schedule": schedule_id})


def _cron(text: str) -> str:
    """Return a cron expression with the six fields that Kubeflow expects, seconds first.

    Raises:
        UsageError: the expression has neither five nor six fields.
    """
    fields = text.split()
    if len(fields) not in {5, 6} and not text.startswith("@"):
        raise UsageError(
            f"--cron: expected five or six fields, got {text!r}", remedy='digits schedule --cron "0 3 * * *"'
        )
    return " ".join(["0", *fields] if len(fields) == 5 else fields)


def _seconds(text: str) -> int:
    """Return the seconds of a time such as 30m. Raises UsageError unless it is at least one minute."""
    match = re.fullmatch(r"(\d+)([smhd])", text)
    seconds = int(match[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]] if match else 0
    if seconds < 60:
        raise UsageError(f"--every: expected at least 1m, such as 30m, 24h or 7d, got {text!r}")
    return seconds
