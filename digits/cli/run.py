"""`digits run`."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from digits.cli.common import emit, json_option
from digits.cli.compile import write_pipeline
from digits.cli.parameters import chosen_parameters, load_settings, parameter_options
from digits.cli.progress import Progress
from digits.cli.summary import summary
from digits.data.catalog import FALLBACK
from digits.errors import UsageError
from digits.settings import BACKENDS, Settings, unknown
from digits.tasks.task import BUILT_IN, find

if TYPE_CHECKING:
    from backends.base import Result


def execute(
    settings: Settings,
    parameters: dict[str, Any],
    *,
    cache: bool,
    resume: str | None,
    quiet: bool,
    backend: str | None = None,
) -> tuple[Result, Settings]:
    """Run the pipeline on the settings' backend, with progress on standard error unless `quiet`.

    Return its result and the settings, with the backend of a resumed run.

    `parameters` are those that differ from the definition's defaults. `resume` is the id of a run to resume on its own
    backend, "last" for the last one, or None; `backend` is the one that the user named for it. `cache` allows steps to
    be taken from the cache.
    """
    from backends import open_backend, runs
    from backends.base import Request

    for name, suggestion in unknown().items():
        if suggestion and not quiet:
            click.echo(f"{name} is not a setting and has no effect; did you mean {suggestion}?", err=True)
    resumed = ""
    if resume is not None:
        run = runs.to_resume(settings.home, "" if resume == "last" else resume)
        record, resumed = run.record(), run.id
        if not quiet:
            click.echo(f"resuming run {resumed}", err=True)
        if backend not in {None, record["backend"]}:
            raise UsageError(
                f"run {resumed} ran on {record['backend']}, so it cannot be resumed on {backend}",
                remedy="omit --backend",
            )
        recorded = find(record["parameters"].get("task", BUILT_IN)).name
        if recorded != settings.declaration.name:
            raise UsageError(
                f"run {resumed} is of the task {recorded}, not of {settings.declaration.name}",
                remedy=f"add --task with the file of {recorded}" if recorded != BUILT_IN else "omit --task",
            )
        current = {"store", "feedback"}  # the backend sets them for each run
        parameters = {k: v for k, v in record["parameters"].items() if k not in current} | parameters
        settings = settings.with_backend(record["backend"])
    with contextlib.closing(open_backend(settings)) as opened:
        opened.check()
        with Progress(quiet=quiet) as progress:
            return opened.run(Request(parameters, use_cache=cache), progress.watch, resume=resumed), settings


@click.command()
@parameter_options
@click.option("--data", help="Folder, URL or s3://… with MNIST's four files.")
@click.option("--backend", type=click.Choice(BACKENDS), help="Where to run the pipeline.  [process]")
@click.option("--cache/--no-cache", default=True, help="Take unchanged steps from the cache.  [cache]")
@click.option(
    "--resume",
    is_flag=False,
    flag_value="last",
    metavar="[RUN]",
    help="Resume RUN, by default the last run, at the step where it failed or was cancelled.",
)
@click.option("--compile-only", is_flag=True, help="Only write pipeline.yaml, with the given options as its defaults.")
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
    digits run                                       with the defaults below
    digits run --epochs 5 --experiment my-experiment
    digits run --data ~/mnist --json
    digits run --backend docker
    digits run --resume                              after a failure
    digits run --compile-only                        only write pipeline.yaml
    """
    settings = load_settings(data, backend)
    parameters = chosen_parameters(options, settings, resumed=resume is not None)
    if parameters.get("dataset") == FALLBACK and data:
        raise UsageError(f"--data is for MNIST's files; {FALLBACK} needs none", remedy="omit --data or --dataset")
    if compile_only and (resume is not None or data or not cache):
        raise UsageError("--compile-only runs nothing", remedy="omit --resume, --data and --no-cache")
    if compile_only:
        write_pipeline(output or Path("pipeline.yaml"), settings, as_json, parameters)
        return
    if output:
        raise UsageError("--output is only for --compile-only", remedy="add --compile-only, or omit --output")
    result, settings = execute(settings, parameters, cache=cache, resume=resume, quiet=quiet, backend=backend)
    answer = summary(result, settings)
    if as_json:
        emit(answer)
