"""Validate and build names: keys, SQL identifiers, logins and file names.

Text becomes part of SQL or of a path through the functions of this module only.
"""

from __future__ import annotations

import re
import unicodedata
import uuid

from tenancy.errors import ConfigurationError

MAX_USER_ID = 2**31 - 1
EMAIL_MAX = 254
EMAIL_KEY_MAX = 320
_UNSEEN_KINDS = frozenset({"Zs", "Zl", "Zp", "Cc", "Cf", "Cs"})
_UNSEEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2065\u2800\u3164\ufe00-\ufe0f\uffa0\ufff0-\ufff8\U000e0000-\U000e0fff]"
)
"""Invisible characters of other kinds: Unicode's Default_Ignorable_Code_Point, and the blank braille pattern."""

_EMAIL = re.compile(r"[^@\s]{1,64}@[^@\s.]+(\.[^@\s.]+)*")
_IDENTIFIER = re.compile(r"[a-z][a-z0-9_]{0,47}")
_DATABASE = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,47}")
_POINT = re.compile(r"[a-z][a-z0-9]{0,9}")
OURS = "unify_"
TEMPLATE = f"{OURS}template_"
SCRATCH = f"{OURS}shape_"
PARTIAL = f"{OURS}draft_"
SHARED_LOGIN = f"{OURS}shared_"
LOGIN_MAX = 32
"""The longest login name that MySQL accepts."""

_MARK = "[0-9a-f]{6}"
_PLANNED = re.compile(rf"({OURS}(?:({_MARK})_)?(\d{{1,10}}|ready)_[0-9a-f]{{8,12}})(?:_(.+))?")
_BESIDE = re.compile(rf"(?:{TEMPLATE}|{SCRATCH}|{PARTIAL})(?:({_MARK})_)?[0-9a-z]+")
_FILE = re.compile(r"(user_(\d{1,10})(?:_\d{1,10})?\.db)(?:[.-](.+))?")
_DRAFT = re.compile(r"([0-9a-f]{32})\.(\d{1,9})\.(?:new|gone)")


def fold(text: str) -> str:
    """Return the key that equal names share: NFKC, case folded, blanks collapsed."""
    once = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(unicodedata.normalize("NFKC", once).split())


def storable(text: str, field: str) -> str:
    """Return the text, or refuse what some product cannot store: NUL bytes and lone surrogates."""
    if "\x00" in text:
        raise ConfigurationError(f"{field} contains a NUL character.", field=field)
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise ConfigurationError(f"{field} contains half of a character (a lone surrogate).", field=field)
    return text


def is_storable(text: str) -> bool:
    """Return whether every product can store (and so compare) a text."""
    return "\x00" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def is_visible(text: str) -> bool:
    """Return whether a text has any visible character."""
    return any(unicodedata.category(each) not in _UNSEEN_KINDS and not _UNSEEN.match(each) for each in text)


def email(text: str) -> str:
    """Return the address without surrounding blanks, or refuse what cannot be one."""
    address = storable(text, "email").strip()
    if len(address) > EMAIL_MAX or not _EMAIL.fullmatch(address) or not address.isprintable():
        raise ConfigurationError("email is not an address like name@example.org.", field="email")
    if len(fold(address)) > EMAIL_KEY_MAX:
        raise ConfigurationError("email is too long.", field="email")
    return address


def user_id(value: object) -> int:
    """Return a positive integer, or refuse (``0``, ``-1``, ``1;drop``, ``True``, 2^63)."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,10}", value):
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= MAX_USER_ID:
        raise ConfigurationError("user_id must be a whole number from 1 up.", field="user_id")
    return value


def user_reference(text: str) -> int | str:
    """Return the id or e-mail address that somebody typed, or refuse."""
    named = text.strip()
    try:
        return email(named) if "@" in named else user_id(named)
    except ConfigurationError as error:
        message = f"{named[:EMAIL_MAX]!r} is not a user: type an id such as 1, or an e-mail address."
        raise ConfigurationError(message, field=error.field) from error


def user_references(text: str) -> list[int | str]:
    """Read a comma-separated list of users. An empty one is refused, as callers take it for everybody."""
    found = [user_reference(part) for part in text.split(",") if part.strip()]
    if not found:
        raise ConfigurationError(
            "no user is named: type ids or e-mail addresses, with commas between.", field="user_id"
        )
    return found


def identifier(text: str) -> str:
    """Return a name that every product accepts unquoted and in full length, or raise ConfigurationError."""
    rule = "a database name starts with a lower-case letter and holds at most 48 of a-z, 0-9 and _."
    return _matching(_IDENTIFIER, text, rule, "db_name")


def database(text: str) -> str:
    """Return the name of a database that we did not name ourselves, or refuse it; SQL needs it ``quoted``."""
    rule = "db_name starts with a letter or _ and holds at most 48 of A-Z, a-z, 0-9, _ and -."
    return _matching(_DATABASE, text, rule, "db_name")


def quoted(name: str, marks: str = '""') -> str:
    """Quote an identifier for SQL; ``marks`` are the product's opening and closing quotation mark."""
    return f"{marks[0]}{name.replace(marks[1], marks[1] * 2)}{marks[1]}"


