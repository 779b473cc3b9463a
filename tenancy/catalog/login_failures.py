"""Count failed sign-ins in the catalog, for all workers together.

There is one counter for each account, and one for each browser that has signed in to it before. Guesses from
elsewhere count for the account only, so they cannot lock the owner's browser out. Scopes are stored hashed. Time
windows use the catalog's clock, because machines whose clocks differ would each begin a new window.
"""

from __future__ import annotations

import hashlib
from datetime import timedelta

import sqlalchemy as sa

from tenancy.catalog import now
from tenancy.catalog.tables import login_failures
from tenancy.errors import ThrottledError

LIMIT = 10
WINDOW_S = 900


def scope(*parts: str) -> str:
    return hashlib.sha256("\x1f".join(parts).encode("utf-8", "surrogatepass")).hexdigest()


def reserve(connection: sa.Connection, key: str) -> None:
    """Count an attempt, or raise ThrottledError; called before the password is checked.

    Otherwise many concurrent guesses could all be checked before the first one is counted.
    """
    mine = sa.select(login_failures).where(login_failures.c.scope == key)
    # Read without a lock first: for a missing row, MySQL's FOR UPDATE locks the gap, and with it neighbouring inserts.
    row = connection.execute(mine).first() and connection.execute(mine.with_for_update()).first()
    moment = now(connection)  # read under the lock, or a window begun meanwhile would lie in the future
    if row is None:
        ends = moment + timedelta(seconds=WINDOW_S)
        connection.execute(login_failures.insert(), {"scope": key, "failures": 1, "window_ends_at": ends})
        return
    fresh = (
        not moment < row.window_ends_at <= moment + timedelta(seconds=WINDOW_S)
    )  # over, or begun by a clock that was ahead
    if row.failures >= LIMIT and not fresh:
        wait = max(1, int((row.window_ends_at - moment).total_seconds()))
        raise ThrottledError(f"too many failed sign-ins: try again in {_words(wait)}.", retry_after_s=wait)
    values = {"failures": 1 if fresh else row.failures + 1}
    if fresh:
        values["window_ends_at"] = moment + timedelta(seconds=WINDOW_S)
    connection.execute(login_failures.update().where(login_failures.c.scope == key), values)


def _words(seconds: int) -> str:
    """Put a wait in words, rounded up to whole minutes from a minute on."""
    number, unit = (seconds, "second") if seconds < 60 else (-(-seconds // 60), "minute")
    return f"{number} {unit}{'' if number == 1 else 's'}"


def clear(connection: sa.Connection, key: str) -> None:
    connection.execute(login_failures.delete().where(login_failures.c.scope == key))


def purge(connection: sa.Connection) -> None:
    """Delete windows that are over, and those begun by a clock that was ahead."""
    moment, ends = now(connection), login_failures.c.window_ends_at
    over = sa.or_(ends <= moment, ends > moment + timedelta(seconds=WINDOW_S))
    connection.execute(login_failures.delete().where(over))
