"""The contract of a backend: what a caller may ask, and what it is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from digits.events import Event
from digits.settings import Settings

SUCCEEDED, FAILED, CANCELED = "SUCCEEDED", "FAILED", "CANCELED"

Watch = Callable[[Event], None]


@dataclass(frozen=True)
class Request:
    """A run that is asked for: values of the definition's parameters, and whether earlier results may be used."""

    parameters: dict[str, Any]
    use_cache: bool = True


@dataclass
class StepState:
    """How far a step is: waiting, running, done, cached or failed."""

    state: str = "waiting"
    seconds: float = 0.0


@dataclass
class Result:
    """How a run ended. `outputs` are the definition's, {} unless it succeeded."""

    run_id: str
    state: str
    steps: dict[str, StepState]
    outputs: dict[str, Any] = field(default_factory=dict)
    mlflow_run: str = ""
    seconds: float = 0.0


def with_champion(outputs: dict[str, Any]) -> dict[str, Any]:
    """Return a run's outputs with the champion that deploy found; publish may come from the cache and name another."""
    champion = outputs["deployed"]["version"]
    published = outputs["published"] | {"champion": champion}
    if published["promoted"] and champion != published["version"]:
        why = f"it was promoted before; {champion} is the champion now (digits promote {published['version']})"
        published |= {"promoted": False, "why": why}
    return outputs | {"published": published}


class Backend(Protocol):
    """Runs the one definition somewhere.

    A caller asks `check`, then `run`, any number of times, and `close` at the end. Implementations know nothing of
    each other. Their engine's errors reach the caller as `digits.errors`; a run that failed raises StepFailed, one
    that was stopped raises Interrupted, in both cases after everything it had started is gone.
    """

    name: str

    def check(self) -> None:
        """Raise MissingError if something that this backend needs is not there."""

    def run(self, request: Request, watch: Watch, *, resume: str = "") -> Result:
        """Run to the end, telling `watch` what happens. `resume`: the id of a run to take up at its failed step."""

    def here(self) -> Settings:
        """The settings by which this machine reaches the backend's object store and tracking."""

    def endpoint(self) -> str:
        """The address of the endpoint that this backend deploys to, '' where none answers."""

    def redeploy(self) -> str:
        """Put the champion of now behind the endpoint, if one is there; returns its address or ''."""

    def close(self) -> None:
        """Let go of connections. The endpoint goes on serving."""
