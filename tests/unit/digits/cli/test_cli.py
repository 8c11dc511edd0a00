"""The entry point: exit codes, messages and the JSON object of an error."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import shutil
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import click
import numpy as np
import pytest
import yaml
from PIL import Image

from digits.cli import cli, main
from digits.release import ledger
from digits.settings import Settings
from tests.helpers.command import Digits
from tests.helpers.drawings import enlarge
from tests.helpers.shapes import write_shapes
from tests.helpers.support import ROOT, child_environment

pytestmark = pytest.mark.filterwarnings("ignore")  # warnings of kfp and MLflow


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["run", "--epochs", "0"], "0 is not in the range"),
        (["run", "--epochs", "many"], "not a valid integer"),
        (["run", "--backend", "slurm"], "'process', 'docker', 'kubeflow'"),
        (["run", "--dataset", "letters"], "sklearn-digits"),
        (["run", "--backend", "kubeflow", "--data", "http://files/mnist"], "ConfigMap digits-settings"),
        (["run", "--min-accuracy", "95"], "95"),
        (["run", "--nonsense"], "No such option"),
        (["run", "--output", "x.yaml"], "--compile-only"),
        (["predict", "no-such-file.png"], "no-such-file.png"),
        (["new", "flowers", ""], "empty"),
        (["run", "--data", ""], "empty"),
        (["releases", "--task", ""], "empty"),
        (["data", ""], "empty"),
        (["data", "https://user:pass@host/x"], "expected a path"),
        (["batch", "pictures", "gs://bucket/x"], "expected a path"),
        (["batch", "https://user:pass@host/x", "answers"], "expected a path"),
        (["keys", "new", "s3://bucket/key"], "expected a path"),
        (["acceptance", "--output", "s3://bucket/results"], "expected a path"),
        (["compile", "--output", "http://user:pass@host/x"], "expected a path"),
        (["batch", "", "answers"], "empty"),
        (["batch", "pictures", ""], "empty"),
        (["verify", ""], "empty"),
        (["serve", "--release", ""], "--release: expected a value, got an empty text"),
        (["cluster", "deploy", "--task="], "--task: expected a value, got an empty text"),
        (["clean", "--all", ""], "the argument after --all: expected a value, got an empty text"),
        (["keys", "sign", ""], "empty"),
        (["report", ""], "empty"),
        (["predict", "--endpoint", "", "0"], "empty"),
        (["cluster", "deploy", ""], "empty"),
        (["releases", "--task", "https://user:pass@host/x"], "expected a path"),
        (["nonsense"], "No such command"),
        (["relases"], "Did you mean releases?"),
    ],
)
def test_wrong_usage_exits_with_2(arguments: list[str], expected: str, digits: Digits) -> None:
    """A wrong option exits with 2 and states what is expected, as JSON with --json."""
    result = digits(*arguments)
    assert result.code == 2
    assert expected in result.err
    assert result.out == ""
    if arguments[0] != "nonsense":
        answer = digits(*arguments, "--json").json
        assert expected in answer["error"]
        assert answer["exit_code"] == 2


def test_the_arguments_of_the_manifest_serve_any_release(digits: Digits, tmp_path: Path) -> None:
    """The runtime's arguments start the predictor if the InferenceService has no annotation for a release."""
    runtime = yaml.safe_load((ROOT / "manifests/base/serving-runtime.yaml").read_text())
    given = " ".join(runtime["spec"]["containers"][0]["args"])
    given = given.replace("$(RELEASE)", "").replace("{{.Name}}", "digits").replace("/mnt/models", str(tmp_path))
    given = given.replace("8080", "0").replace("8081", "0").replace("0.0.0.0", "127.0.0.1")
    result = digits("serve", *given.split())
    assert result.code == 1, result.err
    assert str(tmp_path) in result.err  # the folder of the model is empty


def test_an_invalid_setting_exits_with_2(digits: Digits, monkeypatch: pytest.MonkeyPatch) -> None:
    """An invalid environment variable is a usage error that names it."""
    settings = Settings()
    object.__setattr__(settings, "tracking_uri", "./mlruns")
    result = digits("releases", on=settings)
    assert result.code == 2
    assert "MLFLOW_TRACKING_URI" in result.err


