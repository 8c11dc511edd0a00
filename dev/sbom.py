"""Writes a CycloneDX SBOM for each of our Python images into a folder: `python dev/sbom.py dist`.

It lists what the image's requirement file pins, with hashes. The base image's own packages are its publisher's to list.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
IMAGES = {"digits-python-steps": "train", "digits-predictor": "serve", "digits-web": "web"}
SECONDS = 120


def sbom(image: str, part: str, version: str) -> dict[str, object]:
    """The SBOM of an image."""
    command = ["cyclonedx-py", "requirements", f"requirements/{part}.txt", "--pyproject", "pyproject.toml"]
    command += ["--output-reproducible", "--of", "JSON", "--output-file", "-"]
    made = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, timeout=SECONDS, check=True)
    found: dict[str, object] = json.loads(made.stdout)
    pinned = sum(line[:1].isalnum() for line in (ROOT / "requirements" / f"{part}.txt").read_text().splitlines())
    components, about = found["components"], found["metadata"]
    assert isinstance(components, list)
    assert isinstance(about, dict)
    assert len(components) == pinned, f"{part}: {pinned} packages are pinned, {len(components)} listed"
    about["component"] |= {"name": image, "version": version, "type": "container"}
    return found


def main(folder: Path) -> None:
    """Write all of them."""
    lines = (ROOT / "digits" / "__init__.py").read_text().splitlines()
    version = str(tomllib.loads(next(line for line in lines if line.startswith("__version__")))["__version__"])
    folder.mkdir(parents=True, exist_ok=True)
    for image, part in IMAGES.items():
        path = folder / f"{image}-{version}.cdx.json"
        path.write_text(json.dumps(sbom(image, part, version), indent=1) + "\n")
        print(f"wrote {path}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
