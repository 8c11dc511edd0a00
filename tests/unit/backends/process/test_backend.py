"""Real runs on the process backend: success, failure, resumption, interruption and a killed program.

The tests share one installation and run in order, so that they train only a few times.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from backends import runs
from backends.process import predictor
from digits import events
from digits.data import catalog, fetch
from digits.serving import client
from digits.settings import Settings
from pipeline import STEPS
from tests.helpers.homes import BASIC, SECONDS, Home, left
from tests.helpers.support import ROOT, child_environment, free_port, get_json

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.filterwarnings("ignore")]


def kill_in_training(home: Home) -> tuple[dict[str, Any], runs.Run, list[psutil.Process]]:
    """Kill the shell of a run's train step. Return the answer, the run, and the processes that it had."""
    before = len(runs.all_runs(home.settings.home))
    process = home.start("run", *BASIC[:2], "--epochs", "2", "--json")
    run, steps = home.started_at_train(before)
    started = home.processes(run)
    steps[0].kill()
    return home.answer(process, 1), run, started


def states(answer: dict[str, Any]) -> dict[str, str]:
    return {name: step["state"] for name, step in answer["steps"].items()}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """An empty installation; its predictor ends with the tests."""
    folder = tmp_path_factory.mktemp("process") / "home"
    folder.mkdir()
    settings = Settings(home=folder, port=free_port(), grpc_port=free_port())
    try:
        yield Home(settings)
    finally:
        predictor.stop(settings)


@pytest.fixture(scope="module")
def first(home: Home) -> dict[str, Any]:
    """The result of the first run."""
    return home.digits("run", *BASIC)


@pytest.fixture(scope="module")
def resumed(home: Home, first: dict[str, Any]) -> dict[str, Any]:
    """The result of resuming a failed run: the newest run, or one that is made to fail.

    DIGITS_DATA is set by then; the resumed run still uses the data set of the failed one.
    """
    if home.newest().record()["state"] != "FAILED":
        kill_in_training(home)
    return home.digits("run", "--resume", DIGITS_DATA=str(home.settings.home))


def test_all_seven_steps_are_done(home: Home, first: dict[str, Any]) -> None:
    """From nothing: seven steps, a promoted release, its digests, and an endpoint that recognises a test image."""
    assert states(first) == dict.fromkeys(STEPS, "done")
    assert (first["state"], first["promoted"], first["champion"]) == ("SUCCEEDED", True, first["release"])
    assert first["digest"].startswith(first["release"])
    assert first["data"]["dataset"] == "sklearn-digits"
    assert Path(first["report"]).is_file()
    test = fetch.fetch("sklearn-digits", "", home.settings.home).test
    answer = client.predict(first["endpoint"], test.images[:50])
    assert (answer.classes == test.labels[:50]).mean() > 0.8
    assert answer.release == first["release"]
    assert home.newest().record()["state"] == "SUCCEEDED"
    assert home.status(home.newest()) == "FINISHED"
    assert home.digits("verify")["holds"]


def test_an_unknown_optimizer_is_refused(home: Home, first: dict[str, Any]) -> None:
    """A name that Keras does not have is refused before anything runs; the error lists the names."""
    before = len(runs.all_runs(home.settings.home))
    answer = home.digits("run", *BASIC, "--optimizer", "magic", code=2)
    assert "adam" in answer["error"]
    assert "rmsprop" in answer["error"]
    assert "'magic'" in answer["error"]
    assert len(runs.all_runs(home.settings.home)) == before


def test_a_killed_step_fails_the_run(home: Home, first: dict[str, Any]) -> None:
    """If the shell of the train step is killed, the run fails, the error names the signal, and all processes end."""
    answer, run, started = kill_in_training(home)
    assert "step train failed" in answer["error"]
    assert "SIGKILL" in answer["error"]
    assert "train.log" in answer["error"]
    assert answer["remedy"] == "digits run --resume"
    assert run.record()["state"] == "FAILED"
    assert home.status(run) == "FAILED"
    assert left(started) == []
    assert get_json(f"{first['endpoint']}/v2/models/digits")["parameters"]["release"] == first["release"]


def test_resume_starts_at_the_failed_step(home: Home, first: dict[str, Any], resumed: dict[str, Any]) -> None:
    """`--resume` takes the steps before train from the cache; after its success there is nothing to resume."""
    cached = {"fetch-mnist", "collect-feedback", "prepare"}
    assert resumed["data"]["dataset"] == "sklearn-digits"
    assert states(resumed) == dict.fromkeys(cached, "cached") | dict.fromkeys(set(STEPS) - cached, "done")
    assert resumed["release"] != first["release"]
    assert "nothing to resume" in home.digits("run", "--resume", code=2)["error"]


