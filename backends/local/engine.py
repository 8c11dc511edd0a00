"""The child process that runs kfp.local for one run: `python -m backends.local.engine RUN_FOLDER`.

A process of its own, because kfp.local keeps its configuration in a process-wide singleton, prints to standard
output and stops only when its process does. It is told what to do by run.json, tells what happens in
events.jsonl, and ends with everything it started when its standard input closes (its parent is gone).

kfp.local's runners are kept, but for the one function of each that starts a step: ours keeps the step's log and
exit code, and lets no step count as done whose declared outputs are not there (kubeflow/pipelines#13332).
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from backends import runs
from backends.base import CANCELED
from backends.local.backend import StartStep
from digits import events
from digits.errors import DigitsError
from digits.files import WRITER_VARIABLE, write_json
from digits.release import mlflow_log
from digits.settings import Settings

MLFLOW_SECONDS = 120.0
MLFLOW_LAST_SECONDS = 10.0
_CACHED = re.compile(r"Task (\S+) cache hit")


def main(folder: Path) -> int:
    """Run what run.json asks for; 0 if it succeeded."""
    run = runs.Run(folder)
    record = run.record()
    settings = Settings.load(dotenv=None)
    os.environ[events.VARIABLE] = str(run.events)
    os.environ[WRITER_VARIABLE] = run.id
    temporary = folder / "tmp"
    temporary.mkdir(exist_ok=True)
    os.environ["TMPDIR"] = str(temporary)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))

    mlflow = _MlflowRun(settings, run.id, record)
    status = mlflow_log.FAILED
    try:
        outputs = _run(run, record, settings, mlflow)
        write_json(folder / "result.json", outputs)
        status = mlflow_log.FINISHED
    except SystemExit:
        status = mlflow_log.KILLED
        raise
    except RuntimeError:  # kfp.local's word for a step that failed; the step has said why
        raise
    except Exception:
        with events.reported(""):
            raise
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        mlflow.end(mlflow_log.KILLED if runs_state(run) == CANCELED else status)
        shutil.rmtree(temporary, ignore_errors=True)
    return 0


def runs_state(run: runs.Run) -> str:
    """The state that the parent has noted."""
    return str(run.record()["state"])


def _run(run: runs.Run, record: dict[str, Any], settings: Settings, mlflow: _MlflowRun) -> dict[str, Any]:
    from kfp import local

    from pipeline import definition

    logging.getLogger().addHandler(_CacheHits())
    logging.getLogger().setLevel(logging.INFO)
    root = settings.home / "pipeline"
    root.mkdir(parents=True, exist_ok=True)
    if record["backend"] == "docker":
        from backends.docker.backend import engine_parts

        runner, start, configure = engine_parts(settings, run)
    else:
        from backends.process.backend import engine_parts as process_parts

        runner, start, configure = process_parts(settings, run)
    _guard_steps(start, run, mlflow)
    _drop_damaged(Path(record["cache_root"]))
    local.init(
        runner=runner,
        pipeline_root=str(root),
        workspace_root=str(run.folder / "workspace"),
        enable_caching=True,
        # A run without cache still keeps its own results, so that it can be resumed.
        cache_root=record["cache_root"],
    )
    pipeline = definition.build(configure)
    # All of them are given: kfp.local's cache takes a default, 3.0 in the compiled pipeline, for another value than 3.
    defaults = {name: spec.default for name, spec in pipeline.component_spec.inputs.items()}
    outputs = pipeline(**defaults | record["parameters"]).outputs
    found = {name: value for name, value in outputs.items() if not hasattr(value, "path")}
    if "report" in outputs:
        shutil.copyfile(outputs["report"].path, run.folder / "report.html")
    return found


def _drop_damaged(cache: Path) -> None:
    """Remove the cache's entries that kfp.local would fall over, so that their steps are done again."""
    for entry in cache.glob("*.json"):
        try:
            intact = isinstance(json.loads(entry.read_bytes()), dict)
        except ValueError:
            intact = False
        if not intact:
            entry.unlink(missing_ok=True)


