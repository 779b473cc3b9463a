"""Verify each archive of the hostile set in a process of its own: refused within 5 s and 64 MiB, or it is a failure.

    python -m tests.acceptance.hostile [--case NAME]

``tests/support/hostile.py`` has the set. Time and memory count from the moment when the archive is opened; the process
has all modules loaded then.
"""

from __future__ import annotations

import argparse
import io
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench.measure import peak_bytes
from tenancy.archive.encryption import Identities
from tenancy.archive.load import reading
from tenancy.errors import ArchiveDamagedError
from tests.support import archives, hostile

MOST_S, MOST_MIB = 5.0, 64.0
MIB = 2**20


@dataclass(frozen=True)
class Verdict:
    """Say what became of one archive: the code of the error that refused it, or "accepted"."""

    case: str
    code: str
    seconds: float
    mib: float
    archive_mib: float

    @property
    def good(self) -> bool:
        return self.code.startswith("archive_") and self.seconds <= MOST_S and self.mib <= MOST_MIB


def judged(case: str, folder: Path) -> Verdict:
    """Make an archive here, and have another process verify it."""
    file = folder / "hostile.age"
    file.write_bytes(hostile.sealed(hostile.CASES[case]()))
    (folder / "identity").write_text(archives.keys()[1])
    asked = [sys.executable, "-m", __spec__.name, "--verify", str(file), "--identity", str(folder / "identity")]
    done = subprocess.run(asked, capture_output=True, text=True, check=True, timeout=120)
    return Verdict(case=case, archive_mib=round(file.stat().st_size / MIB, 2), **json.loads(done.stdout))


def verify(file: Path, secret: str) -> dict[str, object]:
    """Verify an archive; give the error's code, the seconds, and the MiB above what this process had before."""
    with reading(io.BytesIO(hostile.sealed(hostile.one_table(hostile.GOOD))), archives.identities()) as found:
        found.verify()  # once, so that all modules are loaded
    identities = Identities.of([secret])
    idle, begun = psutil.Process().memory_info().rss, time.perf_counter()
    try:
        with file.open("rb") as source, reading(source, identities) as found:
            found.verify()
        code = "accepted"
    except ArchiveDamagedError as error:
        code = error.code
    return {"code": code, "seconds": time.perf_counter() - begun, "mib": max(0.0, (peak_bytes() - idle) / MIB)}


def run(cases: Iterable[str]) -> list[Verdict]:
    with tempfile.TemporaryDirectory() as folder:
        found = []
        for case in cases:
            found.append(judged(case, Path(folder)))
            _say(_line(found[-1]))
        return found


def _line(verdict: Verdict) -> str:
    bad = "" if verdict.good else "  FAILED"
    figures = f"{verdict.seconds:6.2f} s {verdict.mib:6.1f} MiB  of {verdict.archive_mib:5.2f} MiB"
    return f"{verdict.case:45} {verdict.code:18} {figures}{bad}"


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", action="append", choices=hostile.CASES, metavar="NAME")
    parser.add_argument("--verify", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--identity", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.verify is not None:
        _say(json.dumps(verify(asked.verify, asked.identity.read_text())))
        return 0
    found = run(asked.case or hostile.CASES)
    slowest, largest = max(each.seconds for each in found), max(each.mib for each in found)
    failed = [each for each in found if not each.good]
    _say(f"{len(found)} archives, {len(failed)} failed; at most {slowest:.2f} s and {largest:.1f} MiB")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
