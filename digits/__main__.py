"""Runs the `digits` command as `python -m digits`."""

from digits.cli import main

if __name__ == "__main__":
    main()
