"""What a failed request is called: urllib3's errors name its own parts; a person wants to know what happened."""

from __future__ import annotations


def bearer(token: str) -> dict[str, str]:
    """The header that shows a token; none where there is none."""
    return {"Authorization": f"Bearer {token}"} if token else {}


def in_words(error: Exception) -> str:
    """What an error of urllib3 says happened: "connection refused", "name does not resolve", "timed out"."""
    from urllib3 import exceptions

    if isinstance(error, exceptions.MaxRetryError) and error.reason:
        error = error.reason  # of the last attempt
    if isinstance(error, exceptions.NameResolutionError):
        return "name does not resolve"
    if isinstance(error, exceptions.NewConnectionError):  # to urllib3 a timeout too, whatever the system said
        return (getattr(error.__cause__, "strerror", None) or "no connection").lower()
    if isinstance(error, exceptions.TimeoutError):
        return "timed out"
    if isinstance(error, exceptions.SSLError):
        return f"TLS failed: {error}"
    if isinstance(error, exceptions.ProtocolError):
        return "the connection broke off, or what answers speaks no HTTP"
    return str(error)
