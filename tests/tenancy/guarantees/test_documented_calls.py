"""The calls of the system's own document, as it shows them, with the SQL of this schema inside.

Read it beside the document "Multi-Tenant Database System": the sections come in its order.
"""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest

from repositories.repository_factory import RepositoryFactory
from tenancy import DatabaseConnection, MultiTenantDatabaseManager, context, install
from tenancy.context import Context
from tenancy.errors import ConfigurationError, NoTenantError


@pytest.fixture
def parts(parts_on_each):
    """Run what the document shows on each database product."""
    return parts_on_each


def product(parts) -> str:
    return parts.settings.default_tenant_db_type


@pytest.fixture(autouse=True)
def a_context_of_its_own():
    """Begin and end as a web request does: with nobody set."""
    context.bind(Context())
    yield
    context.bind(Context())


def test_in_controllers(parts, user):
    parts.manager.set_current_user(user.id)  # "Database context is automatically set from session"

    db = DatabaseConnection.get_instance()
    assert db.fetch_all("SELECT * FROM tasks") == []
    assert isinstance(db.fetch_all("SELECT name FROM categories")[0], tuple)


def test_manual_context_switching(parts, user, other):
    db = DatabaseConnection.get_instance()

    db.set_user_context(user.id)
    db.execute_update("INSERT INTO tasks (id, user_id, title) VALUES (?, ?, ?)", (uuid4().hex, user.id, "Buy milk"))
    assert db.fetch_all("SELECT title FROM tasks WHERE status = ?", ("todo",)) == [("Buy milk",)]
    assert db.current_user_id == user.id

    db.set_user_context(other.id)
    assert db.fetch_all("SELECT title FROM tasks") == []

    db.clear_user_context()
    assert db.current_user_id is None
    assert db.fetch_all("SELECT id, email FROM users ORDER BY id") == [(user.id, user.email), (other.id, other.email)]


def test_nothing_falls_back_to_the_main_database_by_itself(parts):
    db = DatabaseConnection.get_instance()
    with pytest.raises(NoTenantError):
        db.fetch_all("SELECT id FROM users")


def test_using_the_multi_tenant_manager(parts, user):
    user_id = user.id
    db_manager = MultiTenantDatabaseManager()

    db_manager.set_current_user(user_id)
    conn = db_manager.get_user_connection()
    assert tuple(conn.execute("SELECT count(*) FROM tasks").fetchone()) == (0,)
    conn.close()

    changed = db_manager.execute_update(
        "INSERT INTO tasks (id, user_id, title, description) VALUES (?, ?, ?, ?)",
        (uuid4().hex, user_id, "New Task", "Task description"),
        user_id=user_id,
    )
    assert changed == 1

    results = db_manager.fetch_all("SELECT title, description FROM tasks", user_id=user_id)
    assert results == [("New Task", "Task description")]


def test_test_in_python(parts):
    user = parts.accounts.create("first@example.org")
    db_manager = MultiTenantDatabaseManager()

    config = db_manager.initialize_user_database(user.id, db_type="sqlite")
    assert Path(config["db_path"]).exists()
    assert Path(config["db_path"]).name == f"user_{user.id}.db"

    db_manager.execute_update(
        "INSERT INTO tasks (id, user_id, title) VALUES (?, ?, ?)", (uuid4().hex, user.id, "Test Task"), user_id=user.id
    )
    results = db_manager.fetch_all("SELECT * FROM tasks", user_id=user.id)
    assert len(results) == 1


def test_initializing_twice_is_no_harm(parts, user):
    db_manager = MultiTenantDatabaseManager()
    db_manager.execute_update(
        "INSERT INTO tasks (id, user_id, title) VALUES (?, ?, ?)", (uuid4().hex, user.id, "Kept"), user_id=user.id
    )
    first = db_manager.initialize_user_database(user.id, db_type=product(parts))
    assert db_manager.initialize_user_database(user.id) == first
    assert db_manager.fetch_all("SELECT title FROM tasks", user_id=user.id) == [("Kept",)]