def planned_database(owner: int | None, tenant_id: uuid.UUID, epoch: int = 1, installation: str = "") -> str:
    """Return the name of a user's database, and of its login, on a registered server.

    The name differs for every installation, tenant and epoch. So an attempt that was suspended and continues late
    creates or drops a database under a name that no other attempt uses. A database that was made for the pool keeps
    its name (``ready``) when a user takes it. On a server that is not registered, ``installation`` is empty.
    """
    whose = "ready" if owner is None else user_id(owner)
    begun = f"{_prefixed(OURS, installation)}{whose}_"
    token = tenant_id if epoch == 1 else uuid.uuid5(tenant_id, str(epoch))
    return identifier(f"{begun}{token.hex[-min(12, LOGIN_MAX - len(begun)) :]}")


def planned_in(found: str) -> tuple[str, int | None, str] | None:
    """Parse a name made by ``planned_database`` into that name, its user and any suffix; None for other names."""
    matched = _PLANNED.fullmatch(found)
    if matched is None:
        return None
    return matched[1], None if matched[3] == "ready" else int(matched[3]), matched[4] or ""


def template(installation: str, fingerprint: str) -> str:
    """Return the name of the template database that is copied for new tenants of a schema."""
    return f"{_prefixed(TEMPLATE, installation)}{fingerprint[:16]}"


def partial(installation: str) -> str:
    """Return a fresh name for a template that is still being made."""
    return f"{_prefixed(PARTIAL, installation)}{uuid.uuid4().hex[:16]}"


def scratch(installation: str) -> str:
    """Return a fresh name for a scratch database, which is made to compare schemas."""
    return f"{_prefixed(SCRATCH, installation)}{uuid.uuid4().hex[:16]}"


def installation_in(found: str) -> str | None:
    """Return the installation's mark in the name of a database or login; None for a name that is not ours.

    Names made before version 0.4 have no mark: the answer is an empty text.
    """
    planned, beside = _PLANNED.fullmatch(found), _BESIDE.fullmatch(found)
    if planned is not None:
        return planned[2] or ""
    return None if beside is None else beside[1] or ""


def is_of(installation: str, found: str) -> bool:
    """Return whether a database or login is this installation's, or older than the marks in names."""
    return installation_in(found) in ("", installation)


def is_tenants_login(found: str) -> bool:
    """Return whether a name is that of a login that serves tenants, of any installation."""
    planned = planned_in(found)
    return found.startswith(SHARED_LOGIN) or (planned is not None and not planned[2])


def _matching(pattern: re.Pattern[str], text: str, rule: str, field: str) -> str:
    if not pattern.fullmatch(text):
        raise ConfigurationError(rule, field=field)
    return text


def _prefixed(beginning: str, installation: str) -> str:
    return f"{beginning}{installation}_" if installation else beginning


def sqlite_file(owner: int | None, epoch: int = 1) -> str:
    """Return the file name of a user's SQLite database; from the second one on it contains the epoch."""
    later = "" if epoch == 1 else f"_{epoch}"
    return f"user_{user_id(owner)}{later}.db"


def sqlite_file_in(found: str) -> tuple[str, int, str] | None:
    """Parse the name of a database file or of a file beside it: the database's name, its user and any suffix."""
    matched = _FILE.fullmatch(found)
    return None if matched is None else (matched[1], int(matched[2]), matched[3] or "")


def draft_in(rest: str) -> tuple[uuid.UUID, int] | None:
    """Parse the suffix of a file that is being made (``.new``) or removed (``.gone``) into tenant and attempt."""
    matched = _DRAFT.fullmatch(rest)
    return None if matched is None else (uuid.UUID(matched[1]), int(matched[2]))


def restore_point(text: str) -> str:
    """Return the name of a restore point, short enough to be appended to a database's name, or refuse it."""
    rule = "a restore point's name starts with a letter and holds at most 10 of a-z and 0-9."
    return _matching(_POINT, text, rule, "point")


def point_database(name: str, point: str) -> str:
    """Return the name of the database that holds a restore point: at most 59 characters, PostgreSQL allows 63."""
    return f"{database(name)}_{restore_point(point)}"


def point_in(name: str, found: str) -> str:
    """Return the restore point that the database ``found`` belongs to; an empty text if it is none of ``name``."""
    matched = re.fullmatch(rf"{re.escape(name)}_({_POINT.pattern})(_new|_back|_old)?", found)
    return matched[1] if matched else ""


def point_file(database: str, tenant_id: uuid.UUID, point: str) -> str:
    """Return the file name of a restore point; the tenant's id tells it from points of the user's earlier databases."""
    return f"{database}.{tenant_id.hex}.{restore_point(point)}"
