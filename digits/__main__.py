"""The `digits` command, also as `python -m digits`."""

import os
import sys


def main() -> None:
    """Run the command. Ctrl-C ends it without a traceback, also while its modules are being imported."""
    try:
        from digits.cli import main as command
    except KeyboardInterrupt:
        os.write(2, b"interrupted\n")
        sys.exit(130)
    command()


if __name__ == "__main__":
    if not sys.flags.safe_path:  # then a file of the working directory, such as token.py, would replace a module
        del sys.path[0]
        root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120 # pathlib may be replaced
        if root not in sys.path:
            sys.path.append(root)
    main()
