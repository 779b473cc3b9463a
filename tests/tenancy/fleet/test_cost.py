"""What a fleet run costs each tenant: transactions and statements, which count on every machine alike (P6)."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from pathlib import Path

import pytest

from tenancy.backends.sqlite.driver import FileConnection
from tenancy.catalog.runs import Rules, Selection
from tenancy.fleet import runner
from tests.support.versions import fill

TENANTS = 7


@pytest.fixture
def sent(monkeypatch):
    """Hear by file what its connections send from here on."""
    found: dict[str, list[str]] = defaultdict(list)

    def listened(self: FileConnection, *what, **how) -> None:
        sqlite3.Connection.__init__(self, *what, **how)
        file = Path(str(what[0])).name.partition("?")[0]
        self.set_trace_callback(lambda sql: found[file].append(" ".join(sql.split())))

    monkeypatch.setattr(FileConnection, "__init__", listened)
    return found


def migrated(versions, sent):
    """Make tenants by the first version of an application, and have the second one migrate them."""
    fill(versions(1), TENANTS)
    manager = versions(2)
    run = manager.fleet.start(Selection(), Rules())
    manager.catalog.engine.dispose()
    sent.clear()
    assert manager.fleet.work(run.id).counts == {"done": TENANTS}


def test_a_tenant_is_migrated_in_one_commit_and_few_statements(versions, sent):
    migrated(versions, sent)
    tenants = [statements for file, statements in sent.items() if file.startswith("user_")]
    assert len(tenants) == TENANTS
    for statements in tenants:
        assert statements.count("COMMIT") == 1
        assert len(statements) <= 23, statements


def test_the_catalog_is_written_to_twice_a_batch(versions, sent, monkeypatch):
    monkeypatch.setattr(runner, "BATCH_S", 1000.0)  # batches grow however slow the machine is
    migrated(versions, sent)
    (catalog,) = [statements for file, statements in sent.items() if not file.startswith("user_")]
    batches = 3  # of one, two and four tenants
    assert catalog.count("BEGIN IMMEDIATE") == 2 * batches + 1, "taken and recorded, and the run ended"
