"""A client of one KServe endpoint. It detects the endpoint's protocol, and every call has a deadline."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from digits.errors import EndpointError
from web_app.endpoints import Endpoint
from web_app.protocols import MODEL_FIELDS, PROTOCOLS, Image, InferenceProtocol, NotDigits

CONNECT_SECONDS = 2.0
ANSWER_SECONDS = 8.0
TOTAL_SECONDS = 10.0  # for all requests of one call; less than the page waits
METADATA_SECONDS = 5.0  # how long the model's metadata is cached; the page shows a promotion within this time
CONNECTIONS = 32


class EndpointStateError(EndpointError):
    """The endpoint gave no usable answer. `state` is "starting", "unreachable", "busy" or "wrong model"."""

    def __init__(self, state: str, message: str) -> None:
        super().__init__(message)
        self.state = state


@dataclass
class EndpointClient:
    """The connection state and cached metadata of one endpoint."""

    endpoint: Endpoint
    http: httpx.AsyncClient
    token: str = field(default="", repr=False)
    _protocol: InferenceProtocol = PROTOCOLS[0]
    _metadata: dict[str, Any] = field(default_factory=dict)
    _metadata_expires: float = 0.0  # in time.monotonic()
    _fetching: asyncio.Lock = field(default_factory=asyncio.Lock)  # concurrent calls share one request for metadata

    async def recognise(self, image: Image) -> tuple[list[float], dict[str, Any]]:
        """Return the ten probabilities for an image, and the metadata of the release that predicted them.

        Raises:
            EndpointStateError: there was no answer, or the model is not one for digits.
        """
        async with self._deadline():
            metadata = await self._cached_metadata()  # first, because this also detects the protocol
            probabilities, release = await self._infer(image)
        if release and release != metadata["release"]:  # the cached metadata is of an earlier release
            self._metadata_expires = 0.0
            metadata = dict.fromkeys(MODEL_FIELDS) | {"name": metadata["name"], "release": release}
        return probabilities, metadata

    async def _infer(self, image: Image) -> tuple[list[float], str]:
        request = self._protocol.encode_request(self.endpoint.model, image)
        answer = await self._send("POST", request.path, request.body, request.headers)
        if answer.status_code != 200:
            raise await self._state_error(answer)
        try:
            probabilities = self._protocol.parse_probabilities(answer.content)
            release = self._protocol.parse_release(answer.content)
        except (KeyError, TypeError, ValueError, AttributeError) as exc:
            raise self._wrong_model("its answer has no output 'probabilities'") from exc
        if len(probabilities) != 10 or not all(0 <= p <= 1 for p in probabilities):
            raise self._wrong_model(f"expected ten probabilities, got {len(probabilities)} numbers")
        return probabilities, release

    async def model(self) -> dict[str, Any]:
        """Return the name and MODEL_FIELDS of the model, at most METADATA_SECONDS old.

        Raises:
            EndpointStateError: there was no answer, the model is not one for digits, or it is not ready.
        """
        async with self._deadline():
            metadata = await self._cached_metadata()
            answer = await self._send("GET", self._protocol.ready_path(self.endpoint.model))
            if answer.status_code != 200:
                raise await self._state_error(answer)
        if not self._protocol.parse_ready(answer.content):
            raise self._starting()
        return metadata

    async def _cached_metadata(self) -> dict[str, Any]:
        async with self._fetching:
            if time.monotonic() >= self._metadata_expires:
                self._protocol, self._metadata = await self._fetch_metadata()
                self._metadata_expires = time.monotonic() + METADATA_SECONDS
            return self._metadata

    async def _fetch_metadata(self) -> tuple[InferenceProtocol, dict[str, Any]]:
        for protocol in PROTOCOLS:
            answer = await self._send("GET", protocol.metadata_path(self.endpoint.model))
            if answer.status_code != 404:
                break
        if answer.status_code != 200:
            raise await self._state_error(answer)
        try:
            return protocol, protocol.parse_metadata(answer.content)
        except NotDigits as exc:
            raise self._wrong_model(str(exc)) from exc
        except (KeyError, TypeError, ValueError, AttributeError) as exc:
            raise self._wrong_model("its metadata is not that of an inference protocol") from exc

    async def _send(
        self, method: str, path: str, content: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        """Send one request with the Host header and the token. Raises EndpointStateError if there is no response."""
        headers = dict(headers or {})
        if self.endpoint.host:
            headers["Host"] = self.endpoint.host
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        try:
            async with asyncio.timeout(CONNECT_SECONDS + ANSWER_SECONDS):
                return await self.http.request(method, self.endpoint.url + path, content=content, headers=headers)
        except (httpx.ReadTimeout, httpx.WriteTimeout, httpx.PoolTimeout, TimeoutError) as exc:
            raise self._timed_out(ANSWER_SECONDS) from exc
        except (httpx.HTTPError, httpx.InvalidURL) as exc:
            raise EndpointStateError("unreachable", f"the endpoint {self.endpoint.name} cannot be reached") from exc

    async def _state_error(self, answer: httpx.Response) -> EndpointStateError:
        """Return the error for a status other than 200. After a 503, readiness decides between starting and busy."""
        status, name = answer.status_code, self.endpoint.name
        if status in {401, 403}:
            return EndpointStateError("unreachable", f"the endpoint {name} rejected our token (HTTP {status})")
        if status in {429, 503}:
            ready_path = self._protocol.ready_path(self.endpoint.model)
            if not answer.url.path.endswith(ready_path):
                check = await self._send("GET", ready_path)
                if check.status_code == 200 and self._protocol.parse_ready(check.content):
                    return EndpointStateError("busy", f"the endpoint {name} is overloaded")
            return self._starting()
        if status in {502, 504}:
            return EndpointStateError(
                "unreachable", f"the server behind the endpoint {name} does not answer (HTTP {status})"
            )
        if status == 404:
            return self._wrong_model(f"it has no model {self.endpoint.model!r}")
        return self._wrong_model(f"it answered HTTP {status}")

    @asynccontextmanager
    async def _deadline(self) -> AsyncIterator[None]:
        """Limit the requests within the block to TOTAL_SECONDS together."""
        try:
            async with asyncio.timeout(TOTAL_SECONDS):
                yield
        except TimeoutError as exc:
            raise self._timed_out(TOTAL_SECONDS) from exc

    def _timed_out(self, seconds: float) -> EndpointStateError:
        return EndpointStateError("busy", f"the endpoint {self.endpoint.name} did not answer within {seconds:g} s")

    def _starting(self) -> EndpointStateError:
        return EndpointStateError("starting", f"the model at {self.endpoint.name} is starting")

    def _wrong_model(self, why: str) -> EndpointStateError:
        return EndpointStateError(
            "wrong model", f"the endpoint {self.endpoint.name} does not serve a digits model: {why}"
        )


def http_client() -> httpx.AsyncClient:
    """Return an HTTP client for all endpoints. It ignores the proxies of the environment."""
    return httpx.AsyncClient(
        timeout=httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS),
        limits=httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS),
        follow_redirects=False,
        trust_env=False,
    )
