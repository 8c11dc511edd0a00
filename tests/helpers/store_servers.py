"""Object stores for the contract: a folder, MinIO as a container, MinIO as a program; and a connection that breaks."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import secrets
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from minio import MinioAdmin
from minio.credentials import StaticProvider

from backends.docker import minio as docker_store
from digits.http import request
from digits.settings import Settings
from digits.store import ObjectStore
from tests.helpers.engines import cleaned, engine, settings_for, wait_until
from tests.helpers.support import missing

REGION = "eu-test-1"  # not a default of any client or server


@contextlib.contextmanager
def folder(home: Path) -> Iterator[Settings]:
    """A folder."""
    yield settings_for(home)


@contextlib.contextmanager
def container(home: Path) -> Iterator[Settings]:
    """The docker backend's own MinIO."""
    client = engine()
    with cleaned(settings_for(home)) as settings:
        docker_store.ensure(client, settings, print)
        yield docker_store.host_settings(client, settings)
    client.close()


@contextlib.contextmanager
def program(home: Path) -> Iterator[Settings]:
    """The program `minio`, if it is on PATH."""
    minio = shutil.which("minio")
    if not minio:
        missing("minio", "it needs the program minio on PATH")
    access, secret = secrets.token_hex(8), secrets.token_hex(16)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [minio, "server", str(home / "data"), "--address", f"127.0.0.1:{port}", "--quiet"],
        env=os.environ
        | {"MINIO_ROOT_USER": access, "MINIO_ROOT_PASSWORD": secret, "MINIO_BROWSER": "off", "MINIO_REGION": REGION},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert wait_until(lambda: _healthy(port), 60)
        yield settings_for(
            home,
            store="s3://digits",
            minio_endpoint=f"127.0.0.1:{port}",
            minio_access_key=access,
            minio_secret_key=secret,
            minio_region=REGION,
        )
    finally:
        server.kill()
        server.wait(10)


def _healthy(port: int) -> bool:
    try:
        return request(f"http://127.0.0.1:{port}/minio/health/live", seconds=1).status == 200
    except OSError:
        return False


def with_profile_keys(server: Settings, namespace: str) -> Settings:
    """Return the settings with keys that have the policy of a Kubeflow 2.17 profile, made on a MinIO server.

    Kubeflow's policy allows Get*, Put* and List* on these folders. MinIO has no prefix in a listing's resource.
    """
    bucket, folders = "arn:aws:s3:::mlpipeline", ("artifacts", f"private-artifacts/{namespace}", "shared")
    allowed = [f"{folder}/*" for folder in (*folders, f"private/{namespace}")]
    listing = {"StringLike": {"s3:prefix": allowed}}
    policy = {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Action": ["s3:ListBucket"], "Resource": [bucket], "Condition": listing},
            {
                "Effect": "Allow",
                "Action": ["s3:GetObject", "s3:PutObject"],
                "Resource": [f"{bucket}/{pattern}" for pattern in allowed],
            },
        ],
    }
    admin = MinioAdmin(
        endpoint=server.minio_endpoint.split("://")[-1],
        credentials=StaticProvider(server.minio_access_key, server.minio_secret_key),
        region=server.minio_region,
        secure=False,
    )
    access, secret = secrets.token_hex(8), secrets.token_hex(16)
    admin.user_add(access, secret)
    admin.policy_add(namespace, policy=policy)
    admin.attach_policy([namespace], user=access)
    return dataclasses.replace(server, minio_access_key=access, minio_secret_key=secret)


class Cable:
    """A proxy to a server that stops for good after it has passed on `cut_after` bytes of responses."""

    def __init__(self, endpoint: str, *, cut_after: int) -> None:
        host, port = endpoint.split(":")
        self._server, self._remaining = (host, int(port)), cut_after
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Accept no more connections."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection(self._server)
            threading.Thread(target=self._pass, args=(near, far, False), daemon=True).start()
            threading.Thread(target=self._pass, args=(far, near, True), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, counted: bool) -> None:
        with contextlib.suppress(OSError):
            while block := source.recv(65536):
                if counted:
                    self._remaining -= len(block)
                    if self._remaining < 0:
                        self.cut()
                        break
                sink.sendall(block)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def create_concurrently(store: ObjectStore, key: str) -> list[int]:
    """Let ten threads create `key`, each with its number as content. Return the numbers of those that succeeded."""
    winners: list[int] = []

    def create(number: int) -> None:
        if store.create(key, str(number).encode()):
            winners.append(number)

    threads = [threading.Thread(target=create, args=(number,)) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return winners


SERVERS: dict[str, Any] = {"file": folder, "minio-docker": container, "minio-program": program}
