"""`digits run`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from digits.data.catalog import names
from digits.settings import Settings
from digits.tasks.task import find
from digits.training.optimizers import OPTIMIZERS
from tests.helpers.command import Digits

pytestmark = pytest.mark.filterwarnings("ignore")  # warnings of kfp and MLflow


def test_help_lists_the_values_of_an_option(digits: Digits) -> None:
    """`digits run --help` lists all optimizers and data sets, and an optimizer may be written in capitals."""
    result = " ".join(digits("run", "--help").out.split())
    assert ", ".join(OPTIMIZERS) in result
    assert ", ".join(names()) in result
    assert "--resume [RUN]" in result
    assert digits("run", "--optimizer", "SGD", "--compile-only").code == 0
    assert "'ftrl'" in digits("run", "--optimizer", "ftrl").err


def test_a_resumed_run_is_named(digits: Digits, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """`digits run --resume` first prints which run it resumes."""
    from backends import runs
    from backends.base import Request
    from digits.errors import StepFailed

    taken = runs.create(settings.home, "process", Request({})).id
    runs.find(settings.home).update(state="FAILED")

    class Stub:
        def check(self) -> None:
            raise StepFailed("train", "as before")

        def close(self) -> None:
            """Nothing is open."""

    monkeypatch.setattr("backends.open_backend", lambda _: Stub())
    result = digits("run", "--resume")
    assert result.code == 1
    assert result.err.startswith(f"resuming run {taken}\n")


def test_a_misspelt_setting_is_reported_before_a_run(digits: Digits, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that resembles a setting is reported before a run starts."""
    monkeypatch.setenv("DIGITS_PROT", "9000")
    result = digits("run", "--resume", "nothing")
    assert "DIGITS_PROT is not a setting and has no effect; did you mean DIGITS_PORT?" in result.err


@pytest.mark.parametrize("line", ['preset = "slow"', 'model = "huge"'])
def test_an_unknown_preset_of_a_task_file_is_refused_before_a_run(digits: Digits, tmp_path: Path, line: str) -> None:
    """A preset or network that does not exist is refused before anything runs, with those that do."""
    task = 'name = "flowers"\nlabels = ["a", "b"]\n[image]\nheight = 28\nwidth = 28\n'
    (tmp_path / "task.toml").write_text(f"{task}[training]\n{line}\n", encoding="utf-8")
    result = digits("run", "--task", str(tmp_path / "task.toml"), "--data", str(tmp_path))
    assert result.code == 2
    assert re.search(r"(preset|model): expected one of \w+, \w+, got '(slow|huge)'", result.err)


def test_compile_only_runs_nothing(digits: Digits, settings: Settings, tmp_path: Path) -> None:
    """--compile-only writes the YAML file and starts neither a run nor a predictor."""
    assert digits("run", "--compile-only", "--json").json == {"output": "pipeline.yaml"}
    result = digits("run", "--compile-only", "--output", "a/b.yaml")
    assert (result.code, result.out) == (0, "")
    assert (tmp_path / "a" / "b.yaml").read_text() == (tmp_path / "pipeline.yaml").read_text()
    spec = next(iter(yaml.safe_load_all((tmp_path / "pipeline.yaml").read_text())))
    assert len(spec["root"]["dag"]["tasks"]) == 7
    assert not (settings.home / "runs").exists()


def test_compile_only_keeps_the_chosen_parameters(digits: Digits, tmp_path: Path) -> None:
    """Options given with --compile-only become defaults in the YAML; the others keep the definition's."""
    assert digits("run", "--compile-only", "--epochs", "5", "--optimizer", "sgd").code == 0
    spec = next(iter(yaml.safe_load_all((tmp_path / "pipeline.yaml").read_text())))
    parameters = spec["root"]["inputDefinitions"]["parameters"]
    assert [parameters[name]["defaultValue"] for name in ("epochs", "optimizer", "preset")] == [5, "sgd", "fast"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "--compile-only", "--resume"),
        ("run", "--compile-only", "--no-cache"),
        ("run", "--dataset", "sklearn-digits", "--data", "/mnist"),
        ("run", "--min-accuracy", "nan"),
        ("run", "--experiment", ""),
        ("schedule", "--every", "24h", "--learning-rate", "nan"),
        ("serve", "--http-port", "8080", "--grpc-port", "8080"),
    ],
)
def test_options_that_contradict_each_other_are_refused(arguments: tuple[str, ...], digits: Digits) -> None:
    """A value that no run accepts, and options of which one would be ignored, are usage errors."""
    assert digits(*arguments).code == 2


def test_a_run_of_another_task_is_not_resumed(digits: Digits, settings: Settings) -> None:
    """--resume needs the task of the run; the error names it."""
    from backends import runs
    from backends.base import Request

    runs.create(settings.home, "process", Request({"task": "fashion"})).update(state="FAILED")
    result = digits("run", "--resume")
    assert result.code == 2
    assert "is of the task fashion, not of digits" in result.err


def test_a_task_sets_the_parameters_that_no_option_sets(digits: Digits, tmp_path: Path) -> None:
    """The compiled pipeline has the task's values as its defaults, and an option replaces each of them."""
    task = (
        'name = "pets"\nlabels = ["cat", "dog"]\nimage = {height = 16, width = 16}\n[training]\npreset = "accurate"\n'
    )
    (tmp_path / "pets.toml").write_text(task + 'min_accuracy = 0.7\n[data]\nplace = "s3://bucket/pets"\n')
    arguments = ["run", "--task", "pets.toml", "--compile-only", "--min-accuracy", "0.8"]
    assert digits(*arguments).code == 0
    inputs = yaml.safe_load((tmp_path / "pipeline.yaml").read_text())["root"]["inputDefinitions"]["parameters"]
    given = {name: parameter["defaultValue"] for name, parameter in inputs.items()}
    assert (given["preset"], given["epochs"], given["min_accuracy"], given["experiment"]) == (
        "accurate",
        0,
        0.8,
        "pets",
    )
    assert find(given["task"]).data.place == "s3://bucket/pets"


def test_a_folder_of_pictures_is_not_for_kubeflow(digits: Digits, tmp_path: Path) -> None:
    """Pods cannot read this machine's folders; the error has the command that copies the pictures."""
    task = 'name = "pets"\nlabels = ["cat", "dog"]\nimage = {height = 16, width = 16}\ndata = {place = "here"}\n'
    (tmp_path / "pets.toml").write_text(task)
    result = digits("compile", "--task", "pets.toml")
    assert result.code == 2
    assert "digits data s3://" in result.err
