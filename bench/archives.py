"""Measure backups (P12): many small SQLite tenants, and one large database, beside what people would run instead.

The small tenants are backed up by one command: archives, encrypted and synced, signed records, rows of the catalog. The
baseline copies each file with ``sqlite3 FILE ".backup COPY"`` and compresses the copy with ``zstd``, one file after
another. The large database is on PostgreSQL; its baseline is ``pg_dump | zstd``, which encrypts nothing.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psutil
import sqlalchemy as sa

import compose
from bench.measure import AT_LEAST, AT_MOST, Figure, in_turns, median, peak_bytes, same_work
from bench.world import World, environ, progress, server_url, task, world
from repositories.schema import tasks
from settings import Settings
from tenancy.archive.encryption import Identities, Recipients, generate_identity
from tenancy.archive.export import write_archive
from tenancy.archive.format import Contents, Header
from tenancy.archive.load import reading
from tenancy.archive.tables import Schema
from tenancy.credentials.signing import generate_signing_key

ROWS = 10
MIB = 2**20


def run(small: bool = False) -> list[Figure]:
    """Give the figures of this module."""
    return [_many(20 if small else 1000), *_large(5_000 if small else 1_000_000, 1 if small else 3)]


def _many(number: int) -> Figure:
    """Back up all tenants by one command, in turns with the loop over their files."""
    progress(f"backing up {number} small tenants beside a loop of `sqlite3 .backup` and zstd")
    public, secret = generate_identity()
    ours = {"backup_recipients": public, "backup_signing_keys": generate_signing_key()}
    with world(0, **ours) as here:
        here.add_users(number)
        here.add_tasks(ROWS)
        with _elsewhere(here) as place:
            rounds = 1 if number < 100 else 3
            cpu = _Processor()
            mine, theirs = in_turns(
                rounds, cpu.of("ours", lambda: _back_up(here, number)), cpu.of("theirs", lambda: _loop(here, place))
            )
            _check_many(here, place, secret)
    return Figure(
        "P12",
        f"back up {number} small SQLite tenants, encrypted and recorded",
        "tenants/s",
        number / median(mine),
        number / median(theirs),
        "a loop of `sqlite3 FILE .backup` and `zstd`, unencrypted and unrecorded",
        (AT_LEAST, 1.5),
        notes={"tenants": number, "rows_each": ROWS, "processor_ms_each": cpu.ms_each(number)},
    )


class _Processor:
    """Add up what a work and the programs it starts take of a processor."""

    def __init__(self) -> None:
        self._taken: dict[str, list[float]] = {}

    def of(self, name: str, work: Any) -> Any:
        def run() -> None:
            before = sum(os.times()[:4])
            work()
            self._taken.setdefault(name, []).append(sum(os.times()[:4]) - before)

        return run

    def ms_each(self, number: int) -> dict[str, float]:
        return {name: round(median(taken) / number * 1000, 3) for name, taken in self._taken.items()}


@contextmanager
def _elsewhere(here: World) -> Iterator[Path]:
    place = here.folder / "copies"
    place.mkdir()
    yield place
    shutil.rmtree(place)


def _back_up(here: World, number: int) -> None:
    results = here.parts.manager.backups.create_all()
    same_work(number, sum(result.ok for result in results))


def _loop(here: World, place: Path) -> None:
    for file in sorted((here.folder / "users").glob("user_*.db")):
        copy = place / file.name
        subprocess.run(["sqlite3", str(file), f".backup {copy}"], check=True)
        subprocess.run(["zstd", "-q", "-f", "--rm", str(copy), "-o", f"{copy}.zst"], check=True)


def _check_many(here: World, place: Path, secret: str) -> None:
    """Read the last of both: they hold the same rows."""
    user = here.users[-1]
    name = here.parts.manager.tenant_of(user.id).db_path
    subprocess.run(["zstd", "-q", "-d", str(place / f"{name}.zst")], check=True)
    with closing(sqlite3.connect(place / str(name))) as copied:
        rows = copied.execute("SELECT count(*) FROM tasks").fetchone()[0]
    newest = max((here.folder / "backups").rglob("*.age"), key=lambda path: path.stat().st_mtime_ns)
    with newest.open("rb") as source, reading(source, Identities.of([secret])) as archive:
        same_work(rows, archive.verify().rows["tasks"])


# --- one large database -----------------------------------------------------------------------------------


def _large(number: int, rounds: int) -> list[Figure]:
    progress(f"an archive of {number} rows beside `pg_dump | zstd`")
    with world(0) as here:
        here.register(["postgresql"])
        here.add_users(1, ["postgresql"])
        _fill(here, number)
        size = _size(here)
        wrote: list[Contents] = []
        mine, theirs = in_turns(
            rounds,
            lambda: wrote.append(_archive(here.parts, here.users[0].id, here.folder / "large.age")),
            lambda: _dump(here, here.folder / "large.zst"),
        )
        same_work([number] * len(wrote), [contents.rows["tasks"] for contents in wrote])
        notes = {
            "rows": number,
            "archive_mib": _mib(here.folder / "large.age"),
            "dump_mib": _mib(here.folder / "large.zst"),
        }
        memory = _memory(here)
    speed = Figure(
        "P12 rows",
        f"an archive of {number:,} rows on PostgreSQL, encrypted",
        "MB/s",
        size / median(mine) / 1e6,
        size / median(theirs) / 1e6,
        "`pg_dump | zstd`, unencrypted",
        (AT_LEAST, 0.15),
        notes=notes,
    )
    return [
        speed,
        Figure("P12 memory", "the same: memory above idle", "MiB", memory, None, "", (AT_MOST, 64), of_ratio=False),
    ]


def _fill(here: World, number: int) -> None:
    user = here.users[0].id
    for first in range(0, number, 5_000):
        rows = [task(user, each) for each in range(first, min(number, first + 5_000))]
        with here.parts.manager.session(user, write=True) as session:
            session.execute(tasks.insert(), rows)


def _archive(parts: compose.Parts, user_id: int, file: Path) -> Contents:
    manager = parts.manager
    tenant = manager.tenant_of(user_id)
    backend, access = manager.backends.get(tenant.db_type), manager.services.access(tenant)
    schema = Schema(manager.schema.metadata, manager.services.chain)
    header = Header(tenant.tenant_id, user_id, tenant.db_type, str(tenant.revision), "bench")
    recipients = Recipients.of([generate_identity()[0]])
    with file.open("wb") as sink, backend.copying.snapshot(tenant, access) as connection:
        return write_archive(connection, backend, header, sink, recipients, schema=schema)


def _url(here: World) -> sa.URL:
    tenant = here.parts.manager.tenant_of(here.users[0].id)
    return sa.make_url(server_url("postgresql")).set(database=tenant.db_name)


def _dump(here: World, file: Path) -> None:
    url = _url(here)
    asked = ["pg_dump", "-h", str(url.host), "-p", str(url.port or 5432), "-U", str(url.username), str(url.database)]
    known = os.environ | {"PGPASSWORD": str(url.password or "")}
    with file.open("wb") as sink, subprocess.Popen(asked, stdout=subprocess.PIPE, env=known) as dump:
        subprocess.run(["zstd", "-q", "-c"], stdin=dump.stdout, stdout=sink, check=True)
    same_work(0, dump.returncode)


def _size(here: World) -> int:
    """Give how many bytes the dump has before it is compressed: what both speeds are measured in."""
    file = here.folder / "plain.zst"
    _dump(here, file)
    counted = subprocess.run(["zstd", "-q", "-dc", str(file)], stdout=subprocess.PIPE, check=True)
    return len(counted.stdout)


def _memory(here: World) -> float:
    """Give the MiB that an archive takes above an idle process of ours, which another process measures of itself."""
    known = environ(here.folder, **_keys(here))
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    child = context.Process(target=_measured, args=(theirs, known, here.users[0].id, here.folder / "large.age"))
    child.start()
    found: float = ours.recv()
    child.join()
    return found


def _keys(here: World) -> dict[str, object]:
    settings = here.parts.settings
    return {"tenant_credential_keys": ",".join(settings.tenant_credential_keys), "audit_key": settings.audit_key}


def _measured(answer: Any, known: dict[str, str], user_id: int, file: Path) -> None:
    parts = compose.build(Settings.load(known, dotenv=None))
    with parts.manager.session(user_id) as session:
        session.execute(sa.select(sa.func.count()).select_from(tasks))
    idle = psutil.Process().memory_info().rss
    _archive(parts, user_id, file)
    answer.send((peak_bytes() - idle) / MIB)
    parts.close()


def _mib(file: Path) -> float:
    return round(file.stat().st_size / MIB, 1)
