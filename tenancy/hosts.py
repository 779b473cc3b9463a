"""Check the names of hosts, and which addresses this server may be made to connect to (against SSRF).

The syntax is checked for everybody (``host``, ``port``). Where users may name hosts themselves, ``HostPolicy`` also
resolves the name and returns the address that it checked; the connection goes to that address and not to the name,
which could resolve to another one by then (DNS rebinding). Name resolution has a time limit (``resolved``).
"""

from __future__ import annotations

import ipaddress
import re
import socket
import threading
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass

from tenancy.addresses import Address, globally_reachable
from tenancy.deadline import left
from tenancy.errors import (
    ConfigurationError,
    DatabaseTimeoutError,
    DatabaseUnreachableError,
    HostNotAllowedError,
)
from tenancy.forks import after_fork

HOST_MAX = 253
FIELD = "db_host"
SETTING = "TENANT_DB_HOSTS_ALLOWED"

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_LABEL = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_NAME = re.compile(rf"{_LABEL}(\.{_LABEL})*\.?")
_NUMBER = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")
_METADATA = (
    "100.100.100.200",
    "192.0.0.192",
    "168.63.129.16",
    "fd00:42::42",
    "fd00:ec2::23",
    "fd00:ec2::254",
    "fd20:ce::254",
)
"""Metadata services of clouds, which hand out an instance's secrets, outside the link-local range that most use."""
_THIS_NETWORK = ipaddress.ip_network("0.0.0.0/8")  # RFC 791
_NAT64 = ipaddress.ip_network("64:ff9b::/96")  # RFC 6052
LOOKUP_S = 3.0


def host(text: str, field: str = FIELD) -> str:
    """Return the name or address of a host, or refuse it.

    Numbers that are no complete address are refused: to some resolvers ``0x7f000001`` and ``127.1`` are addresses.
    """
    if _is_address(text):
        return text
    last = text.rstrip(".").rpartition(".")[2]
    if len(text) > HOST_MAX or not _NAME.fullmatch(text) or _NUMBER.fullmatch(last):
        raise ConfigurationError(f"{field} is neither the name nor the address of a host.", field=field)
    return text


def port(number: object, field: str = "db_port") -> int:
    if not isinstance(number, int) or isinstance(number, bool) or not 1 <= number <= 65535:
        raise ConfigurationError(f"{field} must be a whole number from 1 to 65535.", field=field)
    return number


def machine_of(host: str) -> str:
    """Return the host without the name of a SQL Server instance (``host\\instance``)."""
    return host.partition("\\")[0]


def is_loopback(name: str) -> bool:
    """Return whether a host is ``localhost`` or a loopback address; nothing is resolved."""
    return name.lower() == "localhost" or (_is_address(name) and ipaddress.ip_address(name).is_loopback)


@dataclass(frozen=True)
class HostPolicy:
    """Decide which hosts users may name: those that a rule allows or, without rules, those globally reachable (IANA).

    A rule is an address, a network (``10.2.0.0/16``) or a name (``.db.example.org`` for all below it). Loopback,
    link-local and cloud metadata addresses are allowed only by a rule for addresses, never by a name.
    """

    networks: tuple[Network, ...] = ()
    names: tuple[str, ...] = ()

    @classmethod
    def of(cls, rules: Iterable[str]) -> HostPolicy:
        """Parse the rules of TENANT_DB_HOSTS_ALLOWED, or raise ConfigurationError."""
        networks: list[Network] = []
        named: list[str] = []
        for rule in rules:
            try:
                networks.append(ipaddress.ip_network(rule))
            except ValueError:
                if "/" in rule:
                    raise ConfigurationError(f"{SETTING}: {rule!r} is not a network.", field=SETTING) from None
                host(rule.removeprefix("."), SETTING)
                named.append(rule.lower().rstrip("."))
        return cls(tuple(networks), tuple(named))

    def address(self, name: str, *, limit_s: float = LOOKUP_S) -> str:
        """Resolve a host; return the first address that is allowed, or raise HostNotAllowedError."""
        for found in resolved(name, limit_s=limit_s):
            # An address with a zone ("fe80::1%eth0") is link-local.
            if "%" not in found and self.allows(name, ipaddress.ip_address(found)):
                return found
        raise HostNotAllowedError(
            f"db_host is not among the hosts that the operator allows users to name ({SETTING}).", field=FIELD
        )

    def allows(self, name: str, address: Address) -> bool:
        """Return whether users may connect to this address, which ``name`` resolved to."""
        meant = _unwrapped(address)
        if any(meant in network for network in self.networks if network.version == meant.version):
            return True
        if _needs_address_rule(meant):
            return False
        lowered = name.lower().rstrip(".")
        if any(lowered == rule or (rule[0] == "." and lowered.endswith(rule)) for rule in self.names):
            return True
        public = globally_reachable(meant) and str(meant) not in _METADATA
        return not self.networks and not self.names and public


