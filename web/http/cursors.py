"""Turn the place where a page ended into text, signed and bound to its user and filter, and back.

A cursor that was changed, or is used by another user or with another filter, is refused: it would skip rows
without a word.
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
    """Give the cursor for a place (plain JSON values) in the list that ``scope`` describes."""
    return str(_signer(user_id, scope).dumps(place))


def read(cursor: str, *, user_id: int, scope: object) -> Any:
    """Give the place back, or refuse with 400."""
    try:
        return _signer(user_id, scope).loads(cursor)
    except BadData:
        raise Problem(400, "cursor_invalid", "This cursor is damaged, or belongs to another user or filter.") from None


def row_place(row: dict[str, Any]) -> list[Any]:
    """Say where a row stands in the order of ``(created_at, id)``."""
    return [(row["created_at"] - EPOCH) // MICROSECOND, str(row["id"])]


def after_row(place: list[Any]) -> tuple[datetime, UUID | str]:
    """Give the key that ``row_place`` wrote; an id that raw SQL wrote in another form is text."""
    at = EPOCH + place[0] * MICROSECOND
    try:
        return at, UUID(place[1])
    except ValueError:
        return at, place[1]


def _signer(user_id: int, scope: object) -> URLSafeSerializer:
    settings = current_parts().settings
    keys = [*reversed(settings.secret_key_fallbacks), settings.secret_key]
    return URLSafeSerializer(keys, salt=f"unify-cursor|{user_id}|{scope!r}")
