"""PostgreSQL: what is sent to it, where the contract does not say."""

from __future__ import annotations

import sqlalchemy as sa
from psycopg2 import extensions

from tests.engines import backend_of, server_login, use


class Told(extensions.cursor):
    """Keep what is sent."""

    sent: list[str]

    def execute(self, statement, values=None):
        self.sent.append(statement)
        return super().execute(statement, values)


def test_a_new_connection_asks_nothing_before_its_first_statement(request):
    """What SQLAlchemy asks for hstore takes longer than connecting does, in a database that is new."""
    use(request, "postgresql")
    backend, login = backend_of("postgresql"), server_login("postgresql")
    with backend.filling(backend.open(login)) as warm:  # a server's version is asked about once
        warm.execute(sa.text("SELECT 1"))
    driver = backend.open(login)
    Told.sent = []
    driver.cursor_factory = Told
    with backend.filling(driver) as connection:
        connection.execute(sa.text("SELECT 2"))
    assert Told.sent == ["SELECT 2"]
