"""MLflow's database is locked or of another version, or its server's name does not resolve: the training is kept."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.table import Fault
from tests.helpers.world import RUN, World


@contextlib.contextmanager
def locked(database: Path) -> Iterator[None]:
    """Hold an exclusive lock on the database while the block runs."""
    holder = sqlite3.connect(database, isolation_level=None, timeout=60)
    try:
        holder.execute("BEGIN EXCLUSIVE")
        yield
    finally:
        holder.close()


@pytest.mark.fault("MLflow's database locked permanently", "step publish fails with exit code 3; the training is kept")
def test_a_locked_database_is_named(world: World, fault: Fault) -> None:
    """After a bounded wait the run fails with the database's name; once it is unlocked, the run resumes."""
    world.before("evaluate")
    holds = fault.watch(world)
    with locked(world.settings.home / "mlflow.db"):
        answer = world.digits(*RUN, code=3)
    holds.failed(answer, names="is locked by another program", remedy="digits run --resume", run=world.newest())
    resumed = world.digits("run", "--resume")
    assert resumed["steps"]["train"]["state"] == resumed["steps"]["evaluate"]["state"] == "cached"
    holds.recovered(resumed)
    fault.saw("exit code 3; resumed, the same digest")


@pytest.mark.fault("MLflow's database locked for a moment", "the run waits and succeeds")
def test_a_database_that_is_locked_for_a_moment_is_waited_for(world: World, fault: Fault) -> None:
    """A lock of a few seconds, as another run holds it, delays a run but does not fail it."""
    world.before("publish")
    holds = fault.watch(world)
    with locked(world.settings.home / "mlflow.db"):
        process = world.start(*RUN, "--json")
        world.started(["publish"], process)
        with contextlib.suppress(Exception):
            process.wait(4)
    holds.recovered(world.answer(process))
    fault.saw("succeeded, the same digest")


@pytest.mark.fault(
    "MLflow's database of another version",
    "step publish fails and names the command that upgrades it; the training is kept",
)
def test_a_database_of_another_version_fails_publish_alone(world: World, fault: Fault) -> None:
    """The training is kept, the database is unchanged, and the error names the command that upgrades it."""
    world.before("publish")
    holds = fault.watch(world)
    database = world.settings.home / "mlflow.db"
    content = database.read_bytes()
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0a8213491aaa'")
        connection.commit()
    changed = database.read_bytes()
    answer = world.digits(*RUN, code=3)
    holds.failed(answer, names="made by another version of MLflow", remedy="mlflow db upgrade", run=world.newest())
    assert database.read_bytes() == changed
    database.write_bytes(content)
    holds.recovered(world.digits("run", "--resume"))
    fault.saw("exit code 3, database untouched; resumed, the same digest")


@pytest.mark.fault("MLflow server's name does not resolve", "step publish fails with exit code 3; the training is kept")
def test_a_server_whose_name_does_not_resolve(world: World, fault: Fault) -> None:
    """If the server's name does not resolve, the run fails after a bounded wait and names address and setting."""
    world.before("publish")
    holds = fault.watch(world)
    answer = world.digits(*RUN, code=3, MLFLOW_TRACKING_URI="http://no-such-host.invalid:5000")
    holds.failed(answer, names="no-such-host.invalid", remedy="MLFLOW_TRACKING_URI", run=world.newest())
    holds.recovered(world.digits("run", "--resume"))
    fault.saw("exit code 3; resumed, the same digest")


@pytest.mark.fault("data host does not resolve", "step fetch-mnist fails with exit code 3 and DIGITS_DATA")
def test_a_data_host_whose_name_does_not_resolve(world: World, fault: Fault) -> None:
    """If the data host does not resolve, the error names the address, and no other data is used."""
    world.before()
    holds = fault.watch(world)
    answer = world.digits("run", "--data", "http://no-such-host.invalid/mnist", code=3)
    holds.failed(answer, names="no-such-host.invalid", remedy="DIGITS_DATA", run=world.newest())
    holds.recovered(world.digits(*RUN))
    fault.saw("exit code 3, no other data used; the next run succeeded")
