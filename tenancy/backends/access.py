"""Describe how to log in to a database server: separate fields and a short list of options, never a URL.

A driver gets each field by itself, and values that a driver would split into several options are refused here. So
nothing in a name or a password can change where a connection goes, or how.
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
from tenancy.deadline import Patience
from tenancy.errors import ConfigurationError, UnsupportedBackendError

TLS_MODES = ("prefer", "off", "require", "verify")
USER_MAX = 128
PASSWORD_MAX = 1024
CA_MAX = 65_536


@dataclass(frozen=True)
class Options:
    """Hold the options of a connection; there are no others.

    ``tls`` is ``prefer`` (encrypt if the server offers it, except to this machine), ``off``, ``require`` (encrypt, and
    trust any certificate) or ``verify`` (also check certificate and host name, against the authorities in ``tls_ca``, a
    PEM text, or else the system's).
    """

    tls: str = "prefer"
    tls_ca: str | None = None
    connect_timeout_s: int = 3
    answer_timeout_s: int = 4

    @classmethod
    def of(cls, given: Mapping[str, Any] | None) -> Options:
        """Read options by name, or refuse the option at fault; a number may be given as text."""
        values = dict(given or {})
        unknown = values.keys() - {each.name for each in fields(cls)}
        if unknown:
            raise _refused(f"{sorted(unknown)[0]!r} is not an option: {', '.join(each.name for each in fields(cls))}.")
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
        """Read options that ``written`` wrote."""
        try:
            found = json.loads(text or "{}")
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise _refused("the stored options cannot be read.")
        return cls.of(found)

    def written(self) -> str | None:
        """Write the options that differ from the defaults as JSON, for the catalog; None if none differs."""
        plain = Options()
        changed = {
            each.name: getattr(self, each.name)
            for each in fields(self)
            if getattr(self, each.name) != getattr(plain, each.name)
        }
        return json.dumps(changed, sort_keys=True) if changed else None


@dataclass(frozen=True)
class Login:
    """Say where a server is, and as whom to log in.

    With ``policy`` each connection resolves the host again, and goes to an address that the policy allows. With
    ``each_silence`` the answer timeout limits each wait for more bytes, and not the whole answer.
    """

    host: str
    port: int
    user: str
    password: str = field(repr=False)
    database: str | None = None
    options: Options = Options()
    policy: hosts.HostPolicy | None = field(default=None, repr=False)
    each_silence: bool = False

    def into(self, database: str | None) -> Login:
        return replace(self, database=database)

    def patient(self, answer_timeout_s: int = 600) -> Login:
        """Return the login for long work, such as schema changes: each silence is limited, not the whole answer."""
        return replace(self, options=replace(self.options, answer_timeout_s=answer_timeout_s), each_silence=True)

    @property
    def patience(self) -> Patience:
        """Say how long answers may take on an open connection."""
        return Patience(float(self.options.answer_timeout_s), self.each_silence)

    def addresses(self, limit_s: float) -> list[str]:
        """Return the addresses to try, in order: all that the host resolves to, or the one that the policy allows.

        Drivers get addresses, as a driver that resolves a name waits without a limit for a silent name server.
        """
        machine = hosts.machine_of(self.host)
        if self.policy:
            return [self.policy.address(machine, limit_s=limit_s)]
        return hosts.resolved(machine, limit_s=limit_s)

    @property
    def server(self) -> tuple[str, int] | None:
        """Return the key under which facts about the server may be cached; None for a server that a user named."""
        return None if self.policy else (self.host, self.port)

    @property
    def tls(self) -> str:
        """Return the TLS mode; ``prefer`` means ``off`` for a server on this machine."""
        mode = self.options.tls
        return "off" if mode == "prefer" and hosts.is_loopback(hosts.machine_of(self.host)) else mode

    def __repr__(self) -> str:
        return f"Login({self.host!r}, {self.port}, ...)"


@dataclass(frozen=True)
class Access:
    """Hold what opens a tenant's database: the login that serves it, and the one that may change its schema.

    On a server that a user named both are the same login; a file needs neither. ``installation`` is part of the names
    of templates and other databases that the application makes for itself on a registered server.
    """

    login: Login | None = None
    admin: Login | None = None
    installation: str = ""


NO_ACCESS = Access()


def user(text: str, name: str = "db_user") -> str:
    """Return the name of a login, or refuse one that a driver would not take literally."""
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
    """Read an operator's URL into fields; an option that is none of ours is refused, not passed on to the driver.

    In a URL ``tls_ca`` is the path of a file, which is read now. ``charset=utf8mb4`` is accepted and ignored, as
    connections always use it.
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
            host=hosts.host(parsed.host or "localhost", "the host"),
            port=hosts.port(parsed.port or default_port, "the port"),
            user=user(parsed.username or "", "the user"),
            password=password(str(parsed.password or ""), "the password"),
            database=parsed.database or None,
            options=Options.of(given),
        )
    except ConfigurationError as error:
        message = error.message.removeprefix("db_options: ")
        if "@" in (parsed.host or ""):
            message = "the host cannot be told apart: write an @ in the user or password as %40."
        raise ConfigurationError(f"{setting}: {message}", field=setting) from None


@cache
def tls_context(tls: str, ca: str | None) -> ssl.SSLContext:
    """Return the TLS context for these options; cached, as making one takes longer than connecting."""
    if tls == "verify":
        return ssl.create_default_context(cadata=ca) if ca else ssl.create_default_context(cafile=system_authorities())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def system_authorities() -> str:
    """Return the file of the certificate authorities that this machine trusts, or raise UnsupportedBackendError.

    A driver installed as a wheel brings its own OpenSSL, whose default path is that of the machine that built it.
    """
    named = ssl.get_default_verify_paths()
    known = [named.cafile, *_AUTHORITIES]  # the first respects SSL_CERT_FILE, as OpenSSL does
    found = next((path for path in known if path and os.path.isfile(path)), None)
    if found is not None:
        return found
    loaded = ssl.create_default_context().get_ca_certs(binary_form=True)  # Windows keeps them in a store, not in a file
    if not loaded:
        raise UnsupportedBackendError(
            "tls=verify finds no certificate authorities on this machine: install them, or give tls_ca.",
            field="db_options",
        )
    return ca_file("".join(map(ssl.DER_cert_to_PEM_cert, loaded)))


_AUTHORITIES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Ubuntu, Alpine, Arch
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora, Red Hat
    "/etc/ssl/ca-bundle.pem",  # SUSE
    "/etc/ssl/cert.pem",  # macOS, FreeBSD, OpenBSD
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
)
_ca_files: dict[str, str] = {}


def ca_file(ca: str) -> str:
    """Return a private temporary file that holds these certificates, for drivers that only take files.

    Systems clean their temporary folders while a process runs, so a file that is gone is written again.
    """
    path = _ca_files.get(ca)
    if path is None or not os.path.exists(path):
        handle, path = tempfile.mkstemp(prefix="unify-ca-", suffix=".pem")
        with os.fdopen(handle, "w", encoding="ascii") as stream:
            stream.write(ca)
        _ca_files[ca] = path
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
