"""Each check fails if its link of the chain is broken, and the other checks still pass.

tests/unit/backends/test_cached.py damages each part of a release, of the ledger and of MLflow's record.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import Param
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from digits import __version__, provenance
from digits.files import sha256_of
from digits.release import attachments, ledger, mlflow_log, mlflow_registry, releases, verify
from digits.settings import Settings
from digits.store.file import FileStore
from tests.helpers.asgi_server import asgi_server
from tests.helpers.support import Finished, another_release, free_port, open_mlflow

pytestmark = pytest.mark.filterwarnings("ignore")
CHECKS = ["release", "data", "identity", "files", "provenance", "run", "ledger"]


@pytest.fixture
def place(finished: Finished, tmp_path: Path) -> tuple[Settings, FileStore]:
    """A copy of a finished installation, to be damaged."""
    settings = finished.copy(tmp_path / "home")
    return settings, FileStore(settings.home / "store")


def failed(settings: Settings, store: FileStore, version: str, endpoint: str = "") -> dict[str, str]:
    """Return {name: detail} of the checks that fail."""
    checks = list(verify.verify(settings, store, version, endpoint))
    assert [check.name for check in checks] == CHECKS + (["endpoint"] if endpoint else [])
    return {check.name: check.detail for check in checks if not check.passed}


def change(store: FileStore, version: str, **changes: Any) -> None:
    """Change entries of a manifest."""
    key = releases.release_prefix(store, version) + releases.MANIFEST
    store.put(key, json.dumps(json.loads(store.get(key)) | changes).encode())


def log_again(settings: Settings, run_id: str) -> str:
    """Log all that a run has, as a second backend does that made the same release. Return the new run's id."""
    client = open_mlflow(settings)
    data = client.get_run(run_id).data
    tags = {name: value for name, value in data.tags.items() if not name.startswith("mlflow.")}
    own = mlflow_log.start_run(settings, "another", "the second backend's", tags)
    metrics = [metric for name in data.metrics for metric in client.get_metric_history(run_id, name)]
    client.log_batch(own, metrics, [Param(*item) for item in data.params.items()])
    client.log_artifacts(own, client.download_artifacts(run_id, ""))
    return own


def test_all_checks_pass_after_a_run(finished: Finished, place: tuple[Settings, FileStore]) -> None:
    """No check fails after a run."""
    assert failed(*place, finished.version) == {}


def test_a_changed_file_fails_the_check_of_files(finished: Finished, place: tuple[Settings, FileStore]) -> None:
    """A replaced model is detected by its digest."""
    settings, store = place
    store.put(releases.release_prefix(store, finished.version) + "model.onnx", b"another model")
    details = failed(settings, store, finished.version)
    assert list(details) == ["files"]
    assert "model.onnx is damaged" in details["files"]


def test_a_changed_manifest_fails_the_check_of_identity(finished: Finished, place: tuple[Settings, FileStore]) -> None:
    """Other parameters differ from the release's digest and from MLflow's manifest."""
    settings, store = place
    change(store, finished.version, parameters={"seed": 9})
    assert list(failed(settings, store, finished.version)) == ["identity", "provenance", "run"]


def test_other_data_fails_the_check_of_data(finished: Finished, place: tuple[Settings, FileStore]) -> None:
    """A release whose MNIST is not the published one is detected."""
    settings, store = place
    data = releases.load(store, finished.version)["data"] | {"dataset": "mnist"}
    change(store, finished.version, data=data)
    assert list(failed(settings, store, finished.version)) == ["data", "identity", "provenance", "run"]


def test_a_changed_run_fails_the_check_of_the_run(finished: Finished, place: tuple[Settings, FileStore]) -> None:
    """A run in MLflow that names another release is detected, and so is a missing run."""
    settings, store = place
    run = finished.published.mlflow_run
    open_mlflow(settings).set_tag(run, "release_digest", "0" * 64)
    assert list(failed(settings, store, finished.version)) == ["run"]
    open_mlflow(settings).set_tag(run, "release_digest", finished.published.digest)
    change(store, finished.version, mlflow_run="0" * 32)
    assert list(failed(settings, store, finished.version)) == ["provenance", "run"]


