"""A release behind a KServe InferenceService: put there, proven to answer, or taken back with the pod's own reason.

An InferenceService says which release is served; how, says the ServingRuntime in `manifests/base`. A version is
replaced only once the next one is ready, so requests do not fail meanwhile, and a version that never gets ready
never takes one. What went before is noted in the annotation `digits/previous`, for `rollback`.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator

from backends.kserve.diagnosis import reasons
from backends.kserve.kube import Json, Kube, RefusedError, is_ready
from backends.kserve.port_forward import forwarded
from backends.kserve.revision import PREVIOUS, REVISION, Revision, inference_service
from digits.errors import DigitsError, EndpointError, MissingError
from digits.release.deploy import wait_for, wait_for_version
from digits.release.releases import Manifest
from digits.settings import Settings

NAME = "digits"
READY_SECONDS = 300.0
REMOVE_SECONDS = 60.0
POLL_SECONDS = 1.0
HTTP_PORT = 8080
# What an operator may have tuned on the live object; a deployment changes the release and leaves these.
TUNABLE = ("minReplicas", "maxReplicas", "scaleMetric", "scaleTarget")


def path_of(namespace: str, name: str = NAME) -> str:
    """The path of an InferenceService on the API server."""
    return f"/apis/serving.kserve.io/v1beta1/namespaces/{namespace}/inferenceservices/{name}"


def address_of(namespace: str, name: str = NAME) -> str:
    """The address of its predictor inside the cluster."""
    return f"http://{name}-predictor.{namespace}.svc.cluster.local"


def deploy(
    settings: Settings,
    release: Manifest,
    release_uri: str,
    *,
    name: str = NAME,
    image: str = "",
    seconds: float = READY_SECONDS,
) -> str:
    """Serve a release and wait until its new pods answer the golden image rightly. Returns the address in the cluster.

    Deploying what is served already changes nothing and checks it again.

    Args:
        settings: K8S_NAMESPACE; outside a cluster, the kubeconfig in DIGITS_HOME.
        release: the release's manifest.
        release_uri: where KServe finds it, `s3://bucket/models/digits/<version>/`.
        name: the InferenceService's name.
        image: the predictor image; empty: the ServingRuntime's.
        seconds: how long it may take.

    Raises:
        EndpointError: it did not get ready or answered wrongly, and the former release is back in place, or the
            message says why it is not; or another deployment came between, and is left in place.
        MissingError: no cluster, no KServe in it, or it does not answer; what it may have done is taken back.
        DigitsError: the cluster refused.
    """
    return _Service(Kube.connect(settings), settings.namespace, name).serve(
        Revision.of(release, release_uri, image), release, time.monotonic() + seconds
    )


def rollback(settings: Settings, *, name: str = NAME, seconds: float = READY_SECONDS) -> str:
    """Serve again what was served before the last deployment. Returns the version that is served then.

    Raises:
        EndpointError: there was nothing before; else as `deploy`.
    """
    service = _Service(Kube.connect(settings), settings.namespace, name)
    noted = (service.live() or {}).get("metadata", {}).get("annotations", {}).get(PREVIOUS)
    if not noted:
        raise EndpointError(
            f"InferenceService {name} in {settings.namespace} has served nothing before",
            remedy="digits cluster deploy RELEASE; digits releases lists them",
        )
    revision = Revision(**json.loads(noted))
    service.serve(revision, None, time.monotonic() + seconds)
    return revision.version


@contextlib.contextmanager
def connected(settings: Settings, *, name: str = NAME, local_port: int = 0) -> Iterator[str]:
    """An address of the endpoint that this process can reach while the block runs, on `local_port` unless that is 0.

    Raises:
        EndpointError: no pod of it is ready.
    """
    service = _Service(Kube.connect(settings), settings.namespace, name)
    if service.kube.inside:
        yield service.url
        return
    with service.reached(service.ready_pod(""), local_port=local_port) as url:
        yield url


class _Service:
    """One InferenceService in one namespace."""

    def __init__(self, kube: Kube, namespace: str, name: str) -> None:
        self.kube, self.namespace, self.name = kube, namespace, name
        self._path = path_of(namespace, name)
        self._deployment = f"/apis/apps/v1/namespaces/{namespace}/deployments/{name}-predictor"
        self._pods = f"/api/v1/namespaces/{namespace}/pods"
        self.url = address_of(namespace, name)

    def live(self) -> Json | None:
        return self.kube.get(self._path)

    def serve(self, revision: Revision, release: Manifest | None, deadline: float) -> str:
        former = self._settled(deadline)
        try:
            self._apply(revision, former)
            self._rolled_out(revision, deadline)
            self._answers(revision, release, deadline)
        except _Superseded:
            raise
        # Also when the user interrupts, and when the server's answer was lost: nothing half-deployed stays.
        except BaseException as exc:
            try:
                self._restore(revision, former)
            except DigitsError as failed:
                cause = exc.message if isinstance(exc, DigitsError) else repr(exc)
                raise EndpointError(
                    f"{cause}; and what was served before could not be put back: {failed.message}",
                    remedy="digits cluster status, then deploy again, or digits cluster rollback",
                ) from exc
            raise
        return self.url

    def _settled(self, deadline: float) -> Json | None:
        """The live object, or None; one that is being removed is waited for, lest its pods be taken for new ones."""
        while (live := self.live()) and "deletionTimestamp" in live["metadata"]:
            if time.monotonic() > deadline:
                raise EndpointError(
                    f"InferenceService {self.name} in {self.namespace} is being removed, without end",
                    remedy=f"kubectl -n {self.namespace} describe inferenceservice {self.name}, for what holds it",
                )
            time.sleep(POLL_SECONDS)
        return live

    def _apply(self, revision: Revision, former: Json | None) -> None:
        previous, tuned = "", {}
        if former:
            was = Revision.served_by(former)
            noted = former["metadata"].get("annotations", {}).get(PREVIOUS, "")
            previous = noted if was.id == revision.id else was.note()
            tuned = {key: value for key, value in former["spec"]["predictor"].items() if key in TUNABLE}
        body = inference_service(self.name, revision, previous=previous, tuned=tuned)
        try:
            self.kube.apply(self._path, body)
        except RefusedError as exc:
            if exc.status == 404:
                raise MissingError(
                    f"the cluster {self.kube.server} has no KServe, or no namespace {self.namespace}",
                    remedy="digits cluster up",
                ) from exc
            raise

    def _rolled_out(self, revision: Revision, deadline: float) -> None:
        """Wait until pods of this revision alone serve."""
        seen = "no answer from the cluster"
        while True:
            hopeless = False
            try:
                live = self.live()
                deployed = self.kube.get(self._deployment)
                self._still(revision, live)
                if live and deployed and _complete(deployed, revision) and is_ready(live):
                    return
                seen, hopeless = reasons(self.kube, self._pods, self.name, live, deployed, revision.id)
            except (MissingError, RefusedError) as exc:
                if not _passes(exc):
                    raise
                seen = exc.message  # the deadline holds
            if hopeless:
                self._fail(revision, seen)
            if time.monotonic() > deadline:
                self._fail(revision, f"not ready in time: {seen}")
            time.sleep(POLL_SECONDS)

    def _fail(self, revision: Revision, why: str) -> None:
        raise EndpointError(
            f"InferenceService {self.name} in {self.namespace} does not serve release {revision.version}: {why}",
            remedy=f"digits verify {revision.version}, or digits cluster status",
        )

    def _answers(self, revision: Revision, release: Manifest | None, deadline: float) -> None:
        """The golden image's answer from the new pods; for a rollback, which release they say they serve."""
        seconds = max(5.0, deadline - time.monotonic())
        with contextlib.ExitStack() as stack:
            inside = self.kube.inside
            url = self.url if inside else stack.enter_context(self.reached(self._pod_of(revision, deadline)))
            if release is not None:
                wait_for(url, release, seconds=seconds)
            else:
                wait_for_version(url, revision.version, seconds=seconds)

    def _pod_of(self, revision: Revision, deadline: float) -> str:
        while True:
            try:
                return self.ready_pod(revision.id)
            except (MissingError, RefusedError) as exc:
                if not _passes(exc) or time.monotonic() > deadline:
                    raise
            time.sleep(POLL_SECONDS)

    def ready_pod(self, revision: str) -> str:
        """The name of a pod that takes requests, of that revision if one is given. Raises EndpointError."""
        query = {"labelSelector": f"serving.kserve.io/inferenceservice={self.name}"}
        for pod in self.kube.request("GET", self._pods, query=query)["items"]:
            of_revision = not revision or pod["metadata"].get("annotations", {}).get(REVISION) == revision
            if of_revision and "deletionTimestamp" not in pod["metadata"] and is_ready(pod):
                return str(pod["metadata"]["name"])
        raise EndpointError(
            f"InferenceService {self.name} in {self.namespace} has no ready pod", remedy="digits cluster status"
        )

    @contextlib.contextmanager
    def reached(self, pod: str, *, local_port: int = 0) -> Iterator[str]:
        """A local address of that pod."""
        path = self.kube.kubeconfig
        assert path is not None  # noqa: S101 - only called outside a cluster
        with forwarded(path, self.namespace, f"pod/{pod}", HTTP_PORT, local_port=local_port) as (port,):
            yield f"http://127.0.0.1:{port}"

    def _restore(self, revision: Revision, former: Json | None) -> None:
        """Put the former version back, unless another deployment has come between."""
        for _ in range(20):
            live = self.live()
            try:
                self._still(revision, live)
            except _Superseded:
                return
            assert live is not None  # noqa: S101 - _still has looked
            version = live["metadata"]["resourceVersion"]  # a change since we looked makes this fail, and we look again
            try:
                if former is None:
                    as_seen = {"uid": live["metadata"]["uid"], "resourceVersion": version}
                    # In the foreground: it is there until its pods are gone.
                    body = {"preconditions": as_seen, "propagationPolicy": "Foreground"}
                    self.kube.request("DELETE", self._path, body=body)
                    self._settled(time.monotonic() + REMOVE_SECONDS)
                else:
                    was = Revision.served_by(former)
                    noted = former["metadata"].get("annotations", {}).get(PREVIOUS, "")
                    tuned = {key: value for key, value in former["spec"]["predictor"].items() if key in TUNABLE}
                    whole = inference_service(self.name, was, previous=noted, tuned=tuned)
                    whole["metadata"]["resourceVersion"] = version
                    self.kube.apply(self._path, whole)
            except RefusedError as exc:
                if exc.status != 409:
                    raise
            else:
                return
        raise DigitsError(f"InferenceService {self.name} keeps changing; the former release could not be put back")

    def _still(self, revision: Revision, live: Json | None) -> None:
        now = live["metadata"].get("annotations", {}).get(REVISION) if live else "none"
        if now != revision.id:
            other = f"release {Revision.served_by(live).version}" if live else "its removal"
            raise _Superseded(
                f"the deployment of release {revision.version} to {self.name} was overtaken by {other}",
                remedy="deploy it again, if it should be the one that is served",
            )


class _Superseded(EndpointError):
    """Another deployment came between; it is left in place."""


def _passes(exc: DigitsError) -> bool:
    """Whether the API server is only away, or overloaded, for a while."""
    return not isinstance(exc, RefusedError) or exc.status == 429 or exc.status >= 500


def _complete(deployed: Json, revision: Revision) -> bool:
    """Whether a Deployment has replaced every pod by pods of that revision, and they are available."""
    template = deployed["spec"]["template"]["metadata"].get("annotations", {})
    status, wanted = deployed.get("status", {}), deployed["spec"].get("replicas", 1)
    return bool(
        template.get(REVISION) == revision.id
        and status.get("observedGeneration", 0) >= deployed["metadata"]["generation"]
        and status.get("replicas", 0) == status.get("updatedReplicas", 0) == status.get("availableReplicas", 0)
        and status.get("updatedReplicas", 0) >= max(1, wanted)
    )
