"""Each hop of the chain is found broken when it is, and the others still hold."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from digits.files import sha256_of
from digits.release import ledger, mlflow_log, releases, verify
from digits.settings import Settings
from digits.store.file import FileStore
from tests.helpers.serving import serving
from tests.helpers.support import Finished, another_release, free_port

pytestmark = pytest.mark.filterwarnings("ignore")
HOPS = ["release", "data", "identity", "files", "run", "ledger"]


@pytest.fixture
def place(finished: Finished, tmp_path: Path) -> tuple[Settings, FileStore]:
    """A copy of a finished installation, to be broken."""
    settings = finished.copy(tmp_path / "home")
    return settings, FileStore(settings.home / "store")


def broken(settings: Settings, store: FileStore, version: str, endpoint: str = "") -> dict[str, str]:
    """{hop: what was found} of the hops that do not hold."""
    hops = list(verify.verify(settings, store, version, endpoint))
    assert [hop.name for hop in hops] == HOPS + (["endpoint"] if endpoint else [])
    return {hop.name: hop.found for hop in hops if not hop.holds}


def change(store: FileStore, version: str, **changes: Any) -> None:
    """Change a manifest."""
    key = releases.release_prefix(version) + releases.MANIFEST
    store.put(key, json.dumps(json.loads(store.get(key)) | changes).encode())


def test_an_intact_chain_holds(finished: Finished, place: tuple[Settings, FileStore]) -> None:
    """Nothing is broken after a run."""
    assert broken(*place, finished.version) == {}


def test_a_changed_file_breaks_files_alone(finished: Finished, place: tuple[Settings, FileStore]) -> None:
    """A model that was exchanged is found by its digest."""
    settings, store = place
    store.put(releases.release_prefix(finished.version) + "model.onnx", b"another model")
    found = broken(settings, store, finished.version)
    assert list(found) == ["files"]
    assert "model.onnx is damaged" in found["files"]


@pytest.mark.parametrize("what", ["weights", "parameters", "code"])
def test_a_changed_manifest_breaks_the_identity(
    what: str, finished: Finished, place: tuple[Settings, FileStore]
) -> None:
    """Whatever the release is said to be made of counts into its digest, and is in the manifest that MLflow keeps."""
    settings, store = place
    change(store, finished.version, **{what: {"seed": 9} if what == "parameters" else "0" * 64})
    assert list(broken(settings, store, finished.version)) == ["identity", "run"]


def test_other_data_breaks_data(finished: Finished, place: tuple[Settings, FileStore]) -> None:
    """A release said to be of MNIST with another content than the published one is found."""
    settings, store = place
    data = releases.load(store, finished.version)["data"] | {"dataset": "mnist"}
    change(store, finished.version, data=data)
    assert list(broken(settings, store, finished.version)) == ["data", "identity", "run"]


def test_a_changed_run_breaks_the_run(finished: Finished, place: tuple[Settings, FileStore]) -> None:
    """A run in MLflow that names another release is found, and so is a run that is not there."""
    settings, store = place
    run = finished.facts["published"]["mlflow_run"]
    mlflow_log.client(settings).set_tag(run, "release_digest", "0" * 64)
    assert list(broken(settings, store, finished.version)) == ["run"]
    mlflow_log.client(settings).set_tag(run, "release_digest", finished.facts["published"]["digest"])
    change(store, finished.version, mlflow_run="0" * 32)
    assert list(broken(settings, store, finished.version)) == ["run"]


def test_an_unregistered_release_breaks_the_run(finished: Finished, place: tuple[Settings, FileStore]) -> None:
    """A release that MLflow's registry does not know is found."""
    settings, store = place
    mlflow_log.client(settings).delete_registered_model(mlflow_log.MODEL)
    found = broken(settings, store, finished.version)
    assert list(found) == ["run"]
    assert "not registered" in found["run"]


def test_another_logged_manifest_breaks_the_run(finished: Finished, place: tuple[Settings, FileStore]) -> None:
    """A model and manifest that were exchanged together still differ from the manifest that MLflow keeps."""
    settings, store = place
    content = b"another model"
    key = releases.release_prefix(finished.version)
    files = releases.load(store, finished.version)["files"] | {"model.onnx": sha256_of(content)}
    store.put(key + "model.onnx", content)
    change(store, finished.version, files=files)
    found = broken(settings, store, finished.version)
    assert list(found) == ["run"]
    assert "files" in found["run"]