def _guard_steps(start: StartStep, run: runs.Run, mlflow: _MlflowRun) -> None:
    """Put our way of starting a step in the place of kfp.local's two."""
    from kfp.local import subprocess_task_handler

    def run_step(full_command: list[str], env_vars: dict[str, str] | None = None) -> int:
        step = full_command[full_command.index("--function_to_execute") + 1].replace("_", "-")
        executor_input = json.loads(full_command[full_command.index("--executor_input") + 1])
        if step != "deploy":  # which logs nothing
            mlflow.start()
        if step == "publish":
            mlflow.wait()
        events.emit("started", step)
        code = start(step, full_command, dict(env_vars or {}), run.logs / f"{step}.log")
        if code == 0 and (missing := _missing_outputs(executor_input)):
            events.emit("failed", step, cause=f"it ended without writing {', '.join(missing)}", remedy="", exit_code=1)
            return 1
        events.emit("finished" if code == 0 else "exited", step, code=code)
        return code

    subprocess_task_handler.run_local_subprocess = run_step
    try:
        from kfp.local import docker_task_handler
    except ImportError:  # the docker package is not installed; then that runner is not used
        return

    def run_container(client: Any, image: str, command: list[str], volumes: Any, **arguments: Any) -> int:
        del client, image, volumes
        return run_step(command, arguments.get("environment"))

    docker_task_handler.run_docker_container = run_container


def _missing_outputs(executor_input: dict[str, Any]) -> list[str]:
    """The declared outputs of a step that are not there."""
    outputs = executor_input.get("outputs", {})
    missing = [
        name
        for name, artifacts in outputs.get("artifacts", {}).items()
        if not Path(artifacts["artifacts"][0]["uri"]).exists()
    ]
    if not Path(outputs["outputFile"]).is_file():
        missing.append("executor_output.json")
    return missing


class _CacheHits(logging.Handler):
    """Turns kfp.local's only word on a cached task, a log line, into an event."""

    def emit(self, record: logging.LogRecord) -> None:
        if found := _CACHED.match(record.getMessage()):
            events.emit("cached", found[1])


class _MlflowRun:
    """The MLflow run of this run: made while the first steps work, and not at all if all are cached."""

    def __init__(self, settings: Settings, run_id: str, record: dict[str, Any]) -> None:
        self._settings, self._run_id, self._record = settings, run_id, record
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._make, daemon=True)
            self._thread.start()

    def wait(self, seconds: float = MLFLOW_SECONDS) -> None:
        if self._thread is not None:
            self._thread.join(seconds)

    def _make(self) -> None:
        from pipeline import EXPERIMENT

        experiment = self._record["parameters"].get("experiment") or EXPERIMENT
        tags = {"digits.run": self._run_id, "digits.backend": self._record["backend"]}
        try:
            made = mlflow_log.start_run(self._settings, experiment, self._run_id, tags)
        except DigitsError as exc:
            # The step that needs MLflow says so; until then the training goes on and is kept.
            events.emit("progress", "publish", text=str(exc))
            return
        os.environ[mlflow_log.RUN_VARIABLE] = made
        events.emit("mlflow", run_id=made)

    def end(self, status: str) -> None:
        # Who ends a run does not want to wait for it.
        self.wait(MLFLOW_SECONDS if status == mlflow_log.FINISHED else MLFLOW_LAST_SECONDS)
        if made := os.environ.get(mlflow_log.RUN_VARIABLE):
            try:
                mlflow_log.end_run(self._settings, made, status)
            except Exception as exc:  # noqa: BLE001 # the run's own outcome must not depend on this
                events.emit("progress", "publish", text=f"could not mark the MLflow run {status}: {exc}")


def _end_with_parent() -> None:
    """Wait for standard input to close, which it does when the parent is gone, however it went."""
    while os.read(0, 1):
        continue
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    sys.exit(main(Path(sys.argv[1])))
