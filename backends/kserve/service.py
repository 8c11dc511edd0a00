"""One InferenceService: a release is applied and checked, and the previous one is restored if the check fails.

The InferenceService names the release; the ServingRuntime in `manifests/base` defines how it is served. Pods are
replaced only after the new ones are ready, so requests do not fail meanwhile, and a release that never becomes ready
receives none. The annotation `digits/previous` holds the previous release for a rollback.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

from backends.kserve.diagnosis import diagnose
from backends.kserve.kube import Json, Kube, RefusedError, is_ready, is_temporary
from backends.kserve.port_forward import forwarded
from backends.kserve.revision import LABELS, PREVIOUS, REVISION, Revision, inference_service, is_ours
from digits.errors import DigitsError, EndpointError, MissingError
from digits.release.deploy import Superseded, wait_for, wait_for_version
from digits.release.releases import Manifest
from digits.remedies import remedy

REMOVE_SECONDS = 60.0
POLL_SECONDS = 1.0
HTTP_PORT = 8080
RESTORE_ATTEMPTS = 20  # each fails only if the InferenceService changes at the same moment
SCALING = ("minReplicas", "maxReplicas", "scaleMetric", "scaleTarget")  # operators may change these; deploy keeps them


def service_path(namespace: str, name: str) -> str:
    """Return the path of an InferenceService on the API server."""
    return f"/apis/serving.kserve.io/v1beta1/namespaces/{namespace}/inferenceservices/{name}"


def cluster_url(namespace: str, name: str) -> str:
    """Return the address of an InferenceService's predictor inside the cluster."""
    return f"http://{name}-predictor.{namespace}.svc.cluster.local"


