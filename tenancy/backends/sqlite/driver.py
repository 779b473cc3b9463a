"""Open SQLite files: connections that remember which file they opened, and which errors it has caused.

A live file is opened here alone, through SQLite (``files.py`` says why).
"""

from __future__ import annotations

import re
import sqlite3
import threading
import time
import urllib.parse
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any
from weakref import WeakSet

from sqlalchemy.exc import DisconnectionError

from tenancy.backends.gates import BY_TEXT, FILES, LASTING, SCRIPT, Gated, GatedCursor, Words, gated_cursor
from tenancy.backends.placeholders import Rules
from tenancy.backends.sqlite.files import BUSY_TIMEOUT_S, file_id, not_writable, unwritable
from tenancy.errors import UnfencedError
from tenancy.forks import after_fork

PAGE_CACHE_KIB = 512
RULES = Rules(brackets=True, backticks=True)
_OPENING = f"""
    PRAGMA synchronous = FULL;
    PRAGMA foreign_keys = ON;
    PRAGMA cache_size = -{PAGE_CACHE_KIB};
    PRAGMA trusted_schema = OFF;
"""
"""Set up every connection, as one script: sent one by one, the connection would keep each of them prepared."""

_SPOILS = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN)
_LISTS = frozenset(
    ["TABLE_INFO", "TABLE_XINFO", "TABLE_LIST", "INDEX_LIST", "INDEX_INFO", "INDEX_XINFO", "FOREIGN_KEY_LIST"]
)
_CHECKS = frozenset(["FOREIGN_KEY_CHECK", "QUICK_CHECK", "INTEGRITY_CHECK"])
_FOR_ONE_TRANSACTION = frozenset(("DEFER_FOREIGN_KEYS",))


def _pragma(words: list[str]) -> tuple[str, bool]:
    """Return the name in ``PRAGMA [schema.]name [value]``, and whether an unquoted value follows."""
    rest = words[2:] if words[1:2] and words[1] in ("MAIN", "TEMP") else words[1:]
    return (rest[0] if rest else ""), len(rest) > 1


def _refuse(words: list[str]) -> str | None:
    if words[0] in ("ATTACH", "DETACH", "VACUUM"):
        return FILES
    if words[0] != "PRAGMA":
        return None
    name, valued = _pragma(words)
    if name == "QUERY_ONLY" and valued:
        return BY_TEXT
    return LASTING if valued and name not in _LISTS | _CHECKS | _FOR_ONE_TRANSACTION else None


def _only_looks(words: list[str]) -> bool:
    if words[0] != "PRAGMA":
        return False
    name, valued = _pragma(words)
    return name in _LISTS | _CHECKS or not valued


_NAMES_TABLES = "|".join(sorted(_LISTS | _CHECKS))
_QUOTED_PRAGMA = re.compile(
    rf"(?:^|;)(?:\s|--[^\n]*\n|/\*.*?\*/)*PRAGMA\s+(?!(?:\w+\s*\.\s*)?(?:{_NAMES_TABLES})\b)[^;]*['\"\[`]",
    re.IGNORECASE | re.DOTALL,
)
"""Finds a pragma with a quoted name or value: the tokenizer leaves quoted text out of a statement's words."""

WORDS = Words(RULES, _refuse, reads=_only_looks, hidden=_QUOTED_PRAGMA)


class Changes:
    """Make this process's ordinary writers of a file wait while a schema or fence change wants its lock.

    SQLite's lock has no queue: a writer that begins again as soon as it ends would always find the file free, and a
    change could wait for ever.
    """

    def __init__(self) -> None:
        self._forget()
        after_fork(self._forget)

    def _forget(self) -> None:
        self._waiting: Counter[str] = Counter()
        self._one_less = threading.Condition()

    @contextmanager
    def first(self, path: str) -> Iterator[None]:
        """Make this process's writers of a file wait for as long as the block lasts."""
        waiting, one_less = self._waiting, self._one_less  # a child forked in the block gets new ones
        with one_less:
            waiting[path] += 1
        try:
            yield
        finally:
            if waiting is self._waiting:
                with one_less:
                    waiting[path] -= 1
                    if not waiting[path]:
                        del waiting[path]
                        one_less.notify_all()

    def let_go_first(self, path: str, waits_s: float) -> float:
        """Wait while a change of this file waits for the lock; return what is left of ``waits_s``."""
        if path not in self._waiting:
            return waits_s
        since = time.monotonic()
        with self._one_less:
            self._one_less.wait_for(lambda: path not in self._waiting, waits_s)
        return max(waits_s - (time.monotonic() - since), 0)


changes = Changes()


def _reporting(call: Callable[..., Any]) -> Callable[..., Any]:
    """Make a method of a cursor that reports each error to the connection."""

    @wraps(call)
    def reporting(cursor: Any, *what: Any, **named: Any) -> Any:
        try:
            return call(cursor, *what, **named)
        except sqlite3.Error as error:
            cursor.connection.saw(error)
            raise

    return reporting


