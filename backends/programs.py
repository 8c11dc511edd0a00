"""Other programs on this machine: checking that they exist, and running them with a timeout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from digits.errors import DigitsError, MissingError
from digits.variables import is_passed

HOW_TO_GET = {
    "docker": "https://docs.docker.com/engine/install/",
    "kind": "https://kind.sigs.k8s.io/docs/user/quick-start/#installation",
    "kubectl": "https://kubernetes.io/docs/tasks/tools/",
}

# Variables that let a program work on something else than its arguments name. With GIT_DIR, for example, kubectl's git
# would check out a folder of manifests in the user's own repository.
_ELSEWHERE = {
    "KUBECONFIG",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_DIR",
    "GIT_INDEX_FILE",
    "GIT_NAMESPACE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_SHALLOW_FILE",
    "GIT_WORK_TREE",
}


class ProgramError(DigitsError):
    """A program ended with an error, or not within its timeout."""


def python(*arguments: str) -> list[str]:
    """Return the command that runs Python with `arguments`; a file of the working directory replaces no module."""
    return [sys.executable, "-P", *arguments]


def python_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return `environment` for a program of ours in Python, without the variables that change what it computes.

    Our packages can be imported in any directory, and no file of the working directory replaces a module, also in the
    programs that it starts.
    """
    kept = {name: value for name, value in environment.items() if is_passed(name)}
    # An entry that is not absolute means the working directory or a folder in it.
    paths = [path for path in kept.pop("PYTHONPATH", "").split(os.pathsep) if Path(path).is_absolute()]
    installed = sys.path[sys.path.index(str(Path(os.__file__).parent)) :]  # what any Python process has, in this order
    root = str(Path(__file__).resolve().parents[1])
    if root not in [*paths, *installed]:
        paths.insert(0, root)
    return kept | {"PYTHONPATH": os.pathsep.join(paths), "PYTHONSAFEPATH": "1"}


def need(name: str) -> None:
    """Check that a program is on PATH, and for docker that its engine answers. Raises MissingError."""
    _check_path(name)
    if name == "docker":
        try:
            program("docker", "version", "--format={{.Server.Version}}", seconds=15)
        except ProgramError as exc:
            raise MissingError(f"the Docker engine does not answer: {exc.message}", remedy="start Docker") from exc


def _check_path(name: str) -> None:
    if shutil.which(name) is None:
        raise MissingError(f"{name} is not on PATH", remedy=HOW_TO_GET.get(name, "install it"))


def program(*command: str, seconds: float = 60) -> str:
    """Run a program and return its standard output.

    Raises:
        MissingError: it cannot be started.
        ProgramError: it ended with an error, or not within `seconds`; the message has the end of its output.
    """
    environ = {key: value for key, value in os.environ.items() if key not in _ELSEWHERE}
    environ["KIND_EXPERIMENTAL_PROVIDER"] = "docker"  # of kind, whatever the user's other clusters run on
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            errors="replace", env=environ,
        )  # fmt: skip
    except OSError as exc:
        _check_path(command[0])
        raise MissingError(
            f"{command[0]} cannot be started: {exc.strerror}", remedy=f"{command[0]} --help, to see whether it runs"
        ) from exc
    with process:
        try:
            stdout, stderr = process.communicate(timeout=seconds)
        except BaseException as exc:
            kill_whole(process)
            if not isinstance(exc, subprocess.TimeoutExpired):
                raise
            raise ProgramError(f"{' '.join(command[:3])} did not end within {seconds:.0f} s") from exc
    if process.returncode:
        output = (stderr.strip() or stdout.strip())[-3000:]
        raise ProgramError(f"{' '.join(command[:3])} ended with {process.returncode}: {output}")
    return stdout


def kill_whole(process: subprocess.Popen[Any]) -> None:
    """Kill a program with its descendants, such as the credential plugin of kubectl, and wait until it has ended."""
    from backends.processes import kill_children  # needs psutil, which steps lack; they run no such program

    kill_children(process.pid)
    process.kill()
    process.wait()
