"""Runs the `digits` command as `python -m digits`."""

import os
import sys

if __name__ == "__main__":
    if not sys.flags.safe_path:  # then a file of the working directory, such as token.py, would replace a module
        del sys.path[0]
        root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120 # pathlib may be replaced
        if root not in sys.path:
            sys.path.append(root)
    from digits.cli import main

    main()
