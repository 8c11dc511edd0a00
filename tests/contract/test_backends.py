"""The contract of a backend. A backend that cannot keep a part is skipped by name, with the reason."""

from __future__ import annotations

import dataclasses
import json
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from backends import runs
from backends.base import Backend, Request
from backends.process.backend import ProcessBackend
from backends.processes import variable
from digits.data import fetch
from digits.data.idx import FILES
from digits.errors import DataError, DigitsError, Interrupted, StepFailed
from digits.events import VARIABLE
from digits.release import ledger, releases, verify
from digits.store import open_store
from digits.tasks.task import find
from pipeline import STEPS
from tests.helpers.backend_world import BackendWorld, FirstRun
from tests.helpers.engines import PARAMETERS
from tests.helpers.examples import run_example
from tests.helpers.homes import Home, left
from tests.helpers.support import open_mlflow

# The fake runs the libraries in this process, with their warnings.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.filterwarnings("default")]
CACHED = dict.fromkeys(STEPS, "cached") | {"deploy": "done"}  # the states of the steps of a run that changes nothing
# PARAMETERS as options of `digits run`.
OPTIONS = [text for name, value in PARAMETERS.items() for text in (f"--{name.replace('_', '-')}", str(value))]
OUTPUTS = {"data", "feedback", "trained", "published", "deployed"}


def test_the_example_of_the_contract_runs(world: BackendWorld, first: FirstRun) -> None:
    """The example in the docstring of Backend does what it shows."""
    if world.backend.name != "fake":
        pytest.skip("the other backends pass the tests below")
    values = {"settings": world.settings, "parameters": PARAMETERS, "events": [], "Request": Request}
    run_example(Backend, values | {"open_backend": lambda _: world.backend})


def test_the_next_run_need_not_ask_mlflow(world: BackendWorld, first: FirstRun) -> None:
    """At its end a run checks MLflow and records the state of its files, so that a cached run need not import it."""
    if world.backend.name == "fake":
        pytest.skip("fake: it has no engine, which records the state")
    assert (world.settings.home / "cache" / "mlflow").is_file()


def test_seven_steps_run_in_order(first: FirstRun) -> None:
    """The first run executes all seven steps in the definition's order; the first two may be in either order."""
    result, events = first
    assert result.state == "SUCCEEDED"
    assert list(result.steps) == list(STEPS)
    assert {step.state for step in result.steps.values()} == {"done"}
    started = [event["step"] for event in events if event["event"] == "started"]
    assert set(started[:2]) == set(STEPS[:2])
    assert started[2:] == list(STEPS[2:])


def test_a_run_returns_the_declared_outputs_and_a_report(world: BackendWorld, first: FirstRun) -> None:
    """A run returns the outputs that the definition declares, and leaves its report."""
    result, _ = first
    assert set(result.outputs) == OUTPUTS
    report = world.settings.home / "runs" / result.run_id / "report.html"
    assert result.outputs["published"]["version"] in report.read_text()


def test_the_release_is_complete_and_has_the_parameters(world: BackendWorld, first: FirstRun) -> None:
    """Parameters reach the steps, and the store has the files that the manifest names, and what describes them."""
    store = open_store(world.backend.host_settings())
    version = first[0].outputs["published"]["version"]
    manifest = releases.load(store, version)
    assert manifest["parameters"]["epochs"] == 1
    assert manifest["parameters"]["seed"] == 7
    stored = set(store.keys(releases.release_prefix(store, version)))
    names = [*manifest["files"], releases.MANIFEST, *releases.ATTACHED]
    assert stored == {releases.release_prefix(store, version) + name for name in names}


def test_the_endpoint_serves_the_champion(world: BackendWorld, first: FirstRun) -> None:
    """The endpoint serves the champion and returns the probabilities that its manifest records for the golden image."""
    version = first[0].outputs["published"]["version"]
    assert world.served() == version == ledger.champion(open_store(world.backend.host_settings()))
    golden = releases.load(open_store(world.backend.host_settings()), version)["golden"]
    got = world.predict(np.asarray([golden["image"]], np.uint8).reshape(1, 28, 28))
    np.testing.assert_allclose(got[0], golden["probabilities"], atol=1e-4)


def test_a_second_run_is_answered_from_the_cache(world: BackendWorld, first: FirstRun) -> None:
    """Only deploy runs again, also if default values are given explicitly; this run promoted nothing."""
    again, _ = world.run(optimizer="adam", batch_size=0, learning_rate=0.0, model="default")
    assert {name: step.state for name, step in again.steps.items()} == CACHED
    published = first[0].outputs["published"]
    assert (published["promoted"], again.outputs["published"]["promoted"]) == (True, False)
    now = {"promoted": False, "why": "it is the champion already"}
    assert again.outputs == first[0].outputs | {"published": published | now}


