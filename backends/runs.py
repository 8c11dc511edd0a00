"""The record of each run on this machine: the request, its events and logs, and how it ended.

runs/<id>/run.json        request, state, process ids
runs/<id>/lock            held by the process that runs it, until that process ends
runs/<id>/events.jsonl    the events
runs/<id>/logs/           a file for each step, and the engine's
runs/<id>/result.json     the outputs of the definition
runs/<id>/report.html
runs/<id>/tmp, workspace  temporary files, removed at the end of the run
"""

from __future__ import annotations

import datetime
import os
import secrets
import shutil
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from backends import processes
from backends.base import FAILED, SUCCEEDED, Request
from backends.locks import is_held, locked
from digits import events
from digits.errors import DigitsError, MissingError, UsageError
from digits.files import PARTS, cannot_write, parse_json, read_own, remove_abandoned, write_json

RUNNING = "RUNNING"
DAMAGED = "DAMAGED"  # its record cannot be read
MAX_LISTED = 5  # runs, in the error for a run that does not exist
LOCK_SECONDS = 60.0

# Folders in DIGITS_HOME in which runs write, in addition to their own.
WRITTEN = ("pipeline", "cache", "data", "store")
_ID = f"{'[0-9]' * 8}-{'[0-9]' * 6}-{'[0-9]' * 6}-{'[0-9a-f]' * 4}"  # of a run, as `create` makes it
CACHE_PARTS = ".kfp_cache_*.tmp"  # temporary files of kfp.local, which it does not lock


@dataclass(frozen=True)
class Run:
    """A run's folder. The object that `create` returned holds the run's lock."""

    folder: Path
    lock: FileLock | None = field(default=None, compare=False, repr=False)

    @property
    def id(self) -> str:
        """Return the run's id, the name of its folder. Ids sort by time."""
        return self.folder.name

    @property
    def events(self) -> Path:
        """Return the file of events."""
        return self.folder / "events.jsonl"

    @property
    def logs(self) -> Path:
        """Return the folder of logs."""
        return self.folder / "logs"

    def record(self) -> dict[str, Any]:
        """Return the content of run.json; only {"state": DAMAGED} if it cannot be read, so that other runs work."""
        try:
            content = parse_json(read_own(self.folder / "run.json"))
            content["state"], content["pid"]
            if not (isinstance(content["parameters"], dict) and isinstance(content["backend"], str)):
                raise TypeError("expected what `create` wrote")
        except (OSError, ValueError, KeyError, TypeError):
            return {"state": DAMAGED}
        return dict(content)

    def update(self, **changes: Any) -> None:
        """Change fields of run.json. Raises DigitsError if the file system refuses."""
        write_json(self.folder / "run.json", self.record() | changes)

    def is_running(self) -> bool:
        """Return whether the process of this run lives. The record of a killed run has the state RUNNING too."""
        return is_held(self.folder / "lock") and self.record()["state"] == RUNNING


def create(home: Path, backend: str, request: Request, resumes: str = "") -> Run:
    """Create a run. It counts as running while the returned object exists and its record has the state RUNNING.

    Raises:
        DigitsError: the file system refused, or the clock shows a year before 1980.
    """
    with changing(home):
        folder = home / "runs" / f"{_stamp(home)}-{secrets.token_hex(2)}"
        lock = FileLock(folder / "lock", thread_local=False)
        run = Run(folder, lock)
        record = {
            "id": run.id,
            "backend": backend,
            "parameters": request.parameters,
            "use_cache": request.use_cache,
            "resumes": resumes,
            "state": RUNNING,
            "pid": os.getpid(),
        }
        try:
            run.logs.mkdir(parents=True)
            lock.acquire(timeout=0)
            write_json(folder / "run.json", record)
        except BaseException as exc:
            discard(run)
            if isinstance(exc, OSError):
                raise cannot_write(folder, exc) from exc
            raise
    return run


def _stamp(home: Path) -> str:
    """Return the time for the id of a new run: now, or what follows the newest run's if the clock was set back."""
    now = datetime.datetime.now(datetime.UTC)
    if now.year < 1980:
        raise DigitsError(f"the clock shows {now:%Y-%m-%d}; ZIP files have no such dates", remedy="set the clock")
    stamp = now.strftime("%Y%m%d-%H%M%S-%f")
    newest = max((path.name[:-5] for path in (home / "runs").glob(_ID)), default="")
    if stamp <= newest:  # counted as one number, because the newest may be of the last microsecond of the year 9999
        digits = f"{int(newest.replace('-', '')) + 1:020d}"
        stamp = f"{digits[:8]}-{digits[8:14]}-{digits[14:]}"
    return stamp


