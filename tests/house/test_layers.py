"""Hold the rules of the house against the code: who imports whom, and which words stand where.

The tables are the rules; ``tests/support/layers.py`` reads the code. A new module gets its place in ``ORDERS``, a new
file that opens files gets its reason in ``OPENS_FILES``.
"""

from __future__ import annotations

import re

import pytest

from tests.support import layers
from tests.support.layers import Order, Source

MAY_IMPORT = {
    "settings": frozenset({"tenancy"}),
    "logs": frozenset(),
    "compose": frozenset({"settings", "repositories", "tenancy"}),
    "app": frozenset({"compose", "settings", "web", "repositories", "tenancy"}),
    "web": frozenset({"compose", "logs", "settings", "repositories", "tenancy"}),
    "repositories": frozenset({"tenancy"}),
    "tenancy": frozenset(),
    "utils": frozenset({"compose", "logs", "settings", "repositories", "tenancy"}),
    "migrations": frozenset({"repositories", "tenancy"}),
    "tests": frozenset(),
    "bench": frozenset(),
}
"""Who may import whom; no room may import ``utils``, ``migrations``, ``tests`` or ``bench``."""

LAZILY = {"utils/serve.py": "app"}
"""Only ``unify serve`` imports the application, and only when it serves."""

SETTINGS_MAY_USE = {"tenancy.errors", "tenancy.names", "tenancy.hosts", "tenancy.credentials.keyring"} | {
    "tenancy.credentials.signing",
    "tenancy.archive.storage",
}
"""What settings are checked with; the engine itself is given values, not settings."""

ORDERS = [
    Order(
        "tenancy",
        (
            "errors types forks deadline addresses upkeep former",
            "names hosts",
            "models",
            "context schema",
            "catalog | backends",
            "credentials | routing",
            "archive",
            "lifecycle",
            "servers | fleet | monitoring",
            "accounts | jobs",
            "manager",
            "installed",
            "activity keyring",
        ),
    ),
    Order("tenancy.schema", ("tables chain describe", "identity ledger compatibility autogenerate", "new_revision")),
    Order(
        "tenancy.backends",
        (
            "access inventory placeholders",
            "gates values",
            "checks copying restore_points",
            "base tenant_engine",
            "server",
            "sqlite | postgresql | mysql | sqlserver",
            "itself",
        ),
    ),
    Order(
        "tenancy.backends.server",
        ("engines errors network sql tables", "backend", "checks replay", "restore_points"),
    ),
    Order(
        "tenancy.backends.sqlite",
        ("files", "driver errors", "engines probe restore_points", "checks copying templates", "backend"),
    ),
    Order(
        "tenancy.backends.postgresql",
        ("checks driver rights", "copying dialect errors restore_points templates", "backend"),
    ),
    Order("tenancy.backends.mysql", ("checks driver tables", "copying dialect errors restore_points", "backend")),
    Order(
        "tenancy.backends.sqlserver", ("dialects tables", "checks copying driver restore_points", "errors", "backend")
    ),
    Order(
        "tenancy.catalog",
        (
            "tables damage",
            "audit servers tenant_errors tenant_sizes users",
            "itself tenants statistics",
            "backups claims jobs leftovers listing login_failures pending sessions",
            "api_keys job_claims job_workers runs schedules",
            "recovery",
        ),
    ),
    Order("tenancy.credentials", ("keyring signing", "rotation")),
    Order(
        "tenancy.archive",
        (
            "format kinds storage",
            "compression lines own_tables passphrase records values",
            "encryption tables backup_store",
            "backup_settings export target",
            "load",
        ),
    ),
    Order("tenancy.archive.storage", ("base", "folder objects", "itself")),
    Order("tenancy.routing", ("bulkhead connection_limits dbapi guards", "engines", "router")),
    Order(
        "tenancy.lifecycle",
        (
            "migrate_catalog operation",
            "leftovers placement retention seed upgrade",
            "backup decision exchange load_beside",
            "backup_many preflight provision suspend_delete",
            "own_database provision_many reconcile shared_database stored_backups upgrade_on_first_use",
            "restore",
        ),
    ),
    Order("tenancy.servers", ("registry | pending_pool",)),
    Order(
        "tenancy.fleet",
        (
            "backup_survey beside restore_points rollout_rules runs status verify",
            "catalog_recovery orphans repair runner standing",
            "adoption",
            "tenant_recovery",
            "fleet recovery",
            "processes",
            "revisions",
        ),
    ),
    Order("tenancy.monitoring", ("audit backup_keys backups inspection observations", "activity doctor overview")),
    Order(
        "tenancy.jobs",
        ("cron run", "kinds", "queue", "backup_jobs schedules", "backup_kinds fleet_kinds worker", "itself"),
    ),
    Order("tenancy.accounts", ("passwords preferences", "accounts", "from_backup", "itself")),
    Order("web", ("parts schemas", "http", "auth | ops", "display | api", "pages", "itself")),
    Order(
        "web.http",
        (
            "access_log addresses advice assets",
            "csrf errors wsgi",
            "cursors json_io rate_limits",
            "security",
        ),
    ),
    Order("web.auth", ("sessions", "known_browsers guards")),
    Order("web.ops", ("backup_metrics", "metrics", "health")),
    Order(
        "web.display", ("calendar_names charts highlights markdown preferences stencils", "clock", "template_filters")
    ),
    Order(
        "web.api",
        ("etags queries resources", "account jobs keys rows settings", "admin", "admin_backups itself", "openapi"),
    ),
    Order("web.api.openapi", ("shapes words", "document", "page")),
    Order(
        "web.pages",
        (
            "common",
            "sign_in | account | console | tasks | calendar | notes | categories | bin | search",
            "dashboard",
            "itself",
        ),
    ),
    Order("web.pages.common", ("flash form_times paging", "forms", "htmx resources", "rows")),
    Order("web.pages.sign_in", ("carried_form", "views", "expired_session")),
    Order(
        "web.pages.account",
        ("layout user_agents", "data database keys own_database security", "profile values", "itself"),
    ),
    Order(
        "web.pages.console",
        (
            "layout",
            "actions audit backups fleet health initialize jobs leftovers overview runs schedules servers users",
            "prune restores tenant",
            "itself",
        ),
    ),
    Order("web.pages.tasks", ("filters quick_days quick_times", "quick_add saved_views", "page")),
    Order("web.pages.calendar", ("event_times feed layout", "page")),
    Order(
        "repositories",
        (
            "errors schema user_database_config",
            "base",
            "base_user_scoped_repository categories settings",
            "bin categorized",
            "ordered events notes",
            "tasks",
            "repository_factory",
        ),
    ),
    Order(
        "repositories.base",
        (
            "scope values",
            "search statements",
            "sorting",
            "scoped",
            "bin_storage",
            "repository",
            "paged",
        ),
    ),
]
"""Who may import whom inside a package: imports go to an earlier step, or stay in their own.

``|`` stands between neighbours that do not know each other: no database product another, no tab another.
"""

