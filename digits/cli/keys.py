"""`digits keys new` and `digits keys sign`."""

from __future__ import annotations

import dataclasses
import os
import shlex
from pathlib import Path

import click

from digits.cli.common import backend_option, emit, json_option, open_backend_store
from digits.errors import UsageError, one_line
from digits.files import cannot_write, user_path


@click.group()
def keys() -> None:
    """Make the keys that sign releases, and sign what an earlier key or none has signed."""


@keys.command(short_help="Make a key pair.")
@click.argument("name", type=click.Path(path_type=Path))
@json_option
def new(name: Path, as_json: bool) -> None:
    """Make a key pair: NAME.pem, which signs, for DIGITS_SIGNING_KEY; and NAME.pub, for DIGITS_TRUSTED_KEYS.

    An existing file is not replaced. Keep NAME.pem secret; only this user can read it.

    \b
    digits keys new ~/digits-key
    """
    from digits.release import signatures

    if os.path.isdir(user_path(name)):  # noqa: PTH112 # raises no OSError
        raise UsageError(f"expected the name of a new key, {name} is a folder", remedy=_again(f"{name}/key"))
    paths = [user_path(name).absolute().with_name(f"{name.name}{suffix}") for suffix in (".pem", ".pub")]
    for path in paths:
        if os.path.lexists(path):
            raise UsageError(f"{path} exists; expected a new name", remedy=_again(f"{name}-2"))
    pair, made = signatures.new_key(), list[Path]()
    for path, content, mode in zip(paths, pair, (0o600, 0o644), strict=True):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
                made.append(path)
                file.write(content)
        except OSError as exc:
            for part in made:  # an empty file, or one half of a pair, would be in the way of the next attempt
                part.unlink()
            raise cannot_write(path, exc) from exc
    fingerprint = next(iter(signatures.read_keys(str(paths[1]))))
    if as_json:
        emit({"private": str(paths[0]), "public": str(paths[1]), "key": fingerprint})
        return
    click.echo(f"  key      {fingerprint[: signatures.SHOWN]}")
    click.echo(f"  signs    export DIGITS_SIGNING_KEY={one_line(shlex.quote(str(paths[0])))}")
    click.echo(f"  trusted  export DIGITS_TRUSTED_KEYS={one_line(shlex.quote(str(paths[1])))}")


@keys.command(short_help="Sign a release and the ledger with the present key.")
@click.argument("version", default="")
@backend_option("Backend to use.  [process]")
@json_option
def sign(version: str, as_json: bool) -> None:
    """Sign a release and the newest ledger entry with DIGITS_SIGNING_KEY, whatever key or none signed them before.

    VERSION is a release's version or its first letters, by default the champion. Only digests are checked: sign only
    what you know to be yours. This is for releases from before the first key, and for a new key.

    \b
    digits verify && digits keys sign
    """
    from digits.release import attachments, ledger, releases, signatures

    with open_backend_store() as (_, store, _):
        key = signatures.signing_key(store.trust)
        if key is None:
            raise UsageError("DIGITS_SIGNING_KEY is not set", remedy="digits keys new NAME")
        store.trust = dataclasses.replace(store.trust, keys="")  # the signatures are what is missing
        version = releases.find(store, version) if version else ledger.champion(store)
        if version:
            attachments.attach(store, releases.load_whole(store, version))
        entry = ledger.sign_newest(store)
    signer = signatures.fingerprint(key.public_key())
    if as_json:
        emit({"release": version, "entry": entry.n if entry else 0, "signer": signer})
        return
    click.echo(f"  key      {signer[: signatures.SHOWN]}")
    click.echo(f"  release  {version or 'none'}")
    click.echo(f"  ledger   {f'entry {entry.n}, which makes {entry.version} the champion' if entry else 'no entry'}")


def _again(name: str) -> str:
    return f"digits keys new {shlex.quote(name)}"
