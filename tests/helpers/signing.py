"""Keys and stores for tests of signed releases."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from digits.store import Trust
from digits.store.file import FileStore


def new_keys(folder: Path, curve: str = "SECP256R1", name: str = "key") -> tuple[Path, Path]:
    """Write a new key pair NAME.pem and NAME.pub to a folder. Return the paths of the private and the public key."""
    key = ec.generate_private_key(getattr(ec, curve)())
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    folder.mkdir(parents=True, exist_ok=True)
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    public.write_bytes(
        key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return private, public


def signed_store(folder: Path) -> tuple[FileStore, Path]:
    """Return an empty store whose releases and ledger are signed, and the public key that its readers trust."""
    private, public = new_keys(folder / "keys")
    store = FileStore(folder / "store")
    store.trust = Trust(str(public), str(private), folder / "seen.json")
    return store, public
