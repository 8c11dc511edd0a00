"""Follow docs/extending.md: apply its examples to a copy of the packages, and use what they add."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from backends.process import predictor
from digits.settings import Settings
from tests.helpers.support import ROOT, child_environment

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
TEXT = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
# An example: the file that it changes, how, the line that it refers to, and the lines themselves.
CHANGE = re.compile(
    r"^```(?:python|toml)\n# (\S+), (new|at the end|below|instead of)(?:: ([^\n]+))?\n(.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
HEADINGS = {
    "an optimizer": "An optimizer",
    "a network": "A network",
    "a data set": "A data set",
    "a step": "A step",
    "a metric": "A metric",
    "an object store": "An object store",
    "a backend": "A backend",
    "a protocol": "A protocol of the endpoint",
    "a setting": "A setting",
}


def run_python(arguments: list[str], environment: dict[str, str]) -> str:
    """Run Python in the folder that comes first in PYTHONPATH. Return its standard output."""
    done = subprocess.run(
        [sys.executable, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        cwd=environment["PYTHONPATH"].split(":")[0],
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@dataclass(frozen=True)
class Extended:
    """A copy of the packages with all examples applied.

    Attributes:
        folder: the copy.
        changed: the files that each example changed, by the name of what it adds.
    """

    folder: Path
    changed: dict[str, set[str]]

    def python(self, home: Path, *arguments: str) -> str:
        """Run Python in the copy, with a home and with the added object store. Return its standard output."""
        # Not a field of Settings: in this process the scheme is unknown.
        store, settings = f"shared://{home / 'store'}", Settings(home=home, port=0, grpc_port=0)
        environment = child_environment(settings, DIGITS_STORE=store, PYTHONPATH=str(self.folder))
        return run_python([*arguments], environment)


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Extended:
    """Copy the packages and apply every example."""
    folder, changed = tmp_path_factory.mktemp("extended"), {}
    for package in ("digits", "pipeline", "backends", "web_app", "tests"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    for name, heading in HEADINGS.items():
        section = TEXT.split(f"\n## {heading}\n")[1].split("\n## ")[0]
        changes = CHANGE.findall(section)
        assert len(changes) == section.count("```") / 2
        changed[name] = {file for file, *_ in changes}
        for file, where, anchor, lines in changes:
            apply(folder / file, where, anchor, lines)
    return Extended(folder, changed)


def apply(path: Path, where: str, anchor: str, lines: str) -> None:
    """Make one change to a file."""
    source = "" if where == "new" else path.read_text(encoding="utf-8")
    if where == "below":
        anchor, lines = f"{anchor}\n", f"{anchor}\n{lines}"
    if anchor:
        assert source.count(anchor) == 1, f"{path.name}: {anchor}"
        path.write_text(source.replace(anchor, lines.removesuffix("\n") if where == "instead of" else lines))
    else:
        path.write_text(f"{source}\n\n{lines}" if source else lines)


def test_the_examples_together_make_a_release(extended: Extended, tmp_path: Path) -> None:
    """The added optimizer, network, step, metric, store and backend make one release together."""
    options = "--backend here --optimizer careful --preset plain --dataset sklearn-digits --min-accuracy 0.3 --json"
    try:
        answer = json.loads(extended.python(tmp_path, "-m", "digits", "run", *options.split()))
    finally:
        predictor.stop_all(Settings(home=tmp_path))
    assert answer["steps"]["weigh"]["state"] == "done"
    manifest = json.loads((tmp_path / "store" / "models/digits" / answer["release"] / "manifest.json").read_text())
    assert (manifest["parameters"]["optimizer"], manifest["parameters"]["preset"]) == ("careful", "plain")
    assert manifest["metrics"]["accuracy"] <= manifest["metrics"]["top2"] <= 1


def test_an_added_step_is_compiled(extended: Extended, tmp_path: Path) -> None:
    """The added step is in the pipeline that Kubeflow receives."""
    extended.python(tmp_path, "-m", "digits", "compile", "--output", str(tmp_path / "pipeline.yaml"))
    assert "exec-weigh" in (tmp_path / "pipeline.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("suite", "chosen", "least"),
    [("tests/contract/test_stores.py", "shared", 6), ("tests/contract/test_backends.py", "here and damaged", 1)],
    ids=["store", "backend"],
)
def test_an_added_store_and_backend_run_in_the_contract(
    extended: Extended, tmp_path: Path, suite: str, chosen: str, least: int
) -> None:
    """The contract's tests run for the added store and for the added backend, and pass."""
    output = extended.python(tmp_path, "-m", "pytest", "-q", "-p", "no:cacheprovider", suite, "-k", chosen)
    assert int(re.findall(r"(\d+) passed", output)[0]) >= least


def test_an_added_data_set_is_fetched_by_its_name(extended: Extended, tmp_path: Path) -> None:
    """`--task shapes` finds the task of the added file, and its pictures are read and copied."""
    for label in ("circle", "square"):
        (tmp_path / "pictures" / label).mkdir(parents=True)
        for name in range(10):
            Image.new("L", (28, 28), 255 - name).save(tmp_path / "pictures" / label / f"{name}.png")
    copy = ("-m", "digits", "data", str(tmp_path / "copy"), "--task", "shapes", "--data", str(tmp_path / "pictures"))
    extended.python(tmp_path / "home", *copy)
    assert len(list((tmp_path / "copy").rglob("*.png"))) == 20


def test_an_added_setting_is_read_and_reaches_a_step(extended: Extended, tmp_path: Path) -> None:
    """The added setting is read from its variable, and containers and pods receive it."""
    program = "from digits.settings import *; print(Settings.load({'DIGITS_GREETING': 'hi'}).greeting, *STEP_VARIABLES)"
    greeting, *variables = extended.python(tmp_path, "-c", program).split()
    assert greeting == "hi"
    assert "DIGITS_GREETING" in variables


PROTOCOL_CLIENT = """
import sys, urllib.request
import numpy as np
from digits.serving.app import PredictApp
from digits.serving.slot import LoadedModel, ModelSlot
from digits.tasks.task import find
sys.path.insert(0, ".")
from tests.helpers.http_server import http_server

slot = ModelSlot()
manifest = {"version": "1", "task": find("digits").text()}
threes = LoadedModel(manifest, lambda pixels: np.eye(10, dtype=np.float32)[[3] * len(pixels)])
slot.swap(threes)
with http_server(PredictApp(slot, "digits", {}).listener) as address:
    with urllib.request.urlopen(f"http://{address}/raw/digits", data=bytes(2 * 784), timeout=10) as answer:
        print(list(answer.read()))
"""


def test_an_added_protocol_is_served(extended: Extended, tmp_path: Path) -> None:
    """A request with two images in the added protocol returns two digits."""
    assert extended.python(tmp_path, "-c", PROTOCOL_CLIENT).split("\n")[0] == "[3, 3]"


def test_the_table_counts_the_files_that_an_addition_changes(extended: Extended) -> None:
    """The page's table counts the files that each example changes, and how many of them are tests."""
    rows = re.findall(r"^\| (an? [a-z ]+) \| (\d+) \| (\d+) \|$", TEXT, re.MULTILINE)
    table = {name: (int(files), int(tests)) for name, files, tests in rows}
    assert table == {
        name: (len(files), sum(file.startswith("tests/") for file in files)) for name, files in extended.changed.items()
    }
