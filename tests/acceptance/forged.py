"""Change, cut, forge and swap stored backups, and see that restoring refuses each of them.

    python -m tests.acceptance.forged --each 200 --whole 50
    python -m tests.acceptance.forged hostile

The first kind flips bits and cuts tails of archives and flips bits of records (``--each`` times), puts other tenants'
backups in the place of a user's and records that no known key signed (``--whole`` times). ``hostile`` opens archives
that were made to hurt whoever reads them, each in a process of its own, and tells the time and the memory.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import compose
from bench.world import environ, folder, progress
from settings import Settings
from tenancy.archive.backup_store import Place
from tenancy.archive.records import sealed
from tenancy.catalog.backups import Backup
from tenancy.credentials.signing import SigningKeys, generate_signing_key
from tenancy.errors import ArchiveDamagedError, ArchiveError, BackupNotFoundError
from tests.support import hostile
from tests.support.applications import add_task, add_tenants, in_child, titles
from tests.support.recovery import backup_keys
from tests.tenancy.archive.test_hostile import verify

SOON_S = 5.0
MEMORY_MIB = 64.0


@dataclass
class Report:
    """Count what was tried and what was refused; ``accepted`` names what was not."""

    tried: dict[str, int] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    accepted: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        return not self.accepted and self.tried == self.refused


class Scene:
    """Hold two users, of whom the first has a backup that is forged."""

    def __init__(self, place: Path) -> None:
        self.settings = Settings.load(environ(place, **backup_keys(place)), dotenv=None)
        self.parts = compose.build(self.settings)
        self.manager = self.parts.manager
        self.manager.prepare_catalog()
        self.ada, self.eve = add_tenants(self.parts, 2)
        for number in range(50):
            add_task(self.manager, self.ada, f"mine {number}")
        add_task(self.manager, self.eve, "theirs")
        self.backup, self.theirs = self.manager.backups.create(self.ada), self.manager.backups.create(self.eve)
        self.before = titles(self.manager, self.ada)
        self.report = Report()

    def file(self, backup: Backup, suffix: str) -> Path:
        place = Place(backup.id, backup.tenant_id)
        return Path(self.settings.backup_url) / place.key(suffix)

    def expect_refusal(self, what: str, how: str) -> None:
        """Restore, and count whether that was refused and left the user's rows alone."""
        self.report.tried[what] = self.report.tried.get(what, 0) + 1
        try:
            self.manager.restores.restore(self.ada, self.backup.id)
        except (ArchiveError, BackupNotFoundError):
            if titles(self.manager, self.ada) == self.before:
                self.report.refused[what] = self.report.refused.get(what, 0) + 1
                return
        self.report.accepted.append(f"{what}: {how}")

    @contextmanager
    def changed(self, path: Path, content: bytes) -> Iterator[None]:
        """Let a file have another content for the block."""
        whole = path.read_bytes()
        path.write_bytes(content)
        try:
            yield
        finally:
            path.write_bytes(whole)


def run(each: int, whole: int, place: Path) -> Report:
    """Forge backups in many ways; ``each`` says how often for bits and tails, ``whole`` for whole files."""
    scene, dice = Scene(place), random.Random(14)
    try:
        for name, suffix in (("bits of an archive", ".age"), ("bits of a record", ".json")):
            progress(f"{each} flipped {name}")
            _flip(scene, dice, name, suffix, each)
        progress(f"{each} cut tails")
        _cut(scene, dice, each)
        progress(f"{whole} foreign and {whole} unsigned")
        for number in range(whole):
            _foreign(scene, number)
            _unsigned(scene, number)
        assert scene.manager.restores.restore(scene.ada, scene.backup.id).rows > 0, "the true one is taken"
    finally:
        scene.parts.close()
    return scene.report


