"""Read the application's settings from the environment and ``.env`` into one frozen object.

No other module reads the environment. Tests check ``.env.example`` and ``docs/reference/settings.md`` against
``SETTINGS``. All values are parsed at the start; a wrong one ends it with one line that names the setting. Values must
be spelled as documented. An empty value is allowed only where the default is empty.
"""

from __future__ import annotations

import difflib
import ipaddress
import logging
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

from dotenv.parser import parse_stream
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from tenancy import names
from tenancy.archive.storage import check_url
from tenancy.credentials.keyring import check_keys
from tenancy.credentials.signing import check_signing_keys
from tenancy.errors import ConfigurationError
from tenancy.hosts import HostPolicy

PROJECT = Path(__file__).resolve().parent
DOTENV = PROJECT / ".env"

_log = logging.getLogger("unify.settings")


class SettingsError(ConfigurationError):
    """Refuse a setting; ``field`` names it. The message is one line and never shows a secret."""

    code = "setting_invalid"


@dataclass(frozen=True)
class Setting:
    """Describe one setting; ``default`` is text as one would type it, or None if the setting is required.

    ``parse`` returns the value, or raises ValueError whose text continues a sentence that begins with the name.
    """

    name: str
    default: str | None
    parse: Callable[[str], Any]
    meaning: str
    secret: bool = False


def _setting(default: str | None, parse: Callable[[str], Any], meaning: str, *, secret: bool = False) -> Any:
    """Describe a field of ``Settings``; a secret is left out of its repr."""
    return field(repr=not secret, metadata={"default": default, "parse": parse, "meaning": meaning, "secret": secret})


