"""The MinIO container: its keys, and what starts it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from backends.docker import minio
from backends.programs import python
from digits.errors import MissingError
from digits.settings import Settings


@pytest.mark.parametrize("content", ["", "[]", '{"access_key": "a"}', "[" * 60_000])
def test_damaged_keys_are_reported(content: str, tmp_path: Path) -> None:
    """The error names the file, which is not replaced: MinIO still has the keys that it held."""
    settings = Settings(home=tmp_path)
    assert minio.credentials(settings) == minio.credentials(settings)
    (tmp_path / "minio.json").write_text(content)
    with pytest.raises(MissingError, match=rf"{tmp_path}/minio.json is damaged"):
        minio.credentials(settings)
    assert (tmp_path / "minio.json").read_text() == content


def test_settings_of_other_projects_do_not_reach_testcontainers(tmp_path: Path) -> None:
    """Another engine, a login to a registry and a prefix for images are not taken from the user's other projects."""
    (tmp_path / ".testcontainers.properties").write_text("tc.host=tcp://away:2375\n")
    theirs = {
        "DOCKER_AUTH_CONFIG": '{"auths": {"away": {"auth": "YTpi"}}}',
        "TESTCONTAINERS_HUB_IMAGE_NAME_PREFIX": "away/",
        "TESTCONTAINERS_CONNECTION_MODE": "odd",
        "TC_MAX_TRIES": "odd",
        "DOCKER_CONTEXT": "default",
        "DOCKER_CONFIG": str(tmp_path),
        "HOME": str(tmp_path),
    }
    (tmp_path / "config.json").write_text('{"currentContext": "away"}')
    code = """
from backends.docker import minio
minio._container_class()
from testcontainers.core.config import testcontainers_config as config
from testcontainers.core.docker_client import get_docker_host
print(config.docker_auth_config, repr(config.hub_image_name_prefix), get_docker_host())
"""
    environment = {name: value for name, value in os.environ.items() if name != "DOCKER_HOST"} | theirs
    shown = subprocess.check_output(python("-c", code), env=environment, text=True, timeout=60)
    assert shown == "None '' unix:///var/run/docker.sock\n"
