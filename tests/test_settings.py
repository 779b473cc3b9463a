"""Settings: what is typed is what is meant, and a wrong value stops the start with one line that names it."""

from __future__ import annotations

import dataclasses
import logging
import os

import pytest

from settings import PROJECT, SETTINGS, Settings, SettingsError, _warn_once, given
from tenancy.credentials.keyring import generate_key
from tenancy.errors import ConfigurationError
from tenancy.hosts import HostPolicy

LONG = "kY3-9fLq_0aVxW7uT2sR8pNbM6cJ4hGd"


def refused(make_settings, name, value):
    """Give the one line that refuses a value."""
    with pytest.raises(SettingsError) as caught:
        make_settings(**{name: value})
    assert caught.value.field == name
    assert "\n" not in caught.value.message
    assert name in caught.value.message
    return caught.value.message


def test_every_setting_has_a_field_of_its_name():
    fields = [field.name for field in dataclasses.fields(Settings)]
    assert fields == [setting.name.lower() for setting in SETTINGS]


def test_defaults_are_the_documented_ones(make_environ):
    environ = make_environ()
    given_by_hand = ("SECRET_KEY", "TENANT_CREDENTIAL_KEYS", "AUDIT_KEY")
    settings = Settings.load({name: environ[name] for name in given_by_hand}, dotenv=None)
    assert settings.multi_tenant_mode is False
    assert settings.admin_database_url == f"sqlite:///{PROJECT / 'data' / 'admin.db'}"
    assert settings.shared_database_url == settings.admin_database_url
    assert settings.tenant_data_dir == PROJECT / "data" / "users"
    assert (settings.host, settings.port, settings.tenant_engine_cache_size) == ("127.0.0.1", 5000, 256)
    assert (settings.registration, settings.bootstrap_first_admin, settings.cookie_secure) == ("open", False, "auto")
    assert settings.trusted_hosts == ("localhost", "127.0.0.1", "[::1]")
    assert (settings.server_connection_budget, settings.allow_user_databases) == (60, False)
    assert settings.admin_emails == frozenset()
    assert settings.metrics_token is None


@pytest.mark.parametrize("name", ["SECRET_KEY", "TENANT_CREDENTIAL_KEYS", "AUDIT_KEY"])
def test_keys_have_no_default(make_environ, name):
    environ = make_environ()
    del environ[name]
    with pytest.raises(SettingsError, match=f"{name} is not set"):
        Settings.load(environ, dotenv=None)
    with pytest.raises(SettingsError, match=f"{name} is empty"):
        Settings.load(environ | {name: ""}, dotenv=None)


@pytest.mark.parametrize("value", ["yes", "1", "True", "TRUE", " true", "on", "", "truefalse", "false\n"])
def test_a_switch_takes_only_its_two_words(make_settings, value):
    refused(make_settings, "MULTI_TENANT_MODE", value)


@pytest.mark.parametrize("text", ["true", "false"])
def test_a_switch_says_what_it_says(make_settings, text):
    assert make_settings(multi_tenant_mode=text).multi_tenant_mode is (text == "true")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "0"),
        ("PORT", "65536"),
        ("PORT", "-1"),
        ("PORT", "5000.0"),
        ("PORT", "\u0665\u0660\u0660\u0660"),
        ("PORT", "5_000"),
        ("PORT", "9" * 5000),
        ("TENANT_ENGINE_CACHE_SIZE", "0"),
        ("SERVER_CONNECTION_BUDGET", "1"),
        ("SERVER_CONNECTION_BUDGET", "100001"),
        ("SERVER_CONNECTION_BUDGET", ""),
        ("SERVER_CONNECTION_BUDGET", "sixty"),
        ("ALLOW_USER_DATABASES", "True"),
        ("ALLOW_USER_DATABASES", ""),
        ("TENANT_DB_HOSTS_ALLOWED", "10.0.0.0/33"),
        ("TENANT_DB_HOSTS_ALLOWED", "10.0.0.1/8"),
        ("TENANT_DB_HOSTS_ALLOWED", "db.example.org,,10.0.0.0/8"),
        ("TENANT_DB_HOSTS_ALLOWED", "db.example.org:5432"),
        ("TENANT_DB_HOSTS_ALLOWED", "https://db.example.org"),
        ("TENANT_DB_HOSTS_ALLOWED", "*.example.org"),
        ("TENANT_DB_HOSTS_ALLOWED", "0x7f000001"),
        ("TENANT_DB_HOSTS_ALLOWED", "127.1"),
        ("TENANT_DB_HOSTS_ALLOWED", "."),
        ("SESSION_HOURS", "0"),
        ("REMEMBER_DAYS", "forever"),
        ("MAX_BODY_BYTES", "1MB"),
        ("TRUSTED_PROXY_COUNT", "-1"),
        ("WEB_CONCURRENCY", "auto"),
        ("REGISTRATION", "Open"),
        ("COOKIE_SECURE", "yes"),
        ("DEFAULT_TENANT_DB_TYPE", "oracle"),
        ("LOG_LEVEL", "VERBOSE"),
        ("LOG_FORMAT", "xml"),
        ("HOST", "not a host"),
        ("HOST", "http://localhost"),
        ("TRUSTED_HOSTS", ""),
        ("TRUSTED_HOSTS", "*"),
        ("TRUSTED_HOSTS", "localhost:5000"),
        ("TRUSTED_HOSTS", "localhost,,example.org"),
        ("ADMIN_EMAILS", "nobody"),
        ("ADMIN_EMAILS", "ada@example.org,,bob@example.org"),
        ("TENANT_DATA_DIR", ""),
        ("METRICS_TOKEN", "short"),
        ("METRICS_TOKEN", "with a blank in it"),
        ("RATE_LIMIT_STORAGE", "mongodb://localhost"),
    ],
)
def test_a_value_out_of_its_range_is_refused_by_name(make_settings, name, value):
    assert len(refused(make_settings, name, value)) < 300


