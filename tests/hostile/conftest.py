"""The real predictor and the real gateway in processes of their own, and the summary of what was sent to them."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from digits.data.dataset import Dataset
from digits.settings import Settings
from tests.helpers.support import Finished, Predictor, child_environment, free_port, get_json, predictors
from tests.helpers.targets import Tally, Target

MIB = 1024 * 1024
TALLY = Tally()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Run the check of the whole session last; deselect the half-hour test unless `-m long` selects it."""
    items.sort(key=lambda item: item.name == "test_afterwards")
    if "long" not in config.option.markexpr:
        left_out = [item for item in items if item.get_closest_marker("long")]
        items[:] = [item for item in items if item not in left_out]
        config.hook.pytest_deselected(items=left_out)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the summary."""
    if not TALLY.total:
        return
    terminalreporter.section("hostile requests")
    for target, count in sorted(TALLY.requests.items()):
        answers = sorted((str(status), n) for (name, status), n in TALLY.statuses.items() if name == target)
        terminalreporter.line(f"{target}: {count} sent; " + ", ".join(f"{status}: {n}" for status, n in answers))
    for note in TALLY.notes:
        terminalreporter.line(note)
    terminalreporter.line(f"{TALLY.total} sent in all, 5xx other than 503: {len(TALLY.failures)}")


@pytest.fixture(scope="session")
def tally() -> Tally:
    return TALLY


@pytest.fixture(autouse=True)
def no_failures() -> Iterator[None]:
    """Fail a test that received a 5xx response other than 503."""
    TALLY.new_failures()
    yield
    assert TALLY.new_failures() == []


@pytest.fixture(scope="session")
def whole_session(request: pytest.FixtureRequest) -> bool:
    """Return whether all tests of this folder run, not a selection."""
    config = request.config
    chosen = config.getoption("lf", False) or config.option.keyword or any("::" in argument for argument in config.args)
    files = {item.path for item in request.session.items}
    return not chosen and files >= set(Path(__file__).parent.glob("test_fuzz_*.py"))


@pytest.fixture(scope="session")
def attacked(finished: Finished, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Settings, Predictor]]:
    """A copy of the finished run's home, and a predictor that serves from it."""
    folder = tmp_path_factory.mktemp("attacked")
    settings = finished.copy(folder / "home")
    with predictors(folder) as start:
        yield settings, start(settings)


@pytest.fixture(scope="session")
def predictor(attacked: tuple[Settings, Predictor], finished: Finished) -> Target:
    """The predictor; its valid request has five test images over V1."""
    from digits.evaluation import metrics

    images = Dataset.load(finished.folder / "test.npz").images[:5]
    body = json.dumps({"instances": (images.astype(float) / 255).tolist()}).encode()
    right = metrics.predict(finished.folder / "model" / "model.onnx", images)
    process = attacked[1].process
    port = int(attacked[1].url.rsplit(":", 1)[1])
    good = ("POST", "/v1/models/digits:predict", {"Content-Type": "application/json"}, body)
    # The memory limit is the container's (manifests/base/serving-runtime.yaml).
    return Target(
        "predictor",
        process,
        port,
        TALLY,
        attacked[1].log,
        good,
        [[round(float(p), 4) for p in row] for row in right],
        768 * MIB,
    )


@contextlib.contextmanager
def gateways(settings: Settings, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a gateway as its container does, in a process of its own, while the block runs."""
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "digits", "web", "--no-open"],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=child_environment(settings),
            start_new_session=True,
        )
    try:
        started = Predictor(process, f"http://127.0.0.1:{settings.web_port}", "", log)
        started.wait_for(lambda g: get_json(f"{g.url}/api/model")["state"] == "ready", "its endpoint's readiness")
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture(scope="session")
def gateway_settings(attacked: tuple[Settings, Predictor]) -> Settings:
    """The settings of a gateway whose endpoint is the predictor."""
    settings, endpoint = attacked
    return dataclasses.replace(settings, endpoints=f"here={endpoint.url}", web_port=free_port())


@pytest.fixture(scope="session")
def gateway(
    gateway_settings: Settings, finished: Finished, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Target]:
    """The gateway; its valid request is a drawing."""
    log = tmp_path_factory.mktemp("gateway") / "gateway.log"
    with gateways(gateway_settings, log) as process:
        digit = Dataset.load(finished.folder / "test.npz").images[0]
        drawing = io.BytesIO()
        Image.fromarray(digit).resize((280, 280)).save(drawing, "PNG")
        good = ("POST", "/api/recognise", {"Content-Type": "image/png"}, drawing.getvalue())
        target = Target("gateway", process, gateway_settings.web_port, TALLY, log, good, None, 384 * MIB)
        target.right = target.answers()
        assert isinstance(target.right, int)
        yield target


@pytest.fixture
def another_gateway(gateway_settings: Settings, gateway: Target, tmp_path: Path) -> Iterator[Target]:
    """Another gateway, for a test that stops it."""
    settings = dataclasses.replace(gateway_settings, web_port=free_port())
    with gateways(settings, tmp_path / "gateway.log") as process:
        yield dataclasses.replace(gateway, process=process, port=settings.web_port, log=tmp_path / "gateway.log")


@pytest.fixture(params=["predictor", "gateway"])
def target(request: pytest.FixtureRequest) -> Target:
    """The predictor and the gateway in turn."""
    found: Target = request.getfixturevalue(request.param)
    return found
