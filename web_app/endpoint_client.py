"""A client of one KServe endpoint. It detects the endpoint's protocol, and every call has a deadline.

Nothing of an answer but the model's checked metadata is kept for later calls, which may be those of other visitors: no
cookies, no redirects, and each request has a connection of its own. Bytes that follow an answer, for example, would
otherwise become the next visitor's answer.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from digits.errors import DigitsError, EndpointError, MissingError, UsageError
from digits.http import bearer
from digits.tasks.task import BUILT_IN, Task, find
from web_app.endpoints import Endpoint
from web_app.protocols import MALFORMED, MODEL_FIELDS, PROTOCOLS, Images, InferenceProtocol, OtherModel, Probabilities
from web_app.transport import create_transport, load_certificates

CONNECT_SECONDS = 2.0
TOTAL_SECONDS = 10.0  # for all requests of one call; less than the page waits
METADATA_SECONDS = 5.0  # how long the model's metadata is cached; the page shows a promotion within this time
MAX_ANSWER = 64 * 1024  # bytes of an answer's body: a task with many long labels, or a hundred times the usual size


class EndpointStateError(EndpointError):
    """The endpoint gave no usable answer. `state` is "starting", "unreachable", "busy" or "wrong model"."""

    def __init__(self, state: str, message: str) -> None:
        super().__init__(message)
        self.state = state


@dataclass
class EndpointClient:
    """The connections and the cached metadata of one endpoint.

    Attributes:
        default: the task of an endpoint that does not state its own.
        known: the task of the endpoint's last metadata; None before the first.
        certificates: the authorities that are trusted; clients can share them.
    """

    endpoint: Endpoint
    token: str = field(default="", repr=False)
    trusted_keys: str = ""  # as DIGITS_TRUSTED_KEYS
    default: Task = field(default_factory=lambda: find(BUILT_IN))
    known: Task | None = None
    certificates: ssl.SSLContext = field(default_factory=load_certificates)
    _protocol: InferenceProtocol = PROTOCOLS[0]
    _metadata: dict[str, Any] = field(default_factory=dict)
    _metadata_expires: float = 0.0  # in time.monotonic()
    _failed: float = 0.0  # when the metadata could last not be fetched, in time.monotonic()
    _failure: EndpointStateError | None = None
    _fetching: asyncio.Lock = field(default_factory=asyncio.Lock)  # concurrent calls share one request for metadata

    def __post_init__(self) -> None:
        self._transport = create_transport(self.certificates)

    async def task(self) -> Task:
        """Return the task of the model, at most METADATA_SECONDS old. Raises EndpointStateError."""
        async with self._deadline():
            return (await self._cached_metadata())[1]

    async def recognise(self, images: Images, task: Task, waited: float) -> tuple[Probabilities, dict[str, Any]]:
        """Return the probabilities for each image of a task, and the metadata of the release that predicted them.

        `waited` are the seconds that `task` took.

        Raises:
            EndpointStateError: there was no answer, or the model is not one for this task.
        """
        async with self._deadline(waited):
            metadata, served = await self._cached_metadata()  # first, because this also detects the protocol
            if served != task:
                raise EndpointStateError("busy", f"the endpoint {self.endpoint.name} is changing its task")
            protocol = self._protocol
            request = protocol.encode_request(self.endpoint.model, images)
            status, body = await self._send("POST", request.path, request.body, request.headers)
            if status != 200:
                raise await self._state_error(status)
            probabilities, release = self._parse(
                lambda content: protocol.parse_prediction(content, len(images), len(task.labels)),
                body,
                f"expected {len(task.labels)} probabilities from 0 to 1 as its output 'probabilities'",
            )
            if release and release != metadata["release"]:  # the cached metadata is of an earlier release
                self._metadata_expires = 0.0
                metadata, served = await self._cached_metadata()  # with a check of the release's signature
                if served != task:  # its labels may be others
                    raise EndpointStateError("busy", f"the endpoint {self.endpoint.name} is changing its task")
                if metadata["release"] != release and self.trusted_keys:
                    raise EndpointStateError("busy", f"the endpoint {self.endpoint.name} is changing its release")
                if metadata["release"] != release:
                    metadata = dict.fromkeys(MODEL_FIELDS) | {"name": metadata["name"], "release": release}
        return probabilities, metadata

    async def model(self) -> tuple[dict[str, Any], Task]:
        """Return the name and MODEL_FIELDS of the model, and its task, at most METADATA_SECONDS old.

        Raises:
            EndpointStateError: there was no answer, the model is not one of ours, or it is not ready.
        """
        async with self._deadline():
            metadata = await self._cached_metadata()
            if not await self._is_ready([self._protocol]):
                raise self._starting()
        return metadata

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.aclose()

    async def _cached_metadata(self) -> tuple[dict[str, Any], Task]:
        called = time.monotonic()
        async with self._fetching:
            if self._failure and self._failed >= called:  # while this call waited: another attempt would fail alike
                raise EndpointStateError(self._failure.state, self._failure.message)
            if time.monotonic() >= self._metadata_expires:
                try:
                    self._protocol, self._metadata, self.known = await self._fetch_metadata()
                except EndpointStateError as exc:
                    self._failed, self._failure = time.monotonic(), exc
                    raise
                self._metadata_expires = time.monotonic() + METADATA_SECONDS
            return self._metadata, self.known or self.default

    async def _fetch_metadata(self) -> tuple[InferenceProtocol, dict[str, Any], Task]:
        protocol, status, body = await self._get(PROTOCOLS, lambda protocol: protocol.metadata_path)
        if status != 200:
            raise await self._state_error(status)
        metadata = self._parse(protocol.parse_metadata, body, "its metadata is not that of an inference protocol")
        self._check_signature(metadata["release"], metadata.pop("signature"))
        return protocol, metadata, metadata.pop("task") or self.default

    def _check_signature(self, release: str, signature: Any) -> None:
        """Raise EndpointStateError unless a trusted key signed the release, or none is needed."""
        if not self.trusted_keys:
            return
        from digits.release import signatures

        what = f"release {release or '(none)'}"
        try:
            keys = signatures.read_keys(self.trusted_keys)
            if not isinstance(signature, str) or not signature:
                raise signatures.missing(what, keys)
            statement, _ = signatures.read(signature.encode(), keys, what)
            if statement["subject"][0]["name"] != release:
                raise EndpointError(f"expected a signature of {what}, got one for another release")
        except (MissingError, UsageError) as exc:  # visitors must not see our paths
            raise EndpointStateError("wrong model", "the page cannot read its trusted keys") from exc
        except DigitsError as exc:
            raise EndpointStateError("wrong model", f"the endpoint {self.endpoint.name}: {exc.message}") from exc
        except MALFORMED as exc:
            raise self._wrong_model(f"the signature of {what} is of another form") from exc

    async def _is_ready(self, protocols: Sequence[InferenceProtocol] = PROTOCOLS) -> bool:
        protocol, status, body = await self._get(protocols, lambda protocol: protocol.ready_path)
        if status == 503:
            return False
        if status != 200:
            raise await self._state_error(status)
        return bool(self._parse(protocol.parse_ready, body, "its readiness is not that of an inference protocol"))

    async def _get(
        self, protocols: Sequence[InferenceProtocol], path_of: Callable[[InferenceProtocol], Callable[[str], str]]
    ) -> tuple[InferenceProtocol, int, bytes]:
        """Request a path of each protocol until one exists. Return the protocol, the status and the body."""
        for protocol in protocols:
            status, body = await self._send("GET", path_of(protocol)(self.endpoint.model))
            if status != 404:
                break
        return protocol, status, body

    async def _send(
        self, method: str, path: str, content: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        """Send one request with the Host header and the token. Return the status and the body, which is not unpacked.

        Raises:
            EndpointStateError: there is no complete response, or it has more than MAX_ANSWER bytes.
        """
        host = {"Host": self.endpoint.host} if self.endpoint.host else {}
        fields = {"Accept-Encoding": "identity", **(headers or {}), **host, **bearer(self.token)}
        timeout = {"timeout": {"connect": CONNECT_SECONDS}}  # the rest is limited by `_deadline`
        name, body = self.endpoint.name, bytearray()
        try:
            request = httpx.Request(
                method, self.endpoint.url + path, content=content, headers=fields, extensions=timeout
            )
            response = await self._transport.handle_async_request(request)
            async with aclosing(response):
                async for block in response.aiter_raw():
                    body += block
                    if len(body) > MAX_ANSWER:
                        raise self._wrong_model(f"its answer has more than {MAX_ANSWER} bytes")
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.InvalidURL, UnicodeError) as exc:  # the last: of IDNA
            raise EndpointStateError("unreachable", f"the endpoint {name} cannot be reached") from exc
        except httpx.HTTPError as exc:
            why = f"the endpoint {name} broke the connection off, or does not speak HTTP"
            raise EndpointStateError("unreachable", why) from exc
        return response.status_code, bytes(body)

    async def _state_error(self, status: int) -> EndpointStateError:
        """Return the error for a status other than 200. After a 503, readiness decides between starting and busy."""
        name = self.endpoint.name
        if status in {401, 403}:
            return EndpointStateError("unreachable", f"the endpoint {name} rejected our token (HTTP {status})")
        if status == 429 or (status == 503 and await self._is_ready()):
            return EndpointStateError("busy", f"the endpoint {name} is overloaded")
        if status == 503:
            return self._starting()
        if status in {502, 504}:
            return EndpointStateError(
                "unreachable", f"the server behind the endpoint {name} does not answer (HTTP {status})"
            )
        if status == 404:
            return self._wrong_model(f"it has no model {self.endpoint.model!r}")
        return self._wrong_model(f"it answered HTTP {status}")

    def _parse(self, parse: Callable[[bytes], Any], body: bytes, problem: str) -> Any:
        try:
            return parse(body)
        except OtherModel as exc:
            raise self._wrong_model(str(exc)) from exc
        except MALFORMED as exc:
            raise self._wrong_model(problem) from exc

    @asynccontextmanager
    async def _deadline(self, waited: float = 0.0) -> AsyncIterator[None]:
        """Limit the requests within the block, and `waited`, to TOTAL_SECONDS together."""
        try:
            async with asyncio.timeout(TOTAL_SECONDS - waited):
                yield
        except TimeoutError as exc:
            raise EndpointStateError(
                "busy", f"the endpoint {self.endpoint.name} did not answer within {TOTAL_SECONDS:g} s"
            ) from exc

    def _starting(self) -> EndpointStateError:
        return EndpointStateError("starting", f"the model at {self.endpoint.name} is starting")

    def _wrong_model(self, why: str) -> EndpointStateError:
        self._metadata_expires = 0.0  # because the model may be another one
        return EndpointStateError(
            "wrong model", f"the endpoint {self.endpoint.name} does not serve a digits model: {why}"
        )