def hold(run: Run) -> Run:
    """Record that a run is watched by this process, so that `digits clean` keeps it, unless another process has it.

    Return the run; it holds the lock if this process has it.
    """
    lock = FileLock(run.folder / "lock", thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return run
    run.update(state=RUNNING, pid=os.getpid())
    return Run(run.folder, lock)


def discard(run: Run) -> None:
    """Remove a run that `create` returned and that cannot begin."""
    if run.lock:
        run.lock.release()
    shutil.rmtree(run.folder, ignore_errors=True)


def cache_root(home: Path, run: Run, name: str, request: Request, resumes: str) -> Path:
    """Return the folder for the results of a run's steps: the shared cache `name`, or with --no-cache its own folder.

    A resumed run uses the cache of the run that it continues.
    """
    # A run that was killed before it recorded its cache has nothing in it.
    if resumes and (recorded := find(home, resumes).record().get("cache_root")):
        return home / str(recorded)
    return home / "cache" / name if request.use_cache else run.folder / "cache"


def find(home: Path, run_id: str = "") -> Run:
    """Return the run of that id, or the newest. Raises MissingError if there is none."""
    known = all_runs(home)
    matches = [run for run in known if run_id in {"", run.id}]
    if matches:
        return matches[-1]
    if not known:
        raise MissingError(f"no run {run_id}".rstrip() + f" in {home / 'runs'}", remedy="digits run")
    last = ", ".join(run.id for run in known[-MAX_LISTED:])
    raise MissingError(
        f"no run {run_id} in {home / 'runs'}; the last of {len(known)}: {last}",
        remedy="give one of those, or none for the newest",
    )


def all_runs(home: Path) -> list[Run]:
    """Return all runs, oldest first."""
    return [Run(path.parent) for path in sorted((home / "runs").glob("*/run.json"))]


def to_resume(home: Path, run_id: str = "") -> Run:
    """Return the run with the id `run_id`; if that is '', the last run that has ended, unless it succeeded.

    Raises:
        MissingError: there is no such run.
        UsageError: it is still running, its record is damaged, or no id was given and the last run succeeded.
    """
    ended = [run for run in all_runs(home) if not run.is_running()]
    run = ended[-1] if ended and not run_id else find(home, run_id)
    record = run.record()
    if run.is_running():
        raise UsageError(
            f"run {run.id} is still running (process {record['pid']})",
            remedy="wait for it, or interrupt it (Ctrl-C) where it runs",
        )
    if record["state"] == DAMAGED:
        raise UsageError(
            f"the record {run.folder / 'run.json'} is damaged, so the run cannot be resumed", remedy="digits run"
        )
    if not run_id and record["state"] == SUCCEEDED:
        raise UsageError(
            f"the last run {run.id} succeeded; there is nothing to resume",
            remedy="digits run; or digits run --resume RUN, for one that failed before it",
        )
    return run


def reap_dead_runs(home: Path) -> list[Run]:
    """Clean up runs whose process died (killed, power cut), and mark them FAILED. Returns them."""
    dead = []
    with changing(home):
        for folder in (home / "runs").glob(_ID):
            # Its program was killed in `create`. What is no folder is not ours; rmtree would wait for a pipe's writer.
            if folder.is_dir() and not (folder / "run.json").exists():
                shutil.rmtree(folder, ignore_errors=True)
        for run in all_runs(home):
            if run.record()["state"] != RUNNING or run.is_running():
                continue
            processes.end_with_variable(events.VARIABLE, str(run.events))
            run.update(state=FAILED, why="the program that ran it was killed")
            remove_temporary_files(home, run)
            dead.append(run)
    return dead


def remove_temporary_files(home: Path, run: Run) -> None:
    """Remove the temporary files of a run whose processes have ended, and those of other programs that were killed."""
    for name in ("tmp", "workspace"):
        shutil.rmtree(run.folder / name, ignore_errors=True)
    folders = [run.folder, *(home / name for name in WRITTEN)]
    remove_abandoned([*home.glob(PARTS), *(part for folder in folders for part in folder.rglob(PARTS))])
    if not any(other.id != run.id and other.is_running() for other in all_runs(home)):
        for folder in folders:
            for part in folder.rglob(CACHE_PARTS):
                part.unlink(missing_ok=True)


def changing(home: Path) -> AbstractContextManager[None]:
    """Return a lock for creating, reaping and removing runs, so that a run that is being created is not removed."""
    return locked(home / "runs.lock", LOCK_SECONDS, "create or clean up a run")
