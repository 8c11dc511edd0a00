"""The errors of digits. Each states what failed, why, and what to try.

DigitsError                 exit code 1: the run failed
├── UsageError              2: the request is invalid
├── MissingError            3: something required is absent
│   └── Unavailable         a server did not answer; it may answer later
│       └── StoreUnreachable    the object store did not answer
├── DataError               a data set is damaged or not the expected one
├── StoreError              the object store refused
│   ├── ObjectMissing       no object under that key
│   ├── ObjectRefused       an object's key or size is not one that we read
│   └── DigestMismatch      an object's content does not have the expected digest
├── ReleaseError            a release is missing, incomplete or damaged
├── StepFailed              a pipeline step failed; carries the step's name and its log
├── EndpointError           the endpoint is not reachable or not ready, or its answer is wrong
├── RunContinues            4: the run continues in its cluster, but can no longer be watched from this machine
└── Interrupted             130: stopped by the user
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path

MASK = "<SECRET>"
MAX_MESSAGE = 20_000  # characters; a part may be from a damaged file
# The user information of an address, in which a token may be given as the user name, begins after one of these, or with
# a word such as user:password. urllib3 names the part after a / without the rest.
_USER_START = re.compile(r"""://|url: /|(?:^|(?<=[\s'"=(,]))(?=[^\s'"=(,:/@]*:[^\s/])""")
_USER_END = re.compile(rf"(?<!{MASK})@(?!sha256:)")  # an image's digest is no host
_NEXT_ADDRESS = re.compile(r"(\s(?=\S*://)|\n)")
# Of a value that should be [name=]scheme://user@host: what is before the last @, and before that, what is shown.
_ADDRESS_USER = re.compile(r"(?s)\A((?:[^\s:/@=]+=)?[A-Za-z][A-Za-z0-9+.-]*://)?(?!/(?!/)).*@(?!sha256:)")
# Of an address but a file's, a fragment without fields. One that begins with / is a place in MLflow's or KFP's page.
_FRAGMENT = re.compile(r"(?<!file)(://[^\s#]*#)[^/=&][^=]*$")
# What else may hold a secret in a text, each with what is shown before the mask.
_SECRETS = (
    # The value of each field in a path, a query or a fragment, but for a few that are no secrets.
    re.compile(r"""([?&#;](?!\w*timeout=|sslmode=|charset=)[^\s=&#?/]+=)[^\s&#'"<>)\]},]+"""),
    # Headers with credentials, and the password of a connection string.
    re.compile(r"""(?i)\b((?:proxy-)?authorization['"]?\s*[:=]\s*['"]?)[^'"\r\n]+"""),
    re.compile(r"(?i)\b(bearer\s+)[\w.~+/=-]{8,}"),
    re.compile(r"""(?i)\b((?:set-)?cookie['"]?\s*[:=]\s*['"]?)[^'"\r\n]+"""),
    re.compile(r"""(?i)\b((?:password|passwd|pwd)['"]?\s*[:=]\s*)(?:'[^']*'|"[^"]*"|[^\s'",;&]+)"""),
)
_MAY_HOLD = re.compile(r"[@=:?]|(?i:bearer)")  # a text without any of these matches no pattern; most messages do not
# A URL without what ends a sentence, and a part of its query without a name. Two patterns, each in linear time, because
# one would try every way to divide the text.
_URL = re.compile(r"""://[^\s#'"]*[^\s#'",)]""")
_UNNAMED = re.compile(r"([?&])[^=&?]+(?=[&?]|$)")
_SECRET_NAME = re.compile(r"(TOKEN|PASSWORD|SECRET_KEY|ACCESS_KEY|COOKIE)$")
_MIN_SECRET = 8  # characters; a shorter value may be a part of other words
_of_file: dict[str, str] = {}  # variables of the settings' file


def mask_also(variables: Mapping[str, str]) -> None:
    """Let `mask_url` mask the secrets of these variables as it masks those of the environment."""
    _of_file.update(variables)


def mask_url(text: str) -> str:
    """Return `text` with the credentials of URLs, headers, connection strings, environment and `.env` masked.

    The user information of an address is masked up to the last @ before the next URL or the line's end, because some
    write a password as it is. So more than a password may be hidden.
    """
    if _MAY_HOLD.search(text):
        text = _mask_forms(text)
    for variables in (os.environ, _of_file):
        for name in filter(_SECRET_NAME.search, list(variables)):  # another thread may change them
            if len(value := variables.get(name, "")) >= _MIN_SECRET:
                text = text.replace(value, MASK)
    return text


