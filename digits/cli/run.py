"""`digits run`, `digits compile` and `digits up`."""

from __future__ import annotations

import dataclasses
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from digits.cli import emit
from digits.cli.common import HERE, json_option, opened
from digits.cli.progress import Progress, summary, wrapped
from digits.data.catalog import names
from digits.errors import EndpointError, UsageError
from digits.settings import BACKENDS, Settings, unknown
from digits.training.recipe import MODELS, OPTIMIZERS, PRESETS

if TYPE_CHECKING:
    from collections.abc import Callable

    from backends.base import Result


DATASETS = names()

# The definition's parameters that a user sets, as options. Defaults are the definition's own.
PARAMETERS = (
    click.option("--epochs", type=click.IntRange(1, 1000), help="Passes over the training images.  [3]"),
    click.option(
        "--optimizer",
        type=click.Choice(list(OPTIMIZERS), case_sensitive=False),
        metavar="NAME",
        help=f"One of {', '.join(OPTIMIZERS)}.  [adam]",
    ),
    click.option("--experiment", help="Name of the experiment in MLflow.  [digits-recognizer-kfp]"),
    click.option("--preset", type=click.Choice(list(PRESETS)), help="A tuned way of training.  [fast]"),
    click.option(
        "--model", type=click.Choice(MODELS), help="Network to train; baseline is the earlier one.  [default]"
    ),
    click.option("--batch-size", type=click.IntRange(1, 60000), help="Images in a training step.  [the preset's]"),
    click.option(
        "--learning-rate",
        type=click.FloatRange(0, 10, min_open=True),
        help="Peak of the learning rate.  [the preset's]",
    ),
    click.option(
        "--seed", type=click.IntRange(0, 2**31 - 1), help="Seed of the split, the first weights and the order.  [0]"
    ),
    click.option("--min-accuracy", type=click.FloatRange(0, 1), help="Least accuracy for a promotion.  [0.95]"),
    click.option(
        "--dataset",
        type=click.Choice(DATASETS),
        metavar="NAME",
        help=f"One of {', '.join(DATASETS)}; auto is MNIST if it can be had.  [auto]",
    ),
)


def parameter_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of PARAMETERS to a command."""
    for option in reversed(PARAMETERS):
        command = option(command)
    return command


def _settings(data: str | None, backend: str | None) -> Settings:
    settings = Settings.load()
    if backend:
        settings = dataclasses.replace(settings, backend=backend)
    if data and settings.backend == "kubeflow":
        raise UsageError(
            f"--data {data}: steps on Kubeflow take the data from where the ConfigMap {settings.config_map} says",
            remedy=f"set DIGITS_DATA there: kubectl -n {settings.namespace} edit configmap {settings.config_map}",
        )
    if data:
        settings = dataclasses.replace(settings, data=data if "://" in data else str(Path(data).absolute()))
    return settings


def chosen(options: dict[str, Any]) -> dict[str, Any]:
    """The definition's parameters that these options set."""
    given = {name: value for name, value in options.items() if value is not None}
    if "preset" in given:
        given.setdefault("epochs", 0)  # as many as the preset has, not the definition's default
    return given


def execute(settings: Settings, given: dict[str, Any], *, cache: bool, resume: str | None, quiet: bool) -> Result:
    """Run the pipeline on the settings' backend with progress on standard error."""
    from backends import open_backend, runs
    from backends.base import Request

    for name, meant in unknown().items():
        if meant and not quiet:
            click.echo(f"{name} is no setting, and has no effect; was {meant} meant?", err=True)
    resumed = ""
    if resume is not None:
        run = runs.to_resume(settings.home, "" if resume == "last" else resume)
        record, resumed = run.record(), run.id
        if not quiet:
            click.echo(f"takes up run {resumed}", err=True)
        world = {"store", "feedback"}
        given = {k: v for k, v in record["parameters"].items() if k not in world} | given
        settings = dataclasses.replace(settings, backend=record["backend"])
    backend = open_backend(settings)
    try:
        backend.check()
        with Progress(quiet=quiet) as progress:
            return backend.run(Request(given, use_cache=cache), progress.watch, resume=resumed)
    finally:
        backend.close()


