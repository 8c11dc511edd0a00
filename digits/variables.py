"""The variables of the settings: reading them, and the checks of their values."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from digits.errors import UsageError, is_printable, mask_address, mask_also
from digits.files import real_path, user_path

# Variables of other projects that change what Python and our libraries do (PYTHONINSPECT, KERAS_BACKEND, TF_XLA_FLAGS,
# MLFLOW_REGISTRY_URI, …), and those of the same names that only state where something is.
_CHANGES_RESULTS = re.compile(
    r"PYTHON|KERAS_|TF_|XLA_|NVIDIA_TF32|MLFLOW_|OTEL_|PROTOCOL_BUFFERS_|_?KFP_|CLUSTER_SPEC|VERTEX_AI_"
)
_HARMLESS = re.compile(
    r"PYTHON(PATH|HOME|USERBASE|NOUSERSITE|DONTWRITEBYTECODE|PYCACHEPREFIX|UNBUFFERED)|"
    r"TF_(CPP_MIN_LOG_LEVEL|FORCE_GPU_ALLOW_GROWTH|GPU_ALLOCATOR)|MLFLOW_(TRACKING|HTTP_REQUEST|S3|GCS)_\w+"
)
removed: dict[str, str] = {}  # by `remove_unused`


def is_passed(name: str) -> bool:
    """Return whether a variable is passed on to our programs in Python, and to the libraries of a command."""
    return not _CHANGES_RESULTS.match(name) or bool(_HARMLESS.fullmatch(name))


def remove_unused() -> None:
    """Remove the variables from this process that are not passed on, before a library reads them."""
    removed.update({name: os.environ.pop(name) for name in list(os.environ) if not is_passed(name)})


def read_variables(environ: Mapping[str, str] | None, dotenv: Path | None) -> dict[str, str]:
    """Return the variables of the file, overridden by those of the environment."""
    variables = dict(os.environ if environ is None else environ)
    if dotenv is not None and dotenv.exists() and not dotenv.is_dir():  # a folder .env is a virtual environment
        from dotenv import dotenv_values

        if not dotenv.is_file():  # it is read more than once, and a pipe could be waited for without a limit
            raise UsageError(f"{dotenv}: expected a regular file, got a pipe or device", remedy="export the variables")

        try:
            lines = dotenv_values(dotenv)
        except (OSError, UnicodeError) as exc:
            raise UsageError(
                f"{dotenv}: expected a readable text file in UTF-8: {exc}", remedy="correct it, or remove it"
            ) from exc
        of_file = {name: value for name, value in lines.items() if value is not None}
        mask_also(of_file)
        variables = of_file | variables
    return variables


def check_address(variable: str, value: str) -> None:
    """Raise UsageError unless `value` can be parsed as an address. That of a web server needs a host."""
    try:
        parts = urlsplit(value)
        if parts.scheme in {"http", "https"} and not (parts.hostname and _has_port(parts)):
            raise ValueError("expected http://host:port, with a port from 1 to 65535 if there is one")
        if "://" in value and not value.isprintable():
            raise ValueError("it has a line break or another character that is not printable")
    except ValueError as exc:
        # The value is not shown, because its password cannot be masked if it cannot be parsed.
        raise UsageError(f"{variable}: expected an address, got one that cannot be parsed: {exc}") from None


def _has_port(parts: SplitResult) -> bool:
    """Return whether the port of an address is one, or is missing. Its error would show a password before a `/`."""
    try:
        return parts.port != 0
    except ValueError:
        return False


def check_home(place: Path) -> Path:
    r"""Return DIGITS_HOME without links. Raise UsageError if it cannot be used.

    A ~ that cannot be replaced would create a folder named ~ in the working directory.
    TensorFlow reads * ? [ ] as patterns and \ as /, and so writes and looks elsewhere; MLflow decodes % twice, and
    creates the folder that the encoded address of its database would name.
    """
    expanded = user_path(place, "DIGITS_HOME")
    if str(expanded).startswith("~"):
        raise UsageError(
            f"DIGITS_HOME: expected a folder, got {str(expanded)!r}, whose user has no home directory here",
            remedy="set HOME, or DIGITS_HOME to a folder",
        )
    home = real_path(expanded)
    if not is_printable(str(home)):
        raise UsageError(
            f"DIGITS_HOME: expected a path of printable characters, got {str(home)!r}",
            remedy="set DIGITS_HOME to another folder",
        )
    if found := sorted(set(str(home)) & set("%?#*[]\\")):
        raise UsageError(
            f"DIGITS_HOME: expected a path without {' '.join(found)}, where TensorFlow or MLflow would use another, "
            f"got {str(home)!r}",
            remedy="set DIGITS_HOME to another folder",
        )
    return home


def check_tracking_uri(value: str, database: str) -> None:
    """Raise UsageError unless MLFLOW_TRACKING_URI is empty, or MLflow opens it from any folder.

    `database` is the default, for the remedy.
    """
    scheme, problem = urlsplit(value).scheme, ""
    if value and scheme in {"", "file"}:
        problem = "expected a server or sqlite:////file, because MLflow 3 refuses folders"
    elif scheme == "sqlite" and not value.startswith("sqlite:////"):
        problem = "expected an absolute path (four slashes), because steps run in other folders"
    if problem:
        raise UsageError(
            f"MLFLOW_TRACKING_URI: {problem}, got {mask_address(value)!r}", remedy=f"MLFLOW_TRACKING_URI={database}"
        )


def sqlite_file(address: str) -> Path | None:
    """Return the file of a `sqlite:///file` address, which may have % escapes; None for other addresses."""
    prefix = "sqlite:///"
    return Path(unquote(address.removeprefix(prefix).split("?")[0])) if address.startswith(prefix) else None


def check_kubernetes_name(variable: str, value: str) -> None:
    """Raise UsageError unless `value` is a name that can be part of the API server's paths, or empty."""
    if not re.fullmatch(r"([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?)?", value):
        raise UsageError(f"{variable}: expected the name of a Kubernetes object such as digits-1, got {value!r}")


def check_model_name(variable: str, value: str) -> None:
    """Raise UsageError unless `value` can name a registered model, and be part of a filter of MLflow's searches."""
    # MLflow refuses what could be the name of a folder above.
    if not re.fullmatch(r"(?!\.$|\.\.)[^/:'\"\\`]{1,250}", value) or not value.isprintable():
        raise UsageError(
            f"{variable}: expected a name of 1 to 250 printable characters without / : \\ and quotes that is not . and "
            f"does not begin with .., got {value!r}"
        )


def convert(name: str, raw: str, kind: type[Any]) -> Any:
    """Return the text of a variable as a value of a type. Raises UsageError."""
    if kind is int and not re.fullmatch("-?[0-9]{1,18}", raw):  # int() also accepts 80_80
        raise UsageError(f"{name}: expected a whole number, got {raw!r}")
    return kind(raw)
