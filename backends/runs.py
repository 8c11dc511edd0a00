"""The record of each run on this machine: what was asked for, its events and logs, and how it ended.

runs/<id>/run.json        request, state, process ids
runs/<id>/events.jsonl    what happened
runs/<id>/logs/           a file a step, and the engine's
runs/<id>/result.json     the definition's outputs
runs/<id>/report.html
"""

from __future__ import annotations

import datetime
import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from backends.base import FAILED, Request
from digits.errors import MissingError, UsageError
from digits.files import write_json

RUNNING = "RUNNING"


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
        """The content of run.json."""
        found: dict[str, Any] = json.loads((self.folder / "run.json").read_text())
        return found

    def update(self, **changes: Any) -> None:
        """Change fields of run.json."""
        write_json(self.folder / "run.json", self.record() | changes)


def create(home: Path, backend: str, request: Request, resumes: str = "") -> Run:
    """A new run. Ids sort by time, to the microsecond; the random tail keeps those of several programs apart."""
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%d-%H%M%S-%f")
    run = Run(home / "runs" / f"{stamp}-{secrets.token_hex(2)}")
    run.logs.mkdir(parents=True)
    write_json(
        run.folder / "run.json",
        {
            "id": run.id,
            "backend": backend,
            "parameters": request.parameters,
            "use_cache": request.use_cache,
            "resumes": resumes,
            "state": RUNNING,
            "pid": os.getpid(),
            "started": psutil.Process().create_time(),
        },
    )
    return run


def cache_root(home: Path, run: Run, name: str, request: Request, resumes: str) -> Path:
    """Where a run keeps its steps' results: the shared cache `name`, or its own where that is not wanted.

    A resumed run goes on with the cache of the run that it takes up.
    """
    if resumes:
        return Path(find(home, resumes).record()["cache_root"])
    return home / "cache" / name if request.use_cache else run.folder / "cache"


def find(home: Path, run_id: str = "") -> Run:
    """The run of that id, or the newest. Raises MissingError."""
    found = all_runs(home)
    if run_id:
        found = [run for run in found if run.id == run_id]
    if not found:
        raise MissingError(f"no run {run_id}".rstrip() + f" in {home / 'runs'}", remedy="digits run")
    return found[-1]


def all_runs(home: Path) -> list[Run]:
    """All runs, oldest first."""
    return [Run(path.parent) for path in sorted((home / "runs").glob("*/run.json"))]


def to_resume(home: Path, run_id: str = "") -> Run:
    """The run to take up: that of the id, else the newest that did not succeed. Raises UsageError."""
    if run_id:
        return find(home, run_id)
    newest = find(home)
    if newest.record()["state"] == "SUCCEEDED":
        raise UsageError(f"the newest run {newest.id} succeeded; there is nothing to resume", remedy="digits run")
    return newest


def bury_dead(home: Path) -> list[Run]:
    """End what is left of runs whose program is gone (killed, power cut); returns them. They are FAILED."""
    buried = []
    for run in all_runs(home):
        record = run.record()
        if record["state"] != RUNNING or alive(record["pid"], record["started"]):
            continue
        if "engine" in record:
            end_group(record["engine"], record["engine_started"])
        run.update(state=FAILED, why="the program that ran it was killed")
        buried.append(run)
    return buried


def alive(pid: int, started: float) -> bool:
    """Whether the process that had this id when it started is still there."""
    try:
        process = psutil.Process(pid)
        return bool(abs(process.create_time() - started) < 1 and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def end_group(leader: int, started: float, seconds: float = 5) -> None:
    """End the processes of a group that we made: ask, wait, then kill. A reused id is left alone."""
    members = []
    for process in psutil.process_iter():
        try:
            if os.getpgid(process.pid) == leader and process.create_time() >= started - 1:
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
