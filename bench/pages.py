"""Measure the workspace's pages beside the plain JSON of the same rows (P13): milliseconds to the first byte.

An answer is made whole before its first byte leaves, so the time of the call is the time to the first byte; no HTTP
server is between. Both are asked with the cookie of one browser, which holds the session and the CSRF token that
its first page left there, and show the same rows of the same user. P13 is about rows with nothing but a title, as it
was first measured; ``P13 full`` fills in all that a task can have, so that each row writes everything it can.
"""

from __future__ import annotations

import datetime as dt
import html
import json
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

from flask import Flask

import web
from bench.measure import AT_MOST, Figure, in_turns, median, same_work
from bench.request import logs_to_nowhere, our_cookies
from bench.world import World, world
from bench.wsgi import get
from repositories.repository_factory import RepositoryFactory

ROWS = 50
FULL = {
    "description": "Call the plumber back about the kitchen, and ask for the invoice.",
    "status": "doing",
    "priority": 2,
    "due_date": dt.date(2026, 2, 1),
    "due_time": "17:30",
}


def run(small: bool = False) -> list[Figure]:
    """Give the figures of this module."""
    rounds = 5 if small else 200
    with ExitStack() as stack:
        bare, full = stack.enter_context(world(1)), stack.enter_context(world(1))
        _fill(bare, "tasks", {})
        _fill(bare, "notes", {})
        _fill(full, "tasks", FULL)
        stack.enter_context(logs_to_nowhere())
        return [
            _beside_json("P13", "tasks", bare, rounds, (AT_MOST, 3)),
            _beside_json("P13 full", "tasks", full, rounds),
            _beside_json("page notes", "notes", bare, rounds),
        ]


def _beside_json(title: str, name: str, here: World, rounds: int, goal: tuple[str, float] | None = None) -> Figure:
    app = web.create(here.parts)
    cookie = _kept_by_browser(app, our_cookies(here, app)[0], f"/{name}")
    page, document = (partial(get, app, path, cookie) for path in (f"/{name}", f"/api/v1/{name}"))
    same_work(sorted(_titles_of_json(document)), sorted(_titles_on_page(page, _titles_of_json(document))))
    mine, plain = in_turns(rounds, page, document)
    return Figure(
        title,
        f"GET /{name}: {ROWS} rows as a page, to the first byte",
        "ms",
        median(mine) * 1000,
        median(plain) * 1000,
        f"GET /api/v1/{name}: the same rows as JSON",
        goal,
        notes={"rounds": rounds, "page_bytes": len(page()[1]), "json_bytes": len(document()[1])},
    )


def _kept_by_browser(app: Flask, cookie: str, path: str) -> str:
    """Give the cookie that a browser has once it was shown a page, which adds the secret of the CSRF token."""
    client = app.test_client()
    name, _, value = cookie.partition("=")
    client.set_cookie(name, value)
    same_work(200, client.get(path).status_code)
    kept = client.get_cookie(name)
    return f"{name}={kept.value if kept else value}"


def _fill(here: World, name: str, extra: dict[str, Any]) -> None:
    """Write as many rows of one kind as a page shows."""
    owner = here.users[0].id
    with here.parts.manager.session(owner, write=True) as session:
        repository = RepositoryFactory.get_repository(name, session, owner)
        for number in range(ROWS):
            repository.create({"title": f"{name} row number {number:03}"} | extra)


def _titles_of_json(document: Callable[[], tuple[str, bytes]]) -> list[str]:
    status, body = document()
    same_work("200 OK", status)
    return [row["title"] for row in json.loads(body)["items"]]


def _titles_on_page(page: Callable[[], tuple[str, bytes]], titles: list[str]) -> list[str]:
    status, body = page()
    same_work("200 OK", status)
    text = html.unescape(body.decode())
    return [title for title in titles if title in text]
