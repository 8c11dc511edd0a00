"""Deploy a release to a KServe InferenceService, or roll back to the previous one, and check the answer."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from backends.kserve.kube import SHAPE_ERRORS, Kube
from backends.kserve.revision import Revision
from backends.kserve.service import Service, previous_revision
from digits.errors import EndpointError
from digits.files import parse_json
from digits.release.releases import Manifest
from digits.settings import Settings

READY_SECONDS = 300.0


def deploy(
    settings: Settings, release: Manifest, release_uri: str, *, image: str = "", seconds: float = READY_SECONDS
) -> str:
    """Serve a release, wait until its new pods answer the golden image correctly, and return the cluster's address.

    Deploying the release that is served already changes nothing and checks it again. `release_uri` is the release's
    address, such as `s3://bucket/models/digits/<version>/`. `image` is the predictor image, or '' for the
    ServingRuntime's. `seconds` limits the whole deployment.

    Raises:
        EndpointError: the release did not become ready or answered wrongly, and the previous one is restored (else the
            message has the reason); or another deployment has replaced this one, and is kept.
        MissingError: no cluster is known, it has no KServe, or it does not answer; changes are undone if possible.
        DigitsError: the cluster refused.
    """
    revision = Revision.for_release(release, release_uri, image)
    return _service(settings).serve(revision, release, time.monotonic() + seconds)


def rollback(settings: Settings) -> str:
    """Serve the release from before the last deployment, and return its version. Raises the errors of `deploy`.

    Raises:
        EndpointError: also if there is no previous release.
    """
    service, remedy = _service(settings), "digits releases, for the releases that can be deployed"
    what = f"InferenceService {service.name} in {service.namespace}"
    with service.kube.understood():
        previous = previous_revision(service.live())
    if not previous:
        raise EndpointError(f"{what} has no previous release", remedy=remedy)
    try:
        revision = Revision(**parse_json(previous))
        version = revision.version
    except SHAPE_ERRORS as exc:
        raise EndpointError(f"{what} has a damaged record of its previous release: {exc}", remedy=remedy) from exc
    service.serve(revision, None, time.monotonic() + READY_SECONDS)
    return version


@contextlib.contextmanager
def connected(settings: Settings, *, local_port: int = 0) -> Iterator[str]:
    """Yield an address at which this process reaches the task's endpoint; its port is `local_port` unless that is 0.

    Raises:
        EndpointError: none of its pods is ready.
    """
    service = _service(settings)
    if service.kube.inside:
        yield service.url
        return
    with service.forward(service.ready_pod(), local_port=local_port) as url:
        yield url


def _service(settings: Settings) -> Service:
    return Service(Kube.connect(settings), settings.namespace, settings.declaration.name)
