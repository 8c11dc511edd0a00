"""Fixtures for all tests: a clean environment, real MNIST, one finished run, and real predictors."""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import shutil
import signal
import subprocess
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

from digits.settings import Settings
from tests.helpers.support import (
    GIVEN_DATA,
    OURS,
    ROOT,
    Finished,
    Predictor,
    StartPredictor,
    cleaned_environment,
    free_port,
    open_mlflow,
    predictors,
)

# What the tests import is never garbage. Looking for garbage in it takes a twelfth of their time.
gc.disable()

# A shell starts background jobs with SIGINT ignored, children inherit that, and some tests send SIGINT.
signal.signal(signal.SIGINT, signal.default_int_handler)


class GroupedScheduling(LoadScopeScheduling):  # type: ignore[misc] # xdist has no types
    """Keep the tests that share fixtures on one worker: those of a file, or of a file and a backend.

    pytest-xdist's own groups (`xdist_group`) have no effect with pytest 9.2, which names a test's id differently.
    """

    def _split_scope(self, nodeid: str) -> str:
        file, _, test = nodeid.partition("::")
        backend = next((name for name in ("fake", "process") if f"[{name}" in test), "")
        return f"{file} {backend}"


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> GroupedScheduling:
    """Return the scheduler for `pytest -n`."""
    return GroupedScheduling(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the workers of `pytest -n` begin with the files that take longest, so that they end at the same time."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=lambda item: "slow" not in item.keywords)


def pytest_collection_finish() -> None:
    """Collect garbage again, but leave out what was imported."""
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def clean_environment() -> Iterator[None]:
    """Remove our variables from the environment during each test, and restore it afterwards."""
    with cleaned_environment():
        yield


@pytest.fixture(scope="session")
def mnist_folder() -> Path:
    """The folder with the four files of MNIST: DIGITS_DATA, or `../shared/mnist`."""
    folder = Path(GIVEN_DATA) if GIVEN_DATA else ROOT.parent / "shared" / "mnist"
    if not (folder / "t10k-images-idx3-ubyte.gz").is_file():
        pytest.skip(f"MNIST's files are not in {folder}; set DIGITS_DATA to a folder that holds them")
    return folder


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings with an empty home and free ports."""
    return Settings(home=tmp_path / "home", port=free_port(), grpc_port=free_port())


@pytest.fixture(scope="session", autouse=True)
def short_epochs() -> Iterator[None]:
    """Train on fewer images in an epoch of a small data set, in runs within this process."""
    from digits.training import recipe

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recipe, "MIN_EPOCH_IMAGES", 5_000)
        yield


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """One run of the steps on scikit-learn's digits, one epoch. The workers of `pytest -n` share it."""
    own = tmp_path_factory.getbasetemp()
    common = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    made = common / "finished.pickle"
    with FileLock(common / "finished.lock", timeout=250):
        if not made.exists():
            made.write_bytes(pickle.dumps(_finish(common / "finished")))
    found: Finished = pickle.loads(made.read_bytes())
    return found


def _finish(folder: Path) -> Finished:
    """Call the steps as plain functions, with their results in `folder`."""
    from digits import steps
    from digits.results import Lineage

    folder.mkdir()
    settings = Settings(home=folder / "home")
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TensorFlow's and MLflow's, of each other
        for name in list(os.environ):
            if name.startswith(OURS):
                patch.delenv(name)
        for name, value in settings.environ().items():
            patch.setenv(name, value)
        sets = {f"{name}_set": folder / f"{name}.npz" for name in ("train", "validation", "test")}
        open_mlflow(settings)  # creates the database
        shutil.copyfile(settings.home / "mlflow.db", folder / "empty.db")
        model, history, test_set = folder / "model", folder / "history.json", sets["test_set"]
        parameters = {"epochs": 1, "batch_size": 64}
        data = steps.fetch_mnist("sklearn-digits", "digits", folder / "fetched")
        feedback = steps.collect_feedback("", "digits", folder / "corrections.npz")
        prepared = steps.prepare(folder / "fetched", folder / "corrections.npz", data, feedback, 0, **sets)
        trained = steps.train(sets["train_set"], sets["validation_set"], prepared, parameters, model, history)
        lineage = Lineage(data, feedback, prepared, trained)
        evaluation = folder / "evaluation.json"
        steps.evaluate(
            model,
            sets["validation_set"],
            test_set,
            history,
            lineage,
            evaluation=evaluation,
            report=folder / "evaluated.html",
        )
        published = steps.publish(
            model,
            test_set,
            history,
            evaluation,
            lineage,
            experiment="digits-tests",
            min_accuracy=0.9,
            store="",
            report=folder / "report.html",
        )
    return Finished(settings, folder, lineage, published)


@pytest.fixture(scope="session")
def predictor(finished: Finished, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Predictor]:
    """A predictor on the finished run's store, for tests that do not change it."""
    with predictors(tmp_path_factory.mktemp("predictor")) as start:
        yield start(finished.settings)


@pytest.fixture
def start_predictor(tmp_path: Path) -> Iterator[StartPredictor]:
    """A function that starts real predictors (`python -m digits serve`) on free ports; they end with the test."""
    with predictors(tmp_path) as start:
        yield start


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 64 KiB."""
    place = tmp_path / "tiny"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)], capture_output=True, check=False, timeout=10
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount a small tmpfs, which needs root: {mounted.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True, timeout=10)


@pytest.fixture
def full_disk(tiny_disk: Path) -> Path:
    """A real file system without space, with one file `full`."""
    with contextlib.suppress(OSError), (tiny_disk / "full").open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass
    return tiny_disk
