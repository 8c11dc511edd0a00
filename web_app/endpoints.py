"""The KServe endpoints that the gateway may talk to: by name, in whichever protocol each speaks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import urlsplit

import httpx

from digits.errors import EndpointError, UsageError
from web_app.protocols import MODEL_FACTS, PROTOCOLS, Image, InferenceProtocol, NotDigits

MODEL = "digits"
CONNECT_SECONDS = 2.0
ANSWER_SECONDS = 8.0
WHOLE_SECONDS = 10.0  # for all requests that one question takes: less than the page waits
FRESH_SECONDS = 5.0  # how old the model's description may be: a promotion shows within this time
CONNECTIONS = 32


@dataclass(frozen=True)
class Endpoint:
    """Where a model answers.

    Attributes:
        name: what the page calls it.
        url: scheme, host, port and perhaps a path; without a trailing slash.
        host: the Host header to send, for an ingress that routes by it; empty: the URL's own.
        model: the model's name in the inference protocol.
    """

    name: str
    url: str
    host: str = ""
    model: str = MODEL

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `[name=]url[@host]`. A URL that goes on to `/v1/models/x` or `/v2/models/x` names the model too.

        Raises:
            UsageError: not of that form.
        """
        name, given, rest = text.partition("=") if "=" in text.split("://")[0] else ("", "", text)
        url, _, host = rest.partition("@")
        try:
            parts = urlsplit(url)
        except ValueError:  # what cannot be split is no URL
            parts = urlsplit("")
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or (given and not name):
            raise UsageError(
                f"expected an endpoint [name=]url[@host-header], got {text!r}",
                remedy="digits web --endpoint http://127.0.0.1:8080",
            )
        model = MODEL
        for version in ("/v1/models/", "/v2/models/"):
            if version in url:
                url, _, tail = url.partition(version)
                model = tail.split("/")[0].split(":")[0] or MODEL
        return cls(name or parts.netloc, url.rstrip("/"), host, model)

    @classmethod
    def parse_all(cls, texts: Sequence[str]) -> tuple[Self, ...]:
        """Read several; each name may be given once. Raises UsageError as `parse`."""
        found = tuple(cls.parse(text) for text in texts)
        names = [endpoint.name for endpoint in found]
        if not found or len(set(names)) != len(names):
            raise UsageError(
                f"expected one or more endpoints with names of their own, got {', '.join(names) or 'none'}",
                remedy="digits web --endpoint one=URL --endpoint two=URL",
            )
        return found


class EndpointTrouble(EndpointError):
    """The endpoint gave no answer. `state` is one of starting, unreachable, busy, wrong model."""

    def __init__(self, state: str, message: str) -> None:
        super().__init__(message)
        self.state = state


