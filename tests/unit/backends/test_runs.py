"""The records of runs: one that is damaged is nobody else's trouble, and the dead leave nothing."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import psutil
import pytest

from backends import runs
from backends.base import Request
from digits import events
from digits.errors import MissingError, UsageError
from digits.files import part_of
from tests.helpers.support import ROOT


def dead() -> dict[str, object]:
    """The record's entries of a program that has ended."""
    program = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    started = psutil.Process(program.pid).create_time()
    program.communicate()
    return {"pid": program.pid, "started": started}


@pytest.fixture
def group() -> Iterator[subprocess.Popen[bytes]]:
    """A process that leads a group of its own, and waits."""
    program = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True)
    yield program
    program.communicate()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system itself notes when a process started")
@pytest.mark.parametrize("step", [-3600, 3600])
def test_a_clock_that_is_set_buries_nobody(
    step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, group: subprocess.Popen[bytes]
) -> None:
    """Set by an hour, which moves what psutil says of a start: a run goes on, and what is its own can be ended."""
    run = runs.create(tmp_path, "process", Request({}))
    create_time = psutil.Process.create_time
    monkeypatch.setattr(psutil.Process, "create_time", lambda self: create_time(self) + step)
    assert runs.bury_dead(tmp_path) == []
    assert run.record()["state"] == runs.RUNNING
    started = runs.started_at(group.pid)
    monkeypatch.undo()
    runs.end_group(group.pid, started)
    assert not psutil.pid_exists(group.pid)


def test_an_id_that_is_another_processs_by_now_is_left_alone(group: subprocess.Popen[bytes]) -> None:
    """A process that started at another moment than the recorded one is neither alive nor ended."""
    now = runs.started_at(group.pid)
    assert runs.alive(group.pid, now)
    assert not runs.alive(group.pid, now - 5)
    runs.end_group(group.pid, now - 5)
    assert group.poll() is None


def test_a_record_of_an_earlier_version_is_read(group: subprocess.Popen[bytes]) -> None:
    """Its moments are the clock's; they still tell whether a process is there, and end its group."""
    started = psutil.Process(group.pid).create_time()
    assert runs.alive(group.pid, started + 0.5)
    assert not runs.alive(group.pid, started + 5)
    runs.end_group(group.pid, started)
    assert not psutil.pid_exists(group.pid)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\x80", b'{"state": "RUNNING"}'])
def test_a_damaged_record_stops_nobody(content: bytes, tmp_path: Path) -> None:
    """It is listed as damaged, buried with nobody, and cannot be taken up."""
    run = runs.create(tmp_path, "process", Request({}))
    (run.folder / "run.json").write_bytes(content)
    assert run.record() == {"state": runs.DAMAGED}
    assert runs.bury_dead(tmp_path) == []
    for asked in ("", run.id):
        with pytest.raises(UsageError, match="is damaged"):
            runs.to_resume(tmp_path, asked)


@pytest.mark.parametrize(
    ("states", "taken"),
    [
        (["SUCCEEDED", "FAILED"], 1),
        (["FAILED", "CANCELED"], 1),
        (["FAILED", runs.RUNNING], 0),
        (["SUCCEEDED", "killed"], 1),
        (["FAILED", "SUCCEEDED"], "the last run .* succeeded"),
        (["SUCCEEDED", runs.RUNNING], "the last run .* succeeded"),
        ([runs.RUNNING], "is going on"),
    ],
)
def test_the_last_run_that_is_over_is_taken_up(states: list[str], taken: int | str, tmp_path: Path) -> None:
    """It is, if it did not succeed; one that goes on is neither taken up nor in the way."""
    made = [runs.create(tmp_path, "process", Request({})) for _ in states]
    for run, state in zip(made, states, strict=True):
        run.update(**(dead() if state == "killed" else {"state": state}))
    if isinstance(taken, int):
        assert runs.to_resume(tmp_path) == made[taken]
    else:
        with pytest.raises(UsageError, match=taken):
            runs.to_resume(tmp_path)


def test_a_run_is_taken_up_by_its_id_unless_it_goes_on(tmp_path: Path) -> None:
    """Any run that is over can be named; one that goes on is refused, however it is asked for."""
    failed, going = (runs.create(tmp_path, "process", Request({})) for _ in range(2))
    failed.update(state="FAILED")
    runs.create(tmp_path, "process", Request({})).update(state="SUCCEEDED")
    assert runs.to_resume(tmp_path, failed.id) == failed
    with pytest.raises(UsageError, match=f"run {going.id} is going on"):
        runs.to_resume(tmp_path, going.id)


def test_a_run_that_died_before_it_noted_its_cache_is_taken_up(tmp_path: Path) -> None:
    """It has done nothing, so the next one starts with the usual cache."""
    run = runs.create(tmp_path, "process", Request({}))
    after = runs.create(tmp_path, "process", Request({}), run.id)
    assert runs.cache_root(tmp_path, after, "pipeline", Request({}), run.id) == tmp_path / "cache" / "pipeline"


