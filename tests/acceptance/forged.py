"""Change, cut, forge and swap stored backups, and see that restoring refuses each of them.

    python -m tests.acceptance.forged --each 200 --whole 50

It flips bits and cuts tails of archives and flips bits of records (``--each`` times), and puts other tenants' backups
in the place of a user's, and archives and records that no known key signed (``--whole`` times). What was flipped or cut
in an archive must be found without its record too. ``hostile.py`` opens archives that were made to hurt their readers.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import compose
from bench.world import environ, folder, progress
from settings import Settings
from tenancy.archive.backup_store import Place
from tenancy.archive.encryption import encrypt
from tenancy.archive.load import reading
from tenancy.archive.records import sealed
from tenancy.catalog.backups import Backup
from tenancy.credentials.signing import SigningKeys, generate_signing_key
from tenancy.errors import ArchiveError, BackupNotFoundError
from tests.support import hostile
from tests.support.applications import add_task, add_tenants, titles
from tests.support.recovery import backup_keys


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

    def expect_unread(self, what: str, how: str, archive: bytes) -> None:
        """Read an archive without a look at its record, and count whether that was refused."""
        what = f"{what}, without the record"
        self.report.tried[what] = self.report.tried.get(what, 0) + 1
        try:
            with reading(io.BytesIO(archive), self.manager.services.backups.identities()) as found:
                found.verify()
        except ArchiveError:
            self.report.refused[what] = self.report.refused.get(what, 0) + 1
        else:
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
        if suffix == ".age":
            scene.expect_unread(what, f"bit {place}", bytes(forged))


def _cut(scene: Scene, dice: random.Random, times: int) -> None:
    path = scene.file(scene.backup, ".age")
    content = path.read_bytes()
    for number in range(times):
        kept = len(content) - 1 if number == 0 else dice.randrange(len(content))
        with scene.changed(path, content[:kept]):
            scene.expect_refusal("cut tails", f"{kept} of {len(content)} bytes")
        scene.expect_unread("cut tails", f"{kept} of {len(content)} bytes", content[:kept])


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
    """Write a record that says what it should, signed by nobody or by a key that nobody knows.

    Every other time the archive is a forger's too, made for the same public keys.
    """
    record = scene.manager.backups.record(scene.backup)
    archive, path = scene.file(scene.backup, ".age").read_bytes(), scene.file(scene.backup, ".json")
    if number % 2:
        archive = _forged(scene, archive)
        record = replace(record, size_bytes=len(archive), checksum=hashlib.sha256(archive).hexdigest())
    signed = sealed(replace(record, epoch=record.epoch + number), SigningKeys((generate_signing_key(),)))
    line, seal = path.read_bytes().splitlines(keepends=True)
    records = {
        "by a stranger": signed,
        "by nobody": signed.splitlines(keepends=True)[0],
        "by ours, for another record": signed.splitlines(keepends=True)[0] + seal,
        "empty": b"",
        "by ours, with a forged archive": line + seal,
    }
    how = list(records)[number // 2 % len(records)]
    if how == "by ours, with a forged archive":
        archive = _forged(scene, scene.file(scene.backup, ".age").read_bytes())
    with scene.changed(scene.file(scene.backup, ".age"), archive), scene.changed(path, records[how]):
        scene.expect_refusal("unsigned or wrongly signed", f"{how}, case {number}")


def _forged(scene: Scene, true: bytes) -> bytes:
    """Make an archive for the same keys that says to be this user's, with a table of the forger's."""
    settings, sink = scene.manager.services.backups, io.BytesIO()
    with reading(io.BytesIO(true), settings.identities()) as found:
        head = found.header.line()
    forged = hostile.packed(hostile.archive([(hostile.table(), [hostile.GOOD])], head=head))
    encrypt([forged], sink, settings.encrypt_to())
    return sink.getvalue()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--each", type=int, default=200)
    parser.add_argument("--whole", type=int, default=50)
    given = parser.parse_args()
    with folder() as place:
        report = run(given.each, given.whole, place)
    sys.stdout.write(f"{json.dumps(asdict(report))}\n")
    return 0 if report.clean else 1


if __name__ == "__main__":
    sys.exit(main())
