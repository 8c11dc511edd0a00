"""The kinds of object store, by the scheme of their addresses. All that depends on the kind asks here.

It imports nothing of a store: the settings are checked by it, and `digits --help` must answer at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Scheme:
    """A kind of object store.

    Attributes:
        form: what an address looks like, for messages.
        opener: "module:function", the function `(Settings, uri) -> ObjectStore`; imported when a store is opened.
        remote: whether an address means the same place from a container, a pod and another machine.
        needs: the variables of the settings without which it cannot be opened.
        takes: the variables that it reads where they are set.
        secrets: {key in the Kubernetes Secret: variable}, for those that are secret; the others come from a ConfigMap.
    """

    form: str
    opener: str
    remote: bool = True
    needs: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()
    secrets: Mapping[str, str] = field(default_factory=dict)

    @property
    def variables(self) -> tuple[str, ...]:
        """Those of the settings by which it is reached."""
        return (*self.needs, *self.takes)


SCHEMES = {
    "file": Scheme("file:///folder", "digits.store.folder:open_folder", remote=False),
    "s3": Scheme(
        "s3://bucket",
        "digits.store.s3:open_bucket",
        needs=("MINIO_ENDPOINT", "MINIO_ACCESS_KEY", "MINIO_SECRET_KEY"),
        takes=("MINIO_REGION", "MINIO_SESSION_TOKEN"),
        secrets={
            "AWS_ACCESS_KEY_ID": "MINIO_ACCESS_KEY",
            "AWS_SECRET_ACCESS_KEY": "MINIO_SECRET_KEY",
            "AWS_SESSION_TOKEN": "MINIO_SESSION_TOKEN",
        },
    ),
}
FORMS = " or ".join(scheme.form for scheme in SCHEMES.values())


def scheme_of(uri: str) -> Scheme | None:
    """The kind of store that an address is one of; None for another address."""
    try:
        return SCHEMES.get(urlsplit(uri).scheme)
    except ValueError:
        return None


def is_remote(uri: str) -> bool:
    """Whether an address is that of a store which containers and other machines reach too."""
    scheme = scheme_of(uri)
    return scheme is not None and scheme.remote


def variables_of(uri: str) -> tuple[str, ...]:
    """The variables of the settings by which the store of that address is reached."""
    scheme = scheme_of(uri)
    return scheme.variables if scheme else ()
