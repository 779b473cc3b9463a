"""Measure the administrators' console with many registered tenants: statements and milliseconds of every page.

A page is measured beside the same rows without a page around them: the JSON call that answers them, or the engine's own
answer to the same question. Both run in turns in one process; an answer is made whole before its first byte leaves.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import sqlalchemy as sa
from flask import Flask

import web
from bench.measure import Figure, in_turns, median, same_work
from bench.request import logs_to_nowhere, our_cookies
from bench.world import World, progress, register_only, world
from bench.wsgi import get
from tenancy.catalog import runs
from tenancy.catalog.runs import Rules, RunState, Selection
from tenancy.catalog.tables import audit_log, fleet_items, tenant_errors, tenant_sizes, user_database_configs, users

ASIDE = ("BEGIN", "COMMIT", "ROLLBACK", "PRAGMA", "SAVEPOINT", "RELEASE")
LOGGED = 2_000
Answer = Callable[[], object]


def run(small: bool = False) -> list[Figure]:
    """Give the figures of this module."""
    tenants, rounds = (2_000, 3) if small else (100_000, 20)
    with ExitStack() as stack:
        here = stack.enter_context(world(1))
        here.parts.accounts.promote(here.users[0].id)
        progress(f"registering {tenants:,} tenants")
        register_only(here.parts, tenants)
        _migrate(here)
        _vary(here, tenants)
        stack.enter_context(logs_to_nowhere())
        app = web.create(here.parts)
        cookie = our_cookies(here, app)[0]
        ask = partial(_get, app, cookie)
        _check_same_rows(ask)
        return [_page(here, ask, *page, tenants=tenants, rounds=rounds) for page in _pages(here, ask)]


def _pages(here: World, ask: Callable[[str], bytes]) -> Iterator[tuple[str, str, Answer, str]]:
    """Give every page: its name, its address, what it is measured beside, and what that is."""
    manager, owner = here.parts.manager, here.users[0].id
    databases = partial(ask, "/admin/databases?limit=50")
    rows = "GET /admin/databases: 50 databases as JSON"
    yield "overview", "/admin/", manager.reports.overview, "the same counts without a page"
    yield "users", "/admin/users", databases, rows
    after = "/admin/users?sort=-size"
    yield (
        "users by size",
        after,
        partial(manager.reports.accounts_page, sort="size", descending=True),
        "the same rows alone",
    )
    deep = _deep(ask)
    yield "users, deep in", deep, databases, "GET /admin/databases: 50 databases from the beginning, as JSON"
    wanted = "/admin/users?q=p1005"
    yield "users, searched", wanted, partial(manager.reports.accounts_page, query="p1005"), "the same rows alone"
    behind = "/admin/databases?behind=true&limit=50"
    yield "users, behind", "/admin/users?behind=1", partial(ask, behind), "GET /admin/databases: the same as JSON"
    report = partial(manager.reports.tenant, owner)
    yield "tenant", f"/admin/users/{owner}", report, "the tenant's report without a page"
    yield "audit", "/admin/audit", partial(manager.audit.page, limit=51), "the same rows without a page"
    yield "health", "/admin/health", manager.reports.health, "the same findings without a page"
    probe = f"/admin/users/{owner}/initialize"
    yield "initialize", probe, partial(manager.load_user_db_config, owner), "one configuration from the catalog"
    yield "fleet", "/admin/fleet", manager.fleet.status, "the same counts without a page"
    yield "run", "/admin/fleet/1", partial(manager.fleet.get, 1), "the run's record and counts without a page"
    failed = partial(manager.fleet.items, 1, states=["failed"], limit=51)
    yield "run, failed", "/admin/fleet/1?state=failed", failed, "the same rows without a page"


def _page(
    here: World,
    ask: Callable[[str], bytes],
    name: str,
    path: str,
    beside: Answer,
    what: str,
    *,
    tenants: int,
    rounds: int,
) -> Figure:
    page = partial(ask, path)
    page()
    with _counted(here.parts.catalog.engine) as sent:
        body = page()
    mine, plain = in_turns(rounds, page, beside)
    return Figure(
        f"console {name}",
        f"GET {urlsplit(path).path}: {name}, {tenants:,} tenants, {len(sent)} statements",
        "ms",
        median(mine) * 1000,
        median(plain) * 1000,
        what,
        notes={"statements": len(sent), "rounds": rounds, "page_bytes": len(body), "slowest_ms": max(mine) * 1000},
    )


def _migrate(here: World) -> None:
    """Leave the record of a run that touched every tenant, in which some failed, and one that has not ended."""
    fleet, configs, items = here.parts.manager.fleet, user_database_configs, fleet_items
    revision, catalog = configs.c.revision, here.parts.catalog
    head = here.parts.manager.head
    with catalog.writing() as connection:
        connection.execute(sa.update(configs).where(revision == head).values(revision="0001"))
    made = fleet.start(Selection(), Rules())
    with catalog.writing() as connection:
        connection.execute(sa.update(items).values(state="done", duration_ms=20))
        failed = items.c.user_id % sa.literal(211) == 0
        connection.execute(sa.update(items).where(failed).values(state="failed", error="the disk is full."))
        runs.change(connection, made.id, RunState.INCOMPLETE)
        connection.execute(sa.update(configs).where(revision == "0001").values(revision=head))
    behind = configs.c.user_id % sa.literal(13) == 0
    with catalog.writing() as connection:
        connection.execute(sa.update(configs).where(behind).values(revision="0001"))
    fleet.start(Selection(), Rules())


def _vary(here: World, tenants: int) -> None:
    """Let the fleet look like one: several states and revisions, sizes, sightings, errors, and a log."""
    now, configs, table = dt.datetime.now(dt.UTC), user_database_configs, users
    with here.parts.catalog.writing() as connection:
        connection.execute(sa.update(configs).values(size_bytes=configs.c.user_id * 7919 % 900_001 + 100_000))
        for divisor, values in ((97, {"state": "suspended"}), (101, {"state": "failed"}), (13, {"revision": "0001"})):
            connection.execute(sa.update(configs).where(configs.c.user_id % divisor == 0).values(**values))
        for day in range(80):
            moment = now - dt.timedelta(days=day)
            chosen = sa.update(table).where(table.c.id % sa.literal(80) == day, table.c.id != here.users[0].id)
            connection.execute(chosen.values(created_at=moment, last_seen_at=moment if day % 3 else None))
        first = 1_000_000
        trouble = {"message": "the disk is full.", "first_at": now, "last_at": now, "count": 1, "code": "storage_full"}
        connection.execute(tenant_errors.insert(), [{"user_id": first + n} | trouble for n in range(tenants // 100)])
        days = [{"user_id": here.users[0].id, "day": (now - dt.timedelta(n)).date()} for n in range(90)]
        connection.execute(tenant_sizes.insert(), [day | {"size_bytes": 100_000} for day in days])
        for number in range(LOGGED):
            here.parts.catalog.audit.append(connection, "user.noted", user_id=first + number % tenants)
        same_work(True, connection.execute(sa.select(sa.func.count()).select_from(audit_log)).scalar_one() > LOGGED)


def _deep(ask: Callable[[str], bytes]) -> str:
    """Give the address of the page that twenty links lead to, by an order that is not the key's."""
    path = "/admin/users?sort=-email"
    for _ in range(20):
        page = ask(path).decode()
        found = page.split('rel="next"')[0].rpartition('href="')[2].partition('"')[0]
        path = found.replace("&amp;", "&")
    return path


