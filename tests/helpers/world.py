"""A home in which one undisturbed run was made, and which can be put back to just before any of its steps.

Its object store holds an earlier release, which is the champion, and not the one that the run makes: each run,
disturbed or not, has to publish it, to pass the gate against the earlier one, and to deploy it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
import subprocess
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

import psutil

from backends import runs
from backends.process import predictor
from digits.files import sha256_of
from digits.release import ledger, mlflow_client, releases
from digits.settings import Settings
from digits.store import ObjectStore, open_store
from pipeline import STEPS
from tests.helpers.faulty_proxy import FaultyProxy
from tests.helpers.homes import BASIC, Home
from tests.helpers.support import another_release, free_port

RUN = ("run", *BASIC)


@dataclasses.dataclass(frozen=True)
class World(Home):
    """See above. `kept`: what is put back. `direct`: the settings that reach the store whatever is between."""

    kept: Path
    direct: Settings
    earlier_objects: dict[str, bytes] = dataclasses.field(default_factory=dict)  # the store before a run publishes
    later_objects: dict[str, bytes] = dataclasses.field(default_factory=dict)  # and after it has
    # step: (when it began, how long it took), in seconds from the program's start; "end": when the program ended
    timeline: dict[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def store(self) -> ObjectStore:
        """The object store, reached directly."""
        return open_store(self.direct)

    @property
    def temporary(self) -> Path:
        """The folder that its programs have for temporary files."""
        return self.kept / "tmp"

    @property
    def digest(self) -> str:
        """The digest of the release that the undisturbed run made."""
        return str(self.facts["digest"])

    @property
    def earlier(self) -> str:
        """The version of the release that is the champion before a run."""
        return str(self.facts["earlier"])

    def make(self) -> World:
        """Run undisturbed, and keep what tests start from."""
        home = self.settings.home
        home.mkdir(parents=True, exist_ok=True)
        self.temporary.mkdir(parents=True)
        self.environment["TMPDIR"] = str(self.temporary)
        mlflow_client.check_connection(self.settings)  # creates the database
        shutil.copy2(home / "mlflow.db", self.kept / "earlier.db")
        answer = self._timed(STEPS)
        shutil.copytree(home / "cache", self.kept / "cache")
        earlier = another_release(self.store, answer["release"], seed=4242)["version"]
        for key in reversed(self.store.keys()):
            if not key.startswith(releases.release_prefix(earlier)):
                self.store.delete(key)
        ledger.promote(self.store, earlier, "made before")
        self.earlier_objects.update(self._objects())
        self.facts.update(earlier=earlier, digest=answer["digest"])
        self.before("publish")
        shutil.rmtree(self.kept / "cache")
        self._timed(("publish", "deploy"))
        shutil.copytree(home / "cache", self.kept / "cache")
        shutil.copy2(home / "mlflow.db", self.kept / "later.db")
        shutil.copytree(home / "mlartifacts", self.kept / "mlartifacts")
        self.later_objects.update(self._objects())
        return self

    def _timed(self, steps: tuple[str, ...]) -> dict[str, Any]:
        """Run, and note when those steps began and how long they took."""
        began = time.time()
        answer = self.digits(*RUN)
        self.timeline["end"] = (time.time() - began, 0.0)
        times = {(e["step"], e["event"]): e["time"] for e in self.events(self.newest())}
        for step in steps:
            started, finished = times[step, "started"], times[step, "finished"]
            self.timeline[step] = (started - began, finished - started)
        return answer

    def _objects(self) -> dict[str, bytes]:
        return {key: self.store.get(key) for key in self.store.keys()}  # noqa: SIM118 # a method of ours, not of a dict

    def before(self, step: str = "", *, database: bool = True) -> None:
        """Put all back to just before `step` began, or to the end of the run; without MLflow's database if asked.

        The predictor goes on; until `publish`, the store holds the earlier release alone.
        """
        home = self.settings.home
        for name in ("runs", "cache", "mlartifacts", "mlflow.db", "mlflow.db-journal"):
            gone = home / name
            shutil.rmtree(gone) if gone.is_dir() else gone.unlink(missing_ok=True)
        shutil.copytree(self.kept / "cache", home / "cache")
        for unwanted in STEPS[STEPS.index(step) :] if step else ():
            for path in self.cached(unwanted):
                path.unlink()
        over = step in {"", "deploy"}
        if database:
            shutil.copy2(self.kept / ("later.db" if over else "earlier.db"), home / "mlflow.db")
        if database and over:
            shutil.copytree(self.kept / "mlartifacts", home / "mlartifacts")
        objects, now = self.later_objects if over else self.earlier_objects, set(self.store.keys())
        for key in sorted(now - set(objects), reverse=True):  # the ledger first, its releases last
            self.store.delete(key)
        for key, content in sorted(objects.items()):  # and the other way round
            if key not in now or self.store.get(key) != content:
                self.store.put(key, content)

    def cached(self, step: str) -> list[Path]:
        """The cache's entries of a step."""
        return [path for path in (self.settings.home / "cache").rglob("*.json") if step in _artifacts(path)]

    def artifact(self, step: str, name: str) -> Path:
        """What a step wrote, as the cache names it."""
        (entry,) = self.cached(step)
        return Path(json.loads(entry.read_text())[name]["uri"])

    def started(self, steps: Collection[str], process: subprocess.Popen[str], *, runs_before: int = 0) -> str:
        """Wait until the run of `process` has started one of the steps: its name, '' if the run ended before."""
        found: list[str] = []

        def there() -> bool:
            made = runs.all_runs(self.settings.home)
            if len(made) > runs_before:
                told = [event["step"] for event in self.events(made[-1]) if event["event"] == "started"]
                found[:] = [step for step in told if step in steps]
            return bool(found) or process.poll() is not None

        self.wait_for(there, f"start of {' or '.join(steps)}", every=0.005)
        return found[0] if found else ""

    def steps_processes(self, run: runs.Run) -> list[psutil.Process]:
        """The processes of the step that a run is at: the shell first."""
        with contextlib.suppress(psutil.NoSuchProcess):
            return list(psutil.Process(run.record()["engine"]).children(recursive=True))
        return []

    def alive(self) -> list[psutil.Process]:
        """The processes of this home but for its predictor's."""
        state = predictor.running(self.settings)
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                mine = process.environ().get("DIGITS_HOME") == str(self.settings.home)
                family = {process.pid, *(parent.pid for parent in process.parents())}
                if mine and process.status() != psutil.STATUS_ZOMBIE and not (state and state.pid in family):
                    found.append(process)
        return found

    def content(self) -> dict[str, str]:
        """{key: SHA-256} of the releases and the ledger."""
        return {
            key: sha256_of(self.store.get(key))
            for folder in (releases.MODELS, ledger.LEDGER)
            for key in self.store.keys(folder)
        }

    def close(self) -> None:
        """End the predictor and what is left."""
        predictor.stop(self.settings)
        for process in self.alive():
            process.kill()


def _artifacts(entry: Path) -> set[str]:
    """The steps whose artifacts a cache entry names: its own."""
    values = json.loads(entry.read_text()).values()
    return {Path(v["uri"]).parts[-2] for v in values if isinstance(v, dict) and v.get("__kfp_artifact__")}


@dataclasses.dataclass(frozen=True)
class Remote:
    """A world whose store is MinIO, and the proxy between them."""

    world: World
    proxy: FaultyProxy


def folder_world(folder: Path) -> World:
    """A world whose store is a folder; not made yet."""
    settings = Settings(home=folder / "home", port=free_port(), grpc_port=free_port())
    return World(settings, folder / "kept", settings)
