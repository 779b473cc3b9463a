"""Measure tenants on database servers: making one (P5), taking one that is kept ready, asking many (P11).

All need a server that tests may use (TEST_POSTGRES_URL, TEST_MYSQL_URL); without it the figure is left out, loudly.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import secrets
import socket
import sqlite3
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from typing import Any

import psycopg2
import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from bench.baseline import plain_flask
from bench.measure import AT_LEAST, AT_MOST, Figure, Laps, in_turns, median, same_work, timed
from bench.served import Served, free_port
from bench.world import World, progress, server_url, task, world
from tenancy import names
from tenancy.backends.base import DatabaseFields
from tenancy.backends.server.backend import ServerBackend

PATH = "/api/v1/tasks?limit=20"
ROWS = 20
BUDGET = 60
WORKERS = 4
CLIENTS = 16
THREADS = 8
"""As many as `unify serve` gives each worker."""

_DRIVERS = {"postgresql": "postgresql+psycopg2", "mysql": "mysql+pymysql"}


def run(small: bool = False) -> list[Figure]:
    """Give the figures of this module."""
    figures = []
    for db_type in ("postgresql", "mysql"):
        if _answers(db_type):
            figures.append(_provisioning(db_type, 2 if small else 40))
            figures.append(_registration(db_type, 2 if small else 40))
    if _answers("postgresql"):
        figures.append(_crowd("P11", 8 if small else 200, 0.3 if small else 8.0, 2 if small else 4))
    return figures


# --- P5 -------------------------------------------------------------------------------------------------


def _provisioning(db_type: str, number: int) -> Figure:
    """Make tenants in turns with the least that the product can do: copy a template, or replay the DDL."""
    progress(f"making {number} tenants on {db_type} beside the baseline")
    with world() as here:
        here.register([db_type])
        manager = here.parts.manager
        ids = iter([here.parts.accounts.create(f"new{n}@example.org").id for n in range(number + 1)])
        backend = manager.backends.get(db_type)
        assert isinstance(backend, ServerBackend)
        made: list[str] = []

        here.add_users(1, [db_type])  # makes the template, or records the DDL
        laps = Laps()
        manager.services.step = laps.step
        ours = laps.heard(lambda: manager.provision(next(ids), DatabaseFields(db_type)))
        first = manager.tenant_of(here.users[0].id)
        with _server(db_type).connect() as server:
            plain = _PLAIN[db_type](server, first.db_name or "", manager.chain.fingerprint, made)
            try:
                mine, theirs = in_turns(number, ours, plain)
                steps_ms = laps.medians_ms()
                _check_tables(db_type, first.db_name or "", made[-1])
            finally:
                for name in made:
                    server.exec_driver_sql(f"DROP DATABASE {name}")
        here.users = [here.parts.accounts.find(row["user_id"]) for row in manager.reports.databases(limit=10_000)]
    what = {
        "postgresql": "CREATE DATABASE ... TEMPLATE",
        "mysql": "CREATE DATABASE and the same DDL, statement by statement",
    }
    return Figure(
        "P5",
        f"provision one tenant on {db_type}: database, login, identity, first rows",
        "ms",
        median(mine) * 1000,
        median(theirs) * 1000,
        what[db_type],
        (AT_MOST, 1.2),
        notes={"tenants": number, "steps_ms": steps_ms},
    )


def _registration(db_type: str, number: int) -> Figure:
    """Make accounts with their databases, in turns where databases are kept ready and where none is."""
    progress(f"making {number} accounts on {db_type} with a pool of ready databases and without")
    with (
        world(default_tenant_db_type=db_type, pending_tenants=number + 1) as pooled,
        world(default_tenant_db_type=db_type) as bare,
    ):
        for here in (pooled, bare):
            here.register([db_type])
        bare.add_users(1, [db_type])  # makes the template, or records the DDL
        (filled,) = pooled.parts.manager.pool.fill()
        same_work((number + 1, None), (filled["ready"], filled["error"]))
        mine, theirs = in_turns(number, lambda: pooled.add_users(1, [db_type]), lambda: bare.add_users(1, [db_type]))
        (server,) = pooled.parts.manager.servers()
        same_work((number + 1, 0), (server["tenants"], server["pending"]))
        same_work(*(_holds(here) for here in (pooled, bare)))
    return Figure(
        f"registration {db_type}",
        f"an account and its database on {db_type}, handed over from a pool that is kept ready",
        "ms",
        median(mine) * 1000,
        median(theirs) * 1000,
        "the same without a pool (PENDING_TENANTS=0): the database is made",
        notes={"accounts": number},
    )


def _holds(here: World) -> list[Any]:
    """Give what the newest user's database says of itself, and how many first rows it has."""
    report = here.parts.manager.reports.tenant(here.users[-1].id)
    rows = here.parts.manager.fetch_all("SELECT name FROM categories", user_id=here.users[-1].id)
    return [
        rows,
        report["identity"]["kind"],
        report["identity"]["state"],
        [row["revision"] for row in report["ledger"]],
    ]


