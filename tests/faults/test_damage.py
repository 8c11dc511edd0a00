"""Damaged files: cached results, records, manifests, and the ledger."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from backends import runs
from digits.release import ledger, releases
from tests.helpers.table import Fault
from tests.helpers.world import RUN, World

GARBAGE = {"empty": b"", "cut": None, "binary": b"\x80\x81\xfe" * 40, "another kind": b"[1, 2]"}


def garble(path: Path, how: str) -> None:
    """Replace a file's content with garbage."""
    content = GARBAGE[how]
    path.write_bytes(path.read_bytes()[:-20] if content is None else content)


@pytest.mark.parametrize("how", ["cut", "another kind"])
@pytest.mark.fault("cache entry damaged", "the step is executed again, and the run succeeds")
def test_a_damaged_cache_entry_is_a_miss(how: str, world: World, fault: Fault) -> None:
    """A cache entry that cannot be read is a cache miss."""
    world.before("deploy")
    holds = fault.watch(world)
    (entry,) = world.cached("publish")
    garble(entry, how)
    answer = world.digits(*RUN)
    assert answer["steps"]["train"]["state"] == "cached"
    assert answer["steps"]["publish"]["state"] == "done"
    holds.recovered(answer)
    fault.saw("executed again, the same digest")


@pytest.mark.parametrize(("step", "victim"), [("evaluate", "model.onnx"), ("publish", "model.keras")])
@pytest.mark.fault("cached model damaged", "the step that made it is executed again, and the run succeeds")
def test_a_damaged_model_in_the_cache_is_a_miss(step: str, victim: str, world: World, fault: Fault) -> None:
    """A cached model that differs from the trained one is neither evaluated nor published, but trained again."""
    world.before(step)
    holds = fault.watch(world)
    file = world.artifact("train", "model") / victim
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    try:
        answer = world.digits(*RUN)
    finally:
        file.write_bytes(content)
    assert answer["steps"]["prepare"]["state"] == "cached"
    assert answer["steps"]["train"]["state"] == "done"
    holds.recovered(answer)
    fault.saw("executed again, the same digest")


@pytest.mark.fault("cached data set cut", "the step that made it is executed again, and the run succeeds")
def test_a_cut_data_set_in_the_cache_is_a_miss(world: World, fault: Fault) -> None:
    """A truncated training set is prepared again."""
    world.before("train")
    holds = fault.watch(world)
    file = world.artifact("prepare", "train_set") / "0000.npz"
    content = file.read_bytes()
    file.write_bytes(content[:-1000])
    try:
        answer = world.digits(*RUN)
    finally:
        file.write_bytes(content)
    assert answer["steps"]["prepare"]["state"] == "done"
    holds.recovered(answer)
    fault.saw("executed again, the same digest")


@pytest.mark.fault("champion's manifest cut", "the gate fails; `digits promote` of another release succeeds")
def test_a_damaged_manifest_of_the_champion(world: World, fault: Fault) -> None:
    """A run names the damaged manifest and keeps its own release, which can be listed and promoted."""
    world.before("publish")
    key = releases.release_prefix(world.store, world.earlier) + releases.MANIFEST
    content = world.store.get(key)
    world.store.put(key, content[:-30])
    answer = world.digits(*RUN, code=1)
    assert f"manifest of release {world.earlier} is damaged" in answer["error"]
    assert "promote another" in answer["remedy"]
    assert world.newest().record()["state"] == "FAILED"
    listed = world.digits("releases")
    assert list(listed["damaged"]) == [world.earlier]
    (made,) = [row["version"] for row in listed["releases"]]
    promoted = world.digits("promote", made)
    assert promoted["champion"] == made == world.digest[:12]
    world.store.put(key, content)
    holds = fault.watch(world)
    holds.recovered(world.digits("run", "--resume"))
    fault.saw("named and listed; another promoted, resumed")


@pytest.mark.fault("ledger entry garbled", "runs and promotions fail with its name, before a run is created")
def test_a_garbled_ledger_is_named(world: World, fault: Fault) -> None:
    """If a ledger entry is damaged, no run is created, the error has its name, and a run succeeds after its repair."""
    world.before("publish")
    before = runs.all_runs(world.settings.home)
    holds = fault.watch(world)
    (key,) = world.store.keys(ledger.folder(world.store))
    content = world.store.get(key)
    world.store.put(key, content[:-5])
    answer = world.digits(*RUN, code=1)
    assert f"ledger entry {key} is damaged" in answer["error"]
    assert answer["remedy"]
    assert f"ledger entry {key} is damaged" in world.digits("promote", world.earlier, code=1)["error"]
    world.store.put(key, content)
    holds.failed(answer, names=f"ledger entry {key} is damaged")
    assert runs.all_runs(world.settings.home) == before
    holds.recovered(world.digits(*RUN))
    fault.saw("named, no run created; the next one succeeded after its repair")


@pytest.mark.parametrize("how", ["empty", "binary"])
@pytest.mark.fault("run record damaged", "other runs are not affected; `--resume` of that run fails with its name")
def test_a_damaged_record_does_not_affect_other_runs(how: str, world: World, fault: Fault) -> None:
    """A run.json that cannot be read affects neither other runs nor `digits doctor` and `digits report`."""
    world.before()
    holds = fault.watch(world)
    (damaged := world.settings.home / "runs" / "20000101-000000-000000-aaaa").mkdir(parents=True)
    (damaged / "run.json").write_text(json.dumps({"state": "RUNNING", "pid": 1, "started": 0, "parameters": {}}))
    garble(damaged / "run.json", how)
    answer = world.digits("run", "--resume", code=2)
    holds.failed(answer, names=str(damaged / "run.json"), remedy="digits run")
    world.digits("doctor")
    recovered = world.digits(*RUN)
    assert recovered["digest"] == world.digest
    assert world.digits("report", "--no-open")["report"] == recovered["report"]
    fault.saw("named, and the next run succeeds")
