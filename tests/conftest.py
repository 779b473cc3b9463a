"""Give every test the same ways in: settings, the joined parts in both modes, users with databases of their own."""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

from settings import SETTINGS, Settings
from tenancy.catalog.tables import installation
from tenancy.credentials.keyring import generate_key
from tenancy.credentials.signing import generate_signing_key
from tenancy.models import User

if TYPE_CHECKING:
    from compose import Parts
    from tenancy.catalog import Catalog
    from tests.support.once import Migrated

pytest_plugins = [
    "tests.support.catalog_rule",
    "tests.support.session_servers",  # before those that import it
    "tests.support.engines",
    "tests.support.object_storage",
    "tests.support.once",
    "tests.support.products",
    "tests.support.versions",
]

# A shared machine is slow at moments; the example that was slow then says nothing about the code.
hypothesis.settings.register_profile("unify", deadline=None)
hypothesis.settings.load_profile("unify")

PASSWORD = "correct horse battery"


@pytest.fixture
def no_sqlserver_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no driver for SQL Server, whatever is installed here: its backend cannot be made."""
    from tenancy.backends.sqlserver import driver

    monkeypatch.setattr(driver, "DRIVERS", ())


@pytest.fixture(autouse=True)
def put_logging_back() -> Iterator[None]:
    """Take what ``web.create`` adds to the process's logging out again: a command's test counts its lines."""
    root = logging.getLogger()
    handlers, level = set(root.handlers), root.level
    yield
    for added in set(root.handlers) - handlers:
        if type(added).__module__ == "logs":
            root.removeHandler(added)
    root.setLevel(level)


@pytest.fixture
def short_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait a moment only for a SQLite file that another connection has locked: the test never lets it go."""
    from tenancy.backends.sqlite import backend, driver, engines, files, restore_points

    for module in (backend, driver, engines, files, restore_points):
        monkeypatch.setattr(module, "BUSY_TIMEOUT_S", 0.1)


@pytest.fixture
def make_environ(tmp_path: Path) -> Callable[..., dict[str, str]]:
    """Give a function that makes an environment: every setting by name, with fresh keys and this test's folder.

    Because no setting is left out, a process started with it sees nothing of a ``.env`` in the project's folder.
    """

    def make(**overrides: object) -> dict[str, str]:
        ours = {setting.name: setting.default or "" for setting in SETTINGS} | {
            "MULTI_TENANT_MODE": "true",
            "JOB_WORKER": "false",  # a process more for each server that a test starts
            "SECRET_KEY": secrets.token_urlsafe(48),
            "TENANT_CREDENTIAL_KEYS": generate_key(),
            "AUDIT_KEY": secrets.token_urlsafe(48),
            "ADMIN_DATABASE_URL": f"sqlite:///{tmp_path / 'admin.db'}",
            "TENANT_DATA_DIR": str(tmp_path / "users"),
            "BACKUP_URL": str(tmp_path / "backups"),
            "BACKUP_SIGNING_KEYS": generate_signing_key(),
        }
        return ours | {name.upper(): str(value) for name, value in overrides.items()}

    return make


@pytest.fixture
def process_environ(make_environ: Callable[..., dict[str, str]]) -> Callable[..., dict[str, str]]:
    """Give a function that makes the whole environment of a child process: ours on top of this process's own."""

    def make(**overrides: object) -> dict[str, str]:
        return dict(os.environ) | make_environ(**overrides)

    return make


@pytest.fixture
def make_settings(make_environ: Callable[..., dict[str, str]]) -> Callable[..., Settings]:
    """Give a function that makes settings; overrides are texts as one would type them, by name in either case."""

    def make(**overrides: object) -> Settings:
        return Settings.load(make_environ(**overrides), dotenv=None)

    return make


@pytest.fixture
def settings(make_settings: Callable[..., Settings]) -> Settings:
    return make_settings()


@pytest.fixture
def make_parts(make_settings: Callable[..., Settings], migrated_catalog: Migrated) -> Iterator[Callable[..., Parts]]:
    """Give a function that joins the parts over a migrated catalog; what it made is closed after the test.

    Passwords are hashed with little memory, and so quickly.
    """
    # Here and not above: it loads the ORM and Alembic, which half of the tests do without.
    import compose
    from tenancy.accounts.passwords import Passwords

    made: list[Parts] = []

    def make(**overrides: object) -> Parts:
        settings = make_settings(**overrides)
        migrated_catalog.copy_for(settings)
        parts = compose.build(settings)
        parts.accounts._passwords = Passwords(memory_kib=64)
        made.append(parts)
        parts.manager.prepare_catalog()
        mark_as_tests(parts.catalog)
        return parts

    yield make
    for parts in made:
        parts.close()


def mark_as_tests(catalog: Catalog) -> None:
    """Give all catalogs of a process one mark: a server keeps a template for each, and making one takes time.

    Another worker has another: a template goes when a next version is made, and somebody may be copying it.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    with catalog.writing() as connection:
        connection.execute(installation.update(), {"mark": f"7e58{worker:02x}"})


@pytest.fixture
def parts(make_parts: Callable[..., Parts]) -> Parts:
    """Give the joined parts with a database for every user."""
    return make_parts()


@pytest.fixture
def shared_parts(make_parts: Callable[..., Parts]) -> Parts:
    """Give the joined parts with one database for all users."""
    return make_parts(multi_tenant_mode="false")


@pytest.fixture(params=["true", "false"], ids=["a-database-each", "one-shared-database"])
def any_parts(request: pytest.FixtureRequest, make_parts: Callable[..., Parts]) -> Parts:
    """Give the joined parts in each mode in turn."""
    return make_parts(multi_tenant_mode=request.param)


def make_user(parts: Parts, email: str) -> User:
    """Make an account with the password ``PASSWORD`` and its database."""
    user = parts.accounts.create(email, display_name=email.partition("@")[0].title(), password=PASSWORD)
    parts.manager.provision(user.id)
    return user


@pytest.fixture
def user(parts: Parts) -> User:
    return make_user(parts, "ada@example.org")


@pytest.fixture
def other(parts: Parts) -> User:
    return make_user(parts, "bob@example.org")