TENANCY = ORDERS[0]

DIALECT_WORDS = re.compile(
    r"\bPRAGMA\b|\bpg_[a-z]|information_schema|sqlite_master|sqlite_schema"
    r"|\b(sqlite3|pysqlite|aiosqlite|psycopg2?|asyncpg|pymysql|mysqldb|mysqlconnector|pyodbc|pymssql|mssql_python)\b",
    re.IGNORECASE,
)

OPENS_FILES = {
    "settings.py": "reads .env",
    "utils/make_env.py": "reads .env.example, writes .env",
    "utils/cli.py": "opens the null device in place of streams that the caller closed",
    "web/http/assets.py": "reads the application's own static files, for their fingerprints",
    "tenancy/backends/access.py": "reads the certificate that a setting names, and writes it for drivers",
    "tenancy/schema/chain.py": "reads revision files, for their checksums",
    "tenancy/schema/new_revision.py": "writes a revision's file, tries it beside copies of the others",
    "tenancy/archive/backup_settings.py": "reads the file of secret keys that a setting names",
    "tenancy/archive/storage/folder.py": "writes backups and reads them, which no process opens as a database",
    "tenancy/backends/sqlite/files.py": "writes files that no process has open yet, and syncs folders",
    "tenancy/backends/sqlite/templates.py": "reads templates, which no process opens as a database",
}

APPLICATION_WORDS = re.compile(r"\b(tasks|notes|categories|flask)\b", re.IGNORECASE)


def every(*rooms: str) -> list[Source]:
    return list(layers.sources(*rooms))


def outside_backends() -> list[Source]:
    return [source for source in every() if not source.path.startswith("tenancy/backends/")]


def nothing(found: list[str]) -> None:
    """Fail with one line for each thing found."""
    assert not found, "\n".join(["", *found])


def test_rooms_import_only_what_stands_below_them():
    nothing([line for source in every() for line in layers.foreign_rooms(source, MAY_IMPORT, LAZILY)])


def test_settings_use_only_what_values_are_checked_with():
    used = {found.module for source in every("settings") for found in source.imports()}
    ours = {name for name in used if name.startswith("tenancy.")}
    assert [name for name in ours if not any(f"{name}.".startswith(f"{room}.") for room in SETTINGS_MAY_USE)] == []


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: order.package)
def test_imports_inside_a_package_go_to_earlier_steps(order):
    nothing([line for source in every() for line in layers.wrong_order(source, order)])


