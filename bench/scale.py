"""Measure what a large fleet costs one process: files and memory (P8), and its start and first touches (P9).

Each is measured in processes of their own, which hand their figures back as JSON: limits are a process's, and nothing
else may grow there. Requests go through the whole application, signed in, without an HTTP server between.
"""

from __future__ import annotations

import json
import random
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import sqlalchemy as sa
from flask import Flask

import compose
import web
from bench.baseline import plain_engines
from bench.engines import plain_list, weight
from bench.measure import AT_MOST, Figure, median, same_work, timed
from bench.request import PATH, ROWS, logs_to_nowhere, our_cookies
from bench.world import World, environ, folder, progress, register_only, world
from bench.wsgi import get
from settings import Settings

KIB = 1024
THREADS = 8
IN_USE_THREADS = 4
TURNOVERS = 10
SETTLED = 2
"""After this many turnovers whatever is made once is there."""


def run(small: bool = False) -> list[Figure]:
    """Give the figures of this module."""
    figures = _open_files(60, 160) if small else _open_files(1_000, 1_024)
    figures.append(_turnover(20, 4) if small else _turnover(300, 30))
    figures.append(_in_use(20 if small else 300))
    return [*figures, *(_registered(10, 300, 1) if small else _registered(100, 100_000, 7))]


# --- open files -----------------------------------------------------------------------------------------


