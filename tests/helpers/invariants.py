"""The conditions that hold after every fault: no data lost, nothing left over, no failure that looks like success."""

from __future__ import annotations

import threading
import time
from typing import Any

import filelock

from backends import runs
from digits.release import ledger, releases, verify
from tests.helpers.world import World

SECONDS = 60.0
MLFLOW = threading.Lock()  # MLflow has one tracking address per process, and two worlds are checked concurrently
HALF_WRITTEN = ("*.part", ".kfp_cache_*", "*.lock.tmp", ".tmp*")


class Invariants:
    """The checks of one world. Create it before the fault, and call its methods afterwards.

    Attributes:
        lost: the number of objects of earlier releases or of the ledger that are missing or changed.
        green: the number of runs that reported success without having succeeded.
    """

    def __init__(self, world: World) -> None:
        self.world, self.lost, self.green = world, 0, 0
        self._content = world.content()

    def failed(self, answer: dict[str, Any], **expected: Any) -> None:
        """Check that the command failed as expected (see `reported`), and that nothing is left over."""
        self.reported(answer, **expected)
        self.tidy()

    def reported(
        self,
        answer: dict[str, Any],
        *,
        names: str,
        remedy: str = "",
        run: runs.Run | None = None,
        state: str = "FAILED",
    ) -> None:
        """Check that the command reports its failure with cause and remedy, and that the run is in `state`.

        Args:
            answer: the object that the command printed with --json.
            names: a part of its message.
            remedy: a part of its remedy, which must not be empty in any case.
            run: the run that failed; None if there must be no new run.
            state: the expected state of the run.
        """
        if "error" not in answer:
            self.green += 1
        assert names.lower() in answer["error"].lower(), answer
        assert remedy.lower() in answer["remedy"].lower(), answer
        assert answer["remedy"], answer
        if run is not None:
            found = run.record()["state"]
            self.green += found == "SUCCEEDED"
            assert found == state, found

    def tidy(self) -> None:
        """Check that a finished program left no process, lock or temporary file, and that no earlier data is lost."""
        self.no_processes()
        for lock in self.world.settings.home.glob("*.lock"):  # the endpoint's, the docker backend's, the cluster's
            with filelock.FileLock(lock, timeout=0):
                continue
        left = self.temporary()
        assert left == [], left
        self.nothing_lost()

    def no_processes(self) -> None:
        """Check that all processes of the home end within SECONDS, except its predictor."""
        deadline = time.monotonic() + SECONDS
        while left := self.world.alive():
            if time.monotonic() > deadline:
                raise AssertionError(f"left: {[(p.pid, p.cmdline()) for p in left]}")
            time.sleep(0.1)

    def temporary(self) -> list[str]:
        """Return the temporary and half-written files that still exist after two seconds."""
        for _ in range(20):
            found = self._temporary()
            if not found:
                return []
            time.sleep(0.1)  # while the predictor loads a release, it is in a temporary folder
        return found

    def _temporary(self) -> list[str]:
        home = self.world.settings.home
        found = [path for pattern in HALF_WRITTEN for path in home.rglob(pattern)]
        found += [run.folder / name for run in runs.all_runs(home) for name in ("tmp", "workspace")]
        found += self.world.temporary.iterdir()
        return [str(path) for path in found if path.exists()]

    def nothing_lost(self) -> None:
        """Check that each object of the earlier releases and of the ledger is unchanged."""
        now = self.world.content()
        changed = [key for key, digest in self._content.items() if now.get(key) != digest]
        self.lost += len(changed)
        assert changed == [], changed
        ledger.entries(self.world.store)  # raises an error if the chain is broken
        champion = ledger.champion(self.world.store)
        assert champion
        assert _whole(self.world, champion)

    def recovered(self, answer: dict[str, Any]) -> None:
        """Check that the next run made the undisturbed run's release, and that it is complete, champion and served."""
        assert answer["state"] == "SUCCEEDED", answer
        if answer["digest"] != self.world.digest:
            self.green += 1
        assert answer["digest"] == self.world.digest, answer
        champions = [entry.version for entry in ledger.entries(self.world.store)]
        assert champions == [self.world.earlier, answer["release"]], champions
        assert answer["champion"] == answer["release"], answer
        assert self.world.newest().record()["state"] == "SUCCEEDED"
        with MLFLOW:
            checks = verify.verify(self.world.direct, self.world.store, answer["release"], answer["endpoint"])
            broken = [(check.name, check.detail) for check in checks if not check.passed]
        assert broken == [], broken
        for run in runs.all_runs(self.world.settings.home):
            assert run.record()["state"] != runs.RUNNING
        self.tidy()


def _whole(world: World, version: str) -> bool:
    """Return whether each file of a release has the digest in its manifest."""
    for name, digest in releases.load(world.store, version)["files"].items():
        world.store.get(releases.release_prefix(world.store, version) + name, sha256=digest)
    return True
