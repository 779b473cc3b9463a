"""Give the tests of the engine a catalog on each product in turn, and accounts that work on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from tenancy.accounts.accounts import AccountRules, Accounts
from tenancy.accounts.passwords import Passwords
from tenancy.catalog import Catalog, users
from tenancy.catalog.tables import CATALOG_VERSION_TABLE, audit_head, catalog_metadata, installation
from tenancy.models import User
from tenancy.monitoring.activity import Activity
from tenancy.schema.chain import Chain
from tests.support import engines

ADMIN_CHAIN = Path(__file__).parents[2] / "migrations" / "admin"
AUDIT_KEY = "a key that seals the audit log of the tests"


@contextmanager
def catalogs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], sa.Engine]]:
    """Give a function that makes a catalog's database by its chain, once an engine: servers take long over tables."""
    made: dict[str, sa.Engine] = {}
    with ExitStack() as stack:

        def give(engine_name: str) -> sa.Engine:
            if engine_name not in made:
                folder = tmp_path_factory.mktemp("catalog")
                engine = engines.open_engine(stack.enter_context(engines.fresh_database(engine_name, folder)))
                stack.callback(engine.dispose)
                with engine.connect() as connection:
                    Chain(ADMIN_CHAIN, CATALOG_VERSION_TABLE).upgrade(
                        connection, transactional_ddl=engine_name != "mysql"
                    )
                made[engine_name] = engine
            return made[engine_name]

        yield give


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], sa.Engine]]:
    """Give a function from an engine's name to the catalog's database that the tests of a process share."""
    with catalogs(tmp_path_factory) as give:
        yield give


@pytest.fixture
def catalog(engine_name: str, migrated: Callable[[str], sa.Engine]) -> Catalog:
    """Give a catalog as its migrations leave it, without a row of anybody's."""
    engine = migrated(engine_name)
    with engine.begin() as connection:
        connection.execute(audit_head.update(), {"last_id": 0, "seal": ""})
        for table in reversed(catalog_metadata.sorted_tables):
            if table not in (audit_head, installation):
                connection.execute(table.delete())
    return Catalog(engine, AUDIT_KEY)


@pytest.fixture
def ada(catalog: Catalog) -> User:
    with catalog.writing() as connection:
        return users.add(connection, "ada@example.org", "Ada", None, False)


@pytest.fixture
def make_accounts(catalog: Catalog) -> Callable[..., Accounts]:
    """Give a function that makes accounts with the named rules; their hashing is weak, and so quick."""

    def make(hasher: Passwords | None = None, **rules: object) -> Accounts:
        quick = hasher or Passwords(memory_kib=64)
        return Accounts(catalog, AccountRules(**rules), Activity(catalog, lambda: None), quick)  # type: ignore[arg-type]  # by name, from the tests

    return make


@pytest.fixture
def accounts(make_accounts: Callable[..., Accounts]) -> Accounts:
    return make_accounts()
