"""Other programs on this machine: checking that they exist, and running them with a timeout."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from digits.errors import DigitsError, MissingError

HOW_TO_GET = {
    "docker": "https://docs.docker.com/engine/install/",
    "kind": "https://kind.sigs.k8s.io/docs/user/quick-start/#installation",
    "kubectl": "https://kubernetes.io/docs/tasks/tools/",
}


class ProgramError(DigitsError):
    """A program ended with an error, or not within its timeout."""


def with_pythonpath(environment: Mapping[str, str]) -> dict[str, str]:
    """Return `environment` with our packages on the PYTHONPATH, so that they can be imported in any directory."""
    root = str(Path(__file__).resolve().parents[1])
    return {**environment, "PYTHONPATH": os.pathsep.join(filter(None, [root, environment.get("PYTHONPATH", "")]))}


def need(name: str) -> None:
    """Check that a program is on PATH, and for docker that its engine answers. Raises MissingError."""
    if shutil.which(name) is None:
        raise MissingError(f"{name} is not on PATH", remedy=HOW_TO_GET[name])
    if name == "docker":
        try:
            program("docker", "version", "--format={{.Server.Version}}", seconds=15)
        except ProgramError as exc:
            raise MissingError(f"the Docker engine does not answer: {exc.message}", remedy="start Docker") from exc


def program(*command: str, seconds: float = 60) -> str:
    """Run a program and return its standard output.

    Raises:
        ProgramError: it ended with an error, or not within `seconds`; the message has the end of its output.
    """
    environ = {key: value for key, value in os.environ.items() if key != "KUBECONFIG"}
    try:
        process = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=seconds,
            env=environ, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as exc:
        raise ProgramError(f"{' '.join(command[:3])} did not end within {seconds:.0f} s") from exc
    if process.returncode:
        output = (process.stderr.strip() or process.stdout.strip())[-3000:]
        raise ProgramError(f"{' '.join(command[:3])} ended with {process.returncode}: {output}")
    return process.stdout
