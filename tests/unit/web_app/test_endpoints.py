"""The addresses of endpoints."""

from __future__ import annotations

import pytest

from digits.errors import UsageError
from web_app.endpoints import Endpoint

UNSAFE = [
    *("ftp://h", "http://"),
    *("http://h/#fragment", "http://h?", "http://u:password@h", "http://h@a b", "http://h@a/b", "http://h@a@b"),
    *("http://h@a\r\nX: 1", "a\nb=http://h", "http://h:99999", "http://h /x", "http://h\\x", "http://@h"),
]


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("http://127.0.0.1:8080", Endpoint("127.0.0.1:8080", "http://127.0.0.1:8080")),
        ("lab=https://kserve.example.com/", Endpoint("lab", "https://kserve.example.com")),
        (
            "cluster=http://127.0.0.1:8081@digits.default.example.com",
            Endpoint("cluster", "http://127.0.0.1:8081", "digits.default.example.com"),
        ),
        ("http://h:1/v1/models/mine:predict", Endpoint("h:1", "http://h:1", "", "mine")),
        ("http://h:1/v2/models/my%20own", Endpoint("h:1", "http://h:1", "", "my own")),
        ("a=http://h:1/path/v2/models/mine/infer", Endpoint("a", "http://h:1/path", "", "mine")),
    ],
)
def test_an_endpoint_is_parsed(text: str, endpoint: Endpoint) -> None:
    """An endpoint is parsed from its URL, with an optional name, Host header and model name."""
    assert Endpoint.parse(text) == endpoint


@pytest.mark.parametrize(
    "text", ["", "here", "=http://h", "ftp://h", "http://", "http://h/?q=1", "a=b", "http://[::1", *UNSAFE]
)
def test_other_texts_than_endpoints_are_rejected(text: str) -> None:
    """Other texts are rejected with an example."""
    with pytest.raises(UsageError, match="expected an endpoint"):
        Endpoint.parse(text)


def test_an_endpoint_serves_the_gateways_task_unless_its_url_names_a_model() -> None:
    """The model's default name is that of the gateway's task."""
    endpoints = Endpoint.parse_all(["a=http://h:1", "b=http://h:1/v2/models/mine"], "flowers")
    assert [endpoint.model for endpoint in endpoints] == ["flowers", "mine"]


def test_endpoint_names_must_differ() -> None:
    """There must be at least one endpoint, and their names must differ."""
    for texts in (["a=http://h:1", "a=http://h:2"], []):
        with pytest.raises(UsageError, match="different names"):
            Endpoint.parse_all(texts)
