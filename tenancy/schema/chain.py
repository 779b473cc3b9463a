"""Run a chain of Alembic revisions on a connection, each in its own transaction together with its ledger row.

Alembic's ``op`` is a module global, so a lock allows one migration at a time in a process. The scripts are read once
per chain. Alembic is imported on first use, because the import is slow and most commands migrate nothing.
"""

from __future__ import annotations

import hashlib
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from copy import copy
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from tenancy.errors import MigrationError, RevisionMismatchError, TenancyError

if TYPE_CHECKING:
    from alembic.migration import MigrationContext
    from alembic.script import ScriptDirectory

_one_at_a_time = threading.Lock()

OnApply = Callable[[sa.Connection, str, str, str, int], None]
"""Called before a revision commits: connection, revision, direction, checksum, duration in milliseconds."""


class Chain:
    """Read a folder of revisions and apply them; two chains can share a database by their ``version_table``.

    ``argument`` is the caller's name for the folder in error messages.
    """

    def __init__(self, folder: Path, version_table: str, *, argument: str = "Chain(folder)") -> None:
        self.folder = Path(folder)
        self.version_table = version_table
        self.argument = argument
        self._contexts: dict[str, MigrationContext] = {}

    @cached_property
    def _scripts(self) -> ScriptDirectory:
        from alembic.script import ScriptDirectory  # slow: see the module's docstring

        versions = self.folder.absolute() / "versions"
        if not versions.is_dir():
            raise self._unreadable(f"it has no folder versions: make {versions}, or name the folder that has it.")
        try:
            scripts = ScriptDirectory(str(self.folder))
            read = {Path(script.path).name for script in scripts.walk_revisions()}
        except Exception as error:
            raise self._unreadable(f"its revisions cannot be read: {_error_text(error)}") from error
        doubled = {path.name for path in versions.glob("*.py")} - read - {"__init__.py"}
        if doubled:
            raise self._unreadable(f"versions/{min(doubled)} has the revision of another file: give it its own.")
        return scripts

    def _unreadable(self, why: str) -> MigrationError:
        return MigrationError(f"{self.argument} is {self.folder.absolute()}: {why}", folder=str(self.folder))

    @cached_property
    def head(self) -> str:
        """The newest revision; raise MigrationError if the chain has none, or more than one head."""
        heads = self._scripts.get_heads()
        if not heads:
            raise self._unreadable(
                "its folder versions is empty: `fleet.revisions.new_revision()` writes the first one."
            )
        if len(heads) != 1:
            raise MigrationError(f"the chain in {self.folder.name} has {len(heads)} heads: merge them.", heads=heads)
        return heads[0]

    @cached_property
    def checksums(self) -> dict[str, str]:
        """The SHA-256 of each revision's file, oldest first, whatever its line endings."""
        scripts = reversed(list(self._scripts.walk_revisions()))
        return {script.revision: checksum(Path(script.path).read_bytes()) for script in scripts}

    @cached_property
    def fingerprints(self) -> dict[str, str]:
        """A hash of the schema at each revision, oldest first: over the files of all revisions up to it."""
        history, found = "", {}
        for revision, digest in self.checksums.items():
            history += f"{revision}:{digest};"
            found[revision] = hashlib.sha256(history.encode()).hexdigest()
        return found

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the schema at head."""
        return self.fingerprints[self.head]

    def between(self, here: str | None, target: str) -> list[str]:
        """List the revisions from one (exclusive) to another: oldest first going forward, newest first going back."""
        order = list(self.checksums)
        first, last = (-1 if here is None else order.index(here)), order.index(target)
        return order[first + 1 : last + 1] if last >= first else order[last + 1 : first + 1][::-1]

    def usable_from(self, revision: str | None) -> str | None:
        """Return the oldest revision whose code can use a database at this one: back to the last destructive one."""
        if revision is None or not self.knows(revision):
            return None
        order = list(self.checksums)
        place = order.index(revision)
        while place and not self.is_destructive(order[place]):
            place -= 1
        return order[place]

    def serves(self, revision: str | None, usable_from: str | None) -> bool:
        """Return whether this code can use a database: it is at head, or newer code migrated it compatibly."""
        newer = revision is not None and not self.knows(revision)
        return revision == self.head or (newer and usable_from is not None and self.knows(usable_from))

    def is_destructive(self, revision: str) -> bool:
        """Return whether a revision loses what its downgrade cannot restore (``destructive = True`` in its file)."""
        return bool(getattr(self._scripts.get_revision(revision).module, "destructive", False))

    @cached_property
    def _versions(self) -> sa.Table:
        return sa.Table(self.version_table, sa.MetaData(), sa.Column("version_num", sa.String(32), primary_key=True))

    @cached_property
    def _current(self) -> sa.Select[Any]:
        return sa.select(self._versions.c.version_num)

    def current(self, connection: sa.Connection) -> str | None:
        """Return a database's revision; None if nothing was ever applied."""
        try:
            found = connection.execute(self._current).scalars().all()
        except sa.exc.DBAPIError:
            connection.rollback()
            if not sa.inspect(connection).has_table(self.version_table):
                return None
            found = connection.execute(self._current).scalars().all()  # it was created meanwhile, or it is broken
        if len(found) > 1:
            raise RevisionMismatchError(f"the version table names {len(found)} revisions.", revisions=list(found))
        return str(found[0]) if found else None

    def knows(self, revision: str) -> bool:
        return revision in self.checksums

    def upgrade(
        self,
        connection: sa.Connection,
        *,
        transactional_ddl: bool,
        on_apply: OnApply | None = None,
        target: str = "head",
        at_once: bool = False,
    ) -> list[str]:
        """Migrate a database forward; return the revisions applied, oldest first.

        With ``at_once`` all of them run in one transaction, so no other process can come in between.
        """
        here = self.current(connection)
        connection.rollback()
        if here is not None and not self.knows(here):
            raise RevisionMismatchError(
                f"the database is at revision {here}, which this version of the application does not know.",
                revision=here,
            )
        return self._run(
            connection,
            lambda heads: self._scripts._upgrade_revs(target, heads),  # private, as below
            transactional_ddl,
            on_apply,
            at_once=at_once,
        )

    def downgrade(
        self, connection: sa.Connection, target: str, *, transactional_ddl: bool, on_apply: OnApply | None = None
    ) -> list[str]:
        """Migrate a database back; return the revisions undone, newest first."""
        return self._run(
            connection, lambda heads: self._scripts._downgrade_revs(target, heads), transactional_ddl, on_apply
        )

    def migrate(
        self,
        connection: sa.Connection,
        here: str | None,
        target: str,
        *,
        transactional_ddl: bool,
        on_begin: Callable[[], None],
        on_apply: OnApply,
    ) -> list[str]:
        """Migrate a database from revision ``here``, forward or back; return the revisions applied or undone.

        Each revision's transaction begins with ``on_begin`` and ends with ``on_apply``.
        """
        if here == target:
            return []
        back = here is not None and here in self.between(here, target)
        # Private to Alembic, whose public commands load env.py and the scripts again for each database (P6).
        way = self._scripts._downgrade_revs if back else self._scripts._upgrade_revs

        def steps(heads: Any) -> Iterator[Any]:
            for step in way(target, heads):
                step.migration_fn = _after(on_begin, step.migration_fn)
                yield step

        return self._run(connection, steps, transactional_ddl, on_apply, here=here)

    def _context(self, connection: sa.Connection, opts: dict[str, Any]) -> MigrationContext:
        """Return Alembic's context for one run: a copy of one that is made once for each product.

        Making a context makes its version table too, a seventh of what a tenant costs in a fleet run (P6). The one that
        is copied knows no connection: were a part of it not replaced below, the run would fail and not reach another
        tenant's database.
        """
        from alembic.migration import MigrationContext  # slow: see the module's docstring

        name = connection.dialect.name
        if name not in self._contexts:
            opts_of_all = {"version_table": self.version_table}
            self._contexts[name] = MigrationContext.configure(dialect=connection.dialect, opts=opts_of_all)
        context, impl = copy(self._contexts[name]), copy(self._contexts[name].impl)
        context.connection = impl.connection = connection
        context.dialect = impl.dialect = connection.dialect
        context.opts = impl.context_opts = opts
        context.impl, impl.memo = impl, {}
        context.script, context._migrations_fn = opts["script"], opts["fn"]
        context.on_version_apply_callbacks = opts["on_version_apply"]
        context._transaction_per_migration = opts["transaction_per_migration"]
        context.transactional_ddl = impl.transactional_ddl = opts["transactional_ddl"]
        context._in_external_transaction = connection.in_transaction()
        return context

    def _run(
        self,
        connection: sa.Connection,
        steps: Callable[[Any], Iterable[Any]],
        transactional_ddl: bool,
        on_apply: OnApply | None,
        *,
        here: str | None = None,
        at_once: bool = False,
    ) -> list[str]:
        """Run Alembic's steps; ``here`` is the database's revision if the caller has just read it."""
        from alembic.operations import Operations  # slow: see the module's docstring

        done: list[str] = []
        started = time.perf_counter()

        def applied(step: Any, **_: object) -> None:
            nonlocal started
            revision = str(step.up_revision_id)
            took_ms = round((time.perf_counter() - started) * 1000)
            if on_apply is not None:
                direction = "upgrade" if step.is_upgrade else "downgrade"
                on_apply(connection, revision, direction, self.checksums[revision], took_ms)
            done.append(revision)
            started = time.perf_counter()

        with _one_at_a_time:
            opts = {
                "fn": lambda heads, _: steps(heads),
                "script": self._scripts,
                "version_table": self.version_table,
                "transaction_per_migration": not at_once,
                "transactional_ddl": transactional_ddl,
                "on_version_apply": (applied,),
            }
            context = self._context(connection, opts)
            if here is not None:  # else each database is asked again, by statements compiled anew
                context.get_current_heads = lambda: (here,)  # type: ignore[method-assign]  # each step compares it
            try:
                with Operations.context(context), context.begin_transaction():
                    context.run_migrations()
            except TenancyError:
                raise
            except Exception as error:
                raise MigrationError(
                    f"a revision after {done[-1] if done else 'the current one'} failed: {_first_line(error)}",
                    applied=[] if at_once else done,
                ) from error
        return done


