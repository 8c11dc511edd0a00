"""The documentation says what the code does: generated pages, links, kinds of errors, and a text that is followed."""

from __future__ import annotations

import gzip
import http.server
import inspect
import json
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import click
import numpy as np
import pytest

from dev import reference
from digits.cli import cli, main
from digits.data import catalog
from digits.settings import Settings
from tests.helpers.mnist_files import tiny_files
from tests.helpers.support import ROOT, child_environment

DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.glob("*.md"), *ROOT.glob("*.md")])
LINK = re.compile(r"(?<!`)\[[^\]\n]*\]\(([^)\s]+)\)")


def test_the_configuration_page_is_current() -> None:
    """The page of settings is what `python dev/reference.py` writes."""
    assert reference.PAGE.read_text(encoding="utf-8") == reference.configuration(), "run: python dev/reference.py"


def test_the_tests_that_reliability_names_exist() -> None:
    """Each fault that the page says another lane injects is injected by a test of that name."""
    named = re.findall(r"`tests/(\S+?\.py)::(\w+)`", (DOCS / "reliability.md").read_text(encoding="utf-8"))
    assert len(named) > 15
    for file, test in named:
        assert f"\ndef {test}(" in (ROOT / "tests" / file).read_text(encoding="utf-8"), f"{file}::{test}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Links between pages, to files and to headings hold; those to the network are not asked."""
    broken = []
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        if "://" in target or target.startswith("mailto:"):
            continue
        path, _, anchor = target.partition("#")
        other = (page.parent / path) if path else page
        if not other.exists() or (anchor and other.suffix == ".md" and anchor not in _anchors(other)):
            broken.append(target)
    assert not broken


def _anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def test_readme_blocks_are_there() -> None:
    """The blocks that CI runs are found by their names."""
    from dev import readme

    assert {"demo", "test", "use"} <= set(readme.BLOCKS)


def test_a_data_set_is_added_as_the_text_says(tmp_path: Path) -> None:
    """docs/extending.md, "A data set": print the entry, paste it, and the data set is fetched from its mirror."""
    text = (DOCS / "extending.md").read_text(encoding="utf-8")
    script = re.search(r"```python source-entry\n(.*?)```", text, re.DOTALL)
    called = re.search(r"^python (entry\.py) (\S+) \S+ \S+/$", text, re.MULTILINE)
    assert script
    assert called
    (tmp_path / called[1]).write_text(script[1], encoding="utf-8")
    served = tmp_path / "served"
    served.mkdir()
    for name, content in tiny_files().items():
        assert f"{name}.gz" in text
        (served / f"{name}.gz").write_bytes(gzip.compress(content))

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Nothing."""

    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), lambda *given: Quiet(*given, directory=str(served))
    ) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        mirror = f"http://127.0.0.1:{server.server_address[1]}/"
        environment = child_environment(Settings(home=tmp_path / "home"))
        entry = _python([str(tmp_path / called[1]), called[2], str(served), mirror], environment)

        checkout = tmp_path / "checkout"
        shutil.copytree(ROOT / "digits", checkout / "digits", ignore=shutil.ignore_patterns("__pycache__"))
        module = checkout / "digits" / "data" / "catalog.py"
        source = module.read_text(encoding="utf-8")
        assert source.count("SOURCES = {\n") == 1
        module.write_text(source.replace("SOURCES = {\n", f"SOURCES = {{\n{entry}"), encoding="utf-8")

        environment["PYTHONPATH"] = str(checkout)
        fetch = (
            "import json, pathlib, sys; from digits import steps; from digits.data import catalog;"
            " facts = steps.fetch_mnist('fashion-mnist', pathlib.Path(sys.argv[1]));"
            " print(json.dumps(facts | {'digits': catalog.are_digits('fashion-mnist')}))"
        )
        facts = json.loads(_python(["-c", fetch, str(tmp_path / "out")], environment))
        server.shutdown()
    assert (facts["dataset"], facts["train_count"], facts["test_count"]) == ("fashion-mnist", 7, 3)
    assert facts["digits"] is False
    with np.load(tmp_path / "out" / "test.npz") as written:
        expected = np.frombuffer(tiny_files()[catalog.TEST_IMAGES], np.uint8, offset=16).reshape(3, 28, 28)
        assert np.array_equal(written["images"], expected)


CHANGE = re.compile(
    r"^```python\n# (\S+\.py), (new|at the end|below|instead of)(?:: ([^\n]+))?\n(.*?)^```$", re.DOTALL | re.MULTILINE
)
ADDED = {
    "an optimizer": "An optimizer",
    "a network": "A network",
    "a step": "A step",
    "an object store": "An object store",
    "a backend": "A backend",
    "a protocol": "A protocol of the endpoint",
}


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, set[str]]]:
    """A copy of the packages with every example of docs/extending.md applied, and {what was added: files changed}."""
    checkout, changed = tmp_path_factory.mktemp("extended"), {}
    for folder in ("digits", "pipeline", "backends", "web_app", "tests"):
        shutil.copytree(ROOT / folder, checkout / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", checkout)
    text = (DOCS / "extending.md").read_text(encoding="utf-8")
    for added, title in ADDED.items():
        section = text.split(f"\n## {title}\n")[1].split("\n## ")[0]
        changes = CHANGE.findall(section)
        assert len(changes) == section.count("```python")
        changed[added] = {file for file, *_ in changes}
        for file, where, anchor, lines in changes:
            _change(checkout / file, where, anchor, lines)
    return checkout, changed


def _change(path: Path, where: str, anchor: str, lines: str) -> None:
    source = "" if where == "new" else path.read_text(encoding="utf-8")
    if where == "below":
        anchor, lines = f"{anchor}\n", f"{anchor}\n{lines}"
    if anchor:
        assert source.count(anchor) == 1, f"{path.name}: {anchor}"
        path.write_text(source.replace(anchor, lines.removesuffix("\n") if where == "instead of" else lines))
    else:
        path.write_text(f"{source}\n\n{lines}" if source else lines)


def _extended_environment(checkout: Path, home: Path) -> dict[str, str]:
    return child_environment(Settings(home=home, store=f"shared://{home / 'store'}"), PYTHONPATH=str(checkout))


@pytest.mark.slow
def test_what_is_added_as_the_text_says_runs(extended: tuple[Path, dict[str, set[str]]], tmp_path: Path) -> None:
    """An optimizer, a network, a step, a store and a backend, added by the text's own lines, make one release."""
    options = "--backend here --optimizer careful --preset plain --dataset sklearn-digits --min-accuracy 0.3 --json"
    answer = json.loads(
        _python(["-m", "digits", "run", *options.split()], _extended_environment(extended[0], tmp_path))
    )
    assert answer["steps"]["weigh"]["state"] == "done"
    manifest = json.loads((tmp_path / "store" / "models/digits" / answer["release"] / "manifest.json").read_text())
    assert (manifest["parameters"]["optimizer"], manifest["parameters"]["preset"]) == ("careful", "plain")