class FileCursor(GatedCursor, sqlite3.Cursor):
    """Ask the statement filter before each statement, and report each error to the connection."""

    execute, executemany = _reporting(GatedCursor.execute), _reporting(GatedCursor.executemany)
    fetchone, fetchall = _reporting(sqlite3.Cursor.fetchone), _reporting(sqlite3.Cursor.fetchall)
    __next__ = _reporting(sqlite3.Cursor.__next__)

    @_reporting
    def fetchmany(self, size: int | None = None) -> Any:
        return super().fetchmany(self.arraysize if size is None else size)

    def executescript(self, script: str) -> Any:
        """Refuse it on a tenant's connection: it commits the open transaction first."""
        if self.connection.words is not None:
            raise UnfencedError(SCRIPT)
        return super().executescript(script)


class FileConnection(Gated, sqlite3.Connection):
    """A connection that remembers which file it opened: a deleted or replaced file could still be written to, and lost.

    ``spoiled`` is set by an error of the file itself: SQLite may have cached damaged pages, and would use them even
    after the file was repaired. ``writable`` says whether the file could be written when it was opened: SQLite opens a
    file without write permission read-only, and the connection stays read-only.
    """

    path = ""
    file: tuple[int, int] | None = None

    spoiled = False
    writable = True
    query_only = False
    waits_ms = round(BUSY_TIMEOUT_S * 1000)

    in_transaction = sqlite3.Connection.in_transaction

    _cursors: WeakSet[sqlite3.Cursor] | None = None

    def cursor(self, factory: Any = FileCursor) -> Any:
        made = super().cursor(factory if factory is FileCursor else gated_cursor(factory))
        if self.words is not None:
            if self._cursors is None:
                self._cursors = WeakSet()
            self._cursors.add(made)
        return made

    def tidy(self) -> None:
        """Close the cursors that the last user still holds.

        A cursor that was not read to its end keeps its snapshot open. The next user would read that old state, and its
        first write would fail as busy.
        """
        if self._cursors:
            for cursor in list(self._cursors):
                cursor.close()
            self._cursors.clear()

    def execute(self, *what: Any) -> Any:
        return self.cursor().execute(*what)

    def executemany(self, *what: Any) -> Any:
        return self.cursor().executemany(*what)

    def executescript(self, script: str) -> Any:
        return self.cursor().executescript(script)

    def blobopen(self, *where: Any, **how: Any) -> Any:
        if not how.get("readonly"):
            self.ask("UPDATE")
        return super().blobopen(*where, **how)

    def begin(self, *, write: bool | None, waits_s: float = BUSY_TIMEOUT_S) -> None:
        """Begin a transaction that writes or only reads; with None, only forbid writes (autocommit).

        ``waits_s`` is the busy timeout.
        """
        if write:
            self.check_writable()
            waits_s = changes.let_go_first(self.path, waits_s)
        try:
            if self.query_only is bool(write):
                super().execute(f"PRAGMA query_only = {'OFF' if write else 'ON'}")
                self.query_only = not write
            waits_ms = round(waits_s * 1000)
            if waits_ms != self.waits_ms:
                super().execute(f"PRAGMA busy_timeout = {waits_ms}")
                self.waits_ms = waits_ms
            if write is not None:
                super().execute("BEGIN IMMEDIATE" if write else "BEGIN")
        except sqlite3.Error as error:
            self.saw(error)
            raise

    def check_writable(self) -> None:
        """Raise AccessDeniedError if SQLite opened the file read-only for lack of permission."""
        found = None if self.writable else unwritable(Path(self.path))
        if found is not None:
            raise not_writable(found)

    def saw(self, error: sqlite3.Error) -> None:
        """Note an error: add the file's path to it, and set ``spoiled`` if the file caused it."""
        vars(error)["path"] = self.path
        primary = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if primary in _SPOILS or (primary == sqlite3.SQLITE_READONLY and not self.query_only):
            self.spoiled = True

    def usable(self) -> bool:
        return not (self.spoiled or self.in_transaction)

    def in_place(self) -> bool:
        """Say whether the file that was opened still has its name (by stat; the file is not opened)."""
        return self.file == file_id(self.path)

    def stale(self) -> bool:
        """Say whether a new connection is needed: after an error, for a new file, or as it can be written now."""
        return self.spoiled or not self.in_place() or (not self.writable and unwritable(Path(self.path)) is None)


def open_file(path: Path) -> FileConnection:
    """Open a file that exists: synchronous FULL, foreign keys on, a small page cache, no ATTACH."""
    file = file_id(str(path))
    try:
        driver = sqlite3.connect(
            f"file:{urllib.parse.quote(str(path))}?mode=rw",
            uri=True,
            isolation_level=None,
            timeout=BUSY_TIMEOUT_S,
            check_same_thread=False,
            factory=FileConnection,
        )
    except sqlite3.Error as error:
        vars(error)["path"] = str(path)
        raise
    driver.path, driver.file = str(path), file
    try:
        sqlite3.Cursor(driver).executescript(_OPENING)
        driver.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
    except sqlite3.Error as error:
        driver.saw(error)  # a cursor of the driver's own class does not tell it
        driver.close()
        raise
    driver.writable = unwritable(path) is None
    return driver


def check_file(driver: Any, record: Any, proxied: Any) -> None:
    """Have the pool reopen a stale connection; listens to the pool's event ``checkout``."""
    if isinstance(driver, FileConnection) and driver.stale():
        raise DisconnectionError("the database file was deleted, replaced or mended.")
