"""The records of runs: one that is damaged is nobody else's trouble, and the dead leave nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from backends import runs
from backends.base import Request
from digits import events
from digits.errors import UsageError


def dead() -> dict[str, object]:
    """The record's entries of a program that has ended."""
    program = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    started = psutil.Process(program.pid).create_time()
    program.communicate()
    return {"pid": program.pid, "started": started}


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


def test_a_run_that_died_before_it_noted_its_cache_is_taken_up(tmp_path: Path) -> None:
    """It has done nothing, so the next one starts with the usual cache."""
    run = runs.create(tmp_path, "process", Request({}))
    after = runs.create(tmp_path, "process", Request({}), run.id)
    assert runs.cache_root(tmp_path, after, "pipeline", Request({}), run.id) == tmp_path / "cache" / "pipeline"


def test_the_dead_leave_no_half_written_file(tmp_path: Path) -> None:
    """What a killed run was writing goes when it is buried; older files, whole ones and corrections stay."""
    kept = [tmp_path / name for name in ("store/models/a", "store/feedback/.b.1.part", "pipeline/old/.c.part")]
    gone = [
        tmp_path / name
        for name in (
            "store/models/.a.2.part",
            "pipeline/x/model.part/f",
            "cache/p/.kfp_cache_1.tmp",
            ".db.1.part-journal",
        )
    ]
    run = runs.create(tmp_path, "process", Request({}))
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
    events.tell("started", "train")
    with (tmp_path / "events").open("a") as file:
        file.write('{"event": "progr\n[1]\n')
    events.tell("finished", "train")
    assert [event["event"] for event in events.Reader(tmp_path / "events").new()] == ["started", "finished"]
