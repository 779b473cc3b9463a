"""Filter the statements of tenants' connections: nothing is written outside a transaction that passed the fence.

``routing/guards.py`` begins transactions, compares epoch and state with the route (the fence), and then calls ``begun``
on the connection. Whoever holds an engine could go around that: by AUTOCOMMIT, by ``raw_connection()``, or by sending
COMMIT as text. So each statement is read before it is sent to the database. Outside a transaction only statements that
read are let through. Inside, statements are refused that would end the transaction or outlive it.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import cache, lru_cache
from itertools import pairwise
from typing import Any, ClassVar

from tenancy.backends.placeholders import Rules, statements
from tenancy.errors import UnfencedError

log = logging.getLogger(__name__)

OUTSIDE = (
    "nothing is written outside of a transaction that has passed the fence, neither in AUTOCOMMIT nor by "
    "raw_connection(): use engine.begin(), or manager.get_user_connection()."
)
BY_TEXT = "a transaction is not begun or ended by text: use begin(), commit() and rollback() of the connection."
BY_ITSELF = "this statement commits by itself: a tenant's schema is changed by its migrations alone."
TWO_PHASES = "a transaction in two phases would outlive its connection: use begin() and commit()."
LASTING = "this would change the connection for whoever uses it next: leave it as it was opened."
SCRIPT = "executescript() commits what is open before it begins: send its statements one by one with execute()."
FILES = "a tenant's connection reaches no other file or database: open a connection of your own to it."

_BOUNDS = frozenset(["BEGIN", "START", "COMMIT", "END", "ABORT"])
_MODES = frozenset(["TRANSACTION", "CHARACTERISTICS", "AUTOCOMMIT", "IMPLICIT_TRANSACTIONS", "COMPLETION_TYPE"])
_MODES |= {"DEFAULT_TRANSACTION_READ_ONLY", "TRANSACTION_READ_ONLY", "TX_READ_ONLY"}
_CHANGES = frozenset(
    [
        "INSERT",
        "UPDATE",
        "DELETE",
        "MERGE",
        "INTO",
        "TRUNCATE",
        "CREATE",
        "DROP",
        "ALTER",
        "EXEC",
        "EXECUTE",
        "GRANT",
        "REVOKE",
    ]
)
_LOOKS = frozenset(["SELECT", "VALUES", "SHOW", "TABLE", "DESCRIBE", "DESC", "SET"])
_WRITE = re.compile(r"\s*(?:INSERT|UPDATE|DELETE|REPLACE)\b[^;]*;?\s*\Z", re.IGNORECASE)
_REMEMBERED_LENGTH = 10_000


def _nothing(words: list[str]) -> str | None:
    return None


class Words:
    """Classify the statements of one product by their words.

    Every product has the rules that are listed here. What a product adds:

    - ``refuse`` returns why a statement of this product alone is refused, or None.
    - ``reads`` says whether a statement that is unknown here only reads.
    - ``hidden`` finds what is refused although it is in strings or comments, in the whole text.
    - ``lasting`` finds what may change the connection beyond the transaction.
    - ``separated`` is False if the product runs several statements of a text without semicolons between them.
    - ``counted`` selects the number of open transactions, for products that end one on an error when the driver does
      not say so.
    """

    def __init__(
        self,
        rules: Rules,
        refuse: Callable[[list[str]], str | None] = _nothing,
        *,
        reads: Callable[[list[str]], bool] = lambda words: False,
        hidden: re.Pattern[str] | None = None,
        lasting: re.Pattern[str] | None = None,
        separated: bool = True,
        counted: str | None = None,
    ) -> None:
        self._rules = rules
        self._refuse = refuse
        self._reads_too = reads
        self._hidden = hidden
        self._lasting = lasting
        self._separated = separated
        self.counted = counted
        self._remembered = lru_cache(2048)(self._read)

    def read(self, text: str) -> tuple[str | None, bool]:
        """Return why a text is refused (or None), and whether it certainly only reads."""
        return (self._remembered if len(text) <= _REMEMBERED_LENGTH else self._read)(text)

    def lasts(self, text: str) -> bool:
        """Say whether a text may change the connection beyond the transaction: the pool then closes it."""
        return self._lasting is not None and self._lasting.search(text) is not None

    def _read(self, text: str) -> tuple[str | None, bool]:
        if self._hidden is not None and self._hidden.search(text):
            return BY_TEXT, False
        if self._separated and _WRITE.match(text):
            return None, False
        each = list(statements(text, self._rules))
        refused = next(filter(None, map(self._refused, each)), None)
        return refused, refused is None and all(map(self._reads, each))

    def _refused(self, words: list[str]) -> str | None:
        if words[:2] == ["PREPARE", "TRANSACTION"]:
            return TWO_PHASES
        if words[0] in ("SET", "RESET") and _MODES & set(words):
            return BY_TEXT
        ends = words[0] in _BOUNDS or words[0] == "ROLLBACK" if self._separated else _bounds_among(words)
        return BY_TEXT if ends and not _to_savepoint(words) else self._refuse(words)

    def _reads(self, words: list[str]) -> bool:
        if words[0] in _LOOKS:
            return not (_CHANGES & set(words) if not self._separated else "INTO" in words)
        if words[0] in ("WITH", "EXPLAIN"):
            return not _CHANGES & set(words)
        return self._reads_too(words)


class Gated:
    """Mix into a driver's connection class: with ``words`` set, its cursors call ``ask`` before each statement."""

    words: Words | None = None
    lazily: ClassVar[bool] = False
    """Whether the driver sends BEGIN with the first statement only, so that ``in_transaction`` is False until then."""

    spoiled = False
    """Whether all connections of the pool may have what is wrong with this connection."""

    _begun = False
    _fresh = False
    _changed = False

    @property
    def in_transaction(self) -> bool:
        """Say whether the driver knows of an open transaction; the server is not asked."""
        raise NotImplementedError

    def tidy(self) -> None:
        """Called when the connection is given back to its pool: close what its user left open."""

    def usable(self) -> bool:
        """Say whether the pool may lend this connection again: nothing of its last user is left in it."""
        return not (self._changed or self.in_transaction)

    def begun(self) -> None:
        """Called when a transaction was begun that only reads, or that has passed the fence."""
        self._begun, self._fresh = True, self.lazily

    def ended(self) -> None:
        self._begun = self._fresh = False

    def written(self, text: Any) -> str:
        """Return a statement as text, whatever type the driver accepts for it."""
        return text.decode(errors="replace") if isinstance(text, bytes) else str(text)

    def ask(self, text: Any) -> None:
        """Raise UnfencedError for a statement that would write outside a guarded transaction, or end one."""
        if self.words is None:
            return
        written = self.written(text)
        refused, reads = self.words.read(written)
        if refused is not None:
            raise UnfencedError(refused)
        if self._begun and not self._fresh and not self.in_transaction:
            self.ended()
        if not self._begun and not reads:
            raise UnfencedError(OUTSIDE)
        self._fresh = False
        self._changed = self._changed or self.words.lasts(written)


