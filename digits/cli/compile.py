"""`digits compile`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from digits.cli.common import emit, json_option, wrap
from digits.cli.parameters import chosen_parameters, load_settings
from digits.errors import UsageError, one_line
from digits.files import check_output
from digits.settings import Settings


@click.command(name="compile")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("pipeline.yaml"),
    help="File to write.  [pipeline.yaml]",
)
@click.option("--kubernetes", is_flag=True, help="Write KFP's objects Pipeline and PipelineVersion, for GitOps.")
@click.option("--batch", is_flag=True, help="Write the pipeline of digits batch instead.")
@json_option
def compile_command(output: Path, kubernetes: bool, batch: bool, as_json: bool) -> None:
    """Write the pipeline as YAML, configured for Kubeflow. It has no secrets and no paths of this machine.

    \b
    digits compile
    digits compile --output /tmp/digits.yaml
    digits compile --kubernetes && kubectl apply -f pipeline.yaml
    digits compile --batch --output batch.yaml
    """
    if kubernetes and batch:
        raise UsageError("--kubernetes is for the training pipeline", remedy="omit --batch")
    settings = load_settings(backend="kubeflow")
    parameters = chosen_parameters({}, settings)
    if batch:
        parameters = {name: value for name, value in parameters.items() if name == "task"}
    write_pipeline(output, settings, as_json, parameters, kubernetes=kubernetes, batch=batch)


def write_pipeline(
    output: Path,
    settings: Settings,
    as_json: bool,
    defaults: dict[str, Any],
    *,
    kubernetes: bool = False,
    batch: bool = False,
) -> None:
    """Write the pipeline for the settings' backend as YAML, with `defaults` in place of the definition's defaults.

    `kubernetes` writes it as KFP's Kubernetes objects; `batch` writes that of `digits batch`.
    """
    check_output(output)  # before KFP is imported, which takes seconds
    from pipeline.definition import build, compile_to, unchanged

    configure: Any = unchanged
    if settings.backend == "kubeflow":
        from backends.kubeflow.tasks import STEPS_IMAGE, configure_task

        configure = configure_task(settings)
        hint = f"; its steps run in the image {settings.steps_image or STEPS_IMAGE} (DIGITS_STEPS_IMAGE)"
    else:
        hint = f" for the backend {settings.backend}; for Kubeflow: digits compile"
    if kubernetes:
        from backends.kubeflow.submit import compile_manifest

        compile_manifest(settings, output, defaults)
    else:
        if batch:
            from pipeline.batch_definition import build
        compile_to(output, configure, defaults, of=build)
    click.echo(wrap(f"wrote {one_line(str(output))}{hint}", 0), err=True)
    if as_json:
        emit({"output": str(output)})
