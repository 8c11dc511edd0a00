"""The SBOMs against the images: what is listed is what a container of the image finds in itself."""

from __future__ import annotations

import json
import re

import pytest

from backends.docker import containers, images
from backends.docker import minio as docker_store
from dev import sbom
from tests.helpers.engines import engine, settings_for

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(900)]
LOOK = """
import importlib.metadata, json, subprocess, sys
base = f"{sys.base_prefix}/lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
python = {(d.name, d.version) for d in importlib.metadata.distributions(path=[*sys.path, base])}
debian = subprocess.check_output(["dpkg-query", "-W", "-f", "${db:Status-Status} ${Package} ${Version}\\n"], text=True)
debian = [line.split()[1:] for line in debian.splitlines() if line.startswith("installed ")]
print(json.dumps({"pypi": sorted(python), "deb": debian}))
"""


@pytest.fixture
def client():
    """The engine."""
    found = engine()
    yield found
    found.close()


def listed(made, kind):
    """Return {(name, version)} of an SBOM's components of a kind."""
    return {(c["name"], c["version"]) for c in made["components"] if c["purl"].startswith(f"pkg:{kind}/")}


def said(client, settings, image, *command):
    """Return what a container of the image prints, which has no network and cannot write."""
    labels = containers.labels(settings, "step")
    return client.containers.run(
        image, command, labels=labels, network_disabled=True, read_only=True, remove=True
    ).decode()


def test_an_sbom_lists_what_the_image_holds(client, tmp_path):
    """The predictor's SBOM has the Python and Debian packages that a container of it finds, and no removed one."""
    settings = settings_for(tmp_path)
    image = images.ensure_image(client, settings, "predictor", print)
    held = json.loads(said(client, settings, image, "python", "-c", LOOK))
    made = sbom.sbom(client, image)
    for kind, packages in held.items():
        assert listed(made, kind) == {tuple(package) for package in packages}
    assert {"digits", "onnxruntime"} <= {name for name, _ in listed(made, "pypi")}
    assert "pillow" not in {name for name, _ in listed(made, "pypi")}
    assert len(listed(made, "deb")) > 50


def test_the_sbom_of_minio_lists_its_modules(client, tmp_path):
    """MinIO's program says itself by which Go it was made; the SBOM has that, MinIO and the modules in it."""
    settings = settings_for(tmp_path)
    image = docker_store.ensure_image(client, settings, print)
    go = re.search(r"Runtime: go(\S+)", said(client, settings, image, "--version"))[1]
    found = dict(listed(sbom.sbom(client, image), "golang"))
    assert found["stdlib"] == go
    assert {"github.com/minio/minio", "golang.org/x/crypto"} <= set(found)