class GatedCursor:
    """Mix into a driver's cursor class, before it: the connection is asked about each statement."""

    connection: Any

    def execute(self, text: Any, *values: Any, **named: Any) -> Any:
        self.connection.ask(text)
        return super().execute(text, *values, **named)  # type: ignore[misc]  # the driver's class has it

    def executemany(self, text: Any, *values: Any, **named: Any) -> Any:
        self.connection.ask(text)
        return super().executemany(text, *values, **named)  # type: ignore[misc]  # the driver's class has it


@cache
def gated_cursor(driver: type) -> type:
    """Return a cursor class, the driver's or a caller's own, with ``GatedCursor`` mixed in."""
    return driver if issubclass(driver, GatedCursor) else type(f"Gated{driver.__name__}", (GatedCursor, driver), {})


class Around(Gated):
    """Wrap a connection of a driver whose classes cannot be subclassed (ODBC); the filter is in the wrapper."""

    def __init__(self, driver: Any) -> None:
        vars(self)["driver"] = driver

    @property
    def in_transaction(self) -> bool:
        return (
            self._begun
        )  # the driver does not say; commit(), rollback() and errors end it, and texts that would are refused

    def cursor(self, *how: Any, **named: Any) -> Any:
        return _AroundCursor(self, self.driver.cursor(*how, **named))

    def execute(self, text: str, *values: Any) -> Any:
        return self.cursor().execute(text, *values)

    def commit(self) -> None:
        self.ended()
        self.driver.commit()

    def rollback(self) -> None:
        self.ended()
        self.driver.rollback()

    def hear(self, work: Callable[..., Any], *values: Any) -> Any:
        """Call the driver; after an error, ask whether the server ended the transaction.

        Later writes would then commit by themselves.
        """
        try:
            return work(*values)
        except BaseException:
            if self._begun and self.words is not None and self.words.counted and not self._counts(self.words.counted):
                self.ended()
            raise

    def _counts(self, asked: str) -> int:
        try:
            with closing(self.driver.cursor()) as cursor:
                cursor.execute(asked)
                return int(cursor.fetchone()[0])
        except Exception as error:  # noqa: BLE001 - the caller raises the first error, after which this was asked
            log.info("a server did not say whether a transaction is open: %s", type(error).__name__)
            return 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.driver, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if hasattr(Gated, name):
            vars(self)[name] = value
        else:
            setattr(self.driver, name, value)