def resolved(name: str, *, limit_s: float = LOOKUP_S) -> list[str]:
    """Return a host's addresses in the order to try them, or raise DatabaseUnreachableError within the limit.

    The C library's look-up cannot be interrupted, so it runs in a thread of its own. Callers who ask for the same name
    meanwhile wait for the same answer, so a dead name service occupies one thread for each name.
    """
    if _is_address(name):
        return [name]
    try:
        return _look_ups.of(name).result(left(limit_s))
    except TimeoutError:
        raise DatabaseTimeoutError("the name service did not answer in time.", field=FIELD) from None
    except RuntimeError as error:
        raise DatabaseUnreachableError("no thread can be started to ask the name service: try again.") from error
    except (OSError, UnicodeError) as error:
        raise DatabaseUnreachableError("db_host is not known to the name service.", field=FIELD) from error


class _LookUps:
    """Share one look-up among all who wait for the same name."""

    def __init__(self) -> None:
        self._start_afresh()
        after_fork(self._start_afresh)  # the child does not inherit the threads that would answer

    def _start_afresh(self) -> None:
        self._lock = threading.Lock()
        self._under_way: dict[str, Future[list[str]]] = {}

    def of(self, name: str) -> Future[list[str]]:
        with self._lock:
            answer = self._under_way.get(name)
            if answer is None:
                answer = Future()
                threading.Thread(target=self._ask, args=(name, answer), name="unify-look-up", daemon=True).start()
                self._under_way[name] = answer  # only now: a thread that could not start would never answer
            return answer

    def _ask(self, name: str, answer: Future[list[str]]) -> None:
        try:
            rows = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
        except Exception as error:  # noqa: BLE001 - raised again in the threads that wait
            self._forget(name)
            answer.set_exception(error)
        else:
            self._forget(name)
            answer.set_result(list(dict.fromkeys(str(row[4][0]) for row in rows)))

    def _forget(self, name: str) -> None:
        with self._lock:
            self._under_way.pop(name, None)


_look_ups = _LookUps()


def _unwrapped(address: Address) -> Address:
    """Return the IPv4 address that is embedded in an IPv6 one (NAT64, IPv4-mapped), because packets go there."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address


def _needs_address_rule(address: Address) -> bool:
    """Return whether only a rule for addresses may allow this one; addresses inside 6to4 and Teredo count too."""
    if isinstance(address, ipaddress.IPv6Address):
        carried = address.sixtofour or (address.teredo and address.teredo[1])
        if carried and _needs_address_rule(carried):
            return True
    special = address.is_loopback or address.is_link_local or address.is_unspecified or address.is_multicast
    return special or address.is_reserved or address in _THIS_NETWORK or str(address) in _METADATA


def _is_address(text: str) -> bool:
    try:
        return "%" not in text and bool(ipaddress.ip_address(text))
    except ValueError:
        return False
