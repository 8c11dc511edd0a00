#!/usr/bin/env -S uv run --script
# /// script
# dependencies = ["nox>=2025.11"]
# ///
"""The developers' commands: `nox -l` lists them. Plain `nox` needs no Docker, no cluster and no download of data."""

from __future__ import annotations

import functools
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import nox

nox.needs_version = ">=2025.11"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.error_on_external_run = True
nox.options.reuse_venv = "yes"

RUNNING, LOCKED = "requirements/run.txt", "requirements/all.txt"  # what running needs, and with developers' tools
PACKAGES = ("digits", "pipeline", "backends", "web_app")
# The programs of the sessions `environment` and `tools`, which most other sessions run.
PROGRAMS = Path(__file__).resolve().parent / ".nox" / "environment" / "bin"
# Some containers set it. Then each of the programs that the tests start would compile our modules.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

shared = functools.partial(nox.session, venv_backend="none", requires=["tools"])


def run(session: nox.Session, program: str, *arguments: str, **options: Any) -> Any:
    """Run a program of the shared environment, with the others on PATH."""
    path = f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}"
    return session.run(str(PROGRAMS / program), *arguments, env={"PATH": path}, external=True, **options)


def pytest(session: nox.Session, *arguments: str) -> None:
    """Run tests. Each session remembers its own failures, so that `--last-failed` works if two run concurrently."""
    run(session, "pytest", "-o", f"cache_dir=.pytest_cache/{session.name}", *arguments)


def add(session: nox.Session, requirements: str) -> None:
    """Install more locked packages into the shared environment."""
    # Compiled, as pip does. Otherwise the first test that imports a package compiles it, which may exceed its timeout.
    uv = ("uv", "pip", "install", "--quiet", "--compile-bytecode", "--python", str(PROGRAMS / "python"))
    program = uv if shutil.which("uv") else (str(PROGRAMS / "pip"), "install")
    session.run(*program, "--require-hashes", "-r", requirements, external=True)


@nox.session(default=False)
def environment(session: nox.Session) -> None:
    """Install the locked packages that running needs, checked by hash, and this checkout."""
    # uv would also install on a later Python, for which some of the packages do not exist.
    if not (3, 11) <= sys.version_info[:2] <= (3, 12):
        session.error(f"needs Python 3.11 or 3.12, this is {sys.version.split()[0]}; make .venv with one of them")
    session.install("--require-hashes", "-r", RUNNING)
    session.install("--no-deps", "-e", ".")


