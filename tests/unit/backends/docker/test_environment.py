"""The variables of a step's container."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from backends.docker.environment import check_mountable, step_environment, step_folders
from backends.kubeflow.tasks import MLFLOW_SECRET
from digits.errors import UsageError
from digits.release import mlflow_client
from digits.settings import Settings
from tests.helpers import canary


def test_a_step_gets_no_credentials_that_it_does_not_use(tmp_path: Path) -> None:
    """A step gets the credentials of the store and of MLflow's server, as on Kubeflow, and no others."""
    there = {"store": "s3://digits", "minio_endpoint": "http://minio:9000"}
    settings, stem = canary.planted(Settings(home=tmp_path, **there))
    keys = {"MINIO_ACCESS_KEY", "MINIO_SECRET_KEY", "MINIO_SESSION_TOKEN"}
    shown = {name: f"{stem}-{name}" for name in mlflow_client.CREDENTIALS}
    assert set(shown) == set(MLFLOW_SECRET)
    variables = step_environment(settings, shown | {"DIGITS_KFP_TOKEN": stem, "AWS_SECRET_ACCESS_KEY": stem})
    assert {name for name, value in variables.items() if stem in value} == {*shown, *keys}
    assert {name: variables[name] for name in shown} == shown
    again = Settings.load(variables, dotenv=None)
    assert (again.home, again.store, again.tracking_uri) == (settings.home, settings.store, settings.tracking_uri)
    assert not {*shown} & {*step_environment(settings, {})}


def test_a_step_gets_the_proxies_that_it_can_reach(tmp_path: Path) -> None:
    """A proxy of the network is passed on, except for our own containers; a proxy on this machine is not."""
    settings, away = Settings(home=tmp_path), "http://anna:word@proxy.example:3128"
    variables = step_environment(
        settings, {"https_proxy": away, "HTTP_PROXY": "localhost:3128", "NO_PROXY": "intranet"}
    )
    assert variables["https_proxy"] == away
    assert step_environment(settings, {"HTTP_PROXY": "http://[bad"})["HTTP_PROXY"] == "http://[bad"
    assert "HTTP_PROXY" not in variables
    assert variables["NO_PROXY"] == variables["no_proxy"] == "intranet,minio,predictor"
    assert not [
        n
        for n in step_environment(settings, {"HTTPS_PROXY": "http://[::1]:1", "no_proxy": "x"})
        if "proxy" in n.lower()
    ]


@pytest.mark.parametrize(
    "variable", ["DIGITS_HOME", "DIGITS_DATA", "MLFLOW_TRACKING_URI", "DIGITS_SIGNING_KEY", "none"]
)
def test_a_path_with_a_colon_is_refused(variable: str, tmp_path: Path) -> None:
    """A path that the engine could not mount is an error that names its setting, before an image is built."""
    place = tmp_path / "a:b"
    place.mkdir()
    values = {"DIGITS_HOME": str(tmp_path), variable: str(place)}
    if variable == "MLFLOW_TRACKING_URI":
        values[variable] = f"sqlite:///{place}/mlflow.db"
    settings = Settings.load(values, dotenv=None)
    with pytest.raises(UsageError, match=variable) if variable != "none" else contextlib.nullcontext():
        check_mountable(settings)


def test_a_step_sees_where_the_links_in_the_home_lead(tmp_path: Path) -> None:
    """Folders that are links to another disk, and MLflow's database there, are mounted, too; a colon is refused."""
    home, disk = tmp_path / "home", tmp_path / "disk"
    for folder in (home / "runs", disk / "cache", disk / "other", disk / "a:b"):
        folder.mkdir(parents=True)
    settings = Settings(home=home)
    assert step_folders(settings) == [home]
    (home / "cache").symlink_to(disk / "cache")
    (home / "mlflow.db").symlink_to(disk / "other" / "new.db")
    (home / "pipeline").symlink_to(disk / "missing" / "folder")
    assert step_folders(settings) == [home, disk / "cache", disk / "other"]
    elsewhere = Settings(home=home, tracking_uri=f"sqlite:///{disk}/mlflow.db")
    assert step_folders(elsewhere) == [home, disk, disk / "cache", disk / "other"]
    (home / "data").symlink_to(disk / "a:b")
    with pytest.raises(UsageError, match=f"a link in DIGITS_HOME: {disk}/a:b has a colon"):
        check_mountable(settings)
