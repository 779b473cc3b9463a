"""Help to test engines, provisioning and migrations: small applications, child processes that are killed, clocks."""

from __future__ import annotations

import os
import pickle
import signal
import tempfile
import textwrap
import threading
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from tenancy import TenantManager
from tenancy.backends import Backends
from tenancy.catalog import Catalog, runs, servers, tenants, users
from tenancy.catalog.claims import take
from tenancy.catalog.runs import ItemState, Rules, RunState, Selection
from tenancy.catalog.tables import claims, user_database_configs, users as user_rows
from tenancy.credentials.keyring import Keyring, generate_key
from tenancy.lifecycle.upgrade import Upgrade
from tenancy.manager import Options
from tenancy.models import Server, ServerState, Tenant, TenantSchema
from tenancy.routing.engines import EngineCache
from tenancy.types import new_id

if TYPE_CHECKING:
    from compose import Parts

PROJECT = Path(__file__).resolve().parents[2]
NOBODY = 65534
PATIENCE_S = 20.0
"""How long a test waits for another thread before it says that something hangs."""


class Clock:
    """Be a clock that only the test moves."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Stopped(Exception):  # noqa: N818 - stands for a machine that stops, which is no error of the code's
    """Stand for whatever can go wrong at a step."""


class FaultAt:
    """Be a step hook that raises at the n-th step it hears of, and remembers all of them."""

    def __init__(self, position: int | None = None) -> None:
        self.position = position
        self.seen: list[str] = []

    def __call__(self, name: str) -> None:
        self.seen.append(name)
        if len(self.seen) == self.position:
            raise Stopped(name)


class SignalAt(FaultAt):
    """Be a step hook that sends this process a signal at the n-th step."""

    def __init__(self, position: int, number: int) -> None:
        super().__init__(position)
        self.number = number

    def __call__(self, name: str) -> None:
        self.seen.append(name)
        if len(self.seen) == self.position:
            os.kill(os.getpid(), self.number)


# --- tenants --------------------------------------------------------------------------------------------


def add_users(parts: Parts | TenantManager, number: int) -> list[int]:
    """Make accounts without passwords, and no databases."""
    with parts.catalog.writing() as connection:
        first = users.count(connection)
        return [
            users.add(connection, f"user{first + n}@example.org", f"User {first + n}", None, False).id
            for n in range(number)
        ]


def add_tenants(parts: Parts, number: int) -> list[int]:
    """Make accounts with a database each."""
    ids = add_users(parts, number)
    for user_id in ids:
        parts.manager.provision(user_id)
    return ids


def add_task(manager: TenantManager, user_id: int, title: str) -> None:
    manager.execute_update(
        "INSERT INTO tasks (id, user_id, title) VALUES (?, ?, ?)", (new_id().hex, user_id, title), user_id=user_id
    )


def titles(manager: TenantManager, user_id: int) -> list[str]:
    return [row[0] for row in manager.fetch_all("SELECT title FROM tasks ORDER BY title", user_id=user_id)]


def tenant_of(manager: TenantManager, user_id: int) -> Tenant | None:
    """Give a user's configuration as the catalog has it now."""
    with manager.catalog.reading() as connection:
        return tenants.find(connection, user_id)


def change_config(manager: TenantManager, user_id: int, **changes: Any) -> None:
    """Edit a configuration in the catalog, as an operator or an attacker would."""
    with manager.catalog.writing() as connection:
        tenants.change(connection, tenants.get(connection, user_id), **changes)


def set_back(manager: TenantManager, ids: Iterable[int], revision: str = "0001") -> None:
    """Take tenants back to an earlier revision, as a restored backup or a rolled back run leaves them."""
    for user_id in ids:
        with manager.catalog.writing() as connection:
            tenant = tenants.get(connection, user_id)
            claim = take(manager.catalog, connection, tenant.tenant_id, "test", 60.0, least=tenant.epoch + 1)
        reached = Upgrade(manager.services).migrate_to(tenant, claim, manager.backends.get(tenant.db_type), revision)
        stands = {"revision": revision, "schema_fingerprint": manager.chain.fingerprints[revision]}
        with claim.ending() as connection:
            tenants.change(connection, tenant, **stands, epoch=reached.epoch, version=tenant.version + 1)
    manager.engines.close()