def test_ctrl_c_ends_everything(home: Home, first: dict[str, Any]) -> None:
    """SIGINT: exit code 130, the stopped step is shown, all processes end, and MLflow's run is KILLED."""
    before = len(runs.all_runs(home.settings.home))
    process = home.start("run", *BASIC[:2], "--epochs", "900", "--json")
    run, _ = home.started_at_train(before)
    started = home.processes(run)
    home.wait_for(lambda: any(e["event"] == "mlflow" for e in home.events(run)), "MLflow run")
    process.send_signal(signal.SIGINT)
    out, err = home.finish(process, 130)
    assert json.loads(out)["exit_code"] == 130
    assert "interrupted" in err
    assert re.search(r"train +[0-9.]+ s  stopped", err)
    assert left(started) == []
    assert run.record()["state"] == "CANCELED"
    assert home.status(run) == "KILLED"


def test_a_killed_program_leaves_nothing_running(home: Home, first: dict[str, Any]) -> None:
    """If the program is killed, its child processes end, and the next run marks the killed one as FAILED and KILLED."""
    before = len(runs.all_runs(home.settings.home))
    process = home.start("run", *BASIC[:2], "--epochs", "901")
    run, _ = home.started_at_train(before)
    started = home.processes(run)
    home.wait_for(lambda: any(e["event"] == "mlflow" for e in home.events(run)), "MLflow run")
    process.kill()
    process.communicate()
    psutil.wait_procs(started, timeout=90)
    assert left(started) == []
    home.digits("run", *BASIC)
    assert run.record()["state"] == "FAILED"
    assert home.status(run) == "KILLED"


SILENT_STEP = '''
import os, sys
from pathlib import Path
from kfp import dsl, local
from backends import runs
from backends.local.kfp_local import guard_steps
from backends.process.backend import start_step

@dsl.component(base_image="digits-python:local", install_kfp_package=False)
def train(how: str, model: dsl.Output[dsl.Model]) -> str:
    """A step that writes its output, or exits early, or returns without writing it."""
    import os
    if how == "silent":
        os._exit(0)
    if how == "good":
        open(model.path, "w").write("x")
    return how

@dsl.pipeline
def one(how: str):
    train(how=how)

class NoMlflow:
    def environment_of(self, step):
        return {}

folder = Path(sys.argv[1])
run = runs.Run(folder)
run.logs.mkdir(parents=True)
guard_steps(start_step, run, NoMlflow())
local.init(runner=local.SubprocessRunner(use_venv=False), pipeline_root=str(folder / "root"))
one(how=sys.argv[2])
'''


@pytest.mark.parametrize("how", ["good", "silent", "half"])
def test_a_step_without_its_outputs_is_failed(how: str, tmp_path: Path) -> None:
    """A step that exits with 0 without writing its declared outputs fails, and the error names the outputs."""
    script, log = tmp_path / "one_step.py", tmp_path / "events.jsonl"
    script.write_text(SILENT_STEP)
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "run"), how],
        env=child_environment(Settings(home=tmp_path), DIGITS_EVENTS=str(log)),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    ended = [event for event in events.EventLog(log).read_new() if event["event"] != "started"]
    assert len(ended) == 1, done.stderr
    if how == "good":
        assert done.returncode == 0
        assert ended[0]["event"] == "finished"
    else:
        assert done.returncode != 0
        assert (ended[0]["event"], ended[0]["step"]) == ("failed", "train")
        assert "without writing model" in ended[0]["cause"]


def test_a_damaged_data_set_fails_before_anything_runs(home: Home, first: dict[str, Any], tmp_path: Path) -> None:
    """A truncated file is refused by its name before a run is created."""
    name = f"{catalog.TEST_LABELS}.gz"
    for file in catalog.SOURCES["mnist"].files:
        (tmp_path / f"{file}.gz").write_bytes(b"\x1f\x8b" + bytes(20))
    answer = home.digits("run", "--data", str(tmp_path), code=1)
    assert ".gz" in answer["error"]
    assert "gzip" in answer["error"]
    assert (tmp_path / name).stat().st_size == 22
    assert [path.name for path in (home.settings.home / "cache").iterdir()] == ["pipeline"]
