"""The records of runs: a damaged one affects no other run, and killed runs are cleaned up."""

from __future__ import annotations

import datetime
import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Self
from unittest.mock import Mock

import psutil
import pytest

from backends import runs
from backends.base import Request
from digits import events
from digits.errors import DigitsError, MissingError, UsageError
from digits.files import whole_file
from tests.helpers.support import ROOT


def create(home: Path, state: str = runs.RUNNING) -> runs.Run:
    """Create a run in a state. "killed": it says RUNNING, but the process that held its lock has ended."""
    run = runs.create(home, "process", Request({}))
    if state == "killed":
        assert run.lock is not None
        run.lock.release()
    else:
        run.update(state=state)
    return run


@pytest.mark.parametrize("step", [-3600, 3600])
def test_a_clock_change_does_not_mark_a_live_run_as_dead(
    step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that is set by an hour changes what psutil reports as the start of a process. The run stays alive."""
    run = create(tmp_path)
    create_time = psutil.Process.create_time
    monkeypatch.setattr(psutil.Process, "create_time", lambda self: create_time(self) + step)
    assert runs.reap_dead_runs(tmp_path) == []
    assert run.is_running()


@pytest.mark.parametrize("year", [2099, 9999])
def test_a_run_after_the_clock_was_set_back_is_the_newest(year: int, tmp_path: Path) -> None:
    """The run made last is the one that is shown and resumed, whatever the clock showed when the others were made."""
    (future := tmp_path / "runs" / f"{year}1231-235959-999999-0000").mkdir(parents=True)
    (future / "run.json").write_text('{"state": "SUCCEEDED", "parameters": {}, "pid": 1}')
    made = [create(tmp_path, "FAILED").id for _ in range(3)]
    assert [run.id for run in runs.all_runs(tmp_path)] == [future.name, *made]
    assert runs.to_resume(tmp_path).id == made[-1]


def test_a_clock_that_was_never_set_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run is refused before it begins if the clock shows 1970, because the model could not be saved."""

    class Unset(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> Self:
            return cls(1970, 1, 1, tzinfo=tz)

    monkeypatch.setattr(datetime, "datetime", Unset)
    with pytest.raises(DigitsError, match="the clock shows 1970-01-01"):
        create(tmp_path)
    assert not (tmp_path / "runs").exists()


RUNS = """
import pathlib, sys
from backends import runs
from backends.base import Request
run = runs.create(pathlib.Path(sys.argv[1]), "process", Request({}))
print(run.id, flush=True)
sys.stdin.read()
"""


def test_a_run_lives_as_long_as_its_process(tmp_path: Path) -> None:
    """A run of another process is running until that process is killed; then the next program marks it FAILED."""
    command = [sys.executable, "-c", RUNS, str(tmp_path)]
    program = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT)
    assert program.stdout is not None
    run = runs.find(tmp_path, program.stdout.readline().decode().strip())
    assert run.is_running()
    assert runs.reap_dead_runs(tmp_path) == []
    program.kill()
    program.communicate()
    assert not run.is_running()
    assert runs.reap_dead_runs(tmp_path) == [run]
    assert run.record()["state"] == "FAILED"


def test_the_processes_of_a_killed_run_are_ended(tmp_path: Path) -> None:
    """Processes that were started with the run's file of events end; those of another run do not."""
    dead, live = create(tmp_path, "killed"), create(tmp_path)
    steps = [
        subprocess.Popen(
            [sys.executable, "-c", "input()"],
            stdin=subprocess.PIPE,
            env=os.environ | {events.VARIABLE: str(run.events)},
        )
        for run in (dead, live)
    ]
    runs.reap_dead_runs(tmp_path)
    assert [step.poll() is None for step in steps] == [False, True]
    steps[1].communicate()


OTHER_TYPES = b'{"state": "FAILED", "parameters": [], "pid": 1, "backend": "process"}'


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\x80", b'{"state": "RUNNING"}', b"[" * 60_000, OTHER_TYPES])
def test_a_damaged_record_affects_no_other_run(content: bytes, tmp_path: Path) -> None:
    """A run with a damaged record has the state DAMAGED, is not reaped, and cannot be resumed."""
    run = create(tmp_path, "killed")
    (run.folder / "run.json").write_bytes(content)
    assert run.record() == {"state": runs.DAMAGED}
    assert runs.reap_dead_runs(tmp_path) == []
    for run_id in ("", run.id):
        with pytest.raises(UsageError, match="is damaged"):
            runs.to_resume(tmp_path, run_id)


def test_a_pipe_in_the_place_of_a_run_or_its_record_is_not_waited_for(tmp_path: Path) -> None:
    """Opening a named pipe waits for a writer; its run is as damaged as one with any other content."""
    run = create(tmp_path, runs.FAILED)
    (run.folder / "run.json").unlink()
    os.mkfifo(run.folder / "run.json")
    os.mkfifo(run.folder.parent / "20260101-000000-000000-abcd")
    assert run.record() == {"state": runs.DAMAGED}
    assert runs.reap_dead_runs(tmp_path) == []


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        (["SUCCEEDED", "FAILED"], 1),
        (["FAILED", "CANCELED"], 1),
        (["FAILED", runs.RUNNING], 0),
        (["SUCCEEDED", "killed"], 1),
        (["FAILED", "SUCCEEDED"], "the last run .* succeeded"),
        (["SUCCEEDED", runs.RUNNING], "the last run .* succeeded"),
        ([runs.RUNNING], "is still running"),
    ],
)
def test_the_last_ended_run_is_resumed(states: list[str], expected: int | str, tmp_path: Path) -> None:
    """The last run that has ended is resumed unless it succeeded; a running one is skipped."""
    created = [create(tmp_path, state) for state in states]
    if isinstance(expected, int):
        assert runs.to_resume(tmp_path) == created[expected]
    else:
        with pytest.raises(UsageError, match=expected):
            runs.to_resume(tmp_path)


