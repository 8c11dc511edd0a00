"""Print a block of commands of the README, so that CI runs it: `python dev/readme.py demo`."""

import re
import sys
from pathlib import Path

TEXT = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
BLOCKS = dict(re.findall(r"```sh (\w+)\n(.*?)```", TEXT, re.DOTALL))

if __name__ == "__main__":
    if sys.argv[1:] and sys.argv[1] in BLOCKS:
        print(BLOCKS[sys.argv[1]], end="")
    else:
        sys.exit(f"expected one of {', '.join(BLOCKS)}")
