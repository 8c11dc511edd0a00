"""The addresses of the KServe endpoints that the gateway may use."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self
from urllib.parse import unquote, urlsplit

from digits.errors import UsageError, mask_address
from digits.http import base_url
from digits.tasks.task import BUILT_IN


@dataclass(frozen=True)
class Endpoint:
    """The address of a model.

    Attributes:
        name: the name on the page.
        url: scheme, host, port and optionally a path; without a trailing slash.
        host: the Host header, for an ingress that routes by it; empty: the URL's host.
        model: the model's name in the inference protocol, which is its task's.
    """

    name: str
    url: str
    host: str = ""
    model: str = BUILT_IN

    @classmethod
    def parse(cls, text: str, model: str = BUILT_IN, *, shown: str = "") -> Self:
        """Parse `[name=]url[@host]`. The URL may name another model by the path `/v1/models/x` or `/v2/models/x`.

        An error shows `shown` in place of `text`, if given.

        Raises:
            UsageError: the text has another form.
        """
        name, separator, rest = text.partition("=") if "=" in text.split("://")[0] else ("", "", text)
        url, _, host = rest.partition("@")
        try:
            url = base_url(url)
            valid = (name or not separator) and name.isprintable() and re.fullmatch(r"[\w.:\[\]-]*", host, re.ASCII)
        except UsageError:
            valid = False
        if not valid:
            raise UsageError(
                f"expected an endpoint [name=]url[@host-header], got {mask_address(shown or text)!r}",
                remedy="digits web --endpoint http://127.0.0.1:8080",
            )
        authority = urlsplit(url).netloc
        for version in ("/v1/models/", "/v2/models/"):
            if version in url:
                url, _, tail = url.partition(version)
                model = unquote(tail.split("/")[0].split(":")[0]) or model
        return cls(name or authority, url.rstrip("/"), host, model)

    @classmethod
    def parse_all(cls, texts: Sequence[str], model: str = BUILT_IN) -> tuple[Self, ...]:
        """Parse several endpoints, as `parse`. Raises UsageError if there is none, or if two have the same name."""
        # A password with a space was cut in two, and only the last part has the @ by which it is recognised.
        shown = " ".join(texts) if any("@" in text for text in texts) else ""
        endpoints = tuple(cls.parse(text, model, shown=shown) for text in texts)
        names = [endpoint.name for endpoint in endpoints]
        if not endpoints or len(set(names)) != len(names):
            raise UsageError(
                f"expected one or more endpoints with different names, got {', '.join(names) or 'none'}",
                remedy="digits web --endpoint one=URL --endpoint two=URL",
            )
        return endpoints
