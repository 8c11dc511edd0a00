"""Checks of a release along the chain from the data through the run and the model to the endpoint."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from digits import __version__
from digits.data import catalog
from digits.errors import DigitsError, ObjectMissing, ReleaseError
from digits.files import parse_json, sha256_of
from digits.release import (
    attachments,
    deploy,
    ledger,
    mlflow_check,
    mlflow_registry,
    releases,
    serving_layout,
    signatures,
)
from digits.settings import Settings
from digits.store import ObjectStore


@dataclass(frozen=True)
class Check:
    """The result of one check. `detail` is a sentence for the user."""

    name: str
    passed: bool
    detail: str
    signer: str = ""  # fingerprint of the key that signed it; '' for none
    remedy: str = ""  # of the error with which the check failed


def verify(
    settings: Settings, store: ObjectStore, version: str, endpoint: str = "", *, mlflow: bool = True
) -> Iterator[Check]:
    """Yield the result of each check of a release, in the order of the chain.

    '' for `endpoint` skips its check, and False for `mlflow` that of MLflow's run and registry.
    Later checks run even if earlier ones fail, but without a manifest only the first runs.
    """
    chain = Chain(settings, store, version, endpoint)
    yield _result("release", chain.read_manifest)
    if not chain.manifest:
        return
    yield _result("data", chain.check_data)
    yield _result("identity", chain.check_identity)
    yield _result("files", chain.check_files)
    yield _result("provenance", chain.check_provenance)
    if mlflow:
        yield _result("run", chain.check_run)
    yield _result("ledger", chain.check_ledger)
    if endpoint:
        yield _result("endpoint", chain.check_endpoint)


def _result(name: str, check: Callable[[], str | tuple[str, str]]) -> Check:
    try:
        found = check()
        return Check(name, True, *((found,) if isinstance(found, str) else found))
    except DigitsError as exc:
        return Check(name, False, exc.message, remedy=exc.remedy)
    except KeyError as exc:
        return Check(name, False, f"the manifest lacks {exc}")
    except Exception as exc:  # noqa: BLE001 # a check that cannot be completed has failed, whatever the reason
        return Check(name, False, f"{type(exc).__name__}: {str(exc).partition(chr(10))[0]}")


@dataclass
class Chain:
    """The checks of one release. Each returns a detail for the user, some also the key that signed it, or raises."""

    settings: Settings
    store: ObjectStore
    version: str
    endpoint: str
    manifest: releases.Manifest = field(default_factory=dict)  # empty before `read_manifest`
    digests: dict[str, str] = field(default_factory=dict)  # SHA-256 of each file and of the manifest
    signature: str = "not signed"
    signer: str = ""

    def read_manifest(self) -> tuple[str, str]:
        """Read the manifest, which the other checks need."""
        self.manifest, raw = releases.load(self.store, self.version), self._get(releases.MANIFEST)
        assert raw is not None  # noqa: S101 # it was read just now
        self.digests = self.manifest["files"] | {releases.MANIFEST: sha256_of(raw)}
        if bundle := self._get(releases.SIGNATURE):
            self.signature, self.signer = self._read_signer(bundle, f"release {self.version}")
        return f"manifest of {self.manifest['created']}, {self.signature}", self.signer

    def _read_signer(self, bundle: bytes, what: str) -> tuple[str, str]:
        """Return a text about a signature, and the fingerprint of the trusted key that made it."""
        if not self.store.trust.keys:
            return "signature not checked: DIGITS_TRUSTED_KEYS is not set", ""
        _, signer = signatures.read(bundle, signatures.read_keys(self.store.trust.keys), what)
        return f"signed by key {signer[: signatures.SHOWN]}", signer

    def _get(self, name: str) -> bytes | None:
        """Return a file of the release, None if there is none."""
        try:
            return self.store.get(releases.release_prefix(self.store, self.version) + name)
        except ObjectMissing:
            return None

    def check_data(self) -> str:
        """Check that a data set of the catalogue has its published digest."""
        name, source = self.manifest["data"]["dataset"], self.manifest["data"]["source"]
        if not catalog.is_published(name, source):
            raise ReleaseError(f"its digest of {name} is not the published one: {source}")
        return f"{name} {source[:12]}, training set {self.manifest['data']['train'][:12]}"

    def check_identity(self) -> str:
        """Check that the release's digest matches its data, code, parameters and weights."""
        expected = releases.identity(
            **{name: self.manifest[name] for name in ("weights", "data", "code", "parameters")}
        )
        if expected != self.manifest["digest"]:
            raise ReleaseError(f"digest {self.manifest['digest'][:12]} does not match its data, code and weights")
        return f"digest {expected[:12]} over data, code, parameters and weights"

    def check_files(self) -> tuple[str, str]:
        """Check that the files are those of the manifest, and the champion's copies for TensorFlow Serving."""
        files = releases.load_whole(self.store, self.version)["files"]
        releases.check_nothing_else(self.store, self.manifest)
        champion = None
        with contextlib.suppress(ReleaseError):  # a damaged ledger fails its own check
            champion = ledger.newest(self.store)
        if champion and champion.version == self.version:
            for key in serving_layout.damaged_copies(self.store, champion, files):
                raise ReleaseError(f"the copy {key} is missing or damaged")
        return f"{len(files)} files, {self.signature}", self.signer

    def check_provenance(self) -> tuple[str, str]:
        """Check that provenance, bill of materials and model card are those of this release's manifest."""
        provenance, bom, card = (self._get(name) for name in releases.ATTACHED)
        if not (provenance and bom and card):
            raise ReleaseError(f"expected {', '.join(releases.ATTACHED)} next to the manifest; one is missing")
        about, signer = "not signed", ""
        if b"dsseEnvelope" in provenance:
            about, signer = self._read_signer(provenance, f"the provenance of release {self.version}")
            provenance = signatures.payload(provenance)
        statement = parse_json(provenance)
        subjects = {file["name"]: file["digest"]["sha256"] for file in statement["subject"]}
        hashes = [entry["content"] for entry in parse_json(bom)["metadata"]["component"]["hashes"]]
        if subjects != self.digests or hashes != [self.digests["model.onnx"]] or self.version.encode() not in card:
            raise ReleaseError("provenance, bill of materials or model card is of another release")
        writer = statement["predicate"]["runDetails"]["builder"]["version"]["digits"]  # another may write other texts
        if writer == __version__ and not attachments.are_whole(self.store, self.version):
            raise ReleaseError("provenance, bill of materials or model card is not as the manifest describes it")
        return f"SLSA provenance, bill of materials and model card, {about}", signer

    def check_run(self) -> str:
        """Check that MLflow's run and registry name this release, and that MLflow's copy of the manifest is equal."""
        recorded = self.manifest["mlflow_run"] or not self.settings.tracking_uri
        if recorded or mlflow_registry.find_registered(self.settings, self.version):
            return mlflow_check.check_logged(self.settings, self.manifest)
        return "none: the release was made without MLflow"

    def check_ledger(self) -> tuple[str, str]:
        """Check that the promotion ledger is an unbroken chain; name the champion if it is another release."""
        entries = ledger.entries(self.store)
        numbers = [entry.n for entry in entries if entry.version == self.version]
        about, signer = "", ""
        if entries and entries[-1].version != self.version:
            about = f"; the champion is {entries[-1].version}"
        if entries and self.store.trust.keys:
            signer = ledger.signer(self.store, entries[-1].n)
            about += f"; the newest is signed by key {signer[: signatures.SHOWN]}"
        count = f"{len(entries)} linked entr{'y' if len(entries) == 1 else 'ies'}"
        return f"{count}; this release in {numbers or 'none'}{about}", signer

    def check_endpoint(self) -> str:
        """Check that the endpoint serves the release and answers its golden image correctly."""
        deploy.wait_for(self.endpoint, self.manifest, token=self.settings.endpoint_token, seconds=5)
        return f"{self.endpoint} serves it and answers the golden image correctly"
