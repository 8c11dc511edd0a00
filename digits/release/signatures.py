"""Signatures in the format of OpenSSF model-signing 1.1, made and checked with `cryptography` alone.

A signature is a sigstore bundle: a DSSE envelope with an in-toto statement and its ECDSA signature. The statement of a
release or a ledger entry lists the SHA-256 of each file, as `model_signing sign key` does; `model_signing verify key`
accepts it. Signing is deterministic (RFC 6979), so the same key and files always give the same bytes.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from digits.errors import MissingError, ReleaseError, UsageError
from digits.files import canonical_json, parse_json, read_named, sha256_of, user_path

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec

    from digits.store import Trust

STATEMENT = "https://in-toto.io/Statement/v1"
DIGESTS = "https://model_signing/signature/v1.0"  # predicate type of a list of digests
_PAYLOAD = "application/vnd.in-toto+json"
_BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
_PUBLIC = re.compile(rb"-----BEGIN PUBLIC KEY-----.+?-----END PUBLIC KEY-----", re.DOTALL)
_HASHES = {"secp256r1": "SHA256", "secp384r1": "SHA384", "secp521r1": "SHA512"}  # as model-signing chooses them
MAX_KEYS = 1 << 20  # bytes of a file of keys
SHOWN = 16  # digits of a fingerprint in messages
_SIGN = "publish it with DIGITS_SIGNING_KEY, or digits keys sign"  # remedy

Keys = dict[str, "ec.EllipticCurvePublicKey"]  # by fingerprint


def new_key() -> tuple[bytes, bytes]:
    """Return a new private key (P-256, PKCS #8) and its public key, both as PEM."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private, pem(key.public_key())


def read_keys(place: str) -> Keys:
    """Return the public keys in a PEM file, or in the files *.pem and *.pub of a folder.

    Raises:
        MissingError: there is none, or a file cannot be read.
        UsageError: a key is not a public key of the curves P-256, P-384 and P-521.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    path, keys = user_path(place), Keys()
    try:
        files = sorted(f for f in path.iterdir() if f.suffix in {".pem", ".pub"}) if path.is_dir() else [path]
        for file in files:
            blocks = _PUBLIC.findall(read_named(file, MAX_KEYS))
            if not blocks:
                raise UsageError(f"DIGITS_TRUSTED_KEYS: expected a public key in {file}, found none")
            for block in blocks:
                key = _check_curve(load_pem_public_key(block), file)
                keys[fingerprint(key)] = key
    except OSError as exc:
        raise MissingError(
            f"DIGITS_TRUSTED_KEYS: cannot read {path}: {exc.strerror}",
            remedy="digits keys new NAME, or name another file",
        ) from exc
    except (ValueError, UnsupportedAlgorithm) as exc:
        raise UsageError(f"DIGITS_TRUSTED_KEYS: expected intact public keys in {path}: {exc}") from exc
    if not keys:
        raise MissingError(f"DIGITS_TRUSTED_KEYS: no file *.pem or *.pub in {path}", remedy="digits keys new")
    return keys


def read_signing_key(place: str) -> ec.EllipticCurvePrivateKey:
    """Return the private key in a PEM file without a password.

    Raises:
        MissingError: the file cannot be read.
        UsageError: it holds no such key of the curves P-256, P-384 and P-521.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    path = user_path(place)
    try:
        key: Any = load_pem_private_key(read_named(path, MAX_KEYS), None)
    except OSError as exc:
        raise MissingError(f"DIGITS_SIGNING_KEY: cannot read {path}: {exc.strerror}", remedy="digits keys new") from exc
    except (ValueError, TypeError, UnsupportedAlgorithm) as exc:  # TypeError: it has a password
        raise UsageError(f"DIGITS_SIGNING_KEY: expected a private key without a password in {path}: {exc}") from exc
    _check_curve(key.public_key(), path)
    return key  # type: ignore[no-any-return]


def signing_key(trust: Trust) -> ec.EllipticCurvePrivateKey | None:
    """Return the key that signs what is written to a store, None if nothing is signed.

    Raises:
        UsageError: what it signs would not be accepted: keys are trusted, but this one is not, or there is none.
        MissingError: a key cannot be read.
    """
    trusted = read_keys(trust.keys) if trust.keys else {}
    key = read_signing_key(trust.signing_key) if trust.signing_key else None
    own = fingerprint(key.public_key()) if key else ""
    if trusted and own not in trusted:
        missing = f"DIGITS_SIGNING_KEY {own[:SHOWN]} is not one of them" if own else "DIGITS_SIGNING_KEY is not set"
        raise UsageError(
            f"DIGITS_TRUSTED_KEYS accepts only what {_names(trusted)} signed, and {missing}",
            remedy="set DIGITS_SIGNING_KEY to the file of a trusted one's private key",
        )
    return key


def fingerprint(key: ec.EllipticCurvePublicKey) -> str:
    """Return the hex SHA-256 of a public key's PEM text, as model-signing names keys."""
    return sha256_of(pem(key))


def pem(key: ec.EllipticCurvePublicKey) -> bytes:
    """Return a public key as PEM."""
    from cryptography.hazmat.primitives import serialization

    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def sign(key: ec.EllipticCurvePrivateKey, statement: Mapping[str, Any]) -> bytes:
    """Return the signed bundle of an in-toto statement."""
    payload = canonical_json(statement)
    material = {"publicKey": {"hint": fingerprint(key.public_key())}, "tlogEntries": []}
    signature = key.sign(_authenticated(payload), _algorithm(key.public_key(), deterministic=True))
    signed = [{"sig": _encode(signature), "keyid": ""}]
    envelope = {"payload": _encode(payload), "payloadType": _PAYLOAD, "signatures": signed}
    return canonical_json({"mediaType": _BUNDLE, "verificationMaterial": material, "dsseEnvelope": envelope})


def sign_digests(key: ec.EllipticCurvePrivateKey, name: str, digests: Mapping[str, str], signature: str = "") -> bytes:
    """Return the signature of files, given their SHA-256 by name; '.' is the name of a single file.

    `name` is that of their folder, and `signature` the file in it that will hold the signature.
    """
    files = sorted(digests.items(), key=lambda item: item[0].split("/"))
    resources = [{"name": file, "algorithm": "sha256", "digest": digest} for file, digest in files]
    root = sha256_of(b"".join(bytes.fromhex(digest) for _, digest in files))
    method = {"method": "files", "hash_type": "sha256", "allow_symlinks": False}
    method |= {"ignore_paths": [signature] if signature else []}
    subject = [{"name": name, "digest": {"sha256": root}}]
    predicate = {"serialization": method, "resources": resources}
    return sign(key, {"_type": STATEMENT, "subject": subject, "predicateType": DIGESTS, "predicate": predicate})


def read(bundle: bytes, keys: Keys, what: str) -> tuple[dict[str, Any], str]:
    """Return the in-toto statement of a bundle, and the fingerprint of the key in `keys` that signed it.

    Raises:
        ReleaseError: none of the keys signed it; the message names `what` and the keys.
    """
    from cryptography.exceptions import InvalidSignature

    remedy = f"{_SIGN}; or add its key to DIGITS_TRUSTED_KEYS"
    try:
        document = parse_json(bundle)
        hint = document["verificationMaterial"]["publicKey"]["hint"]
        envelope = document["dsseEnvelope"]
        payload = base64.b64decode(envelope["payload"], validate=True)
        signature = base64.b64decode(envelope["signatures"][0]["sig"], validate=True)
        if document["mediaType"] != _BUNDLE or envelope["payloadType"] != _PAYLOAD:
            raise ValueError("it is of another type")
        if len(envelope["signatures"]) != 1:
            raise ValueError("expected one signature")
        if hint not in keys:
            found = f"{what} is signed by key {str(hint)[:SHOWN]}; expected {_names(keys)}"
            raise ReleaseError(found, remedy=remedy)
        keys[hint].verify(signature, _authenticated(payload), _algorithm(keys[hint]))
        return dict(parse_json(payload)), hint
    except InvalidSignature as exc:
        raise ReleaseError(f"the signature of {what} is not by key {hint[:SHOWN]}", remedy=remedy) from exc
    except (ValueError, LookupError, TypeError, AttributeError) as exc:
        raise ReleaseError(f"the signature of {what} is damaged: {exc!r}", remedy=remedy) from exc


def payload(bundle: bytes) -> bytes:
    """Return the text of a bundle's statement, without a check. Raises ReleaseError if there is none."""
    try:
        return base64.b64decode(parse_json(bundle)["dsseEnvelope"]["payload"], validate=True)
    except (ValueError, LookupError, TypeError) as exc:
        raise ReleaseError(f"a signature is damaged: {exc!r}", remedy=_SIGN) from exc


def read_digests(bundle: bytes, keys: Keys, what: str) -> tuple[dict[str, str], str]:
    """Return the SHA-256 of each file that a bundle signs, by name, and the signer as `read`. Raises as `read`."""
    _, signer = read(bundle, keys, what)
    return listed_digests(bundle, what), signer


def listed_digests(bundle: bytes, what: str) -> dict[str, str]:
    """Return the SHA-256 of each file that a bundle lists, by name, without a check of the signature.

    Raises:
        ReleaseError: there is no such list; the message names `what`.
    """
    text = payload(bundle)
    try:
        statement = parse_json(text)
        if (statement["_type"], statement["predicateType"]) != (STATEMENT, DIGESTS):
            raise ValueError("it is no list of digests")
        return {str(file["name"]): str(file["digest"]) for file in statement["predicate"]["resources"]}
    except (ValueError, LookupError, TypeError) as exc:
        raise ReleaseError(f"the signature of {what} does not list its files: {exc!r}", remedy=_SIGN) from exc


def missing(what: str, keys: Keys) -> ReleaseError:
    """Return the error for something without a signature."""
    return ReleaseError(f"{what} is not signed; expected a signature by {_names(keys)}", remedy=_SIGN)


def _names(keys: Keys) -> str:
    return " or ".join(f"key {name[:SHOWN]}" for name in sorted(keys))


def _check_curve(key: Any, file: Path) -> ec.EllipticCurvePublicKey:
    curve = getattr(getattr(key, "curve", None), "name", type(key).__name__)
    if curve not in _HASHES:
        raise UsageError(f"{file}: expected an EC key of {', '.join(_HASHES)}, got {curve}", remedy="digits keys new")
    return key  # type: ignore[no-any-return]


def _algorithm(key: ec.EllipticCurvePublicKey, *, deterministic: bool = False) -> ec.ECDSA:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.ECDSA(getattr(hashes, _HASHES[key.curve.name])(), deterministic_signing=deterministic)


def _authenticated(payload: bytes) -> bytes:
    """Return what an envelope's signature covers: DSSE's pre-authentication encoding."""
    return b"DSSEv1 %d %s %d %s" % (len(_PAYLOAD), _PAYLOAD.encode(), len(payload), payload)


def _encode(content: bytes) -> str:
    return base64.b64encode(content).decode()
