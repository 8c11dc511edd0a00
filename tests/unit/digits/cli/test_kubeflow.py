"""The commands for Kubeflow and `digits run --backend kubeflow` against a server of the Pipelines API."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from backends.kubeflow import backend
from backends.kubeflow.tasks import UNCACHED_STEPS
from digits.errors import MissingError, UsageError
from pipeline import BATCH, BATCH_STEPS, STEPS
from tests.helpers.kfp_api import Pipelines, serving
from tests.helpers.kfp_runs import OUTPUTS, compile_quickly, invoke, pod, succeeded


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipelines]:
    compile_quickly(monkeypatch)
    monkeypatch.setattr(backend, "POLL_SECONDS", 0.01)
    with serving(Pipelines()) as server:
        yield server


def test_the_pipeline_is_written_as_kubernetes_objects(tmp_path: Path, api: Pipelines) -> None:
    """--kubernetes writes KFP's Pipeline and a PipelineVersion whose name follows the content, in the namespace."""
    names = []
    for number, memory in enumerate(("3Gi", "3Gi", "4Gi")):
        path = tmp_path / f"{number}.yaml"
        environ = {"K8S_NAMESPACE": "team", "DIGITS_TRAIN_MEMORY": memory}
        answer = invoke(api, tmp_path, "compile", "--kubernetes", "--output", str(path), **environ)
        assert answer.exit_code == 0, answer.output
        pipeline, version = yaml.safe_load_all(path.read_text())
        assert (pipeline["kind"], version["kind"]) == ("Pipeline", "PipelineVersion")
        assert {pipeline["metadata"]["namespace"], version["metadata"]["namespace"]} == {"team"}
        assert version["spec"]["pipelineName"] == pipeline["metadata"]["name"]
        assert len(version["spec"]["pipelineSpec"]["deploymentSpec"]["executors"]) == len(STEPS)
        assert version["spec"]["platformSpec"]["platforms"]["kubernetes"]
        names.append(version["metadata"]["name"])
    assert names[0] == names[1] != names[2]


def test_the_pipeline_of_batches_is_written(tmp_path: Path, api: Pipelines) -> None:
    """--batch writes the definition of `digits batch`, with this task as its default, configured for Kubeflow."""
    path = tmp_path / "batch.yaml"
    answer = invoke(api, tmp_path, "compile", "--batch", "--output", str(path), DIGITS_TASK="fashion")
    assert answer.exit_code == 0, answer.output
    pipeline, platform = yaml.safe_load_all(path.read_text())
    executors = {f"exec-{step}" for step in BATCH_STEPS}
    assert (pipeline["pipelineInfo"]["name"], set(pipeline["deploymentSpec"]["executors"])) == (BATCH, executors)
    assert set(platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]) == executors
    assert pipeline["root"]["inputDefinitions"]["parameters"]["task"]["defaultValue"] == "fashion"
    assert invoke(api, tmp_path, "compile", "--batch", "--kubernetes", "--output", str(path)).exit_code != 0


def test_submit_does_not_wait(api: Pipelines, tmp_path: Path) -> None:
    """The run's id and address are printed, and the run is not watched."""
    api.snapshots = [("RUNNING", [])]
    page = {"DIGITS_KFP_UI": "https://kubeflow.test"}
    answer = invoke(api, tmp_path, "submit", "--epochs", "7", "--json", **page)
    assert answer.exit_code == 0, answer.output
    output = json.loads(answer.stdout)
    assert output["run"] in api.runs
    assert output["url"].endswith(output["run"])
    assert api.runs[output["run"]]["runtime_config"]["parameters"]["epochs"] == 7
    assert api.looks == 0


@pytest.mark.parametrize("command", [("submit",), ("schedule", "--every", "12h")], ids=lambda words: words[0])
def test_a_preset_sets_its_epochs(api: Pipelines, tmp_path: Path, command: tuple[str, ...]) -> None:
    """A preset is trained for its own epochs, not for the definition's three, as with `digits run`."""
    assert invoke(api, tmp_path, *command, "--preset", "accurate").exit_code == 0
    (sent,) = [*api.runs.values(), *api.schedules.values()]
    assert sent["runtime_config"]["parameters"]["preset"] == "accurate"
    assert sent["runtime_config"]["parameters"]["epochs"] == 0


