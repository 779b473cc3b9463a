"""Add a manual order to a resource.

A row's ``position`` is a timestamp; later means higher, so a new row is on top. Moving a row sets its position halfway
between its new neighbours. Only if there is no room between them, some of the rows above are spread out. The version
of a row does not change by this, so an edit in progress is not refused as stale.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import sqlalchemy as sa

from repositories.base import sorting, values
from repositories.base.sorting import Row, Sort
from repositories.base.statements import AnyRowId
from repositories.categorized import CategorizedRepository

FAR = timedelta(seconds=1)
MICROSECOND = timedelta(microseconds=1)
STEPS_MAX = 1000
SPREAD = 64
"""How many rows are spread out at first; four times as many each time while there is not enough room."""


def by_hand(table: sa.Table) -> Sort:
    """Return the manual order."""
    return sorting.down(table.c.position, table.c.id)


class Place(NamedTuple):
    """Identify a row's place; of two rows with the same position the one with the greater id is higher."""

    position: datetime
    id: Any


class OrderedRepository(CategorizedRepository):
    """Read and write rows that have a ``position``."""

    def move(self, id: Any, *, before: Any = None, after: Any = None) -> None:
        """Move a row right above another (``before``), right below another (``after``), or to the top.

        If both are given, ``before`` counts. Raises NotFoundError if one of the rows does not exist. Three statements.
        """
        key = self._found_key(id)
        beside = None if before is None and after is None else self._found_key(after if before is None else before)
        places = self._places(key, beside)
        if beside == key:
            return
        if beside is None:
            low, high = self._next_to(None, key, upwards=False), None
        elif before is not None:
            low, high = places[beside], self._next_to(places[beside], key, upwards=True)
        else:
            low, high = self._next_to(places[beside], key, upwards=False), places[beside]
        self._put_between(key, low, high)

    def move_by(self, id: Any, steps: int, *, text: str | None = None, **filters: Any) -> bool:
        """Move a row down by some steps (negative: up) among the rows that the text and filters match.

        Returns whether it moved, which it does not at the end.
        """
        wanted = values.whole(-STEPS_MAX, STEPS_MAX)(steps, "steps")
        if not wanted:
            raise values.refuse("steps", "must not be 0.")
        key = self._found_key(id)
        place = self._places(key)[key]
        passed = self._beyond(
            place, key, upwards=wanted < 0, statement=self._narrowed(text, filters), limit=abs(wanted)
        )
        if not passed:
            return False
        if wanted < 0:
            self._put_between(key, passed[-1], self._next_to(passed[-1], key, upwards=True))
        else:
            self._put_between(key, self._next_to(passed[-1], key, upwards=False), passed[-1])
        return True

    def _history(self, now: datetime) -> Row:
        return super()._history(now) | {"position": now}

    def _places(self, *keys: Any) -> dict[Any, Place]:
        """Return the place of each row, or raise NotFoundError if one does not exist."""
        wanted = {key for key in keys if key is not None}
        statement = self.apply_user_filter(sa.select(*self._place())).where(self.table.c.id.in_(wanted))
        places = {row["id"]: Place(**row) for row in self._rows(statement)}
        if places.keys() != wanted:
            raise self._missing()
        return places

    def _next_to(self, place: Place | None, moved: Any, *, upwards: bool) -> Place | None:
        """Return the row right above or below a place, ignoring the moved one; without a place, the top row."""
        return next(iter(self._beyond(place, moved, upwards=upwards, limit=1)), None)

    def _beyond(
        self, place: Place | None, moved: Any, *, upwards: bool, limit: int, statement: Any = None
    ) -> list[Place]:
        """Return rows above or below a place, the nearest first, ignoring the moved one."""
        columns = self.table.c.position, self.table.c.id
        sort = sorting.up(*columns) if upwards else sorting.down(*columns)
        chosen = self.apply_user_filter(sa.select(*self._place())) if statement is None else statement
        chosen = chosen.with_only_columns(*self._place(), maintain_column_froms=True).where(self.table.c.id != moved)
        if place is not None:
            chosen = chosen.where(sorting.beyond(sort, place))
        order = (key.by.desc() if key.descending else key.by for key in sort)
        return [Place(**row) for row in self._rows(chosen.order_by(*order).limit(limit))]

    def _put_between(self, moved: Any, low: Place | None, high: Place | None) -> None:
        """Write the moved row's new position, above ``low`` and below ``high``; None is the end of the list."""
        if low is None:
            self._write({moved: high.position - FAR if high else datetime.now(UTC)})
            return
        if high is None:
            self._write({moved: max(datetime.now(UTC), low.position + MICROSECOND)})
            return
        middle = low.position + (high.position - low.position) / 2
        if low.position < middle < high.position:
            self._write({moved: middle})
        else:
            self._write(self._spread(moved, low))

    def _spread(self, moved: Any, low: Place) -> dict[Any, datetime]:
        """Return new positions above ``low`` for the moved row and for as many rows above it as necessary."""
        count, step = SPREAD, 0
        while not step:
            above = self._beyond(low, moved, upwards=True, limit=count + 1)
            room = 2 * (len(above) + 2) * MICROSECOND
            full = len(above) > count
            ceiling = above.pop().position if full else max(datetime.now(UTC), low.position + room)
            step = (ceiling - low.position) // MICROSECOND // (len(above) + 2)
            count *= 4
        ids = [moved, *(place.id for place in above)]
        return {id: low.position + number * step * MICROSECOND for number, id in enumerate(ids, start=1)}

    def _write(self, positions: dict[Any, datetime]) -> None:
        key = sa.type_coerce(self.table.c.id, AnyRowId())
        statement = self.apply_user_filter(sa.update(self.table)).where(key == sa.bindparam("p_key"))
        statement = statement.values(position=sa.bindparam("p_position"))
        self.session.execute(statement, [{"p_key": id, "p_position": at} for id, at in positions.items()])

    def _place(self) -> list[sa.ColumnElement[Any]]:
        return [self.table.c.position, sa.type_coerce(self.table.c.id, AnyRowId()).label("id")]