def _open_files(tenants: int, nofile: int) -> list[Figure]:
    progress(f"serving {tenants:,} tenants with {nofile} open files")
    plain = _child("plain", tenants=tenants, nofile=nofile)
    return [_open_files_of(tenants, nofile, cache, plain) for cache in (2 * tenants, max(8, tenants // 16))]


def _open_files_of(tenants: int, nofile: int, cache: int, plain: dict[str, Any]) -> Figure:
    ours = _child("ours", tenants=tenants, nofile=nofile, cache=cache)
    same_work(ours["asked"], plain["asked"])
    return Figure(
        "P8 nofile",
        f"requests refused of {ours['asked']:,} to {tenants:,} tenants, nofile {nofile}, a cache of {cache:,} engines",
        "requests",
        ours["refused"],
        plain["refused"],
        "a dict of ordinary engines, never emptied: reads refused",
        (AT_MOST, 0),
        of_ratio=False,
        notes={"files_at_most": ours["files"], "baseline_files_at_most": plain["files"], "threads": THREADS},
    )


def ask_with_few_files(tenants: int, nofile: int, cache: int) -> dict[str, Any]:
    """Ask every tenant twice, in no order, by several threads, when no more than so many files may be open."""
    _limit_files(nofile)
    with world(tenants, tenant_engine_cache_size=cache) as here, logs_to_nowhere():
        here.add_tasks(1)
        app = web.create(here.parts)
        cookies = our_cookies(here, app) * 2
        random.Random(8).shuffle(cookies)
        return _asked(partial(_status, app), cookies)


def read_with_few_files(tenants: int, nofile: int) -> dict[str, Any]:
    """Do it as a dict of ordinary engines does: one an owner, kept for ever."""
    _limit_files(nofile)
    with world(tenants) as here:
        here.add_tasks(1)
        every = [here.parts.manager.tenant_of(user.id) for user in here.users] * 2
        random.Random(8).shuffle(every)
        here.parts.manager.engines.close()
        kept: dict[Any, sa.Engine] = {}

        def read(tenant: Any) -> str:
            if tenant.tenant_id in kept:
                return "200 OK"
            try:
                kept[tenant.tenant_id], _ = plain_list(here.folder / "users", tenant)
            except (sa.exc.OperationalError, sqlite3.OperationalError, OSError):
                return "refused"
            return "200 OK"

        found = _asked(read, every)
        for engine in kept.values():
            engine.dispose()
        return found


def _asked(ask: Callable[[Any], str], whom: list[Any]) -> dict[str, Any]:
    """Ask by several threads; count the answers, and the most files that were open."""
    most, lock = [0], threading.Lock()

    def one(each: Any) -> str:
        status = ask(each)
        with lock:
            most[0] = max(most[0], _files())
        return status

    with ThreadPoolExecutor(THREADS) as pool:
        statuses = Counter(pool.map(one, whom))
    return {"asked": len(whom), "refused": len(whom) - statuses["200 OK"], "files": most[0]}


def _files() -> int:
    import resource  # absent on Windows

    try:
        return psutil.Process().num_fds()
    except OSError:  # counting takes one too
        return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def _limit_files(most: int) -> None:
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


# --- memory ---------------------------------------------------------------------------------------------


def _turnover(tenants: int, cache: int) -> Figure:
    progress(f"turning a cache of {cache} engines over {TURNOVERS} times")
    ours, theirs = _child("turnover", tenants=tenants, cache=cache), _child("kept", tenants=tenants)
    same_work(ours["rows"], theirs["rows"])
    resident = ours["kib"]
    return Figure(
        "P8 turnover",
        f"memory grown a turnover ({SETTLED} to {TURNOVERS}) of {tenants} tenants in a cache of {cache} engines",
        "KiB",
        (resident[TURNOVERS] - resident[SETTLED]) / (TURNOVERS - SETTLED),
        theirs["kib"],
        f"a dict of ordinary engines, never emptied: its first {tenants} tenants",
        (AT_MOST, 64),
        of_ratio=False,
        notes={"tenants": tenants, "resident_kib": [round(each) for each in resident]},
    )


def turn_over(tenants: int, cache: int) -> dict[str, Any]:
    """Ask all tenants again and again with a cache far too small; give resident memory after each time."""
    with world(tenants, tenant_engine_cache_size=cache) as here, logs_to_nowhere():
        here.add_tasks(1)
        app = web.create(here.parts)
        cookies = our_cookies(here, app)
        resident = [weight()[0] / KIB]
        for _ in range(TURNOVERS):
            same_work({"200 OK": tenants}, dict(Counter(_status(app, cookie) for cookie in cookies)))
            resident.append(weight()[0] / KIB)
        return {"rows": tenants, "kib": resident}


def keep_all(tenants: int) -> dict[str, Any]:
    """Touch all tenants once through ordinary engines that are kept; give what resident memory grew by."""
    with world(tenants) as here:
        here.add_tasks(1)
        every = [here.parts.manager.tenant_of(user.id) for user in here.users]
        here.parts.manager.engines.close()
        before, kept, rows = weight()[0], [], 0
        for tenant in every:
            engine, found = plain_list(here.folder / "users", tenant)
            kept.append(engine)
            rows += len(found)
        grown = (weight()[0] - before) / KIB
        for engine in kept:
            engine.dispose()
        return {"rows": rows, "kib": grown}


def _in_use(tenants: int) -> Figure:
    progress(f"weighing {tenants} tenants in use")
    ours, theirs = (_child("in use", kind=kind, tenants=tenants) for kind in ("ours", "plain"))
    same_work(ours["rows"], theirs["rows"])
    return Figure(
        "P8w",
        f"memory of one tenant in use, connections open, {IN_USE_THREADS} threads",
        "KiB",
        ours["kib"],
        theirs["kib"],
        "an ordinary engine per tenant, served alike",
        (AT_MOST, 1.0),
        notes={"tenants": tenants, "files": ours["files"], "baseline_files": theirs["files"]},
    )


def weigh_in_use(kind: str, tenants: int) -> dict[str, Any]:
    """Ask tenants at random by several threads; give what each costs while its connections are open."""
    warm_up = 20
    with world(tenants + warm_up, tenant_engine_cache_size=tenants + warm_up) as here, logs_to_nowhere():
        here.add_tasks(ROWS)
        here.parts.manager.engines.close()
        app = web.create(here.parts) if kind == "ours" else plain_engines.create_app(here.folder / "users")
        cookies = our_cookies(here, app) if kind == "ours" else [""] * len(here.users)
        paths = [PATH if kind == "ours" else f"{PATH}/{user.id}" for user in here.users]
        with ThreadPoolExecutor(IN_USE_THREADS) as pool:

            def ask(first: int, last: int) -> int:
                order = random.Random(8).sample(range(first, last), last - first) * 3
                answers = pool.map(lambda index: get(app, paths[index], cookies[index])[1], order)
                return sum(len(json.loads(body)["items"]) for body in answers)

            ask(0, warm_up)
            before = weight()
            rows = ask(warm_up, warm_up + tenants)
            after = weight()
        for engine in app.extensions.get("engines", {}).values():
            engine.dispose()
        return {"rows": rows, "kib": (after[0] - before[0]) / tenants / KIB, "files": (after[1] - before[1]) / tenants}


# --- registered tenants ---------------------------------------------------------------------------------


def _registered(few: int, many: int, rounds: int) -> list[Figure]:
    """Start processes over two catalogs in turns; both have the same few people who ask."""
    progress(f"registering {many:,} tenants, and starting over them")
    found: list[list[dict[str, Any]]] = [[], []]
    with ExitStack() as stack:
        two = [_installation(stack.enter_context(folder()), few, number) for number in (few, many)]
        for turn in range(rounds):
            for index in (0, 1) if turn % 2 == 0 else (1, 0):
                found[index].append(_child("start", **two[index]))
    same_work({(0, 0, few)}, {(one["tenants_opened"], one["refused"], one["rows"]) for half in found for one in half})
    return [
        _beside("P9 start", f"start until /healthz answers, {many:,} registered tenants", found, "start_ms", few),
        _beside("P9 cold", f"a cold request (engine not cached), {many:,} registered tenants", found, "cold_ms", few),
    ]


def _beside(name: str, what: str, found: list[list[dict[str, Any]]], key: str, few: int) -> Figure:
    few_ms, many_ms = (median([each[key] for each in half]) for half in found)
    last = found[1][-1]
    notes = {"processes": len(found[1]), "tenants_opened_at_start": 0, "catalog_opened_at_start": last["opened"]}
    return Figure(name, what, "ms", many_ms, few_ms, f"the same with {few}", (AT_MOST, 1.1), notes=notes)


def _installation(place: Path, people: int, registered: int) -> dict[str, Any]:
    """Make a catalog with so many tenants, of whom a few people are there; give what a process needs to serve it."""
    given = environ(place)
    parts = compose.build(Settings.load(given, dotenv=None))
    try:
        parts.manager.prepare_catalog()
        here = World(place, parts)
        here.add_users(people)
        here.add_tasks(1)
        if registered > people:
            register_only(parts, registered - people)
        with logs_to_nowhere():
            return {"given": given, "cookies": our_cookies(here, web.create(parts))}
    finally:
        parts.close()


def start(given: dict[str, str], cookies: list[str]) -> dict[str, Any]:
    """Start as a worker does; give the milliseconds until the first answer, what was opened, and of cold requests."""
    opened: list[str] = []
    sys.addaudithook(lambda name, values: opened.append(str(values[0])) if name == "sqlite3.connect" else None)
    started = time.perf_counter()
    parts = compose.build(Settings.load(given, dotenv=None))
    with logs_to_nowhere():
        app = web.create(parts)
        same_work("200 OK", _status(app, "", "/healthz"))
        start_ms = (time.perf_counter() - started) * 1000
        at_start = len(opened), _tenants(opened)
        warm_up = get(app, PATH, cookies[0])[1]
        statuses: list[str] = []
        cold_s = [timed(partial(_note, statuses, app, cookie)) for cookie in cookies]
        same_work(len(cookies), _tenants(opened))
    parts.close()
    return {
        "start_ms": start_ms,
        "opened": at_start[0],
        "tenants_opened": at_start[1],
        "refused": sum(status != "200 OK" for status in statuses),
        "rows": len(json.loads(warm_up)["items"]) * len(statuses),
        "cold_ms": median(cold_s) * 1000,
    }


def _tenants(opened: list[str]) -> int:
    return sum("/users/" in name for name in opened)


def _note(statuses: list[str], app: Flask, cookie: str) -> None:
    statuses.append(_status(app, cookie))


def _status(app: Flask, cookie: str, path: str = PATH) -> str:
    return get(app, path, cookie)[0]


# --- processes ------------------------------------------------------------------------------------------

_WORK: dict[str, Callable[..., dict[str, Any]]] = {
    "ours": ask_with_few_files,
    "plain": read_with_few_files,
    "turnover": turn_over,
    "kept": keep_all,
    "in use": weigh_in_use,
    "start": start,
}


def _child(work: str, **values: Any) -> dict[str, Any]:
    command = [sys.executable, "-m", "bench.scale", work]
    root = Path(__file__).resolve().parent.parent
    done = subprocess.run(command, cwd=root, check=True, input=json.dumps(values).encode(), stdout=subprocess.PIPE)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


if __name__ == "__main__":
    print(json.dumps(_WORK[sys.argv[1]](**json.load(sys.stdin))))
