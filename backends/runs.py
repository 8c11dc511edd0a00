"""The record of each run on this machine: what was asked for, its events and logs, and how it ended.

runs/<id>/run.json        request, state, process ids
runs/<id>/events.jsonl    what happened
runs/<id>/logs/           a file a step, and the engine's
runs/<id>/result.json     the definition's outputs
runs/<id>/report.html
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import secrets
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from backends.base import FAILED, SUCCEEDED, Request
from digits.errors import MissingError, UsageError
from digits.files import cannot_write, write_json, writer_of

RUNNING = "RUNNING"
DAMAGED = "DAMAGED"  # its record cannot be read
LISTED = 5  # runs, where one that is not known was asked for

# Where runs write, alone or as other programs do too, and the names that files have until they are whole.
OURS, SHARED = ("pipeline", "cache"), ("data", "store/models", "store/promotions")
HALF_WRITTEN = ("*.part", "*.part-journal")
CACHE_HALF_WRITTEN = ".kfp_cache_*.tmp"  # kfp.local's


@dataclass(frozen=True)
class Run:
    """A run's folder."""

    folder: Path

    @property
    def id(self) -> str:
        """The run's id, its folder's name; sorts by time."""
        return self.folder.name

    @property
    def events(self) -> Path:
        """The file of events."""
        return self.folder / "events.jsonl"

    @property
    def logs(self) -> Path:
        """The folder of logs."""
        return self.folder / "logs"

    def record(self) -> dict[str, Any]:
        """The content of run.json; of one that cannot be read, the state DAMAGED alone: other runs go on."""
        try:
            found = json.loads((self.folder / "run.json").read_text())
            found["state"], found["parameters"], found["pid"], found["started"]
        except (OSError, ValueError, KeyError, TypeError):
            return {"state": DAMAGED}
        return dict(found)

    def update(self, **changes: Any) -> None:
        """Change fields of run.json."""
        write_json(self.folder / "run.json", self.record() | changes)


def create(home: Path, backend: str, request: Request, resumes: str = "") -> Run:
    """A new run. Ids sort by time, to the microsecond; the random tail keeps those of several programs apart.

    Raises DigitsError if the file system refuses.
    """
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%d-%H%M%S-%f")
    run = Run(home / "runs" / f"{stamp}-{secrets.token_hex(2)}")
    # There is no run without a record: of a program killed before that, `bury_dead` knows the folder by its process id.
    part = run.folder.with_name(f".{run.id}.{os.getpid()}.part")
    try:
        (part / "logs").mkdir(parents=True)
        write_json(
            part / "run.json",
            {
                "id": run.id,
                "backend": backend,
                "parameters": request.parameters,
                "use_cache": request.use_cache,
                "resumes": resumes,
                "state": RUNNING,
                "began": time.time(),
                "pid": os.getpid(),
                "started": started_at(os.getpid()),
            },
        )
        part.rename(run.folder)
    except OSError as exc:
        raise cannot_write(run.folder, exc) from exc
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return run


def cache_root(home: Path, run: Run, name: str, request: Request, resumes: str) -> Path:
    """Where a run keeps its steps' results: the shared cache `name`, or its own where that is not wanted.

    A resumed run goes on with the cache of the run that it takes up.
    """
    # One that was killed before it could note its cache has nothing in it.
    if resumes and (noted := find(home, resumes).record().get("cache_root")):
        return Path(noted)
    return home / "cache" / name if request.use_cache else run.folder / "cache"


def find(home: Path, run_id: str = "") -> Run:
    """The run of that id, or the newest. Raises MissingError."""
    known = all_runs(home)
    found = [run for run in known if run_id in {"", run.id}]
    if found:
        return found[-1]
    if not known:
        raise MissingError(f"no run {run_id}".rstrip() + f" in {home / 'runs'}", remedy="digits run")
    last = ", ".join(run.id for run in known[-LISTED:])
    raise MissingError(
        f"no run {run_id} in {home / 'runs'}; the last of {len(known)}: {last}",
        remedy="give one of those, or none for the newest",
    )


def all_runs(home: Path) -> list[Run]:
    """All runs, oldest first."""
    return [Run(path.parent) for path in sorted((home / "runs").glob("[!.]*/run.json"))]


def to_resume(home: Path, run_id: str = "") -> Run:
    """The run to take up: that of the id, else the last one that is over, if it failed or was canceled.

    If that one succeeded, whatever failed before it has been made good, or was given up.

    Raises:
        MissingError: there is no such run.
        UsageError: it goes on, it succeeded though no id was given, or its record is damaged.
    """
    over = [run for run in all_runs(home) if not _goes_on(run)]
    found = over[-1] if over and not run_id else find(home, run_id)
    if _goes_on(found):
        raise UsageError(f"run {found.id} is going on", remedy="wait for it, or interrupt it (Ctrl-C) where it runs")
    state = found.record()["state"]
    if state == DAMAGED:
        raise UsageError(
            f"the record {found.folder / 'run.json'} is damaged, so that run cannot be taken up", remedy="digits run"
        )
    if not run_id and state == SUCCEEDED:
        raise UsageError(
            f"the last run {found.id} succeeded; there is nothing to resume",
            remedy="digits run; or digits run --resume RUN, for one that failed before it",
        )
    return found


