"""Search the traces of runs with an S3 store, of all commands and of failures for secrets."""

from __future__ import annotations

import base64
import dataclasses
import gzip
import secrets
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.helpers import canary, store_servers
from tests.helpers.homes import BASIC, Home
from tests.helpers.support import free_port

COMMANDS = (
    ("releases",),
    ("verify",),
    ("doctor",),
    ("compile", "--output", "pipeline.yaml"),
    ("predict", "--help"),
    ("promote", "nothing-of-that-name"),
    ("rollback",),
)


def test_the_search_finds_secrets(tmp_path: Path) -> None:
    """The search finds a secret in plain, compressed and Base64 files, across blocks, and in a process's arguments."""
    secret = f"canary/{secrets.token_hex(8)}"
    (tmp_path / "plain").write_text(f"key={secret}")
    (tmp_path / "packed.gz").write_bytes(gzip.compress(secret.encode()))
    for n in range(3):
        (tmp_path / f"base64-{n}").write_bytes(base64.b64encode(b"x" * n + secret.encode() + b"more"))
    with zipfile.ZipFile(tmp_path / "packed.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("inside", secret)
    (tmp_path / "innocent").write_text("canary/")
    found = canary.files_with(tmp_path, [secret])
    assert found == ["base64-0", "base64-1", "base64-2", "packed.gz", "packed.zip", "plain"]
    raw = b"before" + secret.encode() + b"after"
    assert all(canary.stream_holds((raw[:n], raw[n:]), [secret]) for n in range(len(raw)))
    assert not canary.stream_holds((b"canary/", b"none"), [secret])
    with canary.CommandLines([secret]) as seen:
        subprocess.run([sys.executable, "-c", "import time; time.sleep(1)", secret], timeout=30, check=True)
    assert len(seen.seen) == 1


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_no_secret_leaks(tmp_path: Path) -> None:
    """S3 keys, tokens and MLflow's password are in no file, log, report, database, object, argument or output."""
    with store_servers.program(tmp_path / "server") as settings:
        home = tmp_path / "home"
        home.mkdir()
        made = {name: f"canary-{secrets.token_hex(12)}" for name in ("endpoint_token", "kfp_token", "kfp_cookie")}
        settings = dataclasses.replace(
            settings, home=home, tracking_uri="", **made | {"kfp_cookie": f"session={made['kfp_cookie']}"}
        )
        wrong = f"canary-{secrets.token_hex(12)}"
        kept = [settings.minio_secret_key, wrong, *made.values()]
        said: list[str] = []

        def say(program: Home, *arguments: str) -> None:
            said.extend(program.start(*arguments).communicate(timeout=300))

        installed = Home(settings)
        refused = Home(dataclasses.replace(settings, minio_secret_key=wrong))
        server = f"http://user:{wrong}@127.0.0.1:{free_port()}"  # nothing answers there
        lost = Home(dataclasses.replace(settings, tracking_uri=server))
        with canary.CommandLines(kept) as processes:
            try:
                installed.digits("run", *BASIC)
                for arguments in COMMANDS:
                    say(installed, *arguments)
                for arguments in (("run", *BASIC, "--no-cache"), ("releases",), ("doctor",)):
                    say(refused, *arguments)
                say(lost, "run", *BASIC, "--seed", "1")
                searched = [p.name for p in home.rglob("*") if p.is_file()]
                assert {"mlflow.db", "pipeline.yaml", "report.html", "train.log", "predictor.log"} <= set(searched)
                assert canary.files_with(home, kept) == []
                # MinIO stores its users elsewhere; our objects are in the bucket.
                assert canary.files_with(tmp_path / "server" / "data" / "digits", kept) == []
            finally:
                say(installed, "clean", "--yes")
        assert "SignatureDoesNotMatch" in "".join(said)
        assert "step publish failed: MLflow at http://<SECRET>@127.0.0.1" in "".join(said)
        assert [text for text in said if canary.holds(text.encode(), kept)] == []
        assert processes.seen == set()
        assert processes.looks > 20
