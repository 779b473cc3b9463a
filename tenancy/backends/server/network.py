"""Connect to a server's port within a deadline, and say why that failed; drivers' error texts are not read."""

from __future__ import annotations

import socket
import ssl
import time

from tenancy.backends.access import Login
from tenancy.deadline import Patience
from tenancy.errors import (
    ConnectionRefusedByServerError,
    DatabaseTimeoutError,
    DatabaseUnreachableError,
    TenancyError,
)

SILENT = "the server did not answer in time."
GONE = "the server cannot be reached, or ended the connection."
UNENCRYPTED = "the server answers, and no encrypted connection came about: check its certificate, its name and tls_ca."


def connected(login: Login, until: float) -> socket.socket:
    """Connect to the first address of a login's host that answers; OSError or TenancyError if none does."""
    addresses = login.addresses(until - time.monotonic())
    for address in addresses[:-1]:
        try:
            return _connected(address, login.port, until)
        except OSError:
            continue
    return _connected(addresses[-1], login.port, until)


def why_unreachable(login: Login) -> TenancyError:
    """Find out why a driver could not connect, by connecting to the port without the driver."""
    try:
        connected(login, Patience(login.options.connect_timeout_s).until()).close()
    except TenancyError as error:
        return error
    except OSError as error:
        return of_network(error)
    if login.tls in ("require", "verify"):
        return DatabaseUnreachableError(UNENCRYPTED)
    return DatabaseUnreachableError("the server ended the connection.")


def of_network(error: OSError) -> TenancyError:
    """Translate an error of a socket."""
    if isinstance(error, TimeoutError):
        return DatabaseTimeoutError(SILENT)
    if isinstance(error, ConnectionRefusedError):
        return ConnectionRefusedByServerError("no server answers at this host and port.")
    return DatabaseUnreachableError(UNENCRYPTED if isinstance(error, ssl.SSLError) else GONE)


def _connected(address: str, port: int, until: float) -> socket.socket:
    opened = socket.create_connection((address, port), max(0.001, until - time.monotonic()))
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    return opened
