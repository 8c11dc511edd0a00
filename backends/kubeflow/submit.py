"""What is handed to Kubeflow for one run: the compiled pipeline, and values of its parameters."""

from __future__ import annotations

import contextlib
import datetime
import secrets
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backends.base import Request
from backends.kubeflow.tasks import OF_THE_WORLD, configure_task
from digits.data import corrections
from digits.errors import DigitsError
from digits.files import sha256_of
from digits.settings import Settings
from digits.store import get_scheme, open_store

Json = dict[str, Any]


@dataclass(frozen=True)
class Submission:
    """Ready to be sent.

    Attributes:
        name: tells this run from all others.
        spec: the compiled pipeline as the API takes it inline.
        parameters: of the run.
        experiment: Kubeflow's, of the same name as MLflow's.
    """

    name: str
    spec: Json
    parameters: Json
    experiment: str


def submission(settings: Settings, request: Request) -> Submission:
    """Compile the definition for this request."""
    from pipeline import EXPERIMENT, NAME, STEPS

    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%d-%H%M%S")
    return Submission(
        f"{NAME}-{stamp}-{secrets.token_hex(3)}",
        compiled(settings, () if request.use_cache else STEPS),
        request.parameters | world(settings),
        str(request.parameters.get("experiment") or EXPERIMENT),
    )


def compiled(settings: Settings, uncached: Sequence[str] = OF_THE_WORLD) -> Json:
    """The pipeline and its platform part; for `uncached` see `configure_task`."""
    import yaml

    from pipeline.definition import compile_to

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "pipeline.yaml")
        compile_to(path, configure_task(settings, uncached))
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the compiled one is ten times as fast
        pipeline, platform = yaml.load_all(path.read_text(), loader)  # both are safe loaders
    return {"pipeline_spec": pipeline, "platform_spec": platform}


def compile_version(settings: Settings, path: Path) -> str:
    """Compile to `path`. Returns the name of this version: the digests of our code and of what was compiled."""
    from pipeline.definition import CODE, compile_to

    compile_to(path, configure_task(settings))
    return f"{CODE[:12]}-{sha256_of(path.read_bytes())[:8]}"


def world(settings: Settings) -> Json:
    """Values for what the cache keys must know of the world, so that nothing stale is taken from the cache.

    The corrections' digest is known if the cluster's object store can be reached from here (DIGITS_STORE is then its
    address); otherwise they are collected again.
    """
    known = secrets.token_hex(8)
    if get_scheme(settings.store).remote:
        with contextlib.suppress(DigitsError):
            known = corrections.digest(open_store(settings))
    return {"feedback": known}
