"""What SQL Server promises beside the contract of all products: any of three drivers will do, and each is read."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from tenancy.backends import Backends
from tenancy.backends.access import Login, Options
from tenancy.backends.sqlserver import driver
from tenancy.backends.sqlserver.dialects import OverMSSQLPython
from tenancy.backends.sqlserver.driver import FreeTDS, Microsoft, MSSQLPython
from tenancy.errors import (
    AccessDeniedError,
    ConfigurationError,
    DatabaseBusyError,
    DatabaseExistsError,
    DatabaseMissingError,
    DatabaseTimeoutError,
    DatabaseUnreachableError,
    LoginRefusedError,
    ReadOnlyRouteError,
    StorageFullError,
    TooManyConnectionsError,
    UnsupportedBackendError,
    WriteConflictError,
)

ODBC_18 = "ODBC Driver 18 for SQL Server"
HOSTILE = "p;SERVER=elsewhere}w{;=x'\""
LOGIN = Login("db.example.org", 1433, "u}ser", HOSTILE, "rows")


class Error(Exception):
    """Stand in for mssql-python's own, which holds the same two texts."""

    def __init__(self, driver_error: str, ddbc_error: str) -> None:
        super().__init__(f"{driver_error}; {ddbc_error}")
        self.driver_error, self.ddbc_error = driver_error, ddbc_error


class IntegrityError(Error):
    pass


class DataError(Error):
    pass


@pytest.fixture
def installed(monkeypatch):
    """Give a function that says what is installed, and a list of what the drivers are then called with."""
    monkeypatch.setattr(driver, "DRIVERS", (Microsoft, MSSQLPython, FreeTDS))
    called: list[Any] = []

    def say(odbc: list[str] | None = None, mssql_python: bool = False) -> list[Any]:
        def connect(*args: Any, **kw: Any) -> None:
            called.append((args, kw))

        packages = {}
        if odbc is not None:
            packages["pyodbc"] = SimpleNamespace(drivers=lambda: odbc, connect=connect, pooling=True)
        if mssql_python:
            classes = {"Error": Error, "IntegrityError": IntegrityError, "DataError": DataError}
            packages["mssql_python"] = SimpleNamespace(connect=connect, pooling=lambda *, enabled: None, **classes)

        def load(name: str) -> Any:
            if name not in packages:
                raise ImportError(name)
            return packages[name]

        monkeypatch.setattr(driver, "import_module", load)
        return called

    return say


@pytest.mark.parametrize(
    ("odbc", "mssql_python", "expected"),
    [
        ([ODBC_18, "FreeTDS"], True, Microsoft),
        (["ODBC Driver 17 for SQL Server"], False, Microsoft),
        (["FreeTDS"], True, MSSQLPython),
        (None, True, MSSQLPython),
        (["FreeTDS"], False, FreeTDS),
    ],
)
def test_microsofts_driver_is_taken_before_another_however_it_came(installed, odbc, mssql_python, expected):
    installed(odbc, mssql_python)
    assert type(driver.chosen()) is expected


@pytest.mark.parametrize(("odbc", "words"), [(None, "pip install"), (["SQLite3"], "no ODBC driver")])
def test_without_a_driver_the_product_is_not_served(installed, tmp_path, odbc, words):
    installed(odbc)
    with pytest.raises(UnsupportedBackendError, match=words):
        Backends(tmp_path).get("sqlserver")


def test_a_driver_package_without_odbc_itself_is_not_to_be_installed_again(monkeypatch, tmp_path):
    def load(name: str) -> Any:
        raise ImportError("libodbc.so.2: cannot open shared object file", name=name, path="/somewhere/pyodbc.so")

    monkeypatch.setattr(driver, "import_module", load)
    monkeypatch.setattr(driver, "DRIVERS", (FreeTDS,))
    with pytest.raises(UnsupportedBackendError, match=r"on this machine.*apt-get install tdsodbc unixodbc"):
        Backends(tmp_path).get("sqlserver")


def test_under_odbc_no_value_ends_before_its_brace(installed):
    called = installed([ODBC_18])
    driver.chosen().connect(LOGIN)
    ((text,), _) = called[0]
    assert text.startswith(f"DRIVER={{{ODBC_18}}};UID={{u}}}}ser}};PWD={{p;SERVER=elsewhere}}}}w{{;=x'\"}};")
    assert "SERVER={tcp:db.example.org,1433};" in text


@pytest.mark.parametrize(("field", "at"), [("db_user", "user"), ("db_password", "password"), ("db_name", "database")])
def test_freetds_refuses_what_it_cannot_say(installed, field, at):
    called = installed(["FreeTDS"])
    with pytest.raises(ConfigurationError) as refused:
        driver.chosen().connect(replace(LOGIN, **{at: "a};b"}))
    assert refused.value.field == field
    assert called == []


def test_freetds_cannot_check_who_answers(installed):
    called = installed(["FreeTDS"])
    with pytest.raises(UnsupportedBackendError):
        driver.chosen().connect(replace(LOGIN, options=Options(tls="verify")))
    assert called == []


