"""Measure the hot path: ``GET /api/v1/tasks`` with 20 rows (P1, P9, P10), and a cold request beside a warm one (P2).

Both applications are called in this process, through the same few lines, signed in by their session cookie, for
200 users at random in the same order. Ours writes its access log line as it ships; nothing reads it.
"""

from __future__ import annotations

import http.client
import json
import logging
import os
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, redirect_stderr
from functools import partial
from typing import TYPE_CHECKING, Any

from flask import Flask

import web
from bench.baseline import plain_flask
from bench.measure import AT_LEAST, AT_MOST, Figure, in_turns, median, same_work, timed
from bench.served import Served
from bench.world import World, progress, register_only, world
from bench.wsgi import get

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

ROWS = 20
PATH = "/api/v1/tasks"
ASIDE = ("BEGIN", "COMMIT", "ROLLBACK", "PRAGMA")


def run(small: bool = False) -> list[Figure]:
    """Give the figures of this module."""
    people, requests, rounds = (10, 20, 3) if small else (200, 400, 25)
    with ExitStack() as stack:
        here = stack.enter_context(world(people))
        rows = here.add_tasks(ROWS)
        stack.enter_context(logs_to_nowhere())
        ours = web.create(here.parts)
        baseline = plain_flask.create_app(here.folder / "plain.db")
        stack.callback(baseline.extensions["engine"].dispose)
        plain_flask.fill(
            baseline, [(user.id, user.email) for user in here.users], [row for each in rows.values() for row in each]
        )
        ours_cookies, their_cookies = our_cookies(here, ours), _their_cookies(here, baseline)
        _check_same(here, ours, ours_cookies, baseline, their_cookies)
        order = random.Random(5).choices(range(people), k=requests)
        figures = [
            _throughput(rounds, ours, [ours_cookies[i] for i in order], baseline, [their_cookies[i] for i in order]),
            _statements(here, ours, ours_cookies[0]),
            _cold_in_process(here, ours, ours_cookies, order),
        ]
        figures.append(_crowded(ours, ours_cookies, order, rounds, 2_000 if small else 100_000))
    figures.append(_cold_over_http(8 if small else 40, 40 if small else 800))
    return figures


def _throughput(
    rounds: int, ours: Flask, our_cookies: Sequence[str], baseline: Flask, their_cookies: Sequence[str]
) -> Figure:
    mine, theirs = in_turns(rounds, _asking(ours, our_cookies), _asking(baseline, their_cookies))
    number = len(our_cookies)
    return Figure(
        "P1",
        f"GET {PATH}, {ROWS} rows, signed in by cookie, engines cached",
        "requests/s",
        number / median(mine),
        number / median(theirs),
        "plain Flask, Flask-Login, ORM, one SQLite database",
        (AT_LEAST, 1.2),
        notes={"requests_a_round": number, "rounds": rounds},
    )


def _statements(here: World, ours: Flask, cookie: str) -> Figure:
    """Count what one warm request sends, by the driver's own trace: transaction control and pragmas aside."""
    get(ours, PATH, cookie)
    tenant = here.parts.manager.engine_for(here.users[0].id)
    with _traced(here.parts.catalog.engine) as to_catalog, _traced(tenant) as to_tenant:
        status, _ = get(ours, PATH, cookie)
    same_work("200 OK", status)
    sent = {"catalog": to_catalog, "tenant": to_tenant}
    queries = {name: [sql for sql in found if not sql.startswith(ASIDE)] for name, found in sent.items()}
    same_work({"catalog": 1, "tenant": 1}, {name: len(found) for name, found in queries.items()})
    return Figure(
        "P10",
        "statements a request sends: one to the catalog, one to the tenant",
        "statements",
        sum(map(len, queries.values())),
        None,
        "",
        (AT_MOST, 2),
        of_ratio=False,
        notes={name: [sql.partition(" ")[0] for sql in found] for name, found in sent.items()},
    )


@contextmanager
def _traced(engine: Any) -> Iterator[list[str]]:
    """Hear every statement of an engine's one pooled connection."""
    sent: list[str] = []
    proxied = engine.raw_connection()
    driver = proxied.driver_connection
    proxied.close()
    driver.set_trace_callback(lambda sql: sent.append(" ".join(sql.split())))
    try:
        yield sent
    finally:
        driver.set_trace_callback(None)


def _cold_in_process(here: World, ours: Flask, cookies: Sequence[str], order: Sequence[int]) -> Figure:
    """Ask each user twice: after its engine was thrown away, and again; no HTTP server softens the ratio."""
    manager = here.parts.manager
    tenants = [manager.tenant_of(user.id).tenant_id for user in here.users]
    warm_s, cold_s = [], []
    for index in order:
        ask = partial(get, ours, PATH, cookies[index])
        ask()
        warm_s.append(timed(ask))
        manager.engines.retire(tenants[index])
        cold_s.append(timed(ask))
    return Figure(
        "P2b",
        "a cold request (engine not cached), no HTTP server between",
        "ms",
        median(cold_s) * 1000,
        median(warm_s) * 1000,
        "the same request, warm",
        notes={"pairs": len(cold_s)},
    )


