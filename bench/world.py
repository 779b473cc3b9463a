"""Make an installation in a folder of its own: settings, catalog, users with databases, rows that are alike."""

from __future__ import annotations

import datetime as dt
import secrets
import shutil
import sys
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import compose
from compose import Parts
from repositories.schema import tasks
from settings import SETTINGS, TEST_SETTINGS, Settings, given
from tenancy.backends.base import DatabaseFields
from tenancy.catalog.tables import sessions, user_database_configs, users
from tenancy.credentials.keyring import generate_key
from tenancy.models import State, User
from tenancy.types import new_id

FIRST = dt.datetime(2026, 1, 5, 8, 30, tzinfo=dt.UTC)
STATUSES = ("todo", "doing", "done")


@dataclass
class World:
    """Hold an installation and who uses it."""

    folder: Path
    parts: Parts
    users: list[User] = field(default_factory=list)

    def add_users(self, number: int, types: Sequence[str] = ("sqlite",)) -> None:
        """Make accounts that have a database, of these types in turn."""
        known = len(self.users)
        for index in range(known, known + number):
            user = self.parts.accounts.create(f"user{index}@example.org", display_name=f"User {index}")
            self.parts.manager.provision(user.id, DatabaseFields(types[index % len(types)]))
            self.users.append(user)

    def register(self, types: Sequence[str]) -> None:
        """Register the server that tests may use of each type that has one."""
        for db_type in types:
            if db_type != "sqlite":
                self.parts.manager.servers.add(db_type, db_type, server_url(db_type))

    def leave_servers(self) -> None:
        """Delete what is on servers; a folder goes by itself."""
        for user in self.users:
            if self.parts.manager.tenant_of(user.id).server_id is not None:
                self.parts.manager.delete_user_database(user.id)

    def add_tasks(self, each: int) -> dict[int, list[dict[str, Any]]]:
        """Write the same number of tasks for every user; give the rows by user id."""
        written = {}
        for user in self.users:
            rows = [task(user.id, number) for number in range(each)]
            with self.parts.manager.session(user.id, write=True) as session:
                session.execute(tasks.insert(), rows)
            written[user.id] = rows
        return written


def environ(folder: Path, **overrides: object) -> dict[str, str]:
    """Give every setting, with fresh keys: nothing is left for a ``.env`` to say."""
    ours = {setting.name: setting.default or "" for setting in SETTINGS} | {
        "MULTI_TENANT_MODE": "true",
        "JOB_WORKER": "false",  # what is measured are requests
        "SECRET_KEY": secrets.token_urlsafe(48),
        "TENANT_CREDENTIAL_KEYS": generate_key(),
        "AUDIT_KEY": secrets.token_urlsafe(48),
        "ADMIN_DATABASE_URL": f"sqlite:///{folder / 'admin.db'}",
        "TENANT_DATA_DIR": str(folder / "users"),
        "BACKUP_URL": str(folder / "backups"),
    }
    return ours | {name.upper(): str(value) for name, value in overrides.items()}


@contextmanager
def world(number: int = 0, **overrides: object) -> Iterator[World]:
    """Make an installation with this many users; it is gone in the end."""
    with folder() as place:
        parts = compose.build(Settings.load(environ(place, **overrides), dotenv=None))
        made = World(place, parts)
        try:
            parts.manager.prepare_catalog()
            made.add_users(number)
            yield made
        finally:
            made.leave_servers()
            parts.close()


@contextmanager
def folder() -> Iterator[Path]:
    """Give a folder on the disk that temporary files are kept on; memory disks make durable writes look free."""
    place = Path(tempfile.mkdtemp(prefix="unify-bench-"))
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def task(user_id: int, number: int) -> dict[str, Any]:
    """Give a row as a person would have written it; the same for the same user and number, but for its id."""
    moment = FIRST + dt.timedelta(minutes=7 * number, microseconds=number * 991 + user_id)
    return {
        "user_id": user_id,
        "id": new_id(),
        "title": f"Task {number} of user {user_id}",
        "description": "Call the plumber back about the kitchen, and ask for the invoice." if number % 2 else None,
        "status": STATUSES[number % 3],
        "priority": number % 4,
        "due_date": dt.date(2026, 2, 1) + dt.timedelta(days=number) if number % 3 else None,
        "category_id": None,
        "created_at": moment,
        "updated_at": moment,
        "version": 1,
    }


def register_only(parts: Parts, number: int) -> None:
    """Fill the catalog with accounts, sessions and configurations of people who are not here today."""
    now = dt.datetime.now(dt.UTC)
    with parts.catalog.writing() as connection:
        first = 1_000_000
        ids = range(first, first + number)
        stamps = {"created_at": now, "updated_at": now}
        connection.execute(
            users.insert(),
            [
                {"id": i, "email": f"p{i}@example.org", "email_key": f"p{i}@example.org", "display_name": "P"} | stamps
                for i in ids
            ],
        )
        at_head = {"revision": parts.manager.head, "schema_fingerprint": parts.manager.chain.fingerprint}
        place = {"state": State.READY, "version": 1, "epoch": 1} | at_head | stamps
        connection.execute(
            user_database_configs.insert(),
            [{"user_id": i, "tenant_id": uuid.uuid4(), "db_path": f"user_{i}.db"} | place for i in ids],
        )
        session = {"created_at": now, "last_seen_at": now, "expires_at": now + dt.timedelta(days=30)}
        connection.execute(
            sessions.insert(), [{"token_hash": secrets.token_hex(32), "user_id": i} | session for i in ids]
        )


def server_url(db_type: str) -> str:
    """Give the address of the server of a type on which tests may make databases."""
    setting = {"postgresql": "TEST_POSTGRES_URL", "mysql": "TEST_MYSQL_URL", "sqlserver": "TEST_MSSQL_URL"}[db_type]
    return given().get(setting, TEST_SETTINGS[setting])


def progress(text: str) -> None:
    """Tell people what takes so long; figures go to standard output alone."""
    print(f"... {text}", file=sys.stderr, flush=True)