def test_a_version_is_uploaded_once(api: Pipelines, tmp_path: Path) -> None:
    """The same content is not uploaded twice; other settings make another version."""
    first = json.loads(invoke(api, tmp_path, "upload", "--json").stdout)
    again = json.loads(invoke(api, tmp_path, "upload", "--json").stdout)
    other = json.loads(invoke(api, tmp_path, "upload", "--json", DIGITS_STEPS_IMAGE="other:2").stdout)
    assert (first["made"], again["made"], other["made"]) == (True, False, True)
    assert again["version"] == first["version"] != other["version"]
    assert len(api.pipelines) == 1
    assert len(api.versions) == 2
    spec = api.versions[other["version"]]["pipeline_spec"]["pipeline_spec"]
    assert "other:2" in json.dumps(spec)
    steps = spec["root"]["dag"]["tasks"]
    # Whoever starts a run on the page does not know that the world has changed.
    assert {step for step in STEPS if not steps[step]["cachingOptions"]} == {*UNCACHED_STEPS, "deploy"}


def test_a_failed_upload_leaves_no_pipeline(api: Pipelines, tmp_path: Path) -> None:
    """A pipeline whose first version could not be uploaded is removed again."""
    api.fail = lambda method, path: "cut" if path.endswith("upload_version") else None
    answer = invoke(api, tmp_path, "upload")
    assert isinstance(answer.exception, MissingError)
    assert api.pipelines == {}


def test_a_run_has_the_same_answer_as_a_local_one(api: Pipelines, tmp_path: Path) -> None:
    """`digits run --backend kubeflow --json` has the run's outputs, or less if the logs are gone."""
    published = OUTPUTS["published"] | {"digest": "d", "promoted": True, "why": "first", "champion": "abc"}
    succeeded(api)
    api.logs[pod("deploy")] = api.logs[pod("deploy")].replace(json.dumps(OUTPUTS["published"]), json.dumps(published))
    answer = invoke(api, tmp_path, "run", "--backend", "kubeflow", "--json")
    assert answer.exit_code == 0, answer.output
    facts = json.loads(answer.stdout)
    assert (facts["release"], facts["accuracy"]) == ("abc", 0.99)
    assert facts["endpoint"] == OUTPUTS["deployed"]["endpoint"]
    assert facts["report"] == ""  # no server of MLflow is reached from here
    assert "on the run's page" in answer.stderr
    assert "port-forward svc/web 8000:80" in answer.stderr
    api.logs.clear()
    facts = json.loads(invoke(api, tmp_path, "run", "--backend", "kubeflow", "--json").stdout)
    assert (facts["state"], facts["steps"]["train"]["state"]) == ("SUCCEEDED", "done")


def test_schedules_are_created_listed_and_removed(api: Pipelines, tmp_path: Path) -> None:
    """A cron expression of five fields gets its seconds; steps with external inputs are never cached."""
    made = json.loads(invoke(api, tmp_path, "schedule", "--cron", "0 3 * * *", "--epochs", "2", "--json").stdout)
    invoke(api, tmp_path, "schedule", "--every", "12h")
    sent = api.schedules[made["schedule"]]
    assert sent["trigger"] == {"cron_schedule": {"cron": "0 0 3 * * *"}}
    assert sent["runtime_config"]["parameters"] == {"epochs": 2}
    assert not sent.get("plugins_input")  # Kubeflow 2.17.0 would start no run
    refused = invoke(api, tmp_path, "schedule", "--every", "12h", DIGITS_KFP_MLFLOW="1")
    assert isinstance(refused.exception, UsageError)
    steps = sent["pipeline_spec"]["pipeline_spec"]["root"]["dag"]["tasks"]
    assert {step for step in STEPS if not steps[step]["cachingOptions"]} == {*UNCACHED_STEPS, "deploy"}
    for item in api.schedules.values():
        item["display_name"] = "digits-recognizer"
    listed = json.loads(invoke(api, tmp_path, "schedule", "--list", "--json").stdout)["schedules"]
    assert [item["when"] for item in listed] == ["0 0 3 * * *", "every 43200 s"]
    assert invoke(api, tmp_path, "schedule", "--delete", made["schedule"]).exit_code == 0
    assert len(api.schedules) == 1


@pytest.mark.parametrize(
    "arguments", [(), ("--list", "--delete", "x"), ("--cron", "3 *"), ("--every", "10s"), ("--every", "soon")]
)
def test_a_wrong_schedule_is_refused(api: Pipelines, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """Contradicting or malformed options are refused before any request."""
    answer = invoke(api, tmp_path, "schedule", *arguments)
    assert isinstance(answer.exception, UsageError)
    assert api.asked == []
