"""Append to the audit log, a hash chain, and verify that nothing in it was changed.

Each row's seal is an HMAC under AUDIT_KEY over the row and the previous seal. The newest seal (the head) is written to
the process's log from time to time, which shows if the end of the chain is cut off in the database.

Every row has the account that acted (``actor_id``), the kind of caller (``actor``, see ``context.py``) and the request.
Rows from before catalog revision 0005 have no ``actor`` and are sealed without it.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from tenancy import context
from tenancy.catalog import damage
from tenancy.catalog.tables import audit_head, audit_log, users
from tenancy.errors import AuditBrokenError, code_and_message

log = logging.getLogger(__name__)

_HEAD_ID = 1
_head = sa.select(audit_head).where(audit_head.c.id == _HEAD_ID)
_head_locked = _head.with_for_update()
_insert = audit_log.insert()
_next_head = audit_head.update().where(audit_head.c.id == _HEAD_ID)
_there = audit_log.alias("there")
_beyond_head = sa.select(sa.func.min(audit_log.c.id)).where(
    audit_log.c.id > sa.select(audit_head.c.last_id).where(audit_head.c.id == _HEAD_ID).scalar_subquery()
)
_chain = (
    sa.select(audit_log)
    .where(audit_log.c.id > sa.bindparam("after"), audit_log.c.id <= sa.bindparam("last"))
    .order_by(audit_log.c.id)
)
_TELL_EVERY = 50
_VERIFIED_AT_ONCE = 1000

FAILED = "tenant.failed"
"""The action of rows about a failed operation on a tenant; their detail has the operation and the error's code."""


@dataclass(frozen=True)
class AuditFilter:
    """Describe the wanted rows; None means any value. ``since`` is inclusive, ``until`` is not."""

    action: str | None = None
    user_id: int | None = None
    actor_id: int | None = None
    since: datetime | None = None
    until: datetime | None = None

    def conditions(self) -> list[sa.ColumnElement[bool]]:
        rows = audit_log.c
        wanted = {rows.action: self.action, rows.user_id: self.user_id, rows.actor_id: self.actor_id}
        found = [column == value for column, value in wanted.items() if value is not None]
        # The range of ids is found by the index on time. Ids follow time only nearly, because the clocks of several
        # machines differ, so the time is compared too.
        if self.since:
            found += [rows.at >= self.since, rows.id >= _end(sa.func.min, _there.c.at >= self.since)]
        if self.until:
            found += [rows.at < self.until, rows.id <= _end(sa.func.max, _there.c.at < self.until)]
        return found


EVERYTHING = AuditFilter()


