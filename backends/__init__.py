"""Where the pipeline runs: one contract and its implementations. The only code that knows an engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backends.base import Backend
    from digits.settings import Settings


def open_backend(settings: Settings) -> Backend:
    """The backend that the settings name."""
    if settings.backend == "process":
        from backends.process.backend import ProcessBackend

        return ProcessBackend(settings)
    if settings.backend == "docker":
        from backends.docker.backend import DockerBackend

        return DockerBackend(settings)
    if settings.backend == "kubeflow":
        from backends.kubeflow.backend import KubeflowBackend

        return KubeflowBackend(settings)
    raise NotImplementedError(f"{settings.backend!r} is in digits.settings.BACKENDS, but nothing here opens it")