def test_the_dead_leave_no_half_written_file(tmp_path: Path) -> None:
    """What a killed run was writing goes when it is buried; older files, whole ones and corrections stay."""
    run = runs.create(tmp_path, "process", Request({}))
    names = ("store/models/a", "store/models/.a.part", f"store/feedback/.b.{run.id}.1.part", "pipeline/old/.c.part")
    kept = [tmp_path / name for name in names]
    gone = [
        tmp_path / name
        for name in (
            f"store/models/.a.{run.id}.2.part",
            f"data/mnist/.t10k-images.{dead()['pid']}.3.part",
            "pipeline/x/model.part/f",
            "cache/p/.kfp_cache_1.tmp",
            f".db.{run.id}.1.part-journal",
        )
    ]
    for path in [*kept, *gone, run.folder / "tmp" / "x", run.folder / "workspace" / "y"]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("half")
    before = time.time() - 1e6
    os.utime(kept[-1], (before, before))
    run.update(**dead())
    assert [buried.id for buried in runs.bury_dead(tmp_path)] == [run.id]
    assert all(path.exists() for path in kept)
    assert not any(path.exists() for path in gone)
    assert sorted(path.name for path in run.folder.iterdir()) == ["logs", "run.json"]


def test_a_run_killed_before_its_record_leaves_nothing(tmp_path: Path) -> None:
    """There is no run without a record; what a program left that died before, the next burial removes."""
    left, made = (tmp_path / "runs" / f".x.{pid}.part" / "run.json" for pid in (dead()["pid"], os.getpid()))
    for file in (left, made):
        file.parent.mkdir(parents=True)
        file.write_text("{}")
    assert runs.all_runs(tmp_path) == []
    runs.bury_dead(tmp_path)
    assert not left.parent.exists()
    assert made.exists()


def test_a_run_whose_record_cannot_be_written_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the disk is full there is no run, and nothing half-made."""
    monkeypatch.setattr(os, "fsync", Mock(side_effect=OSError(errno.ENOSPC, "No space left on device")))
    with pytest.raises(MissingError, match="No space left"):
        runs.create(tmp_path, "process", Request({}))
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_run_killed_while_it_changed_its_record_leaves_nothing(tmp_path: Path) -> None:
    """The half-written record of a dead run goes, the whole one is told as failed."""
    run = runs.create(tmp_path, "process", Request({}))
    run.update(**dead())
    half = run.folder / f".run.json.{run.record()['pid']}.abc.part"
    half.write_text("{")
    runs.bury_dead(tmp_path)
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
def test_the_end_of_a_run_takes_nothing_from_another_program(name: str, killed: bool, tmp_path: Path) -> None:
    """A file that a promotion or prediction is writing becomes whole, though a run ends; a killed one's goes."""
    run = runs.create(tmp_path, "process", Request({}))
    path = tmp_path / name
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITES, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    )
    assert writer.stdout is not None
    assert writer.stdout.readline() == b"half\n"
    if killed:
        writer.kill()
        writer.communicate()
    runs.tidy(tmp_path, run)
    assert len(list(path.parent.glob(".*.part"))) == (not killed)
    writer.communicate()
    assert path.is_file() is not killed


def test_what_a_step_in_a_container_left_goes_with_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its process id is another process's outside; the run's id tells whose the file was, while another run goes on."""
    run, going = (runs.create(tmp_path, "docker", Request({})) for _ in range(2))
    parts = []
    for one in (run, going):
        monkeypatch.setenv("DIGITS_RUN", one.id)
        parts.append(part_of(tmp_path / "data" / "mnist" / "train-images"))
        parts[-1].parent.mkdir(parents=True, exist_ok=True)
        parts[-1].write_text("half")
    runs.tidy(tmp_path, run)
    assert [part.exists() for part in parts] == [False, True]


def test_a_run_that_goes_on_keeps_its_files(tmp_path: Path) -> None:
    """While another run writes, its half-written files are left alone."""
    going, run = (runs.create(tmp_path, "process", Request({})) for _ in range(2))
    part = tmp_path / "pipeline" / ".a.part"
    part.parent.mkdir()
    part.write_text("half")
    run.update(**dead())
    runs.bury_dead(tmp_path)
    assert going.record()["state"] == runs.RUNNING
    assert part.exists()


def test_an_event_that_was_cut_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk cuts a line; the events before and after it are read."""
    monkeypatch.setenv(events.VARIABLE, str(tmp_path / "events"))
    events.emit("started", "train")
    with (tmp_path / "events").open("a") as file:
        file.write('{"event": "progr\n[1]\n')
    events.emit("finished", "train")
    assert [event["event"] for event in events.EventLog(tmp_path / "events").read_new()] == ["started", "finished"]
