"""The worlds that faults are injected into, and the table of outcomes."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.faulty_proxy import faulty_proxy
from tests.helpers.store_servers import program
from tests.helpers.support import cleaned_environment, free_port
from tests.helpers.table import PAGE, Fault, Row, current, rendered, replaced
from tests.helpers.world import Remote, World, folder_world

HERE = Path(__file__).parent
ROWS = pytest.StashKey[dict[str, Row]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write", action="store_true", help="write the table of faults to docs/reliability.md")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[ROWS] = {}
    config.addinivalue_line("markers", "fault(name, expected): the row of the table that a test fills")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.timeout(900))
            item.add_marker(pytest.mark.filterwarnings("ignore"))  # warnings of MLflow about its own libraries


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> object:
    report = yield
    if report.failed and (row := _row(item)):
        row.failed += 1
        row.count += report.when == "setup"
    return report


def _row(item: pytest.Item) -> Row | None:
    marker = item.get_closest_marker("fault")
    return item.config.stash[ROWS].setdefault(marker.args[0], Row(*marker.args)) if marker else None


def pytest_sessionfinish(session: pytest.Session) -> None:
    """After complete, successful files fail if the documentation has other rows; after all files, --write the table."""
    rows = list(session.config.stash[ROWS].values())
    tried = {item.path.name for item in session.items if item.path.is_relative_to(HERE)}
    if session.exitstatus or tried & _incomplete(session):
        return
    page = PAGE.read_text(encoding="utf-8")
    if session.config.getoption("--write") and tried >= {path.name for path in HERE.glob("test_*.py")}:
        PAGE.write_text(replaced(page, rows), encoding="utf-8")
    elif not current(page, rows):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _incomplete(session: pytest.Session) -> set[str]:
    """Return the names of the files of which a test was skipped or deselected."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    left_out = [*reporter.stats.get("skipped", []), *reporter.stats.get("deselected", [])] if reporter else []
    return {Path(test.nodeid.split("::")[0]).name for test in left_out}


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    rows = list(config.stash[ROWS].values())
    if not rows:
        return
    terminalreporter.section("faults")
    terminalreporter.write_line(rendered(rows))
    if not current(PAGE.read_text(encoding="utf-8"), rows):
        terminalreporter.write_line(f"\n{PAGE.name} has another table; after a whole session: nox -s faults -- --write")


@pytest.fixture(scope="module", autouse=True)
def clean_environment() -> Iterator[None]:
    """Override the fixture per test: a world's programs outlive the test that starts them."""
    with cleaned_environment():
        yield


@pytest.fixture
def fault(request: pytest.FixtureRequest) -> Iterator[Fault]:
    """The row of the test's `fault` mark."""
    row = _row(request.node)
    assert row, "the test needs @pytest.mark.fault(name, expected)"
    row.count += 1
    made = Fault(row)
    yield made
    row.lost += sum(check.lost for check in made.checks)
    row.green += sum(check.green for check in made.checks)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The world that most faults are injected into, one after the other."""
    made = folder_world(tmp_path_factory.mktemp("world"))
    with contextlib.closing(made):
        yield made.make()


@pytest.fixture
def restored(remote: Remote) -> Iterator[Remote]:
    """The world behind the proxy; the proxy's faults end with the test."""
    yield remote
    remote.proxy.restore()


@pytest.fixture(scope="session")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    """A world whose store is behind a proxy."""
    folder = tmp_path_factory.mktemp("remote")
    with program(folder / "minio") as direct, faulty_proxy(direct.minio_endpoint) as between:
        own = {"home": folder / "home", "port": free_port(), "grpc_port": free_port()}
        direct = dataclasses.replace(direct, **own, tracking_uri="")
        made = World(dataclasses.replace(direct, minio_endpoint=between.address), folder / "kept", direct)
        with contextlib.closing(made):
            yield Remote(made.make(), between)
