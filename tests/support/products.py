"""Give tests the joined parts on each database product in turn: a pytest plugin, loaded by ``tests/conftest.py``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import engines

if TYPE_CHECKING:
    from compose import Parts


parts_on_sqlite = pytest.mark.parametrize("parts_on_each", ["sqlite"], indirect=True)
"""Mark a test of what is answered before any database of a user's is asked."""


def each_on_sqlite(
    names: tuple[str, ...], cases: list[tuple[Any, ...]], *, anywhere: tuple[int, ...]
) -> pytest.MarkDecorator:
    """Parametrize a test with ``parts_on_each``: all cases on SQLite, those with the numbers ``anywhere`` on each.

    For tests of a decision that is taken above the products: they only have to show that each product brings it
    what it asks.
    """
    of_all = [(engine, *cases[number]) for engine in engines.ENGINES[1:] for number in anywhere]
    every = [*(("sqlite", *case) for case in cases), *of_all]
    return pytest.mark.parametrize(("parts_on_each", *names), every, indirect=["parts_on_each"])


@pytest.fixture(params=engines.ENGINES)
def parts_on_each(request: pytest.FixtureRequest, make_parts: Callable[..., Parts]) -> Iterator[Parts]:
    """Give the joined parts with every user's database on each product in turn."""
    yield from _on(engines.use(request, request.param), make_parts)


MODES = ("a-database-each", "one-shared-database")
any_parts_on_sqlite = pytest.mark.parametrize(
    "any_parts_on_each", [(mode, "sqlite") for mode in MODES], ids="-".join, indirect=True
)
"""Mark a test in both modes of what is answered before any database of a user's is asked."""


@pytest.fixture(params=[(mode, engine) for engine in engines.ENGINES for mode in MODES], ids="-".join)
def any_parts_on_each(
    request: pytest.FixtureRequest, make_parts: Callable[..., Parts], tmp_path: Path
) -> Iterator[Parts]:
    """Give the joined parts in each mode on each product in turn."""
    mode, engine = request.param
    engines.use(request, engine)
    if mode == "a-database-each":
        yield from _on(engine, make_parts)
        return
    with engines.fresh_database(engine, tmp_path) as url:
        parts = make_parts(multi_tenant_mode="false", shared_database_url=url)
        yield parts
        parts.manager.close()
        engines.drop_shared_login(engine, parts)


def _on(engine: str, make_parts: Callable[..., Parts]) -> Iterator[Parts]:
    """Give parts whose new users get a database on a server for tests; nothing of them stays there."""
    parts = make_parts(default_tenant_db_type=engine)
    address = engines.server_address(engine) if engine != "sqlite" else None
    if address is not None:
        parts.manager.servers.add("test", engine, address.render_as_string(hide_password=False))
    yield parts
    for server in parts.manager.servers():
        for row in parts.manager.reports.databases(limit=10_000):
            parts.manager.delete_user_database(row["user_id"])
        parts.manager.servers.remove(server["name"])