def _copy_template(server: sa.Connection, name: str, fingerprint: str, made: list[str]) -> Callable[[], None]:
    template = names.template(names.installation_in(name) or "", fingerprint)

    def work() -> None:
        made.append(f"unify_bench_{secrets.token_hex(6)}")
        server.exec_driver_sql(f"CREATE DATABASE {made[-1]} TEMPLATE {template}")

    return work


def _replay_ddl(server: sa.Connection, name: str, fingerprint: str, made: list[str]) -> Callable[[], None]:
    tables = server.exec_driver_sql(
        "SELECT table_name FROM information_schema.tables WHERE table_schema = %s", (name,)
    ).scalars()
    statements = [server.exec_driver_sql(f"SHOW CREATE TABLE {name}.{table}").one()[1] for table in list(tables)]

    def work() -> None:
        made.append(f"unify_bench_{secrets.token_hex(6)}")
        server.exec_driver_sql(f"CREATE DATABASE {made[-1]} CHARACTER SET utf8mb4 COLLATE utf8mb4_bin")
        server.exec_driver_sql(f"USE {made[-1]}")
        server.exec_driver_sql("SET foreign_key_checks = 0")
        for statement in statements:
            server.exec_driver_sql(statement)

    return work


_PLAIN = {"postgresql": _copy_template, "mysql": _replay_ddl}


def _check_tables(db_type: str, ours: str, theirs: str) -> None:
    found = []
    for name in (ours, theirs):
        with closing_engine(_address(db_type).set(database=name)) as engine:
            found.append(sorted(sa.inspect(engine).get_table_names()))
    same_work(*found)


# --- P11 ------------------------------------------------------------------------------------------------


def _crowd(name: str, tenants: int, seconds: float, rounds: int) -> Figure:
    """Ask tenants at random, who have far fewer connections than there are of them, and a plain application."""
    progress(f"making {tenants} tenants on postgresql, and asking them for {rounds} x {seconds:g} s")
    with ExitStack() as stack:
        ours = stack.enter_context(
            Served(
                workers=WORKERS,
                tenants=tenants,
                rows=ROWS,
                types=["postgresql"],
                server_connection_budget=BUDGET,
                tenant_engine_cache_size=tenants,
            )
        )
        plain = stack.enter_context(_plain_served(ours))
        watch = stack.enter_context(_watched_connections())
        keys = [{"Authorization": f"Bearer {key}"} for key in ours.keys]
        mine: list[tuple[float, Counter[int]]] = []
        theirs: list[tuple[float, Counter[int]]] = []
        names = _databases(ours)
        before = _opened(names)
        for turn in range(rounds):
            pairs = [(mine, ours.port, keys), (theirs, plain[0], plain[1])]
            for results, port, headers in pairs if turn % 2 == 0 else reversed(pairs):
                results.append(_ask_for(port, headers, seconds))
        for _, statuses in (*mine, *theirs):
            same_work({200}, set(statuses))
        opened = (_opened(names) - before) / sum(statuses.total() for _, statuses in mine)
        peak, cold_ms = watch(), _cold_ms(names)
    return Figure(
        name,
        f"requests/s over {tenants} PostgreSQL tenants at random, {BUDGET} connections, {WORKERS} workers",
        "requests/s",
        median([result[0] for result in mine]),
        median([result[0] for result in theirs]),
        "plain Flask, ORM, one PostgreSQL database, as many workers and threads",
        (AT_LEAST, 0.5),
        notes={
            "tenants": tenants,
            "refused": sum(statuses[503] for _, statuses in mine),
            "connections_at_most": peak,
            "budget": BUDGET,
            "connections_opened_a_request": round(opened, 2),
            "connection_with_its_first_query_ms": cold_ms,
        },
    )


def _databases(ours: Served) -> list[str]:
    with closing(sqlite3.connect(ours.folder / "admin.db")) as catalog:
        return [name for (name,) in catalog.execute("SELECT db_name FROM user_database_configs")]


def _opened(names: list[str]) -> int:
    """Give how many connections the server has opened to these databases, of those that are closed again."""
    count = "SELECT coalesce(sum(sessions), 0) FROM pg_stat_database WHERE datname = ANY(%s)"
    with _server("postgresql").connect() as server:
        return int(server.exec_driver_sql(count, (names,)).scalar_one())


