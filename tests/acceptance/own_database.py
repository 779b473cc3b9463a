"""Connect databases of users' own while they write: no acknowledged row is lost, and a refusal changes nothing.

    python -m tests.acceptance.own_database --product postgresql --rounds 20

In each round the connection to the new database is frozen at another message while somebody writes a row to the present
one; writing goes on until the user's rows are in the one database or the other. Every row that was acknowledged has to
be there afterwards. Then databases are named that cannot be used, each kind in turn: what the user had is compared with
what it was before.
"""

from __future__ import annotations

import argparse
import json
import secrets
import socket
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass, replace

from bench.world import World, folder, progress, world
from tenancy.backends.base import DatabaseFields
from tenancy.backends.server.sql import run
from tenancy.errors import TenancyError
from tenancy.types import new_id
from tests.acceptance.proxy import Freezer
from tests.support import engines

INSERT = "INSERT INTO tasks (id, user_id, title) VALUES (?, ?, ?)"
TITLES = "SELECT title FROM tasks"
AFTERWARDS = 2


@dataclass(frozen=True)
class Report:
    """Say what became of the rows, and what refusals changed."""

    rounds: int
    connected: int
    not_connected: dict[str, int]
    acknowledged_rows: int
    lost_rows: int
    refusals: dict[str, int]
    accepted: list[str]
    changed_by_a_refusal: list[str]
    examples: list[str]

    @property
    def clean(self) -> bool:
        return not (self.lost_rows or self.accepted or self.changed_by_a_refusal)


class Scene:
    """Hold an installation whose users may bring databases, and the way to a server where those stand."""

    def __init__(self, here: World, product: str, freezer: Freezer) -> None:
        self.here, self.product, self.freezer = here, product, freezer
        self.manager = here.parts.manager
        self.names: list[str] = []

    def user(self) -> int:
        """Make an account whose database is a file."""
        user_id = self.here.parts.accounts.create(f"{secrets.token_hex(6)}@example.org").id
        self.manager.provision(user_id)
        return user_id

    def fields(self, **other: object) -> DatabaseFields:
        address = engines.server_address(self.product)
        assert address is not None
        self.names.append(f"unify_test_{secrets.token_hex(8)}")
        named = DatabaseFields(
            self.product,
            db_host="127.0.0.1",
            db_port=self.freezer.port,
            db_name=self.names[-1],
            db_user=address.username,
            db_password=str(address.password or ""),
        )
        return replace(named, **other)  # type: ignore[arg-type]  # by name

    def write(self, user_id: int, title: str) -> bool:
        """Write a row; say whether that was acknowledged."""
        try:
            self.manager.execute_update(INSERT, (new_id().hex, user_id, title), user_id=user_id)
        except TenancyError:
            return False
        return True

    def titles(self, user_id: int) -> set[str]:
        return {row[0] for row in self.manager.fetch_all(TITLES, user_id=user_id)}


# --- under a writer ------------------------------------------------------------------------------------------------


def _round(scene: Scene, at: int) -> tuple[str, set[str], set[str]]:
    """Connect a database, frozen at a message; give how that ended, what was acknowledged, and what is there."""
    user_id, fields, freezer = scene.user(), scene.fields(), scene.freezer
    acknowledged: set[str] = set()
    over, tried = threading.Event(), threading.Event()

    def write_on() -> None:
        number, left = 0, AFTERWARDS
        while left:
            left -= over.is_set()
            number += 1
            if scene.write(user_id, f"row {number}"):
                acknowledged.add(f"row {number}")
            tried.set()

    freezer.arm(at)
    with ThreadPoolExecutor(2) as threads:
        connecting = threads.submit(_outcome, scene, user_id, fields)
        connecting.add_done_callback(lambda _: freezer.settled.set())
        freezer.settled.wait()
        writing = threads.submit(write_on)
        tried.wait(1.0)  # a write that waits for the one who connects must not keep that one waiting
        freezer.thaw()
        outcome = connecting.result()
        over.set()
        writing.result()
    return outcome, acknowledged, scene.titles(user_id)


def _outcome(scene: Scene, user_id: int, fields: DatabaseFields) -> str:
    try:
        scene.manager.own_databases.connect(user_id, fields)
    except TenancyError as error:
        return error.code
    return "connected"


def _messages(scene: Scene) -> int:
    """Count what the application says to a server when a database is connected."""
    scene.freezer.arm(None)
    user_id, fields = scene.user(), scene.fields()
    scene.manager.own_databases.connect(user_id, fields)
    return scene.freezer.seen


# --- what cannot be used -------------------------------------------------------------------------------------------


