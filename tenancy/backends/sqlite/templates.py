"""Keep the migrated, empty database of each schema: a new tenant is a copy of it, which takes milliseconds."""

from __future__ import annotations

import sqlite3
import threading
import uuid
import weakref
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import sqlalchemy as sa

from tenancy.backends.base import WHOSE_SQL, Blueprint
from tenancy.backends.sqlite.engines import make_engine, schema_changes
from tenancy.backends.sqlite.files import in_wal, sync_folder, write_durably
from tenancy.errors import ProvisionError


class Template:
    """Hold the template of one schema in memory, and fill copies of it, one at a time.

    One connection serves all copies: a new one would parse the whole schema for every tenant.
    """

    def __init__(self, fingerprint: str, content: bytes) -> None:
        self.fingerprint = fingerprint
        self._content = content
        self._memory = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        weakref.finalize(self, self._memory.close)
        memory = self._memory
        self._engine = make_engine(lambda: memory, poolclass=sa.StaticPool)

    def filled(self, fill: Callable[[sa.Connection], None]) -> bytes:
        self._memory.deserialize(self._content)
        with self._engine.connect() as connection:
            self._memory.execute("BEGIN")
            fill(connection)
            connection.commit()
        return in_wal(self._memory.serialize())


class Templates:
    """Keep the templates as files in a folder beside the tenants, and the one used last in memory."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._at_hand: Template | None = None

    def filled(self, blueprint: Blueprint) -> bytes:
        """Return the bytes of a new database: the template with the tenant's rows, which are written in memory."""
        with self._lock:
            if self._at_hand is None or self._at_hand.fingerprint != blueprint.fingerprint:
                self._at_hand = Template(blueprint.fingerprint, self._load(blueprint))
            return self._at_hand.filled(blueprint.fill)

    def _load(self, blueprint: Blueprint) -> bytes:
        path = self._folder / f"{blueprint.fingerprint}.db"
        if not path.exists():
            self._make(path, blueprint)
        content = path.read_bytes()  # no process ever opens a template as a database
        if not sound(content):
            raise ProvisionError(
                f"the template {self._folder.name}/{path.name} is damaged: delete it, and it is made anew.",
                file=path.name,
            )
        return content

    def _make(self, path: Path, blueprint: Blueprint) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        memory = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        with schema_changes(memory) as connection:
            blueprint.build(connection)
            content = memory.serialize()
        draft = self._folder / f"{uuid.uuid4().hex}.new"
        try:
            write_durably(draft, content)
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
        sync_folder(self._folder)


def sound(content: bytes) -> bool:
    """Say whether these bytes are an undamaged database with the tenancy tables."""
    with closing(sqlite3.connect(":memory:")) as memory:
        try:
            memory.deserialize(content or b"empty")  # deserialize(b"") raises MemoryError
            memory.execute(WHOSE_SQL)
            return bool(memory.execute("PRAGMA integrity_check").fetchone()[0] == "ok")
        except sqlite3.Error:
            return False
