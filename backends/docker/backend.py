"""The docker backend: steps as containers of our image, MinIO as object store, the predictor as a container."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from backends import runs
from backends.base import Request, Result, Watch
from backends.docker import containers, images, minio, predictor
from backends.docker.environment import local_host, of_step
from backends.local.backend import STEP_SECONDS, LocalBackend, StartStep
from backends.locks import locked
from digits import events
from digits.errors import DigitsError, MissingError, UsageError
from digits.files import folder_from_url
from digits.settings import Settings

KILLED_CODE = 137
START_SECONDS = 600.0
WAIT_SECONDS = 15


class DockerBackend(LocalBackend):
    """See `backends.base.Backend`."""

    name = "docker"

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._connected: Any = None

    @property
    def _client(self) -> Any:
        if self._connected is None:
            self._connected = containers.connect()
        return self._connected

    def check(self) -> None:
        """See Backend: an engine answers, and nothing is asked for that a container cannot reach."""
        self._client.ping()
        for name in ("minio_endpoint", "tracking_uri", "data"):
            _reachable_inside(name, getattr(self.settings, name))
        minio.check(self.settings)

    def prepare(self, watch: Watch) -> Settings:
        """Build what images are missing, start MinIO and the predictor."""

        def tell(text: str) -> None:
            watch({"event": "progress", "step": "", "time": time.time(), "text": text})

        client = self._client
        for image in ("steps", "predictor"):
            images.ensure(client, self.settings, image, tell)
        if minio.is_ours(self.settings):
            minio.image(client, self.settings, tell)
        # Of two runs that begin at once, one starts what both use. A build takes longer than a lock is waited for.
        with locked(self.settings.home / "docker.lock", START_SECONDS, "start MinIO and the predictor"):
            if minio.is_ours(self.settings):
                minio.ensure(client, self.settings, tell)
            self._remove_lost_steps()
            predictor.ensure(client, self.settings, tell)
        return self.here()

    def _remove_lost_steps(self) -> None:
        """Remove the step containers of runs that are over: of one whose engine went away, they could not be."""
        everyone = runs.all_runs(self.settings.home)
        going = {run.id for run in everyone if run.record()["state"] == runs.RUNNING}
        for found in containers.ours(self._client, self.settings, "step"):
            if found.labels.get(containers.RUN_LABEL) not in going:
                containers.remove(found)

    def here(self) -> Settings:
        """See Backend."""
        minio.check(self.settings)
        return minio.here(self._client, self.settings)

    def step_settings(self) -> Settings:
        """The store by its name on our network; everything else lies under the same path inside."""
        settings = minio.inside(self.settings)
        if settings.data and urlsplit(settings.data).scheme in {"", "file"}:
            settings = dataclasses.replace(settings, data=str(_folder(settings.data)))
        return settings

    def step_endpoint(self) -> str:
        """See LocalBackend."""
        return predictor.INSIDE

    def run(self, request: Request, watch: Watch, *, resume: str = "") -> Result:
        """See Backend. The endpoint that the steps know by its name inside is told by its address here."""
        result = super().run(request, watch, resume=resume)
        if result.outputs["deployed"]["endpoint"]:
            result.outputs["deployed"]["endpoint"] = self.endpoint()
        return result

    def endpoint(self) -> str:
        """See Backend."""
        found = predictor.running(self._client, self.settings)
        return predictor.url(found) if found else ""

    def release_leftovers(self, run: runs.Run) -> None:
        """Remove the step containers of a run."""
        with contextlib.suppress(MissingError):  # an engine that went away has ended its containers
            for found in containers.ours(self._client, self.settings, run=run.id):
                containers.remove(found)

    def close(self) -> None:
        """See Backend."""
        if self._connected is not None:
            self._connected.close()
            self._connected = None


def _reachable_inside(name: str, value: str) -> None:
    """Refuse an address that means another machine inside a container than outside."""
    if (name != "data" or "://" in value) and (host := local_host(value)):
        variable = next(f.metadata["name"] for f in dataclasses.fields(Settings) if f.name == name)
        raise UsageError(
            f"{variable}={value}: inside a container {host} is the container, not this machine",
            remedy=f"set {variable} to an address that both reach, or unset it",
        )


def _folder(data: str) -> Path:
    """The folder that DIGITS_DATA names, without `..` and links: inside, only the folder itself is there."""
    return folder_from_url(data, "DIGITS_DATA").resolve()


def engine_parts(settings: Settings, run: runs.Run) -> tuple[Any, StartStep, Any]:
    """(kfp.local's runner, how a step is started, what is set on each task) for the engine."""
    from kfp import local

    client = containers.connect()
    image = images.reference(client, settings, "steps")
    starter = _Steps(client, settings, run, image)
    signal.signal(signal.SIGTERM, lambda *_: starter.end())
    return local.DockerRunner(), starter.start, lambda task: task.set_container_image(image)


class _Steps:
    """Runs the steps of one run as containers."""

    def __init__(self, client: Any, settings: Settings, run: runs.Run, image: str) -> None:
        self._client, self._settings, self._run, self._image = client, settings, run, image
        self._network = containers.network(client, settings)
        about = client.info()
        options = " ".join(about.get("SecurityOptions") or [])
        self._mode = ",z" if "name=selinux" in options else ""
        # A rootless engine maps its own user to root inside.
        self._user = "0:0" if "name=rootless" in options else f"{os.getuid()}:{os.getgid()}"
        self._ending = False

    def start(self, step: str, command: list[str], environment: dict[str, str], log: Path) -> int:
        """Run a step's command to its end; standard output and error go to `log`. Returns its exit code."""
        if self._ending:
            sys.exit(143)
        try:
            return self._run_container(step, command, environment, log)
        except DigitsError as exc:
            return _lost(step, exc.message, 1, remedy=exc.remedy, exit_code=exc.exit_code)

    def end(self) -> None:
        """End all steps, because the engine is being ended."""
        self._ending = True
        for found in containers.ours(self._client, self._settings, run=self._run.id):
            containers.remove(found)
        sys.exit(143)

    def _run_container(self, step: str, command: list[str], environment: dict[str, str], log: Path) -> int:
        from docker.errors import NotFound

        with containers.errors(f"starting a container for {step}"):
            made = self._create(step, command, environment)
        try:
            with containers.errors(f"running the container of {step}"):
                made.start()
                copier = threading.Thread(target=_copy_log, args=(made, log), daemon=True)
                copier.start()
                try:
                    code = ended(made)
                    copier.join(10)
                    made.reload()
                except NotFound:
                    return _lost(step, "its container was removed while it ran, so what it did is unknown", 1)
        finally:
            containers.remove(made)
        if made.attrs["State"]["OOMKilled"]:
            return _lost(step, f"exit code {code}: killed, because the container ran out of memory", code)
        if code == KILLED_CODE:
            return _lost(step, f"exit code {code}: its container was killed; if nobody did, out of memory", code)
        return code

    def _create(self, step: str, command: list[str], environment: dict[str, str]) -> Any:
        # Data, cache, MLflow's database and its journal, and the run's folder: all lie in here, at the same path.
        home = str(self._settings.home)
        volumes = {home: {"bind": home, "mode": f"rw{self._mode}"}}
        for path, mode in self._elsewhere():
            volumes.setdefault(path, {"bind": path, "mode": mode + self._mode})
        return self._client.containers.create(
            self._image,
            command=command,
            environment=of_step(self._settings, os.environ) | environment,
            labels=containers.labels(
                self._settings, "step", **{containers.RUN_LABEL: self._run.id, "org.digits.step": step}
            ),
            user=self._user,
            network=self._network,
            volumes=volumes,
            read_only=True,
            tmpfs={"/tmp": "mode=1777"},  # noqa: S108 # in there
            cap_drop=["ALL"],
            security_opt=["no-new-privileges"],
        )

    def _elsewhere(self) -> list[tuple[str, str]]:
        """Folders outside DIGITS_HOME that a step needs: (path, mode)."""
        found = []
        data, tracked = self._settings.data, self._settings.tracking_uri
        if data and urlsplit(data).scheme in {"", "file"}:
            found.append((str(_folder(data)), "ro"))
        if tracked.startswith("sqlite:///"):
            folder = Path(tracked.removeprefix("sqlite:///").split("?")[0]).parent
            if not folder.is_relative_to(self._settings.home):
                found.append((str(folder), "rw"))
        return found


def ended(container: Any) -> int:
    """Wait for a container's end; returns its exit code.

    Asked anew now and then: over one connection, an engine that is gone without a word would be waited for to the end.
    """
    import requests

    deadline = time.monotonic() + STEP_SECONDS
    while True:
        try:
            return int(container.wait(timeout=WAIT_SECONDS)["StatusCode"])
        except (requests.exceptions.ReadTimeout, requests.exceptions.ConnectionError) as exc:
            # The docker package lets either through when time is up.
            if "timed out" not in str(exc).lower() or time.monotonic() > deadline:
                raise


def _copy_log(container: Any, log: Path) -> None:
    from docker.errors import DockerException

    # A container that vanishes ends its log; that it vanished is said elsewhere.
    with contextlib.suppress(DockerException, OSError), log.open("ab", buffering=0) as file:
        for block in container.logs(stream=True, follow=True):
            file.write(block)


def _lost(step: str, cause: str, code: int, *, remedy: str = "", exit_code: int = 1) -> int:
    events.emit("failed", step, cause=cause, remedy=remedy or "digits run --resume", exit_code=exit_code)
    return code or 1
