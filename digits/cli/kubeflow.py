"""`digits submit` and `digits upload`."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from digits.cli.common import emit, json_option
from digits.cli.parameters import chosen_parameters, parameter_options
from digits.settings import Settings

if TYPE_CHECKING:
    from backends.kubeflow.api import Pipelines


def connect() -> tuple[Settings, Pipelines]:
    """Return the settings for Kubeflow, and its API after a successful request.

    Raises:
        DigitsError: the API cannot be reached or refuses access.
    """
    from backends.kubeflow.api import Pipelines

    settings = dataclasses.replace(Settings.load(), backend="kubeflow")
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
    submitted = submission(settings, Request(chosen_parameters(options), use_cache=cache))
    run_id = api.submit(submitted.spec, submitted.name, submitted.experiment, submitted.parameters)
    click.echo(f"submitted {run_id}\n{api.url(run_id)}", err=True)
    if as_json:
        emit({"run": run_id, "url": api.url(run_id)})


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
