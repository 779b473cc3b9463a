"""List accounts with their databases: filtered, in several orders, paged by key, and fast with 100,000 of them.

An order is a chain of segments, each read along one index: first the accounts that have a value to sort by, then those
without one (and, when sorting by size, those without a database). A filter is first evaluated for up to FEW ids. If
there are no more, the page is chosen among these ids; if there are more, walking the order's index finds a page of
matches soon. So no database's planner has to estimate which of the two is cheaper.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from tenancy import names
from tenancy.catalog import damage
from tenancy.catalog.tables import shared_database, user_database_configs, users
from tenancy.catalog.tenants import SHARED_ID
from tenancy.catalog.users import matches
from tenancy.errors import ConfigurationError
from tenancy.types import Timestamp

SORTS = ("id", "email", "created", "used", "size")
ACCOUNTS = ("active", "deactivated", "admin", "without")
FEW = 1000
"""The largest number of matches that are looked up by id instead of along the order's index."""

Condition = sa.ColumnElement[bool]
Place = list[Any]


@dataclass(frozen=True)
class Filter:
    """Describe the wanted accounts; ``inactive_since``: not seen since then, or never seen and made before then."""

    query: str | None = None
    state: str | None = None
    db_type: str | None = None
    behind: bool = False
    account: str | None = None
    inactive_since: datetime | None = None

    @property
    def of_databases(self) -> bool:
        return bool(self.state or self.db_type or self.behind)


@dataclass(frozen=True)
class _Segment:
    source: sa.FromClause
    id: sa.ColumnElement[int]
    key: sa.ColumnElement[Any] | None = None
    only: tuple[Condition, ...] = ()

    @property
    def order(self) -> list[sa.ColumnElement[Any]]:
        """The columns to sort by; the id is appended unless the key is unique by itself."""
        if self.key is None:
            return [self.id]
        return [self.key] if self.key is users.c.email_key else [self.key, self.id]


class Listing:
    """List accounts in one mode (shared or multi-tenant); holds the segments of each order."""

    def __init__(self, *, multi_tenant: bool) -> None:
        table = user_database_configs if multi_tenant else shared_database
        # The one shared row belongs to everybody. The always true comparison of ids joins it, or SQLAlchemy's linter
        # would warn of a cartesian product.
        shared = sa.and_(table.c.id == SHARED_ID, table.c.id <= users.c.id)
        place = table.c.user_id == users.c.id if multi_tenant else shared
        self._table = table
        self._with = users.join(table, place)
        self._all = users.outerjoin(table, place)
        self._columns = [
            users.c.id.label("user_id"),
            *(users.c[name] for name in ("email", "display_name", "is_admin", "is_active", "created_at")),
            users.c.last_seen_at,
            *(table.c[name] for name in ("tenant_id", "db_type", "revision", "size_bytes", "last_used_at")),
            table.c.state.label("status"),
            table.c.last_error_code,
        ]
        self._keys = {"email": users.c.email_key, "created": users.c.created_at, "used": users.c.last_seen_at}
        self._segments = {sort: self._segments_of(sort, multi_tenant) for sort in SORTS}

    def page(
        self,
        connection: sa.Connection,
        wanted: Filter,
        head: str,
        *,
        sort: str,
        descending: bool,
        limit: int,
        after: Place | None,
    ) -> tuple[list[dict[str, Any]], Place | None]:
        """Return a page of rows and the place to continue after; None at the end."""
        segments = self._segments.get(sort)
        if segments is None:
            raise ConfigurationError(f"sort must be one of {', '.join(SORTS)}.", field="sort")
        first, value, user_id = _place(after, segments)
        conditions = self._narrowed(connection, wanted, head)
        found: list[tuple[int, Any]] = []
        for number in range(first, len(segments)) if conditions is not None else ():
            here = segments[number]
            beyond = [_beyond(here, value, user_id, descending)] if number == first and after is not None else []
            source = self._source(wanted) if here.source is users else here.source
            chosen = sa.select(here.id).select_from(source).where(*here.only, *beyond, *(conditions or []))
            statement = self._statement(here, chosen.limit(limit + 1 - len(found)), descending)
            found += [(number, row) for row in damage.dicts(connection, statement)]
            if len(found) > limit:
                break
        rows = [_row(row, head) for _, row in found[:limit]]
        return rows, _place_of(*found[limit - 1]) if len(found) > limit else None

    def _statement(self, segment: _Segment, chosen: sa.Select[Any], descending: bool) -> sa.Select[Any]:
        """Join the ids chosen from an index to the tables, so that only the page's rows are looked up."""
        order = [column.desc() if descending else column.asc() for column in segment.order]
        sorted_by = sa.null() if segment.key is None else segment.key
        ids = chosen.order_by(*order).subquery("chosen")
        source = self._all.join(ids, ids.c[0] == users.c.id)
        return sa.select(*self._columns, sorted_by.label("sorted_by")).select_from(source).order_by(*order)

    def _narrowed(self, connection: sa.Connection, wanted: Filter, head: str) -> list[Condition] | None:
        """Return a filter's conditions in the form that suits its number of matches; None if there are none."""
        conditions = list(self._conditions(wanted, head, _as_it_is))
        if not conditions:
            return []
        few = sa.select(users.c.id).select_from(self._source(wanted)).where(*conditions).limit(FEW + 1)
        ids = connection.execute(few).scalars().all()
        if len(ids) > FEW:
            return list(self._conditions(wanted, head, _unindexed))
        return [users.c.id.in_(ids)] if ids else None

    def _source(self, wanted: Filter) -> sa.FromClause:
        """Return the smallest join that has all columns of the filter's conditions."""
        return self._with if wanted.of_databases else self._all if wanted.account == "without" else users

    def _conditions(self, wanted: Filter, head: str, of: Callable[[Any], Any]) -> Iterator[Condition]:
        table = self._table
        if wanted.state:
            yield of(table.c.state) == wanted.state
        if wanted.db_type:
            yield of(table.c.db_type) == wanted.db_type
        if wanted.behind:
            revision = of(table.c.revision)
            yield sa.and_(table.c.id.is_not(None), sa.or_(revision.is_(None), revision < head, revision > head))
        if wanted.account:
            yield self._of_account(wanted.account, of)
        if wanted.inactive_since:
            seen, made = of(users.c.last_seen_at), of(users.c.created_at)
            never = sa.and_(seen.is_(None), made < wanted.inactive_since)
            yield sa.or_(seen < wanted.inactive_since, never)
        if wanted.query:
            yield _found(wanted.query)

    def _of_account(self, account: str, of: Callable[[Any], Any]) -> Condition:
        known: dict[str, Condition] = {
            "active": of(users.c.is_active) == sa.true(),
            "deactivated": of(users.c.is_active) == sa.false(),
            "admin": of(users.c.is_admin) == sa.true(),
            "without": self._table.c.id.is_(None),
        }
        if account not in known:
            raise ConfigurationError(f"account must be one of {', '.join(ACCOUNTS)}.", field="account")
        return known[account]

    def _segments_of(self, sort: str, multi_tenant: bool) -> list[_Segment]:
        table = self._table
        if sort == "size" and multi_tenant:
            size = table.c.size_bytes
            return [
                _Segment(self._with, table.c.user_id, size, (size.is_not(None),)),
                _Segment(self._with, table.c.user_id, None, (size.is_(None),)),
                _Segment(self._all, users.c.id, None, (table.c.id.is_(None),)),
            ]
        key = self._keys.get(sort)  # in shared mode all have the same size
        if key is None or not key.nullable:
            return [_Segment(users, users.c.id, key)]
        return [
            _Segment(users, users.c.id, key, (key.is_not(None),)),
            _Segment(users, users.c.id, None, (key.is_(None),)),
        ]


