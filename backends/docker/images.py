"""Our container images. The tag of each is a digest of its content.

A changed source, lock file, Dockerfile or base image gives another tag. KFP's cache and a cluster therefore never
confuse two builds, and an image that exists never needs to be built again.
"""

from __future__ import annotations

import collections
import hashlib
import io
import re
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backends.base import Report
from backends.docker import containers
from digits.answers import within
from digits.errors import MissingError
from digits.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "dev" / "images"
PROJECT = ("pyproject.toml", "LICENSE", "requirements/build.txt", "dev/images/slim.sh", "dev/images/strip.py")
BUILD_SECONDS = 3600
_DEFAULT_BASE = re.compile(r"^ARG BASE_IMAGE=(\S+)$", re.MULTILINE)


@dataclass(frozen=True)
class Image:
    """An image of ours: its repository's name, its Dockerfile in dev/images, and the files and folders in it."""

    name: str
    dockerfile: str
    parts: tuple[str, ...]


IMAGES = {
    # The name contains "python", because kfp.local warns about other names.
    "steps": Image(
        "digits-python-steps",
        "steps.Dockerfile",
        (*PROJECT, "requirements/train.txt", "digits", "pipeline", "backends"),
    ),
    "predictor": Image("digits-predictor", "predictor.Dockerfile", (*PROJECT, "requirements/serve.txt", "digits")),
    "web": Image("digits-web", "web.Dockerfile", (*PROJECT, "requirements/web.txt", "digits", "web_app")),
    "minio": Image("digits-minio", "minio.Dockerfile", ()),
}


def reference(client: Any, settings: Settings, which: str) -> str:
    """Return `name:tag` of an image as it would be built now. Raises MissingError outside a checkout."""
    image = _checked(which)
    hashed = hashlib.sha256(_base(client, settings, image)[1].encode())
    for path in _files(image):
        hashed.update(f"\0{path.relative_to(ROOT).as_posix()}\0".encode() + path.read_bytes())
    return f"{image.name}:{hashed.hexdigest()[:12]}"


def present(client: Any, name: str) -> bool:
    """Return whether the engine has an image of that name and tag."""
    from docker.errors import ImageNotFound

    with containers.errors(f"looking for image {name}"):
        try:
            client.images.get(name)
        except ImageNotFound:
            return False
    return True


def built(client: Any) -> int:
    """Return the number of our images that the engine has, of all versions."""
    with containers.errors("looking for images"):
        return len(client.images.list(filters={"label": containers.ROLE_LABEL}))


def ensure_image(client: Any, settings: Settings, which: str, report: Report) -> str:
    """Return `name:tag` of an image; build it if the engine lacks it. Raises MissingError with the end of the log."""
    name = reference(client, settings, which)
    if not present(client, name):
        build(client, settings, which, name, report)
    return name


def build(client: Any, settings: Settings, which: str, name: str, report: Report) -> None:
    """Build an image as `name`, and report each step of the Dockerfile."""
    image = _checked(which)
    base = _base(client, settings, image)[0]
    report(f"building image {name} from {base}")
    log: collections.deque[str] = collections.deque(maxlen=4)
    with containers.errors(f"building image {name}"), within(BUILD_SECONDS):
        for message in client.api.build(
            fileobj=_context(image),
            custom_context=True,
            encoding="gzip",
            dockerfile="Dockerfile",
            tag=name,
            buildargs={} if image.dockerfile == "minio.Dockerfile" else {"BASE_IMAGE": base},
            labels={"org.opencontainers.image.revision": name.split(":")[1], containers.ROLE_LABEL: f"image-{which}"},
            network_mode="host",
            rm=True,
            forcerm=True,
            timeout=BUILD_SECONDS,
            decode=True,
        ):
            text = str(message.get("error") or message.get("stream") or "").strip()
            if text:
                log.append(text)
            if "error" in message:
                break
            if text.startswith("Step "):
                report("  " + " ".join(text.split(" && ")[0].rstrip(" \\").split())[:72])
        else:
            report(f"built image {name}")
            return
    raise MissingError(
        f"image {name} could not be built: " + " | ".join(line[:300] for line in log),
        remedy="check the network; or build it elsewhere, docker save it, and docker load -i it here",
    )


def pull(client: Any, name: str, variable: str, report: Report) -> None:
    """Pull a public image if the engine lacks it. Raises MissingError, with `variable` as the setting to change."""
    from docker.errors import APIError
    from docker.utils import parse_repository_tag

    if present(client, name):
        return
    report(f"pulling image {name}")
    repository, tag = parse_repository_tag(name)
    try:
        with containers.errors(f"pulling image {name}"), within(BUILD_SECONDS):
            client.images.pull(repository, tag or "latest")
    except MissingError as exc:
        why = getattr(exc.__cause__, "explanation", None) if isinstance(exc.__cause__, APIError) else None
        raise MissingError(
            f"image {name} is not on this machine and could not be pulled: {why or exc.message}",
            remedy=f"docker load -i FILE a copy of it, or set {variable} to an image that is here",
        ) from exc


def _checked(which: str) -> Image:
    image = IMAGES[which]
    if not all((ROOT / part).exists() for part in image.parts) or not (FOLDER / image.dockerfile).is_file():
        raise MissingError(
            f"image {image.name} can only be built from a checkout of digits, and {ROOT} is none",
            remedy="in a checkout: pip install -e '.[pipeline]', then digits images build",
        )
    return image


def _base(client: Any, settings: Settings, image: Image) -> tuple[str, str]:
    """Return (the base image, an identifier of its content for the digest)."""
    text = (FOLDER / image.dockerfile).read_text()
    default = _DEFAULT_BASE.search(text)
    base = settings.base_image or (default[1] if default else "")
    if "@sha256:" in base or image.dockerfile == "minio.Dockerfile":
        return base, base
    pull(client, base, "DIGITS_BASE_IMAGE", lambda _: None)
    with containers.errors(f"looking for image {base}"):
        return base, str(client.images.get(base).id)


def _files(image: Image) -> list[Path]:
    """Return all files of an image, in a fixed order."""
    files = {FOLDER / image.dockerfile}
    for path in (ROOT / part for part in image.parts):
        below = path.rglob("*") if path.is_dir() else [path]
        files |= {file for file in below if file.is_file() and "__pycache__" not in file.parts}
    return sorted(files)


def _context(image: Image) -> io.BytesIO:
    """Return the build context: exactly the files of the digest, without times, owners or modes.

    The package needs a README. It is empty here, so that rewording it does not change the image.
    """
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as archive:
        for path in _files(image):
            name = "Dockerfile" if path == FOLDER / image.dockerfile else path.relative_to(ROOT).as_posix()
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = path.stat().st_size, 0o644
            with path.open("rb") as file:
                archive.addfile(entry, file)
        archive.addfile(tarfile.TarInfo("README.md"))
    buffer.seek(0)
    return buffer
