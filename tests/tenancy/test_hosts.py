"""Which addresses users may send this server to, whatever they are written like, and how names become addresses."""

from __future__ import annotations

import ipaddress
import socket
import threading

import pytest

from tenancy import hosts
from tenancy.addresses import REGISTERED, globally_reachable
from tenancy.errors import ConfigurationError, DatabaseTimeoutError, DatabaseUnreachableError, HostNotAllowedError
from tenancy.hosts import HostPolicy

NEWER = {"192.88.99.0/24", "192.88.99.2/32", "100:0:0:1::/64", "2001:1::3/128", "2002::/16", "3fff::/20", "5f00::/16"}
"""Lines that Python's own copy lacks in some version that is supported here, or reads otherwise (N/A)."""

if not hasattr(ipaddress._IPv4Constants, "_private_networks_exceptions"):  # type: ignore[attr-defined]  # before Python 3.11.10 and 3.12.4
    NEWER |= {"192.0.0.0/24", "192.0.0.8/32", "64:ff9b:1::/48", "2001:1::1/128", "2001:1::2/128", "2001:3::/32"}
    NEWER |= {"2001:4:112::/48", "2001:20::/28", "2001:30::/28"}


@pytest.mark.parametrize(("block", "reachable"), [line for line in REGISTERED if line[0] not in NEWER])
def test_the_table_says_what_pythons_own_says(block, reachable):
    network = ipaddress.ip_network(block)
    for address in (network[0], network[-1]):
        if address.is_multicast or any(address in inner for inner in _inside(network)):
            continue
        assert address.is_global is reachable
        assert globally_reachable(address) is reachable


def _inside(network):
    others = (ipaddress.ip_network(block) for block, _ in REGISTERED)
    return [
        other for other in others if other != network and other.version == network.version and other.subnet_of(network)
    ]


REFUSED = [
    *("127.0.0.1", "0.0.0.0", "10.1.2.3", "100.64.0.1", "169.254.169.254", "192.0.0.8", "192.0.2.1", "198.18.0.1"),
    *("203.0.113.9", "224.0.0.1", "240.0.0.1", "255.255.255.255", "192.88.99.1", "168.63.129.16", "100.100.100.200"),
    *("::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::127.0.0.1", "64:ff9b::10.0.0.1"),
    *("64:ff9b:1::8.8.8.8", "2002:7f00:1::", "2002:808:808::1", "2001:0:808:808::f7f7:f7f7", "2001:db8::1", "3fff::1"),
    *("5f00::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fec0::1", "ff02::1", "4000::1", "100::1", "2001:2::1"),
]
PUBLIC = ["8.8.8.8", "192.0.0.9", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2001:4860:4860::8888", "2620:4f:8000::1"]


@pytest.mark.parametrize("answer", REFUSED)
def test_what_is_not_globally_reachable_is_refused_whatever_name_leads_there(monkeypatch, answer):
    monkeypatch.setattr(hosts, "resolved", lambda name, *, limit_s: [answer])
    with pytest.raises(HostNotAllowedError):
        HostPolicy().address("db.example.org")


@pytest.mark.parametrize("answer", PUBLIC)
def test_a_public_address_may_be_connected_to(monkeypatch, answer):
    monkeypatch.setattr(hosts, "resolved", lambda name, *, limit_s: ["fe80::1%eth0", "10.0.0.1", answer])
    assert HostPolicy().address("db.example.org") == answer


@pytest.mark.parametrize(
    "answer",
    [
        *("127.0.0.1", "::ffff:127.0.0.1", "2002:7f00:1::", "64:ff9b::a9fe:a9fe", "0.1.2.3"),
        *("fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254", "fd00:42::42"),
    ],
)
def test_a_rule_for_names_lets_no_name_lead_to_this_machine(monkeypatch, answer):
    monkeypatch.setattr(hosts, "resolved", lambda name, *, limit_s: [answer])
    with pytest.raises(HostNotAllowedError):
        HostPolicy.of([".example.org"]).address("db.example.org")


def test_rules_for_names_and_networks_let_through_what_they_name(monkeypatch):
    monkeypatch.setattr(hosts, "resolved", lambda name, *, limit_s: ["10.0.0.1"])
    assert HostPolicy.of([".example.org"]).address("db.example.org") == "10.0.0.1"
    assert HostPolicy.of(["10.0.0.0/8"]).address("anything") == "10.0.0.1"


@pytest.mark.parametrize(
    "text",
    ["0177.0.0.1", "0x7f.0.0.1", "0x7f000001", "2130706433", "127.1", "127.0.0.1.", "[::1]", "::1%lo", "１２７.0.0.1"],
)
def test_an_address_has_one_spelling(text):
    with pytest.raises(ConfigurationError):
        hosts.host(text)


def test_a_silent_name_service_is_given_up_and_asked_once(monkeypatch):
    may_answer, asked = threading.Event(), []

    def silent(name, *_, **__):
        asked.append(name)
        may_answer.wait()
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.7", 0))]

    monkeypatch.setattr(socket, "getaddrinfo", silent)
    try:
        for _ in range(3):
            with pytest.raises(DatabaseTimeoutError, match="name service"):
                hosts.resolved("slow.example.org", limit_s=0.01)
        assert asked == ["slow.example.org"]
    finally:
        may_answer.set()
    assert hosts.resolved("slow.example.org") == ["192.0.2.7"]


def test_a_name_can_be_asked_for_again_where_its_thread_could_not_start(monkeypatch):
    def full(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", full)
        with pytest.raises(DatabaseUnreachableError, match="no thread can be started"):
            hosts.resolved("localhost")
    assert hosts.resolved("localhost")


def test_a_rule_with_the_dot_of_the_root_names_the_same_host():
    policy = hosts.HostPolicy.of(["db.Example.org."])
    assert policy.allows("db.example.org", ipaddress.ip_address("93.184.216.34"))


def test_a_name_that_is_not_known_is_said():
    with pytest.raises(DatabaseUnreachableError, match="name service"):
        hosts.resolved("no-such-host.invalid")


def test_an_instance_of_sql_server_is_no_part_of_the_machines_name():
    assert [hosts.machine_of(host) for host in ("db.example.org\\SQLEXPRESS", "db.example.org")] == [
        "db.example.org"
    ] * 2
