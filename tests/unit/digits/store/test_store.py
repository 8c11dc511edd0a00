"""Stores are opened by their address, and the table of their kinds agrees with the settings."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from digits import store
from digits.errors import UsageError
from digits.settings import Settings
from digits.store import find_scheme, open_store, schemes
from tests.helpers.examples import run_example


def test_the_example_of_the_contract_runs(tmp_path: Path) -> None:
    """The example in the docstring of ObjectStore does what it shows."""
    run_example(store.ObjectStore, {"open_store": open_store, "settings": Settings(home=tmp_path)})


@pytest.mark.parametrize("address", ["/a/folder", "gs://bucket", "content://x", "https://u:canary@h/b", "s3://["])
def test_an_address_of_another_kind_is_refused(address: str, tmp_path: Path) -> None:
    """The error names the variable, the address without its password, and what was expected."""
    settings = Settings(home=tmp_path)
    assert address == "s3://[" or dataclasses.replace(settings, store=address).store == address
    with pytest.raises(UsageError, match="file:///folder or s3://bucket") as refused:
        open_store(settings, address)
    assert "DIGITS_STORE" in refused.value.remedy
    assert address.replace("u:canary", "<SECRET>") in refused.value.message
    assert "canary" not in str(refused.value)


@pytest.mark.parametrize(
    ("address", "endpoint"), [("s3://b", "h:9000"), ("s3://bucket", "h:9000/path"), ("s3://bucket", "::")]
)
def test_a_bucket_or_server_that_s3_does_not_allow_is_refused(address: str, endpoint: str, tmp_path: Path) -> None:
    """The name of a bucket or server that S3 does not allow is a usage error."""
    settings = Settings(home=tmp_path, minio_endpoint=endpoint, minio_access_key="a", minio_secret_key="s")
    with pytest.raises(UsageError, match="store"):
        open_store(settings, address)


def test_a_missing_credential_is_named(tmp_path: Path) -> None:
    """The error names the first variable that the store needs and that is not set."""
    settings = Settings(home=tmp_path, minio_endpoint="h:9000", minio_access_key="a")
    with pytest.raises(UsageError, match="s3://bucket needs MINIO_SECRET_KEY"):
        open_store(settings, "s3://bucket")


@pytest.mark.parametrize("name", schemes())
def test_the_variables_of_a_store_are_settings(name: str) -> None:
    """Each variable that a kind of store names is one of the settings, and those in a Secret are masked when shown."""
    known = {field.metadata["name"]: field.metadata["secret"] for field in dataclasses.fields(Settings)}
    variables, secret = schemes()[name].variables, schemes()[name].secrets.values()
    assert {name: known[name] for name in variables} == {name: name in secret for name in variables}


def test_a_kind_of_store_is_found_by_its_scheme() -> None:
    """A folder is local, a bucket is remote, and another address has no kind."""
    assert sorted(schemes()) == ["file", "s3"]
    assert (find_scheme("file:///a"), find_scheme("s3://b")) == (schemes()["file"], schemes()["s3"])
    assert find_scheme("http://host/") is None
    assert (schemes()["file"].remote, schemes()["s3"].remote) == (False, True)