def checksum(text: bytes) -> str:
    """Return the SHA-256 of a revision's file, whatever its line endings."""
    return hashlib.sha256(text.replace(b"\r\n", b"\n")).hexdigest()


def _after(first: Callable[[], None], then: Callable[..., None]) -> Callable[..., None]:
    def both(**given: Any) -> None:
        first()
        then(**given)

    return both


def run_under_alembic(metadata: sa.MetaData, version_table: str) -> None:
    """Run a chain under the plain `alembic` command, for people who write revisions; called by ``env.py``.

    The connection is ``config.attributes["connection"]``, or one to ``-x url=...``.
    """
    from alembic import context  # works only while the command runs
    from alembic.util import CommandError

    def ours(name: str | None, kind: str, parents: object) -> bool:
        """Ignore tables of others: tenancy's own, and those of another chain in the same database."""
        return kind != "table" or name in metadata.tables

    def run(connection: sa.Connection) -> None:
        context.configure(
            connection=connection,
            target_metadata=metadata,
            version_table=version_table,
            transaction_per_migration=True,
            include_name=ours,
        )
        with context.begin_transaction():
            context.run_migrations()

    given = context.config.attributes.get("connection")
    if given is not None:
        return run(given)
    url = context.get_x_argument(as_dictionary=True).get("url")
    if not isinstance(url, str):
        raise CommandError("say which database: alembic -x url=sqlite:///scratch.db ...")
    with sa.create_engine(url).connect() as opened:
        run(opened)


def _error_text(error: Exception) -> str:
    """Describe an error raised by a revision's file, with its line; Alembic's own errors are sentences already."""
    from alembic.util import CommandError  # slow: see the module's docstring

    if isinstance(error, CommandError):
        return _first_line(error)
    frames = traceback.extract_tb(error.__traceback__)
    inside = [frame for frame in frames if Path(frame.filename).parent.name == "versions"]
    if isinstance(error, KeyError) and not inside:
        return f"no file has the revision {error}, which another names as its down_revision."
    place = f"{Path(inside[-1].filename).name}, line {inside[-1].lineno}: " if inside else ""
    return f"{place}{type(error).__name__}: {_first_line(error)}"


def _first_line(error: BaseException) -> str:
    """Return the driver's message without the statement and its values."""
    return str(getattr(error, "orig", error)).partition("\n")[0][:300]
