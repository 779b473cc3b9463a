"""The version before goes on serving what a newer one migrated, unless the revision takes something away."""

from __future__ import annotations

import pytest

from tenancy.catalog.runs import Rules, Selection
from tenancy.errors import RevisionMismatchError
from tests.support.applications import tenant_of
from tests.support.versions import fill, look

DESTRUCTIVE = "\ndestructive = True\n"
EVERYONE = Selection()


def migrate(manager) -> None:
    manager.fleet.work(manager.fleet.start(EVERYONE, Rules()).id)
    manager.engines.close()


def test_who_was_migrated_is_served_by_the_version_before(versions, tmp_path):
    first = versions(1)
    (user_id,) = fill(first, 1)
    third = versions(3)
    migrate(third)
    assert tenant_of(third, user_id).usable_from == "0001"
    assert first.fetch_all("SELECT id FROM things", user_id=user_id) == [(7,)]
    assert first.execute_update("INSERT INTO things (id) VALUES (8)", user_id=user_id) == 1
    assert third.fetch_all("SELECT id, c3 FROM things ORDER BY id", user_id=user_id) == [(7, None), (8, None)]
    assert look(tmp_path, user_id)["version"] == ["0003"]


def test_the_version_before_leaves_it_as_it_is(versions, tmp_path):
    first = versions(1)
    (user_id,) = fill(first, 1)
    migrate(versions(2))
    assert first.provision(user_id).created is False
    assert look(tmp_path, user_id)["version"] == ["0002"]
    assert first.fleet.status()["ahead"] == 1


def test_a_destructive_revision_ends_that(versions):
    first = versions(1)
    (user_id,) = fill(first, 1)
    second = versions(2, header=DESTRUCTIVE)
    migrate(second)
    assert tenant_of(second, user_id).usable_from == "0002"
    with pytest.raises(RevisionMismatchError):
        first.fetch_all("SELECT id FROM things", user_id=user_id)
    assert versions(2).chain.serves("0003", "0002")
    assert not first.chain.serves("0003", "0002")


@pytest.mark.parametrize(
    ("revision", "usable_from", "served"),
    [
        ("0002", None, True),
        ("0001", "0001", False),
        (None, None, False),
        ("0009", None, False),
        ("0009", "0008", False),
        ("0009", "0002", True),
        ("0009", "0001", True),
    ],
)
def test_what_a_version_serves(versions, revision, usable_from, served):
    assert versions(2).chain.serves(revision, usable_from) is served


def test_a_database_that_is_newer_than_the_catalog_says_is_refused(versions, tmp_path):
    """The catalog's word is not enough: each connection looks for itself."""
    first = versions(1)
    (user_id,) = fill(first, 1)
    kept = tenant_of(first, user_id)
    migrate(versions(2))
    from tenancy.catalog import tenants

    with first.catalog.writing() as connection:
        tenants.change(connection, kept, revision="0001", usable_from="0001", epoch=kept.epoch + 1)
    with pytest.raises(RevisionMismatchError):
        first.fetch_all("SELECT id FROM things", user_id=user_id)
