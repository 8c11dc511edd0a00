"""What holds after every fault, checked in one place: nothing lost, nothing left, no success that was none."""

from __future__ import annotations

import threading
import time
from typing import Any

import filelock

from backends import runs
from digits.release import ledger, releases, verify
from tests.helpers.world import World

SECONDS = 60.0
MLFLOW = threading.Lock()  # it has one tracking address for the whole process, and worlds are tried side by side
HALF_WRITTEN = ("*.part", ".kfp_cache_*", "*.lock.tmp", ".tmp*")


class Invariants:
    """Of one world: make it before the fault, ask it after.

    Attributes:
        lost: objects of earlier releases or of the ledger that are gone or changed.
        green: runs that said they had succeeded and had not.
    """

    def __init__(self, world: World) -> None:
        self.world, self.lost, self.green = world, 0, 0
        self._content = world.content()

    def failed(self, answer: dict[str, Any], **expected: Any) -> None:
        """The command failed as it should, see `told`, and nothing is left."""
        self.told(answer, **expected)
        self.tidy()

    def told(
        self,
        answer: dict[str, Any],
        *,
        names: str,
        remedy: str = "",
        run: runs.Run | None = None,
        state: str = "FAILED",
    ) -> None:
        """The command says that it failed: it names its cause and a remedy, and the run is `state`.

        Args:
            answer: what the command answered to --json.
            names: what its message must hold.
            remedy: what its remedy must hold; some remedy is always asked for.
            run: the run that failed; None where there must be no new one.
            state: the run's.
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
        """Nothing is left of a program that has ended: no process, lock or temporary file; nothing earlier is lost."""
        self.no_processes()
        for lock in self.world.settings.home.glob("*.lock"):  # the endpoint's, the docker backend's, the cluster's
            with filelock.FileLock(lock, timeout=0):
                continue
        left = self.temporary()
        assert left == [], left
        self.nothing_lost()

    def no_processes(self) -> None:
        """The processes of the home end (a killed program's within seconds), but for its predictor."""
        deadline = time.monotonic() + SECONDS
        while left := self.world.alive():
            if time.monotonic() > deadline:
                raise AssertionError(f"left: {[(p.pid, p.cmdline()) for p in left]}")
            time.sleep(0.1)

    def temporary(self) -> list[str]:
        """Temporary and half-written files that are still there a moment later."""
        for _ in range(20):
            found = self._temporary()
            if not found:
                return []
            time.sleep(0.1)  # the predictor has a release in a temporary folder while it loads it
        return found

    def _temporary(self) -> list[str]:
        home = self.world.settings.home
        found = [path for pattern in HALF_WRITTEN for path in home.rglob(pattern)]
        found += [run.folder / name for run in runs.all_runs(home) for name in ("tmp", "workspace")]
        found += self.world.temporary.iterdir()
        return [str(path) for path in found if path.exists()]

    def nothing_lost(self) -> None:
        """Each object of the earlier releases and of the ledger is what it was."""
        now = self.world.content()
        changed = [key for key, digest in self._content.items() if now.get(key) != digest]
        self.lost += len(changed)
        assert changed == [], changed
        ledger.entries(self.world.store)  # an unbroken chain
        champion = ledger.champion(self.world.store)
        assert champion
        assert _whole(self.world, champion)

    def recovered(self, answer: dict[str, Any]) -> None:
        """The next run succeeded with the release of an undisturbed one, which is whole, the champion and served."""
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
    """Whether each file of a release is what its manifest says."""
    for name, digest in releases.load(world.store, version)["files"].items():
        world.store.get(releases.release_prefix(version) + name, sha256=digest)
    return True
