"""`python -m digits` is the `digits` command."""

from digits.cli import main

if __name__ == "__main__":
    main()
