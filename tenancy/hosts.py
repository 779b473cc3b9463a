"""Say what the name of a host is, and to which addresses somebody may send this server.

Syntax is checked for everybody (``host``, ``port``). Where users may name hosts themselves, ``HostPolicy`` also
resolves the name and answers with the one address that was checked, which is then the one connected to. A name service
that does not answer is given up (``resolved``).
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
"""Where clouds answer with an instance's secrets, beside the link-local addresses that most of them use."""
_THIS_NETWORK = ipaddress.ip_network("0.0.0.0/8")  # RFC 791
_NAT64 = ipaddress.ip_network("64:ff9b::/96")  # RFC 6052
LOOKUP_S = 3.0


def host(text: str, field: str = FIELD) -> str:
    """Give the name or address of a host, or refuse whatever a driver could take for anything else.

    What looks like a number must be a whole address: ``0x7f000001`` and ``127.1`` are addresses to some resolvers.
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
    """Give the machine that a host names, without the name of one of SQL Server's instances there."""
    return host.partition("\\")[0]


def is_loopback(name: str) -> bool:
    """Say whether a host is this machine by its very name."""
    return name.lower() == "localhost" or (_is_address(name) and ipaddress.ip_address(name).is_loopback)


@dataclass(frozen=True)
class HostPolicy:
    """Allow users to name the hosts that rules let through; without rules, what is globally reachable (IANA).

    A rule is an address, a network (``10.2.0.0/16``) or a name (``.db.example.org``: all below it). Addresses of
    this machine, of its links and of cloud metadata are only let through by a rule for addresses.
    """

    networks: tuple[Network, ...] = ()
    names: tuple[str, ...] = ()

    @classmethod
    def of(cls, rules: Iterable[str]) -> HostPolicy:
        """Read rules as they stand in TENANT_DB_HOSTS_ALLOWED, or refuse one that is none."""
        networks: list[Network] = []
        named: list[str] = []
        for rule in rules:
            try:
                networks.append(ipaddress.ip_network(rule))
            except ValueError:
                if "/" in rule:
                    raise ConfigurationError(f"{SETTING}: {rule!r} is no network.", field=SETTING) from None
                host(rule.removeprefix("."), SETTING)
                named.append(rule.lower().rstrip("."))
        return cls(tuple(networks), tuple(named))

    def address(self, name: str, *, limit_s: float = LOOKUP_S) -> str:
        """Resolve a host and give the first address that may be connected to, or HostNotAllowedError."""
        for found in resolved(name, limit_s=limit_s):
            # One with a zone ("fe80::1%eth0") is an address of this machine's links.
            if "%" not in found and self.allows(name, ipaddress.ip_address(found)):
                return found
        raise HostNotAllowedError(
            "db_host is not among the hosts that users may name: ask whoever runs this application.", field=FIELD
        )

    def allows(self, name: str, address: Address) -> bool:
        """Say whether a name that resolved to this address may be connected to there."""
        meant = _unwrapped(address)
        if any(meant in network for network in self.networks if network.version == meant.version):
            return True
        if _never(meant):
            return False
        lowered = name.lower().rstrip(".")
        if any(lowered == rule or (rule[0] == "." and lowered.endswith(rule)) for rule in self.names):
            return True
        public = globally_reachable(meant) and str(meant) not in _METADATA
        return not self.networks and not self.names and public


def resolved(name: str, *, limit_s: float = LOOKUP_S) -> list[str]:
    """Give a host's addresses in the order to try them, or DatabaseUnreachableError, in time.

    The C library's look-up cannot be interrupted, so it runs in a thread of its own; those who ask for a name that
    is being looked up wait for the same answer, so that a dead name service holds one thread a name.
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
    """Hold what the name service is being asked for."""

    def __init__(self) -> None:
        self._start_afresh()
        after_fork(self._start_afresh)  # the threads that would answer stayed with the parent

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
        except Exception as error:  # noqa: BLE001 - it is raised where the answer is waited for
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
    """Give the IPv4 address that an IPv6 one stands for: it is that machine's own."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address


def _never(address: Address) -> bool:
    """Say whether only a rule for addresses lets this one through, by whichever tunnel it would be reached."""
    if isinstance(address, ipaddress.IPv6Address):
        carried = address.sixtofour or (address.teredo and address.teredo[1])
        if carried and _never(carried):
            return True
    special = address.is_loopback or address.is_link_local or address.is_unspecified or address.is_multicast
    return special or address.is_reserved or address in _THIS_NETWORK or str(address) in _METADATA


def _is_address(text: str) -> bool:
    try:
        return "%" not in text and bool(ipaddress.ip_address(text))
    except ValueError:
        return False
