"""The processes of steps: each runs its command, and none remains."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from backends.process.step_processes import StepProcesses
from digits.settings import Settings
from tests.helpers.homes import SECONDS
from tests.helpers.support import ROOT, child_environment

SOURCE = """
def deploy():
    import gc, os
    print('value', os.environ['STEP_VALUE'], os.environ['TMPDIR'], gc.isenabled())
"""
WAITING = """
import os, sys
from pathlib import Path
from backends.process.step_processes import StepProcesses

steps = StepProcesses()
steps.start("deploy", Path(sys.argv[1]))
print(*(process.pid for process in steps._waiting.values()), flush=True)
if sys.argv[2] == "killed":
    os.kill(os.getpid(), 9)
"""


def test_a_killed_process_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step runs with its variables and collects garbage, also if the process that waited for it was killed."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    steps, log = StepProcesses(), tmp_path / "deploy.log"
    steps.start("deploy", log)
    for child in psutil.Process().children():
        child.kill()
        psutil.wait_procs([child], SECONDS)
    arguments = ["--executor_input", json.dumps({"inputs": {}, "outputs": {"outputFile": str(tmp_path / "out")}})]
    command = ["sh", "-ec", "…", SOURCE, *arguments, "--function_to_execute", "deploy"]
    assert steps.run("deploy", command, {"STEP_VALUE": "7"}, log) == 0
    assert f"value 7 {tmp_path} True" in log.read_text()


@pytest.mark.parametrize("end", ["killed", "finished"])
def test_a_waiting_process_ends_with_its_parent(end: str, tmp_path: Path) -> None:
    """A process whose step never starts ends with the engine, however that ends."""
    done = subprocess.run(
        [sys.executable, "-c", WAITING, str(tmp_path / "log"), end],
        env=child_environment(Settings(home=tmp_path)),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == (-9 if end == "killed" else 0), done.stderr
    for pid in map(int, done.stdout.split()):
        if psutil.pid_exists(pid):
            assert not psutil.wait_procs([psutil.Process(pid)], SECONDS)[1]


def run_program(program: str, home: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a step's environment."""
    return subprocess.run(
        [sys.executable, "-c", program],
        env=child_environment(Settings(home=home)) | variables,
        stdin=subprocess.DEVNULL,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def test_a_step_whose_workers_train_imports_no_tensorflow(tmp_path: Path) -> None:
    """With several workers only their own processes import TensorFlow."""
    program = (
        "import sys; from backends.process.step_main import main; main('train'); print('tensorflow' in sys.modules)"
    )
    done = run_program(program, tmp_path, DIGITS_WORKERS="2")
    assert done.stdout == "False\n", done.stderr


def test_a_signal_during_an_import_ends_a_step_without_a_traceback(tmp_path: Path) -> None:
    """A step that is interrupted while it imports its libraries ends by the signal, and its log stays empty."""
    (tmp_path / "interrupting.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGINT)")
    program = (
        f"import sys; sys.path.append({str(tmp_path)!r}); from backends.process import step_main; "
        "step_main.IMPORTS = {'deploy': ('interrupting',)}; step_main.main('deploy')"
    )
    done = run_program(program, tmp_path)
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")
