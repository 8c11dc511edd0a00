"""KServe's ModelServer with our model in it, our application in front of it, and an address of our choice.

Import this late and only in the predictor: importing kserve reads sys.argv and takes over a second.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from digits.serving.options import Options, check_ports
from digits.serving.slot import load

if TYPE_CHECKING:
    from digits.settings import Settings


def run(options: Options, settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; requests in flight are answered first.

    Raises:
        ReleaseError: `model_dir` holds no intact release.
        MissingError: a port is taken.
    """
    check_ports(options)
    if options.model_dir:
        load(options.model_dir)  # say what is wrong before a server is up
    sys.argv = sys.argv[:1]
    from digits.serving import server

    server.serve(options, settings)