def test_an_env_file_in_another_encoding_exits_with_2(digits: Digits, tmp_path: Path) -> None:
    """A .env file that is not UTF-8 is named together with the expected encoding."""
    (tmp_path / ".env").write_bytes("DIGITS_DATA=/prüfung".encode("latin-1"))
    result = digits("releases", "--json")
    assert (result.code, "expected a readable text file in UTF-8" in result.json["error"]) == (2, True)
    assert ".env" in result.err


def test_a_home_that_cannot_be_created_exits_with_1(digits: Digits, tmp_path: Path) -> None:
    """If DIGITS_HOME cannot be created, the error names what is in the way and a remedy."""
    (tmp_path / "file").write_text("no folder")
    result = digits("run", "--json", on=Settings(home=tmp_path / "file" / "home"))
    assert result.code == 1
    assert f"{tmp_path / 'file'} " in result.json["error"]
    assert "DIGITS_HOME" in result.json["remedy"]


@pytest.mark.parametrize("command", ["releases", "report --no-open", "doctor", "run", "feedback", "clean --yes"])
def test_a_path_that_the_system_refuses_is_no_fault_of_digits(
    command: str, digits: Digits, settings: Settings, tmp_path: Path
) -> None:
    """A home that this user may not use, here for the length of its name, is named without a traceback."""
    home = tmp_path / ("h" * 300)
    result = digits(*command.split(), on=dataclasses.replace(settings, home=home))
    assert result.code == 1
    assert f"{home}" in result.err
    assert "File name too long" in result.err
    assert "internal error" not in result.err


@pytest.mark.parametrize("error", [MemoryError("1 GB"), ImportError("x.so: failed to map segment from shared object")])
def test_a_lack_of_memory_is_no_fault_of_digits(
    error: Exception, digits: Digits, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also a library that cannot be loaded for want of memory (ulimit -v) is reported with a remedy."""

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(ledger, "champion", fail)
    result = digits("releases")
    assert (result.code, "internal error" in result.err) == (3, False)
    assert f"no memory is left: {type(error).__name__}" in result.err


@pytest.mark.parametrize("writable", [True, False])
def test_a_bug_is_reported_with_its_traceback(
    writable: bool, digits: Digits, settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An unexpected exception exits with 1; its traceback is in a file or on the terminal, without passwords."""
    home = settings.home if writable else tmp_path / "file" / "home"
    (tmp_path / "file").write_text("no folder")

    def faulty(_: object) -> str:
        raise KeyError("http://user:canary@host")

    monkeypatch.setattr(ledger, "champion", faulty)
    result = digits("releases", "--json", on=dataclasses.replace(settings, home=home), traceback=not writable)
    assert (result.code, result.json["exit_code"]) == (1, 1)
    assert "internal error in digits" in result.json["error"]
    assert "KeyError: 'http://<SECRET>@host'" in result.json["error"]
    assert "test_cli.py:" in result.json["error"]
    paths = list(home.glob("logs/fault-*.txt")) if writable else []
    text = paths[0].read_text() if writable else result.err
    assert "in faulty" in text
    assert "canary" not in text + result.err
    assert (str(paths[0]) if writable else "the traceback above") in result.json["remedy"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["run", "--resume"], "no run"),
        (["run", "--resume", "20260101-000000-abcdef"], "no run 20260101-000000-abcdef"),
        (["releases"], "no releases yet"),
        (["report", "--no-open"], "no report"),
        (["verify"], "no champion"),
        (["run", "--data", "/no/such/folder", "--quiet"], "no folder /no/such/folder"),
    ],
)
def test_something_missing_exits_with_3(
    arguments: list[str], expected: str, digits: Digits, settings: Settings
) -> None:
    """Anything missing exits with 3 and a remedy."""
    try:
        result = digits(*arguments)
        assert result.code == 3
        assert expected in result.err
        assert "try:" in result.err
        if arguments != ["releases"]:
            assert expected in digits(*arguments, "--json").json["error"]
    finally:
        stop_endpoint(settings)


def stop_endpoint(settings: Settings) -> None:
    """End the predictor that a run may have started."""
    from backends.process import predictor

    predictor.stop_all(settings)


