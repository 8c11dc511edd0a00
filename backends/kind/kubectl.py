"""kubectl with the kubeconfig of our own cluster: what is asked, applied and waited for with it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from backends.kserve.kube import kubeconfig_path
from backends.programs import ProgramError, program
from digits.errors import DigitsError
from digits.settings import Settings

READY_SECONDS = 300

Report = Callable[[str], None]


def kubectl(settings: Settings, *args: str, seconds: float = 60) -> str:
    """What kubectl answers. Raises ProgramError."""
    return program("kubectl", f"--kubeconfig={kubeconfig_path(settings)}", *args, seconds=seconds)


def as_json(settings: Settings, *args: str) -> Any:
    """What kubectl answers, as parsed JSON. Raises ProgramError."""
    return json.loads(kubectl(settings, *args, "--output=json"))


def apply(settings: Settings, *what: str, manager: str = "kubectl") -> None:
    """Server-side apply. A webhook or a kind that has only just been made is given time to come into effect."""
    passing = ("failed calling webhook", "no matches for kind", "connection refused", "ensure CRDs are installed first")
    deadline = time.monotonic() + READY_SECONDS
    while True:
        try:
            options = ("--server-side", "--force-conflicts", f"--field-manager={manager}")
            kubectl(settings, "apply", *options, *what, seconds=READY_SECONDS)
        except ProgramError as exc:
            if time.monotonic() > deadline or not any(text in str(exc) for text in passing):
                raise
            time.sleep(2)
        else:
            return


def wait(settings: Settings, deployment: str, namespace: str, report: Report) -> None:
    """Wait until a Deployment is rolled out. Raises DigitsError with what its pods and events say."""
    report(f"waiting for {deployment}")
    where = f"--namespace={namespace}"
    try:
        kubectl(settings, "rollout", "status", f"deployment/{deployment}", where, f"--timeout={READY_SECONDS}s",
                seconds=READY_SECONDS + 30)  # fmt: skip
    except ProgramError as exc:
        evidence = kubectl(settings, "get", "pods,events", where, "--sort-by=.metadata.creationTimestamp")
        raise DigitsError(
            f"{deployment} did not get ready: {exc}\n{evidence[-3000:]}", remedy="digits cluster status"
        ) from exc


def answers(settings: Settings, within: float = 0) -> bool:
    """Whether the API server is ready, or gets ready in so many seconds."""
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
