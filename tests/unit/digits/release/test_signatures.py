"""Signatures of releases and ledger entries are those of OpenSSF model-signing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from digits import files
from digits.errors import MissingError, ReleaseError, UsageError
from digits.release import ledger, releases, signatures
from digits.store import Trust
from tests.helpers.signing import new_keys, signed_store
from tests.helpers.small_releases import small_release


def accepted(path: Path, signature: Path, public_key: Path) -> bool:
    """Return whether upstream's own command accepts a signature."""
    command = "import sys; from model_signing._cli import main; sys.exit(main())"
    arguments = ["verify", "key", str(path), "--signature", str(signature), "--public_key", str(public_key)]
    result = subprocess.run(
        [sys.executable, "-c", command, *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 0 or "Verification failed" in result.stdout + result.stderr
    return result.returncode == 0


def test_upstream_accepts_our_signatures(tmp_path: Path) -> None:
    """`model_signing verify key` accepts a release and a ledger entry, and refuses a changed release."""
    store, public = signed_store(tmp_path)
    version = small_release(store, tmp_path / "made")
    ledger.promote(store, version, "good")
    folder, entries = store.root / releases.release_prefix(store, version), store.root / ledger.folder(store)
    assert accepted(folder, folder / releases.SIGNATURE, public)
    assert accepted(entries / "00000001.json", next(entries.glob("*.sig")), public)
    (folder / "model.onnx").write_bytes(b"another")
    assert not accepted(folder, folder / releases.SIGNATURE, public)


def test_a_signature_of_upstream_is_read(tmp_path: Path) -> None:
    """The digests that `model_signing sign key` signed are those of the files."""
    private, public = new_keys(tmp_path)
    folder = tmp_path / "model"
    (folder / "a").mkdir(parents=True)
    (folder / "a" / "b").write_bytes(b"1")
    (folder / "c").write_bytes(b"2")
    command = "import sys; from model_signing._cli import main; sys.exit(main())"
    arguments = ["sign", "key", str(folder), "--private_key", str(private), "--signature", str(tmp_path / "s")]
    subprocess.run([sys.executable, "-c", command, *arguments], check=True, timeout=60, capture_output=True)
    digests, _ = signatures.read_digests((tmp_path / "s").read_bytes(), signatures.read_keys(str(public)), "it")
    assert set(digests) == {"a/b", "c"}


@pytest.mark.parametrize("curve", ["SECP256R1", "SECP384R1", "SECP521R1"])
def test_each_curve_signs_and_is_checked(curve: str, tmp_path: Path) -> None:
    """The same statement and key give the same bytes, which that key's public half accepts."""
    private, public = new_keys(tmp_path, curve)
    key = signatures.read_signing_key(str(private))
    bundle = signatures.sign(key, {"a": 1})
    assert bundle == signatures.sign(key, {"a": 1})
    assert signatures.read(bundle, signatures.read_keys(str(public)), "it")[0] == {"a": 1}


@pytest.mark.parametrize("damage", ["payload", "signature", "hint", "not JSON", "type", "other key"])
def test_a_changed_bundle_is_refused(damage: str, tmp_path: Path) -> None:
    """A bundle that differs in any part, or is of a key that is not trusted, is a ReleaseError that names the key."""
    private, public = new_keys(tmp_path)
    keys = signatures.read_keys(str(public))
    bundle = json.loads(signatures.sign(signatures.read_signing_key(str(private)), {"a": 1}))
    other = json.loads(signatures.sign(signatures.read_signing_key(str(private)), {"a": 2}))
    if damage == "payload":
        bundle["dsseEnvelope"]["payload"] = other["dsseEnvelope"]["payload"]
    elif damage == "signature":
        bundle["dsseEnvelope"]["signatures"] = other["dsseEnvelope"]["signatures"]
    elif damage == "hint":
        bundle["verificationMaterial"]["publicKey"]["hint"] = "0" * 64
    elif damage == "type":
        bundle["dsseEnvelope"]["payloadType"] = "text/plain"
    elif damage == "other key":
        keys = signatures.read_keys(str(new_keys(tmp_path, name="other")[1]))
    text = b"{" if damage == "not JSON" else json.dumps(bundle).encode()
    with pytest.raises(ReleaseError, match=r"of the thing|the thing is signed by key"):
        signatures.read(text, keys, "the thing")


def test_keys_are_read_from_a_file_and_a_folder(tmp_path: Path) -> None:
    """A file may hold several keys, a folder several files; what is no public EC key is refused."""
    publics = [new_keys(tmp_path, name=name)[1] for name in ("a", "b")]
    (tmp_path / "both.pem").write_bytes(b"".join(path.read_bytes() for path in publics))
    (tmp_path / "folder").mkdir()
    for path in publics:
        path.rename(tmp_path / "folder" / path.name)
    keys = signatures.read_keys(str(tmp_path / "folder"))
    assert len(keys) == 2
    assert signatures.read_keys(str(tmp_path / "both.pem")).keys() == keys.keys()
    (tmp_path / "empty").mkdir()
    for place, error in (("empty", MissingError), ("none", MissingError), ("a.pem", UsageError)):
        with pytest.raises(error):
            signatures.read_keys(str(tmp_path / place))


def test_keys_in_a_pipe_or_device_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key is read from a pipe; an endless device, and a pipe that nothing writes to, are refused."""
    monkeypatch.setattr(files, "READ_SECONDS", 0.2)
    private, _ = signatures.new_key()
    os.mkfifo(pipe := tmp_path / "pipe")
    writer = threading.Thread(target=pipe.write_bytes, args=[private])
    writer.start()
    assert signatures.read_signing_key(str(pipe))
    writer.join(10)
    for place in (str(pipe), "/dev/zero"):
        for reader in (signatures.read_signing_key, signatures.read_keys):
            with pytest.raises(MissingError, match="cannot read"):
                reader(place)


def test_a_signing_key_that_is_not_trusted_is_refused(tmp_path: Path) -> None:
    """With trusted keys, a writer needs one of them; without, any key or none is accepted."""
    (private, public), (other, _) = new_keys(tmp_path), new_keys(tmp_path, name="other")
    assert signatures.signing_key(Trust()) is None
    assert signatures.signing_key(Trust(str(public), str(private)))
    for trust in (Trust(str(public)), Trust(str(public), str(other))):
        with pytest.raises(UsageError, match="accepts only"):
            signatures.signing_key(trust)
    (tmp_path / "text").write_text("no key")
    with pytest.raises(UsageError, match="expected a private key"):
        signatures.signing_key(Trust(signing_key=str(tmp_path / "text")))
