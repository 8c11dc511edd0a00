"""Small releases for tests that never load a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from digits.release import releases
from digits.release.write import write_release
from digits.store import ObjectStore
from digits.tasks.task import find

TASK = find("digits").text()
DATA = {"dataset": "mnist", "source": "s", "train": "t"}


def release_folder(path: Path, text: str = "model") -> Path:
    """Create the files of a release, whose content starts with `text`; return the folder."""
    (path / "saved_model" / "variables").mkdir(parents=True)
    for name in ("model.onnx", "model.keras", "saved_model/saved_model.pb", "saved_model/variables/variables.index"):
        (path / name).write_text(f"{text} {name}")
    return path


def manifest(seed: int) -> dict[str, Any]:
    """Return a manifest without its files; another seed makes another release."""
    parts: dict[str, Any] = {"weights": "w", "data": DATA, "code": "c", "parameters": {"seed": seed}}
    digest = releases.identity(**parts)
    version = releases.version_from_digest(digest)
    about = {"metrics": {"accuracy": 0.99}, "mlflow_run": "", "task": TASK}
    return parts | about | {"digest": digest, "version": version}


def small_release(store: ObjectStore, folder: Path, seed: int = 0) -> str:
    """Write a small release with files in `folder`; return its version."""
    return str(write_release(store, release_folder(folder / str(seed)), manifest(seed))["version"])