def _mask_forms(text: str) -> str:
    text = "".join(map(_mask_user, _NEXT_ADDRESS.split(text)))
    for pattern in _SECRETS:
        text = pattern.sub(rf"\1{MASK}", text)
    return _URL.sub(lambda url: _UNNAMED.sub(rf"\1{MASK}", url[0]), text)


def mask_address(value: str) -> str:
    """Return a value that should be an address, masked as by `mask_url`, and between its scheme and its last @.

    Its fragment is masked, too; in other texts, it is mostly a section of a page of documentation.
    """
    return mask_url(_FRAGMENT.sub(rf"\1{MASK}", _ADDRESS_USER.sub(rf"\1{MASK}@", value)))


def _mask_user(part: str) -> str:
    ends = [end.start() for end in _USER_END.finditer(part)]
    start = _USER_START.search(part, 0, ends[-1]) if ends else None
    return f"{part[: start.end()]}{MASK}{part[ends[-1] :]}" if start else part


def printable(text: str) -> str:
    """Return `text` without what a terminal would act on, at most MAX_MESSAGE characters of it."""
    text = text if len(text) <= MAX_MESSAGE else f"{text[:MAX_MESSAGE]}…"
    return (
        text
        if text.isprintable()
        else "".join(c if c in "\n\t" or is_printable(c) else "\N{REPLACEMENT CHARACTER}" for c in text)
    )


def one_line(text: str) -> str:
    """Return `text`, such as a file's name, as `printable` does, but also without line breaks and tabs."""
    return printable(re.sub(r"[\n\t]", "\N{REPLACEMENT CHARACTER}", text))


def is_printable(text: str) -> bool:
    """Return whether a terminal shows all characters: also a narrow space, as names of macOS' screenshots have it."""
    return text.isprintable() or all(c.isprintable() or unicodedata.category(c) == "Zs" for c in text)


class DigitsError(Exception):
    """The base of all errors.

    `message` states what failed and why. `remedy` is what to try next, as a sentence or a command, or ''. The
    credentials of URLs in them are masked, and characters that a terminal would act on are replaced, because a part may
    come from a server. `exit_code` is the exit code of the command. `partial` has the answers before the error, which
    --json prints with it.
    """

    exit_code = 1

    def __init__(self, message: str, *, remedy: str = "") -> None:
        self.message, self.remedy = (mask_url(printable(text)) for text in (message, remedy))
        self.partial: dict[str, object] = {}
        super().__init__(self.message)

    def __str__(self) -> str:
        return f"{self.message}\n  try: {self.remedy}" if self.remedy else self.message


class UsageError(DigitsError):
    """The request or a setting is invalid."""

    exit_code = 2


class MissingError(DigitsError):
    """Something required is absent."""

    exit_code = 3


class Unavailable(MissingError):
    """A server did not answer, or a file was locked. The same request may succeed later."""


class StoreUnreachable(Unavailable):
    """The object store did not answer in time."""


class DataError(DigitsError):
    """A data set is damaged or not the expected one."""


class StoreError(DigitsError):
    """The object store refused a request."""


class ObjectMissing(StoreError):
    """There is no object under that key."""


class ObjectRefused(StoreError):
    """An object's key is not a plain relative path, or its content is too large."""


class DigestMismatch(StoreError):
    """An object's content does not have the expected digest."""


class ReleaseError(DigitsError):
    """A release is missing, incomplete or damaged."""


class StepFailed(DigitsError):
    """A pipeline step failed, or the engine outside of the steps (''), for example after the last one."""

    def __init__(self, step: str, cause: str, *, log: Path | None = None, remedy: str = "") -> None:
        where = f" (log: {log})" if log else ""
        super().__init__(f"{f'step {step}' if step else 'the run'} failed: {cause}{where}", remedy=remedy)
        self.step, self.cause, self.log = step, cause, log


class EndpointError(DigitsError):
    """The endpoint is not reachable or not ready, or its answer is wrong."""


class RunContinues(DigitsError):
    """The run continues in its cluster and may succeed, but can no longer be watched from this machine."""

    exit_code = 4


class Interrupted(DigitsError):
    """The user stopped the run."""

    exit_code = 130
