"""The client of MLflow's server or SQLite database, and its errors as ours."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar
from urllib.parse import unquote, urlsplit

from digits.errors import DigitsError, MissingError, Unavailable, mask_url
from digits.files import real_path, whole_file
from digits.http import tls_remedy
from digits.settings import Settings
from digits.variables import sqlite_file

if TYPE_CHECKING:
    from mlflow import MlflowClient

P = ParamSpec("P")
T = TypeVar("T")

# Variables of the credentials that MLflow's client sends to the server.
CREDENTIALS = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")
MISSING = "RESOURCE_DOES_NOT_EXIST"  # error code
# The columns of MLflow's database with addresses of files, which begin with that of the folder `artifacts_address`.
ADDRESSES = {
    "experiments": "artifact_location",
    "runs": "artifact_uri",
    "logged_models": "artifact_location",
    "model_versions": "storage_location",
}
OWNER = "digits.owner"  # tag of our experiments and registered model; what lacks it belongs to another project


class NoDatabase(MissingError):
    """MLFLOW_TRACKING_URI names a SQLite database that does not exist. Only what logs creates it."""


@contextlib.contextmanager
def connect(settings: Settings, *, create: bool = False) -> Iterator[MlflowClient]:
    """Yield a client of the MLflow that the settings name. With `create`, create the SQLite database if there is none.

    Raises:
        NoDatabase: there is no SQLite database, and not `create`.
        MissingError: MLflow failed within the block: the server does not answer, or the database is locked or of
            another version, for example. DigitsError and a lack of memory or disk (for artifacts) are not translated.
    """
    from digits.release.mlflow_library import configure, mlflow

    configure()  # because the variables of this process may have changed since the import

    try:
        if file := sqlite_file(settings.tracking_uri):
            if not (create or file.exists()):
                raise NoDatabase(
                    f"there is no MLflow database {file}", remedy="correct MLFLOW_TRACKING_URI; digits run creates it"
                )
            _create_database(file, artifacts_address(settings))
        mlflow.set_tracking_uri(settings.tracking_uri)
        mlflow.set_registry_uri(settings.tracking_uri)  # whatever MLFLOW_REGISTRY_URI is
        client = mlflow.MlflowClient(settings.tracking_uri, settings.tracking_uri)
        database = settings.home / "mlflow.db"
        if file and os.access(file, os.W_OK) and real_path(file) == real_path(database):
            _follow_home(client, database, artifacts_address(settings))
        yield client
    except DigitsError:
        raise
    except Exception as exc:
        if isinstance(exc, MemoryError) or getattr(exc, "errno", 0) in {errno.ENOSPC, errno.EDQUOT, errno.ENOMEM}:
            raise
        # Not chained, because MLflow's message may hold the password, and a traceback prints the cause too.
        raise _translate(settings.tracking_uri, exc) from None


def if_recorded(function: Callable[Concatenate[Settings, P], T]) -> Callable[Concatenate[Settings, P], T | None]:
    """Make a function return None, and do nothing, if the settings name no MLflow."""

    @functools.wraps(function)
    def wrapper(settings: Settings, /, *args: P.args, **kwargs: P.kwargs) -> T | None:
        return function(settings, *args, **kwargs) if settings.tracking_uri else None

    return wrapper


def check_connection(settings: Settings) -> None:
    """Make a request to the configured MLflow that servers before MLflow 3 refuse. Raises MissingError as `connect`."""
    with connect(settings) as client:
        client.search_logged_models(["0"], max_results=1)


def artifacts_address(settings: Settings) -> str:
    """Return the folder for the files of experiments, which MLflow would put into the working directory of a step."""
    return (settings.home / "mlartifacts").as_uri()


def artifact_folders(address: str) -> tuple[Path, ...]:
    """Return the folders of this machine in which MLflow creates those of runs and models; () for a server's."""
    path = unquote(urlsplit(address).path) if address.startswith("file:") else address
    return (Path(path), Path(path, "models")) if path.startswith("/") else ()


