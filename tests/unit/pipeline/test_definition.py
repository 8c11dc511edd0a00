"""The compiled definition: seven steps, their order, their artifacts, and nothing of this machine."""

from __future__ import annotations

import getpass
import os
import socket
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helpers.support import ROOT

pytestmark = pytest.mark.filterwarnings("ignore")  # kfp's

CANARIES = {"MINIO_ACCESS_KEY": "canary-a", "MINIO_SECRET_KEY": "canary-b", "DIGITS_ENDPOINT_TOKEN": "canary-c"}
ORDER = {
    "fetch-mnist": set(),
    "collect-feedback": set(),
    "prepare": {"fetch-mnist", "collect-feedback"},
    "train": {"prepare"},
    "evaluate": {"fetch-mnist", "collect-feedback", "prepare", "train"},
    "publish": {"prepare", "train", "evaluate"},
    "deploy": {"publish", "train", "collect-feedback", "fetch-mnist"},  # it tells what they have found
}


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The compiled YAML, made with secrets in the environment."""
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
    found: dict[str, Any] = next(iter(yaml.safe_load_all(text)))
    return found


def test_it_loads_with_kfp(text: str) -> None:
    """KFP itself accepts the YAML and finds the parameters with the earlier designs' defaults."""
    from kfp import components

    loaded = components.load_component_from_text(text)
    inputs = loaded.component_spec.inputs
    assert loaded.name == "digits-recognizer"
    assert (inputs["epochs"].default, inputs["optimizer"].default) == (3, "adam")
    assert inputs["experiment"].default == "digits-recognizer-kfp"


def test_seven_steps_in_their_order(spec: dict[str, Any]) -> None:
    """The seven steps depend on each other as designed; the two first depend on nothing, and deploy is not cached."""
    from pipeline import STEPS

    tasks = spec["root"]["dag"]["tasks"]
    assert {name: set(task.get("dependentTasks", ())) for name, task in tasks.items()} == ORDER
    assert set(STEPS) == set(ORDER)
    assert [name for name, task in tasks.items() if not task["cachingOptions"].get("enableCache")] == ["deploy"]


def test_artifacts_are_typed(spec: dict[str, Any]) -> None:
    """Each step declares what it writes by KFP's own types."""

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


def test_every_step_says_which_code_it_is(spec: dict[str, Any]) -> None:
    """The digest of our code is a parameter of each step, because no cache looks at it otherwise."""
    for step in ORDER:
        assert "code" in spec["components"][f"comp-{step}"]["inputDefinitions"]["parameters"]


def test_nothing_is_installed_at_start(text: str) -> None:
    """No step asks pip for anything, so a cluster without a network runs it."""
    assert "pip install" not in text
    assert "ensurepip" not in text


def test_it_holds_no_secret_and_no_path_of_this_machine(text: str) -> None:
    """Neither credentials nor folders nor names of this machine are compiled in."""
    forbidden = [*CANARIES.values(), "/canary/home", str(ROOT), str(Path.home()), socket.gethostname()]
    if getpass.getuser() not in {"root", "user"}:
        forbidden.append(getpass.getuser())
    for word in forbidden:
        assert word not in text, word
    assert os.sep + "tmp" + os.sep not in text.replace("/tmp/kfp", "")  # searched for, not written to


def test_compiling_twice_gives_the_same(text: str, tmp_path: Path) -> None:
    """The YAML depends on the code alone."""
    from pipeline.definition import compile_to

    compile_to(tmp_path / "again.yaml")
    assert (tmp_path / "again.yaml").read_text() == text
    assert [path.name for path in tmp_path.iterdir()] == ["again.yaml"]
