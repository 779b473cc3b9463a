"""Give tests databases on real servers, and say at the end which engines they ran on.

A pytest plugin, loaded by ``conftest.py``. An engine that cannot be reached skips its tests, is counted and
named in the closing lines; ``REQUIRE_ENGINES=sqlite,postgresql,mysql`` makes a missing one a failure.
``python -m tests.engines NAME...`` exits 0 when the named engines answer (``.ci/run`` asks that way).
"""

from __future__ import annotations

import shutil
import sys
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

import settings
from tenancy.backends.sqlite import SQLiteBackend

ENGINES = ("sqlite", "postgresql", "mysql", "sqlserver")
CATALOG_ENGINES = ("sqlite", "postgresql", "mysql")
TOOLS = ("chromium",)

_SETTING = {"postgresql": "TEST_POSTGRES_URL", "mysql": "TEST_MYSQL_URL", "sqlserver": "TEST_MSSQL_URL"}
_DRIVER = {"postgresql": "postgresql+psycopg2", "mysql": "mysql+pymysql", "sqlserver": "mssql+pyodbc"}
_CONNECT_ARGS: dict[str, dict[str, Any]] = {
    "postgresql": {"connect_timeout": 3, "options": "-c timezone=UTC"},
    "mysql": {
        "connect_timeout": 3,
        # Nothing of the test's server is secret, and a TLS context costs more than the connection (libraries.md).
        "ssl_disabled": True,
        "init_command": "SET SESSION time_zone='+00:00', sql_mode='STRICT_TRANS_TABLES,NO_ZERO_DATE,NO_ZERO_IN_DATE,"
        "ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION'",
    },
    "sqlserver": {"timeout": 3},
}
_CREATE = {
    "postgresql": "CREATE DATABASE {0} TEMPLATE template0 ENCODING 'UTF8'",
    "mysql": "CREATE DATABASE {0} CHARACTER SET utf8mb4",
    "sqlserver": "CREATE DATABASE {0}",
}
_DROP = {
    # An idle pooled connection blocks DROP DATABASE: FORCE ends it.
    "postgresql": "DROP DATABASE IF EXISTS {0} WITH (FORCE)",
    "mysql": "DROP DATABASE IF EXISTS {0}",
    "sqlserver": "ALTER DATABASE {0} SET SINGLE_USER WITH ROLLBACK IMMEDIATE; DROP DATABASE {0}",
}


def server_address(engine: str) -> sa.URL | None:
    """Give the server on which databases of this engine may be made, or None where none is named."""
    texts = settings.given()
    text = texts.get(_SETTING[engine], settings.TEST_SETTINGS[_SETTING[engine]])
    return sa.make_url(text).set(drivername=_DRIVER[engine]) if text else None


@cache
def missing(engine: str) -> str | None:
    """Say why an engine cannot be tested here, or None where it can; asked once in a process."""
    if engine == "sqlite":
        return None
    if engine == "chromium":
        return None if chromium_path() else "Chromium or its driver (playwright) is not installed"
    address = server_address(engine)
    if address is None:
        return f"{_SETTING[engine]} is not set"
    try:
        with _server(engine, address).connect() as connection:
            connection.execute(sa.text("SELECT 1"))
    except (SQLAlchemyError, ImportError) as error:
        why = str(getattr(error, "orig", None) or error).strip().splitlines()[0][:160]
        return f"{_SETTING[engine]}, {address.host}:{address.port}: {why}"
    return None


