#!/usr/bin/env -S uv run --script
# /// script
# dependencies = ["nox>=2025.11"]
# ///
"""`nox -l` is the developers' menu; plain `nox` needs no Docker, cluster or data host."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.error_on_external_run = True
nox.options.reuse_venv = "yes"

LOCKED = "requirements/all.txt"
PACKAGES = ("digits", "pipeline", "backends", "web_app")
# As pip does by itself: else the first run, and every one under PYTHONDONTWRITEBYTECODE, compiles all it imports.
os.environ.setdefault("UV_COMPILE_BYTECODE", "1")


def install(session: nox.Session) -> None:
    """Install the locked packages, checked by hash, and this project as it stands here."""
    # uv would install all of it on a later Python too, for which some of the packages were never made.
    if not (3, 11) <= sys.version_info[:2] <= (3, 12):
        session.error(f"needs Python 3.11 or 3.12, this is {sys.version.split()[0]}; make .venv with one of them")
    session.install("--require-hashes", "-r", LOCKED)
    session.install("--no-deps", "-e", ".")


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and format; with `-- --fix`, mend what can be mended."""
    ruff = [line.split()[0] for line in Path(LOCKED).read_text().splitlines() if line.startswith("ruff==")]
    session.install(*ruff)
    session.run("ruff", "check", ".", *session.posargs)
    session.run("ruff", "format", *([] if session.posargs else ["--check"]), ".")


@nox.session
def types(session: nox.Session) -> None:
    """Check types, strictly."""
    install(session)
    session.run("mypy", *session.posargs)


@nox.session
def unit(session: nox.Session) -> None:
    """Run the tests that need nothing but Python."""
    install(session)
    # A worker for each core; more than eight would wait for each other's training.
    parallel = ("-n", "logical", "--maxprocesses", "8", "--dist", "loadfile")
    session.run(
        "pytest", *parallel, "tests/unit", "tests/contract", "-m", "not docker and not cluster", *session.posargs
    )


@nox.session(default=False)
def faults(session: nox.Session) -> None:
    """Inject faults and hostile requests, and print what came of them; `-- --write` keeps the table in the docs."""
    install(session)
    session.run("pytest", "tests/faults", "tests/hostile", *session.posargs)


@nox.session(default=False)
def integration(session: nox.Session) -> None:
    """Run the tests that need a Docker engine."""
    install(session)
    session.run("pytest", "tests/integration", "tests/contract", "-m", "docker", *session.posargs)


@nox.session(default=False)
def e2e(session: nox.Session) -> None:
    """Run the tests that need a browser or a kind cluster."""
    install(session)
    session.run("pytest", "tests/e2e", *session.posargs)


@nox.session(default=False)
def demo(session: nox.Session) -> None:
    """Run the pipeline on MNIST, serve the model, and recognise a real image."""
    install(session)
    session.run("digits", "run", *session.posargs)
    session.run("digits", "predict", "0")
    session.log(f"now draw one yourself: {session.bin}/digits up")


@nox.session(default=False)
def minimums(session: nox.Session) -> None:
    """Run the unit tests on the lowest versions that pyproject.toml allows."""
    if session.venv_backend != "uv":
        session.skip("needs uv: pip install uv")
    session.install("--resolution=lowest-direct", "-e", ".[all]", "--group", "test")
    session.run("pytest", "tests/unit", "-m", "not docker and not cluster", *session.posargs)


@nox.session(default=False)
def lock(session: nox.Session) -> None:
    """Compile the hashed requirement files from pyproject.toml."""
    session.install("uv")
    session.run("dev/lock", *session.posargs, external=True)


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """Measure against the peers; `-- training docker` chooses parts of dev/bench."""
    install(session)
    for part in session.posargs or ["training", "pipeline", "docker", "serving", "growth"]:
        session.run("python", "-m", f"dev.bench.{part}")


@nox.session(default=False)
def audit(session: nox.Session) -> None:
    """Look for unsafe code in ours, and, where an advisory service answers, for known faults of what is pinned."""
    session.install("--require-hashes", "-r", "requirements/audit.txt")
    session.run("bandit", "--quiet", "--configfile", "pyproject.toml", "--recursive", *PACKAGES)
    session.run("python", "dev/audit.py")


@nox.session(default=False)
def release(session: nox.Session) -> None:
    """Build the wheel, the images, and an SBOM of each; dist/ has them, or with `-- no-images` the wheel alone."""
    session.install("--require-hashes", "-r", "requirements/build.txt")
    session.run("hatchling", "build", "--target", "wheel", "--directory", "dist")
    if "no-images" not in session.posargs:
        session.install("--require-hashes", "-r", "requirements/audit.txt")
        install(session)
        built = session.run("digits", "images", "build", "--json", silent=True)
        Path("dist", "images.json").write_text(str(built).splitlines()[-1] + "\n")
        session.run("python", "-m", "dev.sbom", "dist")


@nox.session(default=False)
def docs(session: nox.Session) -> None:
    """Build the documentation as a site, with every link within it checked; needs no network once installed."""
    session.install("--require-hashes", "-r", "requirements/docs.txt")
    session.run("mkdocs", "build", "--strict", *session.posargs, env={"NO_MKDOCS_2_WARNING": "1"})


@nox.session(default=False)
def notebooks(session: nox.Session) -> None:
    """Execute the notebooks; with `-- --write`, keep what they print."""
    install(session)
    session.install("--require-hashes", "-r", "requirements/notebooks.txt")
    session.run("python", "dev/notebooks.py", *session.posargs)


@nox.session(default=False)
def review(session: nox.Session) -> None:
    """Grade the repository by the Scientific Python guidelines; exceptions are in pyproject.toml, with reasons."""
    session.install("sp-repo-review[cli]")
    session.run("sp-repo-review", ".", *session.posargs)


if __name__ == "__main__":
    os.chdir(Path(__file__).parent)
    nox.main()