def test_a_step_whose_results_are_lost_runs_again(world: BackendWorld, first: FirstRun) -> None:
    """A cached step runs again if its artifact is damaged, or if store, ledger and MLflow lost what it published."""
    settings = world.backend.host_settings()
    store, version = open_store(settings), first[0].outputs["published"]["version"]
    # tests/unit/backends/test_cached.py damages each object of the store, and MLflow's record, alone.
    store.delete(f"{releases.release_prefix(store, version)}model.onnx")
    for key in store.keys(ledger.folder(store)):
        store.delete(key)
    open_mlflow(settings).delete_registered_model("digits")
    for artifact in {*settings.home.glob("pipeline/**/evaluation"), *settings.home.glob("cache/**/evaluation")}:
        artifact.write_text("damaged")
    for expected in (CACHED | {"evaluate": "done", "publish": "done"}, CACHED):
        result, _ = world.run()
        assert {name: step.state for name, step in result.steps.items()} == expected
        assert ledger.champion(store) == version == result.outputs["published"]["version"] == world.served()
        assert [check.name for check in verify.verify(settings, store, version) if not check.passed] == []


def test_an_unknown_deployer_is_named(world: BackendWorld, first: FirstRun) -> None:
    """An unknown deployer fails the run by name: before it, or, with the fake, in the last step despite the cache."""
    own = world.backend.settings
    world.backend.settings = dataclasses.replace(own, deployer="nowhere")
    try:
        with pytest.raises(DigitsError, match=r"expected DIGITS_DEPLOYER of follow, (fake, )?kserve, got 'nowhere'"):
            world.run()
    finally:
        world.backend.settings = own


def test_a_run_resumes_at_the_step_that_failed(world: BackendWorld, first: FirstRun) -> None:
    """The error names the step and its cause; a resumed run takes the earlier steps from the cache and succeeds."""
    with pytest.raises(StepFailed, match="diverged") as failure:
        world.run(use_cache=False, seed=8, optimizer="sgd", learning_rate=1e30)
    assert failure.value.step == "train"
    failed = runs.find(world.settings.home)
    assert failed.record()["state"] == "FAILED"
    assert world.leftovers() == []
    resumed, _ = world.run(use_cache=False, seed=8, resume=failed.id)
    states = {name: step.state for name, step in resumed.steps.items()}
    assert states["fetch-mnist"] == states["prepare"] == "cached"
    assert states["train"] == states["publish"] == "done"
    assert resumed.outputs["published"]["version"] != first[0].outputs["published"]["version"]


def test_a_rollback_restores_the_previous_release(world: BackendWorld, first: FirstRun) -> None:
    """The endpoint serves a promoted release, and after a rollback the previous one with its previous answers."""
    store = open_store(world.backend.host_settings())
    images = fetch.fetch(find("digits"), "sklearn-digits", "", world.settings.home / "data").test.images[:20]
    old = first[0].outputs["published"]["version"]
    others = [m["version"] for m in releases.list_releases(store)[0] if m["version"] != old]
    new = others[-1] if others else world.run(seed=9)[0].outputs["published"]["version"]
    answers = {}
    for version in (old, new):
        if ledger.champion(store) != version:
            ledger.promote(store, version, "a test")
        world.backend.redeploy()
        assert world.served() == version
        answers[version] = world.predict(images)
    assert not np.allclose(answers[old], answers[new])
    ledger.rollback(store)
    world.backend.redeploy()
    assert world.served() == old
    np.testing.assert_array_equal(world.predict(images), answers[old])


def test_a_run_does_not_undo_a_promotion_or_a_rollback(world: BackendWorld, first: FirstRun) -> None:
    """A run does not promote a release that was replaced, nor if another threshold evaluates the gate again."""
    store = open_store(world.backend.host_settings())
    old = first[0].outputs["published"]["version"]
    others = [entry.version for entry in ledger.entries(store) if entry.version != old]
    new = others[-1] if others else world.run(seed=9)[0].outputs["published"]["version"]
    if ledger.champion(store) != old:
        ledger.promote(store, old, "a test")
    ledger.promote(store, new, "a test")
    world.backend.redeploy()
    for changed in ({}, {"min_accuracy": 0.32}):
        result, _ = world.run(**changed)
        published = result.outputs["published"]
        states = CACHED | ({"publish": "done"} if changed else {})
        assert {name: step.state for name, step in result.steps.items()} == states
        assert (published["version"], published["promoted"], published["champion"]) == (old, False, new)
        assert f"digits promote {old}" in published["why"]
        assert result.outputs["deployed"]["version"] == new == world.served()
    ledger.rollback(store)
    world.backend.redeploy()
    assert world.run()[0].outputs["published"]["champion"] == world.served() == old


