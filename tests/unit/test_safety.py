"""What the product never does: load code as data, unpack by names, run a shell. Read from its sources."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.helpers.support import ROOT

PRODUCT = ("digits", "pipeline", "backends", "web_app")
SOURCES = {
    path.relative_to(ROOT).as_posix(): ast.parse(path.read_text())
    for folder in PRODUCT
    for path in sorted((ROOT / folder).rglob("*.py"))
}
# Formats and functions that run what they read.
UNSAFE_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "h5py"}
UNSAFE_CALLS = {
    "eval",
    "exec",
    "extractall",
    "extract",
    "unpack_archive",
    "unsafe_load",
    "full_load",
    "system",
    "popen",
}
# Where a model file is opened, and why its content is known there.
LOADERS = {
    "digits/training/export.py": "what this very process just wrote",
    "digits/evaluation/metrics.py": "the model of the step before, whose digest the step checks",
    "digits/serving/slot.py": "after `releases.check_folder`",
}


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """The calls in a module, by the last part of what is called."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Attribute):
                yield node.func.attr, node
            elif isinstance(node.func, ast.Name):
                yield node.func.id, node


def given(call: ast.Call, name: str) -> object:
    """The constant that is given for a keyword, None if there is none."""
    found = [k.value for k in call.keywords if k.arg == name]
    return found[0].value if found and isinstance(found[0], ast.Constant) else None


@pytest.mark.parametrize("name", SOURCES)
def test_nothing_unsafe_is_called(name: str) -> None:
    """No pickle, no HDF5, no archive unpacked by its own names, no shell, no YAML with tags, no unsafe Keras."""
    tree = SOURCES[name]
    imported = {
        part.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for part in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names])
    }
    assert not imported & UNSAFE_MODULES
    texts = [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
    assert not [text for text in texts if text.endswith((".h5", ".hdf5", ".pkl", ".pickle"))]
    for called, call in calls(tree):
        assert called not in UNSAFE_CALLS, f"{name}:{call.lineno}: {called}"
        assert given(call, "shell") is not True
        assert given(call, "allow_pickle") is not True
        assert given(call, "safe_mode") is not False
        assert given(call, "verify") is not False


def test_arrays_are_loaded_without_pickle() -> None:
    """Each np.load says allow_pickle=False, though it is the default."""
    found = {}
    for name, tree in SOURCES.items():
        for _, call in calls(tree):
            if ast.unparse(call.func) in {"np.load", "numpy.load"}:
                found[name] = given(call, "allow_pickle")
    assert found == {"digits/data/dataset.py": False}


def test_models_are_opened_in_three_places_only() -> None:
    """Whoever opens a model file has its digest checked; a new place has to be thought about here."""
    opened = {name for name, tree in SOURCES.items() for called, _ in calls(tree) if called == "InferenceSession"}
    assert opened == set(LOADERS)
    keras = {name for name, tree in SOURCES.items() for called, _ in calls(tree) if called == "load_model"}
    assert keras == {"digits/training/export.py"}
