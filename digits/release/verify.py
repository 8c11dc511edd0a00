"""Walks the chain data -> run -> model -> endpoint and says where it breaks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from digits.data import catalog
from digits.errors import DigitsError, ReleaseError
from digits.files import sha256_of
from digits.release import deploy, ledger, mlflow_log, releases
from digits.settings import Settings
from digits.store import ObjectStore


@dataclass(frozen=True)
class Hop:
    """One link of the chain: whether it holds, and what was found."""

    name: str
    holds: bool
    found: str


def verify(settings: Settings, store: ObjectStore, version: str, endpoint: str = "") -> Iterator[Hop]:
    """Check each hop for a release, in the order that data goes; all are tried, whatever breaks before.

    Where there is no manifest to check the others by, the first is the only one.

    Args:
        settings: say where MLflow is.
        store: where the release is.
        version: of the release.
        endpoint: address that should serve it; '' leaves that hop out.
    """
    manifest: releases.Manifest = {}

    def read() -> str:
        manifest.update(releases.load(store, version))
        return f"manifest of {manifest['created']}"

    def data() -> str:
        name, source = manifest["data"]["dataset"], manifest["data"]["source"]
        if name in catalog.SOURCES and catalog.SOURCES[name].digest() != source:
            raise ReleaseError(f"it names another content of {name} than the published one: {source}")
        return f"{name} {source[:12]}, training set {manifest['data']['train'][:12]}"

    def identity() -> str:
        expected = releases.identity(
            weights=manifest["weights"],
            data=manifest["data"],
            code=manifest["code"],
            parameters=manifest["parameters"],
        )
        if expected != manifest["digest"]:
            raise ReleaseError(f"digest {manifest['digest'][:12]} is not that of its data, code, and weights")
        return f"digest {expected[:12]} over data, code, parameters and weights"

    def files() -> str:
        prefix = releases.release_prefix(version)
        for name, expected in manifest["files"].items():
            if (found := sha256_of(store.get(prefix + name))) != expected:
                raise ReleaseError(f"{name} is damaged: expected SHA-256 {expected}, found {found}")
        return f"{len(manifest['files'])} files"

    def run() -> str:
        client = mlflow_log.client(settings)
        tags = client.get_run(manifest["mlflow_run"]).data.tags
        if tags.get("release_digest") != manifest["digest"]:
            raise ReleaseError(f"MLflow's run names release digest {tags.get('release_digest')}")
        number = mlflow_log.registered(settings, version)
        if not number:
            raise ReleaseError("it is not registered in MLflow")
        logged = mlflow_log.logged_manifest(settings, manifest["mlflow_run"], number)
        if differing := [name for name in manifest if logged.get(name) != manifest[name]]:
            raise ReleaseError(f"the manifest that MLflow keeps differs in: {', '.join(differing)}")
        return f"MLflow run {manifest['mlflow_run'][:12]}, registered version {number}"

    def promotions() -> str:
        entries = ledger.entries(store)
        numbers = [entry.n for entry in entries if entry.version == version]
        return f"{len(entries)} linked entr{'y' if len(entries) == 1 else 'ies'}; this release in {numbers or 'none'}"

    def served() -> str:
        deploy.wait_for(endpoint, manifest, token=settings.endpoint_token, seconds=5)
        return f"{endpoint} serves it and answers the golden image rightly"

    hops: list[tuple[str, Callable[[], str]]] = [
        ("release", read),
        ("data", data),
        ("identity", identity),
        ("files", files),
        ("run", run),
        ("ledger", promotions),
    ]
    for name, check in [*hops, ("endpoint", served)] if endpoint else hops:
        yield _hop(name, check)
        if not manifest:
            return


def _hop(name: str, check: Callable[[], str]) -> Hop:
    try:
        return Hop(name, True, check())
    except DigitsError as exc:
        return Hop(name, False, exc.message)
    except KeyError as exc:
        return Hop(name, False, f"the manifest lacks {exc}")
    except Exception as exc:  # noqa: BLE001 # a hop that cannot be checked does not hold, whatever the reason
        return Hop(name, False, f"{type(exc).__name__}: {str(exc).splitlines()[0] if str(exc) else ''}")
