"""Digests of the code that produces a step's output, and the versions of the libraries.

`step_digest` is part of a step's cache key, and the one of `train` is part of a release's identity. The digest covers
the code that determines the step's output: its function in `digits.steps`, the names that the function uses there, and
all modules of `digits` that these import, directly or not. Comments, docstrings and modules in NEUTRAL are excluded.
"""

from __future__ import annotations

import ast
import datetime
import functools
import hashlib
import importlib.metadata
import platform
import re
from collections.abc import Iterator
from pathlib import Path

LIBRARIES = ("numpy", "tensorflow", "tensorflow-cpu", "keras", "onnxruntime", "tf2onnx", "mlflow", "kfp")
ROOT = Path(__file__).parent.parent
# These modules move, store and report content without changing it. A class in `results` changes only together with the
# function of its step. `digits.steps` imports only these at its top.
NEUTRAL = {
    "attempts",
    "errors",
    "events",
    "files",
    "http",
    "provenance",
    "proxies",
    "remedies",
    "results",
    "settings",
    "store",
    "variables",
}

# Regular expressions, because parsing all modules would cost each run 0.2 s.
_IMPORT = re.compile(r"^ *(?:from (digits[\w.]*) import (\([^)]*\)|[^\n]*)|import (digits[\w.]*))", re.MULTILINE)
_STRING = r'"""(?:\\.|[^\\])*?"""|"(?:\\.|[^"\\\n])*"|' + r"'(?:\\.|[^'\\\n])*'"
_PROSE = re.compile(
    r'^(?P<docstring> *)"""(?:\\.|[^\\])*?""" *$|(?P<comment> *#[^\n]*)|' + _STRING, re.MULTILINE | re.DOTALL
)


@functools.cache
def step_digest(step: str, root: Path = ROOT) -> str:
    """Return the hex SHA-256 over the code that determines the output of a step of the pipeline, such as "train".

    `root` is the folder that holds the package `digits`.
    """
    definitions, parts = _definitions(root / "digits" / "steps.py"), dict[str, str]()
    names = [step.replace("-", "_")]
    while names:
        if (name := names.pop()) in definitions and name not in parts:
            parts[name], used = definitions[name]
            names += used
    # A step that gets a task by its name depends on the built-in tasks; the others get the text of theirs.
    tasks = sorted((root / "digits/tasks").glob("*.toml")) if "task: str" in "".join(parts.values()) else []
    modules = [module for part in parts.values() for module in _imports(part)]
    while modules:
        name = modules.pop()
        path = root.joinpath(*name.split(".")).with_suffix(".py")
        if name not in parts and path.exists() and name.split(".")[1] not in NEUTRAL:
            source = path.read_text(encoding="utf-8")
            data = [path.with_suffix(".html"), *(tasks if name == "digits.tasks.task" else [])]  # .html: of the report
            parts[name] = without_prose(source) + "".join(
                file.read_text(encoding="utf-8") for file in data if file.exists()
            )
            modules += _imports(source)
    return hashlib.sha256(repr(sorted(parts.items())).encode()).hexdigest()


@functools.cache
def source_digest() -> str:
    """Return the hex SHA-256 over all sources of `digits` except the command line."""
    hashed = hashlib.sha256()
    for path in sorted((ROOT / "digits").rglob("*")):
        name = path.relative_to(ROOT).as_posix()
        if path.suffix in {".py", ".html", ".toml", ".npz"} and not name.startswith("digits/cli/"):
            hashed.update(f"{name}\0".encode() + path.read_bytes() + b"\0")
    return hashed.hexdigest()


def timestamp() -> str:
    """Return the time in UTC, in ISO 8601 with milliseconds, as manifests and the ledger record it."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")


def library_versions() -> dict[str, str]:
    """Return {library: version} for Python and those of LIBRARIES that are installed."""
    versions = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


@functools.cache
def _definitions(path: Path) -> dict[str, tuple[str, set[str]]]:
    """Return {name: (source, used names)} of the functions, classes and variables of a module."""
    text, definitions = path.read_text(encoding="utf-8"), dict[str, tuple[str, set[str]]]()
    lines = text.splitlines()
    for node in ast.parse(text).body:
        names = [inner for inner in ast.walk(node) if isinstance(inner, ast.Name)]
        assigned = {inner.id for inner in names if isinstance(inner.ctx, ast.Store)}
        source = without_prose("\n".join(lines[node.lineno - 1 : node.end_lineno]))
        used = {inner.id for inner in names} - assigned
        for name in [node.name] if isinstance(node, ast.FunctionDef | ast.ClassDef) else assigned:
            definitions[name] = source, used
    return definitions


def _imports(source: str) -> Iterator[str]:
    """Yield the modules of `digits` that `source` imports, and MODULE.NAME for imported names, modules or not."""
    for module, names, whole in _IMPORT.findall(source):
        yield module or whole
        yield from (f"{module}.{name}" for name in re.findall(r"\w+", names))


def _replacement(match: re.Match[str]) -> str:
    if match["docstring"] is not None:
        return f'{match["docstring"]}""'
    return "" if match["comment"] else match[0]


def without_prose(source: str) -> str:
    """Return Python code with docstrings emptied, and without comments and blank lines."""
    code = _PROSE.sub(_replacement, source)
    return "\n".join(line for line in code.splitlines() if line.strip())