def keep_runs(manager: TenantManager, ids: list[int]) -> list[int]:
    """Leave fleet runs behind: one that is done, one in which a tenant failed, and one that nobody works on yet."""
    half = len(ids) // 2
    set_back(manager, ids)
    done = manager.fleet.start(Selection(tuple(ids[:half])), Rules())
    manager.fleet.work(done.id)
    failed = manager.fleet.start(Selection(tuple(ids[half:])), Rules())
    manager.fleet.work(failed.id)
    told = {"error": "the version table says 0001, the ledger None: see its backup.", "error_code": "migration_failed"}
    with manager.catalog.writing() as connection:
        runs.change_items(connection, failed.id, [{"user_id": ids[-1], "state": ItemState.FAILED} | told])
        runs.change(connection, failed.id, RunState.INCOMPLETE)
    change_config(manager, ids[-1], last_error=told["error"], last_error_code=told["error_code"])
    set_back(manager, ids[half:])
    running = manager.fleet.start(Selection(), Rules(canary=1, waves=(10.0, 100.0), halt_after=5, halt_percent=True))
    return [done.id, failed.id, running.id]


def expire_claims(manager: TenantManager) -> None:
    """Let the catalog's clock pass every claim's expiry."""
    long_ago = datetime.now(UTC) - timedelta(days=1)
    with manager.catalog.writing() as connection:
        connection.execute(claims.update().where(claims.c.expires_at.is_not(None)), {"expires_at": long_ago})


def audit_actions(manager: TenantManager) -> list[str]:
    with manager.catalog.reading() as connection:
        return [row[0] for row in connection.exec_driver_sql("SELECT action FROM audit_log ORDER BY id")]


def cache_over(
    manager: TenantManager, size: int = 8, *, limit: int | None = None, clock: Callable[[], float] | None = None
) -> EngineCache:
    """Make an engine cache of other measures over a manager's tenants."""
    more: dict[str, Any] = {} if clock is None else {"clock": clock}
    return EngineCache(size, manager.services.serving, manager.backends.get, lambda: manager.head, limit, **more)


@contextmanager
def lease(cache: EngineCache, tenant: Tenant) -> Iterator[sa.Engine]:
    """Lease a tenant's engine for the block."""
    with cache.leased(cache.acquire(tenant)) as entry:
        yield entry.engine


def read_one(engine: sa.Engine) -> int:
    """Open a connection and ask it something."""
    with engine.connect().execution_options(tenancy_write=False) as connection:
        return int(connection.execute(sa.text("SELECT count(*) FROM tasks")).scalar_one())


def keep_server(manager: TenantManager, name: str) -> None:
    """Write a registered server into the catalog, whether or not one answers there (nothing listens on port 1)."""
    place = {"db_type": "postgresql", "db_host": "127.0.0.1", "db_port": 1, "db_user": "root", "db_options": None}
    rest = {"max_tenants": None, "weight": 1}
    planned = Server(0, name, **place, **rest, sealed_password="", state=ServerState.ACCEPTING)  # type: ignore[arg-type]  # by name
    with manager.catalog.writing() as connection:
        sealed = manager.keyring.seal("secret", planned.binding)
        servers.add(connection, name, db_password=sealed, **place, **rest)


def keep_configs(manager: TenantManager, number: int, **fields: Any) -> list[int]:
    """Write accounts with configurations into the catalog, without databases: what only the catalog is asked of."""
    moment = datetime.now(UTC)
    shared = {"db_type": "postgresql", "state": "ready", "version": 1, "epoch": 1, "revision": "0001"}
    moments = {"created_at": moment, "updated_at": moment}
    with manager.catalog.writing() as connection:
        first = users.count(connection) + 1
        ids = list(range(first, first + number))
        people = [(user_id, f"user{user_id}@example.org") for user_id in ids]
        connection.execute(
            user_rows.insert(),
            [{"id": n, "email": e, "email_key": e, "display_name": "Somebody"} | moments for n, e in people],
        )
        rows = [{"user_id": n, "tenant_id": new_id(), **shared, **fields} | moments for n in ids]
        connection.execute(user_database_configs.insert(), rows)
    return ids


def steps_of(connection: sa.Connection, work: Callable[[], Any]) -> int:
    """Count the instructions that SQLite's machine takes over a work, in tens: how much is read, on any computer."""
    driver = connection.connection.driver_connection
    assert driver is not None
    taken = 0

    def one() -> int:
        nonlocal taken
        taken += 1
        return 0

    driver.set_progress_handler(one, 10)
    try:
        work()
    finally:
        driver.set_progress_handler(None, 10)
    return taken


# --- small applications ---------------------------------------------------------------------------------


