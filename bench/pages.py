"""Measure the workspace's pages beside the plain JSON of the same rows: milliseconds to the first byte.

An answer is made whole before its first byte leaves, so the time of the call is the time to the first byte; no HTTP
server stands between. Both are signed in by the same cookie and show the same rows of the same user.
"""

from __future__ import annotations

import html
import json
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

from flask import Flask

import web
from bench.measure import Figure, in_turns, median, same_work
from bench.request import logs_to_nowhere, our_cookies
from bench.world import World, world
from bench.wsgi import get
from repositories.repository_factory import RepositoryFactory

ROWS = 50


def run(small: bool = False) -> list[Figure]:
    """Give the figures of this module."""
    rounds = 5 if small else 200
    with ExitStack() as stack:
        here = stack.enter_context(world(1))
        _fill(here)
        stack.enter_context(logs_to_nowhere())
        app = web.create(here.parts)
        cookie = our_cookies(here, app)[0]
        return [_beside_json(name, app, cookie, rounds) for name in ("tasks", "notes")]


def _beside_json(name: str, app: Flask, cookie: str, rounds: int) -> Figure:
    page, document = (partial(get, app, path, cookie) for path in (f"/{name}", f"/api/v1/{name}"))
    same_work(sorted(_titles_of_json(document)), sorted(_titles_on_page(page, _titles_of_json(document))))
    mine, plain = in_turns(rounds, page, document)
    return Figure(
        f"page {name}",
        f"GET /{name}: {ROWS} rows as a page, to the first byte",
        "ms",
        median(mine) * 1000,
        median(plain) * 1000,
        f"GET /api/v1/{name}: the same rows as JSON",
        notes={"rounds": rounds, "page_bytes": len(page()[1]), "json_bytes": len(document()[1])},
    )


def _fill(here: World) -> None:
    """Write as many rows of each kind as one page shows."""
    owner = here.users[0].id
    with here.parts.manager.session(owner, write=True) as session:
        for name in ("tasks", "notes"):
            repository = RepositoryFactory.get_repository(name, session, owner)
            for number in range(ROWS):
                repository.create({"title": f"{name} row number {number:03}"})


def _titles_of_json(document: Callable[[], tuple[str, bytes]]) -> list[str]:
    status, body = document()
    same_work("200 OK", status)
    return [row["title"] for row in json.loads(body)["items"]]


def _titles_on_page(page: Callable[[], tuple[str, bytes]], titles: list[str]) -> list[str]:
    status, body = page()
    same_work("200 OK", status)
    text = html.unescape(body.decode())
    return [title for title in titles if title in text]