def test_another_logged_manifest_fails_the_check_of_the_run(
    finished: Finished, place: tuple[Settings, FileStore]
) -> None:
    """A model and a manifest that were replaced together still differ from the manifest in MLflow."""
    settings, store = place
    content = b"another model"
    key = releases.release_prefix(store, finished.version)
    files = releases.load(store, finished.version)["files"] | {"model.onnx": sha256_of(content)}
    store.put(key + "model.onnx", content)
    change(store, finished.version, files=files)
    details = failed(settings, store, finished.version)
    assert list(details) == ["provenance", "run"]
    assert "files" in details["run"]


def test_stores_that_share_an_mlflow_are_both_verified(finished: Finished, place: tuple[Settings, FileStore]) -> None:
    """If two backends made the same release, one run registered it, and each store's manifest names its own run."""
    settings, store = place
    manifest = releases.load(store, finished.version)
    own = log_again(settings, manifest["mlflow_run"])
    change(store, finished.version, mlflow_run=own, created=provenance.timestamp())
    attachments.attach(store, manifest)
    open_mlflow(settings).log_dict(own, releases.load(store, finished.version), "manifest.json")
    assert failed(settings, store, finished.version) == {}


@pytest.mark.parametrize(
    ("damage", "detail"),
    [
        ("cut", "is damaged"),
        ("a list", "is damaged"),
        ("deleted", "has no manifest.json"),
        ("unreachable", "MLflow at .* cannot be used"),
    ],
)
def test_an_unreadable_logged_manifest_fails_the_check_of_the_run(
    finished: Finished,
    place: tuple[Settings, FileStore],
    monkeypatch: pytest.MonkeyPatch,
    damage: str,
    detail: str,
) -> None:
    """The check fails if MLflow's manifest is truncated, not an object, missing or unreachable."""
    settings, store = place
    client = open_mlflow(settings)
    manifest = releases.load(store, finished.version)
    run = log_again(settings, manifest["mlflow_run"])
    change(store, finished.version, mlflow_run=run)
    attachments.attach(store, manifest)
    client.log_dict(run, releases.load(store, finished.version), "manifest.json")
    client.delete_model_version("digits", mlflow_registry.find_registered(settings, finished.version))
    tags = {name: manifest[name] for name in mlflow_registry.VERSION_TAGS}
    client.create_model_version("digits", f"runs:/{run}/model", run, tags=tags)
    assert failed(settings, store, finished.version) == {}
    (file,) = settings.home.glob(f"mlartifacts/**/{run}/artifacts/manifest.json")
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-20])
    elif damage == "a list":
        file.write_text("[1, 2]")
    elif damage == "deleted":
        file.unlink()
    else:
        monkeypatch.setattr(LocalArtifactRepository, "list_artifacts", _unreachable)
    details = failed(settings, store, finished.version)
    assert list(details) == ["run"]
    assert re.search(detail, details["run"])


def _unreachable(*_: object) -> None:
    raise ConnectionError("no route to the artifact server")


def drop_last_line(document: bytes) -> bytes:
    return b"\n".join(document.splitlines()[:-1])


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("model-card.md", drop_last_line),
        ("provenance.json", lambda statement: statement.replace(b"seed", b"sead")),
    ],
)
def test_a_document_that_says_other_than_the_manifest_fails_the_check_of_provenance(
    finished: Finished, place: tuple[Settings, FileStore], name: str, change: Callable[[bytes], bytes]
) -> None:
    """A model card, bill of materials or provenance of this release that was changed is detected."""
    settings, store = place
    key = releases.release_prefix(store, finished.version) + name
    document = store.get(key)
    store.put(key, change(document))
    assert store.get(key) != document
    assert list(failed(settings, store, finished.version)) == ["provenance"]


