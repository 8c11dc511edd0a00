"""The generated client of the Pipelines API, with deadlines, credentials and our errors."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import kfp_server_api
import urllib3

from digits.answers import limit_urllib3
from digits.errors import DigitsError, MissingError
from digits.files import parse_json, read_named
from digits.http import in_words, tls_remedy
from digits.proxies import proxy_for
from digits.settings import Settings

MAX_TOKEN = 1 << 20  # bytes of a file
CONNECT_SECONDS, ANSWER_SECONDS = 5, 60
NOTEBOOK_TOKEN = "/var/run/secrets/kubeflow/pipelines/token"  # noqa: S105 - a path
P = ParamSpec("P")
R = TypeVar("R")


class Unreachable(MissingError):
    """The API did not answer, or is temporarily unavailable."""


class Refused(MissingError):
    """The API refused our credentials, or they do not permit the request."""


@contextlib.contextmanager
def understood(host: str) -> Iterator[None]:
    """Raise Unreachable if an answer of the API within the block is not one that we, or its client, understand."""
    try:
        yield
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, kfp_server_api.ApiException) as exc:
        raise Unreachable(
            f"Kubeflow Pipelines at {host} sent an answer that is not one of its API: {repr(exc)[:200]}",
            remedy="check DIGITS_KFP_HOST, and whether a proxy or another service answers there",
        ) from exc


def api_call(method: Callable[P, R]) -> Callable[P, R]:
    """Return a method of an object with a `host` that raises as `understood`."""

    @functools.wraps(method)
    def asked(*args: P.args, **options: P.kwargs) -> R:
        with understood(args[0].host):  # type: ignore[attr-defined]
            return method(*args, **options)

    return asked


class Client(kfp_server_api.ApiClient):  # type: ignore[misc] # it ships no types
    """The generated client. Every request has a deadline and our credentials, and raises `digits.errors`."""

    def __init__(self, settings: Settings, host: str) -> None:
        configuration = kfp_server_api.Configuration(host=host)
        # No redirects, because they lead to a login page; no retries, because not every request is safe to repeat.
        configuration.retries = urllib3.Retry(0, redirect=False)
        if settings.kfp_ca:
            if not Path(settings.kfp_ca).is_file():
                raise MissingError(
                    f"DIGITS_KFP_CA: {settings.kfp_ca} is no regular file",
                    remedy="set it to a file of certificates, or unset it",
                )
            configuration.ssl_ca_cert = settings.kfp_ca
        configuration.proxy, configuration.proxy_headers = proxy_for(host)
        limit_urllib3()
        super().__init__(configuration, cookie=settings.kfp_cookie or None)
        self._settings, self._host = settings, host
        self._token = self._read_token()

    def request(
        self,
        method: str,
        url: str,
        *args: Any,
        headers: dict[str, Any] | None = None,
        _request_timeout: Any = None,
        **more: Any,
    ) -> Any:
        """Send a request; repeat it once with a newly read token if the API no longer accepts the current one."""
        limit = _request_timeout or (CONNECT_SECONDS, ANSWER_SECONDS)
        first = True
        while True:
            sent = dict(headers or {})
            if self._token:
                sent["Authorization"] = f"Bearer {self._token}"
            try:
                return super().request(method, url, *args, headers=sent, _request_timeout=limit, **more)
            except kfp_server_api.ApiException as exc:
                token = self._read_token() if exc.status == 401 else ""
                if first and token and token != self._token:
                    self._token, first = token, False
                    continue
                raise self._error(exc) from exc
            except (urllib3.exceptions.HTTPError, OSError) as exc:
                raise self._unreachable(in_words(exc)) from exc

    def deserialize(self, response: Any, response_type: str) -> Any:
        """Parse a response; raise Refused if it is a web page, from a login or another service."""
        if not (response.getheader("content-type") or "").startswith("application/json"):
            raise self._login()
        with understood(self._host):
            parse_json(response.data)  # the generated client ignores what is not JSON
            return super().deserialize(response, response_type)

    def _read_token(self) -> str:
        if self._settings.kfp_token:
            return self._settings.kfp_token
        file = self._settings.kfp_token_file
        path = Path(file or os.environ.get("KF_PIPELINES_SA_TOKEN_PATH") or NOTEBOOK_TOKEN)
        try:
            return read_named(path, MAX_TOKEN).decode().strip()
        except (OSError, UnicodeError) as exc:
            if file:
                raise MissingError(
                    f"DIGITS_KFP_TOKEN_FILE: cannot read {file}: {getattr(exc, 'strerror', exc)}",
                    remedy="set it to a file that has the token, or unset it",
                ) from exc
            return ""

    def _error(self, exc: kfp_server_api.ApiException) -> DigitsError:
        reason = _reason(exc)
        if exc.status in {301, 302, 303, 307, 308}:
            return self._login()
        if exc.status in {401, 403}:
            refusal = "rejects the credentials" if exc.status == 401 else "does not permit this"
            return Refused(
                f"Kubeflow Pipelines at {self._host} {refusal} (namespace {self._settings.namespace}): {reason}",
                remedy="check DIGITS_KFP_TOKEN, DIGITS_KFP_TOKEN_FILE or DIGITS_KFP_COOKIE, and K8S_NAMESPACE"
                if exc.status == 401
                else "check K8S_NAMESPACE, or ask its administrator for the role kubeflow-edit",
            )
        if exc.status == 0 or exc.status in {429, 502, 503, 504}:
            return self._unreachable(reason)
        if exc.status >= 500:
            return Unreachable(f"Kubeflow Pipelines at {self._host} failed: {reason}", remedy="try again later")
        return DigitsError(f"Kubeflow Pipelines at {self._host} refused: {reason}")

    def _login(self) -> Refused:
        return Refused(
            f"{self._host} sent a web page instead of an API response: it is a login page or another service",
            remedy="set DIGITS_KFP_COOKIE or DIGITS_KFP_TOKEN_FILE; DIGITS_KFP_HOST may need a path, often /pipeline",
        )

    def _unreachable(self, why: str) -> Unreachable:
        return Unreachable(
            f"Kubeflow Pipelines at {self._host} does not answer: {why}",
            remedy=tls_remedy(why, "DIGITS_KFP_CA") or "check DIGITS_KFP_HOST, the port-forward and the proxy settings",
        )


def _reason(exc: kfp_server_api.ApiException) -> str:
    """Return the server's message in one line."""
    body = exc.body if isinstance(exc.body, str) else (exc.body or b"").decode(errors="replace")
    try:
        content = parse_json(body)
        text = str(content.get("message") or content.get("error") or content)
    except (ValueError, AttributeError):
        text = body or str(exc.reason)
    return f"HTTP {exc.status}: {' '.join(text.split())[:300]}" if exc.status else " ".join(text.split())[:300]
