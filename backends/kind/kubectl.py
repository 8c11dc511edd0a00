"""kubectl with the kubeconfig of our own cluster."""

from __future__ import annotations

import contextlib
import json
import time
from typing import Any

from backends.base import Report
from backends.kserve.kube import kubeconfig_path
from backends.programs import ProgramError, program
from digits.errors import DigitsError
from digits.settings import Settings

READY_SECONDS = 300
# In the output of kubectl while a newly installed webhook or resource type is not in effect.
TEMPORARY = (
    "failed calling webhook",
    "no matches for kind",
    "connection refused",
    "ensure CRDs are installed first",
)


def kubectl(settings: Settings, *args: str, seconds: float = 60) -> str:
    """Run kubectl and return its output. Raises ProgramError."""
    return program("kubectl", f"--kubeconfig={kubeconfig_path(settings)}", *args, seconds=seconds)


def as_json(settings: Settings, *args: str) -> Any:
    """Run kubectl with JSON output and return it parsed. Raises ProgramError."""
    return json.loads(kubectl(settings, *args, "--output=json"))


def is_temporary(exc: ProgramError) -> bool:
    """Return whether kubectl failed because a newly installed webhook or resource type is not in effect."""
    return any(text in str(exc) for text in TEMPORARY)


def apply(settings: Settings, *source: str, manager: str = "kubectl") -> None:
    """Apply `source` (`-f FILE` or `-k FOLDER`) on the server with `manager` as the owner of its fields.

    Retries while a newly installed webhook or resource type is not in effect.

    Raises:
        ProgramError: kubectl failed for another reason, or after READY_SECONDS.
    """
    deadline = time.monotonic() + READY_SECONDS
    while True:
        try:
            options = ("--server-side", "--force-conflicts", f"--field-manager={manager}")
            kubectl(settings, "apply", *options, *source, seconds=READY_SECONDS)
        except ProgramError as exc:
            if time.monotonic() > deadline or not is_temporary(exc):
                raise
            time.sleep(2)
        else:
            return


def wait(settings: Settings, deployment: str, namespace: str, report: Report) -> None:
    """Wait until a Deployment is rolled out. Raises DigitsError with the namespace's pods and events."""
    report(f"waiting for {deployment}")
    option = f"--namespace={namespace}"
    try:
        kubectl(settings, "rollout", "status", f"deployment/{deployment}", option, f"--timeout={READY_SECONDS}s",
                seconds=READY_SECONDS + 30)  # fmt: skip
    except ProgramError as exc:
        evidence = ""
        for command in (("get", "pods"), ("events",)):  # which sorts them by time
            with contextlib.suppress(ProgramError):
                evidence += kubectl(settings, *command, option)
        raise DigitsError(
            f"{deployment} did not become ready: {exc}\n{evidence[-3000:]}", remedy="digits cluster status"
        ) from exc


def answers(settings: Settings, within: float = 0) -> bool:
    """Return whether the API server is ready, or becomes ready within `within` seconds."""
    deadline = time.monotonic() + within
    while True:
        try:
            kubectl(settings, "get", "--raw=/readyz", "--request-timeout=5s", seconds=15)
        except ProgramError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(1)
        else:
            return True