def _flip(scene: Scene, dice: random.Random, what: str, suffix: str, times: int) -> None:
    path = scene.file(scene.backup, suffix)
    content = path.read_bytes()
    for _ in range(times):
        forged, place = bytearray(content), dice.randrange(len(content) * 8)
        forged[place // 8] ^= 1 << place % 8
        with scene.changed(path, bytes(forged)):
            scene.expect_refusal(what, f"bit {place}")


def _cut(scene: Scene, dice: random.Random, times: int) -> None:
    path = scene.file(scene.backup, ".age")
    content = path.read_bytes()
    for number in range(times):
        kept = len(content) - 1 if number == 0 else dice.randrange(len(content))
        with scene.changed(path, content[:kept]):
            scene.expect_refusal("cut tails", f"{kept} of {len(content)} bytes")


def _foreign(scene: Scene, number: int) -> None:
    """Put another tenant's archive, or both its files, in the place of the user's."""
    theirs = {suffix: scene.file(scene.theirs, suffix).read_bytes() for suffix in (".age", ".json")}
    with scene.changed(scene.file(scene.backup, ".age"), theirs[".age"]):
        if number % 2:
            scene.expect_refusal("another tenant's", "archive")
            return
        with scene.changed(scene.file(scene.backup, ".json"), theirs[".json"]):
            scene.expect_refusal("another tenant's", "archive and record")


def _unsigned(scene: Scene, number: int) -> None:
    """Write a record that says what it should, signed by nobody or by a key that nobody knows."""
    record = scene.manager.backups.record(scene.backup)
    stranger = SigningKeys((generate_signing_key(),))
    forged = sealed(replace(record, epoch=record.epoch + number), stranger)
    if number % 2:
        forged = forged.split(b"\n")[0] + b"\n"
    with scene.changed(scene.file(scene.backup, ".json"), forged):
        scene.expect_refusal("unsigned or wrongly signed", f"case {number}")


@dataclass(frozen=True)
class Refusal:
    """Say how a hostile archive was refused: processor seconds, and MiB that the process grew by."""

    case: str
    refused: bool
    seconds: float
    mib: float


def refuse(case: str, archive: bytes) -> Refusal:
    """Open one archive in a process of its own."""

    def work() -> tuple[bool, float, float]:
        with suppress(ArchiveDamagedError):
            verify(hostile.sealed(hostile.one_table(hostile.GOOD)))  # everything is loaded
        before, begun = _peak(), time.process_time()
        try:
            verify(archive)
        except ArchiveDamagedError:
            return True, time.process_time() - begun, _peak() - before
        return False, time.process_time() - begun, _peak() - before

    return Refusal(case, *in_child(work))


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def hostiles(of: Callable[[str], bool] = lambda case: True) -> list[Refusal]:
    """Open each hostile archive, and tell how it was refused."""
    found = []
    for case in filter(of, hostile.CASES):
        found.append(refuse(case, hostile.sealed(hostile.CASES[case]())))
        progress(f"{found[-1].seconds:5.2f} s {found[-1].mib:6.1f} MiB {case}")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", nargs="?", choices=("forged", "hostile"), default="forged")
    parser.add_argument("--each", type=int, default=200)
    parser.add_argument("--whole", type=int, default=50)
    given = parser.parse_args()
    if given.kind == "hostile":
        found = hostiles()
        bad = [each for each in found if not each.refused or each.seconds > SOON_S or each.mib > MEMORY_MIB]
        slowest, largest = max(each.seconds for each in found), max(each.mib for each in found)
        told = {"cases": len(found), "seconds": round(slowest, 2), "mib": round(largest, 1)}
        sys.stdout.write(f"{json.dumps(told)}\n")
        for each in bad:
            progress(f"not refused as it should be: {each}")
        return 1 if bad else 0
    with folder() as place:
        report = run(given.each, given.whole, place)
    sys.stdout.write(f"{json.dumps(asdict(report))}\n")
    return 0 if report.clean else 1


if __name__ == "__main__":
    sys.exit(main())
