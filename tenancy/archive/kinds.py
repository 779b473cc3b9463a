"""Tell what a column holds from its type."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql
from sqlalchemy.types import TypeDecorator, TypeEngine

from tenancy.backends.copying import Kind

_KINDS: tuple[tuple[type[TypeEngine[Any]], Kind], ...] = (
    (sa.Boolean, Kind.BOOLEAN),
    (sa.Uuid, Kind.UUID),
    (sa.Integer, Kind.INTEGER),
    (sa.Float, Kind.FLOAT),
    (sa.Numeric, Kind.DECIMAL),
    (sa.DateTime, Kind.MOMENT),
    (sa.Date, Kind.DATE),
    (sa.String, Kind.TEXT),
    (sa.LargeBinary, Kind.BYTES),
    (sa.VARBINARY, Kind.BYTES),
    (mysql.LONGBLOB, Kind.BYTES),
    (mysql.MEDIUMBLOB, Kind.BYTES),
)


def kind_of(declared: TypeEngine[Any]) -> Kind | None:
    """Return what a column of a type holds, as a schema declares it or a database shows it; None if no kind does."""
    plain = declared.impl_instance if isinstance(declared, TypeDecorator) else declared
    if getattr(plain, "display_width", None) == 1:  # how MySQL shows what it made of BOOLEAN
        return Kind.BOOLEAN
    return next((kind for base, kind in _KINDS if isinstance(plain, base)), None)
