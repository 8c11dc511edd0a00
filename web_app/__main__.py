"""The gateway as a separate process, as its container starts it: `python -m web_app [host]`."""

from __future__ import annotations

import sys

from digits.errors import DigitsError
from digits.settings import Settings
from web_app.server import listen, serve


def main(arguments: list[str]) -> int:
    """Serve on the host `arguments[0]`, by default 127.0.0.1. Returns the exit code."""
    try:
        settings = Settings.load()
        serve(settings, listener=listen(settings, arguments[0] if arguments else "127.0.0.1"))
    except DigitsError as exc:
        sys.stderr.write(f"{exc}\n")
        return exc.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