@pytest.mark.parametrize("command", [["report", "--no-open"], ["run", "--resume"]])
def test_an_unknown_run_lists_the_newest(command: list[str], digits: Digits, settings: Settings) -> None:
    """The error about an unknown run lists the five newest runs."""
    from backends import runs
    from backends.base import Request

    ids = [runs.create(settings.home, "process", Request({})).id for _ in range(6)]
    result = digits(*command, "20260101")
    assert result.code == 3
    assert "no run 20260101" in result.err
    assert all(known in result.err for known in ids[1:])
    assert ids[0] not in result.err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["promote", "0" * 12], "no release"),
        (["rollback"], "no earlier champion"),
        (["predict", "--endpoint", "http://127.0.0.1:9", "drawing.png"], "http://127.0.0.1:9"),
        (["predict", "drawing.png"], "no endpoint is known"),
        (["verify", "http://127.0.0.1:9"], "digits cluster open"),
        (["verify", "0" * 12], "no release"),
    ],
)
def test_a_failure_exits_with_1(arguments: list[str], expected: str, digits: Digits, tmp_path: Path) -> None:
    """A failed command exits with 1 and the reason, as one JSON object with --json."""
    Image.fromarray(enlarge(np.eye(28, dtype=np.uint8) * 255)).save(tmp_path / "drawing.png")
    result = digits(*arguments)
    assert result.code == 1
    assert expected in result.err
    answer = digits(*arguments, "--json")
    assert answer.code == 1
    assert isinstance(answer.json, dict)


