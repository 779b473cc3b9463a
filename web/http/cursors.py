"""Encode the position where a page of a list ended as a cursor, signed and bound to its user and filter, and back.

A cursor that was changed, or is used by another user or with another filter, is refused, because it would silently
skip rows.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from itsdangerous import BadData, URLSafeSerializer

from web.http.errors import Problem
from web.parts import current_parts

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


def write(place: object, *, user_id: int, scope: object) -> str:
    """Return the cursor for a position (plain JSON values) in the list that ``scope`` describes."""
    return str(_signer(user_id, scope).dumps(place))


def read(cursor: str, *, user_id: int, scope: object) -> Any:
    """Return the position in a cursor, or refuse with 400."""
    try:
        return _signer(user_id, scope).loads(cursor)
    except BadData:
        raise Problem(400, "cursor_invalid", "This cursor is damaged, or belongs to another user or filter.") from None


def row_place(row: dict[str, Any]) -> list[Any]:
    """Return the position of a row in the order of ``(created_at, id)``."""
    return [(row["created_at"] - EPOCH) // MICROSECOND, str(row["id"])]


def after_row(place: list[Any]) -> tuple[datetime, UUID | str]:
    """Decode what ``row_place`` returned; an id that is not a UUID (written by raw SQL) stays text."""
    at = EPOCH + place[0] * MICROSECOND
    try:
        return at, UUID(place[1])
    except ValueError:
        return at, place[1]


def _signer(user_id: int, scope: object) -> URLSafeSerializer:
    settings = current_parts().settings
    keys = [*reversed(settings.secret_key_fallbacks), settings.secret_key]
    return URLSafeSerializer(keys, salt=f"unify-cursor|{user_id}|{scope!r}")