def _cold_ms(names: list[str]) -> float:
    """Open, ask one table and close, by the driver alone: what no choice of connections to keep makes cheaper."""
    at = _address("postgresql")

    def cold(name: str) -> None:
        whose = {"user": at.username, "password": at.password, "dbname": name}
        with closing(psycopg2.connect(host=at.host, port=at.port, **whose)) as driver:
            driver.cursor().execute("SELECT count(*) FROM tasks")

    return median([timed(partial(cold, name)) for name in names[:40]]) * 1000


@contextmanager
def _plain_served(ours: Served) -> Iterator[tuple[int, list[dict[str, str]]]]:
    """Serve the baseline under the same gunicorn; give its port and everybody's cookie."""
    name = f"unify_bench_{secrets.token_hex(6)}"
    address = _address("postgresql")
    with _server("postgresql").connect() as server:
        server.exec_driver_sql(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'")
        url = address.set(database=name).render_as_string(hide_password=False)
        app = plain_flask.create_app(url)
        people = [(user.id, user.email) for user in ours.users]
        rows = [task(user_id, number) | {"id": uuid.uuid4()} for user_id, _ in people for number in range(ROWS)]
        plain_flask.fill(app, people, rows)
        app.extensions["engine"].dispose()
        signer = app.session_interface.get_signing_serializer(app)  # type: ignore[attr-defined]  # Flask's cookies
        cookies = [f"session={signer.dumps({'_user_id': str(user_id), '_fresh': True})}" for user_id, _ in people]
        port = free_port()
        pool = f"pool_size={BUDGET // WORKERS}, max_overflow=0"
        process = _gunicorn(port, f"bench.baseline.plain_flask:create_app({url!r}, {pool})", THREADS)
        try:
            yield port, [{"Cookie": cookie} for cookie in cookies]
        finally:
            process.terminate()
            process.wait()
            server.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")


def _gunicorn(port: int, app: str, threads: int) -> Any:
    import subprocess

    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "gunicorn", app, "--bind", f"127.0.0.1:{port}", "--workers", str(WORKERS)),
            *("--config", os.devnull),  # else it reads gunicorn.conf.py of this folder, which is Unify's
            *("--worker-class", "gthread", "--threads", str(threads), "--log-level", "error"),
        ]
    )
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return process
        except OSError:
            if process.poll() is not None:
                raise RuntimeError("the baseline's server ended before it answered") from None


def _ask_for(port: int, headers: list[dict[str, str]], seconds: float) -> tuple[float, Counter[int]]:
    """Ask at random with several clients for some seconds; give what was served a second, and the statuses.

    An answer that is well but for its rows counts as status 0.
    """
    statuses: list[Counter[int]] = [Counter() for _ in range(CLIENTS)]
    ends = time.monotonic() + seconds

    def client(number: int) -> None:
        choose = random.Random(number)
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
            while time.monotonic() < ends:
                connection.request("GET", PATH, headers=choose.choice(headers))
                answer = connection.getresponse()
                items = json.loads(answer.read()).get("items", [])
                statuses[number][0 if answer.status == 200 and len(items) != ROWS else answer.status] += 1

    threads = [threading.Thread(target=client, args=(number,)) for number in range(CLIENTS)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counted = sum(statuses, Counter())
    return counted[200] / (time.perf_counter() - started), counted


@contextmanager
def _watched_connections() -> Iterator[Callable[[], int]]:
    """Count the server's connections to tenants' databases again and again; give the most there were."""
    most = [0]
    done = threading.Event()
    count = "SELECT count(*) FROM pg_stat_activity WHERE datname LIKE 'unify_%%' AND usename LIKE 'unify_%%'"

    def look() -> None:
        with _server("postgresql").connect() as server:
            while not done.wait(0.05):
                most[0] = max(most[0], server.exec_driver_sql(count).scalar_one())

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield lambda: most[0]
    finally:
        done.set()
        thread.join()


# --- servers --------------------------------------------------------------------------------------------


def _address(db_type: str) -> sa.URL:
    return sa.make_url(server_url(db_type)).set(drivername=_DRIVERS[db_type])


def _server(db_type: str) -> sa.Engine:
    return sa.create_engine(_address(db_type), poolclass=NullPool, isolation_level="AUTOCOMMIT")


@contextmanager
def closing_engine(address: sa.URL) -> Iterator[sa.Engine]:
    engine = sa.create_engine(address, poolclass=NullPool)
    yield engine
    engine.dispose()


def _answers(db_type: str) -> bool:
    try:
        with _server(db_type).connect():
            return True
    except (sa.exc.SQLAlchemyError, ImportError):
        progress(f"LEFT OUT: no {db_type} server answers, and its figures are not measured")
        return False
