"""The docker backend: steps, predictor and object store (MinIO) are containers."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
from pathlib import Path
from typing import Any

from backends import runs
from backends.base import Report, Request, Result, Watch
from backends.docker import containers, images, minio, predictor
from backends.docker.environment import check_mountable, check_reachable, data_folder, step_folders
from backends.docker.step_runner import StepRunner
from backends.local.backend import EngineParts, LocalBackend
from backends.locks import locked
from digits.errors import MissingError
from digits.settings import Settings

START_SECONDS = 600.0


class DockerBackend(LocalBackend):
    """See `backends.base.Backend`."""

    name = "docker"

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._connected: Any = None
        self._steps_image = ""

    @property
    def _client(self) -> Any:
        if self._connected is None:
            self._connected = containers.connect()
        return self._connected

    def check(self) -> None:
        """See Backend. Raises UsageError if a setting names an address or a path that a container cannot reach."""
        check_mountable(self.settings)
        containers.check_here()
        with containers.errors("asking the engine"):
            self._client.ping()
        for name in ("minio_endpoint", "tracking_uri", "data"):
            check_reachable(self.settings, name)
        minio.check(self.settings)

    def prepare(self, report: Report) -> Settings:
        """See LocalBackend. Builds the images that are missing, and starts MinIO and the predictor."""
        client = self._client
        self._steps_image = images.ensure_image(client, self.settings, "steps", report)
        images.ensure_image(client, self.settings, "predictor", report)
        if minio.is_ours(self.settings):
            minio.ensure_image(client, self.settings, report)
        # Concurrent runs share them. Images are built outside the lock, because that may take longer.
        with locked(self.settings.home / "docker.lock", START_SECONDS, "start MinIO and the predictor"):
            if minio.is_ours(self.settings):
                minio.ensure(client, self.settings, report)
            self._remove_lost_steps()
            predictor.ensure(client, self.settings, report)
        return self.host_settings()

    def _remove_lost_steps(self) -> None:
        """Remove step containers of ended runs. They remain if the Docker engine stops answering during a run."""
        running = {run.id for run in runs.all_runs(self.settings.home) if run.is_running()}
        for container in containers.list_containers(self._client, self.settings, "step"):
            if container.labels.get(containers.RUN_LABEL) not in running:
                containers.remove(container)

    def host_settings(self) -> Settings:
        minio.check(self.settings)
        return minio.host_settings(self._client, self.settings)

    def step_settings(self) -> Settings:
        """See LocalBackend. Containers reach the store by its name on our network; all folders keep their paths.

        The image is the one of `prepare`, because the sources of a checkout may change while images are built.
        """
        settings = minio.container_settings(self.settings)
        data = data_folder(settings.data) or settings.data
        return dataclasses.replace(settings, data=data, steps_image=self._steps_image)

    def step_folders(self) -> list[Path] | None:
        return step_folders(self.settings)

    def step_endpoint(self) -> str:
        return predictor.container_url(self.settings)

    def run(self, request: Request, watch: Watch, *, resume: str = "") -> Result:
        """See Backend. The endpoint's address in the result is the one on this machine, not the steps'."""
        result = super().run(request, watch, resume=resume)
        if result.outputs["deployed"]["endpoint"]:
            result.outputs["deployed"]["endpoint"] = self.endpoint()
        return result

    def endpoint(self) -> str:
        container = predictor.running(self._client, self.settings)
        return predictor.url(container) if container else ""

    def engine_parts(self, run: runs.Run) -> EngineParts:
        """See LocalBackend. Replaces the handler of SIGTERM by one that also removes the step containers."""
        from kfp import local

        os.environ["DOCKER_HOST"] = containers.address()  # for kfp.local's own client, which ignores contexts
        image = self.settings.steps_image
        runner = StepRunner(self._client, self.settings, run, image)
        signal.signal(signal.SIGTERM, lambda *_: runner.end())
        return EngineParts(local.DockerRunner(), runner.start, lambda task: task.set_container_image(image))

    def remove_leftovers(self, run: runs.Run) -> None:
        """See LocalBackend. Removes the step containers of a run."""
        with contextlib.suppress(MissingError):  # an engine that has stopped has ended its containers
            for container in containers.list_containers(self._client, self.settings, run=run.id):
                containers.remove(container)

    def close(self) -> None:
        if self._connected is not None:
            self._connected.close()
            self._connected = None