class Service:
    """One InferenceService in one namespace."""

    def __init__(self, kube: Kube, namespace: str, name: str) -> None:
        self.kube, self.namespace, self.name = kube, namespace, name
        self._path = service_path(namespace, name)
        self._deployment = f"/apis/apps/v1/namespaces/{namespace}/deployments/{name}-predictor"
        self._pods = f"/api/v1/namespaces/{namespace}/pods"
        scaler = f"/apis/autoscaling/v2/namespaces/{namespace}/horizontalpodautoscalers/{name}-predictor"
        self._made = (self._deployment, f"/api/v1/namespaces/{namespace}/services/{name}-predictor", scaler)
        self.url = cluster_url(namespace, name)

    def _remedy(self, situation: str) -> str:
        return remedy(situation, self.kube.backend, namespace=self.namespace, name=self.name)

    def live(self) -> Json | None:
        """Return the InferenceService, or None if it does not exist."""
        return self.kube.get(self._path)

    def serve(self, revision: Revision, release: Manifest | None, deadline: float) -> str:
        """Apply a revision and check it; restore the former one if that fails. Returns the address in the cluster.

        Raises:
            EndpointError: also if an InferenceService of that name, or an object that KServe would make for it, belongs
                to another project.
        """
        with self.kube.understood():
            return self._serve(revision, release, deadline)

    def _serve(self, revision: Revision, release: Manifest | None, deadline: float) -> str:
        former = self._wait_until_removed(deadline)
        if former is None:
            self._check_free()
        elif not is_ours(former):
            label, value = next(iter(LABELS.items()))
            raise EndpointError(
                f"InferenceService {self.name} in {self.namespace} belongs to another project: "
                f"expected its label {label}={value}",
                remedy="K8S_NAMESPACE=NAME, for a namespace of our own; or set that label if it is ours",
            )
        try:
            self._apply(revision, former)
            self._wait_until_served(revision, deadline)
            self._check_answer(revision, release, deadline)
        except Superseded:
            raise
        # Also after Ctrl-C and after a lost response, so that no half-finished deployment stays.
        except BaseException as exc:
            try:
                self._restore(revision, former)
            except DigitsError as failure:
                cause = exc.message if isinstance(exc, DigitsError) else repr(exc)
                raise EndpointError(
                    f"{cause}; and the previous release could not be restored: {failure.message}",
                    remedy=self._remedy("endpoint is not restored"),
                ) from exc
            raise
        return self.url

    def _check_free(self) -> None:
        """Raise EndpointError if an object that KServe would make is there: KServe takes it, and later deletes it."""
        for path in self._made:
            try:
                item = self.kube.get(path)
            except RefusedError as exc:
                if exc.status != 403:
                    raise
                continue  # the account has the rights of an older rbac.yaml
            owners = item["metadata"].get("ownerReferences") or [] if item else []
            if item and not any((each["kind"], each["name"]) == ("InferenceService", self.name) for each in owners):
                kind, name = path.split("/")[-2:]
                raise EndpointError(
                    f"{kind.removesuffix('s')} {name} in {self.namespace} belongs to another project, "
                    f"and KServe would replace it for InferenceService {self.name}",
                    remedy="K8S_NAMESPACE=NAME, for a namespace of our own; or delete it if nothing uses it",
                )

    def _wait_until_removed(self, deadline: float) -> Json | None:
        """Wait until no deletion of the InferenceService is in progress; return it, or None if it does not exist."""
        while (live := self.live()) and "deletionTimestamp" in live["metadata"]:
            if time.monotonic() > deadline:
                raise EndpointError(
                    f"InferenceService {self.name} in {self.namespace} is being deleted and does not disappear",
                    remedy=f"kubectl -n {self.namespace} describe inferenceservice {self.name}, for the reason",
                )
            time.sleep(POLL_SECONDS)
        return live

    def _apply(self, revision: Revision, former: Json | None) -> None:
        previous = ""
        if former:
            former_revision = Revision.from_live(former)
            unchanged = former_revision.id == revision.id
            previous = previous_revision(former) if unchanged else former_revision.to_json()
        body = inference_service(self.name, revision, previous=previous, scaling=_scaling(former))
        try:
            self.kube.apply(self._path, body)
        except RefusedError as exc:
            if exc.status == 404:
                raise MissingError(
                    f"the cluster {self.kube.server} has no KServe, or no namespace {self.namespace}",
                    remedy=self._remedy("no KServe"),
                ) from exc
            raise

    def _wait_until_served(self, revision: Revision, deadline: float) -> None:
        """Wait until only pods of this revision serve. Raises EndpointError with the reason if they do not."""
        reason = "no answer from the cluster"
        while True:
            permanent = False
            try:
                with self.kube.understood():
                    live = self.live()
                    deployment = self.kube.get(self._deployment)
                    self._check_current(revision, live)
                    if live and deployment and _is_complete(deployment, revision.id) and is_ready(live):
                        return
                    reason, permanent = diagnose(self.kube, self._pods, self.name, live, deployment, revision.id)
            except (MissingError, RefusedError) as exc:
                if not is_temporary(exc):
                    raise
                reason = exc.message
            timed_out = time.monotonic() > deadline
            if permanent or timed_out:
                raise EndpointError(
                    f"InferenceService {self.name} in {self.namespace} does not serve release {revision.version}: "
                    + (reason if permanent else f"not ready in time: {reason}"),
                    remedy=f"digits verify {revision.version}, or {self._remedy('endpoint is not ready')}",
                )
            time.sleep(POLL_SECONDS)

    def problem(self) -> str:
        """Return the reason why the present revision is not served by all pods; '' if it is."""
        with self.kube.understood():
            live, deployment = self.live(), self.kube.get(self._deployment)
            annotations = live["metadata"].get("annotations", {}) if live else {}
            current = annotations.get(REVISION) or (Revision.from_live(live).id if live else "")
            if live and deployment and _is_complete(deployment, current) and is_ready(live):
                return ""
            return diagnose(self.kube, self._pods, self.name, live, deployment, current)[0]

    def _check_answer(self, revision: Revision, release: Manifest | None, deadline: float) -> None:
        """Wait until the new pods answer the golden image of `release`, or report the version if there is none."""
        seconds = max(5.0, deadline - time.monotonic())
        with contextlib.ExitStack() as stack:
            inside = self.kube.inside
            url = self.url if inside else stack.enter_context(self.forward(self._wait_for_pod(revision, deadline)))
            if release is not None:
                wait_for(url, release, seconds=seconds)
            else:
                wait_for_version(url, revision.version, self.name, seconds=seconds)

    def _wait_for_pod(self, revision: Revision, deadline: float) -> str:
        while True:
            try:
                return self.ready_pod(revision.id)
            except (MissingError, RefusedError) as exc:
                if not is_temporary(exc) or time.monotonic() > deadline:
                    raise
            time.sleep(POLL_SECONDS)

    def ready_pod(self, revision: str = "") -> str:
        """Return the name of a ready pod, of a given revision unless that is ''. Raises EndpointError if none is."""
        query = {"labelSelector": f"serving.kserve.io/inferenceservice={self.name}"}
        with self.kube.understood():
            for pod in self.kube.request("GET", self._pods, query=query)["items"]:
                matches = not revision or pod["metadata"].get("annotations", {}).get(REVISION) == revision
                if matches and "deletionTimestamp" not in pod["metadata"] and is_ready(pod):
                    return str(pod["metadata"]["name"])
        raise EndpointError(
            f"InferenceService {self.name} in {self.namespace} has no ready pod",
            remedy=self._remedy("endpoint is not ready"),
        )

    @contextlib.contextmanager
    def forward(self, pod: str, *, local_port: int = 0) -> Iterator[str]:
        """Forward a port to a pod while the block runs; yield its local address."""
        path = self.kube.kubeconfig
        assert path is not None  # noqa: S101 - only called outside a cluster
        with forwarded(path, self.namespace, f"pod/{pod}", HTTP_PORT, local_port=local_port) as (port,):
            yield f"http://127.0.0.1:{port}"

    def _restore(self, revision: Revision, former: Json | None) -> None:
        """Restore the former state unless another deployment has replaced this one."""
        for _ in range(RESTORE_ATTEMPTS):
            live = self.live()
            try:
                self._check_current(revision, live)
            except Superseded:
                return
            assert live is not None  # noqa: S101 - by _check_current
            version = live["metadata"]["resourceVersion"]  # the request fails with 409 if the object changed since
            try:
                if former is None:
                    preconditions = {"uid": live["metadata"]["uid"], "resourceVersion": version}
                    # In the foreground: the InferenceService exists until its pods are gone.
                    body: Json = {"preconditions": preconditions, "propagationPolicy": "Foreground"}
                    self.kube.request("DELETE", self._path, body=body)
                    self._wait_until_removed(time.monotonic() + REMOVE_SECONDS)
                else:
                    body = inference_service(
                        self.name,
                        Revision.from_live(former),
                        previous=previous_revision(former),
                        scaling=_scaling(former),
                    )
                    body["metadata"]["resourceVersion"] = version
                    self.kube.apply(self._path, body)
            except RefusedError as exc:
                if exc.status != 409:
                    raise
            else:
                return
        raise DigitsError(
            f"InferenceService {self.name} keeps changing; the previous release could not be restored",
            remedy=self._remedy("endpoint is not ready"),
        )

    def _check_current(self, revision: Revision, live: Json | None) -> None:
        current = live["metadata"].get("annotations", {}).get(REVISION) if live else "none"
        if current != revision.id:
            other = f"release {Revision.from_live(live).version}" if live else "its removal"
            raise Superseded(
                f"the deployment of release {revision.version} to {self.name} was overtaken by {other}",
                remedy="deploy it again if it is the one to be served",
            )


def previous_revision(live: Json | None) -> str:
    """Return the JSON of the previous revision, as in the annotation of a live InferenceService; '' if none."""
    return str((live or {}).get("metadata", {}).get("annotations", {}).get(PREVIOUS, ""))


def _scaling(former: Json | None) -> dict[str, Any]:
    return {key: value for key, value in former["spec"]["predictor"].items() if key in SCALING} if former else {}


def _is_complete(deployment: Json, revision: str) -> bool:
    """Return whether all pods of a Deployment are available and of the revision of that id."""
    template = deployment["spec"]["template"]["metadata"].get("annotations", {})
    status, replicas = deployment.get("status", {}), deployment["spec"].get("replicas", 1)
    return bool(
        template.get(REVISION) == revision
        and status.get("observedGeneration", 0) >= deployment["metadata"]["generation"]
        and status.get("replicas", 0) == status.get("updatedReplicas", 0) == status.get("availableReplicas", 0)
        and status.get("updatedReplicas", 0) >= max(1, replicas)
    )
