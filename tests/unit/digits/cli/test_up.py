"""`digits up`."""

from __future__ import annotations

import dataclasses
import socket

import pytest

from backends.base import SUCCEEDED, Request, Result, StepState, Watch
from digits import steps
from digits.results import RunOutputs
from digits.settings import Settings
from pipeline import STEPS
from tests.helpers.command import Digits
from tests.helpers.fake_backend import FakeBackend
from tests.helpers.support import Finished

pytestmark = pytest.mark.filterwarnings("ignore")  # warnings of kfp and MLflow


def test_a_run_without_a_champion_exits_with_1(
    digits: Digits, finished: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the gate rejects the first release, there is no page, and the error has the gate's reason."""

    class Rejecting(FakeBackend):
        def run(self, request: Request, watch: Watch, *, resume: str = "") -> Result:
            """Deploy after a run whose release was not promoted."""
            run, published = finished.lineage, finished.published
            rejected = dataclasses.replace(published, promoted=False, why="accuracy 93%", champion="")
            outputs = RunOutputs(run.data, run.feedback, run.trained, rejected, steps.deploy("", "digits"))
            return Result("a", SUCCEEDED, {name: StepState("done") for name in STEPS}, dataclasses.asdict(outputs))

    monkeypatch.setattr("backends.open_backend", Rejecting)
    result = digits("up", "--no-open", "--port", "0")
    assert result.code == 1
    assert "nothing is served: accuracy" in result.err


def test_a_port_in_use_fails_before_the_run(digits: Digits, settings: Settings) -> None:
    """`digits up` checks the page's port before it runs the pipeline."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = digits("up", "--no-open", "--port", str(taken.getsockname()[1]))
    assert (result.code, "--port" in result.err) == (3, True)
    assert not (settings.home / "runs").exists()
