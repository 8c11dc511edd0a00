"""The credential plugin of a kubeconfig (`users[].user.exec`), a program of the user that returns a token.

The library runs it without a deadline, and sends requests without credentials if it fails.
"""

from __future__ import annotations

import functools
import subprocess
import types
from pathlib import Path
from typing import Any

from backends.programs import kill_whole
from digits.errors import MissingError

PLUGIN_SECONDS = 200.0  # a person may have to log in, for which kubelogin waits 180 s


class PluginError(BaseException):
    """A plugin failed, or did not end in time. It is no Exception, because the library only logs these."""

    def error(self, kubeconfig: Path | None) -> MissingError:
        """Return the error of digits."""
        return MissingError(str(self), remedy=f"kubectl --kubeconfig={kubeconfig} get pods, which runs the plugin, too")


class _Program(subprocess.Popen[str]):
    def communicate(self, *_: object, **__: object) -> tuple[str, str]:
        """See Popen. After PLUGIN_SECONDS the program and its children are killed."""
        try:
            stdout, stderr = super().communicate(timeout=PLUGIN_SECONDS)
        except subprocess.TimeoutExpired:
            kill_whole(self)
            raise PluginError(f"did not end within {PLUGIN_SECONDS:g} s") from None
        return stdout, stderr or ""  # None on a terminal, which shows it; the library expects a text


@functools.cache
def limit_plugins() -> None:
    """Give the plugins that the library runs a deadline, and raise PluginError if one fails."""
    from kubernetes.config import ConfigException, exec_provider, kube_config

    class Provider(exec_provider.ExecProvider):  # type: ignore[misc] # the library has no types
        def run(self, previous_response: Any = None) -> Any:
            try:
                return super().run(previous_response)
            except (ConfigException, OSError, TypeError, PluginError) as exc:  # TypeError: not a JSON object
                reason = str(exc).removeprefix("exec: ")
                raise PluginError(f"the kubeconfig's credential plugin {self.args[0]} failed: {reason}") from exc

    exec_provider.subprocess = types.SimpleNamespace(Popen=_Program, PIPE=subprocess.PIPE)
    kube_config.ExecProvider = Provider
