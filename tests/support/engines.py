"""Give tests databases on real servers, and say at the end which engines they ran on.

A pytest plugin, loaded by ``tests/conftest.py``. An engine that cannot be reached skips its tests, is counted and
named in the closing lines; ``REQUIRE_ENGINES=sqlite,postgresql,mysql`` makes a missing one a failure. Where no server
is named, ``session_servers.py`` starts one.
``python -m tests.support.engines NAME...`` exits 0 when the named engines answer (``.ci/run`` asks that way).
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

import settings
from tenancy.backends import Backends
from tenancy.backends.access import Login
from tenancy.backends.server.backend import ServerBackend
from tenancy.backends.server.sql import one
from tenancy.backends.sqlserver import driver as sqlserver_driver
from tenancy.catalog import tenants
from tenancy.errors import TenancyError
from tests.support import session_servers

ENGINES = ("sqlite", "postgresql", "mysql", "sqlserver")
CATALOG_ENGINES = ENGINES
TOOLS = ("chromium", "docker-compose", "age")

_SETTING = {"postgresql": "TEST_POSTGRES_URL", "mysql": "TEST_MYSQL_URL", "sqlserver": "TEST_MSSQL_URL"}


_DRIVERS: dict[str, tuple[type[sqlserver_driver.Driver], ...]] = {
    "mssql+pyodbc": (sqlserver_driver.Microsoft, sqlserver_driver.FreeTDS),
    "mssql+mssqlpython": (sqlserver_driver.MSSQLPython,),
}


def backend_of(engine: str) -> ServerBackend:
    """Give the product's own backend: the tests reach their servers as the application does."""
    found = Backends(Path()).get(engine)
    assert isinstance(found, ServerBackend)
    return found


def server_login(engine: str) -> Login:
    """Give the login with which the tests make databases."""
    address = server_address(engine)
    assert address is not None
    return backend_of(engine).login(address.render_as_string(hide_password=False), _SETTING[engine])


def server_address(engine: str) -> sa.URL | None:
    """Give the server on which databases of this engine may be made; None where its setting is left empty."""
    text = settings.given().get(_SETTING[engine])
    if text is None:
        text = session_servers.url(engine) or settings.TEST_SETTINGS[_SETTING[engine]]
    return sa.make_url(text) if text else None


def switched_off(engine: str) -> bool:
    """Say whether an engine is not to be used here: its setting is left empty."""
    return settings.given().get(_SETTING[engine], settings.TEST_SETTINGS[_SETTING[engine]]) == ""


@cache
def missing(engine: str) -> str | None:
    """Say why an engine cannot be tested here, or None where it can; asked once in a process."""
    if engine == "sqlite":
        return None
    if engine == "chromium":
        return None if chromium_path() else "Chromium or its driver (playwright) is not installed"
    if engine == "age":
        there = [program for program in ("age", "zstd") if shutil.which(program) is None]
        return f"{' and '.join(there)}: not installed" if there else None
    if engine == "docker-compose":
        return (
            None if compose_command() else "neither `docker compose` nor `docker-compose` is here in version 2 or later"
        )
    address = server_address(engine)
    if address is None:
        return f"{_SETTING[engine]} is not set"
    try:
        backend_of(engine).at_server(server_login(engine)).close()
    except TenancyError as error:
        return f"{_SETTING[engine]}, {address.host}:{address.port}: {error.message}"
    return None


