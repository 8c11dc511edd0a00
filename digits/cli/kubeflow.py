"""`digits submit` and `digits upload`: Kubeflow Pipelines without waiting for a run."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from digits.cli.common import emit, json_option
from digits.cli.parameters import chosen, parameter_options
from digits.settings import Settings

if TYPE_CHECKING:
    from backends.kubeflow.api import Pipelines


def connect() -> tuple[Settings, Pipelines]:
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

    settings, api = connect()
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

    settings, api = connect()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "pipeline.yaml")
        version = compile_version(settings, path)
        pipeline_id, version_id, made = api.upload(path, NAME, version)
    click.echo(f"{'uploaded' if made else 'already there:'} {NAME} version {version}", err=True)
    if as_json:
        emit({"pipeline": pipeline_id, "version": version_id, "name": version, "made": made})