def _as_it_is(column: Any) -> Any:
    return column


def _unindexed(column: Any) -> Any:
    """Hide a column in COALESCE, so that the planner uses the order's index and not this column's."""
    return sa.func.coalesce(column, column)


def _found(query: str) -> Condition:
    """Return the condition that the address or name contains a text, or that it is the id."""
    found = matches(query)
    return sa.or_(users.c.id == int(query), found) if query.isascii() and query.isdigit() and len(query) < 10 else found


def _beyond(segment: _Segment, value: Any, user_id: int, descending: bool) -> Condition:
    """Return the condition for rows after a place; written so that every product seeks to it in the index."""
    *major, last = segment.order
    at = user_id if last is segment.id else value
    beyond: Condition = last < at if descending else last > at
    for key in major:
        bound, further = (key <= value, key < value) if descending else (key >= value, key > value)
        beyond = sa.and_(bound, sa.or_(further, beyond))
    return beyond


def _row(row: Any, head: str) -> dict[str, Any]:
    shown = {name: value for name, value in row.items() if name != "sorted_by"}
    has = shown["tenant_id"] is not None
    return shown | {"tenant_id": str(shown["tenant_id"]) if has else None, "behind": has and row["revision"] != head}


def _place_of(number: int, row: Any) -> Place:
    value = row["sorted_by"]
    return [number, value.isoformat() if isinstance(value, datetime) else value, row["user_id"]]


def _place(after: Place | None, segments: list[_Segment]) -> tuple[int, Any, int]:
    """Parse a place that ``_place_of`` returned, or refuse it."""
    if after is None:
        return 0, None, 0
    try:
        number, value, user_id = after
        key = segments[number].key
        kind = None if key is None else _kind(key)
        value = datetime.fromisoformat(value).astimezone(UTC) if kind is datetime else value
        if number < 0 or names.user_id(user_id) != user_id or (kind and not isinstance(value, kind)):
            raise ValueError
    except (ValueError, TypeError, IndexError, ConfigurationError) as error:
        raise ConfigurationError("this place in the list is not one of ours: begin anew.", field="after") from error
    return number, value, user_id


def _kind(key: sa.ColumnElement[Any]) -> type[object]:
    return datetime if isinstance(key.type, Timestamp) else int if isinstance(key.type, sa.BigInteger) else str
