"""An environment for each peer, made on first use under the user's cache folder, with pinned versions."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

from dev.bench.results import ROOT

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "digits-bench"
# Nothing newer is installed, so that what a peer depends on stays as it was measured.
AS_OF = "2026-11-23"
SAME = ("onnxruntime==1.32.0", "numpy==2.4.6")  # as requirements/serve.txt has them
PACKAGES: dict[str, tuple[str, ...]] = {
    "kserve": ("kserve==0.21.0", *SAME),
    "mlserver": ("mlserver==1.7.1", *SAME),
    "mlflow": ("mlflow==3.17.2", "onnx==1.23.2", *SAME),
    "bentoml": ("bentoml==1.4.39", *SAME),
    "litserve": ("litserve==0.2.19", *SAME),
    "bare": ("starlette==1.10.0", "uvicorn==0.54.0", "uvloop==0.23.0", "httptools==0.9.0", *SAME),
}
LOCKED = {"digits": "serve.txt", "gateway": "web.txt"}
GHZ = "github.com/bojand/ghz/cmd/ghz@v0.93.0"
INSTALL_SECONDS = 600


class Unavailable(Exception):
    """A peer is not available here; the message has the reason."""


def python(name: str) -> Path:
    """Return the interpreter of a contestant's environment, which is made if missing, or raise Unavailable."""
    if name in LOCKED:
        file = ROOT / "requirements" / LOCKED[name]
        wanted, arguments = file.read_text(), ["--require-hashes", "-r", str(file)]
    else:
        wanted, arguments = " ".join(PACKAGES[name]), ["--exclude-newer", AS_OF, *PACKAGES[name]]
    folder = CACHE / f"{name}-{hashlib.sha256(wanted.encode()).hexdigest()[:8]}"
    made = folder / "made"  # written last
    if not made.exists():
        _call("uv", "venv", "--quiet", "--clear", "--python", "3.11", str(folder))
        _call("uv", "pip", "install", "--quiet", "--python", str(folder / "bin" / "python"), *arguments)
        made.touch()
    return folder / "bin" / "python"


def ghz() -> Path:
    """Return the gRPC client, built by Go, or raise Unavailable."""
    program = CACHE / "bin" / "ghz"
    if not program.exists():
        _call("go", "install", GHZ, env=os.environ | {"GOBIN": str(program.parent)})
    return program


def size(interpreter: Path) -> int:
    """Return the size of an environment's packages in bytes."""
    files = (file for file in (interpreter.parent.parent / "lib").rglob("*") if file.is_file())
    return sum(file.stat().st_size for file in files if file.suffix != ".pyc")


def _call(*command: str, env: dict[str, str] | None = None) -> None:
    try:
        subprocess.run(command, check=True, timeout=INSTALL_SECONDS, stderr=subprocess.PIPE, env=env)
    except FileNotFoundError:
        raise Unavailable(f"{command[0]} is not on PATH") from None
    except subprocess.TimeoutExpired:
        raise Unavailable(f"{command[0]} took more than {INSTALL_SECONDS} s") from None
    except subprocess.CalledProcessError as exc:
        raise Unavailable(f"{' '.join(command[:3])}: {exc.stderr.decode(errors='replace')[-400:]}") from None
