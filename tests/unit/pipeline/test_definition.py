"""The compiled definition: seven steps, their order, their artifacts, and no data of this machine."""

from __future__ import annotations

import getpass
import os
import socket
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import yaml

from digits.errors import UsageError
from digits.provenance import step_digest
from digits.tasks.task import find
from digits.training.recipe import PRESETS, TrainingConfig
from pipeline import DEFAULTS, check_parameters
from tests.helpers.support import ROOT

pytestmark = pytest.mark.filterwarnings("ignore")  # kfp's

CANARIES = {"MINIO_ACCESS_KEY": "canary-a", "MINIO_SECRET_KEY": "canary-b", "DIGITS_ENDPOINT_TOKEN": "canary-c"}
ORDER = {
    "fetch-mnist": set(),
    "collect-feedback": set(),
    "prepare": {"fetch-mnist", "collect-feedback"},
    "train": {"prepare"},
    "evaluate": {"fetch-mnist", "collect-feedback", "prepare", "train"},
    "publish": {"fetch-mnist", "collect-feedback", "prepare", "train", "evaluate"},
    "deploy": {"publish", "train", "collect-feedback", "fetch-mnist"},  # it emits their outputs
}


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The YAML, compiled with secrets in the environment."""
    from pipeline.definition import compile_to

    path = tmp_path_factory.mktemp("compiled") / "pipeline.yaml"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in CANARIES.items():
            patch.setenv(name, value)
        patch.setenv("DIGITS_HOME", "/canary/home")
        compile_to(path)
    return path.read_text()


@pytest.fixture(scope="module")
def spec(text: str) -> dict[str, Any]:
    """Its first document, the pipeline's specification."""
    document: dict[str, Any] = next(iter(yaml.safe_load_all(text)))
    return document


def test_the_recorded_parameters_of_an_own_task_are_accepted() -> None:
    """A run records the data set of its task by the task's name, with which --resume runs it again."""
    task = find("fashion")
    check_parameters({"task": task.text(), "dataset": task.name})
    with pytest.raises(UsageError, match="data set"):
        check_parameters({"dataset": task.name})


def test_it_loads_with_kfp(text: str) -> None:
    """KFP loads the YAML, and the parameters have the earlier designs' defaults."""
    from kfp import components

    loaded = components.load_component_from_text(text)
    inputs = loaded.component_spec.inputs
    assert loaded.name == "digits-recognizer"
    assert (inputs["epochs"].default, inputs["optimizer"].default) == (3, "adam")
    assert inputs["experiment"].default == "digits-recognizer-kfp"


def test_seven_steps_in_their_order(spec: dict[str, Any]) -> None:
    """The seven steps depend on each other as designed, the first two on nothing, and only deploy is not cached."""
    from pipeline import STEPS

    tasks = spec["root"]["dag"]["tasks"]
    assert {name: set(task.get("dependentTasks", ())) for name, task in tasks.items()} == ORDER
    assert tuple(ORDER) == STEPS
    assert [name for name, task in tasks.items() if not task["cachingOptions"].get("enableCache")] == ["deploy"]


def test_artifacts_are_typed(spec: dict[str, Any]) -> None:
    """Each step declares its outputs with KFP's own types."""

    def outputs(step: str) -> dict[str, str]:
        artifacts = spec["components"][f"comp-{step}"].get("outputDefinitions", {}).get("artifacts", {})
        return {
            name: artifact["artifactType"]["schemaTitle"].removeprefix("system.")
            for name, artifact in artifacts.items()
        }

    assert outputs("fetch-mnist") == {"fetched": "Dataset"}
    assert outputs("collect-feedback") == {"corrections": "Dataset"}
    assert set(outputs("prepare").values()) == {"Dataset"}
    assert outputs("train") == {"model": "Model", "history": "Artifact"}
    assert (
        outputs("evaluate").items()
        >= {"metrics": "Metrics", "confusion": "ClassificationMetrics", "report": "HTML"}.items()
    )
    assert outputs("publish") == {"report": "HTML"}


def test_the_digest_of_its_code_is_in_each_steps_cache_key(spec: dict[str, Any]) -> None:
    """The digest of a step's code is one of its parameters, because no engine's cache considers it otherwise."""
    for step, task in spec["root"]["dag"]["tasks"].items():
        assert task["inputs"]["parameters"]["code"] == {"runtimeValue": {"constant": step_digest(step)}}


def test_the_defaults_are_those_of_the_package(spec: dict[str, Any]) -> None:
    """The definition's parameters have the defaults that the command line shows."""
    inputs = spec["root"]["inputDefinitions"]["parameters"]
    defaults = {name: parameter["defaultValue"] for name, parameter in inputs.items()}
    assert defaults == asdict(DEFAULTS) | {"store": "", "feedback": "", "source": ""}


def test_the_training_defaults_are_the_recipes() -> None:
    """The definition and the recipe name the same preset, network and optimizer by default."""
    shared = asdict(TrainingConfig())
    assert asdict(DEFAULTS).items() >= (shared | {"epochs": PRESETS[shared["preset"]].epochs}).items()


def test_nothing_is_installed_at_start(text: str) -> None:
    """No step calls pip, so the pipeline runs on a cluster without a network."""
    assert "pip install" not in text
    assert "ensurepip" not in text


def test_it_holds_no_secret_and_no_path_of_this_machine(text: str) -> None:
    """The YAML has no credential, folder, host name or user name of this machine."""
    forbidden = [*CANARIES.values(), "/canary/home", str(ROOT), str(Path.home()), socket.gethostname()]
    if getpass.getuser() not in {"root", "user"}:
        forbidden.append(getpass.getuser())
    for word in forbidden:
        assert word not in text, word
    assert os.sep + "tmp" + os.sep not in text.replace("/tmp/kfp", "")  # searched for, not written to


def test_compiling_twice_gives_the_same(text: str, tmp_path: Path) -> None:
    """The YAML depends only on the code."""
    from pipeline.definition import compile_to

    compile_to(tmp_path / "again.yaml")
    assert (tmp_path / "again.yaml").read_text() == text
    assert [path.name for path in tmp_path.iterdir()] == ["again.yaml"]
