"""Create ``.env`` from ``.env.example`` with fresh random keys: ``make run`` runs this once.

``python -m utils.make_env -`` writes it to standard output instead, for those who run the image alone.
It is beside ``settings.py`` rather than above it: there are no settings before there is a ``.env``.
"""

from __future__ import annotations

import os
import re
import secrets
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from tenancy.credentials.keyring import generate_key
from tenancy.credentials.signing import generate_signing_key

PROJECT = Path(__file__).resolve().parent.parent


def server_password() -> str:
    """Return a password that needs no quoting in a URL and that SQL Server accepts.

    SQL Server wants three kinds of characters, and not the login's own name (learn.microsoft.com, "Password policy").
    """
    while True:
        text = secrets.token_urlsafe(24)
        kinds = [any(map(kind, text)) for kind in (str.isupper, str.islower, str.isdigit)]
        if all(kinds) and "sa" not in text.lower():
            return text


FRESH: dict[str, Callable[[], str]] = {
    "SECRET_KEY": lambda: secrets.token_urlsafe(48),
    "TENANT_CREDENTIAL_KEYS": generate_key,
    "AUDIT_KEY": lambda: secrets.token_urlsafe(48),
    "BACKUP_SIGNING_KEYS": generate_signing_key,
    "POSTGRES_PASSWORD": server_password,
    "MYSQL_ROOT_PASSWORD": server_password,
    "MSSQL_SA_PASSWORD": server_password,
}


KEEP = """\
Without some of its keys no backup can be used. Keep a copy of them elsewhere than on this machine, and not with the
backups: TENANT_CREDENTIAL_KEYS, AUDIT_KEY and BACKUP_SIGNING_KEYS; and, once you have made a pair of keys for backups
with `unify credentials generate-identity`, its secret half. No backup is made before BACKUP_RECIPIENTS has the public
one. `unify doctor` says what is missing.
"""
"""What is printed once, when a machine is set up."""


def filled(example: Path) -> str:
    """Return the example's text with a fresh value in each empty place."""
    text = example.read_text(encoding="utf-8")
    for name, make in FRESH.items():
        text, places = re.subn(rf"^{name}=$", f"{name}={make()}", text, flags=re.MULTILINE)
        if places != 1:
            raise SystemExit(f"{example.name} must have one line `{name}=`.")
    return text


def make_env(example: Path, target: Path) -> bool:
    """Write ``target`` with mode 0600 and return whether it was created; an existing file is never touched."""
    text = filled(example)
    try:
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return False
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)
    return True


def main(arguments: Sequence[str] = ()) -> None:
    if list(arguments) == ["-"]:
        sys.stdout.write(filled(PROJECT / ".env.example"))
        sys.stderr.write(KEEP)
        return
    target = PROJECT / ".env"
    if not make_env(PROJECT / ".env.example", target):
        sys.stdout.write(".env already exists and was not changed.\n")
        return
    sys.stdout.write(f"Created .env with fresh keys: keep it, and keep it secret.\n{KEEP}")
    if (PROJECT / "data").exists():
        sys.stderr.write(
            "data/ is older than this .env: passwords that were sealed with other keys need those keys in it.\n"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