def test_a_step_added_as_the_text_says_is_compiled(extended: tuple[Path, dict[str, set[str]]], tmp_path: Path) -> None:
    """The step is in the pipeline that Kubeflow gets, with what it needs there."""
    _python(
        ["-m", "digits", "compile", "--output", str(tmp_path / "pipeline.yaml")],
        _extended_environment(extended[0], tmp_path),
    )
    compiled = (tmp_path / "pipeline.yaml").read_text(encoding="utf-8")
    assert "exec-weigh" in compiled


def test_a_store_added_as_the_text_says_keeps_the_contract(
    extended: tuple[Path, dict[str, set[str]]], tmp_path: Path
) -> None:
    """The contract's suite finds the new store by its parameter, and the store passes."""
    suite = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/contract/test_stores.py", "-k", "shared"]
    said = _python(suite, _extended_environment(extended[0], tmp_path))
    assert int(re.findall(r"(\d+) passed", said)[0]) > 5


SERVED = """
import functools, sys, urllib.request
import numpy as np
from digits.serving.inline import Direct
from digits.serving.app import Front
from digits.serving.slot import Loaded, Served
sys.path.insert(0, ".")
from tests.helpers.serving import serving

served = Served()
served.exchange(Loaded({"version": "1"}, lambda pixels: np.eye(10, dtype=np.float32)[[3] * len(pixels)]))
front = Front(served, "digits", None)
with serving(front, http=functools.partial(Direct, front), ws="none", lifespan="off") as url:
    with urllib.request.urlopen(f"{url}/raw/digits", data=bytes(2 * 784), timeout=10) as answer:
        print(list(answer.read()))
"""


def test_a_protocol_added_as_the_text_says_is_spoken(
    extended: tuple[Path, dict[str, set[str]]], tmp_path: Path
) -> None:
    """Two images in the new protocol are answered over HTTP by a digit each."""
    assert _python(["-c", SERVED], _extended_environment(extended[0], tmp_path)).split("\n")[0] == "[3, 3]"


def test_the_table_counts_the_files_that_an_addition_touches(extended: tuple[Path, dict[str, set[str]]]) -> None:
    """docs/extending.md says of each addition how many files its examples change, and how many of these are tests."""
    rows = re.findall(
        r"^\| (an? [a-z ]+) \| (\d+) \| (\d+) \|$", (DOCS / "extending.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    told = {added: (int(files), int(tests)) for added, files, tests in rows if added != "a data set"}
    assert told == {
        added: (len(files), sum(file.startswith("tests/") for file in files)) for added, files in extended[1].items()
    }


def _python(arguments: list[str], environment: dict[str, str]) -> str:
    # In the folder whose packages are meant, for `-c` puts the present one first.
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


def _commands() -> list[tuple[str, click.Command]]:
    """(name, command) of every command and of those within groups."""
    context, found = click.Context(cli), []
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None
        within = command.commands if isinstance(command, click.Group) else {}
        found += [(f"{name} {sub}", of) for sub, of in within.items()] or [(name, command)]
    return found


@pytest.mark.parametrize(("name", "command"), _commands(), ids=lambda value: value if isinstance(value, str) else "")
def test_every_command_that_ends_answers_in_json(name: str, command: click.Command) -> None:
    """docs/setup.md: all but those that serve until they are ended have --json, and each says what it does."""
    serves = name in {"up", "serve", "web", "cluster open"}
    assert ("as_json" in {parameter.name for parameter in command.params}) != serves
    assert command.help


@pytest.mark.parametrize(("name", "command"), _commands(), ids=lambda value: value if isinstance(value, str) else "")
def test_every_help_has_an_example(name: str, command: click.Command) -> None:
    """The help of every command that is no group ends with a way to call it, in lines that 80 columns hold."""
    examples = inspect.cleandoc(command.help or "").partition("\n\n\b\n")[2].splitlines()
    assert any(re.search(rf"\bdigits {name}\b", line) for line in examples)
    assert max(map(len, examples)) <= 78


def test_wrong_usage_with_json_is_one_object(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error that click finds is one object on standard output too, and the exit code is 2."""
    monkeypatch.setattr(sys, "argv", ["digits", "run", "--epochs", "many", "--json"])
    with pytest.raises(SystemExit) as ended:
        main()
    answer = json.loads(capsys.readouterr().out)
    assert ended.value.code == answer["exit_code"] == 2
    assert "many" in answer["error"]
