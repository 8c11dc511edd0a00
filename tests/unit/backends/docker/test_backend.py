"""What the docker backend refuses and awaits before it asks an engine for anything; the engine is a stand-in."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import Mock

import pytest

from backends.docker import minio
from backends.docker.backend import DockerBackend
from backends.docker.environment import step_environment
from backends.kubeflow.tasks import MLFLOW_SECRET
from digits.errors import UsageError
from digits.release import mlflow_log
from digits.settings import Settings
from tests.helpers import canary


def backend(home: Path, **values: str) -> DockerBackend:
    made = DockerBackend(Settings(home=home, backend="docker", **values))
    made._connected = Mock()
    return made


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"store": "file:///srv/digits"}, r"DIGITS_STORE: expected s3://bucket .*file:///srv/digits"),
        ({"minio_endpoint": "s3.example:9000"}, "MINIO_ENDPOINT is set, but DIGITS_STORE"),
    ],
)
def test_a_store_that_would_be_passed_over_is_refused(values: dict[str, str], named: str, tmp_path: Path) -> None:
    """A folder of one's own, and an S3 server without a bucket, are no store here: neither a run nor a look goes on."""
    for ask in (backend(tmp_path, **values).check, backend(tmp_path, **values).here):
        with pytest.raises(UsageError, match=named) as refused:
            ask()
        assert "MinIO in a container" in refused.value.remedy


def test_our_store_is_used_until_an_s3_store_is_named(tmp_path: Path) -> None:
    """The default, also written out, is our MinIO whatever keys are set; s3:// is the user's own."""
    for values in ({}, {"store": (tmp_path / "store").as_uri()}, {"minio_access_key": "k"}):
        ours = backend(tmp_path, **values)
        ours.check()
        assert ours.step_settings().minio_endpoint == f"{minio.ALIAS}:{minio.PORT}"
    theirs = backend(tmp_path, store="s3://theirs", minio_endpoint="s3.example:9000")
    theirs.check()
    assert theirs.here() == theirs.step_settings() == theirs.settings


def test_a_step_is_told_what_it_needs_and_no_other_secret(tmp_path: Path) -> None:
    """Of all secrets a step gets the store's keys and what MLflow's server asks for, the same as on Kubeflow."""
    there = {"store": "s3://digits", "minio_endpoint": "http://minio:9000"}
    settings, stem = canary.planted(Settings(home=tmp_path, **there))
    keys = {"MINIO_ACCESS_KEY", "MINIO_SECRET_KEY", "MINIO_SESSION_TOKEN"}
    shown = {name: f"{stem}-{name}" for name in mlflow_log.CREDENTIALS}
    assert set(shown) == set(MLFLOW_SECRET)
    told = step_environment(settings, shown | {"DIGITS_KFP_TOKEN": stem, "AWS_SECRET_ACCESS_KEY": stem})
    assert {name for name, value in told.items() if stem in value} == {*shown, *keys}
    assert {name: told[name] for name in shown} == shown
    again = Settings.load(told, dotenv=None)
    assert (again.home, again.store, again.tracking_uri) == (settings.home, settings.store, settings.tracking_uri)
    assert not {*shown} & {*step_environment(settings, {})}


def test_a_step_is_told_the_proxies_that_it_reaches(tmp_path: Path) -> None:
    """The proxy of a network holds in a container too, but not for its own neighbours; one on this machine does not."""
    settings, away = Settings(home=tmp_path), "http://anna:word@proxy.example:3128"
    told = step_environment(settings, {"https_proxy": away, "HTTP_PROXY": "localhost:3128", "NO_PROXY": "intranet"})
    assert told["https_proxy"] == away
    assert step_environment(settings, {"HTTP_PROXY": "http://[bad"})["HTTP_PROXY"] == "http://[bad"
    assert "HTTP_PROXY" not in told
    assert told["NO_PROXY"] == told["no_proxy"] == "intranet,minio,predictor"
    assert not [
        n
        for n in step_environment(settings, {"HTTPS_PROXY": "http://[::1]:1", "no_proxy": "x"})
        if "proxy" in n.lower()
    ]