def test_a_run_is_resumed_by_its_id_unless_it_is_running(tmp_path: Path) -> None:
    """Any run that has ended can be named; a running one is refused."""
    failed, live = create(tmp_path, "FAILED"), create(tmp_path)
    create(tmp_path, "SUCCEEDED")
    assert runs.to_resume(tmp_path, failed.id) == failed
    with pytest.raises(UsageError, match=f"run {live.id} is still running"):
        runs.to_resume(tmp_path, live.id)


def test_a_run_that_died_before_it_recorded_its_cache_is_resumed(tmp_path: Path) -> None:
    """No step of it has run, so the resumed run uses the shared cache."""
    run = create(tmp_path)
    after = runs.create(tmp_path, "process", Request({}), run.id)
    assert runs.cache_root(tmp_path, after, "pipeline", Request({}), run.id) == tmp_path / "cache" / "pipeline"


def test_a_run_of_a_copied_home_does_not_use_the_cache_of_the_original(tmp_path: Path) -> None:
    """The record names the cache within the home, so that a copy or a restored backup writes to its own."""
    run = create(tmp_path / "original", "FAILED")
    run.update(cache_root="cache/pipeline")
    shutil.copytree(tmp_path / "original", copy := tmp_path / "copy")
    assert runs.cache_root(copy, run, "pipeline", Request({}), run.id) == copy / "cache" / "pipeline"


def test_temporary_files_of_a_killed_run_are_removed(tmp_path: Path) -> None:
    """Unlocked temporary files and the run's own go when it is reaped; whole files and files being written stay."""
    run = create(tmp_path, "killed")
    whole = tmp_path / "store" / "models" / "a"
    removed = [
        tmp_path / name
        for name in (
            "store/models/.a.00000002.part",
            "data/mnist/.t10k-images.00000003.part",
            "pipeline/x/.c.00000004.part",
            "cache/p/.kfp_cache_1.tmp",
            ".mlflow.db.00000001.part",
            ".mlflow.db.00000001.part-journal",
        )
    ]
    for path in [whole, *removed, run.folder / "tmp" / "x", run.folder / "workspace" / "y"]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("half")
    with whole_file(tmp_path / "store" / "models" / "b") as written:
        assert runs.reap_dead_runs(tmp_path) == [run]
        assert Path(written.name).exists()
    assert whole.exists()
    assert not any(path.exists() for path in removed)
    assert sorted(path.name for path in run.folder.iterdir()) == ["lock", "logs", "run.json"]


