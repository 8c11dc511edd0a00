"""Deployment of a release: a deployer selected by name, and the check that the endpoint serves the release.

DIGITS_DEPLOYER names the deployer, by default FOLLOW. Other deployers are entry points of the group `digits.deployers`,
so this module does not depend on Docker or Kubernetes.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from typing import Protocol

from digits.entry_points import find_function
from digits.errors import EndpointError, StoreError, StoreUnreachable
from digits.http import SECONDS, request_json
from digits.release import ledger
from digits.release.releases import Manifest, task_of
from digits.settings import ENDPOINT_VARIABLE, Settings
from digits.store import open_store

GROUP = "digits.deployers"
FOLLOW = "follow"
READY_SECONDS = 60.0
LOOK_SECONDS = 1.0  # between two looks at the ledger
REPAIR_SECONDS = 10.0  # in which a predictor loads a release again that it rejected and that was repaired


class Superseded(EndpointError):
    """A later promotion or deployment has replaced the one that was waited for."""


class Deployer(Protocol):
    """A function that makes an endpoint serve a release and returns the address of the endpoint.

    It returns when the endpoint serves the release; `wait_for` checks that. Its errors are EndpointError.

    >>> def deploy_nowhere(settings, manifest, uri):
    ...     print(f"release {manifest['version']} from {uri}")
    ...     return "http://127.0.0.1:8080"
    >>> deployer: Deployer = deploy_nowhere
    >>> deployer(None, {"version": "fb8e47d9ae35"}, "s3://digits/models/digits/fb8e47d9ae35/")
    release fb8e47d9ae35 from s3://digits/models/digits/fb8e47d9ae35/
    'http://127.0.0.1:8080'
    """

    def __call__(self, settings: Settings, manifest: Manifest, uri: str, /) -> str:
        """Deploy the release of that manifest, which is stored at `uri`."""


def follow(settings: Settings, manifest: Manifest, _: str) -> str:
    """Wait for the predictor at DIGITS_ENDPOINT, which the backend started. It follows the ledger by itself.

    Raises:
        Superseded: the ledger of the settings' store names another champion now.
    """
    endpoint = os.environ.get(ENDPOINT_VARIABLE) or f"http://127.0.0.1:{settings.port}"
    store = open_store(settings)
    wait_for(endpoint, manifest, champion=lambda: ledger.champion(store))
    return endpoint


DEPLOYERS: dict[str, Deployer] = {FOLLOW: follow}  # by name; a process may add its own


def find_deployer(name: str) -> Deployer:
    """Return the deployer of that name. Raises MissingError, which lists the available ones."""
    return find_function("DIGITS_DEPLOYER", name, DEPLOYERS, GROUP)


def wait_for(
    endpoint: str, manifest: Manifest, *, token: str = "", seconds: float = 0, champion: Callable[[], str] | None = None
) -> None:
    """Wait until the address `endpoint` serves the release of `manifest` and answers its golden image correctly.

    `token` is a bearer token. `seconds` is the longest wait, by default READY_SECONDS. `champion` returns the version
    that the endpoint should serve at present; without it, that is `manifest`'s until the end.

    Raises:
        Superseded: `champion` has returned another version.
        EndpointError: the endpoint did not do so in time, or it rejected the release; states the last response.
    """
    wait_for_version(
        endpoint,
        manifest["version"],
        task_of(manifest).name,
        lambda remaining: check_golden(endpoint, manifest, token=token, seconds=remaining),
        token=token,
        seconds=seconds,
        champion=champion,
    )


def wait_for_version(
    endpoint: str,
    version: str,
    model: str,
    check: Callable[[float], None] = lambda _: None,
    *,
    token: str = "",
    seconds: float = 0,
    champion: Callable[[], str] | None = None,
) -> None:
    """Wait until the model named `model` at `endpoint` is of `version`, and `check` succeeds. See also `wait_for`.

    `check` is called with the seconds that it may take. If it raises OSError, or the error of an unexpected response
    (LookupError, TypeError, ValueError, AttributeError), both are repeated.
    """
    limit = seconds or READY_SECONDS
    deadline, next_look = time.monotonic() + limit, time.monotonic() + LOOK_SECONDS
    last_error, rejected = "no answer", ""

    def remaining() -> float:
        return max(0.1, min(SECONDS, deadline - time.monotonic()))

    while time.monotonic() < deadline:
        if champion and time.monotonic() >= next_look:
            with contextlib.suppress(StoreError, StoreUnreachable):  # the store may answer at the next look
                if (newest := champion()) != version:
                    raise Superseded(f"release {version} was replaced by {newest} before {endpoint} served it")
            next_look = time.monotonic() + LOOK_SECONDS
        try:
            about = request_json(f"{endpoint}/v2/models/{model}", token=token, seconds=remaining())["parameters"]
            if about["release"] == version:
                check(remaining())
                return
            last_error = f"it serves release {about['release']}"
            if about.get("refused", {}).get("release") == version:
                why, served = about["refused"]["why"], about["release"] or "none"
                if not rejected:
                    deadline = min(deadline, time.monotonic() + REPAIR_SECONDS)
                rejected = f"{endpoint} rejected release {version} and still serves {served}: {why}"
        except OSError as exc:
            last_error = str(exc)
        except (LookupError, TypeError, ValueError, AttributeError) as exc:
            last_error = f"an unexpected response ({exc!r})"
        time.sleep(0.1)
    if rejected:
        raise EndpointError(rejected, remedy=f"digits verify {version}")
    raise EndpointError(
        f"{endpoint} does not serve release {version} after {limit:.0f} s: {last_error}",
        remedy="digits doctor, or look into the predictor's log",
    )


def check_golden(endpoint: str, manifest: Manifest, *, token: str = "", seconds: float = SECONDS) -> None:
    """Request a prediction for the release's golden image. Raises EndpointError if the answer differs."""
    from digits.release.golden import Golden  # which imports NumPy; most importers of this module do not need it

    golden = Golden.from_manifest(manifest)
    instances = golden.pixels.tolist()
    url = f"{endpoint}/v1/models/{task_of(manifest).name}:predict"
    answer = request_json(url, {"instances": instances}, token=token, seconds=seconds)
    if difference := golden.difference(answer["predictions"][0]):
        raise EndpointError(f"{endpoint} {difference}", remedy=f"digits verify {manifest['version']}")
