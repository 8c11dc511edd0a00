"""An object store that is unreachable, cut off, slow, lossy or silent; wrong host names and clocks."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest

from backends import runs
from digits.release import ledger
from tests.helpers.faulty_proxy import faulty_proxy
from tests.helpers.support import ROOT, another_release, missing
from tests.helpers.table import Fault
from tests.helpers.world import RUN, Remote, World

NOWHERE = "no-such-host.invalid"


@pytest.fixture(scope="module")
def silent(remote: Remote) -> Iterator[subprocess.Popen[str]]:
    """`digits releases` on a store that never answers. Started first, because it takes long."""
    with faulty_proxy("127.0.0.1:1") as hole:
        hole.swallow = True
        elsewhere = str(remote.world.kept / "silent")
        process = remote.world.start("releases", "--json", MINIO_ENDPOINT=hole.address, DIGITS_HOME=elsewhere)
        yield process
        process.kill()
        process.communicate()


@pytest.mark.fault("object store unreachable before the start", "exit code 3 with its address, before a run is created")
def test_an_unreachable_store_fails_before_a_run_is_created(
    restored: Remote, fault: Fault, silent: subprocess.Popen[str]
) -> None:
    """If nothing listens at the address, the exit code is 3, the error names it, and no run is created."""
    restored.world.before("deploy")
    holds = fault.watch(restored.world)
    restored.proxy.cut()
    answer = restored.world.digits(*RUN, code=3)
    holds.failed(answer, names="s3://digits did not answer", remedy="MINIO_ENDPOINT")
    assert runs.all_runs(restored.world.settings.home) == []
    restored.proxy.restore()
    holds.recovered(restored.world.digits(*RUN))
    fault.saw("exit code 3, no run created; the next one succeeded")


@pytest.mark.fault(
    "object store cut off while a release is published", "step publish fails with exit code 3; `--resume` publishes"
)
def test_a_store_that_is_cut_off_while_publishing(restored: Remote, fault: Fault) -> None:
    """If the connection is cut during the upload, no partial release appears, and the resumed run completes it."""
    restored.world.before("publish")
    holds = fault.watch(restored.world)
    process = restored.world.start(*RUN, "--json")
    assert restored.world.started(["publish"], process)
    restored.proxy.budget = 400_000
    answer = restored.world.answer(process, 3)
    holds.failed(answer, names="step publish failed: the object store", run=restored.world.newest())
    restored.proxy.restore()
    holds.recovered(restored.world.digits("run", "--resume"))
    fault.saw("FAILED, exit code 3; resumed, the same digest")


@pytest.mark.fault("every fifth connection to the object store reset", "the run succeeds by retrying")
def test_dropped_connections_are_tried_again(restored: Remote, fault: Fault) -> None:
    """Lost connections are retried, and the run succeeds."""
    restored.world.before("publish")
    holds = fault.watch(restored.world)
    restored.proxy.drop = 5
    answer = restored.world.digits(*RUN)
    assert restored.proxy.connections > 5
    holds.recovered(answer)
    fault.saw("succeeded, the same digest")


@pytest.mark.fault("object store with half a second of latency", "the run succeeds")
def test_a_slow_store_is_waited_for(restored: Remote, fault: Fault) -> None:
    """If each connection takes half a second, the run succeeds."""
    restored.world.before("publish")
    holds = fault.watch(restored.world)
    restored.proxy.delay = 0.5
    holds.recovered(restored.world.digits(*RUN))
    fault.saw("succeeded, the same digest")


@pytest.mark.fault("S3 host does not resolve", "exit code 3 with the store and MINIO_ENDPOINT, before a run is created")
def test_a_store_whose_name_does_not_resolve(restored: Remote, fault: Fault) -> None:
    """A host name that does not resolve is reported as a store that did not answer."""
    restored.world.before("deploy")
    holds = fault.watch(restored.world)
    answer = restored.world.digits(*RUN, code=3, MINIO_ENDPOINT=f"{NOWHERE}:9000")
    holds.failed(answer, names="s3://digits did not answer", remedy="MINIO_ENDPOINT")
    assert runs.all_runs(restored.world.settings.home) == []
    holds.recovered(restored.world.digits(*RUN))
    fault.saw("exit code 3, no run created; the next one succeeded")


@pytest.mark.fault("clock an hour slow", "the error names the clock as the cause")
def test_a_clock_that_is_wrong_is_named(restored: Remote, fault: Fault) -> None:
    """If S3 rejects a signature for its time, the remedy names the clock, not the keys."""
    if not (faketime := shutil.which("faketime")):
        missing("faketime", "it needs the program faketime on PATH (apt-get install faketime)")
    said = subprocess.run([faketime, "-f", "-1h", "env"], capture_output=True, text=True, check=True, timeout=20).stdout
    skewed = dict(line.split("=", 1) for line in said.splitlines() if line.startswith(("LD_PRELOAD=", "FAKETIME")))
    restored.world.before("deploy")
    holds = fault.watch(restored.world)
    answer = restored.world.digits("releases", code=1, **skewed)
    holds.failed(answer, names="RequestTimeTooSkewed", remedy="clock")
    holds.recovered(restored.world.digits(*RUN))
    fault.saw("exit code 1, the clock is named; the next run succeeded")


PROMOTE = """
import sys, time
from pathlib import Path
from digits.release import ledger
from digits.settings import Settings
from digits.store import open_store
version, gate = sys.argv[1:]
store = open_store(Settings.load(dotenv=None))
Path(gate, version).touch()
while not Path(gate, "go").exists():
    time.sleep(0.002)
