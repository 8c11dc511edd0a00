"""What an InferenceService asks for: the release that it serves, and where that comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from backends.kserve.kube import Json
from digits.errors import EndpointError
from digits.files import canonical_json, sha256_of
from digits.release.releases import Manifest

RUNTIME = "digits"
ACCOUNT = "sa-minio-kserve"
FETCHED = ("gs", "hdfs", "s3", "webhdfs")  # schemes of which KServe's storage initializer fetches a folder
PREVIOUS, REVISION = "digits/previous", "digits/revision"


@dataclass(frozen=True)
class Revision:
    """What is served: a release, from where, by which image.

    Attributes:
        uri: the release's address, ending in '/'.
        image: the predictor image, '' for the ServingRuntime's.
        facts: annotations on the InferenceService and its pods that say where the release comes from.
    """

    uri: str
    image: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, release: Manifest, uri: str, image: str) -> Self:
        """The revision that serves this release."""
        scheme, _, place = uri.partition("://")
        if scheme not in FETCHED or not place.endswith("/"):
            raise EndpointError(
                f"KServe fetches a release from a folder such as s3://bucket/folder/ "
                f"(or {', '.join(f'{other}://' for other in FETCHED if other != 's3')}), got {uri!r}",
                remedy="set DIGITS_STORE",
            )
        data = release["data"]
        facts = {
            "digits/release": release["version"],
            "digits/digest": release["digest"],
            "digits/mlflow-run": release["mlflow_run"],
            "digits/data": data if isinstance(data, str) else canonical_json(data).decode(),
            "digits/code": release["code"],
        }
        return cls(uri, image, {key: str(value) for key, value in facts.items()})

    @classmethod
    def served_by(cls, live: Json) -> Self:
        """The revision that a live InferenceService asks for, also one that was applied by hand."""
        model = live["spec"]["predictor"].get("model", {})
        notes = live["metadata"].get("annotations", {})
        facts = {k: v for k, v in notes.items() if k.startswith("digits/") and k not in {PREVIOUS, REVISION}}
        return cls(model.get("storageUri", ""), model.get("image", ""), facts)

    @property
    def version(self) -> str:
        """The release's version."""
        return self.facts.get("digits/release") or self.uri.rstrip("/").rpartition("/")[2]

    @property
    def id(self) -> str:
        """Names this revision on its pods."""
        return sha256_of(canonical_json([self.uri, self.image, dict(self.facts)]))[:12]

    def note(self) -> str:
        """As JSON, for the annotation that a rollback reads."""
        return canonical_json({"uri": self.uri, "image": self.image, "facts": dict(self.facts)}).decode()


def inference_service(
    name: str, revision: Revision, *, previous: str = "", tuned: Mapping[str, Any] | None = None
) -> Json:
    """The InferenceService for a revision: that of `manifests/endpoint`, with annotations that say what it is."""
    model: Json = {"modelFormat": {"name": "digits-release"}, "runtime": RUNTIME, "storageUri": revision.uri}
    if revision.image:
        model["image"] = revision.image
    annotations = {
        "serving.kserve.io/deploymentMode": "Standard",
        "sidecar.istio.io/inject": "false",
        **revision.facts,
        REVISION: revision.id,
    }
    if previous:
        annotations[PREVIOUS] = previous
    scaling = {"minReplicas": 1, "maxReplicas": 3, "scaleMetric": "cpu", "scaleTarget": 80}
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": name, "labels": {"app.kubernetes.io/part-of": "digits"}, "annotations": annotations},
        "spec": {
            "predictor": {
                "serviceAccountName": ACCOUNT,
                "enableServiceLinks": False,  # a Service named digits-x would set DIGITS_X_PORT in its pods
                "terminationGracePeriodSeconds": 60,
                **scaling,
                **(tuned or {}),
                "deploymentStrategy": rolling,
                "model": model,
            }
        },
    }
