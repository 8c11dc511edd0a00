"""Follow docs/signing.md: its five commands lead from a new key to a verified endpoint."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from backends.process import predictor
from digits.release import ledger, releases
from digits.settings import Settings
from digits.store.file import FileStore
from tests.helpers.support import ROOT, child_environment, free_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
TEXT = (ROOT / "docs" / "signing.md").read_text(encoding="utf-8")
# The program under test, with options that make the run short.
DIGITS = f"""#!/bin/sh
if [ "$1" = run ]; then shift; set -- run --epochs 1 --min-accuracy 0 --dataset sklearn-digits "$@"; fi
exec {sys.executable} -m digits "$@"
"""


def test_five_commands_lead_to_a_verified_endpoint(tmp_path: Path) -> None:
    """After the page's commands all checks hold and state the key; a replaced model is then refused."""
    block = re.search(r"```sh signing\n(.*?)```", TEXT, re.DOTALL)
    assert block
    assert len(block[1].splitlines()) == 5
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "digits").write_text(DIGITS)
    (tmp_path / "bin" / "digits").chmod(0o755)
    settings = Settings(home=tmp_path / "home", port=free_port(), grpc_port=free_port())
    environment = child_environment(settings)
    environment |= {"PATH": f"{tmp_path / 'bin'}:{environment['PATH']}"}
    for name in ("DIGITS_SIGNING_KEY", "DIGITS_TRUSTED_KEYS"):
        environment.pop(name)

    def run(script: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-eux", "-c", script],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=500,
            check=False,
        )

    try:
        followed = run(block[1] + "digits verify --json")
        assert followed.returncode == 0, followed.stderr
        verified = json.loads(followed.stdout.splitlines()[-1])
        assert verified["holds"]
        assert {row["hop"] for row in verified["hops"] if row["signer"]} == {"release", "files", "provenance", "ledger"}
        assert [row["hop"] for row in verified["hops"]][-1] == "endpoint"
        store = FileStore(settings.home / "store")
        store.put(releases.release_prefix(store, ledger.champion(store)) + releases.SIGNATURE, b"{}")
        setup = "\n".join(line for line in block[1].splitlines() if line.startswith("export"))
        assert run(f"{setup}\ndigits verify").returncode == 1
    finally:
        predictor.stop_all(settings)
