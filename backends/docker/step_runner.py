"""The steps of a run as containers."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

from backends import runs
from backends.docker import containers
from backends.docker.environment import data_folder, step_environment, step_folders
from backends.local.backend import STEP_SECONDS
from digits import events
from digits.answers import within
from digits.errors import DigitsError
from digits.settings import IMAGE_VARIABLE, Settings

KILLED_CODE = 137  # SIGKILL
OOM_SECONDS = 1.0  # until Docker has noted that a container was killed at its memory limit
POLL_SECONDS = 15


class StepRunner:
    """Runs the steps of one run as containers of an image."""

    def __init__(self, client: Any, settings: Settings, run: runs.Run, image: str) -> None:
        self._client, self._settings, self._run, self._image = client, settings, run, image
        self._network = containers.ensure_network(client, settings)
        options = containers.security_options(client)
        self._mode = containers.relabel(options)
        # A rootless engine maps its own user to root in the container.
        self._user = "0:0" if "name=rootless" in options else f"{os.getuid()}:{os.getgid()}"
        self._ending = False

    def start(self, step: str, command: list[str], environment: dict[str, str], log: Path) -> int:
        """Run a step's command to its end; standard output and error go to `log`. Returns its exit code."""
        if self._ending:
            sys.exit(143)
        try:
            return self._run_container(step, command, environment, log)
        except DigitsError as exc:
            return _failed(step, exc.message, 1, remedy=exc.remedy, exit_code=exc.exit_code)

    def end(self) -> None:
        """End all steps and this process."""
        self._ending = True
        for container in containers.list_containers(self._client, self._settings, run=self._run.id):
            containers.remove(container)
        sys.exit(143)

    def _run_container(self, step: str, command: list[str], environment: dict[str, str], log: Path) -> int:
        from docker.errors import NotFound

        with containers.errors(f"starting a container for {step}"):
            container = self._create(step, command, environment)
        try:
            with containers.errors(f"running the container of {step}"):
                container.start()
                copier = threading.Thread(target=_copy_log, args=(container, log), daemon=True)
                copier.start()
                try:
                    code = wait_for_exit(container)
                    copier.join(10)
                    out_of_memory = _ran_out_of_memory(container, OOM_SECONDS if code == KILLED_CODE else 0)
                except NotFound:
                    return _failed(step, "its container was removed while it ran; its result is unknown", 1)
        finally:
            containers.remove(container)
        if out_of_memory:
            return _failed(step, f"exit code {code}: killed, because the container ran out of memory", code)
        if code == KILLED_CODE:
            return _failed(step, f"exit code {code}: its container was killed (possibly out of memory)", code)
        return code

    def _create(self, step: str, command: list[str], environment: dict[str, str]) -> Any:
        # DIGITS_HOME holds the data, the cache, MLflow's database and the run's folder. It has the same path inside.
        folders = [(str(folder), "rw") for folder in step_folders(self._settings)]
        volumes: dict[str, dict[str, str]] = {}
        for path, mode in folders + self._other_places(step):
            volumes.setdefault(path, {"bind": path, "mode": mode + self._mode})
        labels = {containers.RUN_LABEL: self._run.id, "org.digits.step": step}
        return self._client.containers.create(
            self._image,
            command=command,
            environment=step_environment(self._settings, os.environ)
            | environment
            | {IMAGE_VARIABLE: self._image_name()},
            labels=containers.labels(self._settings, "step", **labels),
            user=self._user,
            network=self._network,
            volumes=volumes,
            tmpfs={"/tmp": "mode=1777"},  # noqa: S108 # of the container
            **containers.RESTRICTED,
        )

    def _image_name(self) -> str:
        """Return the image's name and digest."""
        name = self._image.partition("@")[0].rpartition(":")[0]
        return f"{name}@{self._client.images.get(self._image).id}"

    def _other_places(self, step: str) -> list[tuple[str, str]]:
        """Return the folders and files that a step reads outside of those that it writes in: (path, mode)."""
        folders = []
        if data := data_folder(self._settings.data):
            folders.append((data, "ro"))
        keys = [self._settings.trusted_keys, self._settings.signing_key] if step == "publish" else []
        keys += [self._settings.trusted_keys] if step == "deploy" else []
        return folders + [(key, "ro") for key in keys if key]


def wait_for_exit(container: Any) -> int:
    """Wait until a container exits and return its exit code.

    Polls with short requests: on one long request, a vanished engine would go unnoticed.
    """
    import requests

    deadline = time.monotonic() + STEP_SECONDS
    while True:
        try:
            return int(container.wait(timeout=POLL_SECONDS)["StatusCode"])
        except (requests.exceptions.ReadTimeout, requests.exceptions.ConnectionError) as exc:
            # The docker package raises either at the end of the timeout.
            if "timed out" not in str(exc).lower() or time.monotonic() > deadline:
                raise


def _ran_out_of_memory(container: Any, seconds: float) -> bool:
    """Return whether a container that has exited was killed at its memory limit, as Docker notes within `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        container.reload()
        if container.attrs["State"]["OOMKilled"] or time.monotonic() > deadline:
            return bool(container.attrs["State"]["OOMKilled"])
        time.sleep(0.1)


def _copy_log(container: Any, log: Path) -> None:
    from docker.errors import DockerException

    # If the container vanishes, only the log ends; `_run_container` reports the error.
    with contextlib.suppress(DockerException, OSError), log.open("ab", buffering=0) as file, within(STEP_SECONDS):
        for block in container.logs(stream=True, follow=True):
            file.write(block)


def _failed(step: str, cause: str, code: int, *, remedy: str = "", exit_code: int = 1) -> int:
    """Emit the event of a failed step. Returns a non-zero exit code."""
    events.emit("failed", step, cause=cause, remedy=remedy or "digits run --resume", exit_code=exit_code)
    return code or 1
