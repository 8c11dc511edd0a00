"""The compiled definition of batch prediction: a plan, a loop over the shares, and the manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline import BATCH_STEPS, PODS
from pipeline.batch_definition import build
from pipeline.definition import compile_to

pytestmark = pytest.mark.filterwarnings("ignore")  # kfp's


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The pipeline's specification."""
    path = tmp_path_factory.mktemp("compiled") / "batch.yaml"
    compile_to(path, of=build)
    text = path.read_text()
    assert "pip install" not in text
    document: dict[str, Any] = next(iter(yaml.safe_load_all(text)))
    return document


@pytest.fixture(scope="module")
def loop(spec: dict[str, Any]) -> dict[str, Any]:
    """The body of the loop."""
    dag: dict[str, Any] = spec["components"]["comp-for-loop-1"]["dag"]["tasks"]
    return dag


def test_the_shares_are_predicted_between_the_plan_and_the_manifest(spec: dict[str, Any], loop: dict[str, Any]) -> None:
    """The first step comes before the loop, the last one after it, and the loop has a pod for each share."""
    steps = spec["root"]["dag"]["tasks"]
    first, middle, last = BATCH_STEPS
    after = {name: step.get("dependentTasks", []) for name, step in steps.items()}
    assert after == {first: [], "for-loop-1": [first], last: ["for-loop-1"]}
    assert set(loop) == {middle}
    assert steps["for-loop-1"]["parameterIterator"]["items"] == {"inputParameter": "pipelinechannel--shares"}
    parameters = spec["root"]["inputDefinitions"]["parameters"]
    assert len(parameters["shares"]["defaultValue"]) == PODS
    assert {name for name, parameter in parameters.items() if "defaultValue" not in parameter} == {"pictures", "output"}


def test_no_step_gets_the_output_of_another_one(spec: dict[str, Any], loop: dict[str, Any]) -> None:
    """All inputs are the pipeline's, because inside a loop kfp.local 2.17 replaces others by the loop's item."""
    for step in (*spec["root"]["dag"]["tasks"].values(), *loop.values()):
        assert {next(iter(source)) for source in step["inputs"]["parameters"].values()} == {"componentInputParameter"}


def test_no_step_is_cached(spec: dict[str, Any], loop: dict[str, Any]) -> None:
    """A step whose output was removed from the store runs again."""
    steps = spec["root"]["dag"]["tasks"] | loop
    assert [steps[name]["cachingOptions"] for name in BATCH_STEPS] == [{}, {}, {}]


def test_the_yaml_depends_on_the_code_alone(spec: dict[str, Any], tmp_path: Path) -> None:
    """Compiling again gives the same."""
    compile_to(tmp_path / "again.yaml", of=build)
    assert next(iter(yaml.safe_load_all((tmp_path / "again.yaml").read_text()))) == spec