ledger.promote(store, version, "at once")
"""


@pytest.mark.parametrize("place", ["folder", "S3"])
@pytest.mark.fault("ten programs promote at the same moment", "ten entries, one unbroken chain, none lost")
def test_promotions_at_once_lose_none(place: str, request: pytest.FixtureRequest, fault: Fault) -> None:
    """If ten processes promote ten releases concurrently, the ledger has each one once, in one chain."""
    world: World = request.getfixturevalue("world") if place == "folder" else request.getfixturevalue("restored").world
    world.before("publish")
    holds = fault.watch(world)
    made = [another_release(world.store, world.earlier, seed=n)["version"] for n in range(100, 110)]
    gate = world.kept / "gate"
    gate.mkdir()
    programs = [
        subprocess.Popen([sys.executable, "-c", PROMOTE, version, str(gate)], env=world.environment, cwd=ROOT)
        for version in made
    ]
    try:
        world.wait_for(lambda: len(list(gate.iterdir())) == len(made), "ten programs")
        (gate / "go").touch()
        assert [program.wait(120) for program in programs] == [0] * len(made)
    finally:
        for program in programs:
            program.kill()
        shutil.rmtree(gate)
    entries = ledger.entries(world.store)
    assert entries[0].version == world.earlier
    assert sorted(entry.version for entry in entries[1:]) == sorted(made)
    assert [entry.previous for entry in entries[1:]] == [entry.version for entry in entries[:-1]]
    holds.tidy()
    fault.saw("ten entries in one chain")


@pytest.mark.fault("object store accepts requests and never answers", "exit code 3 after a bounded number of attempts")
def test_a_store_that_never_answers_is_given_up(restored: Remote, fault: Fault, silent: subprocess.Popen[str]) -> None:
    """A store that never answers fails the command after a bounded time, and a run with another store succeeds."""
    restored.world.before("deploy")
    holds = fault.watch(restored.world)
    answer = restored.world.answer(silent, 3)
    holds.failed(answer, names="s3://digits did not answer", remedy="MINIO_ENDPOINT")
    holds.recovered(restored.world.digits(*RUN))
    fault.saw("exit code 3; the next run succeeded")