@cache
def chromium_path() -> str | None:
    try:
        import playwright  # noqa: F401 - optional: asked for, not used
    except ImportError:
        return None
    found = (shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome"))
    return next(filter(None, found), None)


@cache
def compose_command() -> tuple[str, ...] | None:
    """Give the words that call Compose, which is a plugin of Docker's client or a program of its own."""
    for command in (("docker", "compose"), ("docker-compose",)):
        if shutil.which(command[0]) is None:
            continue
        asked = subprocess.run([*command, "version", "--short"], capture_output=True, text=True, check=False)
        if asked.returncode == 0 and not asked.stdout.lstrip("v").startswith(("0.", "1.")):
            return command
    return None


@contextmanager
def fresh_database(engine: str, folder: Path) -> Iterator[str]:
    """Make an empty database, give its URL, and drop it: for fixtures of any scope."""
    name = f"unify_test_{uuid.uuid4().hex[:16]}"
    if engine == "sqlite":
        yield f"sqlite:///{folder / name}.db"
        return
    address, backend, login = server_address(engine), backend_of(engine), server_login(engine)
    assert address is not None
    with closing(backend.at_server(login)) as driver:
        backend.make_plain_database(driver, name)
    try:
        yield address.set(database=name).render_as_string(hide_password=False)
    finally:
        with closing(backend.at_server(login)) as driver:
            backend.drop_database(driver, name)


def drop_shared_login(engine: str, parts: Any) -> None:
    """Remove the login that a shared database was served with, once its database is gone."""
    with parts.catalog.reading() as connection:
        tenant = tenants.shared(connection)
    if tenant is not None and tenant.sealed_password is not None:
        backend = backend_of(engine)
        with closing(backend.at_server(server_login(engine))) as driver:
            backend.drop_database(driver, tenant.db_name or "")
            backend.drop_login(driver, tenant.db_user or "")


def open_engine(url: str) -> sa.Engine:
    """Make an engine as the catalog's is."""
    backend = Backends(Path()).for_url(url, "URL")
    opened = backend.catalog_engine(url)
    backend.make_catalog(opened)
    return opened


def use(request: pytest.FixtureRequest, engine: str) -> str:
    """Note that a test runs on an engine; skip it where the engine is missing, or fail where it is required."""
    request.node.user_properties.append(("engine", engine))
    reason = missing(engine)
    if reason is None:
        return engine
    if engine in required():
        pytest.fail(f"REQUIRE_ENGINES names {engine}, which is missing: {reason}", pytrace=False)
    pytest.skip(f"{engine}: {reason}")


def needs_the_product(request: pytest.FixtureRequest, engine: str) -> None:
    """Skip a test where the server only speaks a product's protocol and cannot show this."""
    if engine == "sqlserver" and not _version(engine).startswith("Microsoft SQL Server"):
        request.node.user_properties.append(("engine", engine))
        pytest.skip(f"{engine}: a server that only speaks its protocol cannot show this")


@cache
def _version(engine: str) -> str:
    with closing(backend_of(engine).at_server(server_login(engine))) as driver:
        return str(one(driver, "SELECT @@VERSION"))


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
    use_the_driver_named()


def use_the_driver_named() -> None:
    """Let the URL's scheme choose among the drivers of SQL Server, where several are installed."""
    address = server_address("sqlserver")
    named = address.drivername if address is not None else ""
    if named in _DRIVERS:
        sqlserver_driver.DRIVERS = _DRIVERS[named]


on_sqlite = pytest.mark.parametrize("engine_name", ["sqlite"], indirect=True)
"""Mark a test of what no product can change, such as values that are refused before any SQL is sent."""


@pytest.fixture(params=CATALOG_ENGINES)
def engine_name(request: pytest.FixtureRequest) -> str:
    """Name an engine on which catalog and repositories must work alike."""
    return use(request, request.param)


@pytest.fixture
def whole_product(request: pytest.FixtureRequest, engine_name: str) -> str:
    """Name an engine that is the product itself: for what servers that only speak a protocol do not have."""
    needs_the_product(request, engine_name)
    return engine_name


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
def docker_compose(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """Give the words that call Compose; skip where there is none."""
    use(request, "docker-compose")
    command = compose_command()
    assert command is not None
    return command


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
    use_the_driver_named()
    sys.exit(any(missing(engine) for engine in sys.argv[1:]))