def test_hosts_are_allowed_by_address_by_network_and_by_name(make_settings):
    policy = make_settings(tenant_db_hosts_allowed="10.2.0.0/16, 192.0.2.7,.db.Example.org,db.example.net")
    found = policy.tenant_db_hosts_allowed
    assert [str(network) for network in found.networks] == ["10.2.0.0/16", "192.0.2.7/32"]
    assert found.names == (".db.example.org", "db.example.net")
    assert make_settings().tenant_db_hosts_allowed == HostPolicy()


def test_a_data_folder_that_is_a_file_is_refused(make_settings, tmp_path):
    (tmp_path / "file").touch()
    refused(make_settings, "TENANT_DATA_DIR", tmp_path / "file")


@pytest.mark.parametrize("name", ["SECRET_KEY", "AUDIT_KEY", "SECRET_KEY_FALLBACKS"])
@pytest.mark.parametrize(
    "value",
    [
        "tiger",
        LONG[:31],
        "a" * 64,
        "change-me-in-production-0123456789abcdef",
        "please-changeme-please-changeme-please",
        "django-insecure-0123456789abcdefghijklmnop",
        "192b9bdd22ab9ed4d12e236c78afcb9a393ec15f71bbf5dc987d54727823bcbf",
    ],
)
def test_a_secret_that_others_can_guess_is_refused_and_not_shown(make_settings, name, value):
    assert value not in refused(make_settings, name, value)


FERNET = generate_key()


@pytest.mark.parametrize(
    "value",
    ["secret", FERNET[:-2], FERNET + "A", f"{FERNET},", f"{FERNET},{FERNET}", f"{FERNET},{FERNET[:20]}", "é" * 44],
    ids=["a word", "cut", "longer", "a missing one", "the same twice", "the second cut", "not ASCII"],
)
def test_missing_short_and_repeated_credential_keys_are_refused_without_showing_them(make_settings, value):
    message = refused(make_settings, "TENANT_CREDENTIAL_KEYS", value)
    assert not any(item and item in message for item in value.split(","))


def test_credential_keys_keep_their_order_and_may_have_blanks_between(make_settings):
    newer, older = generate_key(), generate_key()
    assert make_settings(tenant_credential_keys=f"{newer}, {older}").tenant_credential_keys == (newer, older)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("SECRET_KEY", "AUDIT_KEY"),
        ("SECRET_KEY", "SECRET_KEY_FALLBACKS"),
        ("SECRET_KEY_FALLBACKS", "AUDIT_KEY"),
        ("TENANT_CREDENTIAL_KEYS", "AUDIT_KEY"),
    ],
)
def test_one_key_is_not_taken_for_two_purposes(make_settings, one, other):
    with pytest.raises(SettingsError, match=f"{other} must not be the same as {one}") as caught:
        make_settings(**{one: FERNET, other: FERNET})
    assert FERNET not in caught.value.message