def test_an_interrupted_run_is_canceled(world: BackendWorld, first: FirstRun) -> None:
    """After Ctrl-C during the first steps the run is CANCELED, and none of its processes or containers is left."""

    def interrupt(event: dict[str, Any]) -> None:
        if event["event"] == "started":
            raise KeyboardInterrupt

    with pytest.raises(Interrupted) as interrupted:
        world.backend.run(Request(PARAMETERS, use_cache=False), interrupt)
    assert interrupted.value.exit_code == 130
    assert runs.find(world.settings.home).record()["state"] == "CANCELED"
    assert world.leftovers() == []


@pytest.fixture
def home(world: BackendWorld) -> Home:
    """The programs that use the process backend's home."""
    if not isinstance(world.backend, ProcessBackend):
        pytest.skip(f"{world.backend.name}: only the process backend is also tested as a program")
    return Home(world.settings)


def start(home: Home, step: str, *options: str) -> tuple[subprocess.Popen[str], runs.Run, list[psutil.Process]]:
    """Start `digits run` and wait until `step` has started. Return the program, its run and the run's processes."""
    before = len(runs.all_runs(home.settings.home))
    program = home.start("run", *OPTIONS, *options, "--json")
    home.wait_for(lambda: len(runs.all_runs(home.settings.home)) > before, "a new run")
    run = home.newest()
    wanted = {("started", step), ("mlflow", "")}
    home.wait_for(lambda: wanted <= {(event["event"], event["step"]) for event in home.events(run)}, step)
    return program, run, home.processes(run)


def test_ctrl_c_ends_the_program_and_its_processes(home: Home, first: FirstRun) -> None:
    """SIGINT: exit code 130, the stopped step is shown, all processes end, and MLflow's run is KILLED."""
    program, run, started = start(home, "train", "--batch-size", "100")
    program.send_signal(signal.SIGINT)
    out, err = home.finish(program, 130)
    assert json.loads(out)["exit_code"] == 130
    assert "interrupted" in err
    assert re.search(r"train +[0-9.]+ s  stopped", err)
    assert left(started) == []
    assert (run.record()["state"], home.status(run)) == ("CANCELED", "KILLED")


def test_a_killed_program_leaves_nothing_running_and_is_resumed(home: Home, first: FirstRun) -> None:
    """If the program is killed, its child processes end, and the next one resumes it with the same data set."""
    program, run, started = start(home, "publish", "--min-accuracy", "0.33")
    program.kill()
    program.communicate()
    psutil.wait_procs(started, timeout=90)
    assert left(started) == []
    answer = home.digits("run", "--resume", DIGITS_DATA=str(home.settings.home))
    assert (run.record()["state"], home.status(run)) == ("FAILED", "KILLED")
    assert {name: step["state"] for name, step in answer["steps"].items()} == CACHED | {"publish": "done"}
    assert (home.newest().record()["state"], home.status(home.newest())) == ("SUCCEEDED", "FINISHED")
    assert (answer["state"], answer["release"]) == ("SUCCEEDED", first[0].outputs["published"]["version"])
    assert answer["data"]["dataset"] == "sklearn-digits"
    assert Path(answer["report"]).is_file()
    assert home.digits("verify")["holds"]
    assert "nothing to resume" in home.digits("run", "--resume", code=2)["error"]


def test_a_damaged_data_set_fails_before_anything_runs(world: BackendWorld, tmp_path: Path) -> None:
    """A truncated file is refused by its name; no run remains, and none of its processes."""
    for file in FILES:
        (tmp_path / f"{file}.gz").write_bytes(b"\x1f\x8b" + bytes(20))
    before, own = len(runs.all_runs(world.settings.home)), world.backend.settings
    world.backend.settings = dataclasses.replace(own, data=str(tmp_path))
    try:
        with pytest.raises(DataError, match=r"\.gz.*gzip"):
            world.run(dataset="mnist")
    finally:
        world.backend.settings = own
    assert len(runs.all_runs(world.settings.home)) == before
    folder = str(world.settings.home / "runs")
    assert not [process for process in psutil.process_iter() if (variable(process, VARIABLE) or "").startswith(folder)]


def test_no_file_contains_a_secret(world: BackendWorld, first: FirstRun) -> None:
    """No run, log, cache entry, database or object in the store contains a credential."""
    reached = world.backend.host_settings()
    secrets = [s.encode() for s in (reached.endpoint_token, reached.minio_secret_key) if s]
    assert secrets
    for path in world.settings.home.rglob("*"):
        if path.is_file() and path.name != "minio.json":
            content = path.read_bytes()
            assert not any(secret in content for secret in secrets), path
    store = open_store(reached)
    for key in store.keys():  # noqa: SIM118 # a method of ours, not of a dict
        content = store.get(key)
        assert not any(secret in content for secret in secrets), key
