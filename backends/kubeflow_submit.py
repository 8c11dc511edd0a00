"""What is handed to Kubeflow for one run: the compiled pipeline, and values of its parameters."""

from __future__ import annotations

import secrets
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backends.base import Request
from backends.kubeflow_tasks import configure_task
from digits import feedback
from digits.errors import DigitsError
from digits.settings import Settings
from digits.store import open_store

__all__ = ["Submission", "compiled", "configure_task", "submission", "world"]

Json = dict[str, Any]

# Their results depend on more than their inputs say: corrections, the data that can be had, the endpoint.
OF_THE_WORLD = ("fetch-mnist", "collect-feedback", "deploy")


@dataclass(frozen=True)
class Submission:
    """Ready to be sent: `spec` as the API takes it inline, the pipeline's steps in their order."""

    spec: Json
    parameters: Json
    experiment: str
    steps: tuple[str, ...]


def submission(settings: Settings, request: Request) -> Submission:
    """Compile the definition for this request."""
    from pipeline.definition import EXPERIMENT, STEPS

    uncached = () if request.use_cache else STEPS
    experiment = str(request.parameters.get("experiment") or EXPERIMENT)
    return Submission(compiled(settings, uncached), request.parameters | world(settings), experiment, STEPS)


def compiled(settings: Settings, uncached: tuple[str, ...] = ()) -> Json:
    """The pipeline and its platform part, with the cache off for some steps."""
    import yaml

    from pipeline.definition import compile_to

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "pipeline.yaml")
        compile_to(path, configure_task(settings))
        pipeline, platform = yaml.safe_load_all(path.read_text())
    for step in uncached:
        pipeline["root"]["dag"]["tasks"][step]["cachingOptions"] = {}
    return {"pipeline_spec": pipeline, "platform_spec": platform}


def world(settings: Settings) -> Json:
    """Values for what the cache keys must know of the world, so that nothing stale is taken from the cache.

    The endpoint is looked at in every run. The corrections' digest is known where the cluster's object store can be
    reached from here (DIGITS_STORE is then an s3:// address); elsewhere they are collected anew.
    """
    fresh = secrets.token_hex(8)
    known = fresh
    if settings.store.startswith("s3://"):
        try:
            known = feedback.digest(open_store(settings))
        except DigitsError:
            known = fresh
    return {"feedback": known, "deployment": fresh}