@pytest.mark.parametrize("name", ["ADMIN_DATABASE_URL", "SHARED_DATABASE_URL"])
@pytest.mark.parametrize(
    "value",
    [
        "data/admin.db",
        "oracle://scott:tiger@localhost/db",
        "sqlite://",
        "sqlite:///",
        "sqlite:///:memory:",
        "sqlite:///file:admin.db?mode=memory&uri=true",
        "sqlite:///data/admin.db?plugin=evil",
        "sqlite://data/admin.db",
        "postgresql://postgres:tiger@localhost:port/db",
        "://",
    ],
)
def test_a_url_that_names_no_database_is_refused_without_its_password(make_settings, name, value):
    assert "tiger" not in refused(make_settings, name, value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://unify:tiger@db.example.org/unify",
        "mysql+pymysql://unify:tiger@db.example.org/unify?charset=utf8mb4",
        "mariadb://unify@localhost/unify",
        "mssql+pyodbc://sa:tiger@localhost:1433/unify",
    ],
)
def test_urls_of_all_four_products_are_understood(make_settings, url):
    settings = make_settings(admin_database_url=url)
    assert settings.admin_database_url == url
    assert "tiger" not in repr(settings)


def test_relative_paths_are_taken_from_the_project_wherever_the_command_was_typed(make_settings, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = make_settings(admin_database_url="sqlite:///x/admin.db", tenant_data_dir="x/../users")
    assert settings.admin_database_url == f"sqlite:///{PROJECT / 'x' / 'admin.db'}"
    assert settings.tenant_data_dir == PROJECT / "users"


def test_absolute_paths_stay(make_settings, tmp_path):
    url = f"sqlite:///{tmp_path / 'a folder' / 'admin.db'}"
    assert make_settings(admin_database_url=url).admin_database_url == url


def test_the_shared_database_can_be_one_of_its_own(make_settings, tmp_path):
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    assert make_settings(shared_database_url=url).shared_database_url == url


def test_lists_are_read_item_by_item(make_settings):
    settings = make_settings(
        admin_emails="Ada@Example.org, bob@example.org", trusted_hosts=".example.org, [::1],10.0.0.1", host="::1"
    )
    assert settings.admin_emails == {"ada@example.org", "bob@example.org"}
    assert settings.trusted_hosts == (".example.org", "[::1]", "10.0.0.1")
    assert settings.host == "::1"


def test_no_secret_is_in_the_repr(make_environ):
    environ = make_environ(
        secret_key_fallbacks=LONG, metrics_token="a-metrics-token", rate_limit_storage="redis://:tiger@cache"
    )
    shown = repr(Settings.load(environ, dotenv=None))
    secrets = [environ[setting.name] for setting in SETTINGS if setting.secret and environ[setting.name]]
    assert len(secrets) == 9
    assert [secret for secret in secrets if secret in shown] == []


def test_settings_cannot_be_changed(settings):
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.port = 80


def test_a_settings_error_is_a_configuration_error():
    assert issubclass(SettingsError, ConfigurationError)


@pytest.fixture(autouse=True)
def warnings_begin_anew():
    """Let each test see a warning that an earlier one has seen: a process says it once."""
    _warn_once.cache_clear()


@pytest.fixture
def dotenv(tmp_path, make_environ):
    """Write a .env that is complete, with further lines below; give its path."""

    def write(lines, encoding="utf-8"):
        path = tmp_path / ".env"
        keys = ("SECRET_KEY", "TENANT_CREDENTIAL_KEYS", "AUDIT_KEY")
        environ = make_environ()
        text = "".join(f"{name}={environ[name]}\n" for name in keys) + lines
        path.write_bytes(text.encode(encoding))
        return path

    return write


def test_the_environment_wins_over_the_file(dotenv):
    path = dotenv("PORT=8001\nHOST=0.0.0.0\n")
    settings = Settings.load({"PORT": "8002"}, dotenv=path)
    assert (settings.port, settings.host) == (8002, "0.0.0.0")


def test_an_empty_variable_wins_over_the_file_too(dotenv):
    with pytest.raises(SettingsError, match="PORT is empty"):
        Settings.load({"PORT": ""}, dotenv=dotenv("PORT=8001\n"))


def test_the_environment_is_the_process_s_own_unless_one_is_given(dotenv, monkeypatch):
    monkeypatch.setenv("PORT", "8003")
    assert Settings.load(dotenv=dotenv("PORT=8001\n")).port == 8003


def test_a_file_from_windows_is_read(dotenv):
    path = dotenv("PORT=8001\r\n# a comment\r\n\r\nHOST='127.0.0.2' # another\r\n", encoding="utf-8-sig")
    settings = Settings.load({}, dotenv=path)
    assert (settings.port, settings.host) == (8001, "127.0.0.2")


def test_nothing_in_the_file_is_replaced_by_something_else(dotenv):
    path = dotenv("METRICS_TOKEN=${HOME}-$PATH-token\n")
    assert Settings.load(dict(os.environ), dotenv=path).metrics_token == "${HOME}-$PATH-token"


@pytest.mark.parametrize("line", ["MULTI_TENANT_MODE true", "PORT", "=8000", "AUDIT_KEY='tiger"])
def test_a_line_that_is_no_setting_is_named_by_its_number_and_not_shown(dotenv, line):
    with pytest.raises(SettingsError, match=r"\.env, line 6: ") as caught:
        Settings.load({}, dotenv=dotenv(f"# comment\n\n{line}\n"))
    assert "tiger" not in caught.value.message


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_a_file_in_another_encoding_is_refused(dotenv, encoding):
    with pytest.raises(SettingsError, match=r"\.env"):
        Settings.load({}, dotenv=dotenv("ADMIN_EMAILS=zoë@example.org\n", encoding=encoding))


def test_a_folder_in_place_of_the_file_is_refused(tmp_path):
    with pytest.raises(SettingsError, match="cannot be read"):
        Settings.load({}, dotenv=tmp_path)


def test_a_missing_file_is_no_file(make_environ, tmp_path):
    assert Settings.load(make_environ(), dotenv=tmp_path / "none").port == 5000


def test_an_unknown_name_in_the_file_is_a_warning_that_says_what_may_be_meant(dotenv, caplog):
    with caplog.at_level(logging.WARNING, logger="unify.settings"):
        Settings.load({}, dotenv=dotenv("MULTI_TENNANT_MODE=true\nFLASK_DEBUG=1\nTEST_MYSQL_URL=\n"))
        Settings.load({}, dotenv=dotenv("MULTI_TENNANT_MODE=true\n"))
    assert [record.getMessage() for record in caplog.records] == [
        ".env: MULTI_TENNANT_MODE is not a setting of Unify and has no effect (is MULTI_TENANT_MODE meant?)"
    ]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("TENANT_DATADIR", "TENANT_DATA_DIR"),
        ("TRUSTED_HOST", "TRUSTED_HOSTS"),
        ("DATABASE_URL", "ADMIN_DATABASE_URL"),
        ("UNIFY_SECRET_KEY", "SECRET_KEY"),
        ("secret_keys", "SECRET_KEY"),
    ],
)
def test_a_variable_that_looks_like_a_setting_is_a_warning_too(make_environ, caplog, name, meant):
    with caplog.at_level(logging.WARNING, logger="unify.settings"):
        Settings.load(make_environ() | {name: "x"}, dotenv=None)
    assert [record.getMessage() for record in caplog.records] == [
        f"environment: {name} is not a setting of Unify and has no effect (is {meant} meant?)"
    ]