def _word(*words: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in words:
            raise ValueError(f"must be {', '.join(words[:-1])} or {words[-1]}, not {_shown(text)}")
        return text

    return parse


def _switch(text: str) -> bool:
    return _word("true", "false")(text) == "true"


def _number(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,12}", text) or not least <= int(text) <= most:
            raise ValueError(f"must be a whole number from {least} to {most}, not {_shown(text)}")
        return int(text)

    return parse


def _items(text: str) -> tuple[str, ...]:
    """Split a comma-separated list; an empty text is an empty list, an empty item is an error."""
    if not text.strip():
        return ()
    items = tuple(item.strip() for item in text.split(","))
    if not all(items):
        raise ValueError(f"has nothing between two commas (item {items.index('') + 1} of {len(items)})")
    return items


MIN_SECRET_LENGTH = 32
_PUBLISHED_SECRETS = re.compile(
    # Placeholders of examples and generators; the last one is from Flask's manual.
    r"change.?(me|this)|replace.?(me|this)|your.?secret|django.insecure"
    r"|192b9bdd22ab9ed4d12e236c78afcb9a393ec15f71bbf5dc987d54727823bcbf",
    re.IGNORECASE,
)


def _secret(text: str) -> str:
    if len(text) < MIN_SECRET_LENGTH:
        raise ValueError(f"is too short: at least {MIN_SECRET_LENGTH} random characters")
    if _PUBLISHED_SECRETS.search(text) or len(set(text)) < 4:
        raise ValueError("is a value that others can guess: make a random one, for example with `openssl rand -hex 32`")
    return text


def _secrets(text: str) -> tuple[str, ...]:
    secrets = tuple(_secret(item) for item in _items(text))
    if len(set(secrets)) < len(secrets):
        raise ValueError("has the same secret twice")
    return secrets


def _credential_keys(text: str) -> tuple[str, ...]:
    keys = _items(text)
    check_keys(keys)
    return keys


def _signing_keys(text: str) -> tuple[str, ...]:
    keys = _items(text)
    check_signing_keys(keys)
    return keys


MOST_RECIPIENTS = 20
_RECIPIENT = re.compile(r"age1[02-9ac-hj-np-z]{58}")


def _recipients(text: str) -> tuple[str, ...]:
    keys = _items(text)
    for key in keys:
        if "SECRET" in key.upper():
            raise ValueError("has a secret key, which is not for this place: only public keys, `age1...`")
        if not _RECIPIENT.fullmatch(key):
            raise ValueError(f"must be public keys of the age format, `age1...`, not {_shown(key)}")
    if len(set(keys)) < len(keys) or len(keys) > MOST_RECIPIENTS:
        raise ValueError(f"must be up to {MOST_RECIPIENTS} different keys")
    return keys


def _passphrase(text: str) -> str | None:
    if text and (len(text) < 16 or not text.isprintable()):
        raise ValueError("is too short or not printable: at least 16 characters that nobody guesses")
    return text or None


def _storage(name: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        text = text.strip()
        if not text:
            return ""
        if "\x00" in text:
            raise ValueError("must name a folder, or begin with s3://, gs:// or az://")
        url = text if "://" in text else str(_absolute(text))
        check_url(url, name)
        return url

    return parse


def _optional_file(text: str) -> Path | None:
    if "\x00" in text:
        raise ValueError("must name a file")
    return _absolute(text) if text.strip() else None


def _metrics_token(text: str) -> str | None:
    if text and not re.fullmatch(r"[!-~]{8,200}", text):
        raise ValueError("must be 8 to 200 printable characters without blanks")
    return text or None


def _database_url(text: str) -> str:
    """Check a database URL and make the path of a file absolute; the backends check later what they support."""
    try:
        url = make_url(text)
        family = url.get_backend_name()
    except (ArgumentError, ValueError):
        raise ValueError("is not a database URL such as sqlite:///data/admin.db") from None
    if family not in ("sqlite", "postgresql", "mysql", "mariadb", "mssql"):
        raise ValueError("must begin with sqlite, postgresql, mysql, mariadb or mssql")
    if family != "sqlite":
        return text
    path = url.database or ""
    if url.host or url.query or not path or path.startswith((":", "file:")) or "\x00" in path:
        raise ValueError("must name a file, such as sqlite:///data/admin.db, and nothing else")
    return url.set(database=str(_absolute(path))).render_as_string(hide_password=False)


def _optional_database_url(text: str) -> str:
    return _database_url(text) if text else ""


def _folder(text: str) -> Path:
    if not text.strip() or "\x00" in text:
        raise ValueError("must name a folder")
    path = _absolute(text)
    if path.exists() and not path.is_dir():
        raise ValueError(f"must name a folder, and {_shown(text)} is none")
    return path


def _absolute(path: str) -> Path:
    """Resolve a relative path against the project's folder, not the working directory."""
    return Path(os.path.abspath(PROJECT / path))


def _emails(text: str) -> frozenset[str]:
    return frozenset(names.fold(names.email(item)) for item in _items(text))


_HOST_NAME = re.compile(
    r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?)*"
)


def _host(text: str) -> str:
    """Check a name or an address to listen on; IPv6 addresses are written without brackets here."""
    if not _HOST_NAME.fullmatch(text) and not _is_ipv6(text):
        raise ValueError(f"must be an address or a host name, not {_shown(text)}")
    return text


def _trusted_hosts(text: str) -> tuple[str, ...]:
    hosts = _items(text)
    if not hosts:
        raise ValueError("must name at least one host")
    for host in hosts:
        bracketed = host.startswith("[") and host.endswith("]") and _is_ipv6(host[1:-1])
        if not bracketed and not _HOST_NAME.fullmatch(host.removeprefix(".")):
            raise ValueError(
                f"must be host names or addresses without port (.example.org for all below it), not {_shown(host)}"
            )
    return hosts


def _is_ipv6(text: str) -> bool:
    try:
        return bool(ipaddress.IPv6Address(text))
    except ValueError:
        return False


def _hosts_allowed(text: str) -> HostPolicy:
    return HostPolicy.of(_items(text))


def _rate_limit_storage(text: str) -> str:
    if not re.fullmatch(r"memory://|rediss?(\+(unix|sentinel|cluster))?://\S+", text):
        raise ValueError("must be memory:// or a redis:// address")
    return text


def _shown(text: str) -> str:
    return repr(text) if len(text) <= 60 else f"{text[:57]!r}..."


TEST_SETTINGS = {
    "TEST_POSTGRES_URL": "postgresql://postgres@127.0.0.1:5432/postgres",
    "TEST_MYSQL_URL": "mysql://root@127.0.0.1:3306/?charset=utf8mb4",
    "TEST_MSSQL_URL": "",
}
"""Servers on which the tests may create and drop databases, with the default of each."""

COMPOSE_SETTINGS = {
    "COMPOSE_PROFILES": "postgresql,mysql",
    "POSTGRES_PASSWORD": None,
    "MYSQL_ROOT_PASSWORD": None,
    "MSSQL_SA_PASSWORD": None,
    "ACCEPT_EULA": "Y",
    "MSSQL_PID": "Developer",
}
"""Variables that ``docker-compose.yml`` and its images read; None for a random value."""

_NOT_OURS = re.compile(r"(FLASK|GUNICORN|PROMETHEUS|PYTHON|REQUIRE|COMPOSE|DOCKER)_")


@dataclass(frozen=True)
class Settings:
    """Hold the settings of one application; each is read from the variable of its name in upper case."""

    multi_tenant_mode: bool = _setting(
        "false", _switch, "`true`: a database for every user. `false`: one shared database, rows scoped by `user_id`."
    )
    secret_key: str = _setting(None, _secret, "Signs cookies; at least 32 random characters.", secret=True)
    secret_key_fallbacks: tuple[str, ...] = _setting(
        "",
        _secrets,
        "Earlier values of `SECRET_KEY`, comma-separated: cookies signed with them stay valid.",
        secret=True,
    )
    tenant_credential_keys: tuple[str, ...] = _setting(
        None,
        _credential_keys,
        "Fernet keys that seal the passwords of users' databases, newest first, comma-separated.",
        secret=True,
    )
    audit_key: str = _setting(
        None, _secret, "Seals the audit log; at least 32 random characters, independent of the other keys.", secret=True
    )
    admin_database_url: str = _setting(
        "sqlite:///data/admin.db",
        _database_url,
        "The catalog: accounts, sessions, and where each user's database is.",
        secret=True,
    )
    shared_database_url: str = _setting(
        "",
        _optional_database_url,
        "Where all rows live when `MULTI_TENANT_MODE=false`; empty: in the catalog's database.",
        secret=True,
    )
    tenant_data_dir: Path = _setting("data/users", _folder, "The folder of the SQLite tenants, `user_{id}.db`.")  # noqa: RUF009 - it gives a field
    default_tenant_db_type: str = _setting(
        "sqlite",
        _word("sqlite", "postgresql", "mysql", "sqlserver"),
        "What a new user gets: `sqlite`, `postgresql`, `mysql` or `sqlserver`.",
    )
    tenant_engine_cache_size: int = _setting("256", _number(1, 100_000), "Engines that a process keeps.")
    server_connection_budget: int = _setting(
        "60",
        _number(2, 100_000),
        "Connections that all workers together may hold to users' databases on one database server.",
    )
    pending_tenants: int = _setting(
        "0",
        _number(0, 1000),
        "Databases that are kept ready for new users on each database server that takes databases.",
    )
    migrate_on_first_touch: bool = _setting(
        "false",
        _switch,
        "`true`: a user's database that is behind is migrated when it is first asked for, one at a time per process.",
    )
    allow_user_databases: bool = _setting(
        "false", _switch, "`true`: users may keep their rows in a database of their own that they name."
    )
    tenant_db_hosts_allowed: HostPolicy = _setting(  # noqa: RUF009 - it gives a field
        "",
        _hosts_allowed,
        "Hosts that users may name, comma-separated: addresses, networks (`10.2.0.0/16`), names (`.example.org` means"
        " all below it); empty: every public address. This machine, its links and cloud metadata need a network.",
    )
    registration: Literal["open", "closed"] = _setting(
        "open", _word("open", "closed"), "`open`: anybody may register. `closed`: only operators add users."
    )
    admin_emails: frozenset[str] = _setting(
        "",
        _emails,
        "Addresses that become administrators when `unify users create` or an identity provider makes the account,"
        " comma-separated;"
        " web registration with one of them is refused.",
    )
    bootstrap_first_admin: bool = _setting(
        "false",
        _switch,
        "`true`: the first account of an empty catalog, registered from this machine or with the token printed"
        " at the start, becomes administrator.",
    )
    trusted_hosts: tuple[str, ...] = _setting(
        "localhost,127.0.0.1,[::1]",
        _trusted_hosts,
        "Host names and addresses for which the application answers, comma-separated; `.example.org` means all below"
        " it.",
    )
    trusted_proxy_count: int = _setting(
        "0", _number(0, 10), "Reverse proxies in front of the application whose `X-Forwarded-*` headers are trusted."
    )
    cookie_secure: Literal["auto", "true", "false"] = _setting(
        "auto", _word("auto", "true", "false"), "HTTPS-only cookies and HSTS: `auto` decides by the request's scheme."
    )
    session_hours: int = _setting("12", _number(1, 8760), "How long a sign-in lasts.")
    remember_days: int = _setting("30", _number(1, 3650), 'How long it lasts with "Stay signed in on this device".')
    max_body_bytes: int = _setting(
        "1048576",
        _number(1024, 2**30),
        "The largest request body, without what a form's `%` and JSON's `\\u` add to it.",
    )
    metrics_token: str | None = _setting(
        "",
        _metrics_token,
        "Bearer token for `/metrics`, at least 8 characters; empty: only this machine may read it.",
        secret=True,
    )
    backup_url: str = _setting(
        "data/backups",
        _storage("BACKUP_URL"),
        "Where backups lie: a folder, or `s3://`, `gs://` or `az://` with bucket and folder.",
        secret=True,
    )
    backup_delete_url: str = _setting(
        "",
        _storage("BACKUP_DELETE_URL"),
        "The same place with a login that may delete, where that of `BACKUP_URL` may not.",
        secret=True,
    )
    backup_recipients: tuple[str, ...] = _setting(
        "",
        _recipients,
        "Public keys (`age1...`) for which backups are encrypted, comma-separated; without them, or a passphrase, no"
        " backup is made.",
    )
    backup_passphrase: str | None = _setting(
        "",
        _passphrase,
        "Encrypts backups where there are no recipients, and opens them; at least 16 characters.",
        secret=True,
    )
    backup_identity_file: Path | None = _setting(  # noqa: RUF009 - it gives a field
        "", _optional_file, "The file with the secret keys that open backups; a server that only makes them needs none."
    )
    backup_signing_keys: tuple[str, ...] = _setting(
        "",
        _signing_keys,
        "Ed25519 keys, comma-separated: the first one signs the records of backups, each of them is believed.",
        secret=True,
    )
    backup_warn_hours: int = _setting(
        "48", _number(1, 8760), "After how many hours without a good backup of a database the console warns."
    )
    host: str = _setting("127.0.0.1", _host, "Address to listen on.")
    port: int = _setting("5000", _number(1, 65535), "Port to listen on.")
    web_concurrency: int = _setting("2", _number(1, 256), "Worker processes of `unify serve` and gunicorn.")
    job_worker: bool = _setting(
        "true", _switch, "`true`: `unify serve` keeps one process beside its workers that runs jobs (`unify worker`)."
    )
    job_threads: int = _setting("2", _number(1, 64), "Jobs that such a process runs at a time.")
    rate_limit_storage: str = _setting(
        "memory://",
        _rate_limit_storage,
        "Where requests are counted for rate limits: `memory://` in each process, `redis://...` for all together."
        " Failed sign-ins are counted in the catalog, whatever this says.",
        secret=True,
    )
    log_level: str = _setting(
        "INFO", _word("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"), "The least important line that is logged."
    )
    log_format: Literal["text", "json"] = _setting(
        "text", _word("text", "json"), "`text` for people, `json` for programs."
    )

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None, dotenv: Path | None = DOTENV) -> Settings:
        """Read every setting; the environment overrides the file. Raise SettingsError at the first wrong one."""
        from_file, environment = _from_file(dotenv), _environment(environ)
        if dotenv is not None:
            _warn_of_unknown(dotenv.name, from_file, least=0.6, close_alone=False)
        _warn_of_unknown("environment", environment, least=0.8, close_alone=True)
        texts = from_file | environment
        values = {setting.name.lower(): _value(setting, texts.get(setting.name)) for setting in SETTINGS}
        values["shared_database_url"] = values["shared_database_url"] or values["admin_database_url"]
        settings = cls(**values)
        _check_keys_are_independent(settings)
        return settings


