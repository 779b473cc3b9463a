"""Store the database servers that operators registered, and choose one for a new database."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from tenancy.catalog import damage
from tenancy.catalog.tables import database_servers, installation, pending_databases, user_database_configs
from tenancy.errors import NoServerError, ServerExistsError, ServerNotFoundError
from tenancy.models import Server, ServerState, State
from tenancy.names import fold

_table = database_servers
_held = (
    sa.select(sa.func.count())
    .where(user_database_configs.c.server_id == _table.c.id)
    .correlate(_table)
    .scalar_subquery()
    .label("tenants")
)
_kept = pending_databases.c.server_id == _table.c.id
_pending = sa.select(sa.func.count()).where(_kept).correlate(_table).scalar_subquery().label("pending")
_failed = (_kept, pending_databases.c.state == str(State.FAILED))
_pool_error = (
    sa.select(sa.func.max(pending_databases.c.last_error)).where(*_failed).correlate(_table).scalar_subquery()
).label("pool_error")
_open = (
    _kept,
    pending_databases.c.state == str(State.READY),
    pending_databases.c.schema_fingerprint == sa.bindparam("fingerprint"),
)
_ready = sa.select(sa.func.count()).where(*_open).correlate(_table).scalar_subquery().label("ready")
_FIELDS = (
    "id",
    "name",
    "db_type",
    "db_host",
    "db_port",
    "db_user",
    "db_password",
    "db_options",
    "max_tenants",
    "weight",
    "state",
    "created_at",
)
_mark = sa.select(installation.c.mark).where(installation.c.id == 1).scalar_subquery().label("installation")
_place = [*(_table.c[name] for name in _FIELDS), _mark]
_alone = sa.select(*_place).where(_table.c.id == sa.bindparam("id"))
_all = sa.select(*_place, _held, _pending, _pool_error)
_NAMES = (*_FIELDS, "installation", "tenants", "pending", "pool_error", "ready")
_CHECKS = {"state": ServerState}
_accepting = _all.add_columns(_ready).where(
    _table.c.db_type == sa.bindparam("type"), _table.c.state == str(ServerState.ACCEPTING)
)


def add(connection: sa.Connection, name: str, **values: Any) -> int:
    """Insert a server and return its id, or raise ServerExistsError if the name is taken."""
    moment = datetime.now(UTC)
    row = {"name": name, "name_key": fold(name), "state": str(ServerState.ACCEPTING), **values}
    try:
        result = connection.execute(_table.insert(), {**row, "created_at": moment, "updated_at": moment})
    except IntegrityError as error:
        raise ServerExistsError(f"a server named {name!r} is registered already.", field="name") from error
    return int((result.inserted_primary_key or [0])[0])


def every(connection: sa.Connection) -> list[Server]:
    """List all servers by name, with the number of databases on each."""
    return [_listed(row) for row in damage.read(connection, _all.order_by(_table.c.name_key), _CHECKS)]


def get(connection: sa.Connection, server_id: int) -> Server:
    """Return a server with its credential, without counting its databases."""
    return _found(damage.first(connection, _alone, {"id": server_id}), server_id)


def counted(connection: sa.Connection, server_id: int) -> Server:
    """Return a server with the number of its databases."""
    return _found(damage.first(connection, _all.where(_table.c.id == server_id)), server_id)


def by_name(connection: sa.Connection, name: str) -> Server:
    row = damage.first(connection, _all.where(_table.c.name_key == fold(name)))
    if row is None:
        raise ServerNotFoundError(
            f"no server named {name!r} is registered: see `unify servers list` or `manager.servers()`.", field="name"
        )
    return _server(row)


def change(connection: sa.Connection, server: Server, **changes: Any) -> None:
    connection.execute(_table.update().where(_table.c.id == server.id), {**changes, "updated_at": datetime.now(UTC)})


def remove(connection: sa.Connection, server: Server) -> None:
    """Delete a server, or raise ServerExistsError while it has databases."""
    _hold(connection, _table.c.id == server.id)
    here = counted(connection, server.id)
    held = here.tenants + here.pending
    if held:
        number = "1 database is" if held == 1 else f"{held} databases are"
        raise ServerExistsError(
            f"{number} still on server {server.name!r}. First drain it, so that it gets no new ones (`unify servers "
            "drain` or `manager.servers.drain()`), then delete those (`unify db delete` or "
            "`manager.delete_user_database()`; `unify db list` or `manager.reports.databases()` shows whose they are).",
            field="name",
            tenants=held,
        )
    connection.execute(_table.delete().where(_table.c.id == server.id))


def hold(connection: sa.Connection, server_id: int) -> Server:
    """Lock a server until the transaction ends, so that nobody else places databases on it or deletes it."""
    _hold(connection, _table.c.id == server_id)
    return counted(connection, server_id)


def place(connection: sa.Connection, db_type: str, *, lock: bool = True, fingerprint: str = "") -> Server:
    """Choose a server for a new database of a type, or raise NoServerError.

    Candidates accept databases and have room by ``max_tenants``, or a pending database of the schema ``fingerprint``.
    The one with the fewest databases in proportion to its weight is chosen. ``lock`` is for a transaction that then
    places a database there.
    """
    if lock:
        _hold(connection, _table.c.db_type == db_type)
    asked = {"type": db_type, "fingerprint": fingerprint}
    rows = damage.read(connection, _accepting.params(asked).order_by(_table.c.id), _CHECKS)
    found = [_listed(row) for row in rows]
    open_ones = [server for server in found if not server.damaged and (server.has_room or server.ready)]
    if not open_ones:
        why = "all are full" if found else "none is registered that takes databases"
        raise NoServerError(
            f"there is no {db_type} server for another database: {why} "
            "(`unify servers add` or `manager.servers.add()` registers one)."
        )
    return min(open_ones, key=lambda server: (server.tenants + 1) / server.weight)


def _hold(connection: sa.Connection, which: sa.ColumnElement[bool]) -> None:
    """Lock servers until the transaction ends, so that two transactions cannot both take the last room.

    An UPDATE that changes nothing locks rows on every product; SQLAlchemy leaves FOR UPDATE out for SQL Server.
    """
    connection.execute(_table.update().where(which).values(updated_at=_table.c.updated_at))


def _found(row: Any, server_id: int) -> Server:
    if row is None:
        raise ServerNotFoundError(f"there is no database server {server_id}.")
    return _server(row)


def _listed(row: damage.Read) -> Server:
    """Build a server from a row of a list; a damaged one is marked, and draining so that nothing is placed there."""
    values = dict(zip(_NAMES, row.values, strict=False))
    if row.damaged:
        values |= {"state": str(ServerState.DRAINING), "damaged": row.damaged}
    return Server(sealed_password=values.pop("db_password"), state=ServerState(values.pop("state")), **values)


def _server(row: Any) -> Server:
    values = dict(row._mapping)
    return Server(sealed_password=values.pop("db_password"), state=ServerState(values.pop("state")), **values)