@cache
def chromium_path() -> str | None:
    try:
        import playwright  # noqa: F401 - optional: asked for, not used
    except ImportError:
        return None
    found = (shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome"))
    return next(filter(None, found), None)


def _server(engine: str, address: sa.URL) -> sa.Engine:
    return sa.create_engine(
        address, connect_args=_CONNECT_ARGS[engine], poolclass=NullPool, isolation_level="AUTOCOMMIT"
    )


@contextmanager
def fresh_database(engine: str, folder: Path) -> Iterator[str]:
    """Make an empty database, give its URL, and drop it: for fixtures of any scope."""
    name = f"unify_test_{uuid.uuid4().hex[:16]}"
    if engine == "sqlite":
        yield f"sqlite:///{folder / name}.db"
        return
    address = server_address(engine)
    assert address is not None
    server = _server(engine, address)
    with server.connect() as connection:
        connection.exec_driver_sql(_CREATE[engine].format(name))
    try:
        yield address.set(database=name).render_as_string(hide_password=False)
    finally:
        with server.connect() as connection:
            connection.exec_driver_sql(_DROP[engine].format(name))


def open_engine(url: str) -> sa.Engine:
    """Make an engine as the catalog would have it: pinned modes, UTC, ``BEGIN IMMEDIATE`` on SQLite."""
    family = sa.make_url(url).get_backend_name()
    if family == "sqlite":
        backend = SQLiteBackend(Path(sa.make_url(url).database or "").parent)
        opened = backend.catalog_engine(url)
        backend.make_catalog(opened)
        return opened
    engine = {"mssql": "sqlserver", "mariadb": "mysql"}.get(family, family)
    return sa.create_engine(url, connect_args=_CONNECT_ARGS[engine])


def use(request: pytest.FixtureRequest, engine: str) -> str:
    """Note that a test runs on an engine; skip it where the engine is missing, or fail where it is required."""
    request.node.user_properties.append(("engine", engine))
    reason = missing(engine)
    if reason is None:
        return engine
    if engine in required():
        pytest.fail(f"REQUIRE_ENGINES names {engine}, which is missing: {reason}", pytrace=False)
    pytest.skip(f"{engine}: {reason}")


@cache
def required() -> frozenset[str]:
    words = settings.given().get("REQUIRE_ENGINES", "").split(",")
    named = frozenset(word.strip() for word in words if word.strip())
    unknown = named - {*ENGINES, *TOOLS}
    if unknown:
        raise pytest.UsageError(
            f"REQUIRE_ENGINES: {', '.join(sorted(unknown))} is none of {', '.join(ENGINES + TOOLS)}"
        )
    return named


def pytest_configure() -> None:
    required()


@pytest.fixture(params=CATALOG_ENGINES)
def engine_name(request: pytest.FixtureRequest) -> str:
    """Name an engine on which catalog and repositories must work alike."""
    return use(request, request.param)


@pytest.fixture
def server_url(engine_name: str, tmp_path: Path) -> Iterator[str]:
    """Give the URL of an empty database on each engine in turn."""
    with fresh_database(engine_name, tmp_path) as url:
        yield url


@pytest.fixture
def catalog_engine(server_url: str) -> Iterator[sa.Engine]:
    """Give an engine on an empty database, on each engine in turn."""
    engine = open_engine(server_url)
    yield engine
    engine.dispose()


@pytest.fixture
def chromium(request: pytest.FixtureRequest) -> str:
    """Give the path of the browser; skip where there is none."""
    use(request, "chromium")
    path = chromium_path()
    assert path is not None
    return path


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Name in the closing lines what ran on which engine, and what did not run and why."""
    ran, skipped, reasons = _count(terminalreporter.stats)
    if not ran and not skipped:
        return
    terminalreporter.section("engines")
    for engine in [*ENGINES, *TOOLS]:
        if skipped[engine]:
            terminalreporter.line(f"{engine}: SKIPPED {_tests(skipped[engine])} ({reasons[engine]})", yellow=True)
        elif ran[engine]:
            state = "ran" if missing(engine) is None else "FAILED: it is required and missing"
            terminalreporter.line(f"{engine}: {_tests(ran[engine])} {state}")


def _count(stats: dict[str, list[Any]]) -> tuple[Counter[str], Counter[str], dict[str, str]]:
    ran: Counter[str] = Counter()
    skipped: Counter[str] = Counter()
    reasons: dict[str, str] = {}
    for outcome in ("passed", "failed", "error", "skipped", "xfailed"):
        for report in stats.get(outcome, []):
            for engine in _engines_of(report):
                if outcome != "skipped":
                    ran[engine] += 1
                elif report.longrepr[2].startswith(f"Skipped: {engine}: "):
                    skipped[engine] += 1
                    reasons[engine] = report.longrepr[2].removeprefix(f"Skipped: {engine}: ")
    return ran, skipped, reasons


def _engines_of(report: Any) -> set[str]:
    """Give what a test ran on; a file that could not even be collected has no properties."""
    return {value for name, value in getattr(report, "user_properties", ()) if name == "engine"}


def _tests(number: int) -> str:
    return "1 test" if number == 1 else f"{number} tests"


if __name__ == "__main__":
    sys.exit(any(missing(engine) for engine in sys.argv[1:]))
