"""Asks for known vulnerabilities of all that is pinned: `python dev/audit.py`.

An index that knows of no advisories answers as if there were none. So first it is asked about a version that is known
to have some; if it does not say so, the audit did not take place, and that is what is printed.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
KNOWN = "urllib3==1.24.1\n"  # CVE-2019-11324 and others
SECONDS = 600


def vulnerable(requirements: Path, *options: str) -> dict[str, list[str]] | None:
    """Return the vulnerabilities of pinned packages; None, with the reason on stderr, if no service answers."""
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder, "answer.json")
        command = ["pip-audit", "--requirement", str(requirements), "--disable-pip", "--progress-spinner=off"]
        command += ["--timeout=10", "--format=json", f"--output={answer}", *options]
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
        if not answer.exists():
            print(done.stderr, file=sys.stderr)
            return None
        found = json.loads(answer.read_text())["dependencies"]
    return {f"{d['name']} {d['version']}": [v["id"] for v in d["vulns"]] for d in found if d.get("vulns")}


def main() -> int:
    """Returns 1 if something pinned is vulnerable, or could not be looked up although the service answers."""
    with tempfile.TemporaryDirectory() as folder:
        known = Path(folder, "known.txt")
        known.write_text(KNOWN)
        if not vulnerable(known, "--no-deps"):
            print("NOT AUDITED: no advisory service answers from here (asked about a version known to be vulnerable)")
            return 0
    found = vulnerable(ROOT / "requirements" / "all.txt", "--require-hashes")
    if found is None:
        print("NOT AUDITED, though the advisory service answers: pip-audit says why above")
        return 1
    for package, advisories in found.items():
        print(f"{package}: {', '.join(advisories)}")
    print(f"audited requirements/all.txt: {len(found)} packages with known vulnerabilities")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
