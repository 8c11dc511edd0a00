"""Write a CycloneDX SBOM for each of our images into a folder: `python -m dev.sbom dist`. Builds missing images.

It lists the content of the image: Python distributions by their dist-info, Debian packages by dpkg's status, and the Go
modules that the linker recorded in MinIO's program. A package is listed even if only its files were removed.
"""

from __future__ import annotations

import json
import re
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from email.parser import HeaderParser
from pathlib import Path
from typing import Any
from urllib.parse import quote

from backends.docker import containers, images, minio
from digits import __version__
from digits.answers import within
from digits.settings import Settings

READ = re.compile(r".+\.dist-info/METADATA|var/lib/dpkg/status|usr/lib/os-release|usr/bin/minio")
EXPORT_SECONDS = 600.0  # of an image, which has gigabytes
# debug.BuildInfo as written by Go's linker: Go's version, a length of some bytes, and the modules between two marks.
GO = re.compile(
    rb"go(1[\w.]+)[\x80-\xff]+[\x00-\x7f]"
    + re.escape(bytes.fromhex("3077af0c9274080241e1c107e6d618e6"))
    + rb"(.*?)"
    + re.escape(bytes.fromhex("f932433186182072008242104116d8f2")),
    re.DOTALL,
)


def files(client: Any, image: str) -> dict[str, bytes]:
    """Return the relevant files of an image, by path. Nothing of the image is executed."""
    found: dict[str, bytes] = {}
    made = client.containers.create(image, ["none"])
    try:
        with tempfile.TemporaryFile() as exported, within(EXPORT_SECONDS):
            for block in made.export():
                exported.write(block)
            exported.seek(0)
            with tarfile.open(fileobj=exported) as archive:
                for entry in archive:
                    if entry.isfile() and READ.fullmatch(entry.name) and (file := archive.extractfile(entry)):
                        found[entry.name] = file.read()
    finally:
        made.remove()
    return found


def packages(found: dict[str, bytes]) -> Iterator[tuple[str, str, str]]:
    """Yield (name, version, package URL) of each package in these files."""
    for path, content in found.items():
        if path.endswith("/METADATA"):
            about = HeaderParser().parsestr(content.decode())
            name, version = str(about["Name"]), str(about["Version"])
            yield name, version, f"pkg:pypi/{re.sub(r'[-_.]+', '-', name).lower()}@{quote(version)}"
    system = dict(re.findall(r'^(\w+)="?([^"\n]*)', found.get("usr/lib/os-release", b"").decode(), re.MULTILINE))
    for paragraph in found.get("var/lib/dpkg/status", b"").decode().split("\n\n"):
        fields = dict(re.findall(r"^(\S+): (.*)$", paragraph, re.MULTILINE))
        if fields.get("Status", "").endswith(" installed"):
            name, version, arch = fields["Package"], fields["Version"], fields["Architecture"]
            place = f"?arch={arch}&distro={system['ID']}-{system['VERSION_ID']}"
            yield name, version, f"pkg:deb/{system['ID']}/{quote(name)}@{quote(version, safe=':')}{place}"
    if noted := GO.search(found.get("usr/bin/minio", b"")):
        modules = [("stdlib", noted[1].decode())]
        for kind, name, version in re.findall(r"^(mod|dep|=>)\t(\S+)\t(\S+)", noted[2].decode(), re.MULTILINE):
            if kind == "=>":  # stands in for the one before
                modules.pop()
            modules.append((name, version))
        for name, version in modules:
            yield name, version, f"pkg:golang/{quote(name.lower())}@{quote(version)}"


def sbom(client: Any, image: str) -> dict[str, Any]:
    """The SBOM of an image that the engine has."""
    listed = {purl: (name, version) for name, version, purl in packages(files(client, image))}
    assert listed, f"{image}: nothing is known of what it holds"
    container = {"type": "container", "name": image.split(":")[0], "version": __version__}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": container | {"bom-ref": client.images.get(image).id}},
        "components": [
            {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}
            for purl, (name, version) in sorted(listed.items())
        ],
    }


def main(folder: Path) -> None:
    """Write all of them, each held against CycloneDX's schema."""
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    client, settings = containers.connect(), Settings.load()
    folder.mkdir(parents=True, exist_ok=True)
    for which, image in images.IMAGES.items():
        name = (
            minio.ensure_image(client, settings, print)
            if which == "minio"
            else images.ensure_image(client, settings, which, print)
        )
        text = json.dumps(sbom(client, name), indent=1) + "\n"
        if wrong := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text):
            sys.exit(f"{name}: its SBOM is not CycloneDX's: {wrong}")
        path = folder / f"{image.name}-{__version__}.cdx.json"
        path.write_text(text)
        print(f"wrote {path}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
