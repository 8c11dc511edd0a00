"""The specification of an InferenceService that serves a release."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from backends.kserve.kube import Json
from digits.errors import EndpointError, mask_address
from digits.files import canonical_json, sha256_of
from digits.release.releases import Manifest

RUNTIME = "digits"
SERVICE_ACCOUNT = "sa-minio-kserve"
FETCHED_SCHEMES = ("gs", "hdfs", "s3", "webhdfs")  # KServe's storage initializer can fetch a folder from these
PREVIOUS, REVISION = "digits/previous", "digits/revision"  # annotations
LABELS = {"app.kubernetes.io/part-of": "digits"}  # of all our objects, those in `manifests` included


def is_ours(item: Json) -> bool:
    """Return whether an object has the labels of ours."""
    return LABELS.items() <= ((item.get("metadata") or {}).get("labels") or {}).items()


@dataclass(frozen=True)
class Revision:
    """A release, its address and the image that serves it.

    Attributes:
        uri: the release's address, ending in '/'.
        image: the predictor image; '' means the ServingRuntime's.
        annotations: the release's version, digest, MLflow run, data and code, for the InferenceService and its pods.
    """

    uri: str
    image: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def for_release(cls, release: Manifest, uri: str, image: str) -> Self:
        """Return the revision that serves a release. Raises EndpointError if KServe cannot fetch it from `uri`."""
        scheme, _, path = uri.partition("://")
        if scheme not in FETCHED_SCHEMES or not path.endswith("/"):
            raise EndpointError(
                f"KServe fetches a release from a folder such as s3://bucket/folder/ "
                f"(or {', '.join(f'{other}://' for other in FETCHED_SCHEMES if other != 's3')}), "
                f"got {mask_address(uri)!r}",
                remedy="set DIGITS_STORE",
            )
        data = release["data"]
        annotations = {
            "digits/release": release["version"],
            "digits/digest": release["digest"],
            "digits/mlflow-run": release["mlflow_run"],
            "digits/data": data if isinstance(data, str) else canonical_json(data).decode(),
            "digits/code": release["code"],
        }
        return cls(uri, image, {key: str(value) for key, value in annotations.items()})

    @classmethod
    def from_live(cls, live: Json) -> Self:
        """Return the revision of a live InferenceService, which may also have been applied without our code."""
        model = live["spec"]["predictor"].get("model", {})
        annotations = {
            key: value
            for key, value in live["metadata"].get("annotations", {}).items()
            if key.startswith("digits/") and key not in {PREVIOUS, REVISION}
        }
        return cls(model.get("storageUri", ""), model.get("image", ""), annotations)

    @property
    def version(self) -> str:
        """Return the release's version."""
        return self.annotations.get("digits/release") or self.uri.rstrip("/").rpartition("/")[2]

    @property
    def id(self) -> str:
        """Return the id that identifies the revision's pods, a digest of all fields."""
        return sha256_of(self.to_json().encode())[:12]

    def to_json(self) -> str:
        """Return the fields as JSON, as stored in the annotation that a rollback reads."""
        return canonical_json(dataclasses.asdict(self)).decode()


def inference_service(
    name: str, revision: Revision, *, previous: str = "", scaling: Mapping[str, Any] | None = None
) -> Json:
    """Return the InferenceService for a revision: the object of `manifests/endpoint` with the revision's annotations.

    `previous` is the `Revision.to_json` of the previous revision; `scaling` overrides the predictor's default scaling.
    """
    model: Json = {"modelFormat": {"name": "digits-release"}, "runtime": RUNTIME, "storageUri": revision.uri}
    if revision.image:
        model["image"] = revision.image
    annotations = {
        "serving.kserve.io/deploymentMode": "Standard",
        "sidecar.istio.io/inject": "false",
        **revision.annotations,
        REVISION: revision.id,
    }
    if previous:
        annotations[PREVIOUS] = previous
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": name, "labels": LABELS, "annotations": annotations},
        "spec": {
            "predictor": {
                "serviceAccountName": SERVICE_ACCOUNT,
                "enableServiceLinks": False,  # a Service named digits-x would set DIGITS_X_PORT in its pods
                "terminationGracePeriodSeconds": 60,
                "minReplicas": 1,
                "maxReplicas": 3,
                "scaleMetric": "cpu",
                "scaleTarget": 80,
                **(scaling or {}),
                "deploymentStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
                "model": model,
            }
        },
    }
