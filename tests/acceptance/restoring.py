"""Restore a user's database by command while that user writes over HTTP: every worker shows the restored rows.

    python -m tests.acceptance.restoring --restores 20 --workers 4

After each restore every worker process is asked until it has answered. The rows that were acknowledged before the
restore are in the database that it kept, and those acknowledged after it in the present one.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa

import compose
from bench.served import PROJECT, Served
from bench.world import folder, progress
from compose import Parts
from settings import Settings
from tests.acceptance.clients import Client, Person, Seen
from tests.support.recovery import backup_keys

COMMAND = (sys.executable, "-m", "utils.cli", "restore")
PATIENCE_S = 60.0
PAUSE_S = 0.01
ROWS_BEFORE = 5
ESTABLISHED = "01"


@dataclass
class Report:
    """Say what the client was told, and what the workers showed."""

    restores: int
    workers: int
    acknowledged: int = 0
    refused: int = 0
    present: int = 0
    put_aside: int = 0
    lost: int = 0
    lost_after_the_switch: int = 0
    stale_workers: int = 0
    """How many answers after a restore did not show the rows that it brought back."""

    asked_workers: list[int] = field(default_factory=list)
    """How many worker processes answered after each restore."""

    broken_connections: int = 0
    restore_s_max: float = 0.0
    faults: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        wrong = self.lost + self.lost_after_the_switch + self.stale_workers + self.broken_connections
        return wrong == 0 and not self.faults and set(self.asked_workers) <= {self.workers}


class Writing:
    """Write for one person, one row after the other, until it is over."""

    def __init__(self, port: int, person: Person, seen: Seen) -> None:
        self._port, self._person, self._seen = port, person, seen
        self._over = threading.Event()
        self.begun_at: dict[str, float] = {}
        """Titles of the acknowledged rows, with the moment before each was sent."""

    @contextmanager
    def running(self) -> Iterator[Writing]:
        thread = threading.Thread(target=self._run)
        thread.start()
        try:
            yield self
        finally:
            self._over.set()
            thread.join()

    def acknowledged(self) -> set[str]:
        with self._seen.lock:
            return set(self._seen.written[self._person.id].values())

    def since(self, moment: float) -> set[str]:
        """Give the titles of rows that were sent after a moment."""
        return {title for title, begun in list(self.begun_at.items()) if begun > moment}

    def _run(self) -> None:
        with closing(Client(self._port, self._seen, seed=1)) as client:
            while not self._over.wait(PAUSE_S):
                begun, known = time.monotonic(), self.acknowledged()
                if client.write(self._person):
                    self.begun_at |= dict.fromkeys(self.acknowledged() - known, begun)


class Asking(Client):
    """Ask over one connection, which stays with one worker process."""

    def worker(self, server: int) -> int | None:
        """Give the process that holds the other end of the connection, one of a server's children."""
        if self._connection is None:
            return None
        inode = _inode(self.port, self._connection.sock.getsockname()[1])
        return next((pid for pid in _children(server) if inode in _sockets(pid)), None)