def test_mssql_python_gets_each_field_by_itself(installed):
    called = installed(mssql_python=True)
    driver.chosen().connect(LOGIN, timeout=3)
    assert called == [
        (
            (),
            {
                "timeout": 3,
                "SERVER": "tcp:db.example.org,1433",
                "DATABASE": "rows",
                "UID": "u}ser",
                "PWD": HOSTILE,
                "Encrypt": "optional",
                "TrustServerCertificate": "yes",
                "ConnectRetryCount": "0",
            },
        )
    ]


def test_what_mssql_python_makes_of_the_fields_says_the_same(installed):
    package = pytest.importorskip("mssql_python.connection_string_builder")
    parser = pytest.importorskip("mssql_python.connection_string_parser")._ConnectionStringParser()
    called = installed(mssql_python=True)
    driver.chosen().connect(LOGIN)
    text = package._ConnectionStringBuilder(called[0][1]).build()
    assert parser._parse(text) == {name.lower(): value for name, value in called[0][1].items()}
    known = [parser.normalize_key(name) for name in called[0][1]]
    assert None not in known


@pytest.mark.parametrize(
    ("driver_error", "text", "expected"),
    [
        ("Syntax error", 'Cannot open database "x" requested by the login. The login failed.', DatabaseMissingError),
        ("Syntax error", "Login failed for user 'x'. Reason: The account is disabled.", LoginRefusedError),
        ("Invalid authorization specification", "", LoginRefusedError),
        ("Syntax error", "The SELECT permission was denied on the object 'x', database 'y'.", AccessDeniedError),
        ("Syntax error", "CREATE DATABASE permission denied in database 'master'.", AccessDeniedError),
        ("Syntax error", "User does not have permission to perform this action.", AccessDeniedError),
        ("Syntax error", "Lock request time out period exceeded.", DatabaseBusyError),
        (
            "Serialization failure",
            "was deadlocked on lock resources and chosen as the deadlock victim",
            WriteConflictError,
        ),
        ("Syntax error", "in database 'x' because the 'PRIMARY' filegroup is full.", StorageFullError),
        ("Syntax error", "The transaction log for database 'x' is full due to 'LOG_BACKUP'.", StorageFullError),
        ("Syntax error", "Database 'x' already exists. Choose a different database name.", DatabaseExistsError),
        (
            "General error",
            "Could not connect because the maximum number of '9' user connections has already been reached.",
            TooManyConnectionsError,
        ),
        ("Syntax error", 'Failed to update database "x" because the database is read-only.', ReadOnlyRouteError),
        ("Timeout expired", "Query timeout expired", DatabaseTimeoutError),
        ("Communication link failure", "TCP Provider: Error code 0x68", DatabaseUnreachableError),
    ],
)
def test_what_mssql_python_tells_is_read_by_its_words(installed, tmp_path, driver_error, text, expected):
    installed(mssql_python=True)
    backend = Backends(tmp_path).get("sqlserver")
    assert type(backend.explain(Error(driver_error, f"[Microsoft][SQL Server]{text}"))) is expected


def test_a_refused_row_that_quotes_such_words_says_nothing_about_health(installed, tmp_path):
    installed(mssql_python=True)
    backend = Backends(tmp_path).get("sqlserver")
    text = "Cannot insert duplicate key row. The duplicate key value is (Login failed)."
    assert backend.explain(IntegrityError("Integrity constraint violation", text)) is None
    assert backend.explain(Error("Syntax error", "Incorrect syntax near 'x'.")) is None


def test_over_mssql_python_null_stands_in_the_statement():
    sent = []
    cursor = SimpleNamespace(execute=lambda *words: sent.append(words), executemany=lambda *words: sent.append(words))
    dialect = OverMSSQLPython()
    statement = "UPDATE t SET a = %(a)s, b = '%%(a)s' WHERE c = %(c)s"
    dialect.do_execute(cursor, statement, {"a": None, "c": 1})
    dialect.do_executemany(cursor, "INSERT INTO t VALUES (%(a)s, %(c)s)", [{"a": 1, "c": None}, {"a": None, "c": None}])
    dialect.do_execute(cursor, "SELECT ?", (None,))
    assert sent == [
        ("UPDATE t SET a = NULL, b = '%%(a)s' WHERE c = %(c)s", {"c": 1}),
        ("INSERT INTO t VALUES (%(a)s, NULL)", [{"a": 1}, {"a": None}]),
        ("SELECT ?", (None,)),
    ]


@pytest.mark.parametrize("scheme", ["mssql", "mssql+pyodbc", "mssql+mssqlpython"])
def test_a_url_names_the_product_and_not_the_driver(installed, tmp_path, scheme):
    installed(mssql_python=True)
    backend = Backends(tmp_path).for_url(f"{scheme}://sa:secret@db.example.org/rows", "SHARED_DATABASE_URL")
    assert backend.name == "sqlserver"
    login = backend.login(f"{scheme}://sa:secret@db.example.org/rows", "SHARED_DATABASE_URL")
    assert (login.host, login.port, login.database) == ("db.example.org", 1433, "rows")
