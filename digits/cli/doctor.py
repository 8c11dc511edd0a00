"""`digits doctor`."""

from __future__ import annotations

import dataclasses
import shutil
import sys
from collections.abc import Callable, Iterator

import click

from digits import pod_checks
from digits.cli import checks, engine_checks
from digits.cli.common import backend_option, emit, json_option, show_finding, wrap
from digits.errors import MissingError, one_line
from digits.findings import Finding, run_check, start_check
from digits.http import before_threads
from digits.settings import Settings, unknown

# The checks that must pass for a backend, in addition to data and MLflow. A backend that is not listed needs its store.
NEEDS = {"docker": {"docker engine", "images"}}
PROGRAMS = {"kind": "digits cluster", "kubectl": "digits cluster and the kubeflow backend"}


@click.command()
@backend_option("Backend whose requirements are checked.  [process]")
@json_option
def doctor(as_json: bool) -> None:
    """Check what is installed and reachable, and print the settings; secrets are masked.

    A missing requirement of the backend is marked with a cross, anything else that is absent with a dash. The exit
    code is 3 if the backend lacks something.

    \b
    digits doctor
    digits doctor --backend docker
    digits doctor > doctor.txt      for a bug report
    """
    settings = Settings.load()
    findings = []
    for finding in run_checks(settings):
        show_finding(finding, as_json)
        findings.append(finding)
    click.echo("", err=as_json)
    rows = settings.describe()
    for variable, value, meaning in rows:
        if value:
            click.echo(f"  {variable}={one_line(value)}\n      {click.style(wrap(meaning, 6), dim=True)}", err=as_json)
    unset = sum(not value for _, value, _ in rows)
    click.echo(f"  {unset} settings are not set, see docs/configuration.md", err=as_json)
    missing = [finding.name for finding in findings if finding.ok is False]
    if as_json:
        emit(
            {
                "ok": not missing,
                "backend": settings.backend,
                "missing": missing,
                "findings": [dataclasses.asdict(finding) for finding in findings],
                "settings": {variable: value for variable, value, _ in rows},
            }
        )
    if missing:
        click.echo(f"\nthe {settings.backend} backend lacks: {', '.join(missing)}", err=as_json)
        sys.exit(MissingError.exit_code)


def run_checks(settings: Settings) -> Iterator[Finding]:
    """Yield the finding of each check as soon as it is known. Each has a deadline."""
    yield checks.check_python()
    yield from checks.find_surroundings(settings)
    yield run_check("home", True, lambda: checks.check_home(settings))
    for name, suggestion in unknown().items():
        yield Finding("unknown setting", None, f"{name} is not a setting", suggestion or "see docs/configuration.md")
    every: dict[str, Callable[[], str | Finding]] = {
        "data": lambda: checks.check_data(settings),
        "docker engine": engine_checks.check_docker,
        "images": lambda: engine_checks.check_images(settings),
        "signatures": lambda: pod_checks.check_signatures(settings),
        "object store": lambda: checks.check_store(settings),
        "mlflow": lambda: pod_checks.check_mlflow(settings),
        "endpoint": lambda: engine_checks.check_endpoint(settings),
        "leftovers": lambda: engine_checks.check_leftovers(settings),
    }
    needed = {"data", "mlflow", *NEEDS.get(settings.backend, {"object store"})}
    before_threads("urllib3", "requests", "docker", "numpy")
    for wait in [start_check(name, name in needed, check) for name, check in every.items()]:  # all at the same time
        yield wait()
    yield from engine_checks.check_cluster(settings)
    for program, use in PROGRAMS.items():
        path = shutil.which(program)
        yield Finding(program, True if path else None, path or f"not on PATH; only {use} needs it")