def test_every_folder_of_code_has_its_order():
    folders = {source.path.rpartition("/")[0].replace("/", ".") for source in every("tenancy", "web", "repositories")}
    assert folders - {order.package for order in ORDERS} == set()


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: order.package)
def test_an_import_of_a_later_step_is_found_in_every_package(order):
    first, *_, last = [part for step in order.steps for part in step.replace("|", " ").split()]
    path = f"{order.package.replace('.', '/')}/{first}.py"
    name = "" if last == "itself" else f".{last}"
    found = layers.wrong_order(Source.of(path, f"import {order.package}{name}"), order)
    assert found == [f"{path}:1: {order.package}: {first} may not import {last}"]


def test_no_imports_go_in_a_circle():
    nothing(layers.cycles(every()))


def revisions() -> list[Source]:
    return [source for source in every("migrations") if "/versions/" in source.path]


def foreign_to_a_revision(source: Source) -> list[str]:
    """Name imports of ours but ``tenancy.types``: with a module that moved, every applied revision would be edited."""
    ours = [found for found in source.imports() if found.module.partition(".")[0] in layers.ROOMS]
    return [
        f"{source.path}:{found.line}: {found.module}" for found in ours if not found.module.startswith("tenancy.types.")
    ]


def test_a_revision_imports_nothing_of_ours_but_the_types():
    assert len(revisions()) >= 9
    nothing([line for source in revisions() for line in foreign_to_a_revision(source)])


@pytest.mark.parametrize(
    "code", ["from tenancy.models import State", "import tenancy", "from repositories import schema"]
)
def test_another_import_in_a_revision_is_found(code):
    assert foreign_to_a_revision(Source.of("migrations/tenant/versions/0003_more.py", code))


def test_flask_stands_in_web_and_app_alone():
    others = [source for source in every() if source.room not in ("web", "app")]
    web = r"flask|flask_\w+|werkzeug|wtforms"
    nothing([line for source in others for line in layers.libraries(source, web)])


def test_dialect_words_stand_in_the_backends_alone():
    nothing([line for source in outside_backends() for line in layers.said(source, DIALECT_WORDS)])


def test_tenancy_knows_nothing_of_the_application():
    nothing([line for source in every("tenancy") for line in layers.said(source, APPLICATION_WORDS)])


FOREIGN_VARIABLES = {"tenancy/backends/postgresql/driver.py": "PGSERVICE"}
"""Variables of other libraries that a file may touch; that of prometheus_client may be touched by all."""


def test_settings_alone_read_the_environment():
    others = [source for source in every() if source.path != "settings.py"]
    nothing(
        [
            line
            for source in others
            for line in layers.environment_reads(source, FOREIGN_VARIABLES.get(source.path, "PROMETHEUS_MULTIPROC_DIR"))
        ]
    )


def test_no_file_is_opened_but_where_the_table_says_why():
    """A live database that is opened by other means than SQLite loses its locks, and then its rows."""
    others = [source for source in every() if source.path not in OPENS_FILES]
    nothing([line for source in others for line in layers.raw_file_access(source)])


def test_the_tables_name_only_files_that_are_there():
    named = [*OPENS_FILES, *LAZILY]
    assert [path for path in named if not (layers.PROJECT / path).exists()] == []


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("tenancy/manager.py", "import repositories.schema"),
        ("tenancy/manager.py", "from settings import Settings"),
        ("repositories/tasks.py", "from web import auth"),
        ("repositories/tasks.py", "import compose"),
        ("web/auth/guards.py", "from utils.cli import main"),
        ("utils/cli.py", "import web.auth.guards"),
        ("utils/cli.py", "import app"),
        ("utils/serve.py", "import app"),
        ("utils/cli.py", "def serve():\n    import app"),
        ("compose.py", "from web import auth"),
        ("app.py", "import utils"),
        ("web/auth/guards.py", "from migrations.tenant import env"),
        ("tenancy/manager.py", "from tests.support.engines import use"),
    ],
)
def test_an_import_of_a_foreign_room_is_found(path, code):
    assert layers.foreign_rooms(Source.of(path, code), MAY_IMPORT, LAZILY)


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("utils/serve.py", "def serve():\n    from app import create_app"),
        (
            "repositories/tasks.py",
            "from tenancy import TenantManager\nfrom repositories.base import Base\nimport sqlalchemy",
        ),
        ("web/pages/home.py", "from ..auth import login\nfrom . import forms"),
    ],
)
def test_an_import_from_below_is_allowed(path, code):
    assert layers.foreign_rooms(Source.of(path, code), MAY_IMPORT, LAZILY) == []


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("tenancy/errors.py", "from tenancy import names"),
        ("tenancy/errors.py", "from tenancy.names import fold"),
        ("tenancy/errors.py", "from . import names"),
        ("tenancy/catalog/users.py", "from ..manager import TenantManager"),
        ("tenancy/catalog/users.py", "def late():\n    import tenancy.backends.sqlite.backend"),
        ("tenancy/backends/sqlite/backend.py", "from tenancy import TenantManager"),
        ("tenancy/routing/router.py", "from tenancy.lifecycle.operation import Operation"),
        ("tenancy/fleet/runner.py", "from tenancy.servers.registry import Servers"),
        ("tenancy/nowhere.py", ""),
    ],
)
def test_an_import_of_a_later_part_is_found(path, code):
    assert layers.wrong_order(Source.of(path, code), TENANCY)


