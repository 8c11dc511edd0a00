"""Stores that the docker backend refuses or uses, decided before it contacts the Docker engine."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import Mock

import pytest

from backends.docker import containers, images, minio, predictor
from backends.docker.backend import DockerBackend
from digits.errors import UsageError
from digits.settings import Settings


def backend(home: Path, **values: str) -> DockerBackend:
    """Return a docker backend whose engine is a stand-in."""
    backend = DockerBackend(Settings(home=home, backend="docker", **values))
    backend._connected = Mock()
    return backend


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"store": "file:///srv/digits"}, r"DIGITS_STORE: expected s3://bucket .*file:///srv/digits"),
        ({"minio_endpoint": "s3.example:9000"}, "MINIO_ENDPOINT is set, but DIGITS_STORE"),
    ],
)
def test_a_store_that_would_be_ignored_is_refused(values: dict[str, str], named: str, tmp_path: Path) -> None:
    """A local folder, and an S3 server without a bucket, cannot be the store of this backend."""
    for method in (backend(tmp_path, **values).check, backend(tmp_path, **values).host_settings):
        with pytest.raises(UsageError, match=named) as refused:
            method()
        assert "MinIO in a container" in refused.value.remedy


def test_our_store_is_used_until_an_s3_store_is_named(tmp_path: Path) -> None:
    """The default, implicit or explicit, is our MinIO whatever credentials are set; s3:// is the user's own store."""
    for values in ({}, {"store": (tmp_path / "store").as_uri()}, {"minio_access_key": "k"}):
        ours = backend(tmp_path, **values)
        ours.check()
        assert ours.step_settings().minio_endpoint == f"{minio.ALIAS}:{minio.PORT}"
    theirs = backend(tmp_path, store="s3://theirs", minio_endpoint="s3.example:9000")
    theirs.check()
    assert theirs.host_settings() == theirs.step_settings() == theirs.settings


def test_the_steps_run_in_the_image_that_was_prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sources may change while an image is built; the engine does not compute its name again."""
    ours = backend(tmp_path, steps_image="for-kubeflow:1")
    monkeypatch.setattr(images, "ensure_image", lambda _client, _settings, which, _report: f"digits-{which}:1")
    monkeypatch.setattr(minio, "ensure", Mock())
    monkeypatch.setattr(minio, "host_settings", Mock())
    monkeypatch.setattr(predictor, "ensure", Mock())
    monkeypatch.setattr(containers, "list_containers", lambda *_: [])
    ours.prepare(lambda _: None)
    steps = ours.step_settings()
    assert (steps.steps_image, steps.environ()["DIGITS_STEPS_IMAGE"]) == ("digits-steps:1", "digits-steps:1")