def revision(folder: Path, name: str, down: str | None, upgrade: str = "pass", downgrade: str = "pass") -> Path:
    """Write one revision file; ``upgrade`` and ``downgrade`` are bodies of functions."""
    versions = folder / "versions"
    versions.mkdir(parents=True, exist_ok=True)
    path = versions / f"{name}.py"
    body = [textwrap.indent(textwrap.dedent(text).strip(), "    ") for text in (upgrade, downgrade)]
    path.write_text(
        "import sqlalchemy as sa\nfrom alembic import op\n\n"
        f"revision = {name!r}\ndown_revision = {down!r}\n\n\n"
        f"def upgrade():\n{body[0]}\n\n\ndef downgrade():\n{body[1]}\n"
    )
    return path


def small_manager(
    folder: Path, migrations: Path, *, app_version: str = "1.0", metadata: sa.MetaData | None = None
) -> TenantManager:
    """Make another application's manager: its own chain, over a catalog in ``folder``."""
    url = f"sqlite:///{folder / 'admin.db'}"
    backends = Backends(folder / "users")
    catalog = Catalog(backends.for_url(url, "ADMIN_DATABASE_URL").catalog_engine(url), "k" * 48)
    manager = TenantManager(
        catalog,
        backends,
        TenantSchema(metadata or sa.MetaData(), migrations, lambda user_id: [], app_version),
        Keyring([generate_key()]),
        Options(),
    )
    manager.prepare_catalog()
    return manager


# --- threads and processes ------------------------------------------------------------------------------


def together(works: Iterable[Callable[[], Any]]) -> list[Any]:
    """Run each work in a thread of its own, begun at once; give what each returned or raised, in order."""
    works = list(works)
    start = threading.Barrier(len(works))
    results: list[Any] = [None] * len(works)

    def run(position: int, work: Callable[[], Any]) -> None:
        try:
            start.wait(PATIENCE_S)
            results[position] = work()
        except Exception as error:  # noqa: BLE001 - what went wrong is a result here
            results[position] = error

    threads = [threading.Thread(target=run, args=pair, daemon=True) for pair in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S * 3)
        assert not thread.is_alive(), "a thread hangs"
    return results


@dataclass
class Child:
    """Hold a forked child: ``result()`` waits for its end, and gives what its work returned or raises its error."""

    pid: int
    answer: int

    def stopped(self) -> None:
        """Wait until the child has stopped itself (SIGSTOP)."""
        _, status = os.waitpid(self.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status), "the child ended instead of stopping"

    def wake(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def killed(self) -> bool:
        """Wait for the end; say whether the child was killed."""
        _, status = os.waitpid(self.pid, 0)
        os.close(self.answer)
        return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def result_unless_killed(self) -> Any:
        """Do as ``result``, but return None if the child was killed before it had one."""
        with os.fdopen(self.answer, "rb") as stream:
            answer = stream.read()
        os.waitpid(self.pid, 0)
        if not answer:
            return None
        ok, value = pickle.loads(answer)
        if not ok:
            raise AssertionError(f"in the child:\n{value}")
        return value

    def result(self) -> Any:
        with os.fdopen(self.answer, "rb") as stream:
            answer = stream.read()
        os.waitpid(self.pid, 0)
        assert answer, "the child was killed"
        ok, value = pickle.loads(answer)
        if not ok:
            raise AssertionError(f"in the child:\n{value}")
        return value


def forked(work: Callable[[], Any]) -> Child:
    """Run a work in a forked child process; what it returns must be picklable."""
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # 3.12 warns where pytest-xdist's threads are about
        pid = os.fork()
    if pid:
        os.close(writer)
        return Child(pid, reader)
    status = 1
    try:
        os.close(reader)
        try:
            answer = (True, work())
        except BaseException:  # noqa: BLE001 - it is told to the parent
            answer = (False, traceback.format_exc())
        with os.fdopen(writer, "wb") as stream:
            stream.write(pickle.dumps(answer))
        status = 0
    finally:
        os._exit(status)  # a test's own clean-up belongs to the parent alone


def in_child(work: Callable[[], Any]) -> Any:
    return forked(work).result()


def unprivileged(folder: Path, work: Callable[[], Any]) -> Any:
    """Run a work in a forked child that may not do everything: as nobody where the tests run as root.

    What it imports must have been imported before: the interpreter may stand where nobody but root can read.
    """
    for parent in folder.parents:
        if Path(tempfile.gettempdir()) in parent.parents:
            parent.chmod(0o711)

    def as_nobody() -> Any:
        if os.getuid() == 0:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
        return work()

    return in_child(as_nobody)


class Gate:
    """Let forked children begin together: each waits until the parent opens."""

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()

    def wait(self) -> None:
        os.close(self._writer)
        os.read(self._reader, 1)  # ends when nobody can write any more: the parent has opened

    def open(self) -> None:
        os.close(self._writer)
        os.close(self._reader)


def named(error: BaseException) -> str:
    """Give an error in a form that passes from process to process."""
    return type(error).__name__
