"""Real runs on the process backend: interrupted, killed and resumed, and a step that does not write its outputs.

The contract's tests cover the results of runs, and `tests/faults` a step or a program that dies at any moment.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

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
from tests.helpers.support import ROOT, child_environment, free_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.filterwarnings("ignore")]


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


def trains(home: Home) -> tuple[subprocess.Popen[str], runs.Run, list[psutil.Process]]:
    """Start a run and wait until it trains and has its MLflow run. Return the program, the run and its processes."""
    before = len(runs.all_runs(home.settings.home))
    program = home.start("run", *BASIC, "--json")
    home.wait_for(lambda: len(runs.all_runs(home.settings.home)) > before, "a new run")
    run = home.newest()
    wanted = {("started", "train"), ("mlflow", "")}
    home.wait_for(lambda: wanted <= {(event["event"], event["step"]) for event in home.events(run)}, "training")
    return program, run, home.processes(run)


def test_ctrl_c_ends_everything(home: Home) -> None:
    """SIGINT: exit code 130, the stopped step is shown, all processes end, and MLflow's run is KILLED."""
    program, run, started = trains(home)
    program.send_signal(signal.SIGINT)
    out, err = home.finish(program, 130)
    assert json.loads(out)["exit_code"] == 130
    assert "interrupted" in err
    assert re.search(r"train +[0-9.]+ s  stopped", err)
    assert left(started) == []
    assert run.record()["state"] == "CANCELED"
    assert home.status(run) == "KILLED"


def test_a_killed_program_leaves_nothing_running_and_is_resumed(home: Home) -> None:
    """If the program is killed, its child processes end. The next program marks the run, and resumes it at its step.

    DIGITS_DATA is set by then; the resumed run still uses the data set of the killed one.
    """
    program, run, started = trains(home)
    program.kill()
    program.communicate()
    psutil.wait_procs(started, timeout=90)
    assert left(started) == []
    resumed = home.digits("run", "--resume", DIGITS_DATA=str(home.settings.home))
    assert (run.record()["state"], home.status(run)) == ("FAILED", "KILLED")
    cached = {"fetch-mnist", "collect-feedback", "prepare"}
    states = {name: step["state"] for name, step in resumed["steps"].items()}
    assert states == {step: "cached" if step in cached else "done" for step in STEPS}
    assert (resumed["state"], resumed["promoted"], resumed["champion"]) == ("SUCCEEDED", True, resumed["release"])
    assert (home.newest().record()["state"], home.status(home.newest())) == ("SUCCEEDED", "FINISHED")
    assert resumed["data"]["dataset"] == "sklearn-digits"
    assert Path(resumed["report"]).is_file()
    test = fetch.fetch("sklearn-digits", "", home.settings.home).test
    answer = client.predict(resumed["endpoint"], test.images[:50])
    assert (answer.classes == test.labels[:50]).mean() > 0.8
    assert answer.release == resumed["release"]
    assert home.digits("verify")["holds"]
    assert "nothing to resume" in home.digits("run", "--resume", code=2)["error"]


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
for how in ("good", "silent", "half"):
    os.environ["DIGITS_EVENTS"] = str(folder / how)
    try:
        one(how=how)
    except RuntimeError:
        print(how, "failed")
'''


def test_a_step_without_its_outputs_is_failed(tmp_path: Path) -> None:
    """A step that exits with 0 without writing its declared outputs fails, and the error names the outputs."""
    script = tmp_path / "one_step.py"
    script.write_text(SILENT_STEP)
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "run")],
        env=child_environment(Settings(home=tmp_path)),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=True,
    )
    assert re.findall(r"(\w+) failed$", done.stdout, re.MULTILINE) == ["silent", "half"]
    for how in ("good", "silent", "half"):
        logged = events.EventLog(tmp_path / "run" / how).read_new()
        (ended,) = [event for event in logged if event["event"] != "started"]
        assert ended["event"] == ("finished" if how == "good" else "failed")
        assert how == "good" or "without writing model" in ended["cause"]


def test_a_damaged_data_set_fails_before_anything_runs(home: Home, tmp_path: Path) -> None:
    """A truncated file is refused by its name before a run is created."""
    before = len(runs.all_runs(home.settings.home))
    name = f"{catalog.TEST_LABELS}.gz"
    for file in catalog.SOURCES["mnist"].files:
        (tmp_path / f"{file}.gz").write_bytes(b"\x1f\x8b" + bytes(20))
    answer = home.digits("run", "--data", str(tmp_path), code=1)
    assert ".gz" in answer["error"]
    assert "gzip" in answer["error"]
    assert (tmp_path / name).stat().st_size == 22
    assert len(runs.all_runs(home.settings.home)) == before
