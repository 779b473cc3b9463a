"""Handle addresses: who sent a request, from which site, and under which path this application is served.

An application may be served under a path of its host (``SCRIPT_NAME``, ``X-Forwarded-Prefix``). Paths in links begin
with that prefix (``outer``); routes do not know it (``inner``).
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import SplitResult, urlsplit

from flask import request

SITE_BITS = 64
"""The prefix length of the smallest network that an IPv6 subscriber gets; its owner has all its addresses."""

DEFAULT_PORTS = {"http": 80, "https": 443}

_WITH_PORT = re.compile(r"\[([^\]]+)\](?::\d+)?|([0-9.]+):\d+")


@lru_cache(maxsize=1024)
def client(text: str | None) -> IPv4Address | IPv6Address | None:
    """Parse an address in any spelling; an IPv4-mapped IPv6 address (``::ffff:127.0.0.1``) becomes IPv4."""
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
    """Return the key for counting requests: an IPv4 address, or the network of an IPv6 address."""
    address = client(text)
    if isinstance(address, IPv6Address):
        return str(ip_network((int(address), SITE_BITS), strict=False))
    return str(address or text or "")


def outer(path: str) -> str:
    """Add the prefix of the application to one of our paths, for use in a link."""
    return request.script_root + path


def inner(path: str) -> str | None:
    """Remove the prefix of the application from a path; None if the path is outside of the application."""
    root = request.script_root
    if path == root:
        return "/"
    return path[len(root) :] if path.startswith(f"{root}/") else None


def split(url: str) -> SplitResult:
    """Split an untrusted URL into its parts; all parts of an invalid one are empty."""
    try:
        found = urlsplit(url)
        _ = found.port
    except ValueError:
        return urlsplit("")
    return found


def is_own_origin(given: str) -> bool:
    """Tell whether an ``Origin`` or a ``Referer`` names this site; a scheme's default port may be left out.

    Behind a TLS proxy that is not configured as trusted we see plain HTTP, so the scheme is only compared for HTTPS.
    """
    theirs, ours = split(given), split(request.host_url)
    if request.is_secure and theirs.scheme != ours.scheme:
        return False
    return bool(theirs.hostname) and (theirs.hostname, _port(theirs)) == (ours.hostname, _port(ours))


def _port(url: SplitResult) -> int | None:
    return None if url.port == DEFAULT_PORTS.get(url.scheme) else url.port


def local_path(target: str | None) -> str | None:
    """Return a path to redirect to after login, or None for anything a browser could take for another site."""
    if not target or not target.startswith("/") or target.startswith("//") or "\\" in target:
        return None
    if not target.isprintable() or len(target) > 2000:
        return None
    path = inner(split(target).path)
    return None if path is None or path.startswith(("//", "/auth/")) else target
