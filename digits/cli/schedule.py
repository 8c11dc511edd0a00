"""`digits schedule`."""

from __future__ import annotations

import re
from typing import Any

import click

from digits.cli.common import emit, json_option
from digits.cli.kubeflow import connect
from digits.cli.parameters import chosen_parameters, parameter_options
from digits.errors import UsageError

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


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
    parameters = chosen_parameters(options)
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
    seconds = int(match[1]) * _UNITS[match[2]] if match else 0
    if seconds < 60:
        raise UsageError(f"--every: expected at least 1m, such as 30m, 24h or 7d, got {text!r}")
    return seconds