def test_only_folders_of_runs_are_removed(tmp_path: Path) -> None:
    """A folder of another name in `runs` is not removed, nor is a file that only looks like a temporary one."""
    kept = [tmp_path / "runs" / "my notes" / "file", tmp_path / "cache" / ".mine.part"]
    for file in kept:
        file.parent.mkdir(parents=True)
        file.touch()
    create(tmp_path, runs.FAILED)
    runs.reap_dead_runs(tmp_path)
    assert all(file.exists() for file in kept)


def test_a_run_killed_before_its_record_leaves_nothing(tmp_path: Path) -> None:
    """A folder without a record is not a run; the next clean-up removes it."""
    folder = tmp_path / "runs" / "20260101-000000-000000-abcd"
    (folder / "logs").mkdir(parents=True)
    (folder / "lock").touch()
    assert runs.all_runs(tmp_path) == []
    runs.reap_dead_runs(tmp_path)
    assert not folder.exists()


def test_a_run_whose_record_cannot_be_written_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a full disk no run is created, and no files remain."""
    monkeypatch.setattr(os, "fsync", Mock(side_effect=OSError(errno.ENOSPC, "No space left on device")))
    with pytest.raises(MissingError, match="No space left"):
        create(tmp_path)
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_run_killed_while_it_changed_its_record_leaves_nothing(tmp_path: Path) -> None:
    """The temporary record of a killed run is removed; the whole one is marked FAILED."""
    run = create(tmp_path, "killed")
    half = run.folder / ".run.json.0123abcd.part"
    half.write_text("{")
    runs.reap_dead_runs(tmp_path)
    assert not half.exists()
    assert run.record()["state"] == "FAILED"


WRITES = """
import pathlib, sys
from digits.files import whole_file
with whole_file(pathlib.Path(sys.argv[1])) as file:
    file.write(b"half")
    file.flush()
    print("half", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("name", ["store/promotions/digits/1.json", "data/mnist/t10k-images", "mlflow.db"])
@pytest.mark.parametrize("killed", [False, True])
def test_the_end_of_a_run_removes_no_file_of_a_live_program(name: str, killed: bool, tmp_path: Path) -> None:
    """A file that another program is writing when a run ends becomes whole; that of a killed program is removed."""
    run = create(tmp_path)
    path = tmp_path / name
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITES, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    )
    assert writer.stdout is not None
    assert writer.stdout.readline() == b"half\n"
    if killed:
        writer.kill()
        writer.communicate()
    runs.remove_temporary_files(tmp_path, run)
    assert len(list(path.parent.glob(".*.part"))) == (not killed)
    writer.communicate()
    assert path.is_file() is not killed


def test_files_of_a_run_that_continues_are_kept(tmp_path: Path) -> None:
    """While another run lives, temporary files that are locked stay, and so do those of kfp.local, which locks none."""
    live, dead = create(tmp_path), create(tmp_path, "killed")
    cached = tmp_path / "cache" / "pipeline" / ".kfp_cache_1.tmp"
    cached.parent.mkdir(parents=True)
    cached.write_text("half")
    with whole_file(tmp_path / "pipeline" / "a") as written:
        runs.reap_dead_runs(tmp_path)
        assert Path(written.name).exists()
    assert live.is_running()
    assert cached.exists()
    live.update(state="SUCCEEDED")
    runs.remove_temporary_files(tmp_path, dead)
    assert not cached.exists()


def test_a_truncated_event_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk cuts a line; the events before and after it are read."""
    monkeypatch.setenv(events.VARIABLE, str(tmp_path / "events"))
    events.emit("started", "train")
    with (tmp_path / "events").open("a") as file:
        file.write('{"event": "progr\n[1]\n')
    events.emit("finished", "train")
    assert [event["event"] for event in events.EventLog(tmp_path / "events").read_new()] == ["started", "finished"]