def test_the_documents_of_another_version_of_digits_pass_the_check_of_provenance(
    finished: Finished, place: tuple[Settings, FileStore]
) -> None:
    """A release from before an update of digits, whose texts may have been others, is as good as it was."""
    settings, store = place
    prefix = releases.release_prefix(store, finished.version)
    key, version = prefix + releases.PROVENANCE, json.dumps({"digits": __version__}, separators=(",", ":")).encode()
    assert version in store.get(key)
    store.put(key, store.get(key).replace(version, b'{"digits":"0.0.1"}'))
    store.put(prefix + releases.CARD, drop_last_line(store.get(prefix + releases.CARD)))
    assert failed(settings, store, finished.version) == {}


def test_a_file_that_is_not_of_the_release_fails_the_check_of_files(
    finished: Finished, place: tuple[Settings, FileStore]
) -> None:
    """A file that the manifest does not list is detected and named."""
    settings, store = place
    store.put(releases.release_prefix(store, finished.version) + "saved_model/assets.extra/tf_serving", b"?")
    details = failed(settings, store, finished.version)
    assert list(details) == ["files"]
    assert "assets.extra/tf_serving" in details["files"]


def test_a_lost_ledger_entry_fails_the_check_of_the_ledger(
    finished: Finished, place: tuple[Settings, FileStore]
) -> None:
    """A deleted entry is detected by the link of the next one."""
    settings, store = place
    ledger.promote(store, another_release(store, finished.version)["version"], "next")
    store.delete(store.keys(ledger.folder(store))[0])
    assert list(failed(settings, store, finished.version)) == ["ledger"]


def test_a_release_that_is_not_the_champion_is_verified_beside_it(
    finished: Finished, place: tuple[Settings, FileStore]
) -> None:
    """Another champion is no failure, but the check of the ledger names it."""
    settings, store = place
    champion = another_release(store, finished.version)["version"]
    ledger.promote(store, champion, "next")
    (check,) = (each for each in verify.verify(settings, store, finished.version, "") if each.name == "ledger")
    assert check.passed
    assert champion in check.detail


@pytest.mark.slow
def test_an_endpoint_with_another_model_fails_the_check_of_the_endpoint(
    finished: Finished, place: tuple[Settings, FileStore]
) -> None:
    """An endpoint that serves another release, or names the right one and answers differently, is detected."""
    settings, store = place
    manifest = releases.load(store, finished.version)

    def app(release: str) -> Starlette:
        async def about(request: Request) -> JSONResponse:
            return JSONResponse({"parameters": {"release": release}})

        async def predict(request: Request) -> JSONResponse:
            return JSONResponse({"predictions": [[0.1] * 10]})

        return Starlette(
            routes=[
                Route("/v2/models/digits", about),
                Route("/v1/models/digits:predict", predict, methods=["POST"]),
            ]
        )

    for release, detail in (("0" * 12, "serves release 000000000000"), (manifest["version"], "golden image")):
        with asgi_server(app(release)) as address:
            details = failed(settings, store, finished.version, address)
        assert list(details) == ["endpoint"]
        assert detail in details["endpoint"]


def test_a_broken_link_fails_the_check_of_the_ledger(finished: Finished, place: tuple[Settings, FileStore]) -> None:
    """An entry that does not hold the digest of the one before it is detected."""
    settings, store = place
    key = store.keys(ledger.folder(store))[0]
    store.put(key, store.get(key).replace(b'"link":""', b'"link":"00"'))
    assert list(failed(settings, store, finished.version)) == ["ledger"]


def test_a_missing_release_ends_the_checks(place: tuple[Settings, FileStore]) -> None:
    """Without a manifest only the first check runs, and it names the reason."""
    (check,) = verify.verify(*place, "0" * 12, "http://127.0.0.1:9")
    assert (check.name, check.passed) == ("release", False)
    assert "no release" in check.detail


@pytest.mark.slow
def test_a_silent_endpoint_fails_the_check_of_the_endpoint(
    finished: Finished, place: tuple[Settings, FileStore]
) -> None:
    """If nothing listens at the address, the last check fails and names it."""
    address = f"http://127.0.0.1:{free_port()}"
    details = failed(*place, finished.version, address)
    assert list(details) == ["endpoint"]
    assert address in details["endpoint"]