@click.command()
@parameter_options
@click.option("--data", help="Folder, URL or s3://… with MNIST's four files.")
@click.option("--backend", type=click.Choice(BACKENDS), help="Where to run.  [process]")
@click.option("--cache/--no-cache", default=True, help="Take steps that nothing changed for from the cache.  [cache]")
@click.option(
    "--resume",
    is_flag=False,
    flag_value="last",
    metavar="[RUN]",
    help="Take up the last run that is over, if it failed or was canceled, where it did; or RUN.",
)
@click.option(
    "--compile-only", is_flag=True, help="Write pipeline.yaml, with the given options as its defaults; run nothing."
)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File that --compile-only writes.  [pipeline.yaml]",
)
@json_option
@click.option("-q", "--quiet", is_flag=True, help="Show no progress.")
def run(
    data: str | None,
    backend: str | None,
    cache: bool,
    resume: str | None,
    compile_only: bool,
    output: Path | None,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Run the pipeline: fetch, prepare, train, evaluate, publish, deploy.

    \b
    digits run                                       MNIST, 3 epochs, adam
    digits run --epochs 5 --experiment my-experiment
    digits run --data ~/mnist --json
    digits run --backend docker
    digits run --resume                              after a failure
    digits run --compile-only                        only write pipeline.yaml
    """
    given = chosen(options)
    settings = _settings(data, backend)
    if compile_only:
        _compile(output or Path("pipeline.yaml"), settings, as_json, given)
        return
    if output:
        raise UsageError("--output is only for --compile-only", remedy="add --compile-only, or omit --output")
    result = execute(settings, given, cache=cache, resume=resume, quiet=quiet)
    answer = summary(result, settings)
    if as_json:
        emit(answer)


@click.command(name="compile")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("pipeline.yaml"),
    help="File to write.  [pipeline.yaml]",
)
@click.option(
    "--backend", type=click.Choice(BACKENDS), default="kubeflow", help="Backend whose settings go in.  [kubeflow]"
)
@json_option
def compile_command(output: Path, backend: str, as_json: bool) -> None:
    """Write the pipeline as YAML, with what a cluster needs; it holds no secret and no path of this machine.

    \b
    digits compile
    digits compile --output /tmp/digits.yaml
    """
    _compile(output, _settings(None, backend), as_json, {})


def _compile(output: Path, settings: Settings, as_json: bool, defaults: dict[str, Any]) -> None:
    from pipeline.definition import compile_to, unchanged

    configure: Any = unchanged
    if settings.backend == "kubeflow":
        from backends.kubeflow.tasks import STEPS_IMAGE, configure_task

        configure = configure_task(settings)
        hint = f"; its steps run in {settings.steps_image or STEPS_IMAGE} (DIGITS_STEPS_IMAGE)"
    else:
        hint = f" for the backend {settings.backend}; for Kubeflow: digits compile"
    compile_to(output, configure, defaults)
    click.echo(wrapped(f"wrote {output}{hint}", 0), err=True)
    if as_json:
        emit({"output": str(output)})


@click.command()
@parameter_options
@click.option("--data", help="Folder, URL or s3://… with MNIST's four files.")
@click.option("--backend", type=click.Choice(HERE), help="Where to run.  [process]")
@click.option("--open/--no-open", "open_page", default=True, help="Open the page in a browser.  [open]")
@click.option("--port", type=click.IntRange(0, 65535), help="Port of the page.  [8000]")
def up(data: str | None, backend: str | None, open_page: bool, port: int | None, **options: Any) -> None:
    """Run what is not cached, serve the model and the drawing page until Ctrl-C.

    \b
    digits up
    digits up --backend docker
    digits up --epochs 5 --no-open --port 8001
    """
    from web_app.server import listening, serve

    settings = _settings(data, backend)
    listener = listening(settings, port=port)  # a port that is taken is said before the pipeline runs
    result = execute(settings, chosen(options), cache=True, resume=None, quiet=False)
    answer = summary(result, settings, following=False)
    if not answer["endpoint"]:
        raise EndpointError(f"nothing is served: {answer['why']}", remedy="digits releases")

    def announce(url: str) -> None:
        click.echo(f"\ndraw at {url}  (Ctrl-C ends the page; the model goes on serving)", err=True)
        if open_page:
            webbrowser.open(url)

    with opened(settings.backend) as (here, _, _):  # where corrections go
        reached = here
    serve(reached, {"local": answer["endpoint"]}, listener=listener, ready=announce)
