"""The shipped fake: the steps by plain calls in this process, without kfp, kserve, containers or a server.

For tests of what stands on a backend, and as the limit in benchmarks: a run cannot cost less than its steps.
Each step's outputs lie in a folder named for its inputs, so that the cache and a resumed run work as elsewhere.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from backends import runs
from backends.base import CANCELED, FAILED, SUCCEEDED, Request, Result, StepState, Watch, with_champion
from digits import events, provenance, steps
from digits.data import catalog, corrections, fetch
from digits.errors import DigitsError, Interrupted, StepFailed
from digits.files import canonical_json, sha256_of, write_json
from digits.release import ledger, mlflow_log, releases
from digits.serving.slot import LoadedModel, load
from digits.settings import Settings
from digits.store import open_store
from pipeline import EXPERIMENT, STEPS

DEFAULTS = {
    "epochs": 3,
    "optimizer": "adam",
    "experiment": EXPERIMENT,
    "preset": "fast",
    "model": "default",
    "batch_size": 0,
    "learning_rate": 0.0,
    "seed": 0,
    "min_accuracy": 0.95,
    "dataset": catalog.AUTO,
}
TRAINING = ("preset", "model", "epochs", "optimizer", "batch_size", "learning_rate", "seed")
ENDPOINT = "memory:digits"

Json = dict[str, Any]


class FakeBackend:
    """See `backends.base.Backend`. `served` is the release that the endpoint would serve."""

    name = "fake"

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.served: LoadedModel | None = None

    def check(self) -> None:
        """Nothing is needed."""

    def host_settings(self) -> Settings:
        """See Backend."""
        return self.settings

    def endpoint(self) -> str:
        """See Backend."""
        return ENDPOINT if self.served else ""

    def redeploy(self) -> str:
        """See Backend."""
        if self.served:
            self._serve()
        return self.endpoint()

    def close(self) -> None:
        """Nothing is open."""

    def run(self, request: Request, watch: Watch, *, resume: str = "") -> Result:
        """See Backend."""
        run = runs.create(self.settings.home, self.name, request, resume)
        cache = runs.cache_root(self.settings.home, run, "fake", request, resume)
        run.update(cache_root=str(cache))
        going = _Run(self, run, cache, watch)
        began, state, status = time.monotonic(), FAILED, mlflow_log.FAILED
        before = dict(os.environ)
        os.environ.update(self.settings.environ() | {events.VARIABLE: str(run.events)})
        os.environ.pop(mlflow_log.RUN_VARIABLE, None)
        watch({"event": "run", "step": "", "time": time.time(), "id": run.id, "folder": str(run.folder)})
        try:
            outputs = going.all_steps(DEFAULTS | request.parameters)
            state, status = SUCCEEDED, mlflow_log.FINISHED
        except KeyboardInterrupt:
            state, status = CANCELED, mlflow_log.KILLED
            raise Interrupted(f"run {run.id} was interrupted", remedy="digits run --resume") from None
        finally:
            run.update(state=state)
            if made := os.environ.get(mlflow_log.RUN_VARIABLE):
                mlflow_log.end_run(self.settings, made, status)
            os.environ.clear()
            os.environ.update(before)
        outputs = with_champion(outputs)
        write_json(run.folder / "result.json", outputs)
        mlflow_run = outputs["published"]["mlflow_run"]
        return Result(run.id, state, going.states, outputs, mlflow_run, time.monotonic() - began)

    def _serve(self) -> str:
        """Load the champion as the predictor would; returns its version, '' where there is none."""
        store = open_store(self.settings)
        version = ledger.champion(store)
        if version and (self.served is None or self.served.version != version):
            folder = Path(tempfile.mkdtemp(prefix="digits-release-"))
            try:
                releases.download(store, version, folder, only="model.onnx")
                self.served = load(folder)
            finally:
                shutil.rmtree(folder, ignore_errors=True)
        return version


class _Run:
    """One run: the wiring of `pipeline.definition`, by hand."""

    def __init__(self, backend: FakeBackend, run: runs.Run, cache: Path, watch: Watch) -> None:
        self._backend, self._run, self._cache, self._watch = backend, run, cache, watch
        self.states = {name: StepState() for name in STEPS}

    def all_steps(self, given: Json) -> Json:
        settings = self._backend.settings
        name = fetch.resolve(given["dataset"], settings.data, settings.home / "data")
        fetch.check_place(name, settings.data)
        corrected = corrections.digest(open_store(settings))
        world = {"code": provenance.digest(), "store": settings.store}
        fetched, at_data = self._step("fetch-mnist", [name], lambda out: steps.fetch_mnist(name, out / "fetched"))
        collected, at_feedback = self._step(
            "collect-feedback", [corrected, world], lambda out: steps.collect_feedback("", out / "corrections")
        )
        digests = {"fetched": fetched["digest"], "feedback": collected["digest"]}
        sets = ("train", "validation", "test")
        prepared, at_sets = self._step(
            "prepare",
            [digests, given["seed"], world],
            lambda out: steps.prepare(
                at_data / "fetched", at_feedback / "corrections", digests, given["seed"], {s: out / s for s in sets}
            ),
        )
        parameters = {key: given[key] for key in TRAINING}
        trained, at_model = self._step(
            "train",
            [prepared, parameters, world],
            lambda out: steps.train(
                {s: at_sets / s for s in sets}, prepared, parameters, out / "model", out / "history"
            ),
        )
        about = steps.about_run(fetched, collected, prepared, trained)

        def evaluate(out: Path) -> Json:
            files = {"evaluation": out / "evaluation", "report": out / "report.html"}
            judged = {"test": prepared["test"], "model": trained["model"]}
            steps.evaluate(at_model / "model", at_sets / "test", judged, at_model / "history", about, files)
            return {}

        _, at_evaluation = self._step("evaluate", [about, world], evaluate)
        if mlflow_log.RUN_VARIABLE not in os.environ and self.states["train"].state == "done":
            tags = {"digits.run": self._run.id, "digits.backend": "fake"}
            made = mlflow_log.start_run(settings, given["experiment"], self._run.id, tags)
            os.environ[mlflow_log.RUN_VARIABLE] = made
        inputs = {"model": at_model / "model", "test": at_sets / "test", "history": at_model / "history"}
        published, at_published = self._step(
            "publish",
            [about, given["experiment"], given["min_accuracy"], world],
            lambda out: steps.publish(
                inputs | {"evaluation": at_evaluation / "evaluation"},
                {"test": prepared["test"], "weights": trained["weights"], "model": trained["model"]},
                given["experiment"],
                given["min_accuracy"],
                "",
                {"report": out / "report.html"},
            ),
        )
        deployed, _ = self._step("deploy", [published["champion"], world], self._deploy)
        shutil.copyfile(at_published / "report.html", self._run.folder / "report.html")
        return {
            "data": fetched,
            "feedback": collected,
            "trained": trained,
            "published": published,
            "deployed": deployed,
        }

    def _deploy(self, out: Path) -> Json:
        del out
        version = self._backend._serve()  # noqa: SLF001 # the two classes are one
        return {"endpoint": self._backend.endpoint(), "version": version}

    def _step(self, name: str, inputs: Any, call: Callable[[Path], Json]) -> tuple[Json, Path]:
        """(what a step says, the folder of its outputs), from the cache if it was done on these inputs before."""
        import json

        folder = self._cache / f"{name}-{sha256_of(canonical_json(inputs))[:16]}"
        done, state = folder / "facts.json", self.states[name]
        if done.exists() and name != "deploy":
            self._tell("cached", name)
            state.state = "cached"
            return json.loads(done.read_text()), folder
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self._tell("started", name)
        state.state, began = "running", time.monotonic()
        try:
            facts = call(folder)
        except Exception as exc:
            state.state = "failed"
            cause, remedy = (exc.message, exc.remedy) if isinstance(exc, DigitsError) else (repr(exc), "")
            self._tell("failed", name)
            failed = StepFailed(name, cause, remedy=remedy or "digits run --resume")
            failed.exit_code = exc.exit_code if isinstance(exc, DigitsError) else 1
            raise failed from exc
        finally:
            state.seconds = time.monotonic() - began
        write_json(done, facts)
        state.state = "done"
        self._tell("finished", name)
        return facts, folder

    def _tell(self, event: Literal["started", "cached", "finished", "failed"], step: str) -> None:
        self._watch({"event": event, "step": step, "time": time.time()})