def test_an_import_of_an_earlier_part_is_allowed():
    code = (
        "from tenancy.errors import TenancyError\nfrom tenancy.catalog.users import find\nfrom .catalog import Catalog"
    )
    assert layers.wrong_order(Source.of("tenancy/manager.py", code), TENANCY) == []


def test_an_import_for_types_alone_is_allowed():
    code = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from tenancy.manager import TenantManager"
    assert layers.wrong_order(Source.of("tenancy/routing/dbapi.py", code), TENANCY) == []


def test_a_circle_is_found_and_named():
    files = [
        Source.of("tenancy/a.py", "from tenancy.b import x"),
        Source.of("tenancy/b.py", "from tenancy import c"),
        Source.of("tenancy/c.py", "def late():\n    from .a import y"),
    ]
    assert layers.cycles(files) == ["tenancy.a -> tenancy.b -> tenancy.c -> tenancy.a"]


@pytest.mark.parametrize(
    "code",
    [
        "connection.execute('PRAGMA foreign_keys = ON')",
        "connection.execute(f'pragma {name}')",
        "sql = 'SELECT * FROM pg_tables'",
        "sql = 'SELECT 1 FROM information_schema.tables'",
        "import sqlite3",
        "from sqlalchemy.dialects.sqlite import pysqlite",
        "url = 'postgresql+psycopg2://'",
    ],
)
def test_a_dialect_word_is_found(code):
    assert layers.said(Source.of("web/auth/guards.py", code), DIALECT_WORDS)


def test_people_may_talk_of_dialects():
    code = '"""PRAGMA is SQLite\'s."""\n# pg_dump is not used\ndef f():\n    """Avoid information_schema."""\n'
    assert layers.said(Source.of("web/auth/guards.py", code), DIALECT_WORDS) == []


@pytest.mark.parametrize(
    "code",
    [
        "import os\nos.environ['HOST']",
        "import os\nos.environ.get('HOST')",
        "import os\nos.getenv('HOST')",
        "from os import environ",
        "import os\nenvironment = dict(os.environ)",
    ],
)
def test_a_look_into_the_environment_is_found(code):
    assert layers.environment_reads(Source.of("web/auth/guards.py", code), "PROMETHEUS_MULTIPROC_DIR")


@pytest.mark.parametrize(
    "code",
    [
        "import os\nos.environ['PROMETHEUS_MULTIPROC_DIR'] = folder",
        "import os\nos.environ.setdefault('PROMETHEUS_MULTIPROC_DIR', folder)",
        "import os\n'PROMETHEUS_MULTIPROC_DIR' in os.environ",
        "import os\nFOLDER = 'PROMETHEUS_MULTIPROC_DIR'\nos.environ.get(FOLDER)",
    ],
)
def test_the_variable_of_prometheus_is_its_own(code):
    assert layers.environment_reads(Source.of("web/ops/metrics.py", code), "PROMETHEUS_MULTIPROC_DIR") == []


@pytest.mark.parametrize(
    "code",
    [
        "open('data/admin.db', 'rb')",
        "path.open('rb')",
        "(folder / 'user_1.db').open()",
        "Path(name).read_bytes()",
        "shutil.copy(source, target)",
        "shutil.copyfile(source, target)",
        "os.open(path, os.O_RDONLY)",
        "self.db_file.open()",
        "from shutil import copy\ncopy(a, b)",
    ],
)
def test_an_opened_file_is_found(code):
    assert layers.raw_file_access(Source.of("utils/backup.py", code))


@pytest.mark.parametrize("code", ["keyring.open(sealed, binding)", "values.copy()", "contextvars.copy_context()"])
def test_what_only_sounds_like_a_file_is_allowed(code):
    assert layers.raw_file_access(Source.of("tenancy/routing/engines.py", code)) == []
