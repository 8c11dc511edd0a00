"""The documents next to a release: its provenance, bill of materials and model card, and the signature of all files.

All of it is computed from the manifest, so writing it again changes nothing, and concurrent writers write the same.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import re
import uuid
from typing import Any

from digits import __version__
from digits.errors import ObjectMissing, ReleaseError
from digits.files import canonical_json, parse_json, sha256_of
from digits.release import signatures
from digits.release.releases import (
    BOM,
    CARD,
    MANIFEST,
    PROVENANCE,
    SIGNATURE,
    Manifest,
    load_whole,
    release_prefix,
    task_of,
)
from digits.store import ObjectStore

# Parts of a manifest that differ between runs with the same results.
OF_A_RUN = {"created", "mlflow_run", "libraries", "build"}
BUILD_TYPE = "urn:digits:pipeline:v1"  # the seven steps of docs/architecture.md
BUILDER = "urn:digits:publish"
_MARKUP = re.compile(r"[\\`*_\[\]<&|]")  # of Markdown, in a label


def attach(store: ObjectStore, known: Manifest) -> None:
    """Write the documents of a stored release and, if the store has a signing key, its signature.

    `known` is the manifest as the caller has checked or made it. Another stored manifest may differ from it only in
    what differs between runs, else nothing is written. Without a key, a signed release stays as it is.

    Raises:
        UsageError: the signing key is missing, although keys are trusted, or it is not one of these.
        ReleaseError: a signed release is not what was signed, and there is no key to sign it again.
    """
    key, version = signatures.signing_key(store.trust), known["version"]
    prefix = release_prefix(store, version)
    raw = store.get(prefix + MANIFEST)
    manifest: Manifest = parse_json(raw)
    if not same_results(manifest, known):
        return
    if key is None and store.exists(prefix + SIGNATURE):
        try:
            load_whole(store, version)
        except ReleaseError as exc:
            exc.remedy = f"set DIGITS_SIGNING_KEY to sign it again, or remove {store.uri}/{prefix}{SIGNATURE}"
            raise
        return
    digests = manifest["files"] | {MANIFEST: sha256_of(raw)}
    files = _unsigned(manifest, digests)
    if key:
        files[PROVENANCE] = signatures.sign(key, provenance(manifest, digests))
        digests |= {name: sha256_of(content) for name, content in files.items()}
        files[SIGNATURE] = signatures.sign_digests(key, version, digests, SIGNATURE)
    for name, content in files.items():
        try:
            written = store.get(prefix + name) == content
        except ObjectMissing:
            written = False
        if not written:
            store.put(prefix + name, content)


def are_whole(store: ObjectStore, version: str) -> bool:
    """Return whether an intact release has the documents that `attach` writes.

    Those of a signed release are not compared, because `load_whole` verifies their digests by the signature.

    Raises:
        StoreError: a document is missing or cannot be read.
    """
    prefix = release_prefix(store, version)
    if store.exists(prefix + SIGNATURE):
        return True
    raw = store.get(prefix + MANIFEST)
    manifest: Manifest = parse_json(raw)
    files = _unsigned(manifest, manifest["files"] | {MANIFEST: sha256_of(raw)})
    return all(store.get(prefix + name) == content for name, content in files.items())


def _unsigned(manifest: Manifest, digests: dict[str, str]) -> dict[str, bytes]:
    """Return the content of each document of a release that is not signed. `digests` are of its other files."""
    return documents(manifest, digests) | {PROVENANCE: canonical_json(provenance(manifest, digests))}


def same_results(manifest: Manifest, other: Manifest) -> bool:
    """Return whether two manifests differ at most in what differs between runs."""
    return all(manifest.get(key) == other[key] for key in other.keys() - OF_A_RUN)


def documents(manifest: Manifest, digests: dict[str, str]) -> dict[str, bytes]:
    """Return the bill of materials and the model card, given the SHA-256 of each file and of the manifest."""
    bom = json.dumps(bill_of_materials(manifest, digests), indent=2)
    return {BOM: bom.encode(), CARD: model_card(manifest).encode()}


def provenance(manifest: Manifest, digests: dict[str, str]) -> dict[str, Any]:
    """Return the SLSA v1 provenance: from which data, code, image and parameters the files in `digests` were made."""
    build, finished = manifest.get("build", {}), manifest["created"]
    started = finished
    with contextlib.suppress(ValueError):  # a damaged manifest
        took = datetime.timedelta(seconds=build.get("seconds", 0))
        started = (datetime.datetime.fromisoformat(finished) - took).isoformat(timespec="milliseconds")
    data = {
        name: digest for name, digest in manifest["data"].items() if name in {"source", "feedback", "train", "test"}
    }
    materials: list[dict[str, Any]] = [
        {"name": f"data/{name}", "digest": {"sha256": digest}} for name, digest in data.items()
    ]
    materials.append({"name": "code/train", "digest": {"sha256": manifest["code"]}})
    materials += [{"uri": _package(name, version)} for name, version in manifest.get("libraries", {}).items()]
    if image := build.get("image"):
        name, _, digest = image.partition("@sha256:")
        materials.append({"uri": f"oci:{name}"} | ({"digest": {"sha256": digest}} if digest else {}))
    return {
        "_type": signatures.STATEMENT,
        "subject": [{"name": name, "digest": {"sha256": digest}} for name, digest in sorted(digests.items())],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": manifest["parameters"] | {"dataset": manifest["data"]["dataset"]},
                "resolvedDependencies": materials,
            },
            "runDetails": {
                "builder": {"id": BUILDER, "version": {"digits": __version__}},
                "metadata": {
                    "invocationId": manifest.get("mlflow_run", ""),
                    "startedOn": started,
                    "finishedOn": finished,
                },
            },
        },
    }


def bill_of_materials(manifest: Manifest, digests: dict[str, str]) -> dict[str, Any]:
    """Return a CycloneDX 1.6 ML-BOM: the model, its data set and the libraries that made it."""
    version, data, metrics = manifest["version"], manifest["data"], manifest["metrics"]
    task = task_of(manifest)
    model = {
        "type": "machine-learning-model",
        "bom-ref": "model",
        "name": manifest.get("name", "digits"),
        "version": version,
        "hashes": [{"alg": "SHA-256", "content": digests["model.onnx"]}],
        "modelCard": {
            "modelParameters": {
                "task": "image classification",
                "datasets": [{"ref": "data"}],
                "inputs": [{"format": f"float32 (n, {task.height}, {task.width}, {task.channels}), 0 to 1"}],
                "outputs": [{"format": f"float32 (n, {len(task.labels)}), probabilities"}],
            },
            "quantitativeAnalysis": {
                "performanceMetrics": [
                    {"type": name, "value": str(value)} for name, value in metrics.items() if name != "interval"
                ]
            },
        },
    }
    dataset = {"type": "data", "bom-ref": "data", "name": data["dataset"]}
    dataset |= {"data": [{"type": "dataset", "name": data["dataset"], "contents": {"properties": _properties(data)}}]}
    libraries = [
        {"type": "library", "bom-ref": name, "name": name, "version": found, "purl": _package(name, found)}
        for name, found in manifest.get("libraries", {}).items()
    ]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, manifest['digest'])}",
        "version": 1,
        "metadata": {"timestamp": manifest["created"], "component": model},
        "components": [dataset, *libraries],
        "dependencies": [{"ref": "model", "dependsOn": ["data", *manifest.get("libraries", {})]}],
    }


def model_card(manifest: Manifest) -> str:
    """Return the model card in Markdown."""
    data, metrics, task = manifest["data"], manifest["metrics"], task_of(manifest)
    labels = ", ".join(_MARKUP.sub(r"\\\g<0>", label) for label in task.labels)
    rows = {
        "version": manifest["version"],
        "created": manifest["created"],
        "data set": f"{data['dataset']}, SHA-256 {data['source']}",
        "corrections": f"{data.get('feedback_used', 0)} drawings",
        "code": manifest["code"],
        "weights": manifest["weights"],
        "parameters": ", ".join(f"{name} {value}" for name, value in sorted(manifest["parameters"].items())),
    }
    values = {name: f"{value:.4f}" if isinstance(value, float) else str(value) for name, value in metrics.items()}
    return "\n".join(
        (
            f"# Model {manifest['version']}",
            "",
            f"A classifier of the task {task.name}: images of {task.height} x {task.width} pixels with {task.channels}",
            f"values from 0 to 1 each -> the probabilities of {len(task.labels)} classes.",
            "",
            f"Classes: {labels}.",
            "",
            *_table("property", "value", rows),
            "",
            "## Evaluation on the test set",
            "",
            *_table("metric", "value", values),
            "",
            "## Use and limits",
            "",
            "It is made for pictures that were prepared as those of its data set. It also assigns a class to a picture",
            "that shows none, and pictures can be made to deceive it. Do not use it where a wrong answer does harm.",
            "",
        )
    )


def _table(left: str, right: str, rows: dict[str, str]) -> list[str]:
    return [f"| {left} | {right} |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())]


def _properties(data: dict[str, Any]) -> list[dict[str, str]]:
    return [{"name": name, "value": str(value)} for name, value in data.items()]


def _package(name: str, version: str) -> str:
    return f"pkg:generic/python@{version}" if name == "python" else f"pkg:pypi/{name}@{version}"