def _crowded(ours: Flask, cookies: Sequence[str], order: Sequence[int], rounds: int, number: int) -> Figure:
    """Ask in turns the application at hand, and one with as many people who ask and many more who do not."""
    with world(len(cookies)) as other:
        other.add_tasks(ROWS)
        progress(f"registering {number} more people")
        register_only(other.parts, number)
        crowd = web.create(other.parts)
        theirs = our_cookies(other, crowd)
        before, after = in_turns(
            rounds, _asking(ours, [cookies[i] for i in order]), _asking(crowd, [theirs[i] for i in order])
        )
    return Figure(
        "P9",
        f"GET {PATH} with {number:,} more registered tenants",
        "ms",
        median(after) / len(order) * 1000,
        median(before) / len(order) * 1000,
        f"the same with {len(cookies)}",
        (AT_MOST, 1.1),
        notes={"registered": number},
    )


def _cold_over_http(people: int, requests: int) -> Figure:
    """Ask two servers in turns: one keeps a single engine, so that each request is cold, and one keeps all."""
    progress("asking two servers, one without a cache")
    with ExitStack() as stack:
        cold, warm = (
            stack.enter_context(Served(workers=1, tenants=people, rows=ROWS, tenant_engine_cache_size=size))
            for size in (1, 256)
        )
        turns = [stack.enter_context(_round(server, people)) for server in (cold, warm)]
        for turn in turns:
            same_work([ROWS] * people, [len(json.loads(body)["items"]) for body in turn()])
        cold_s, warm_s = in_turns(max(2, requests // people), *turns)
    return Figure(
        "P2c",
        "a cold request over HTTP",
        "ms",
        median(cold_s) / people * 1000,
        median(warm_s) / people * 1000,
        "the same request, warm",
        (AT_MOST, 1.6),
        notes={"requests": requests},
    )


@contextmanager
def _round(server: Served, people: int) -> Iterator[Callable[[], list[bytes]]]:
    """Give a function that asks for everybody's tasks, one after another, on one kept connection."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)

    def ask() -> list[bytes]:
        bodies = []
        for index in range(people):
            connection.request("GET", PATH, headers={"Authorization": f"Bearer {server.keys[index]}"})
            answer = connection.getresponse()
            bodies.append(answer.read())
            same_work(200, answer.status)
        return bodies

    with closing(connection):
        yield ask


def _asking(app: WSGIApplication, cookies: Sequence[str]) -> Callable[[], None]:
    def ask() -> None:
        for cookie in cookies:
            if get(app, PATH, cookie)[0] != "200 OK":
                raise AssertionError("a request was not answered")

    return ask


@contextmanager
def logs_to_nowhere() -> Iterator[None]:
    """Let the application write its log as it ships, where nobody reads it; leave logging as it was found."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    with open(os.devnull, "w") as nowhere, redirect_stderr(nowhere):
        try:
            yield
        finally:
            root.handlers[:], root.level = handlers, level


def _check_same(here: World, ours: Flask, our_cookies: list[str], theirs: Flask, their_cookies: list[str]) -> None:
    """Stop unless both answer every user with the same rows, which are the user's own."""
    for index, user in enumerate(here.users):
        mine, others = get(ours, PATH, our_cookies[index]), get(theirs, PATH, their_cookies[index])
        same_work(("200 OK", "200 OK"), (mine[0], others[0]))
        same_work(json.loads(mine[1]), json.loads(others[1]))
        titles = [row["title"] for row in json.loads(mine[1])["items"]]
        same_work([f"Task {n} of user {user.id}" for n in range(ROWS)], titles)


def our_cookies(here: World, app: Flask) -> list[str]:
    """Sign everybody in; the login page itself hashes passwords and is not what is measured."""
    signer = app.session_interface.get_signing_serializer(app)  # type: ignore[attr-defined]  # Flask's cookie sessions have it
    tokens = [here.parts.accounts.sign_in_without_password(user.id).token for user in here.users]
    name = app.config["SESSION_COOKIE_NAME"]
    return [f"{name}={signer.dumps({'_user_id': token, '_fresh': True})}" for token in tokens]


def _their_cookies(here: World, app: Flask) -> list[str]:
    signer = app.session_interface.get_signing_serializer(app)  # type: ignore[attr-defined]  # Flask's cookie sessions have it
    return [f"session={signer.dumps({'_user_id': str(user.id), '_fresh': True})}" for user in here.users]
