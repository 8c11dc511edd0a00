"""Putting a release behind an endpoint: a deployer chosen by name, and the proof that the endpoint answers rightly.

DIGITS_DEPLOYER says which; a step that is told none takes FOLLOW. Others are found among the entry points of group
`digits.deployers`, so that nothing here knows Docker or Kubernetes.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import time
from collections.abc import Callable
from typing import Any

from digits.errors import EndpointError, MissingError
from digits.http import ask, bearer
from digits.release.golden import Golden
from digits.release.releases import Manifest
from digits.settings import ENDPOINT_VARIABLE, Settings

GROUP = "digits.deployers"
FOLLOW = "follow"
READY_SECONDS = 60.0
REQUEST_SECONDS = 5.0

Deployer = Callable[[Settings, Manifest, str], str]


def deployer(name: str) -> Deployer:
    """The deployer of that name. Raises MissingError that lists those installed."""
    if name == FOLLOW:
        return follow
    found = {point.name: point for point in importlib.metadata.entry_points(group=GROUP)}
    if name not in found:
        raise MissingError(f"expected DIGITS_DEPLOYER of {', '.join([FOLLOW, *found])}, got {name!r}")
    loaded: Deployer = found[name].load()
    return loaded


def follow(settings: Settings, manifest: Manifest, uri: str) -> str:
    """Wait for a predictor that follows the ledger by itself: started by the backend, on DIGITS_ENDPOINT."""
    del uri
    endpoint = os.environ.get(ENDPOINT_VARIABLE) or f"http://127.0.0.1:{settings.port}"
    wait_for(endpoint, manifest)
    return endpoint


def wait_for(endpoint: str, manifest: Manifest, *, token: str = "", seconds: float = 0) -> None:
    """Wait until `endpoint` serves that release and answers its golden image rightly.

    Raises:
        EndpointError: it did not within `seconds`; says what it did instead.
    """
    wait_for_version(
        endpoint,
        manifest["version"],
        lambda limit: check_golden(endpoint, manifest, token=token, seconds=limit),
        token=token,
        seconds=seconds,
    )


def wait_for_version(
    endpoint: str,
    version: str,
    proven: Callable[[float], None] = lambda _: None,
    *,
    token: str = "",
    seconds: float = 0,
) -> None:
    """Wait until `endpoint` says that it serves the release `version`, and `proven` raises nothing that may pass.

    `proven` is told how many seconds it has.

    Raises:
        EndpointError: as `wait_for`.
    """
    limit = seconds or READY_SECONDS
    deadline = time.monotonic() + limit
    seen = "no answer"

    def left() -> float:
        return max(0.1, min(REQUEST_SECONDS, deadline - time.monotonic()))

    while time.monotonic() < deadline:
        try:
            about = request(f"{endpoint}/v2/models/digits", token=token, seconds=left())["parameters"]
            if about["release"] == version:
                proven(left())
                return
            seen = f"it serves release {about['release']}"
            if about.get("refused", {}).get("release") == version:
                raise EndpointError(
                    f"{endpoint} refused release {version} and still serves {about['release']}: "
                    + about["refused"]["why"],
                    remedy=f"digits verify {version}",
                )
        except OSError as exc:
            seen = str(exc)
        except (LookupError, TypeError, ValueError, AttributeError) as exc:
            seen = f"an answer that is not ours ({exc!r})"
        time.sleep(0.1)
    raise EndpointError(
        f"{endpoint} does not serve release {version} after {limit:.0f} s: {seen}",
        remedy="digits doctor, or look into the predictor's log",
    )


def check_golden(endpoint: str, manifest: Manifest, *, token: str = "", seconds: float = REQUEST_SECONDS) -> None:
    """Request a prediction for the release's golden image. Raises EndpointError if the answer differs."""
    golden = Golden.from_manifest(manifest)
    instances = golden.pixels[..., 0].tolist()
    answer = request(f"{endpoint}/v1/models/digits:predict", {"instances": instances}, token=token, seconds=seconds)
    if difference := golden.difference(answer["predictions"][0]):
        raise EndpointError(f"{endpoint} {difference}", remedy=f"digits verify {manifest['version']}")


def request(url: str, body: Any = None, *, token: str = "", seconds: float = REQUEST_SECONDS) -> Any:
    """GET, or POST `body` as JSON, within `seconds`; returns the parsed answer.

    Raises:
        OSError: it did not answer, or not with 200; with its own words.
    """
    content = None if body is None else json.dumps(body).encode()
    try:
        answer = ask(url, content, {"Content-Type": "application/json"} | bearer(token), seconds=seconds)
    except OSError as exc:
        raise OSError(f"{url}: {exc}") from exc
    if answer.status != 200:
        raise OSError(f"{url}: HTTP {answer.status}: {answer.content[:200].decode(errors='replace')}")
    return json.loads(answer.content)
