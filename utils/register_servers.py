"""Register the database servers of ``docker-compose.yml``: ``python -m utils.register_servers NAME...``.

The URL goes to ``unify servers add`` on its standard input, where no list of processes shows the password. Safe to
repeat: a server that is registered already stays as it is.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence

import sqlalchemy as sa

import settings

UNIFY = (sys.executable, "-m", "utils.cli", "servers")

SERVERS = {
    "postgresql": (sa.URL.create("postgresql", "postgres", host="postgresql", port=5432), "POSTGRES_PASSWORD"),
    "mysql": (sa.URL.create("mysql", "root", host="mysql", port=3306), "MYSQL_ROOT_PASSWORD"),
    "sqlserver": (sa.URL.create("mssql", "sa", host="sqlserver", port=1433), "MSSQL_SA_PASSWORD"),
}
"""Each service of the file, which is also its type: where it is and who administers it, and where the password is."""


def main(names: Sequence[str], given: Mapping[str, str], unify: Sequence[str] = UNIFY) -> int:
    """Return the exit code: 0 if all of them are registered."""
    unknown = [name for name in names if name not in SERVERS]
    if unknown or not names:
        _complain(f"Name one or more of {', '.join(SERVERS)}.")
        return 2
    registered = [_register(name, given, unify) for name in names]
    return int(not all(registered))


def _register(name: str, given: Mapping[str, str], unify: Sequence[str]) -> bool:
    url, variable = SERVERS[name]
    if not given.get(variable):
        _complain(f"{variable} is not set: see docs/how-to/deploy.md.")
        return False
    text = url.set(password=given[variable]).render_as_string(hide_password=False)
    command = [*unify, "add", name, "--type", name, "--url-stdin"]
    made = subprocess.run(command, input=f"{text}\n", capture_output=True, text=True, check=False)
    if made.returncode == 0:
        _say(made.stdout.strip())
    elif _is_registered(name, unify):
        _say(f"Server {name} is already registered.")
    else:
        _complain(made.stderr.strip() or f"{name} was not registered.")
        return False
    return True


def _is_registered(name: str, unify: Sequence[str]) -> bool:
    listed = subprocess.run([*unify, "list", "--json"], capture_output=True, text=True, check=False)
    return listed.returncode == 0 and any(each["name"] == name for each in json.loads(listed.stdout)["items"])


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def _complain(text: str) -> None:
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], settings.given()))