def _goes_on(run: Run) -> bool:
    """Whether a run's program is still there; the record of one that was killed says RUNNING too."""
    record = run.record()
    return bool(record["state"] == RUNNING and alive(record["pid"], record["started"]))


def bury_dead(home: Path) -> list[Run]:
    """End what is left of runs whose program is gone (killed, power cut); returns them. They are FAILED."""
    buried = []
    for part in (home / "runs").glob(".*.part"):
        maker = part.name.split(".")[-2]
        if maker.isdecimal() and not psutil.pid_exists(int(maker)):
            shutil.rmtree(part, ignore_errors=True)
    for run in all_runs(home):
        record = run.record()
        if record["state"] != RUNNING or _goes_on(run):
            continue
        if "engine" in record:
            end_group(record["engine"], record["engine_started"])
        run.update(state=FAILED, why="the program that ran it was killed")
        tidy(home, run)
        buried.append(run)
    return buried


def tidy(home: Path, run: Run) -> None:
    """Remove the temporary and half-written files of a run whose processes have ended."""
    for name in ("tmp", "workspace"):
        shutil.rmtree(run.folder / name, ignore_errors=True)
    # Also of what lies where a promotion, a prediction or another run may be writing just now, the name says by whom.
    beside = [path for folder in (home, run.folder) for pattern in HALF_WRITTEN for path in folder.glob(pattern)]
    shared = [path for place in SHARED for pattern in HALF_WRITTEN for path in (home / place).rglob(pattern)]
    for part in [*beside, *shared]:
        if _given_up(part, run):
            _remove(part)
    if any(other.id != run.id and other.record()["state"] == RUNNING for other in all_runs(home)):
        return  # what that one writes just now looks the same
    record = run.record()
    began = record.get("began", record.get("started", 0.0))  # an earlier version noted only when its process started
    for pattern in (*HALF_WRITTEN, CACHE_HALF_WRITTEN):
        for part in [path for place in OURS for path in (home / place).rglob(pattern)]:
            with contextlib.suppress(OSError):
                if part.stat().st_mtime >= began - 1:
                    _remove(part)


def _given_up(part: Path, run: Run) -> bool:
    """Whether nobody goes on writing a half-written file: it is of this run, which has ended, or of a dead process.

    Engine and steps write under the run's id. A step in a container knows only its own process id, which outside is
    another process's: by that, its files would stay for as long as that one lives, or go while it still writes.
    Where a dead writer's id is another process's by now, the file stays until the next run has ended.
    """
    writer = writer_of(part)
    return writer == run.id or (writer.isdecimal() and not psutil.pid_exists(int(writer)))


def _remove(part: Path) -> None:
    with contextlib.suppress(OSError):
        shutil.rmtree(part) if part.is_dir() else part.unlink()


def started_at(pid: int) -> float:
    """The moment that tells a process from another one of the same id. Raises psutil.NoSuchProcess.

    On Linux seconds after boot: there create_time() moves with the clock when that is set.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return float(psutil.Process(pid).create_time())
    return int(stat.rpartition(b")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")


def alive(pid: int, started: float) -> bool:
    """Whether the process that had this id when it started is still there."""
    try:
        return _same(pid, started) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _same(pid: int, started: float) -> bool:
    # An earlier version noted create_time().
    return started_at(pid) == started or abs(psutil.Process(pid).create_time() - started) < 1


def end_group(leader: int, started: float, seconds: float = 5) -> None:
    """End the processes of a group that we made: ask, wait, then kill. A reused id is left alone."""
    with contextlib.suppress(psutil.NoSuchProcess):  # its members may outlive the leader
        if not _same(leader, started):
            return
    members = []
    for process in psutil.process_iter():
        try:
            if os.getpgid(process.pid) == leader:
                members.append(process)
        except (psutil.Error, OSError):
            continue
    for process in members:
        _signal(process, "terminate")
    _, left = psutil.wait_procs(members, timeout=seconds)
    for process in left:
        _signal(process, "kill")
    psutil.wait_procs(left, timeout=seconds)


def end_children(pid: int, seconds: float = 5) -> None:
    """End all descendants of a process: kill, and wait until they are gone."""
    try:
        children = psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return
    for process in children:
        _signal(process, "kill")
    psutil.wait_procs(children, timeout=seconds)


def _signal(process: psutil.Process, how: str) -> None:
    try:
        getattr(process, how)()
    except psutil.Error:
        return
