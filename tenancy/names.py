"""Turn text into keys, identifiers and file names: the only way text becomes a name anywhere.

Left of it in the house stand only the errors.
"""

from __future__ import annotations

import re
import unicodedata
import uuid

from tenancy.errors import ConfigurationError

MAX_USER_ID = 2**31 - 1
EMAIL_MAX = 254
EMAIL_KEY_MAX = 320
_EMAIL = re.compile(r"[^@\s]{1,64}@[^@\s.]+(\.[^@\s.]+)*")
_IDENTIFIER = re.compile(r"[a-z][a-z0-9_]{0,47}")
_DATABASE = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,47}")
_POINT = re.compile(r"[a-z][a-z0-9]{0,9}")
_PLANNED = re.compile(r"(unify_(\d{1,10}|ready)_[0-9a-f]{12})(?:_(.+))?")
_FILE = re.compile(r"(user_(\d{1,10})\.db)(?:[.-](.+))?")
_DRAFT = re.compile(r"([0-9a-f]{32})\.(\d{1,9})\.new")


def fold(text: str) -> str:
    """Give the key by which two names are the same: NFKC, case folded, outer and repeated blanks gone."""
    once = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(unicodedata.normalize("NFKC", once).split())


def storable(text: str, field: str) -> str:
    """Refuse what some engine cannot keep: NUL bytes and lone surrogates."""
    if "\x00" in text:
        raise ConfigurationError(f"{field} contains a NUL character.", field=field)
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise ConfigurationError(f"{field} contains half of a character (a lone surrogate).", field=field)
    return text


def is_storable(text: str) -> bool:
    """Say whether every engine can keep (and so compare) a text."""
    return "\x00" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def email(text: str) -> str:
    """Give the address as it is shown, or refuse what cannot be one."""
    address = storable(text, "email").strip()
    if len(address) > EMAIL_MAX or not _EMAIL.fullmatch(address) or not address.isprintable():
        raise ConfigurationError("email is not an address like name@example.org.", field="email")
    if len(fold(address)) > EMAIL_KEY_MAX:
        raise ConfigurationError("email is too long.", field="email")
    return address


def user_id(value: object) -> int:
    """Give a positive integer id, or refuse (``0``, ``-1``, ``1;drop``, ``True``, 2^63)."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,10}", value):
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= MAX_USER_ID:
        raise ConfigurationError("user_id must be a whole number from 1 up.", field="user_id")
    return value


def user_reference(text: str) -> int | str:
    """Give what names a user as people type it, an id or an e-mail address, or refuse."""
    named = text.strip()
    try:
        return email(named) if "@" in named else user_id(named)
    except ConfigurationError as error:
        told = f"{named[:EMAIL_MAX]!r} is no user: type a whole number such as 1, or an e-mail address."
        raise ConfigurationError(told, field=error.field) from error


def user_references(text: str) -> list[int | str]:
    """Read a list of users with commas between; a text that names nobody is refused, or it would mean everybody."""
    found = [user_reference(part) for part in text.split(",") if part.strip()]
    if not found:
        raise ConfigurationError(
            "no user is named: type ids or e-mail addresses, with commas between.", field="user_id"
        )
    return found


def identifier(text: str) -> str:
    """Give a name that every engine takes unquoted and in full length, or refuse."""
    if not _IDENTIFIER.fullmatch(text):
        raise ConfigurationError(
            "a database name starts with a lower-case letter and holds at most 48 of a-z, 0-9 and _.", field="db_name"
        )
    return text


def database(text: str) -> str:
    """Give the name of a database that somebody else may have named, or refuse; ``quoted`` makes it SQL."""
    if not _DATABASE.fullmatch(text):
        raise ConfigurationError(
            "db_name starts with a letter or _ and holds at most 48 of A-Z, a-z, 0-9, _ and -.", field="db_name"
        )
    return text


def quoted(name: str, marks: str = '""') -> str:
    """Give a name as SQL takes it; ``marks`` are the product's opening and closing mark, the closing one doubled."""
    return f"{marks[0]}{name.replace(marks[1], marks[1] * 2)}{marks[1]}"


def planned_database(owner: int | None, tenant_id: uuid.UUID) -> str:
    """Give the name of a user's database, and of its login, on a server of ours: no two installations meet in it.

    One that is made before its user comes keeps the name that it has without one.
    """
    whose = "ready" if owner is None else user_id(owner)
    return identifier(f"unify_{whose}_{tenant_id.hex[-12:]}")


def planned_in(found: str) -> tuple[str, int | None, str] | None:
    """Read what ``planned_database`` wrote: the name, its user, and what follows it; None where it wrote none."""
    matched = _PLANNED.fullmatch(found)
    if matched is None:
        return None
    return matched[1], None if matched[2] == "ready" else int(matched[2]), matched[3] or ""


def sqlite_file(owner: int | None) -> str:
    """Give the file name of a user's SQLite database."""
    return f"user_{user_id(owner)}.db"


def sqlite_file_in(found: str) -> tuple[str, int, str] | None:
    """Read the name of a file beside ``sqlite_file``: the database's, its user, and what follows it."""
    matched = _FILE.fullmatch(found)
    return None if matched is None else (matched[1], int(matched[2]), matched[3] or "")


def draft_in(rest: str) -> tuple[uuid.UUID, int] | None:
    """Read what follows a database's name in that of its draft: tenant and attempt."""
    matched = _DRAFT.fullmatch(rest)
    return None if matched is None else (uuid.UUID(matched[1]), int(matched[2]))


def restore_point(text: str) -> str:
    """Give the name of a restore point, short enough to stand behind a database's own, or refuse."""
    if not _POINT.fullmatch(text):
        raise ConfigurationError(
            "a restore point's name starts with a letter and holds at most 10 of a-z and 0-9.", field="point"
        )
    return text


def point_database(name: str, point: str) -> str:
    """Give the name of the database that holds a restore point: 59 characters at most, and PostgreSQL keeps 63."""
    return f"{database(name)}_{restore_point(point)}"


def point_in(name: str, found: str) -> str:
    """Give the restore point that a database beside another one belongs to; nothing where it is none."""
    matched = re.fullmatch(rf"{re.escape(name)}_({_POINT.pattern})(_new|_back|_old)?", found)
    return matched[1] if matched else ""


def point_file(owner: int, tenant_id: uuid.UUID, point: str) -> str:
    """Give the file name of a restore point: of this tenant, and of no earlier one of the same user."""
    return f"{sqlite_file(owner)}.{tenant_id.hex}.{restore_point(point)}"
