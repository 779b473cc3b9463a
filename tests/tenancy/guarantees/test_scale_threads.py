"""Many threads over many tenants with few engines: no wrong row, no error, no acknowledged write lost."""

from __future__ import annotations

import random
import threading
from collections import Counter
from functools import partial

import pytest
import sqlalchemy as sa

from compose import Parts
from repositories.repository_factory import RepositoryFactory
from tenancy.manager import TenantManager
from tests.support.applications import add_tenants, add_users, cache_over, change_config, titles, together

THREADS = 16
TENANTS = 200
CACHE = 8
ROUNDS = 40


class Traffic:
    """Read and write at random as many users; ``violations`` says whatever was not as it must be."""

    def __init__(self, manager: TenantManager, ids: list[int], rounds: int = ROUNDS) -> None:
        self.manager = manager
        self.ids = ids
        self.rounds = rounds
        self.violations: list[str] = []
        self._written: Counter[int] = Counter()
        self._lock = threading.Lock()

    def run(self, threads: int = THREADS) -> list[str]:
        results = together([partial(self._work, random.Random(n)) for n in range(threads)])
        self.violations += [f"{type(result).__name__}: {result}" for result in results if result is not None]
        for user_id in self.ids:
            rows = self._rows(user_id)
            if len(rows) != self._written[user_id]:
                self.violations.append(f"user {user_id}: {len(rows)} rows, {self._written[user_id]} acknowledged")
        return self.violations

    def _work(self, chance: random.Random) -> None:
        for position in range(self.rounds):
            user_id = chance.choice(self.ids)
            if chance.random() < 0.4:
                with self.manager.session(user_id, write=True) as session:
                    tasks = RepositoryFactory.get_repository("tasks", session, user_id)
                    tasks.create({"title": f"of {user_id}: {position}"})
                with self._lock:
                    self._written[user_id] += 1
            else:
                self._rows(user_id)

    def _rows(self, user_id: int) -> list[str]:
        with self.manager.session(user_id) as session:
            whose = sa.text("SELECT user_id FROM tenancy_identity WHERE kind = 'tenant'")
            rows = RepositoryFactory.get_repository("tasks", session, user_id).list(limit=200)
            found = session.execute(whose).scalar()
        wrong = [row["title"] for row in rows if not row["title"].startswith(f"of {user_id}: ")]
        if wrong or found not in (user_id, None):
            self.violations.append(f"user {user_id} was shown {wrong} in the database of {found}")
        return [row["title"] for row in rows]


@pytest.fixture
def many(make_parts) -> tuple[Parts, list[int]]:
    parts = make_parts(tenant_engine_cache_size=CACHE)
    return parts, add_tenants(parts, TENANTS)


def test_16_threads_over_200_tenants_with_a_cache_of_8(many):
    parts, ids = many
    assert Traffic(parts.manager, ids).run() == []
    stats = parts.manager.engines.stats()
    assert stats["open"] <= CACHE
    assert stats["leased"] == 0
    assert stats["connections"] <= 2 * CACHE
    assert stats["evicted"] > TENANTS


def test_16_threads_with_fewer_connections_than_threads_wait_for_each_other(many):
    parts, ids = many
    parts.manager.engines.close()
    parts.manager.engines = cache_over(parts.manager, CACHE, limit=3)
    parts.manager.engines.budget._patience_s = 60.0
    assert Traffic(parts.manager, ids, rounds=20).run() == []
    stats = parts.manager.engines.stats()
    assert stats["connections"] <= 3
    assert parts.manager.engines.budget.waiting == 0


def test_16_threads_on_few_tenants_share_their_engines(many):
    parts, ids = many
    assert Traffic(parts.manager, ids[:3]).run() == []
    assert parts.manager.engines.stats()["open"] <= CACHE


def test_16_threads_in_the_shared_database(shared_parts):
    ids = add_users(shared_parts, 20)
    for user_id in ids:
        shared_parts.manager.provision(user_id)
    assert Traffic(shared_parts.manager, ids, rounds=15).run() == []
    assert shared_parts.manager.engines.stats()["open"] == 1


def test_sweeps_and_changed_configurations_disturb_nobody(many):
    """Beside the traffic every engine is swept as if idle, and configurations get new versions."""
    parts, ids = many
    traffic = Traffic(parts.manager, ids[:12], rounds=25)

    def disturb() -> None:
        chance = random.Random(99)
        for version in range(2, 22):
            parts.manager.engines._close_idle(float("inf"))
            change_config(parts.manager, chance.choice(ids[:12]), version=version)

    outcome: list[list[str]] = []
    assert together([lambda: outcome.append(traffic.run(8)), disturb]) == [None, None]
    assert outcome == [[]]
    assert titles(parts.manager, ids[0]) is not None