SETTINGS: tuple[Setting, ...] = tuple(Setting(each.name.upper(), **each.metadata) for each in fields(Settings))
"""All settings, in the order in which they are documented."""


def given(environ: Mapping[str, str] | None = None, dotenv: Path | None = DOTENV) -> dict[str, str]:
    """Return the raw texts of environment and file, by name."""
    return _from_file(dotenv) | _environment(environ)


def _environment(environ: Mapping[str, str] | None) -> dict[str, str]:
    return dict(os.environ if environ is None else environ)


def _from_file(path: Path | None) -> dict[str, str]:
    return _read_dotenv(path) if path is not None and path.exists() else {}


def _read_dotenv(path: Path) -> dict[str, str]:
    try:
        with path.open(encoding="utf-8-sig") as stream:
            bindings = list(parse_stream(stream))
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"{path.name} cannot be read as UTF-8 text ({type(error).__name__}).", field=path.name
        ) from None
    texts: dict[str, str] = {}
    for binding in bindings:
        # The line itself is not shown: it may hold a secret.
        if binding.error or (binding.key is not None and binding.value is None):
            blank = len(binding.original.string) - len(binding.original.string.lstrip())
            line = binding.original.line + binding.original.string[:blank].count("\n")
            raise SettingsError(f"{path.name}, line {line}: this is not of the form NAME=value.", field=path.name)
        if binding.key is not None and binding.value is not None:
            texts[binding.key] = binding.value
    return texts


