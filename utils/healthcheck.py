"""Ask ``/healthz`` of the server on this machine, for the image's HEALTHCHECK: exit 0 when it is up, else 1.

The request names a host of TRUSTED_HOSTS, since this machine's own names may not be among them.
"""

from __future__ import annotations

import sys
from http.client import HTTPConnection, HTTPException

from settings import Settings, given

TIMEOUT_S = 4
"""Less than the HEALTHCHECK's own timeout, which would end this process without a message."""


def is_up(port: int, host: str, below: str = "") -> bool:
    """Ask the server; ``below`` is the path under which gunicorn serves it (``SCRIPT_NAME``)."""
    connection = HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", f"{below.rstrip('/')}/healthz", headers={"Host": host})
        return connection.getresponse().status == 200
    except (OSError, HTTPException) as error:
        sys.stderr.write(f"{type(error).__name__}\n")
        return False
    finally:
        connection.close()


def named(trusted: tuple[str, ...]) -> str:
    """Return one of the trusted hosts; ``.example.org`` trusts its subdomains, not itself."""
    return f"localhost{trusted[0]}" if trusted[0].startswith(".") else trusted[0]


if __name__ == "__main__":
    settings = Settings.load()
    sys.exit(not is_up(settings.port, named(settings.trusted_hosts), given().get("SCRIPT_NAME", "")))
