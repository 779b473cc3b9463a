"""Know addresses: who sent a request, from which site, and where this application stands on its own.

An application may stand below a path of its host (``SCRIPT_NAME``, ``X-Forwarded-Prefix``). Paths that browsers are
given begin with it (``outer``); the routes know nothing of it (``inner``).
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import SplitResult, urlsplit

from flask import request

SITE_BITS = 64
"""What one IPv6 subscriber is given at the least: whoever has a network has all its addresses."""

DEFAULT_PORTS = {"http": 80, "https": 443}

_WITH_PORT = re.compile(r"\[([^\]]+)\](?::\d+)?|([0-9.]+):\d+")


@lru_cache(maxsize=1024)
def client(text: str | None) -> IPv4Address | IPv6Address | None:
    """Read an address in any spelling; one of IPv4 that came as IPv6 (``::ffff:127.0.0.1``) is one of IPv4."""
    found = _WITH_PORT.fullmatch(text or "")
    try:
        address = ip_address((found[1] or found[2]) if found else text or "")
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def is_loopback(text: str | None) -> bool:
    address = client(text)
    return address is not None and address.is_loopback


def network(text: str | None) -> str:
    """Give what requests are counted under: an address of IPv4, the network of one of IPv6."""
    address = client(text)
    if isinstance(address, IPv6Address):
        return str(ip_network((int(address), SITE_BITS), strict=False))
    return str(address or text or "")


def outer(path: str) -> str:
    """Give a path of ours as a browser has to ask for it."""
    return request.script_root + path


def inner(path: str) -> str | None:
    """Give a path that a browser asks for as our routes know it; None where it leads out of this application."""
    root = request.script_root
    if path == root:
        return "/"
    return path[len(root) :] if path.startswith(f"{root}/") else None


def split(url: str) -> SplitResult:
    """Take an address apart that anybody may have written; one that is none has no parts."""
    try:
        found = urlsplit(url)
        _ = found.port
    except ValueError:
        return urlsplit("")
    return found


def is_own_origin(given: str) -> bool:
    """Tell whether an ``Origin`` or a ``Referer`` is of this site; a port that is the scheme's own need not be named.

    A proxy that does TLS and was not told of makes us see plain HTTP: there the scheme says nothing.
    """
    theirs, ours = split(given), split(request.host_url)
    if request.is_secure and theirs.scheme != ours.scheme:
        return False
    return bool(theirs.hostname) and (theirs.hostname, _port(theirs)) == (ours.hostname, _port(ours))


def _port(url: SplitResult) -> int | None:
    return None if url.port == DEFAULT_PORTS.get(url.scheme) else url.port


def local_path(target: str | None) -> str | None:
    """Give a path of this site to go to after login, or None for anything a browser could take for another site."""
    if not target or not target.startswith("/") or target.startswith("//") or "\\" in target:
        return None
    if not target.isprintable() or len(target) > 2000:
        return None
    path = inner(split(target).path)
    return None if path is None or path.startswith(("//", "/auth/")) else target
