"""The fake backend: it runs the definition's components in this process, without an engine, containers or a server.

It serves tests of code that uses a backend, and is the lower bound in benchmarks. It gets the steps from the
definition, so a new step needs no change here. Each step's outputs are in a folder named after a digest of its inputs;
these folders are the cache.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from backends import runs
from backends.base import CANCELED, FAILED, SUCCEEDED, Request, Result, StepState, Watch, with_champion
from backends.cached import fingerprint, is_usable
from digits import events
from digits.data import correction_log, sources
from digits.data.catalog import AUTO
from digits.errors import DigitsError, Interrupted, StepFailed
from digits.files import canonical_json, sha256_of, write_json
from digits.provenance import step_digest
from digits.release import deploy, ledger, releases
from digits.serving.slot import LoadedModel, load
from digits.settings import Settings
from digits.store import open_store
from pipeline import STEPS

ENDPOINT = "memory:digits"

Json = dict[str, Any]


class FakeBackend:
    """See `backends.base.Backend`. `served` is the release that the endpoint would serve."""

    name = "fake"

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.served: LoadedModel | None = None

    def check(self) -> None:
        """See Backend. Nothing is needed."""

    def host_settings(self) -> Settings:
        return self.settings

    def endpoint(self) -> str:
        return ENDPOINT if self.served else ""

    def redeploy(self) -> str:
        return self._serve(ledger.champion(open_store(self.settings))) if self.served else ""

    def close(self) -> None:
        """See Backend. Nothing is open."""

    def run(self, request: Request, watch: Watch, *, resume: str = "") -> Result:
        settings, started = self.settings, time.monotonic()
        task, chosen = settings.declaration, request.parameters.get("dataset", AUTO)
        dataset = sources.resolve(task, chosen, settings.data, settings.home / "data")
        sources.check_place(task, dataset, settings.data)
        feedback = correction_log.digest(open_store(settings))
        external = {"dataset": dataset, "store": settings.store, "feedback": feedback}
        run = runs.create(settings.home, self.name, request, resume)
        cache = runs.cache_root(settings.home, run, "fake", request, resume)
        run.update(cache_root=str(cache))
        tasks, state, environment = _Tasks(cache, watch, settings), FAILED, dict(os.environ)
        os.environ |= settings.environ() | {
            events.VARIABLE: str(run.events),
            "DIGITS_DEPLOYER": settings.deployer or "fake",
        }
        deploy.DEPLOYERS["fake"] = lambda *release: self._serve(release[1]["version"])
        watch({"event": "run", "step": "", "time": time.time(), "id": run.id, "folder": str(run.folder)})
        try:
            outputs = tasks.run(request.parameters | external)
            state = SUCCEEDED
        except KeyboardInterrupt:
            state = CANCELED
            raise Interrupted(f"run {run.id} was interrupted", remedy="digits run --resume") from None
        finally:
            run.update(state=state)
            os.environ.clear()
            os.environ.update(environment)
        shutil.copyfile(outputs.pop("report"), run.folder / "report.html")
        outputs = with_champion(outputs, cached=tasks.states["publish"].state == "cached")
        write_json(run.folder / "result.json", outputs)
        mlflow_run = outputs["published"]["mlflow_run"]
        return Result(run.id, state, tasks.states, outputs, mlflow_run, time.monotonic() - started)

    def _serve(self, version: str) -> str:
        """Load a release as the predictor would. Returns the endpoint."""
        if self.served is None or self.served.version != version:
            with tempfile.TemporaryDirectory(prefix="digits-release-") as folder:
                releases.download(open_store(self.settings), version, Path(folder), only="model.onnx")
                self.served = load(Path(folder), self.settings.trusted_keys, version)
        return ENDPOINT


class _Tasks:
    """Runs each task as soon as the definition adds it."""

    def __init__(self, cache: Path, watch: Watch, settings: Settings) -> None:
        self._cache, self._watch, self._settings = cache, watch, settings
        self.states = {name: StepState() for name in STEPS}

    def run(self, parameters: Json) -> Json:
        """Run the definition with these parameters. Returns its outputs."""
        from pipeline import definition

        return dict(definition.define(self._add)(**parameters)._asdict())

    def _add(self, component: Any, *, cached: bool = True, **inputs: Any) -> SimpleNamespace:
        name = component.name
        inputs |= {"code": step_digest(name)}
        folder = self._cache / f"{name}-{sha256_of(canonical_json(inputs))[:16]}"
        record, state = folder / "outputs.json", self.states[name]
        if cached and (outputs := self._recorded(record)):
            self._set(name, "cached")
            return SimpleNamespace(outputs=outputs)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self._set(name, "started")
        started = time.monotonic()
        try:
            outputs = _call(component.python_func, inputs, folder)
        except Exception as exc:
            self._set(name, "failed")
            raise _step_failed(name, exc) from exc
        finally:
            state.seconds = time.monotonic() - started
        outputs = json.loads(json.dumps(outputs))
        write_json(record, [outputs, fingerprint(outputs, _paths(outputs))])
        self._set(name, "finished")
        return SimpleNamespace(outputs=outputs)

    def _recorded(self, record: Path) -> Json:
        """Return the recorded outputs of a task; {} if there are none, or what they stand for is not there."""
        try:
            outputs, recorded = json.loads(record.read_bytes())
            return dict(outputs) if is_usable(self._settings, outputs, _paths(outputs), recorded) else {}
        except (OSError, ValueError, TypeError, AttributeError, RecursionError):  # a damaged record
            return {}

    def _set(self, step: str, event: str) -> None:
        self.states[step].state = {"started": "running", "finished": "done"}.get(event, event)
        self._watch({"event": event, "step": step, "time": time.time()})


def _paths(outputs: Json) -> list[str]:
    """Return the paths among the outputs of a task; the others are dicts."""
    return [value for value in outputs.values() if isinstance(value, str)]


def _call(function: Any, inputs: Json, folder: Path) -> Json:
    """Call a component's function as KFP would, with its artifacts in `folder`. Returns its outputs."""
    artifacts: Json = {}
    values: Json = {}
    for name, kind in function.__annotations__.items():
        if hasattr(kind, "__metadata__"):  # Input[…] or Output[…]
            path = inputs.get(name, str(folder / name))
            values[name] = kind.__origin__(name=name, uri=path)
            artifacts |= {} if name in inputs else {name: path}
        elif name != "return":
            # KFP passes each number of a dict as a double.
            values[name] = json.loads(json.dumps(inputs[name]), parse_int=float) if kind is dict else inputs[name]
    results = function(**values) or ()
    names = getattr(function.__annotations__["return"], "_fields", ())
    return artifacts | dict(zip(names, results, strict=True))


def _step_failed(step: str, exc: Exception) -> StepFailed:
    if not isinstance(exc, DigitsError):
        return StepFailed(step, repr(exc), remedy="digits run --resume")
    error = StepFailed(step, exc.message, remedy=exc.remedy or "digits run --resume")
    error.exit_code = exc.exit_code
    return error
