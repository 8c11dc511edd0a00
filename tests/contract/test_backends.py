"""What every backend promises; a backend that cannot is skipped by name, with the reason."""

from __future__ import annotations

import dataclasses

import numpy as np
import psutil
import pytest

from backends import runs
from backends.base import Request
from backends.docker import containers
from digits.data import fetch
from digits.errors import Interrupted, StepFailed
from digits.release import ledger, releases
from digits.store import open_store
from pipeline import STEPS
from tests.helpers.engines import PARAMETERS

# The fake runs the libraries in this process, and their warnings are theirs.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.filterwarnings("default")]
CACHED = dict.fromkeys(STEPS, "cached") | {"deploy": "done"}  # the states of the steps of a run that changes nothing
OUTPUTS = {"data", "feedback", "trained", "published", "deployed"}


def test_seven_steps_run_in_the_definitions_order(first):
    """The first run does all seven steps, each after those it needs."""
    result, events = first
    assert result.state == "SUCCEEDED"
    assert list(result.steps) == list(STEPS)
    assert {step.state for step in result.steps.values()} == {"done"}
    started = [event["step"] for event in events if event["event"] == "started"]
    assert set(started[:2]) == set(STEPS[:2])
    assert started[2:] == list(STEPS[2:])


def test_outputs_are_the_declared_ones_and_the_report_is_there(world, first):
    """A run answers the definition's outputs and leaves its report."""
    result, _ = first
    assert set(result.outputs) == OUTPUTS
    report = world.settings.home / "runs" / result.run_id / "report.html"
    assert result.outputs["published"]["version"] in report.read_text()


def test_the_release_is_whole_and_made_with_the_parameters_given(world, first):
    """Parameters reach the steps, and the release in the store has every file that its manifest names."""
    store = open_store(world.backend.host_settings())
    version = first[0].outputs["published"]["version"]
    manifest = releases.load(store, version)
    assert manifest["parameters"]["epochs"] == 1
    assert manifest["parameters"]["seed"] == 7
    stored = set(store.keys(releases.release_prefix(version)))
    assert stored == {releases.release_prefix(version) + name for name in [*manifest["files"], "manifest.json"]}


def test_the_endpoint_serves_the_champion_and_answers_its_golden_image(world, first):
    """What was deployed is the champion, and it answers as the release says."""
    version = first[0].outputs["published"]["version"]
    assert world.served() == version == ledger.champion(open_store(world.backend.host_settings()))
    golden = releases.load(open_store(world.backend.host_settings()), version)["golden"]
    got = world.ask(np.asarray([golden["image"]], np.uint8).reshape(1, 28, 28))
    np.testing.assert_allclose(got[0], golden["probabilities"], atol=1e-4)


def test_a_second_run_is_answered_from_the_cache(world, first):
    """Nothing changed, so only deploy runs again, and the outputs are the same."""
    again, _ = world.run()
    assert {name: step.state for name, step in again.steps.items()} == CACHED
    assert again.outputs == first[0].outputs


def test_a_changed_parameter_runs_only_what_depends_on_it(world, first):
    """Another threshold judges the same model anew and trains nothing."""
    again, _ = world.run(min_accuracy=0.31)
    states = {name: step.state for name, step in again.steps.items()}
    assert states["train"] == "cached"
    assert states["publish"] == "done"
    assert again.outputs["published"]["version"] == first[0].outputs["published"]["version"]


def test_a_default_that_is_given_is_the_same_as_none(world, first):
    """Values that are the defaults hit the cache, whatever type the engine keeps them in."""
    again, _ = world.run(optimizer="adam", batch_size=0, learning_rate=0.0, model="default")
    assert {name: step.state for name, step in again.steps.items()} == CACHED


def test_a_deployer_that_is_not_there_is_named(world, first):
    """DIGITS_DEPLOYER reaches the last step, past the cache, and one that nobody registered fails it by name."""
    own = world.backend.settings
    world.backend.settings = dataclasses.replace(own, deployer="nowhere")
    try:
        with pytest.raises(StepFailed, match="expected DIGITS_DEPLOYER of follow, kserve, got 'nowhere'"):
            world.run()
    finally:
        world.backend.settings = own


def test_a_failed_step_fails_the_run_and_a_resumed_run_goes_on_from_there(world, first):
    """The error names the step and its cause; what was done before it is not done again; a better release results."""
    with pytest.raises(StepFailed, match="nonsense") as failure:
        world.run(use_cache=False, seed=8, optimizer="nonsense")
    assert failure.value.step == "train"
    failed = runs.find(world.settings.home)
    assert failed.record()["state"] == "FAILED"
    assert _left(world) == []
    resumed, _ = world.run(use_cache=False, seed=8, resume=failed.id)
    states = {name: step.state for name, step in resumed.steps.items()}
    assert states["fetch-mnist"] == states["prepare"] == "cached"
    assert states["train"] == states["publish"] == "done"
    assert resumed.outputs["published"]["version"] != first[0].outputs["published"]["version"]


def test_a_rollback_brings_back_the_old_release_and_its_answers(world, first):
    """After a promotion the endpoint serves the new release, after a rollback the old one, with the old answers."""
    store = open_store(world.backend.host_settings())
    images = fetch.fetch("sklearn-digits", "", world.settings.home / "data").test.images[:20]
    old = first[0].outputs["published"]["version"]
    new = next(m["version"] for m in releases.list_releases(store)[0] if m["version"] != old)
    answers = {}
    for version in (old, new):
        if ledger.champion(store) != version:
            ledger.promote(store, version, "a test")
        world.backend.redeploy()
        assert world.served() == version
        answers[version] = world.ask(images)
    assert not np.allclose(answers[old], answers[new])
    ledger.rollback(store)
    world.backend.redeploy()
    assert world.served() == old
    np.testing.assert_array_equal(world.ask(images), answers[old])


def test_a_run_does_not_undo_a_promotion_or_a_rollback(world, first):
    """A release that was replaced is not promoted again by the run that made it, from the cache or not."""
    store = open_store(world.backend.host_settings())
    old, new = ledger.champion(store), ledger.entries(store)[-2].version
    assert old == first[0].outputs["published"]["version"] != new
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


def test_an_interrupted_run_is_cancelled_and_leaves_nothing_running(world, first):
    """Ctrl-C while the first steps run: the run is CANCELED, and no process or container of it is left."""

    def interrupt(event):
        if event["event"] == "started":
            raise KeyboardInterrupt

    with pytest.raises(Interrupted) as interrupted:
        world.backend.run(Request(PARAMETERS, use_cache=False), interrupt)
    assert interrupted.value.exit_code == 130
    assert runs.find(world.settings.home).record()["state"] == "CANCELED"
    assert _left(world) == []


def test_no_secret_is_in_anything_that_was_written(world, first):
    """Neither runs, logs, cache, MLflow's database nor the store's objects hold a credential."""
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


def _left(world):
    """The processes and step containers that belong to this home's runs."""
    home = str(world.settings.home / "runs")
    left = [p.info["pid"] for p in psutil.process_iter(["pid", "cmdline"]) if home in " ".join(p.info["cmdline"] or [])]
    if world.backend.name == "docker":
        client = containers.connect()
        left += [c.name for c in containers.list_containers(client, world.settings, "step")]
        client.close()
    return left