class AuditLog:
    """Append, list and verify the rows of the log under one key."""

    def __init__(self, key: str) -> None:
        self._key = key.encode()

    def append(
        self,
        connection: sa.Connection,
        action: str,
        *,
        user_id: int | None = None,
        tenant_id: uuid.UUID | None = None,
        detail: dict[str, Any] | None = None,
    ) -> None:
        """Add a row in the caller's transaction; actor and request are taken from the context."""
        self.append_many(connection, action, [(user_id, tenant_id)], detail=detail)

    def append_many(
        self,
        connection: sa.Connection,
        action: str,
        of: Sequence[tuple[int | None, uuid.UUID | None]],
        *,
        detail: dict[str, Any] | None = None,
    ) -> None:
        """Add a row for each ``(user_id, tenant_id)`` in the caller's transaction, reading the head once."""
        here = context.current()
        head = self.lock(connection)
        shared: dict[str, Any] = {
            "at": datetime.now(UTC),
            "action": action,
            "actor_id": here.actor_id,
            "actor": here.actor or context.LIBRARY,
            "request_id": here.request_id or context.new_request_id(),
        }
        shared["detail"] = json.dumps(detail or {}, sort_keys=True)
        seal, rows = head.seal, []
        for row_id, (user_id, tenant_id) in enumerate(of, int(head.last_id) + 1):
            row = {"id": row_id, "user_id": user_id, "tenant_id": tenant_id, **shared}
            row["seal"] = seal = self._seal(seal, row)
            rows.append(row)
        if not rows:
            return
        connection.execute(_insert, rows if len(rows) > 1 else rows[0])
        connection.execute(_next_head, {"last_id": rows[-1]["id"], "seal": seal})
        for row in rows:
            if row["id"] % _TELL_EVERY == 1:
                log.info("audit head %s:%s", row["id"], row["seal"])

    def failed(
        self,
        connection: sa.Connection,
        operation: str,
        error: BaseException,
        of: Sequence[tuple[int | None, uuid.UUID | None]],
        **detail: Any,
    ) -> None:
        """Add a row for each ``(user_id, tenant_id)`` on which an operation failed, with the error's code.

        The error's text is left out: it is stored with the tenant.
        """
        code, _ = code_and_message(error)
        self.append_many(connection, FAILED, of, detail={"operation": operation, "code": code} | detail)

    def append_once(
        self,
        connection: sa.Connection,
        action: str,
        *,
        user_id: int | None,
        tenant_id: uuid.UUID,
        detail: dict[str, Any],
    ) -> None:
        """Add a row unless an equal one exists, for an event that several processes notice."""
        self.lock(connection)
        owner = audit_log.c.user_id.is_(None) if user_id is None else audit_log.c.user_id == user_id
        same = (owner, audit_log.c.action == action, audit_log.c.tenant_id == tenant_id)
        known = connection.execute(sa.select(audit_log.c.detail).where(*same)).scalars()
        if json.dumps(detail, sort_keys=True) not in set(known):
            self.append(connection, action, user_id=user_id, tenant_id=tenant_id, detail=detail)

    def lock(self, connection: sa.Connection) -> Any:
        """Lock the head until the transaction ends, and return it.

        To prevent deadlocks a transaction takes this lock last, when it appends its row. The exceptions are decisions
        about the whole catalog, which take it first to exclude each other.
        """
        head = connection.execute(_head_locked).first()
        if head is None:
            raise AuditBrokenError(
                "the audit log has lost its head: run `unify audit verify` or call `manager.audit.verify()`.", row_id=1
            )
        return head

    def page(
        self,
        connection: sa.Connection,
        wanted: AuditFilter = EVERYTHING,
        *,
        before_id: int | None = None,
        limit: int = 50,
    ) -> list[dict[str, Any]]:
        """List rows without their seals, newest first, with the e-mail addresses of account and actor."""
        rows, of, by = audit_log.c, users.alias("of"), users.alias("actor")
        conditions = wanted.conditions()
        conditions += [rows.id < before_id] if before_id is not None else []
        chosen = sa.select(audit_log).where(*conditions).order_by(rows.id.desc()).limit(limit).subquery("chosen")
        people = chosen.outerjoin(of, of.c.id == chosen.c.user_id).outerjoin(by, by.c.id == chosen.c.actor_id)
        query = sa.select(
            *(column for column in chosen.c if column.name != "seal"),
            of.c.email.label("email"),
            by.c.email.label("actor_email"),
        )
        found = damage.dicts(connection, query.select_from(people).order_by(chosen.c.id.desc()))
        return [
            {**row, "tenant_id": row["tenant_id"] and str(row["tenant_id"]), "detail": _read_detail(row["detail"])}
            for row in found
        ]

    def actions(self, connection: sa.Connection) -> list[str]:
        """List the actions that occur, by name."""
        return list(connection.execute(sa.select(audit_log.c.action).distinct().order_by(audit_log.c.action)).scalars())

    def verify(self, connection: sa.Connection, expect: str | None = None) -> dict[str, Any]:
        """Check every row in order; return ``{"rows", "head"}``, or raise AuditBrokenError with ``row_id``.

        ``expect`` is a head (``id:seal``) from the process's log that must be part of the chain.
        """
        head = connection.execute(_head).first()
        if head is None:
            raise AuditBrokenError("the audit log has lost its head.", row_id=1)
        seal, last, wanted = "", 0, expect
        for row in self._rows(connection, int(head.last_id)):
            last += 1
            if row["id"] != last:
                raise AuditBrokenError(f"audit row {last} is missing.", row_id=last)
            if not hmac.compare_digest(self._seal(seal, row), row["seal"].encode("ascii", "replace").decode()):
                raise AuditBrokenError(f"audit row {last} was changed.", row_id=last)
            seal = row["seal"]
            if wanted == f"{last}:{seal}":
                wanted = None
        if (head.last_id, head.seal) != (last, seal):
            raise AuditBrokenError(f"the audit log was cut off after row {last}.", row_id=last + 1)
        self._check_end(connection, last, wanted)
        log.info("audit head %s:%s", last, seal)
        return {"rows": last, "head": f"{last}:{seal}"}

    def _rows(self, connection: sa.Connection, last: int) -> Iterator[dict[str, Any]]:
        """Yield the rows up to ``last``, reading some at a time, as a driver may load a whole result into memory."""
        after, some = 0, True
        while some:
            some = False
            for row in damage.read(connection, _chain.params(after=after, last=last).limit(_VERIFIED_AT_ONCE)):
                shown = dict(zip(audit_log.c.keys(), row.values, strict=True))
                if row.damaged:
                    raise AuditBrokenError(f"audit row {shown['id']} was changed.", row_id=shown["id"])
                yield shown
                after, some = shown["id"], True

    def _check_end(self, connection: sa.Connection, last: int, wanted: str | None) -> None:
        """Look for rows after the head: appending moves the head, so such a row was forged."""
        forged = connection.execute(_beyond_head).scalar()
        if forged is not None:
            raise AuditBrokenError(f"audit row {forged} is after the head.", row_id=int(forged))
        if wanted is not None:
            raise AuditBrokenError(
                f"the head {wanted.partition(':')[0]} from the log is not in the chain.", row_id=last + 1
            )

    def _seal(self, before: str, row: dict[str, Any]) -> str:
        kept = [
            before,
            row["id"],
            row["at"].astimezone(UTC).isoformat(timespec="microseconds"),
            row["action"],
            row["actor_id"],
            row["user_id"],
            str(row["tenant_id"]) if row["tenant_id"] else None,
            row["request_id"],
            row["detail"],
            *([row["actor"]] if row["actor"] is not None else []),
        ]
        return hmac.new(self._key, json.dumps(kept).encode(), hashlib.sha256).hexdigest()


def _read_detail(text: str) -> dict[str, Any]:
    """Parse a row's detail, which contains anything if it was changed by hand."""
    try:
        detail = json.loads(text)
    except ValueError:
        return {"damaged": text}
    return detail if isinstance(detail, dict) else {"damaged": text}


def _end(outermost: Callable[[Any], Any], condition: sa.ColumnElement[bool]) -> sa.ScalarSelect[Any]:
    """Return a subquery for the first or last id of the rows that meet a condition on their time."""
    any_order = sa.func.coalesce(_there.c.id, _there.c.id)  # else SQLite scans by id and not by the index on time
    return sa.select(outermost(any_order)).where(condition).scalar_subquery()
