"""Execute the notebooks of docs/notebooks in order: `python dev/notebooks.py [--write] [NAME ...]`.

Without `--write` the outputs are discarded, and only errors count. All notebooks share one home in a temporary folder
instead of DIGITS_HOME, so that later notebooks find only the results of earlier ones.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "notebooks"
CELL_SECONDS = 600


def execute(path: Path, *, write: bool) -> float:
    """Run all cells of a notebook. Return the seconds that it took. Raises CellExecutionError if a cell fails."""
    started = time.monotonic()
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=CELL_SECONDS, kernel_name="python3", record_timing=False).execute()
    if write:
        # Keep only what a reader sees, without versions of the machine.
        notebook.metadata = {"kernelspec": notebook.metadata["kernelspec"], "language_info": {"name": "python"}}
        nbformat.write(notebook, path)
    return time.monotonic() - started


def main(arguments: list[str]) -> None:
    """Execute the named notebooks, or all of them."""
    names = [argument for argument in arguments if not argument.startswith("-")]
    with tempfile.TemporaryDirectory() as home:
        os.environ["DIGITS_HOME"] = home
        os.environ["PYTHONPATH"] = os.pathsep.join(
            filter(None, [str(FOLDER.parent.parent), os.environ.get("PYTHONPATH", "")])
        )
        try:
            for path in sorted(FOLDER.glob("*.ipynb")):
                if not names or path.stem in names:
                    print(f"{path.stem:<14} {execute(path, write='--write' in arguments):6.1f} s", flush=True)
        finally:
            subprocess.run([sys.executable, "-m", "digits", "clean", "--yes"], check=False, timeout=120)


if __name__ == "__main__":
    main(sys.argv[1:])
