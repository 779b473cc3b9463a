"""Give repositories of two users whose rows stand side by side in one database, made by the tenant chain."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.orm import Session

from repositories.base.statements import UNLISTED
from repositories.repository_factory import RepositoryFactory
from repositories.schema import MIGRATIONS, first_rows, metadata
from tenancy.schema.chain import Chain
from tenancy.schema.tables import TENANT_VERSION_TABLE
from tests.support.engines import fresh_database, open_engine

# Numbers that turn up nowhere else, so that finding them in a statement means something.
ADA = 471_101
BOB = 471_202


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], sa.Engine]]:
    """Give a function from an engine's name to an engine on a migrated database, one a session."""
    made: dict[str, sa.Engine] = {}
    with ExitStack() as stack:

        def make(name: str) -> sa.Engine:
            if name not in made:
                url = stack.enter_context(fresh_database(name, tmp_path_factory.mktemp("tenants")))
                made[name] = open_engine(url)
                stack.callback(made[name].dispose)
                with made[name].connect() as connection:
                    Chain(MIGRATIONS, TENANT_VERSION_TABLE).upgrade(connection, transactional_ddl=name != "mysql")
            return made[name]

        yield make


def start_afresh(engine: sa.Engine) -> None:
    """Empty the tables, then write the first rows of both users."""
    with engine.begin() as connection:
        for table in reversed(metadata.sorted_tables):
            connection.execute(table.delete())
        for owner in (ADA, BOB):
            for table, values in first_rows(owner):
                connection.execute(table.insert(), values)


@pytest.fixture(scope="session")
def fresh(migrated: Callable[[str], sa.Engine]) -> Callable[[str], sa.Engine]:
    """Give a function from an engine's name to an engine on the two users' first rows and nothing else.

    Most tests end in a rollback, after which nothing has to be emptied: a commit is what says that rows are left.
    """
    watched: set[str] = set()
    clean: set[str] = set()

    def give(name: str) -> sa.Engine:
        engine = migrated(name)
        if name not in watched:
            event.listen(engine, "commit", lambda _: clean.discard(name))
            watched.add(name)
        if name not in clean:
            start_afresh(engine)
            clean.add(name)
        return engine

    return give


@pytest.fixture
def engine(engine_name: str, fresh: Callable[[str], sa.Engine]) -> sa.Engine:
    """Give an engine on the two users' fresh rows, on each engine in turn."""
    return fresh(engine_name)


@pytest.fixture
def session(engine: sa.Engine) -> Iterator[Session]:
    with Session(engine) as opened:
        yield opened


@dataclass
class Resources:
    """Hold one user's repositories, by the name of their resource."""

    session: Session
    owner: int

    def __getattr__(self, name: str) -> Any:
        return RepositoryFactory.get_repository(name, self.session, self.owner)


def listed(row: dict[str, Any]) -> dict[str, Any]:
    """Give a row as a list of ``/api/v1`` shows it."""
    return {name: value for name, value in row.items() if name not in UNLISTED}


@pytest.fixture
def ada(session: Session) -> Resources:
    return Resources(session, ADA)


@pytest.fixture
def bob(session: Session) -> Resources:
    return Resources(session, BOB)


@contextmanager
def statements_sent(engine: sa.Engine) -> Iterator[list[tuple[str, list[Any]]]]:
    """Collect each statement a block sends, with its values; savepoints aside."""
    sent: list[tuple[str, list[Any]]] = []

    def note(conn: Any, cursor: Any, statement: str, parameters: Any, context: Any, executemany: bool) -> None:
        if "SAVEPOINT" not in statement and " TRANSACTION" not in statement:  # SQL Server's word for savepoints
            many = (
                executemany and isinstance(parameters, list | tuple) and isinstance(parameters[0], list | tuple | dict)
            )
            sets = parameters if many else [parameters]
            values = [value for each in sets for value in (each.values() if isinstance(each, dict) else each)]
            sent.append((statement, values))

    event.listen(engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(engine, "before_cursor_execute", note)