@pytest.mark.parametrize(
    ("typed", "completed"),
    [("digits ro", "rollback"), ("digits cluster ro", "rollback"), ("digits run --opt", "--optimizer")],
)
def test_the_shell_completes_commands_and_options(settings: Settings, typed: str, completed: str) -> None:
    """Bash completion as in docs/setup.md answers for commands, groups and options."""
    asked = {"_DIGITS_COMPLETE": "bash_complete", "COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" "))}
    program = "import sys; from digits.cli import main; sys.argv = ['digits']; main()"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=child_environment(settings, **asked),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.split() == [f"plain,{completed}"], done.stderr


def _commands() -> list[tuple[str, click.Command]]:
    """Return (name, command) of every command, of groups those within them."""
    context, commands = click.Context(cli), []
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None
        within = command.commands if isinstance(command, click.Group) else {}
        commands += [(f"{name} {sub}", of) for sub, of in within.items()] or [(name, command)]
    return commands


@pytest.mark.parametrize(("name", "command"), _commands(), ids=lambda value: value if isinstance(value, str) else "")
def test_every_command_that_ends_answers_in_json(name: str, command: click.Command) -> None:
    """Every command has help, and --json unless it serves until it is stopped."""
    serves = name in {"up", "serve", "web", "cluster open"}
    assert ("as_json" in {parameter.name for parameter in command.params}) != serves
    assert command.help


@pytest.mark.parametrize(("name", "command"), _commands(), ids=lambda value: value if isinstance(value, str) else "")
def test_every_help_has_an_example(name: str, command: click.Command) -> None:
    """The help of every command ends with an example, in lines that fit into 80 columns."""
    examples = inspect.cleandoc(command.help or "").partition("\n\n\b\n")[2].splitlines()
    assert any(re.search(rf"\bdigits {name}\b", line) for line in examples)
    assert max(map(len, examples)) <= 78


def test_wrong_usage_with_json_is_one_object(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With --json a usage error that click detects is one object on standard output, and the exit code is 2."""
    monkeypatch.setattr(sys, "argv", ["digits", "run", "--epochs", "many", "--json"])
    with pytest.raises(SystemExit) as ended:
        main()
    answer = json.loads(capsys.readouterr().out)
    assert ended.value.code == answer["exit_code"] == 2
    assert "many" in answer["error"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_interrupts_a_command(number: signal.Signals) -> None:
    """A signal to end, which a terminal also sends when it is closed, is exit code 130 without a traceback."""
    program = (
        "import signal, time; from digits import cli\n"
        "signal.signal(signal.SIGHUP, signal.SIG_DFL)  # which nohup ignores, if it runs the tests\n"
        "cli.cli.main = lambda **_: (print(flush=True), time.sleep(60))\n"
        "cli.main()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        process.stdout.readline()
        process.send_signal(number)
        _, error = process.communicate(timeout=60)
    assert (process.returncode, error) == (130, "interrupted\n")


def test_further_signals_do_not_cut_the_end_of_a_command_short() -> None:
    """After the first signal a command ends what it started, whatever signals follow."""
    program = (
        "import time; from digits import cli\n"
        "def work(**_):\n"
        "    try: print(flush=True); time.sleep(60)\n"
        "    except KeyboardInterrupt: print(flush=True); time.sleep(1); print('ended'); raise\n"
        "cli.cli.main = work; cli.main()"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        process.stdout.readline()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            process.send_signal(number)
        output, _ = process.communicate(timeout=60)
    assert (process.returncode, output) == (130, "ended\n")


def test_ctrl_c_during_the_first_imports_ends_a_command_without_a_traceback() -> None:
    """A SIGINT while the command's modules are being imported is exit code 130 too."""
    program = (
        "import os, runpy, signal, sys; from importlib.abc import MetaPathFinder\n"
        "class Interrupting(MetaPathFinder):\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'click': os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Interrupting()); sys.path.insert(0, '')\n"
        "runpy.run_module('digits', run_name='__main__')"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (130, "interrupted\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["compile", "--output", "{}"],
        ["keys", "new", "{}"],
        ["new", "shapes", "shapes", "--output", "{}"],
        ["data", "copy", "--data", "odd", "--task", "shapes.toml"],
        ["doctor"],
    ],
)
def test_no_name_of_a_file_controls_the_terminal(
    arguments: list[str], digits: Digits, settings: Settings, tmp_path: Path
) -> None:
    """Line breaks and escape sequences in a path that a command prints are replaced."""
    bad = "a\nforged\x1b[2J"
    write_shapes(tmp_path / "shapes", 10)
    assert digits("new", "shapes", "shapes").code == 0
    odd = shutil.copytree(tmp_path / "shapes", tmp_path / "odd")
    picture = next(odd.rglob("*.png"))
    picture.rename(picture.with_name(f"{bad}.png"))
    result = digits(*(part.format(bad) for part in arguments), on=dataclasses.replace(settings, kind_config=bad))
    assert "forged" in result.out + result.err
    assert "\nforged" not in result.out + result.err
    assert "\x1b[2J" not in result.out + result.err


@pytest.mark.parametrize("address", ["http://u:canary finch@h", "u:canary finch@h", "canary finch@h"])
def test_no_command_shows_a_part_of_a_password(address: str, digits: Digits, settings: Settings) -> None:
    """A command shows no part, whether the address is an argument or in the environment, where spaces separate two."""
    for arguments in (["verify", address], ["web", "--no-open", "--port", "0"]):
        result = digits(*arguments, on=dataclasses.replace(settings, endpoints=address))
        assert result.code
        assert not re.search("canary|finch", result.out + result.err), result.err


def test_a_removed_working_directory_is_named(digits: Digits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that needs the working directory says that it was removed; it is no internal error."""
    (gone := tmp_path / "gone").mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    result = digits("batch", "pictures", "answers")
    assert (result.code, "the present folder was removed" in result.err) == (2, True)
    monkeypatch.chdir(tmp_path)


def test_warnings_of_another_project_are_no_errors(digits: Digits, monkeypatch: pytest.MonkeyPatch) -> None:
    """With PYTHONWARNINGS=error, a warning within a library, such as one of MLflow's, does not end a command."""
    warnings.simplefilter("error")
    monkeypatch.setenv("PYTHONWARNINGS", "error")
    digits("keys", "new", "key")
    warnings.warn("deprecated", DeprecationWarning, stacklevel=1)


def test_python_without_docstrings_is_refused(settings: Settings) -> None:
    """With PYTHONOPTIMIZE=2 MLflow fails, which made an intact release look damaged."""
    done = subprocess.run(
        [sys.executable, "-m", "digits", "releases"],
        capture_output=True,
        text=True,
        timeout=60,
        env=child_environment(settings, PYTHONOPTIMIZE="2"),
        check=False,
    )
    assert (done.returncode, "unset PYTHONOPTIMIZE" in done.stderr) == (2, True)
