"""The run at the end of an acceptance run."""

from __future__ import annotations

import dataclasses
import sys

import kfp
import pytest

from backends.acceptance.probe import FAILED, PASSED, SKIPPED, Context, run_probes
from backends.acceptance.probes import PROBES
from backends.acceptance.real_run import PARAMETERS
from backends.kubeflow import backend
from digits.settings import Settings
from tests.helpers.kfp_api import Pipelines, serving
from tests.helpers.kfp_runs import compile_quickly, succeeded, task, tasks

(PROBE,) = (dataclasses.replace(probe, needs=()) for probe in PROBES if probe.name == "run")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "POLL_SECONDS", 0.01)
    compile_quickly(monkeypatch)


def test_the_run_is_deleted_after_its_success(settings: Settings) -> None:
    """A small run is submitted, its release is named, and the run is deleted on Kubeflow."""
    with serving(Pipelines()) as api:
        succeeded(api)
        context = Context(dataclasses.replace(settings.with_backend("kubeflow"), kfp_host=api.url))
        (outcome,) = run_probes((PROBE,), context)
    assert (outcome.state, [finding.name for finding in outcome.findings]) == (PASSED, ["run", "removed"])
    (run,) = api.runs.values()
    assert api.deleted == [run["run_id"]]
    sent = run["runtime_config"]["parameters"]
    assert {name: sent[name] for name in PARAMETERS} == PARAMETERS


def test_a_failed_run_stays_for_its_logs(settings: Settings) -> None:
    """A run that failed is not deleted, and the step that failed is named."""
    with serving(Pipelines()) as api:
        api.snapshots = [("FAILED", tasks(task("train", "FAILED", error="no memory")))]
        context = Context(dataclasses.replace(settings.with_backend("kubeflow"), kfp_host=api.url))
        (outcome,) = run_probes((PROBE,), context)
    assert (outcome.state, api.deleted) == (FAILED, [])
    assert "train" in outcome.findings[-1].found


def test_an_image_without_the_compiler_runs_nothing(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the steps' image, which cannot compile the pipeline, the probe is skipped."""
    monkeypatch.delattr(kfp, "kubernetes", raising=False)
    monkeypatch.setitem(sys.modules, "kfp.kubernetes", None)
    (outcome,) = run_probes((PROBE,), Context(settings))
    assert (outcome.state, "digits[pipeline]" in outcome.findings[0].found) == (SKIPPED, True)


@pytest.mark.parametrize("seconds", [0.0, 2.0])
def test_a_run_beyond_its_deadline_is_cancelled(seconds: float, settings: Settings) -> None:
    """At the deadline the run is terminated on Kubeflow, also if it was not yet submitted."""
    with serving(Pipelines()) as api:
        api.snapshots = [("RUNNING", tasks(task("train", "RUNNING")))]
        context = Context(dataclasses.replace(settings.with_backend("kubeflow"), kfp_host=api.url))
        (outcome,) = run_probes((dataclasses.replace(PROBE, seconds=seconds),), context)
    assert (outcome.state, set(api.terminated)) == (FAILED, set(api.runs))
