"""The contract of a backend. A backend that cannot keep a part is skipped by name, with the reason."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from backends import runs
from backends.base import Request
from digits.data import fetch
from digits.errors import Interrupted, StepFailed
from digits.release import ledger, releases
from digits.store import open_store
from pipeline import STEPS
from tests.helpers.backend_world import BackendWorld, FirstRun
from tests.helpers.engines import PARAMETERS

# The fake runs the libraries in this process, with their warnings.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.filterwarnings("default")]
CACHED = dict.fromkeys(STEPS, "cached") | {"deploy": "done"}  # the states of the steps of a run that changes nothing
OUTPUTS = {"data", "feedback", "trained", "published", "deployed"}


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
    """Parameters reach the steps, and the store has exactly the files that the release's manifest names."""
    store = open_store(world.backend.host_settings())
    version = first[0].outputs["published"]["version"]
    manifest = releases.load(store, version)
    assert manifest["parameters"]["epochs"] == 1
    assert manifest["parameters"]["seed"] == 7
    stored = set(store.keys(releases.release_prefix(version)))
    assert stored == {releases.release_prefix(version) + name for name in [*manifest["files"], "manifest.json"]}


def test_the_endpoint_serves_the_champion(world: BackendWorld, first: FirstRun) -> None:
    """The endpoint serves the champion and returns the probabilities that its manifest records for the golden image."""
    version = first[0].outputs["published"]["version"]
    assert world.served() == version == ledger.champion(open_store(world.backend.host_settings()))
    golden = releases.load(open_store(world.backend.host_settings()), version)["golden"]
    got = world.predict(np.asarray([golden["image"]], np.uint8).reshape(1, 28, 28))
    np.testing.assert_allclose(got[0], golden["probabilities"], atol=1e-4)


def test_a_second_run_is_answered_from_the_cache(world: BackendWorld, first: FirstRun) -> None:
    """Nothing changed, so only deploy runs again, and the outputs are the same."""
    again, _ = world.run()
    assert {name: step.state for name, step in again.steps.items()} == CACHED
    assert again.outputs == first[0].outputs


def test_a_changed_parameter_runs_only_what_depends_on_it(world: BackendWorld, first: FirstRun) -> None:
    """Another threshold evaluates the gate again for the same model and trains nothing."""
    again, _ = world.run(min_accuracy=0.31)
    states = {name: step.state for name, step in again.steps.items()}
    assert states["train"] == "cached"
    assert states["publish"] == "done"
    assert again.outputs["published"]["version"] == first[0].outputs["published"]["version"]


def test_an_explicit_default_hits_the_cache(world: BackendWorld, first: FirstRun) -> None:
    """Explicit values equal to the defaults hit the cache, whatever type the engine stores them as."""
    again, _ = world.run(optimizer="adam", batch_size=0, learning_rate=0.0, model="default")
    assert {name: step.state for name, step in again.steps.items()} == CACHED


def test_an_unknown_deployer_is_named(world: BackendWorld, first: FirstRun) -> None:
    """DIGITS_DEPLOYER reaches the last step despite the cache, and an unknown deployer fails it by name."""
    own = world.backend.settings
    world.backend.settings = dataclasses.replace(own, deployer="nowhere")
    try:
        with pytest.raises(StepFailed, match=r"expected DIGITS_DEPLOYER of follow, (fake, )?kserve, got 'nowhere'"):
            world.run()
    finally:
        world.backend.settings = own


def test_a_run_resumes_at_the_step_that_failed(world: BackendWorld, first: FirstRun) -> None:
    """The error names the step and its cause; a resumed run takes the earlier steps from the cache and succeeds."""
    with pytest.raises(StepFailed, match="nonsense") as failure:
        world.run(use_cache=False, seed=8, optimizer="nonsense")
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
    images = fetch.fetch("sklearn-digits", "", world.settings.home / "data").test.images[:20]
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
    """Running again does not promote a release that was replaced, whether its steps are cached or not."""
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
        assert result.steps["publish"].state == ("done" if changed else "cached")
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
