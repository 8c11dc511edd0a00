"""Check the product's sources for unsafe calls: loading code as data, unpacking archives, running a shell."""

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
# Modules and functions that execute what they read.
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
# The modules that open a model file, and why its content is trusted there.
LOADERS = {
    "digits/training/export.py": "the model that this process has just written",
    "digits/evaluation/metrics.py": "the model of the previous step, whose digest the step checks",
    "digits/serving/slot.py": "after `releases.check_folder`",
}


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """Yield the calls in a module, each with the last part of the function's name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Attribute):
                yield node.func.attr, node
            elif isinstance(node.func, ast.Name):
                yield node.func.id, node


def constant(call: ast.Call, name: str) -> object:
    """Return the constant value of a keyword argument, None if there is none."""
    values = [k.value for k in call.keywords if k.arg == name]
    return values[0].value if values and isinstance(values[0], ast.Constant) else None


@pytest.mark.parametrize("name", SOURCES)
def test_nothing_unsafe_is_called(name: str) -> None:
    """The module uses no pickle, HDF5, archive extraction, shell, unsafe YAML or unsafe Keras loading."""
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
        assert constant(call, "shell") is not True
        assert constant(call, "allow_pickle") is not True
        assert constant(call, "safe_mode") is not False
        assert constant(call, "verify") is not False


def test_arrays_are_loaded_without_pickle() -> None:
    """Each np.load passes allow_pickle=False explicitly."""
    found = {}
    for name, tree in SOURCES.items():
        for _, call in calls(tree):
            if ast.unparse(call.func) in {"np.load", "numpy.load"}:
                found[name] = constant(call, "allow_pickle")
    assert set(found.values()) == {False}


def test_only_listed_modules_open_models() -> None:
    """Only the modules listed here, which check its digest, open a model file."""
    opened = {name for name, tree in SOURCES.items() for called, _ in calls(tree) if called == "InferenceSession"}
    assert opened == set(LOADERS)
    keras = {name for name, tree in SOURCES.items() for called, _ in calls(tree) if called == "load_model"}
    assert keras == {"digits/training/export.py"}
