"""Count failed sign-ins in the catalog, so that all workers agree.

Two kinds of counters: one an account, and one for each browser that has signed in to it before. Guesses
from elsewhere fill the first and so never lock the owner's own browser out. Scopes are stored hashed. Windows begin
and end by the catalog's clock: machines whose clocks differ by more than a window would each begin it anew.
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
    """Count an attempt before its password is looked at, or raise ThrottledError.

    Counting first means that many guesses sent at once cannot all pass before one of them is counted.
    """
    mine = sa.select(login_failures).where(login_failures.c.scope == key)
    # Looked at first without a lock: MySQL locks the gap where a missing row would be, against its neighbours too.
    row = connection.execute(mine).first() and connection.execute(mine.with_for_update()).first()
    moment = now(connection)  # under the lock: else a window that began meanwhile would seem to lie ahead
    if row is None:
        ends = moment + timedelta(seconds=WINDOW_S)
        connection.execute(login_failures.insert(), {"scope": key, "failures": 1, "window_ends_at": ends})
        return
    fresh = not moment < row.window_ends_at <= moment + timedelta(seconds=WINDOW_S)  # or counted by a clock ahead
    if row.failures >= LIMIT and not fresh:
        wait = max(1, int((row.window_ends_at - moment).total_seconds()))
        raise ThrottledError(f"too many failed sign-ins: try again in {wait} seconds.", retry_after_s=wait)
    values = {"failures": 1 if fresh else row.failures + 1}
    if fresh:
        values["window_ends_at"] = moment + timedelta(seconds=WINDOW_S)
    connection.execute(login_failures.update().where(login_failures.c.scope == key), values)


def clear(connection: sa.Connection, key: str) -> None:
    connection.execute(login_failures.delete().where(login_failures.c.scope == key))


def purge(connection: sa.Connection) -> None:
    """Forget the windows that are over, and those that a clock which was ahead has begun."""
    moment, ends = now(connection), login_failures.c.window_ends_at
    over = sa.or_(ends <= moment, ends > moment + timedelta(seconds=WINDOW_S))
    connection.execute(login_failures.delete().where(over))