def test_stores_that_share_an_mlflow_are_both_verified(finished: Finished, place: tuple[Settings, FileStore]) -> None:
    """Where two backends made the same release, one run registered it; each store's manifest is that of its own run."""
    settings, store = place
    manifest = releases.load(store, finished.version)
    own = mlflow_log.start_run(settings, "another", "the second backend's", {"release_digest": manifest["digest"]})
    change(store, finished.version, mlflow_run=own, created="later")
    mlflow_log.client(settings).log_dict(own, releases.load(store, finished.version), "manifest.json")
    assert broken(settings, store, finished.version) == {}


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("cut", "is damaged"),
        ("a list", "is damaged"),
        ("deleted", "keeps no manifest.json"),
        ("unreachable", "MLflow at .* cannot be used"),
    ],
)
def test_a_logged_manifest_that_cannot_be_read_breaks_the_run(
    finished: Finished,
    place: tuple[Settings, FileStore],
    monkeypatch: pytest.MonkeyPatch,
    damage: str,
    said: str,
) -> None:
    """MLflow's manifest of a registered release is compared or the hop is broken: cut, gone, or not to be had."""
    settings, store = place
    client = mlflow_log.client(settings)
    manifest = releases.load(store, finished.version)
    run = mlflow_log.start_run(settings, "another", "with artifacts", {"release_digest": manifest["digest"]})
    change(store, finished.version, mlflow_run=run)
    client.log_dict(run, releases.load(store, finished.version), "manifest.json")
    client.delete_model_version(mlflow_log.MODEL, mlflow_log.registered(settings, finished.version))
    client.create_model_version(mlflow_log.MODEL, f"runs:/{run}/model", run, tags={"version": finished.version})
    assert broken(settings, store, finished.version) == {}
    (file,) = settings.home.glob(f"mlartifacts/**/{run}/artifacts/manifest.json")
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-20])
    elif damage == "a list":
        file.write_text("[1, 2]")
    elif damage == "deleted":
        file.unlink()
    else:
        monkeypatch.setattr(LocalArtifactRepository, "list_artifacts", _away)
    found = broken(settings, store, finished.version)
    assert list(found) == ["run"]
    assert re.search(said, found["run"])


def _away(*_: object) -> None:
    raise ConnectionError("no route to the artifacts' server")


def test_a_missing_file_breaks_files_alone(finished: Finished, place: tuple[Settings, FileStore]) -> None:
    """A file that was removed is found and named."""
    settings, store = place
    store.delete(releases.release_prefix(finished.version) + "model.keras")
    found = broken(settings, store, finished.version)
    assert list(found) == ["files"]
    assert "model.keras" in found["files"]


def test_a_lost_ledger_entry_breaks_the_ledger(finished: Finished, place: tuple[Settings, FileStore]) -> None:
    """An entry that was removed is missed by the one after it."""
    settings, store = place
    ledger.promote(store, another_release(store, finished.version)["version"], "next")
    store.delete(store.keys(ledger.LEDGER)[0])
    assert list(broken(settings, store, finished.version)) == ["ledger"]


@pytest.mark.slow
def test_an_endpoint_with_another_model_breaks_the_endpoint(
    finished: Finished, place: tuple[Settings, FileStore]
) -> None:
    """An endpoint that serves another release, or names the right one and answers otherwise, is found."""
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

    for release, said in (("0" * 12, "serves release 000000000000"), (manifest["version"], "golden image")):
        with serving(app(release)) as address:
            found = broken(settings, store, finished.version, address)
        assert list(found) == ["endpoint"]
        assert said in found["endpoint"]


def test_a_broken_ledger_breaks_the_ledger(finished: Finished, place: tuple[Settings, FileStore]) -> None:
    """An entry that does not follow the one before it is found."""
    settings, store = place
    key = store.keys(ledger.LEDGER)[0]
    store.put(key, store.get(key).replace(b'"link":""', b'"link":"00"'))
    assert list(broken(settings, store, finished.version)) == ["ledger"]


def test_a_release_that_is_not_there_ends_the_walk(place: tuple[Settings, FileStore]) -> None:
    """Without a manifest there is nothing to check the other hops by: the first alone says what is wrong."""
    (hop,) = verify.verify(*place, "0" * 12, "http://127.0.0.1:9")
    assert (hop.name, hop.holds) == ("release", False)
    assert "no release" in hop.found


@pytest.mark.slow
def test_a_silent_endpoint_breaks_the_endpoint(finished: Finished, place: tuple[Settings, FileStore]) -> None:
    """Nothing listening at the address is the last hop's break, with the address."""
    address = f"http://127.0.0.1:{free_port()}"
    found = broken(*place, finished.version, address)
    assert list(found) == ["endpoint"]
    assert address in found["endpoint"]