def _create_database(path: Path, artifacts: str) -> None:
    """Create MLflow's database whole or not at all: MLflow cannot use a database whose creation was interrupted.

    `artifacts` is the folder for MLflow's own experiment "Default".
    """
    path = real_path(path)  # because a link whose file is missing would be in the way of the new file
    if path.exists():
        if not path.is_file():
            raise OSError(f"expected a file, {path} is none")
        path.open("rb").close()  # MLflow would repeat a failure for two minutes
        return
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
    from sqlalchemy import Engine, event

    def connected(connection: Any, _: object) -> None:
        connection.execute("PRAGMA synchronous = OFF")  # else a thousand writes to the disk; `whole_file` makes one

    event.listen(Engine, "connect", connected)
    # If another process creates it at the same time, the first one is used.
    with contextlib.suppress(FileExistsError), whole_file(path, replace=False) as part:
        try:
            SqlAlchemyStore(f"sqlite:///{part.name}", artifacts)
        finally:
            event.remove(Engine, "connect", connected)
            Path(f"{part.name}-journal").unlink(missing_ok=True)


def _follow_home(client: MlflowClient, database: Path, artifacts: str) -> None:
    """Correct the addresses of files in a home's database if the home was moved or copied: MLflow's are absolute.

    The files would not be found, and new ones would be written into the former folder, or the home that was copied.
    """
    # As `_create_database` set it. The request fails for a damaged database, or that of another version.
    default = client.get_experiment_by_name("Default")  # None if the user has deleted it for good
    former = default.artifact_location.removesuffix("/0") if default else artifacts
    here, there = artifact_folders(artifacts), artifact_folders(former)
    if former == artifacts or not there or there[0].name != here[0].name or _is_same(there[0], here[0]):
        return
    if database.is_symlink() and there[0].exists():  # the other home may use the same database
        return
    with contextlib.closing(sqlite3.connect(database, timeout=20)) as connection, connection:
        for table, column in ADDRESSES.items():
            connection.execute(
                # Only names of ours become part of the statement.
                f"UPDATE {table} SET {column} = ? || substr({column}, ?) "  # noqa: S608
                f"WHERE substr({column} || '/', 1, ?) = ?",
                (artifacts, len(former) + 1, len(former) + 1, f"{former}/"),
            )


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False


def first_line(exc: Exception) -> str:
    """Return the cause or beginning of an error's message, with credentials masked; it may hold a server's answer."""
    text = mask_url(str(exc)).strip()  # masked before it is shortened, which could cut a password in two
    line = text.splitlines()[0] if text else type(exc).__name__
    return line.rpartition("(Caused by ")[2][:200]  # of urllib3, at the end of a long line


def _translate(address: str, exc: Exception) -> MissingError:
    text = str(exc)
    if getattr(exc, "error_code", "") == "ENDPOINT_NOT_FOUND":
        return MissingError(
            f"the server at {address} is not MLflow 3, or a later one",
            remedy="upgrade it, or correct MLFLOW_TRACKING_URI, then digits run --resume",
        )
    if getattr(exc, "error_code", "") == MISSING or "Current state is deleted" in text:
        return MissingError(
            f"what this run uses in MLflow at {address} was deleted meanwhile: {first_line(exc)}",
            remedy="digits run --resume, which makes it again",
        )
    if "out-of-date database schema" in text or "Can't locate revision" in text:
        return MissingError(
            f"the MLflow database {address} was made by another version of MLflow",
            remedy=f"copy the file, then: mlflow db upgrade {address}",
        )
    if "database is locked" in text:
        return Unavailable(
            f"the MLflow database {address} is locked by another program", remedy="close it, then digits run --resume"
        )
    if "database or disk is full" in text:
        return MissingError(f"no space is left for the MLflow database {address}", remedy="free some space")
    if os.strerror(errno.ENOSPC) in text:
        return MissingError(
            f"no space is left for MLflow's files, or in {tempfile.gettempdir()} for copies of them",
            remedy="free some space, or set TMPDIR to another folder",
        )
    reason = first_line(exc)
    remedy = tls_remedy(exc, "REQUESTS_CA_BUNDLE") or "check MLFLOW_TRACKING_URI"
    if address.startswith("sqlite:"):
        remedy += "; if the file is damaged, restore it from a backup, or move it away: digits run makes another"
    return Unavailable(f"MLflow at {address} cannot be used: {reason}", remedy=remedy)
