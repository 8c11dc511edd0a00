"""Backends run the pipeline on an engine. They implement one contract, `backends.base.Backend`."""

from __future__ import annotations

import pkgutil
from typing import TYPE_CHECKING, cast

from digits.settings import BACKENDS

if TYPE_CHECKING:
    from backends.base import Backend
    from digits.settings import Settings


def open_backend(settings: Settings) -> Backend:
    """Return the backend that the settings name, imported from `digits.settings.BACKENDS`."""
    return cast("Backend", pkgutil.resolve_name(BACKENDS[settings.backend])(settings))