@nox.session(default=False, venv_backend="none", requires=["environment"])
def tools(session: nox.Session) -> None:
    """Install the packages for developers into the same environment, which most other sessions share."""
    add(session, LOCKED)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and format; with `-- --fix`, correct what ruff can correct."""
    ruff = [line.split()[0] for line in Path(LOCKED).read_text().splitlines() if line.startswith("ruff==")]
    session.install(*ruff)
    session.run("ruff", "check", ".", *session.posargs)
    session.run("ruff", "format", *([] if session.posargs else ["--check"]), ".")


@shared()
def types(session: nox.Session) -> None:
    """Check types, strictly."""
    run(session, "mypy", *session.posargs)


@shared()
def unit(session: nox.Session) -> None:
    """Run the tests that need only Python."""
    # A worker per core and two more, because tests wait for timeouts and for each other's training (with one more, a
    # third of the cores' time was unused); at most eight. tests/conftest.py groups the tests and begins with slow ones.
    # No worker is replaced, because the next may wait for tests forever.
    workers = str(min((os.cpu_count() or 1) + 2, 8))
    parallel = ("-n", workers, "--no-loadscope-reorder", "--max-worker-restart", "0")
    tests = ("tests/contract", "tests/unit", "-m", "not docker and not cluster")
    pytest(session, *parallel, *tests, *session.posargs)


@shared(default=False)
def faults(session: nox.Session) -> None:
    """Inject faults and print a table of the outcomes; with `-- --write`, also update the table in the docs."""
    pytest(session, "tests/faults", *session.posargs)


@shared(default=False)
def hostile(session: nox.Session) -> None:
    """Send hostile requests to the predictor and the gateway, and search a run for leaked secrets."""
    pytest(session, "tests/hostile", *session.posargs)


@nox.session(default=False, requires=["environment"])
def clients(session: nox.Session) -> None:
    """Ask a predictor by other people's clients: curl, Java, Go, Node, HAProxy, tritonclient, KServe's SDK."""
    session.install("--require-hashes", "-r", "requirements/clients.txt")
    session.env["DIGITS_CLIENTS_PYTHON"] = str(Path(session.bin, "python"))
    pytest(session, "tests/clients", *session.posargs)


@shared(default=False)
def integration(session: nox.Session) -> None:
    """Run the tests that need a Docker engine."""
    pytest(session, "tests/integration", "tests/contract", "-m", "docker", *session.posargs)


@shared(default=False)
def e2e(session: nox.Session) -> None:
    """Run the tests that need a browser or a kind cluster."""
    pytest(session, "tests/e2e", *session.posargs)


@nox.session(default=False, venv_backend="none", requires=["environment"])
def demo(session: nox.Session) -> None:
    """Run the pipeline on MNIST, serve the model, and recognise a real image."""
    run(session, "digits", "run", *session.posargs)
    run(session, "digits", "predict", "0")
    session.log(f"now draw one yourself: {PROGRAMS / 'digits'} up")


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


@shared(default=False)
def bench(session: nox.Session) -> None:
    """Measure against other software; `-- training docker` runs these parts of dev/bench only."""
    for part in session.posargs or ["training", "pipeline", "docker", "serving", "growth"]:
        run(session, "python", "-m", f"dev.bench.{part}")


@nox.session(default=False)
def audit(session: nox.Session) -> None:
    """Search the product for unsafe code and, if an advisory service is reachable, pinned packages for known flaws."""
    session.install("--require-hashes", "-r", "requirements/audit.txt")
    session.run("bandit", "--quiet", "--configfile", "pyproject.toml", "--recursive", *PACKAGES)
    session.run("python", "dev/audit.py")


@shared(default=False)
def release(session: nox.Session) -> None:
    """Build the wheel, the images and their SBOMs into dist/; with `-- no-images`, only the wheel."""
    add(session, "requirements/build.txt")
    run(session, "hatchling", "build", "--target", "wheel", "--directory", "dist")
    if "no-images" not in session.posargs:
        add(session, "requirements/audit.txt")
        images = run(session, "digits", "images", "build", "--json", silent=True)
        Path("dist", "images.json").write_text(str(images).splitlines()[-1] + "\n")
        run(session, "python", "-m", "dev.sbom", "dist")


@nox.session(default=False, requires=["environment"])
def docs(session: nox.Session) -> None:
    """Build the documentation's site with its links checked, and run the tests that follow docs/extending.md."""
    session.install("--require-hashes", "-r", "requirements/docs.txt")
    session.run("mkdocs", "build", "--strict", *session.posargs, env={"NO_MKDOCS_2_WARNING": "1"})
    pytest(session, "tests/docs")


@shared(default=False)
def notebooks(session: nox.Session) -> None:
    """Execute the notebooks; with `-- --write`, save their output."""
    add(session, "requirements/notebooks.txt")
    run(session, "python", "dev/notebooks.py", *session.posargs)


@nox.session(default=False)
def review(session: nox.Session) -> None:
    """Check the repository by the Scientific Python guidelines; pyproject.toml lists exceptions with their reasons."""
    session.install("sp-repo-review[cli]")
    session.run("sp-repo-review", ".", *session.posargs)


if __name__ == "__main__":
    os.chdir(Path(__file__).parent)
    nox.main()
