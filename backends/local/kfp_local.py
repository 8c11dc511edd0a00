"""Changes to kfp.local: how a step is started, when it counts as done, and when its cached result is used.

In each of kfp.local's runners one function is replaced, which starts a step. Ours writes the step's log, keeps its exit
code, and fails a step whose declared outputs are missing (kubeflow/pipelines#13332).
"""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

from backends import runs
from backends.cached import fingerprint, is_usable
from backends.local.backend import StartStep
from backends.local.mlflow_run import MlflowRun
from digits import events
from digits.files import parse_json
from digits.settings import Settings

_KEY, _FINGERPRINT = "digits.key", "digits.fingerprint"  # in a cache entry
_CACHED = re.compile(r"Task (\S+) cache hit")


def guard_steps(start_step: StartStep, run: runs.Run, mlflow: MlflowRun) -> None:
    """Replace the functions by which kfp.local starts a step in a subprocess or in a container by `start_step`.

    The first step that is not cached also starts `mlflow`.
    """
    from kfp.local import subprocess_task_handler

    logging.getLogger().addHandler(_CacheHits())
    logging.getLogger().setLevel(logging.INFO)

    def run_step(full_command: list[str], env_vars: dict[str, str] | None = None) -> int:
        step = full_command[full_command.index("--function_to_execute") + 1].replace("_", "-")
        executor_input = parse_json(full_command[full_command.index("--executor_input") + 1])
        environment = dict(env_vars or {}) | mlflow.environment_of(step)
        events.emit("started", step)
        code = start_step(step, full_command, environment, run.logs / f"{step}.log")
        if code == 0 and (missing := _missing_outputs(executor_input)):
            events.emit("failed", step, cause=f"it ended without writing {', '.join(missing)}", remedy="", exit_code=1)
            return 1
        events.emit("finished" if code == 0 else "exited", step, code=code)
        return code

    subprocess_task_handler.run_local_subprocess = run_step
    try:
        from kfp.local import docker_task_handler
    except ImportError:  # the docker package is not installed, so that runner is not used
        return

    def run_container(client: Any, image: str, command: list[str], volumes: Any, **arguments: Any) -> int:
        del client, image, volumes
        return run_step(command, arguments.get("environment"))

    docker_task_handler.run_docker_container = run_container


def check_cache(settings: Settings) -> None:
    """Replace kfp.local's cache by one that takes a step's outputs only if all that the step made is still there.

    `settings` are those by which this process reaches the object store.
    """
    from kfp.local import cache

    class CheckedCache(cache.LocalCache):  # type: ignore[misc]
        def put(self, key: str, outputs: dict[str, Any]) -> None:
            super().put(key, outputs | {_KEY: key})

        @staticmethod
        def _serialize_outputs(outputs: dict[str, Any]) -> dict[str, Any]:
            serialized = {name: CheckedCache._serialize_output(value) for name, value in outputs.items()}
            return serialized | {_FINGERPRINT: fingerprint(serialized, _artifacts(serialized))}

        def get(self, key: str) -> dict[str, Any] | None:
            try:
                entry = parse_json(Path(self._entry_path(key)).read_bytes())
                recorded = entry.pop(_FINGERPRINT)
                usable = is_usable(settings, entry, _artifacts(entry), recorded)
            except (OSError, ValueError, LookupError, TypeError, AttributeError):  # a damaged entry
                return None
            # Another step's result, or one of other parameters, may have got this name. Earlier entries have no key.
            usable = entry.pop(_KEY, key) == key and usable
            return dict(self._deserialize_outputs(entry)) if usable else None

    cache.LocalCache = CheckedCache


def _artifacts(entry: dict[str, Any]) -> list[str]:
    """Return the paths of the artifacts in a cache entry."""
    return [value["uri"] for value in entry.values() if isinstance(value, dict) and value.get("__kfp_artifact__")]


def _missing_outputs(executor_input: dict[str, Any]) -> list[str]:
    """Return the names of a step's declared outputs that do not exist."""
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
    """A handler that emits an event for kfp.local's log line about a cached task; there is no other sign of it."""

    def emit(self, record: logging.LogRecord) -> None:
        if match := _CACHED.match(record.getMessage()):
            events.emit("cached", match[1])
