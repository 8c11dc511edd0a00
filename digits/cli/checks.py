"""The checks of `digits doctor` that need no engine: Python, the working directory, data, store and MLflow."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sys
from collections.abc import Iterator
from urllib.parse import urlsplit

from digits import homes
from digits.data.catalog import AUTO, FALLBACK
from digits.errors import MASK, mask_address
from digits.files import find_unwritable, user_path
from digits.findings import Finding
from digits.settings import Settings
from digits.tasks.task import BUILT_IN
from digits.variables import is_passed, removed

PYTHONS = ((3, 11), (3, 12))
MIN_GIGABYTES = 2
# Variables that the libraries read and that are not settings, and the libraries' files in the user's home.
VARIABLES = re.compile(
    r"(PYTHON|KERAS_|TF_|XLA_|NVIDIA_|CUDA_|OMP_|MKL_|OPENBLAS_|ORT_|MLFLOW_|OTEL_|PROTOCOL_BUFFERS_|"
    r"_?KFP_|KF_|CLUSTER_SPEC|VERTEX_AI_|DOCKER_|TESTCONTAINERS_|AWS_|KUBECONFIG|KIND_|"
    r"SSL_CERT_|REQUESTS_CA_|CURL_CA_|(HTTPS?|ALL|NO)_PROXY)",
    re.IGNORECASE,
)
SECRET = re.compile(r"TOKEN|PASSWORD|SECRET|KEY|AUTH")
FILES = {".keras/keras.json": " (not used)", ".docker/config.json": "", ".netrc": "", ".config/pip/pip.conf": ""}


def check_python() -> Finding:
    """Check that this Python is of a supported version."""
    version = ".".join(map(str, sys.version_info[:3]))
    supported = sys.version_info[:2] in PYTHONS
    return Finding("python", supported, f"{version} in {sys.prefix}", "use Python 3.11 or 3.12")


def find_surroundings(settings: Settings) -> Iterator[Finding]:
    """Yield a finding with the variables and files of the libraries that are set; those without effect are marked."""
    own = {name for name, _, _ in settings.describe()}
    variables = removed | os.environ  # the present value of one that was set after its removal
    found = [
        f"{name}={MASK if SECRET.search(name) else mask_address(value)}{'' if is_passed(name) else ' (not used)'}"
        for name, value in sorted(variables.items())
        if VARIABLES.match(name) and name not in own
    ]
    found += [f"~/{name}{note}" for name, note in FILES.items() if user_path(f"~/{name}").exists()]
    if found:
        yield Finding("environment", None, ", ".join(found))


def check_home(settings: Settings) -> Finding:
    """Check that DIGITS_HOME is ours, or can be created, can be written, and has free space."""
    homes.check(settings.home)
    place = settings.home
    while not os.path.lexists(place):
        place = place.parent
    free = shutil.disk_usage(place).free / 1e9
    if problem := find_unwritable(settings.home):
        return Finding("home", False, problem, "correct that, or set DIGITS_HOME to another folder")
    remedy = "free some space, or set DIGITS_HOME to another disk"
    return Finding("home", free >= MIN_GIGABYTES, f"{settings.home}, {free:.0f} GB free", remedy)


def check_data(settings: Settings) -> str | Finding:
    """Check that a data set is available; a remote DIGITS_DATA is not contacted."""
    from digits.data import sources

    if settings.data:
        if urlsplit(settings.data).scheme not in {"", "file"}:
            return Finding("data", None, f"{mask_address(settings.data)} (not checked)")
        task = settings.declaration
        name = sources.resolve(task, AUTO, settings.data, settings.home / "data")
        sources.check_place(task, name, settings.data)
        return f"{name} in {settings.data}"
    if settings.declaration.name != BUILT_IN:
        return f"the data of the task {settings.declaration.name} from the cache or a mirror"
    if sources.resolve(settings.declaration, AUTO, "", settings.home / "data") == FALLBACK:
        fallback = "no mirror of MNIST is reachable; a run would use scikit-learn's 1,797 digits"
        return Finding("data", None, fallback, "set DIGITS_DATA to a folder with MNIST's four files")
    return "MNIST from the cache or a public mirror"


def check_store(settings: Settings) -> str:
    """Check that the backend's object store answers as a store. Return its address."""
    from backends import open_backend
    from digits.store import open_store

    with contextlib.closing(open_backend(settings)) as backend:
        store = open_store(backend.host_settings())
        store.keys("promotions/digits/none/")  # a listing, because another kind of server may answer a single get
        return store.uri
