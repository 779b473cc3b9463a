"""Hold ``unify serve``: start the app under gunicorn, and say what to type where it cannot start."""

from __future__ import annotations

import errno
import socket
import sys
from typing import TYPE_CHECKING

import click

from utils.output import Failed, complain
from utils.parameters import WholeNumber
from utils.toolbox import Toolbox, pass_toolbox

if TYPE_CHECKING:
    from settings import Settings


@click.command()
@click.option(
    "--threads", type=WholeNumber(1, 256), default=8, show_default=True, metavar="N", help="Threads in each worker."
)
@click.option(
    "--preload/--no-preload",
    default=True,
    show_default=True,
    help="Create the app once, before the workers: they start sooner and share its memory.",
)
@pass_toolbox
def serve(toolbox: Toolbox, threads: int, preload: bool) -> None:
    """Serve the app with gunicorn on HOST and PORT, with WEB_CONCURRENCY workers.

    SIGTERM lets running requests finish; SIGHUP starts fresh workers.
    """
    if sys.platform == "win32":
        raise Failed("gunicorn does not run on Windows. Run: python app.py")
    settings = toolbox.settings
    listener = _listen(settings)
    check_catalog(toolbox)

    import compose
    from utils.serve import Server

    for line in compose.first_steps(toolbox.parts):
        complain(line)
    toolbox.close()

    Server(settings, listener, threads=threads, preload=preload).run()


def _listen(settings: Settings) -> socket.socket:
    """Take the address before anything else, so that one that is in use is told at once."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except (OSError, UnicodeError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        raise Failed(
            f"Cannot listen on HOST {settings.host}, PORT {settings.port}: {reason}. {_way_on(error)}"
        ) from None
    return listener


def _way_on(error: OSError | UnicodeError) -> str:
    if getattr(error, "errno", None) == errno.EADDRINUSE:
        return "Stop the program that listens there, or choose another port, for example PORT=5001."
    if getattr(error, "errno", None) == errno.EACCES:
        return "Ports below 1024 are reserved for root: choose another, for example PORT=5001."
    return "HOST must be an address of this machine: 127.0.0.1 for this machine alone, 0.0.0.0 for all."


def check_catalog(toolbox: Toolbox) -> None:
    """Say what to type where the catalog cannot be used as it is."""
    status = toolbox.parts.manager.reports.catalog()
    if status["at_head"]:
        return
    if not status["reachable"]:
        raise Failed("The catalog cannot be reached: check ADMIN_DATABASE_URL, then run: unify db create-config-table")
    if status["revision"] == status["head"]:
        raise Failed("The shared database does not exist or is not up to date. Run: unify db create-config-table")
    raise Failed(
        f"The catalog is at revision {status['revision'] or 'none'}, the code needs {status['head']}. "
        "Run: unify db create-config-table"
    )