def _warn_of_unknown(where: str, texts: Mapping[str, str], *, least: float, close_alone: bool) -> None:
    """Log a warning for unknown names, with the closest setting.

    With ``close_alone`` (the environment, which other programs use too) only names close to a setting are reported.
    """
    ours = [setting.name for setting in SETTINGS]
    known = {*ours, *TEST_SETTINGS, *COMPOSE_SETTINGS}
    for name in texts:
        if name in known or _NOT_OURS.match(name):
            continue
        close = difflib.get_close_matches(name.upper().removeprefix("UNIFY_"), ours, n=1, cutoff=least)
        if close or not close_alone:
            hint = f" (is {close[0]} meant?)" if close else ""
            _warn_once(f"{where}: {name} is not a setting of Unify and has no effect{hint}")


@cache
def _warn_once(text: str) -> None:
    """Log a warning once per process, although a server reads its settings more than once."""
    _log.warning("%s", text)


def _value(setting: Setting, text: str | None) -> Any:
    if text is None:
        text = setting.default
    if text is None:
        raise SettingsError(
            f"{setting.name} is not set, and has no default: `make run` makes a .env.", field=setting.name
        )
    if not text and setting.default != "":
        other = f", or take its line out: {setting.default} is used then" if setting.default else ""
        raise SettingsError(f"{setting.name} is empty: give it a value{other}.", field=setting.name)
    try:
        return setting.parse(text)
    except ConfigurationError as error:
        named = error.message.startswith(setting.name)
        message = error.message if named else f"{setting.name}: {error.message}"
        raise SettingsError(message, field=setting.name) from None
    except ValueError as error:
        raise SettingsError(f"{setting.name} {error}.", field=setting.name) from None


def _check_keys_are_independent(settings: Settings) -> None:
    """Refuse the same value for two keys: leaking or replacing one must not affect the others."""
    purposes = [
        ("SECRET_KEY", (settings.secret_key,)),
        ("SECRET_KEY_FALLBACKS", settings.secret_key_fallbacks),
        ("TENANT_CREDENTIAL_KEYS", settings.tenant_credential_keys),
        ("AUDIT_KEY", (settings.audit_key,)),
        ("BACKUP_PASSPHRASE", (settings.backup_passphrase,) if settings.backup_passphrase else ()),
        ("BACKUP_SIGNING_KEYS", settings.backup_signing_keys),
    ]
    for (one, its_values), (other, other_values) in combinations(purposes, 2):
        if not set(its_values).isdisjoint(other_values):
            raise SettingsError(f"{other} must not be the same as {one}.", field=other)
