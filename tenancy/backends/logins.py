"""Describe how a database server is entered: structured fields and a short list of options, never a URL.

Nothing that stands in a name or password can change where or how a connection goes: drivers get each field by
itself, and what a driver would read as more than one is refused here.
"""

from __future__ import annotations

import json
import os
import ssl
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from tenancy import hosts
from tenancy.errors import ConfigurationError

TLS_MODES = ("prefer", "off", "require", "verify")
USER_MAX = 128
PASSWORD_MAX = 1024
CA_MAX = 65_536


@dataclass(frozen=True)
class Options:
    """Hold the allow-listed options of a connection.

    ``tls``: ``prefer`` (encrypt where the server offers it, but for one on this machine), ``off``, ``require``
    (encrypt, whoever answers) or ``verify`` (and check certificate and name, against ``tls_ca``, a PEM text, or the
    system's authorities).
    """

    tls: str = "prefer"
    tls_ca: str | None = None
    connect_timeout_s: int = 3
    answer_timeout_s: int = 4

    @classmethod
    def of(cls, given: Mapping[str, Any] | None) -> Options:
        """Read options by name, or refuse the one at fault; texts stand for numbers too."""
        values = dict(given or {})
        unknown = values.keys() - {each.name for each in fields(cls)}
        if unknown:
            raise _refused(f"{sorted(unknown)[0]!r} is no option: {', '.join(each.name for each in fields(cls))}.")
        for name, most in (("connect_timeout_s", 30), ("answer_timeout_s", 300)):
            if name in values:
                values[name] = _seconds(name, values[name], most)
        options = cls(**values)
        if options.tls not in TLS_MODES:
            raise _refused(f"tls must be one of {', '.join(TLS_MODES)}.")
        _check_ca(options.tls_ca)
        return options

    @classmethod
    def read(cls, text: str | None) -> Options:
        """Read what ``written`` gave."""
        try:
            found = json.loads(text or "{}")
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise _refused("the stored options cannot be read.")
        return cls.of(found)

    def written(self) -> str | None:
        """Give what differs from the defaults, as the catalog keeps it; None where nothing does."""
        plain = Options()
        changed = {
            each.name: getattr(self, each.name)
            for each in fields(self)
            if getattr(self, each.name) != getattr(plain, each.name)
        }
        return json.dumps(changed, sort_keys=True) if changed else None


@dataclass(frozen=True)
class Login:
    """Say where a server is and as whom to enter it.

    With ``policy`` every connection resolves the host anew and goes to the address that passed the policy.
    """

    host: str
    port: int
    user: str
    password: str = field(repr=False)
    database: str | None = None
    options: Options = Options()
    policy: hosts.HostPolicy | None = field(default=None, repr=False)

    def into(self, database: str | None) -> Login:
        return replace(self, database=database)

    def patient(self, answer_timeout_s: int = 600) -> Login:
        """Give the login for work that may take long: schema changes, copies."""
        return replace(self, options=replace(self.options, answer_timeout_s=answer_timeout_s))

    def address(self) -> str:
        """Give what to connect to: the host as it is, or the address that the policy let through."""
        return self.policy.address(self.host, self.port) if self.policy else self.host

    @property
    def tls(self) -> str:
        """Give the TLS mode: what goes to this very machine is not encrypted unless that is asked for."""
        mode = self.options.tls
        return "off" if mode == "prefer" and hosts.is_loopback(self.host) else mode

    def __repr__(self) -> str:
        return f"Login({self.host!r}, {self.port}, ...)"


@dataclass(frozen=True)
class Access:
    """Hold what opens a tenant's database: the login that serves it, and the one that may change its schema.

    Where the server is not ours both are the same; a file needs neither.
    """

    login: Login | None = None
    admin: Login | None = None


NO_ACCESS = Access()


def user(text: str, name: str = "db_user") -> str:
    """Give the name of a login, taken literally by every driver, or refuse."""
    if not text or len(text) > USER_MAX or not text.isprintable():
        raise ConfigurationError(f"{name} must be 1 to {USER_MAX} printable characters.", field=name)
    return text


def password(text: str, name: str = "db_password") -> str:
    if len(text) > PASSWORD_MAX or any(ord(character) < 32 for character in text):
        raise ConfigurationError(
            f"{name} may have at most {PASSWORD_MAX} characters and no control characters.", field=name
        )
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ConfigurationError(f"{name} contains half of a character (a lone surrogate).", field=name) from None
    return text


def from_url(url: str, setting: str, *, default_port: int) -> Login:
    """Read an operator's URL into structured fields; options other than ours are refused, not passed on.

    ``tls_ca`` is a file's path there, read now. ``charset=utf8mb4`` is taken and means nothing: it is always so.
    """
    try:
        parsed: sa.URL = make_url(url)
    except (ArgumentError, ValueError):
        raise ConfigurationError(f"{setting} is not a database URL.", field=setting) from None
    given = {name: value for name, value in parsed.query.items() if (name, value) != ("charset", "utf8mb4")}
    if any(not isinstance(value, str) for value in given.values()):
        raise ConfigurationError(f"{setting}: an option is given twice.", field=setting)
    if "tls_ca" in given:
        given["tls_ca"] = _file_text(str(given["tls_ca"]), setting)
    try:
        return Login(
            host=hosts.host(parsed.host or "localhost", setting),
            port=hosts.port(parsed.port or default_port, setting),
            user=user(parsed.username or "", setting),
            password=password(str(parsed.password or ""), setting),
            database=parsed.database or None,
            options=Options.of(given),
        )
    except ConfigurationError as error:
        message = error.message.removeprefix(f"{setting} ").removeprefix("db_options: ")
        raise ConfigurationError(f"{setting}: {message}", field=setting) from None


@cache
def tls_context(tls: str, ca: str | None) -> ssl.SSLContext:
    """Make the context of a server's connections once: making one takes longer than connecting does."""
    context = ssl.create_default_context(cadata=ca)
    if tls != "verify":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


@cache
def ca_file(ca: str) -> str:
    """Give a private file that holds an authority's certificate, for drivers that take only files."""
    handle, path = tempfile.mkstemp(prefix="unify-ca-", suffix=".pem")
    with os.fdopen(handle, "w", encoding="ascii") as stream:
        stream.write(ca)
    return path


def _file_text(path: str, setting: str) -> str:
    try:
        with open(path, encoding="ascii") as stream:
            return stream.read(CA_MAX + 1)
    except (OSError, UnicodeDecodeError):
        raise ConfigurationError(f"{setting}: tls_ca names no file that can be read.", field=setting) from None


def _check_ca(text: object) -> None:
    if text is None:
        return
    if not isinstance(text, str) or len(text) > CA_MAX:
        raise _refused("tls_ca must be a PEM text.")
    try:
        ssl.create_default_context(cadata=text)
    except (ssl.SSLError, ValueError):
        raise _refused("tls_ca must be a PEM text.") from None


def _seconds(name: str, value: object, most: int) -> int:
    try:
        number = int(str(value))
    except ValueError:
        number = 0
    if isinstance(value, bool) or not 1 <= number <= most:
        raise _refused(f"{name} must be a whole number from 1 to {most}.")
    return number


def _refused(text: str) -> ConfigurationError:
    return ConfigurationError(f"db_options: {text}", field="db_options")