def _inode(port: int, client_port: int) -> str:
    """Give the name of a server's socket that has this client at its other end."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        parts = line.split()
        ports = [int(each.split(":")[1], 16) for each in parts[1:3]]
        if ports == [port, client_port] and parts[3] == ESTABLISHED:
            return f"socket:[{parts[9]}]"
    return ""


def _children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _sockets(pid: int) -> set[str]:
    found = set()
    for each in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found.add(os.readlink(each))
        except OSError:  # it was closed meanwhile
            continue
    return found


def restoring(restores: int = 20, workers: int = 4) -> Report:
    """Restore this often; look at every worker each time, and at all rows in the end."""
    report, seen = Report(restores, workers), Seen()
    with folder() as keys, ExitStack() as stack:
        server = stack.enter_context(_served(workers, keys))
        person = Person(server.users[0].id, server.keys[0])
        with closing(Client(server.port, seen, seed=0)) as client:
            for _ in range(ROWS_BEFORE):
                client.write(person)
        wanted = set(seen.written[person.id].values())
        with closing(compose.build(Settings.load(server.environ, dotenv=None))) as parts:
            parts.manager.backups.create(person.id)
        with Writing(server.port, person, seen).running() as writing:
            for number in range(restores):
                _round(server, person, writing, wanted, report)
                progress(f"restore {number + 1}: {report.asked_workers[-1]} workers, {report.faults[:3]}")
        with closing(compose.build(Settings.load(server.environ, dotenv=None))) as parts:
            _count(parts, person, writing, report)
    statuses = dict(seen.statuses)
    report.refused = sum(number for status, number in statuses.items() if status >= 300)
    report.faults += [f"{number} answers were {status}" for status, number in statuses.items() if status in (500, 403)]
    report.broken_connections = sum(seen.broken.values())
    return report


def _served(workers: int, keys: Path) -> Served:
    more: dict[str, Any] = {**backup_keys(keys)}
    return Served(workers=workers, tenants=1, **more)


def _round(server: Served, person: Person, writing: Writing, wanted: set[str], report: Report) -> None:
    """Restore once; ask every worker at once and then again, after the writer has written some more."""
    _written_more(writing, time.monotonic())
    before = writing.acknowledged()
    started = time.monotonic()
    done = subprocess.run(
        [*COMMAND, str(person.id), "latest", "--yes"],
        cwd=PROJECT,
        env=dict(os.environ) | server.environ,
        capture_output=True,
        text=True,
        check=False,
    )
    ended = time.monotonic()
    report.restore_s_max = max(report.restore_s_max, round(ended - started, 2))
    if done.returncode:
        report.faults.append(f"the command ended with {done.returncode}: {done.stderr[-300:]}")
    _ask_all(server, person, before, wanted, report)
    _written_more(writing, ended)
    sent_later = writing.since(ended)
    with closing(Client(server.port, Seen(), seed=0)) as client:
        missing = sent_later - set(client.all_rows(person).values())
    report.lost_after_the_switch += len(missing)


def _written_more(writing: Writing, since: float) -> None:
    """Wait until rows that were sent after a moment are acknowledged."""
    until = time.monotonic() + PATIENCE_S
    while len(writing.since(since)) < ROWS_BEFORE:
        if time.monotonic() > until:
            raise RuntimeError("no row is acknowledged any more")
        threading.Event().wait(PAUSE_S)


def _ask_all(server: Served, person: Person, before: set[str], wanted: set[str], report: Report) -> None:
    """Ask over new connections until every worker has answered; of the rows from before only the wanted ones count."""
    assert server.process is not None
    answered: set[int] = set()
    until = time.monotonic() + PATIENCE_S
    with ExitStack() as stack:
        while len(answered) < report.workers and time.monotonic() < until:
            client = stack.enter_context(closing(Asking(server.port, Seen(), seed=0)))
            shown = set(client.all_rows(person).values()) & before
            worker = client.worker(server.process.pid)
            if worker is not None:
                answered.add(worker)
            if shown != wanted:
                report.stale_workers += 1
                report.faults.append(f"worker {worker} showed {len(shown)} rows from before, not {len(wanted)}")
    report.asked_workers.append(len(answered))


def _count(parts: Parts, person: Person, writing: Writing, report: Report) -> None:
    """Read the present database and those that are kept; every acknowledged row is in one of them."""
    manager, acknowledged = parts.manager, writing.acknowledged()
    backend = manager.backends.get("sqlite")
    present, aside = (set[str]() for _ in range(2))
    for kept, tenant in (
        (False, manager.tenant_of(person.id)),
        *((True, each) for each in manager.leftovers.of_user(person.id, kept=True)),
    ):
        with backend.copying.snapshot(tenant, manager.services.access(tenant)) as connection:
            titles = set(connection.execute(sa.text("SELECT title FROM tasks")).scalars())
        if kept:
            aside |= titles
        else:
            present |= titles
    report.acknowledged = len(acknowledged)
    report.present = len(acknowledged & present)
    report.put_aside = len(acknowledged & (aside - present))
    report.lost = len(acknowledged - present - aside)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.acceptance.restoring", description=__doc__)
    for name, value in {"restores": 20, "workers": 4}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    report = restoring(**vars(parser.parse_args()))
    sys.stdout.write(json.dumps(asdict(report), indent=2) + "\n")
    return 0 if report.clean else 1


if __name__ == "__main__":
    raise SystemExit(main())
