"""The predictor's container serves only what a trusted key signed, and follows the keys of this machine."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from backends.docker import containers, minio, predictor
from digits.http import request_json
from digits.release import ledger, releases
from digits.release.write import write_release
from digits.settings import Settings
from digits.store import open_store
from tests.helpers.cluster_fixtures import Release, small_release
from tests.helpers.engines import cleaned, engine, settings_for, wait_until
from tests.helpers.signing import new_keys

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    """Settings with trusted keys in a folder, whose containers are removed at the end."""
    private, public = new_keys(tmp_path / "own")
    (tmp_path / "trusted").mkdir()
    (tmp_path / "trusted" / "key.pub").write_bytes(public.read_bytes())
    made = settings_for(tmp_path / "home", backend="docker")
    made = dataclasses.replace(made, trusted_keys=str(tmp_path / "trusted"), signing_key=str(private))
    with cleaned(made) as own:
        yield own


@pytest.fixture
def small(tmp_path: Path) -> list[Release]:
    """Three releases of a linear classifier of noise."""
    dice = np.random.default_rng(0)
    images, labels = dice.integers(0, 256, (2000, 28, 28), np.uint8), dice.integers(0, 10, 2000).astype(np.uint8)
    folders = [tmp_path / f"release-{seed}" for seed in range(3)]
    for folder in folders:
        folder.mkdir()
    return [small_release(folder, images, labels, seed) for seed, folder in enumerate(folders)]


def test_the_container_follows_the_keys(settings: Settings, small: list[Release]) -> None:
    """A signed champion is served. A forged, an unsigned and an older one are not, and the former is served on."""
    with contextlib.closing(engine()) as client:
        minio.ensure(client, settings, print)
        store = open_store(minio.host_settings(client, settings))
        versions = [write_release(store, release.folder, release.manifest)["version"] for release in small]
        ledger.promote(store, versions[0], "first")
        ledger.promote(store, versions[1], "second")
        assert ledger.champion(store) == versions[1]
        container = predictor.ensure(client, settings, print)
        mounts = {mount["Destination"]: mount["RW"] for mount in container.attrs["Mounts"]}
        assert mounts == {predictor.KEYS: False, f"{predictor.HOME}/seen": False}

        def about() -> dict[str, object]:
            with contextlib.suppress(OSError):
                return dict(request_json(f"{predictor.url(container)}/v2/models/digits")["parameters"])
            return {}

        def refused(reason: str) -> bool:
            return reason in str(about().get("refused"))

        assert wait_until(lambda: about().get("release") == versions[1], 90), container.logs()[-2000:]
        # The last entry is deleted: an older, validly signed ledger.
        gone = {key: store.get(key) for key in store.keys(ledger.folder(store)) if "/00000002" in key}
        for key in gone:
            store.delete(key)
        assert wait_until(lambda: refused("seen before"), 90)
        for key, content in gone.items():
            store.put(key, content)
        assert wait_until(lambda: not about()["refused"], 90)
        # The next champion is forged.
        prefix = releases.release_prefix(store, versions[2])
        manifest = json.loads(store.get(prefix + releases.MANIFEST))
        last = ledger.newest(store)
        store.put(prefix + releases.MANIFEST, json.dumps(manifest | {"metrics": {"accuracy": 1.0}}).encode())
        ledger.append(store, last, versions[2], "forged after the check of a promotion")
        assert wait_until(lambda: refused("is for another manifest.json"), 90)
        assert about()["release"] == versions[1]
        # Its key is withdrawn.
        (Path(settings.trusted_keys) / "key.pub").rename(Path(settings.trusted_keys).parent / "key.pub")
        new_keys(Path(settings.trusted_keys), name="other")[0].unlink()
        assert wait_until(lambda: refused("is signed by key"), 90)
        assert about()["release"] == versions[1]
        containers.remove(container)
