"""Copying this machine's images into the node of the kind cluster."""

from __future__ import annotations

import tempfile

from backends.base import Report
from backends.programs import ProgramError, program
from digits.errors import MissingError
from digits.files import sha256_of

LOAD_SECONDS = 300
LOADED = "/var/lib/digits-images"  # in the node: an empty file for each image that was copied into it


def find(image: str) -> str:
    """Return the digest of an image of this machine. Raises MissingError if there is none."""
    try:
        return program("docker", "image", "inspect", "--format={{.Id}}", image).strip()
    except ProgramError as exc:
        raise MissingError(
            f"there is no image {image} on this machine", remedy=f"docker pull {image}, or build it"
        ) from exc


def load(images: list[str], cluster: str, report: Report = lambda _: None) -> None:
    """Copy local images into the node of a cluster, unless they are there already.

    Copied images are recorded in the node by digest, because kind's own check needs a program that not every node
    image has.

    Raises:
        MissingError: an image does not exist on this machine.
    """
    for image in filter(None, dict.fromkeys(images)):
        record = f"{LOADED}/{sha256_of(f'{image} {find(image)}'.encode())}"
        if _in_node(cluster, "test", "-e", record):
            continue
        report(f"image {image}")
        try:
            program("kind", "load", "docker-image", image, "--name", cluster, seconds=LOAD_SECONDS)
        except ProgramError:  # kind cannot load directly from the containerd image store of Docker 29
            with tempfile.TemporaryDirectory() as folder:
                archive = f"{folder}/image.tar"
                program("docker", "save", "-o", archive, image, seconds=LOAD_SECONDS)
                program("kind", "load", "image-archive", archive, "--name", cluster, seconds=LOAD_SECONDS)
        _in_node(cluster, "mkdir", "-p", LOADED)
        _in_node(cluster, "touch", record)


def _in_node(cluster: str, *command: str) -> bool:
    try:
        program("docker", "exec", f"{cluster}-control-plane", *command)
    except ProgramError:
        return False
    return True
