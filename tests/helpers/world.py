"""A home with one undisturbed run, which can be reset to its state just before any of the run's steps.

Its object store has an earlier release, which is the champion. So each run must publish its own release, pass the
gate against the earlier one, and deploy.
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
from digits import homes
from digits.files import sha256_of
from digits.release import ledger, releases
from digits.settings import Settings
from digits.store import ObjectStore, open_store
from pipeline import STEPS
from tests.helpers.faulty_proxy import FaultyProxy
from tests.helpers.homes import BASIC, Home
from tests.helpers.support import another_release, free_port, open_mlflow

RUN = ("run", *BASIC)


@dataclasses.dataclass(frozen=True)
class World(Home):
    """See the module.

    Attributes:
        kept: the folder with the copies that `before` restores.
        direct: settings that reach the store without the proxy, if there is one.
        earlier_objects: the store's objects before a run publishes.
        later_objects: the store's objects after a run has published.
        timeline: when each step began and how long it took, in seconds after the program's start; "end": its end.
        facts: the version of the earlier release, and the digest of the undisturbed run's.
    """

    kept: Path
    direct: Settings
    earlier_objects: dict[str, bytes] = dataclasses.field(default_factory=dict)
    later_objects: dict[str, bytes] = dataclasses.field(default_factory=dict)
    timeline: dict[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def store(self) -> ObjectStore:
        """The object store, without the proxy."""
        return open_store(self.direct)

    @property
    def temporary(self) -> Path:
        """The folder for temporary files of its programs."""
        return self.kept / "tmp"

    @property
    def digest(self) -> str:
        """The digest of the undisturbed run's release."""
        return str(self.facts["digest"])

    @property
    def earlier(self) -> str:
        """The version of the release that is the champion before a run."""
        return str(self.facts["earlier"])

    def make(self) -> World:
        """Run without a fault, and copy the states that tests start from."""
        home = self.settings.home
        homes.claim(home)
        self.temporary.mkdir(parents=True)
        self.environment["TMPDIR"] = str(self.temporary)
        open_mlflow(self.settings)  # creates the database
        shutil.copy2(home / "mlflow.db", self.kept / "earlier.db")
        answer = self._timed(STEPS)
        shutil.copytree(home / "cache", self.kept / "cache")
        earlier = another_release(self.store, answer["release"], seed=4242)["version"]
        for key in reversed(self.store.keys()):
            if not key.startswith(releases.release_prefix(self.store, earlier)):
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
        """Run, and record when these steps began and how long they took."""
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
        """Reset to the state just before `step` began, or to the end of the run if it is ''.

        The predictor continues to run. Up to `publish`, the store has the earlier release only. Without `database`,
        MLflow's database is missing.
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
        for key, content in sorted(objects.items()):  # in the opposite order
            if key not in now or self.store.get(key) != content:
                self.store.put(key, content)

    def cached(self, step: str) -> list[Path]:
        """Return the cache entries of a step."""
        return [path for path in (self.settings.home / "cache").rglob("*.json") if step in _artifacts(path)]

    def artifact(self, step: str, name: str) -> Path:
        """Return the path of a step's artifact in the cache."""
        (entry,) = self.cached(step)
        return Path(json.loads(entry.read_text())[name]["uri"])

    def started(self, steps: Collection[str], process: subprocess.Popen[str], *, runs_before: int = 0) -> str:
        """Wait until the run of `process` has started one of the steps. Return its name; '' if the run ended before."""
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
        """Return the processes of a run's current step and of those that wait for their steps."""
        with contextlib.suppress(psutil.NoSuchProcess):
            return list(psutil.Process(run.record()["engine"]).children(recursive=True))
        return []

    def alive(self) -> list[psutil.Process]:
        """Return the processes of this home, except its predictor's."""
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
        """Return {key: SHA-256} of the releases and the ledger."""
        return {
            key: sha256_of(self.store.get(key))
            for folder in (releases.models_prefix(self.store), ledger.folder(self.store))
            for key in self.store.keys(folder)
        }

    def close(self) -> None:
        """Stop the predictor and kill the remaining processes."""
        predictor.stop_all(self.settings)
        for process in self.alive():
            process.kill()


def _artifacts(entry: Path) -> set[str]:
    """Return the steps whose artifacts a cache entry names."""
    values = json.loads(entry.read_text()).values()
    return {Path(v["uri"]).parts[-2] for v in values if isinstance(v, dict) and v.get("__kfp_artifact__")}


@dataclasses.dataclass(frozen=True)
class Remote:
    """A world whose store is MinIO, and the proxy in front of it."""

    world: World
    proxy: FaultyProxy


def folder_world(folder: Path) -> World:
    """Return a world whose store is a folder; call `make` before its use."""
    settings = Settings(home=folder / "home", port=free_port(), grpc_port=free_port())
    return World(settings, folder / "kept", settings)
