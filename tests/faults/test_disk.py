"""Full file systems, for one folder of the home at a time."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.support import missing
from tests.helpers.table import Fault
from tests.helpers.world import RUN, World

PAGE = 4096


@contextlib.contextmanager
def small_disk(folder: Path, room: int) -> Iterator[None]:
    """Mount a file system over `folder` with its content and `room` more bytes while the block runs."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder.with_name(folder.name + ".kept")
    shutil.copytree(folder, kept)
    files = [path for path in folder.rglob("*") if path.is_file()]
    size = sum(-(-path.stat().st_size // PAGE) * PAGE for path in files) + max(room, PAGE)  # a size of 0 means no limit
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)],
        capture_output=True,
        check=False,
        timeout=10,
    )
    if mounted.returncode:
        shutil.rmtree(kept)
        missing("mount", f"cannot mount a small tmpfs, which needs root: {mounted.stderr.decode().strip()}")
    try:
        shutil.copytree(kept, folder, dirs_exist_ok=True)
        if not room:
            (folder / "filler").write_bytes(bytes(PAGE))
        yield
    finally:
        (folder / "filler").unlink(missing_ok=True)
        shutil.copytree(folder, kept, dirs_exist_ok=True)
        subprocess.run(["umount", str(folder)], check=True, timeout=10)
        shutil.copytree(kept, folder, dirs_exist_ok=True)
        shutil.rmtree(kept)


@pytest.mark.parametrize(
    ("folder", "room", "step", "names"),
    [
        ("pipeline", 400_000, "fetch-mnist", "step fetch-mnist failed: cannot write"),
        ("store", 600_000, "publish", "step publish failed: "),
        ("mlartifacts", 40_000, "publish", "step publish failed: "),
        ("runs", 0, "publish", "No space left"),
        ("runs", 60_000, "train", "step train failed: "),
    ],
)
@pytest.mark.fault(
    "file system full", "exit code 3 and a cause that names the space, no partial file; `--resume` once there is space"
)
def test_a_full_disk_fails_the_step(folder: str, room: int, step: str, names: str, world: World, fault: Fault) -> None:
    """If a file system is full, the run reports that, keeps complete files, and resumes once there is space."""
    world.before(step)
    holds = fault.watch(world)
    before = set((world.settings.home / "runs").glob("*")) if (world.settings.home / "runs").exists() else set()
    with small_disk(world.settings.home / folder, room):
        answer = world.digits(*RUN, code=3)
        made = set((world.settings.home / "runs").glob("*/run.json")) - before
        holds.failed(answer, names=names, remedy="space", run=world.newest() if made else None)
        assert "No space left" in answer["error"], answer
    holds.recovered(world.digits(*(("run", "--resume") if made else RUN)))
    fault.saw("exit code 3; resumed, the same digest")


@pytest.mark.fault("file system of the cache full", "the run succeeds, and its results are not cached")
def test_a_full_cache_fails_nothing(world: World, fault: Fault) -> None:
    """If results cannot be cached, the run succeeds, and the next run computes them again."""
    world.before("publish")
    holds = fault.watch(world)
    with small_disk(world.settings.home / "cache" / "pipeline", 0):
        answer = world.digits(*RUN)
        assert world.cached("publish") == []
        holds.recovered(answer)
    fault.saw("succeeded, the same digest")