@contextmanager
def _unusable(scene: Scene) -> Iterator[dict[str, DatabaseFields]]:
    """Give databases that cannot be used, by what is wrong with them."""
    backend, login = engines.backend_of(scene.product), engines.server_login(scene.product)
    filled, closed = scene.fields(), scene.fields()
    poor = replace(login.into(closed.db_name), user=f"u{secrets.token_hex(6)}", password=secrets.token_urlsafe(24))
    with closing(backend.at_server(login)) as driver:
        for each in (filled, closed):
            backend.make_plain_database(driver, each.db_name or "")
        backend.make_login(driver, poor)
    with closing(backend.open(login.into(filled.db_name))) as driver:
        run(driver, "CREATE TABLE theirs (id INTEGER)")
        driver.commit()
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        closed_port = nobody.getsockname()[1]
    yield {
        "a login that may make no tables": replace(closed, db_user=poor.user, db_password=poor.password),
        "tables of others": filled,
        "no server": scene.fields(db_port=closed_port),
        "a host that is not allowed": scene.fields(db_host="198.51.100.7"),
        "an unknown login": scene.fields(db_user=f"nobody_{secrets.token_hex(4)}", db_password="no"),
        "a port that is none": scene.fields(db_port=0),
    }
    with closing(backend.at_server(login)) as driver:
        backend.drop_database(driver, closed.db_name or "")
        backend.drop_login(driver, poor.user)


def _refusals(scene: Scene, number: int) -> tuple[Counter[str], list[str], list[str]]:
    """Name unusable databases in turn; give codes, what was accepted all the same, and what was changed."""
    codes, accepted, changed = Counter[str](), [], []
    user_id = scene.user()
    with _unusable(scene) as kinds:
        for turn in range(number):
            name, fields = list(kinds.items())[turn % len(kinds)]
            before = _state(scene, user_id)
            code = _outcome(scene, user_id, fields)
            codes[f"{name}: {code}"] += 1
            accepted += [name] if code == "connected" else []
            if _state(scene, user_id) != before:
                changed.append(name)
                user_id = scene.user()
    return codes, accepted, changed


def _state(scene: Scene, user_id: int) -> object:
    """Give all that a user could notice of their database."""
    with suppress(TenancyError):
        file = scene.here.folder / "users" / f"user_{user_id}.db"
        return scene.manager.load_user_db_config(user_id), scene.titles(user_id), file.exists()
    return None


# --- all of it -----------------------------------------------------------------------------------------------------


def own_database(product: str = "postgresql", rounds: int = 20) -> Report:
    """Connect this many databases under a writer, at messages spread over the operation; then be refused as often."""
    address = engines.server_address(product)
    assert address is not None
    freezer = Freezer((address.host or "127.0.0.1", address.port or engines.backend_of(product).default_port))
    allowed = {"allow_user_databases": "true", "tenant_db_hosts_allowed": "127.0.0.1"}
    outcomes, written, lost = Counter[str](), 0, []
    with folder() as place, world(0, tenant_data_dir=place / "users", **allowed) as here:
        scene = Scene(replace(here, folder=place), product, freezer)
        try:
            messages = _messages(scene)
            for turn in range(rounds):
                at = 1 + turn * (messages - 1) // max(1, rounds - 1)
                outcome, acknowledged, there = _round(scene, at)
                outcomes[outcome] += 1
                written += len(acknowledged)
                lost += [f"frozen at message {at}: {title}" for title in sorted(acknowledged - there)]
                progress(f"round {turn + 1}, message {at} of {messages}: {outcome}, {len(lost)} lost so far")
            codes, accepted, changed = _refusals(scene, rounds)
        finally:
            _leave(scene)
    connected = outcomes.pop("connected", 0)
    return Report(
        rounds, connected, dict(outcomes), written, len(lost), dict(codes), accepted, changed, examples=lost[:5]
    )


def _leave(scene: Scene) -> None:
    """Drop what users' databases were made on the server; the folder goes by itself."""
    scene.freezer.close()
    scene.manager.engines.close()
    backend, login = engines.backend_of(scene.product), engines.server_login(scene.product)
    with closing(backend.at_server(login)) as driver:
        for name in scene.names:
            backend.drop_database(driver, name)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.acceptance.own_database", description=__doc__)
    parser.add_argument("--product", choices=("postgresql", "mysql"), default="postgresql")
    parser.add_argument("--rounds", type=int, default=20)
    report = own_database(**vars(parser.parse_args()))
    sys.stdout.write(json.dumps(asdict(report), indent=2) + "\n")
    return 0 if report.clean else 1


if __name__ == "__main__":
    raise SystemExit(main())
