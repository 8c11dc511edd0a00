"""The summary that `digits run` and `digits up` print at the end of a run."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

from digits.cli.common import wrap
from digits.cli.setting_option import TASK_VARIABLE
from digits.errors import one_line
from digits.remedies import remedy
from digits.settings import Settings
from digits.tasks.task import BUILT_IN

if TYPE_CHECKING:
    from backends.base import Result


def summary(result: Result, settings: Settings, *, with_next: bool = True) -> dict[str, Any]:
    """Print the result of a run, with the next command if `with_next`. Return the object for `--json`."""
    from digits.results import normalize_numbers

    steps = {name: {"state": s.state, "seconds": round(s.seconds, 2)} for name, s in result.steps.items()}
    if not result.outputs:  # a Kubeflow run whose pods, with the outputs in their logs, no longer exist
        click.echo("\n  succeeded; its outputs are on the run's page", err=True)
        return {"run": result.run_id, "state": result.state, "backend": settings.backend, "steps": steps}
    published = result.outputs["published"]
    accuracy = published["accuracy"]
    report = settings.home / "runs" / result.run_id / "report.html"
    answer = {
        "run": result.run_id,
        "state": result.state,
        "backend": settings.backend,
        "seconds": round(result.seconds, 2),
        "steps": steps,
        "accuracy": accuracy,
        "release": published["version"],
        "digest": published["digest"],
        "promoted": published["promoted"],
        "why": published["why"],
        "champion": published["champion"],
        "data": normalize_numbers(result.outputs["data"] | {"feedback": result.outputs["feedback"]}),
        "training_seconds": result.outputs["trained"]["seconds"],
        "mlflow_run": published["mlflow_run"],
        "endpoint": result.outputs["deployed"]["endpoint"],
        "report": str(report) if report.exists() else "",  # on Kubeflow it is in MLflow only
    }
    draw = remedy("to draw", settings.backend, namespace=settings.namespace)
    role = "champion" if answer["champion"] == answer["release"] else "kept, not promoted"
    corrections = int(answer["data"].get("feedback", {}).get("count", 0))
    cached = sum(step.state == "cached" for step in result.steps.values())
    training = "" if result.steps["train"].state == "cached" else f", training {answer['training_seconds']:.1f} s"
    _table(
        ("accuracy", f"{accuracy:.2%} on {answer['data']['dataset']}"),
        ("release", f"{published['version']}  {role}"),
        ("why", published["why"]),
        ("champion", answer["champion"] if answer["champion"] != answer["release"] else ""),
        ("feedback", f"{corrections} corrected drawing{'s' * (corrections > 1)} collected" if corrections else ""),
        ("endpoint", answer["endpoint"] + _note_port(answer["endpoint"], settings)),
        ("report", "digits report" if answer["report"] else "on the run's page"),
        (
            "time",
            f"{result.seconds:.1f} s{training}"
            + (f"; {cached} of {len(result.steps)} steps from the cache" if cached else ""),
        ),
        ("next", _next(draw, settings, served=bool(answer["endpoint"])) if with_next else ""),
    )
    return answer


def _next(draw: str, settings: Settings, *, served: bool) -> str:
    """Return the next command, with --task as the user gave it unless the file .env has it, and its purpose."""
    task, chosen = settings.declaration, os.environ.get(TASK_VARIABLE)
    option = f" --task {one_line(shlex.quote(chosen))}" if task.name != BUILT_IN and chosen else ""
    return f"{draw}{option}   to {'draw' if task.drawn else 'try it'}" if served else f"digits releases{option}"


def _note_port(endpoint: str, settings: Settings) -> str:
    """Return a note if the endpoint does not use DIGITS_PORT because another program does; else ''."""
    parts = urlsplit(endpoint)
    moved = parts.hostname == "127.0.0.1" and settings.port and parts.port != settings.port  # 0 asks for any
    return f"   (port {settings.port} was in use)" if moved else ""


def _table(*rows: tuple[str, str]) -> None:
    """Print rows of a name and a value, without those that have no value."""
    click.echo("", err=True)
    for name, value in rows:
        if value:
            click.echo(f"  {click.style(f'{name:<10}', dim=True)} {wrap(value, 13)}", err=True)
