"""The contract of a backend: requests, results, and the methods that every backend has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from digits.errors import mask_address
from digits.events import Event
from digits.settings import Settings

SUCCEEDED, FAILED, CANCELED = "SUCCEEDED", "FAILED", "CANCELED"

Watch = Callable[[Event], None]
Report = Callable[[str], None]


@dataclass(frozen=True)
class Request:
    """A request for a run: values of the definition's parameters, and whether earlier results may be used."""

    parameters: dict[str, Any]
    use_cache: bool = True


@dataclass
class StepState:
    """The state of a step ("waiting", "running", "done", "cached" or "failed") and its duration."""

    state: str = "waiting"
    seconds: float = 0.0


@dataclass
class Result:
    """The result of a run.

    Attributes:
        run_id: also the name of the run's folder.
        state: SUCCEEDED; other ends raise an error.
        outputs: the definition's outputs; {} if the engine no longer has them.
        mlflow_run: id of the MLflow run, '' if there is none.
    """

    run_id: str
    state: str
    steps: dict[str, StepState]
    outputs: dict[str, Any] = field(default_factory=dict)
    mlflow_run: str = ""
    seconds: float = 0.0


def report_replaced(report: Report, settings: Settings, former: str) -> None:
    """Report that the predictor of a home that served the store `former`, if it did, now serves another one."""
    if former and former != (store := mask_address(settings.store)):
        report(f"the predictor of {former} ends: this DIGITS_HOME has one for each task, which now serves {store}")


def with_champion(outputs: dict[str, Any], *, cached: bool = False) -> dict[str, Any]:
    """Return the outputs with the champion that deploy found. If publish was `cached`, this run promoted nothing."""
    champion, version = outputs["deployed"]["version"], outputs["published"]["version"]
    was_champion = outputs["published"]["champion"] == version
    published = outputs["published"] | {"champion": champion}
    if was_champion and champion != version:
        why = f"it was promoted before; {champion} is the champion now (digits promote {version})"
        published |= {"promoted": False, "why": why}
    elif cached:
        why = "it is the champion already" if champion == version else f"decided before: {published['why']}"
        published |= {"promoted": False, "why": why}
    return outputs | {"published": published}


class Backend(Protocol):
    """A way to run the pipeline's definition.

    Call `check` first, then `run` any number of times, and `close` at the end:

    >>> backend = open_backend(settings)
    >>> backend.check()
    >>> backend.run(Request(parameters), watch=events.append).state
    'SUCCEEDED'
    >>> backend.close()

    Implementations do not depend on each other. They turn their engine's errors into `digits.errors`. A run that
    fails raises StepFailed, and an interrupted one raises Interrupted; by then everything that it started has ended.
    """

    name: str

    def check(self) -> None:
        """Check that this backend can run. Raises MissingError if something that it needs is missing."""

    def run(self, request: Request, watch: Watch, *, resume: str = "") -> Result:
        """Run the pipeline to its end, and call `watch` with each event.

        `resume` is the id of a run to continue at the step that failed; '' starts a new one.

        Raises:
            StepFailed: a step failed.
            Interrupted: Ctrl-C.
        """

    def host_settings(self) -> Settings:
        """Return the settings by which this machine reaches the backend's object store and MLflow."""

    def endpoint(self) -> str:
        """Return the address of the endpoint that this backend deploys to, '' if none answers."""

    def redeploy(self) -> str:
        """Put the current champion behind the endpoint, if one is running. Returns its address or ''.

        Raises:
            Superseded: meanwhile, another release has become the champion.
        """

    def close(self) -> None:
        """Close connections. The endpoint continues to serve."""
