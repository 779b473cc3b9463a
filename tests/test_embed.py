"""Run what docs/how-to/embed.md shows: `tenancy` under an application with tables of its own."""

from __future__ import annotations

import re
from pathlib import Path

from tenancy import current_manager, install
from tenancy.keyring import generate_key

PROJECT = Path(__file__).resolve().parent.parent

REVISION = """
import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade():
    op.create_table(
        "orders",
        sa.Column("user_id", sa.Integer, primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
    )


def downgrade():
    op.drop_table("orders")
"""


def test_the_documented_way_gives_another_application_a_database_for_every_user(tmp_path: Path) -> None:
    page = (PROJECT / "docs/how-to/embed.md").read_text()
    setup, usage = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    versions = tmp_path / "chain" / "versions"
    versions.mkdir(parents=True)
    (versions / "0001_orders.py").write_text(REVISION)
    (versions.parent / "env.py").write_text("")
    names: dict = {}
    exec(setup, names)  # the page's own code

    manager = names["build_manager"](
        f"sqlite:///{tmp_path}/catalog.db",
        tmp_path / "tenants",
        versions.parent,
        PROJECT / "migrations" / "admin",
        [generate_key()],
        "k" * 40,
    )
    try:
        assert current_manager() is manager
        with manager.catalog.writing() as connection:
            users = _users(connection, "ada@example.org", "bob@example.org")
        for user_id in users:
            manager.provision(user_id)
        exec(usage, names | {"manager": manager, "user_id": users[0]})

        assert manager.fetch_all("SELECT user_id, number FROM orders", user_id=users[0]) == [(users[0], 1)]
        assert manager.fetch_all("SELECT user_id, number FROM orders", user_id=users[1]) == []
    finally:
        install(None)
        manager.close()


def _users(connection, *addresses: str) -> list[int]:
    from tenancy.catalog import users

    return [users.add(connection, address, address, None, False).id for address in addresses]