def test_variables_of_others_are_no_warning(make_environ, caplog):
    theirs = (
        "PATH HOME HOSTNAME HOSTTYPE LOGNAME PWD SHELL TERM LANG PORTAGE TMPDIR MAIL DISPLAY POST EDITOR USER SHLVL"
    )
    with caplog.at_level(logging.WARNING, logger="unify.settings"):
        Settings.load(make_environ() | dict.fromkeys(theirs.split(), "x"), dotenv=None)
    assert caplog.records == []


def test_given_joins_the_file_and_the_environment(dotenv):
    texts = given({"PORT": "1"}, dotenv("PORT=2\nHOST=here\n"))
    assert (texts["PORT"], texts["HOST"]) == ("1", "here")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BACKUP_URL", "ftp://host/x"),
        ("BACKUP_URL", "s3://"),
        ("BACKUP_DELETE_URL", "http://host"),
        ("BACKUP_RECIPIENTS", "age1short"),
        ("BACKUP_RECIPIENTS", "AGE-SECRET-KEY-1HIDDENHIDDENHIDDEN"),
        ("BACKUP_PASSPHRASE", "hidden"),
        ("BACKUP_SIGNING_KEYS", "hidden"),
        ("BACKUP_WARN_HOURS", "0"),
    ],
)
def test_a_wrong_setting_of_backups_is_refused_by_its_name(make_settings, name, value):
    message = refused(make_settings, name, value)
    assert message.startswith(name)
    assert "hidden" not in message.lower()


def test_a_folder_of_backups_is_taken_from_the_projects_folder(make_settings):
    assert make_settings(backup_url="data/backups").backup_url == str(PROJECT / "data" / "backups")
    assert make_settings(backup_url="s3://bucket/x").backup_url == "s3://bucket/x"
    assert make_settings(backup_identity_file="").backup_identity_file is None