def test_migration_from_a_single_database(parts):
    """Option 1, copying data per user: from tables that stand in the main database."""
    parts.accounts.create("one@example.org")
    parts.accounts.create("two@example.org")
    main_db = DatabaseConnection.get_instance()
    main_db.clear_user_context()
    main_db.execute_update("CREATE TABLE old_tasks (user_id INTEGER, title TEXT, description TEXT)")
    users = main_db.fetch_all("SELECT id FROM users")
    for user in users:
        main_db.execute_update("INSERT INTO old_tasks VALUES (?, ?, ?)", (user[0], f"Task of {user[0]}", None))

    db_manager = MultiTenantDatabaseManager()
    for user in users:
        user_id = user[0]
        db_manager.initialize_user_database(user_id, db_type="sqlite")
        tasks = main_db.fetch_all("SELECT title, description FROM old_tasks WHERE user_id = ?", (user_id,))
        for task in tasks:
            db_manager.execute_update(
                "INSERT INTO tasks (id, user_id, title, description) VALUES (?, ?, ?, ?)",
                (uuid4().hex, user_id, task[0], task[1]),
                user_id=user_id,
            )

    for user in users:
        assert db_manager.fetch_all("SELECT title FROM tasks", user_id=user[0]) == [(f"Task of {user[0]}",)]


def test_connection_failed_check_the_configuration(parts, user):
    db_manager = MultiTenantDatabaseManager()
    config = db_manager.load_user_db_config(user.id)
    assert (config["user_id"], config["db_type"], config["status"]) == (user.id, product(parts), "ready")
    assert "password" not in " ".join(config).replace("password_set", "")


def test_wrong_database_context_verify_that_it_is_set(parts, user):
    db = DatabaseConnection.get_instance()
    assert db.current_user_id is None
    db.set_user_context(user.id)
    assert f"Current user: {db.current_user_id}" == f"Current user: {user.id}"


def test_table_not_found_create_tables_in_the_user_database(parts, user):
    """A file's connection may; on a server the login that serves reads and writes rows alone."""
    db_manager = MultiTenantDatabaseManager()
    conn = db_manager.get_user_connection(user.id)
    cursor = conn.cursor()
    if product(parts) != "sqlite":
        with pytest.raises(Exception, match=r"(?i)denied|permission|by its migrations"):
            cursor.execute("CREATE TABLE MyTable (ID INTEGER PRIMARY KEY)")
        conn.close()
        return

    cursor.execute("""
        CREATE TABLE IF NOT EXISTS MyTable (
            ID INTEGER PRIMARY KEY,
            Data TEXT
        )
    """)
    conn.commit()
    conn.close()
    assert db_manager.fetch_all("SELECT * FROM MyTable", user_id=user.id) == []


def test_database_management_api(parts, user):
    repo = RepositoryFactory.get_repository("user_database_config")
    config = repo.get_by_user_id(user.id)
    shown = config.to_dict()
    on_server = product(parts) != "sqlite"
    assert (shown["user_id"], shown["db_type"], shown["password_set"]) == (user.id, product(parts), on_server)
    assert shown == parts.manager.load_user_db_config(user.id)


def test_monitoring(parts, user, other):
    stats = MultiTenantDatabaseManager().get_user_database_stats()
    assert stats["total_databases"] == 2
    assert (stats["total_size_mb"] > 0) == (product(parts) == "sqlite")  # what a server keeps was not measured yet
    configs = [parts.manager.load_user_db_config(each.id) for each in (user, other)]
    names = [Path(config["db_path"]).name if config["db_path"] else config["db_name"] for config in configs]
    assert [entry["name"] for entry in stats["databases"]] == names
    assert {"name", "size_mb", "modified"} <= set(stats["databases"][0])


def test_before_an_entry_point_has_joined_the_parts_the_calls_without_arguments_say_so():
    install(None)
    for call in (
        MultiTenantDatabaseManager,
        DatabaseConnection.get_instance,
        lambda: RepositoryFactory.get_repository("user_database_config").get_by_user_id(1),
    ):
        with pytest.raises(ConfigurationError, match="no tenant manager is installed"):
            call()