class _AroundCursor:
    def __init__(self, connection: Around, cursor: Any) -> None:
        vars(self).update(connection=connection, cursor=cursor)

    def execute(self, text: str, *values: Any) -> Any:
        self.connection.ask(text)
        self.connection.hear(self.cursor.execute, text, *values)
        return self

    def executemany(self, text: str, rows: Any) -> Any:
        self.connection.ask(text)
        self.connection.hear(self.cursor.executemany, text, rows)
        return self

    def fetchone(self) -> Any:
        return self.connection.hear(self.cursor.fetchone)

    def fetchmany(self, *size: int) -> Any:
        return self.connection.hear(self.cursor.fetchmany, *size)

    def fetchall(self) -> Any:
        return self.connection.hear(self.cursor.fetchall)

    def nextset(self) -> Any:
        return self.connection.hear(self.cursor.nextset)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.fetchone, None)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.cursor, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.cursor, name, value)


def gated(driver: Any, words: Words) -> Any:
    """Put the filter before a tenant's connection; a driver's class without ``Gated`` is wrapped in ``Around``."""
    found = driver if isinstance(driver, Gated) else Around(driver)
    found.words = words
    return found


def commit(driver: Any) -> None:
    """Commit, and roll back if that fails: for SQLAlchemy the transaction is over, but some products keep it open."""
    try:
        driver.commit()
    except BaseException:
        try:
            driver.rollback()
        except Exception as error:  # noqa: BLE001 - the commit's error is raised; the pool closes the connection
            log.info("a failed commit could not be rolled back: %s", type(error).__name__)
        raise


def _to_savepoint(words: list[str]) -> bool:
    """Recognize ROLLBACK TO name, and SQL Server's ROLLBACK TRANSACTION name by SQLAlchemy's names of savepoints."""
    if words[0] != "ROLLBACK":
        return False
    rest = words[2:] if words[1:2] and words[1] in ("WORK", "TRAN", "TRANSACTION") else words[1:]
    return bool(rest) and (rest[0] == "TO" or rest[0].startswith("SA_SAVEPOINT_"))


def _bounds_among(words: list[str]) -> bool:
    begins = any(pair[0] == "BEGIN" and pair[1][:4] in ("TRAN", "DIST") for pair in pairwise(words))
    # SQL Server knows neither of these, but whoever sends them means to begin a transaction.
    alone = words == ["BEGIN"] or words[:2] == ["START", "TRANSACTION"]
    return begins or alone or bool({"COMMIT", "ROLLBACK"} & set(words))
