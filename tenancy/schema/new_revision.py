"""Make the next revision of a chain from the models, try it on a scratch database, and write its file.

``autogenerate.py`` words it, ``compatibility.py`` says whether it is destructive. Neither a tenant nor the catalog is
touched.
"""

from __future__ import annotations

import re
import shutil
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import sqlalchemy as sa

from tenancy.errors import ConfigurationError, MigrationError
from tenancy.schema.autogenerate import Draft, draft
from tenancy.schema.chain import Chain, checksum
from tenancy.schema.compatibility import breaks
from tenancy.schema.describe import described

MESSAGE_MAX = 100
SLUG_MAX = 40

_MIND = """Where a database commits each DDL statement by itself (MySQL) a run that was
cut off begins again here, so what stands already is passed over: keep it so in what you add. How long a statement may
wait for a lock, or take, is set by the code that runs revisions."""

Tidy = Callable[[Path, str], str]
"""Lay a file's text out, given where it will stand."""


@dataclass(frozen=True)
class Written:
    """Say what was made; ``breaks`` is what makes it destructive, ``look_at`` what its writer should read again."""

    revision: str
    path: Path
    checksum: str
    destructive: bool
    breaks: list[str] = field(default_factory=list)
    look_at: list[str] = field(default_factory=list)


def new_revision(chain: Chain, metadata: sa.MetaData, message: str, *, tidy: Tidy = lambda path, text: text) -> Written:
    """Write the revision that brings the chain's tables to the models; a file that is there is never overwritten."""
    message = _message(message)
    last = chain.head if chain.checksums else None
    revision = _next(chain, last)
    path = chain.folder / "versions" / f"{revision}_{_slug(message)}.py"
    with _scratch(chain) as connection:
        drafted = draft(chain, connection, metadata)
    if drafted is None:
        raise MigrationError(f"the models and the chain agree at {last}: change the models first.", revision=last)
    broken = _tried(chain, drafted, metadata, (revision, last))
    if any(line.startswith("drops") for line in broken):
        drafted.look_at.append(
            "what the downgrade makes again was read back from SQLite: compare it with its revision."
        )
    text = tidy(path, drafted.text(_head(message, revision, last), revision, last, destructive=bool(broken)))
    content = text.encode()
    _write(path, content)
    return Written(revision, path, checksum(content), bool(broken), broken, drafted.look_at)


def _message(message: str) -> str:
    """Refuse what makes no sentence at the top of a file, and no name for it."""
    message = " ".join(message.split(" ")).strip()
    if not message:
        raise ConfigurationError("say in a few words what the revision does.", field="message")
    if len(message) > MESSAGE_MAX:
        raise ConfigurationError(f"the message has {len(message)} characters, over {MESSAGE_MAX}.", field="message")
    odd = sorted({character for character in message if not re.fullmatch(r"[\w .,:;()/+&'-]", character)})
    if odd:
        raise ConfigurationError(
            f"the message holds {', '.join(map(repr, odd))}: letters, digits, spaces and .,:;()/+&'- are taken.",
            field="message",
        )
    if not _slug(message):
        raise ConfigurationError(
            "the message needs a letter from a to z or a digit, for the file's name.", field="message"
        )
    return message


def _slug(message: str) -> str:
    plain = unicodedata.normalize("NFKD", message).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "_", plain)[:SLUG_MAX].strip("_")


def _next(chain: Chain, last: str | None) -> str:
    """Number the revision after the last one, or by how many there are where they have no numbers."""
    if last is not None and last.isascii() and last.isdigit():
        return f"{int(last) + 1:0{len(last)}}"
    return f"{len(chain.checksums) + 1:04}"


def _head(message: str, revision: str, last: str | None) -> str:
    after = f"after {last}" if last else "the first"
    return f"{message[0].upper()}{message[1:].rstrip('.')}.\n\nRevision {revision}, {after}. {_MIND}\n"


@contextmanager
def _scratch(chain: Chain) -> Iterator[sa.Connection]:
    """Make the chain's tables in memory."""
    engine = sa.create_engine("sqlite://")
    try:
        with engine.connect() as connection:
            if chain.checksums:
                chain.upgrade(connection, transactional_ddl=True)
            yield connection
    finally:
        engine.dispose()


def _tried(chain: Chain, drafted: Draft, metadata: sa.MetaData, names: tuple[str, str | None]) -> list[str]:
    """Run the draft up, down and up again beside the chain; give what it breaks, and note what it leaves undone."""
    revision, last = names
    with TemporaryDirectory() as folder:
        versions = Path(folder) / "versions"
        shutil.copytree(chain.folder / "versions", versions, ignore=shutil.ignore_patterns("__pycache__"))
        text = drafted.text("A draft.", revision, last, destructive=False)
        (versions / f"{revision}.py").write_text(text, encoding="utf-8")
        trial = Chain(Path(folder), chain.version_table)
        with _scratch(chain) as connection:
            before = described(connection)
            trial.upgrade(connection, transactional_ddl=True)
            after = described(connection)
            connection.rollback()
            trial.downgrade(connection, last or "base", transactional_ddl=True)
            if breaks(before, described(connection)):
                drafted.look_at.append("the downgrade does not bring back the tables of before.")
            trial.upgrade(connection, transactional_ddl=True)
            if draft(trial, connection, metadata) is not None:
                drafted.look_at.append("the models differ still from what the revision makes.")
    return breaks(before, after)


def _write(path: Path, content: bytes) -> None:
    try:
        with path.open("xb") as file:
            file.write(content)
    except FileExistsError:
        raise MigrationError(f"{path.name} is there already: it is not overwritten.", path=str(path)) from None
