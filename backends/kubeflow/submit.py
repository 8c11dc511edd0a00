"""The compiled pipeline and the parameters of a run on Kubeflow."""

from __future__ import annotations

import contextlib
import datetime
import secrets
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backends.base import Request
from backends.kubeflow.tasks import UNCACHED_STEPS, UNCHECKED_STEPS, Configure, configure_task
from digits.data import correction_log, sources
from digits.errors import DigitsError
from digits.files import sha256_of
from digits.settings import Settings
from digits.store import get_scheme, open_store

Json = dict[str, Any]


@dataclass(frozen=True)
class Submission:
    """A run to be submitted: a unique name, the compiled pipeline, and the experiment's name in Kubeflow and MLflow."""

    name: str
    spec: Json
    parameters: Json
    experiment: str


def submission(settings: Settings, request: Request) -> Submission:
    """Return the submission for a request, with the pipeline compiled."""
    from pipeline import DEFAULTS, NAME, STEPS

    return Submission(
        unique_name(NAME),
        compiled(settings, UNCHECKED_STEPS if request.use_cache else STEPS),
        request.parameters | external_inputs(settings, request),
        str(request.parameters.get("experiment") or DEFAULTS.experiment),
    )


def unique_name(pipeline: str) -> str:
    """Return a name for a run of a pipeline."""
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%d-%H%M%S")
    return f"{pipeline}-{stamp}-{secrets.token_hex(3)}"


def compiled(
    settings: Settings, uncached: Sequence[str] = UNCACHED_STEPS, of: Callable[[Configure], Any] | None = None
) -> Json:
    """Return the compiled pipeline with its platform part; for `uncached` see `configure_task`.

    `of` builds another definition, as for `pipeline.definition.compile_to`.
    """
    from google.protobuf.json_format import MessageToDict

    from pipeline.definition import build

    pipeline = (of or build)(configure_task(settings, uncached))
    return {
        "pipeline_spec": MessageToDict(pipeline.pipeline_spec),
        "platform_spec": MessageToDict(pipeline.platform_spec),
    }


def compile_version(settings: Settings, path: Path, defaults: Json | None = None) -> str:
    """Compile to `path` and return the version's name, made of the digests of our code and of the compiled file."""
    from pipeline.definition import compile_to

    compile_to(path, configure_task(settings), defaults)
    return sha256_of(path.read_bytes())[:16]


def compile_manifest(settings: Settings, path: Path, defaults: Json) -> None:
    """Compile to `path` as KFP's Kubernetes objects Pipeline and PipelineVersion, in the settings' namespace.

    The version's name contains the digest of the compiled pipeline.
    """
    from kfp.compiler.compiler_utils import KubernetesManifestOptions

    from pipeline import NAME
    from pipeline.definition import compile_to

    with tempfile.TemporaryDirectory() as folder:
        version = compile_version(settings, Path(folder, "pipeline.yaml"), defaults)
    options = KubernetesManifestOptions(
        pipeline_name=NAME,
        pipeline_version_name=f"{NAME}-{version}",
        namespace=settings.namespace,
        include_pipeline_manifest=True,
    )
    compile_to(
        path,
        configure_task(settings),
        defaults,
        kubernetes_manifest_options=options,
        kubernetes_manifest_format=True,
    )


def external_inputs(settings: Settings, request: Request) -> Json:
    """Return the parameters that put external inputs into the cache keys, so that no stale result is used.

    If DIGITS_STORE is a remote store that is reachable from here, this is the digest of its corrections; otherwise it
    is a random value, so that the run collects them again.
    """
    digest = secrets.token_hex(8)
    if get_scheme(settings.store).remote:
        with contextlib.suppress(DigitsError):
            digest = correction_log.digest(open_store(settings))
    source = sources.digest(settings.declaration, settings.data, request.parameters.get("source", ""))
    return {"feedback": digest, "source": source}