def _check_same_rows(ask: Callable[[str], bytes]) -> None:
    """Stop unless the pages show the databases that the JSON calls list."""
    for call, path in (("limit=50", "/admin/users"), ("behind=true&limit=50", "/admin/users?behind=1")):
        listed = [each["user_id"] for each in json.loads(ask(f"/admin/databases?{call}"))["items"]]
        shown = re.findall(r'href="/admin/users/(\d+)"', ask(path).decode())
        same_work(listed, [int(user_id) for user_id in shown])


def _get(app: Flask, cookie: str, path: str) -> bytes:
    parts = urlsplit(path)

    def asked(environ: dict[str, Any], start: Any) -> Any:
        return app(environ | {"QUERY_STRING": parts.query}, start)

    status, body = get(asked, parts.path, cookie)
    same_work("200 OK", status)
    return body


@contextmanager
def _counted(engine: sa.Engine) -> Iterator[list[str]]:
    """Collect what is sent to the catalog, transaction control and pragmas aside."""
    sent: list[str] = []

    def keep(_: Any, __: Any, statement: str, *rest: Any) -> None:
        if not statement.startswith(ASIDE):
            sent.append(statement)

    sa.event.listen(engine, "before_cursor_execute", keep)
    try:
        yield sent
    finally:
        sa.event.remove(engine, "before_cursor_execute", keep)
