"""The trial of a store."""

from __future__ import annotations

import dataclasses

import pytest

from digits.errors import StoreError
from digits.settings import Settings
from digits.store import open_store
from digits.store.trial import try_store
from tests.helpers.kubernetes_api import Quiet, kubernetes_api


def test_a_store_is_left_as_it_was(settings: Settings) -> None:
    """The object of the trial is deleted again, and nothing else changes."""
    store = open_store(settings)
    store.put("other", b"1")
    assert try_store(store).ok
    assert store.keys() == ["other"]


def test_a_store_that_refuses_is_an_error(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that fails to return what was written is an error, and the object is deleted."""
    store = open_store(settings)

    def refuse(*_: object, **__: object) -> bytes:
        raise StoreError("refused")

    monkeypatch.setattr(store, "get", refuse)
    with pytest.raises(StoreError, match="refused"):
        try_store(store)
    assert store.keys() == []


@pytest.mark.parametrize("code", ["AccessDenied", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded"])
def test_the_refusal_of_an_s3_server_has_its_code_and_a_remedy(code: str, settings: Settings) -> None:
    """Missing permissions and a full store are named by the server's code, each with its own remedy."""

    class Refusing(Quiet):
        def refuse(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(507)
            self.send_header("Content-Type", "application/xml")
            content = f"<Error><Code>{code}</Code></Error>".encode()
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_PUT = do_DELETE = refuse  # noqa: N815 # names that the library calls

    with kubernetes_api(Refusing) as endpoint:
        keys = {"minio_access_key": "access", "minio_secret_key": "a-secret-key"}
        placed = dataclasses.replace(settings, store="s3://digits", minio_endpoint=endpoint, **keys)
        with pytest.raises(StoreError, match=code) as raised:
            try_store(open_store(placed))
    assert ("space" in raised.value.remedy) == (code != "AccessDenied")