@dataclass
class EndpointClient:
    """Talks to one endpoint; every wait is bounded and connections are reused."""

    endpoint: Endpoint
    http: httpx.AsyncClient
    token: str = field(default="", repr=False)
    _protocol: InferenceProtocol = PROTOCOLS[0]
    _about: dict[str, Any] = field(default_factory=dict)
    _about_until: float = 0.0
    _asking: asyncio.Lock = field(default_factory=asyncio.Lock)  # whoever comes meanwhile takes what was answered

    async def recognise(self, image: Image) -> tuple[list[float], dict[str, Any]]:
        """The ten probabilities for an image, and what is known of the release that gave them.

        Raises:
            EndpointTrouble: no answer, or not that of a model for digits.
        """
        async with self._in_time():
            about = await self._described()  # tells which protocol is spoken, too
            probabilities, release = await self._infer(image)
        if release and release != about["release"]:  # another one has come since it was described
            self._about_until = 0.0
            about = dict.fromkeys(MODEL_FACTS) | {"name": about["name"], "release": release}
        return probabilities, about

    async def _infer(self, image: Image) -> tuple[list[float], str]:
        question = self._protocol.ask(self.endpoint.model, image)
        answer = await self._send("POST", question.path, question.body, question.headers)
        if answer.status_code != 200:
            raise await self._trouble(answer)
        try:
            probabilities = self._protocol.probabilities(answer.content)
            release = self._protocol.release(answer.content)
        except (KeyError, TypeError, ValueError, AttributeError) as exc:
            raise self._wrong("its answer has no output 'probabilities'") from exc
        if len(probabilities) != 10 or not all(0 <= p <= 1 for p in probabilities):
            raise self._wrong(f"expected ten probabilities, got {len(probabilities)} numbers")
        return probabilities, release

    async def about(self) -> dict[str, Any]:
        """The model's name, release, digest, accuracy, data set and MLflow run, once it is ready; seconds old at most.

        Raises:
            EndpointTrouble: no answer, not that of a model for digits, or not ready.
        """
        async with self._in_time():
            about = await self._described()
            answer = await self._send("GET", self._protocol.ready_path(self.endpoint.model))
            if answer.status_code != 200:
                raise await self._trouble(answer)
        if not self._protocol.ready(answer.content):
            raise self._starting()
        return about

    async def _described(self) -> dict[str, Any]:
        async with self._asking:
            if time.monotonic() >= self._about_until:
                self._protocol, self._about = await self._describe()
                self._about_until = time.monotonic() + FRESH_SECONDS
            return self._about

    async def _describe(self) -> tuple[InferenceProtocol, dict[str, Any]]:
        for protocol in PROTOCOLS:
            answer = await self._send("GET", protocol.about_path(self.endpoint.model))
            if answer.status_code != 404:
                break
        if answer.status_code != 200:
            raise await self._trouble(answer)
        try:
            return protocol, protocol.about(answer.content)
        except NotDigits as exc:
            raise self._wrong(str(exc)) from exc
        except (KeyError, TypeError, ValueError, AttributeError) as exc:
            raise self._wrong("its description is not one of the inference protocols") from exc

    async def _send(
        self, method: str, path: str, content: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        """One request as it is, with the Host header and the token. Raises EndpointTrouble where nothing answers."""
        headers = dict(headers or {})
        if self.endpoint.host:
            headers["Host"] = self.endpoint.host
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        try:
            async with asyncio.timeout(CONNECT_SECONDS + ANSWER_SECONDS):
                return await self.http.request(method, self.endpoint.url + path, content=content, headers=headers)
        except (httpx.ReadTimeout, httpx.WriteTimeout, httpx.PoolTimeout, TimeoutError) as exc:
            raise self._late(ANSWER_SECONDS) from exc
        except (httpx.HTTPError, httpx.InvalidURL) as exc:
            raise EndpointTrouble("unreachable", f"the endpoint {self.endpoint.name} cannot be reached") from exc

    async def _trouble(self, answer: httpx.Response) -> EndpointTrouble:
        """What an answer other than 200 means. A 503 is 'starting' or 'busy': only the readiness tells which."""
        status, name = answer.status_code, self.endpoint.name
        if status in {401, 403}:
            return EndpointTrouble("unreachable", f"the endpoint {name} refused our token (HTTP {status})")
        if status in {429, 503}:
            ready_path = self._protocol.ready_path(self.endpoint.model)
            if not answer.url.path.endswith(ready_path):
                check = await self._send("GET", ready_path)
                if check.status_code == 200 and self._protocol.ready(check.content):
                    return EndpointTrouble("busy", f"the endpoint {name} has too much to do just now")
            return self._starting()
        if status in {502, 504}:
            return EndpointTrouble("unreachable", f"nothing answers behind the endpoint {name} (HTTP {status})")
        if status == 404:
            return self._wrong(f"it has no model {self.endpoint.model!r}")
        return self._wrong(f"it answered HTTP {status}")

    @asynccontextmanager
    async def _in_time(self) -> AsyncIterator[None]:
        """A question may take several requests; together they take no longer than the page waits."""
        try:
            async with asyncio.timeout(WHOLE_SECONDS):
                yield
        except TimeoutError as exc:
            raise self._late(WHOLE_SECONDS) from exc

    def _late(self, seconds: float) -> EndpointTrouble:
        return EndpointTrouble("busy", f"the endpoint {self.endpoint.name} gave no answer in {seconds:g} s")

    def _starting(self) -> EndpointTrouble:
        return EndpointTrouble("starting", f"the model at {self.endpoint.name} is starting")

    def _wrong(self, why: str) -> EndpointTrouble:
        return EndpointTrouble("wrong model", f"the endpoint {self.endpoint.name} does not serve our digits: {why}")


def http_client() -> httpx.AsyncClient:
    """The HTTP client that all endpoints share. Proxies of the environment are not meant for them."""
    return httpx.AsyncClient(
        timeout=httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS),
        limits=httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS),
        follow_redirects=False,
        trust_env=False,
    )
