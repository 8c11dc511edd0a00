"""A step that does not write its outputs. The contract's tests run the whole pipeline on the process backend."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from digits import events
from digits.settings import Settings
from tests.helpers.homes import SECONDS
from tests.helpers.support import ROOT, child_environment

SILENT_STEP = '''
import os, sys
from pathlib import Path
from kfp import dsl, local
from backends import runs
from backends.local.kfp_local import guard_steps
from backends.process.step_processes import StepProcesses

@dsl.component(base_image="digits-python:local", install_kfp_package=False)
def deploy(how: str, model: dsl.Output[dsl.Model]) -> str:
    """A step that writes its output, or exits early, or returns without writing it."""
    import os
    if how == "silent":
        os._exit(0)
    if how == "good":
        open(model.path, "w").write("x")
    return how

@dsl.pipeline
def one(how: str):
    deploy(how=how)

class NoMlflow:
    def environment_of(self, step):
        return {}

folder = Path(sys.argv[1])
run = runs.Run(folder)
run.logs.mkdir(parents=True)
guard_steps(StepProcesses().run, run, NoMlflow())
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
