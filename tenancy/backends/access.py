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
from tenancy.deadline import Patience
from tenancy.errors import ConfigurationError, UnsupportedBackendError

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

    With ``policy`` every connection resolves the host anew and goes to the address that passed the policy. With
    ``each_silence`` the limit of answers is one for every wait between bytes, not for the whole of an answer.
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
        """Give the login for work that may take long, as long as the server says something: schema changes, copies."""
        return replace(self, options=replace(self.options, answer_timeout_s=answer_timeout_s), each_silence=True)

    @property
    def patience(self) -> Patience:
        """Say how long answers may take on a connection that is open."""
        return Patience(float(self.options.answer_timeout_s), self.each_silence)

    def addresses(self, limit_s: float) -> list[str]:
        """Give what to connect to, in the order to try: all that the name resolves to, or what the policy let through.

        Resolved here, and not by a driver, so that a name service that is silent does not hold anybody.
        """
        machine = hosts.machine_of(self.host)
        if self.policy:
            return [self.policy.address(machine, limit_s=limit_s)]
        return hosts.resolved(machine, limit_s=limit_s)

    @property
    def server(self) -> tuple[str, int] | None:
        """Name the server under which its answers about itself may be kept; None for one that a user named."""
        return None if self.policy else (self.host, self.port)

    @property
    def tls(self) -> str:
        """Give the TLS mode: what goes to this very machine is not encrypted unless that is asked for."""
        mode = self.options.tls
        return "off" if mode == "prefer" and hosts.is_loopback(hosts.machine_of(self.host)) else mode

    def __repr__(self) -> str:
        return f"Login({self.host!r}, {self.port}, ...)"


@dataclass(frozen=True)
class Access:
    """Hold what opens a tenant's database: the login that serves it, and the one that may change its schema.

    Where the server is not ours both are the same; a file needs neither. ``installation`` marks the names of what is
    made beside tenants' databases on a registered server.
    """

    login: Login | None = None
    admin: Login | None = None
    installation: str = ""


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
    if tls == "verify":
        return ssl.create_default_context(cadata=ca) if ca else ssl.create_default_context(cafile=system_authorities())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def system_authorities() -> str:
    """Give the file of the certificate authorities that this machine trusts, or UnsupportedBackendError.

    Drivers that come as wheels bring an OpenSSL of their own, which looks where the machine that built it kept them.
    """
    named = ssl.get_default_verify_paths()
    known = [named.cafile, *_AUTHORITIES]  # the first heeds SSL_CERT_FILE, as OpenSSL does everywhere
    found = next((path for path in known if path and os.path.isfile(path)), None)
    if found is not None:
        return found
    loaded = ssl.create_default_context().get_ca_certs(binary_form=True)  # Windows keeps them in no file
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
    """Give a private file that holds authorities' certificates, for drivers that take only files.

    Folders for temporary files are cleaned while a process runs: a file that is gone is written again.
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
