"""`digits run`."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from digits.data.catalog import names
from digits.settings import Settings
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
        ("compile", "--backend", "nowhere"),
        ("schedule", "--every", "24h", "--learning-rate", "nan"),
        ("serve", "--http-port", "8080", "--grpc-port", "8080"),
    ],
)
def test_options_that_contradict_each_other_are_refused(arguments: tuple[str, ...], digits: Digits) -> None:
    """A value that no run accepts, and options of which one would be ignored, are usage errors."""
    assert digits(*arguments).code == 2
