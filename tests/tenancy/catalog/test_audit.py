"""The audit log: an unbroken chain of seals, and whatever is done to it names the first row that it breaks."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from tenancy import context
from tenancy.catalog import Catalog, audit
from tenancy.catalog.audit import AuditLog
from tenancy.catalog.tables import audit_head, audit_log
from tenancy.errors import AuditBrokenError, DatabaseBusyError
from tenancy.types import new_id
from tests.support.threads import at_once
from tests.tenancy.conftest import AUDIT_KEY


def append(catalog, *actions):
    for action in actions:
        with catalog.writing() as connection:
            catalog.audit.append(connection, action, user_id=7, detail={"of": action})


def verify(catalog, expect=None):
    with catalog.reading() as connection:
        return catalog.audit.verify(connection, expect)


def rows(catalog):
    with catalog.reading() as connection:
        return connection.execute(sa.select(audit_log).order_by(audit_log.c.id)).mappings().all()


def tamper(catalog, *statements):
    with catalog.writing() as connection:
        for statement in statements:
            connection.execute(statement)


def row(number):
    return audit_log.c.id == number


def broken_row(catalog, expect=None):
    with pytest.raises(AuditBrokenError) as broken:
        verify(catalog, expect)
    return broken.value.fields["row_id"]


@pytest.fixture
def five(catalog):
    append(catalog, "one", "two", "three", "four", "five")
    return catalog


def test_an_empty_log_holds(catalog):
    assert verify(catalog) == {"rows": 0, "head": "0:"}


def test_a_log_holds_and_gives_its_head(five):
    assert verify(five) == {"rows": 5, "head": f"5:{rows(five)[-1]['seal']}"}


def test_a_row_says_who_acted_for_whom_on_which_request(catalog):
    with catalog.writing() as connection, context.held(7, actor_id=3):
        here = context.current()
        context.bind(context.Context(7, None, False, True, 7, here.actor_id, "request-1", context.CONSOLE))
        tenant_id = new_id()
        catalog.audit.append(connection, "look", user_id=7, tenant_id=tenant_id, detail={"b": 1, "a": "ä😀"})
    (only,) = rows(catalog)
    assert (only["actor_id"], only["user_id"], only["tenant_id"]) == (3, 7, tenant_id)
    assert (only["request_id"], only["action"], only["actor"]) == ("request-1", "look", "console")
    assert verify(catalog)["rows"] == 1


def test_a_row_names_a_way_in_and_a_request_whoever_writes_it(catalog):
    append(catalog, "plain")
    with context.acting("command ada@example"):
        append(catalog, "one", "two")
    plain, one, two = rows(catalog)
    assert (plain["actor"], one["actor"]) == (context.LIBRARY, "command ada@example")
    assert plain["request_id"]
    assert one["request_id"] == two["request_id"] not in (None, plain["request_id"])


def test_rows_sealed_before_there_was_an_actor_still_hold(catalog):
    at = datetime(2026, 1, 2, 3, 4, 5, 6, UTC)
    old = {"id": 1, "at": at, "action": "old", "actor_id": 3, "user_id": 7, "tenant_id": None, "request_id": "r"}
    sealed = ["", 1, "2026-01-02T03:04:05.000006+00:00", "old", 3, 7, None, "r", "{}"]
    seal = hmac.new(AUDIT_KEY.encode(), json.dumps(sealed).encode(), hashlib.sha256).hexdigest()
    tamper(
        catalog,
        audit_log.insert().values(**old, detail="{}", seal=seal),
        audit_head.update().values(last_id=1, seal=seal),
    )
    append(catalog, "new")
    assert verify(catalog)["rows"] == 2


def test_a_failure_is_told_by_its_operation_and_code_and_not_in_its_words(catalog):
    tenant_id = new_id()
    with catalog.writing() as connection:
        catalog.audit.failed(connection, "suspend", DatabaseBusyError("secret words"), [(7, tenant_id)], run=3)
        catalog.audit.failed(connection, "delete", ZeroDivisionError("secret words"), [(8, tenant_id)])
    told, unforeseen = rows(catalog)
    assert (told["action"], told["user_id"], told["tenant_id"]) == ("tenant.failed", 7, tenant_id)
    assert json.loads(told["detail"]) == {"operation": "suspend", "code": "database_busy", "run": 3}
    assert json.loads(unforeseen["detail"])["operation"] == "delete"
    assert "secret" not in told["detail"] + unforeseen["detail"]


def test_verifying_asks_for_some_rows_at_a_time(five, monkeypatch):
    monkeypatch.setattr(audit, "_VERIFIED_AT_ONCE", 2)
    asked = []

    @sa.event.listens_for(five.engine, "before_cursor_execute")
    def note(connection, cursor, statement, *more):
        asked.append(statement)

    try:
        assert verify(five)["rows"] == 5
    finally:
        sa.event.remove(five.engine, "before_cursor_execute", note)
    assert sum("ORDER BY audit_log.id" in statement for statement in asked) == 4


def test_what_is_appended_while_the_log_is_verified_does_not_break_it(whole_product, catalog):
    append(catalog, "one", "two", "three")

    class Slow(AuditLog):
        def _seal(self, before, row):
            if row["id"] == 2:
                append(catalog, "meanwhile")
            return super()._seal(before, row)

    with catalog.reading() as connection:
        assert Slow(AUDIT_KEY).verify(connection)["rows"] == 3
    assert verify(catalog)["rows"] == 4


def test_a_row_written_past_the_head_is_named(five):
    last = dict(rows(five)[-1])
    tamper(five, audit_log.insert().values(last | {"id": 6}))
    assert broken_row(five) == 6


@pytest.mark.parametrize(
    "change",
    [
        {"detail": '{"of": "three "}'},
        {"detail": "{}"},
        {"action": "thre3"},
        {"user_id": 8},
        {"user_id": None},
        {"actor_id": 1},
        {"request_id": "x"},
        {"actor": "console"},
        {"actor": None},
        {"tenant_id": new_id()},
        {"at": sa.bindparam("at")},
        {"seal": "0" * 64},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_changed_row_is_named(five, change):
    if "at" in change:
        from datetime import timedelta

        change = {"at": rows(five)[2]["at"] + timedelta(microseconds=1)}
    tamper(five, audit_log.update().where(row(3)).values(**change))
    assert broken_row(five) == 3


def test_a_row_deleted_from_the_middle_is_named(five):
    tamper(five, audit_log.delete().where(row(3)))
    assert broken_row(five) == 3


def test_a_row_deleted_and_the_others_moved_up_is_named(five):
    tamper(
        five,
        audit_log.delete().where(row(3)),
        audit_log.update().where(row(4)).values(id=3),
        audit_log.update().where(row(5)).values(id=4),
        audit_head.update().values(last_id=4),
    )
    assert broken_row(five) == 3


def test_swapped_rows_are_named(five):
    tamper(
        five,
        audit_log.update().where(row(2)).values(id=99),
        audit_log.update().where(row(3)).values(id=2),
        audit_log.update().where(row(99)).values(id=3),
    )
    assert broken_row(five) == 2


def test_swapped_contents_are_named(five):
    second, third = rows(five)[1:3]
    tamper(
        five,
        audit_log.update().where(row(2)).values(action=third["action"], detail=third["detail"]),
        audit_log.update().where(row(3)).values(action=second["action"], detail=second["detail"]),
    )
    assert broken_row(five) == 2


def test_a_row_put_in_by_somebody_without_the_key_is_named(five):
    forger = Catalog(five.engine, "some other key")
    append(forger, "forged")
    assert broken_row(five) == 6


def test_a_first_row_deleted_is_named(five):
    tamper(five, audit_log.delete().where(row(1)))
    assert broken_row(five) == 1


def test_a_tail_cut_off_is_named(five):
    tamper(five, audit_log.delete().where(audit_log.c.id > 3))
    assert broken_row(five) == 4


def test_a_tail_cut_off_with_the_head_set_back_shows_against_a_head_from_the_log(five):
    noted = verify(five)["head"]
    third = rows(five)[2]
    tamper(
        five,
        audit_log.delete().where(audit_log.c.id > 3),
        audit_head.update().values(last_id=3, seal=third["seal"]),
    )
    assert verify(five)["rows"] == 3  # nothing inside the database can tell
    assert broken_row(five, expect=noted) == 4


def test_a_tail_rewritten_after_a_cut_shows_against_a_head_from_the_log(five):
    noted = verify(five)["head"]
    tamper(
        five,
        audit_log.delete().where(audit_log.c.id > 3),
        audit_head.update().values(last_id=3, seal=rows(five)[2]["seal"]),
    )
    append(five, "other", "history", "longer")
    assert verify(five)["rows"] == 6
    assert broken_row(five, expect=noted) == 7


def test_a_head_noted_earlier_is_still_part_of_a_longer_chain(five):
    noted = verify(five)["head"]
    append(five, "six")
    assert verify(five, expect=noted)["rows"] == 6


def test_an_emptied_log_is_named(five):
    tamper(five, audit_log.delete())
    assert broken_row(five) == 1
    tamper(five, audit_head.delete())
    assert broken_row(five) == 1
    with pytest.raises(AuditBrokenError, match="head"):
        append(five, "six")
    with five.writing() as connection:
        connection.execute(audit_head.insert(), {"id": 1, "last_id": 0, "seal": ""})


def test_sixteen_threads_append_one_unbroken_chain(whole_product, catalog):
    answers = at_once(16, lambda number: append(catalog, *[f"{number}.{turn}" for turn in range(5)]))
    assert answers == [None] * 16
    assert verify(catalog)["rows"] == 80
    assert len({row["action"] for row in rows(catalog)}) == 80


def test_a_row_is_kept_only_with_what_it_tells_of(five):
    with pytest.raises(ZeroDivisionError), five.writing() as connection:
        five.audit.append(connection, "lost")
        raise ZeroDivisionError
    append(five, "six")
    assert verify(five)["rows"] == 6


def test_what_sixteen_notice_at_once_is_told_once(whole_product, catalog):
    tenant_id = new_id()

    def notice(number):
        with catalog.writing() as connection:
            catalog.audit.append_once(connection, "noticed", user_id=1, tenant_id=tenant_id, detail={"what": 1})

    assert at_once(16, notice) == [None] * 16
    assert verify(catalog)["rows"] == 1
    with catalog.writing() as connection:
        catalog.audit.append_once(connection, "noticed", user_id=1, tenant_id=tenant_id, detail={"what": 2})
        catalog.audit.append_once(connection, "noticed", user_id=None, tenant_id=tenant_id, detail={"what": 1})
        catalog.audit.append_once(connection, "noticed", user_id=None, tenant_id=tenant_id, detail={"what": 1})
    assert verify(catalog)["rows"] == 3


def test_the_head_is_told_to_the_process_log_now_and_then(catalog, caplog):
    caplog.set_level(logging.INFO, "tenancy.catalog.audit")
    append(catalog, *[str(number) for number in range(51)])
    told = [record.getMessage() for record in caplog.records if "audit head" in record.getMessage()]
    assert [line.split()[2].partition(":")[0] for line in told] == ["1", "51"]
    assert verify(catalog, expect=told[0].split()[2])["rows"] == 51


def test_many_are_added_in_one_go_as_if_one_by_one(catalog, caplog):
    caplog.set_level(logging.INFO, "tenancy.catalog.audit")
    append(catalog, "before")
    of = [(number, new_id()) for number in range(120)]
    with catalog.writing() as connection:
        catalog.audit.append_many(connection, "made", of, detail={"type": "sqlite"})
        catalog.audit.append_many(connection, "made", [])
    append(catalog, "after")
    assert verify(catalog)["rows"] == 122
    assert [(row.user_id, row.tenant_id) for row in rows(catalog) if row.action == "made"] == of
    told = [record.getMessage() for record in caplog.records if "audit head" in record.getMessage()]
    assert [line.split()[2].partition(":")[0] for line in told[:3]] == ["1", "51", "101"]


def test_the_key_is_not_shown():
    assert "sesame" not in repr(AuditLog("sesame")) + str(vars(AuditLog("x")).keys())
