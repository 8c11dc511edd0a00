"""The digests of code: what they cover, on a copy of the real sources."""

from __future__ import annotations

import ast
import shutil
from pathlib import Path

import pytest

from digits import provenance
from digits.release import releases
from pipeline import STEPS
from tests.helpers.support import ROOT, Finished

HTTP, FIT = "digits/http.py", "digits/training/fit.py"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The folder of a copy of the package `digits`."""
    shutil.copytree(ROOT / "digits", tmp_path / "digits", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def changed_steps(root: Path) -> set[str]:
    """Return the steps whose digest in `root` differs from this checkout's."""
    digest = provenance.step_digest.__wrapped__  # not cached
    provenance._definitions.cache_clear()
    return {step for step in STEPS if digest(step, root) != provenance.step_digest(step)}


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_a_copy_has_the_same_digests(copy: Path) -> None:
    """The digests depend on the sources and not on their folder."""
    assert changed_steps(copy) == set()


@pytest.mark.parametrize("module", ["http", "settings", "errors", "store/s3", "cli/run", "serving/app"])
def test_code_that_does_not_determine_outputs_is_not_covered(copy: Path, module: str) -> None:
    """A change in HTTP, settings, errors, stores, commands or the server neither retrains nor renames a release."""
    path = copy / "digits" / f"{module}.py"
    path.write_text(path.read_text() + "\n# a comment\nUNUSED = 1\n")
    assert changed_steps(copy) == set()


@pytest.mark.parametrize(
    ("module", "steps"),
    [
        ("training/fit", {"train"}),
        ("training/recipe", {"train"}),
        ("data/dataset", {"fetch-mnist", "collect-feedback", "prepare", "train", "evaluate", "publish"}),
        ("data/corrections", {"collect-feedback"}),
        ("evaluation/metrics", {"evaluate", "publish"}),
        ("release/gate", {"publish"}),
    ],
)
def test_code_that_determines_outputs_is_covered(copy: Path, module: str, steps: set[str]) -> None:
    """A change in the code that a step uses, and only that, misses the step's cache."""
    path = copy / "digits" / f"{module}.py"
    path.write_text(path.read_text() + "\nUNUSED = 1\n")
    assert changed_steps(copy) == steps


def test_a_step_covers_its_own_function_and_constants(copy: Path) -> None:
    """Each step covers its own function in digits/steps.py and the constants that this uses."""
    edit(copy / "digits/steps.py", "VALIDATION_SHARE = 12", "VALIDATION_SHARE = 10")
    assert changed_steps(copy) == {"prepare"}
    edit(copy / "digits/steps.py", "no champion to deploy", "nothing to deploy")
    assert changed_steps(copy) == {"prepare", "deploy"}


def test_the_reports_template_is_covered(copy: Path) -> None:
    """A change of the template misses the cache of the steps that write the report."""
    edit(copy / "digits/evaluation/report.html", "<h2>Confusion</h2>", "<h2>Confusion matrix</h2>")
    assert changed_steps(copy) == {"evaluate", "publish"}


def test_built_in_tasks_are_covered_where_their_names_are_used(copy: Path) -> None:
    """Another built-in task changes the steps that get a task by name, and no release of another task."""
    edit(copy / "digits/tasks/fashion.toml", "sneaker", "shoe")
    changed = changed_steps(copy)
    assert {"fetch-mnist", "collect-feedback"} <= changed
    assert not {"prepare", "train", "evaluate", "publish"} & changed


def test_comments_and_docstrings_do_not_count(copy: Path) -> None:
    """Rewording the comments and docstrings of the training code does not retrain."""
    path = copy / FIT
    lines = path.read_text().splitlines()
    path.write_text("\n".join(["# a comment", *(f"{line}  # a comment" if line == "" else line for line in lines)]))
    edit(path, '"""', '"""Reworded. ')
    assert changed_steps(copy) == set()


def test_removing_prose_keeps_the_code() -> None:
    """Without comments and docstrings each module has the same syntax tree, apart from the docstrings."""
    for path in (ROOT / "digits").rglob("*.py"):
        source = path.read_text()
        assert tree_of(provenance.without_prose(source)) == tree_of(source), path


def tree_of(source: str) -> str:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            node.value.value = ""
    return ast.dump(tree)


def test_steps_import_at_their_top_only_what_does_not_count() -> None:
    """Modules imported at the top of digits/steps.py are covered by no step, so only neutral ones may be."""
    nodes = ast.parse((ROOT / "digits/steps.py").read_text()).body
    imports = [node for node in nodes if isinstance(node, ast.ImportFrom) and str(node.module).startswith("digits")]
    names = {f"{node.module}.{alias.name}".split(".")[1] for node in imports for alias in node.names}
    assert names <= provenance.NEUTRAL


def test_a_release_is_named_after_the_training_code(finished: Finished) -> None:
    """A release's version follows from weights, data, parameters and the training step's digest."""
    manifest = releases.load(finished.store, finished.version)
    assert manifest["code"] == provenance.step_digest("train")
    identity = {name: manifest[name] for name in ("weights", "data", "parameters")}
    assert releases.version_from_digest(releases.identity(**identity, code=manifest["code"])) == finished.version
    assert releases.version_from_digest(releases.identity(**identity, code="0" * 64)) != finished.version
