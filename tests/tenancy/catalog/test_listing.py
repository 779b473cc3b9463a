"""Accounts in one table: every order, every filter, page by page, alike on every product."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from tenancy.catalog import Catalog, listing, statistics
from tenancy.catalog.listing import SORTS, Filter, Listing
from tenancy.catalog.tables import user_database_configs, users
from tenancy.errors import ConfigurationError
from tenancy.types import new_id
from tests.support.engines import on_sqlite
from tests.support.moments import now
from tests.tenancy.conftest import AUDIT_KEY, catalogs

NUMBER = 40


@pytest.fixture(scope="module")
def peopled(tmp_path_factory):
    """Give a function from an engine's name to a catalog with people in it; the tests here only read."""
    known = {}
    with catalogs(tmp_path_factory) as give:

        def catalog_of(engine_name):
            if engine_name not in known:
                known[engine_name] = Catalog(give(engine_name), AUDIT_KEY)
                fill(known[engine_name])
            return known[engine_name]

        yield catalog_of


def fill(catalog):
    """Write people: some never seen, some unmeasured, some without a database; many at the same moment."""
    began = now().replace(microsecond=0)
    with catalog.writing() as connection:
        for n in range(1, NUMBER + 1):
            moment = began - timedelta(days=n // 4)
            person = {
                "email": f"{'abc'[n % 3]}{n}@example.org",
                "email_key": f"{'abc'[n % 3]}{n}@example.org",
                "display_name": f"Person 1{n}%" if n == 7 else f"Person {n}",
                "is_admin": n % 10 == 0,
                "is_active": n % 8 != 0,
                "created_at": moment,
                "last_seen_at": None if n % 5 == 0 else moment,
            }
            (user_id,) = connection.execute(users.insert(), person).inserted_primary_key
            if n % 6:
                connection.execute(
                    user_database_configs.insert(),
                    {
                        "user_id": user_id,
                        "tenant_id": new_id(),
                        "db_type": "mysql" if n % 9 == 0 else "sqlite",
                        "state": "failed" if n % 7 == 0 else "ready",
                        "revision": (None, "0001", "0002", "0002", "0003")[n % 5],
                        "size_bytes": None if n % 4 == 0 else (n % 3) * 3_000_000_000,
                    },
                )


@pytest.fixture
def catalog(engine_name, peopled):
    return peopled(engine_name)


@pytest.fixture
def people(catalog):
    with catalog.reading() as connection:
        return {row.id: row for row in connection.execute(sa.select(users))}


@pytest.fixture(params=[2, 1000], ids=["as many", "as few"])
def few(request, monkeypatch):
    """Let the filters find many accounts, then few."""
    monkeypatch.setattr(listing, "FEW", request.param)


def walk(catalog, wanted=None, *, sort="id", descending=False, limit=7):
    """Give every row, page by page."""
    found, after = [], None
    for _ in range(NUMBER):
        with catalog.reading() as connection:
            rows, after = Listing(multi_tenant=True).page(
                connection, wanted or Filter(), "0002", sort=sort, descending=descending, limit=limit, after=after
            )
        assert len(rows) == limit or after is None
        found += rows
        if after is None:
            return found
    pytest.fail("the list never ends")


@pytest.mark.parametrize("descending", [False, True], ids=["up", "down"])
@pytest.mark.parametrize("sort", SORTS)
def test_every_order_shows_every_account_once_and_in_order(catalog, people, sort, descending):
    rows = walk(catalog, sort=sort, descending=descending)
    assert sorted(row["user_id"] for row in rows) == sorted(people)
    name = {"id": "user_id", "created": "created_at", "used": "last_seen_at", "size": "size_bytes"}.get(sort, sort)
    values = [row[name] for row in rows]
    known = [value for value in values if value is not None]
    assert known == sorted(known, reverse=descending)
    assert values[: len(known)] == known, "those without a value come last"


@pytest.mark.parametrize(
    ("wanted", "is_wanted"),
    [
        (Filter(state="failed"), lambda row: row["status"] == "failed"),
        (Filter(db_type="mysql"), lambda row: row["db_type"] == "mysql"),
        (Filter(behind=True), lambda row: row["behind"]),
        (Filter(account="active"), lambda row: row["is_active"]),
        (Filter(account="deactivated"), lambda row: not row["is_active"]),
        (Filter(account="admin"), lambda row: row["is_admin"]),
        (Filter(account="without"), lambda row: row["tenant_id"] is None),
        (Filter(query="B1"), lambda row: row["email"].startswith("b1")),
        (Filter(query="7%"), lambda row: "7%" in row["display_name"]),
        (Filter(query="zzz"), lambda row: False),
        (
            Filter(inactive_since=now() - timedelta(days=5, hours=12)),
            lambda row: (row["last_seen_at"] or row["created_at"]) < now() - timedelta(days=5, hours=12),
        ),
        (
            Filter(state="ready", behind=True, account="active"),
            lambda r: r["status"] == "ready" and r["behind"] and r["is_active"],
        ),
        (Filter(state="ready", account="without"), lambda row: False),
    ],
    ids=[
        "state",
        "type",
        "behind",
        "active",
        "shut out",
        "admin",
        "without",
        "text",
        "sign",
        "none",
        "unused",
        "all",
        "never",
    ],
)
@pytest.mark.parametrize("sort", SORTS)
def test_every_filter_gives_what_it_says_in_every_order(catalog, people, few, wanted, is_wanted, sort):
    everyone = walk(catalog, sort=sort)
    assert walk(catalog, wanted, sort=sort) == [row for row in everyone if is_wanted(row)]


def test_an_account_is_found_by_its_id(catalog, people):
    wanted = max(people)
    assert wanted in [row["user_id"] for row in walk(catalog, Filter(query=str(wanted)))]


def test_rows_hold_no_secrets_and_moments_have_a_zone(catalog, people):
    row = walk(catalog)[0]
    assert not {"password_hash", "db_password", "preferences"} & set(row)
    assert row["created_at"].tzinfo is not None
    assert isinstance(row["tenant_id"], str)


@pytest.mark.parametrize(
    ("sort", "after"),
    [
        ("id", []),
        ("id", [0, None, "1"]),
        ("id", [9, None, 1]),
        ("id", [-1, None, 1]),
        ("id", [0, None, 2**70]),
        ("created", [0, "yesterday", 1]),
        ("created", [0, None, 1]),
        ("email", [0, 3, 1]),
        ("size", [0, "big", 1]),
        ("password", None),
    ],
    ids=range(10),
)
@on_sqlite
def test_a_place_that_is_none_of_ours_is_refused(catalog, sort, after):
    with pytest.raises(ConfigurationError), catalog.reading() as connection:
        Listing(multi_tenant=True).page(connection, Filter(), "0002", sort=sort, descending=False, limit=5, after=after)


def test_the_figures_add_up(catalog, people):
    rows = walk(catalog)
    with catalog.reading() as connection:
        counted = statistics.accounts(connection) | statistics.databases(connection, multi_tenant=True, head="0002")
        sizes, movement = statistics.sizes(connection, multi_tenant=True), statistics.movement(connection)
        largest = statistics.largest(connection)
    made = [row for row in rows if row["tenant_id"]]
    assert (counted["accounts"], counted["databases"]) == (NUMBER, len(made))
    assert counted["administrators"] == sum(row["is_admin"] for row in rows)
    assert counted["deactivated"] == sum(not row["is_active"] for row in rows)
    assert counted["behind"] == sum(row["behind"] for row in rows)
    assert counted["by_state"]["failed"] == sum(row["status"] == "failed" for row in rows)
    assert counted["by_type"]["mysql"] == sum(row["db_type"] == "mysql" for row in rows)
    assert sum(counted["by_revision"].values()) == len(made)
    assert sizes["total_size_bytes"] == sum(row["size_bytes"] or 0 for row in made)
    assert sizes["measured"] == sum(row["size_bytes"] is not None for row in made)
    assert (len(movement["growth"]), sum(count for _, count in movement["growth"])) == (84, NUMBER)
    assert movement["growth"][-1][0] == datetime.now(UTC).date()
    assert movement["active"][30] == sum(row["last_seen_at"] is not None for row in rows)
    assert [size for _, _, size in largest] == sorted(
        (r["size_bytes"] for r in made if r["size_bytes"] is not None), reverse=True
    )[:10]
