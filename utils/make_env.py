"""Make ``.env`` from ``.env.example`` with fresh random keys: ``make run`` runs this once.

It stands beside ``settings.py`` rather than above it: there are no settings before there is a ``.env``.
"""

from __future__ import annotations

import os
import re
import secrets
import sys
from collections.abc import Callable
from pathlib import Path

from tenancy.keyring import generate_key

PROJECT = Path(__file__).resolve().parent.parent

FRESH: dict[str, Callable[[], str]] = {
    "SECRET_KEY": lambda: secrets.token_urlsafe(48),
    "TENANT_CREDENTIAL_KEYS": generate_key,
    "AUDIT_KEY": lambda: secrets.token_urlsafe(48),
}


def make_env(example: Path, target: Path) -> bool:
    """Write ``target`` with mode 0600 and tell whether it was made; one that is there is never touched."""
    text = example.read_text(encoding="utf-8")
    for name, make in FRESH.items():
        text, filled = re.subn(rf"^{name}=$", f"{name}={make()}", text, flags=re.MULTILINE)
        if filled != 1:
            raise SystemExit(f"{example.name} must have one line `{name}=`.")
    try:
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return False
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)
    return True


def main() -> None:
    target = PROJECT / ".env"
    if not make_env(PROJECT / ".env.example", target):
        sys.stdout.write(".env is there already and stays as it is.\n")
        return
    sys.stdout.write("Made .env with fresh keys: keep it, and keep it secret.\n")
    if (PROJECT / "data").exists():
        sys.stderr.write("data/ is older than this .env: what was sealed with other keys needs those keys back.\n")


if __name__ == "__main__":
    main()
