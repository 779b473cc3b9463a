from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import pytest


@pytest.fixture
def peopled(ready):
    for name in "ab":
        assert ready("users", "create", "--email", f"{name}@example.org").exit_code == 0
    return ready


def hand(settings, user_id: int, sql: str) -> None:
    with closing(sqlite3.connect(settings.tenant_data_dir / f"user_{user_id}.db")) as driver, driver:
        driver.execute(sql)


def test_a_fleet_that_is_well_is_told_in_one_line(peopled):
    told = peopled("fleet", "verify")
    assert (told.exit_code, told.stdout) == (0, "2 databases verified, 0 findings.\n")


def test_what_is_found_is_named_and_the_exit_code_says_so(peopled, settings):
    hand(settings, 2, "DROP INDEX ix_bin_user_id_batch")
    told = peopled("fleet", "verify")
    assert told.exit_code == 1
    assert "User 2: bin lacks index ix_bin_user_id_batch (user_id, batch) (shape)" in told.stderr
    assert told.stderr.endswith("Error: 1 finding in 2 databases and outside of them.\n")
    (found,) = json.loads(peopled("fleet", "verify", "b@example.org", "--json").stdout)["findings"]
    assert (found["user_id"], found["code"], found["repairable"]) == (2, "shape", False)
    assert peopled("fleet", "verify", 1).exit_code == 0


def test_only_what_was_looked_at_is_counted(peopled, settings):
    hand(settings, 2, "DROP INDEX ix_bin_user_id_batch")
    one, inside = peopled("fleet", "verify", 2), peopled("fleet", "verify", "--no-orphans")
    assert one.stderr.endswith("Error: 1 finding in 1 database.\n")
    assert "Verifying: 1 of 1" in one.stderr
    assert inside.stderr.endswith("Error: 1 finding in 2 databases.\n")
    assert "Verifying: 2 of 2" in inside.stderr


def test_what_is_safe_is_mended(peopled, settings):
    hand(settings, 1, "UPDATE tenancy_identity SET state = 'migrating', epoch = epoch + 1")
    assert peopled("fleet", "verify").exit_code == 1
    mended = json.loads(peopled("fleet", "verify", "--repair", "--json").stdout)
    assert mended["mended"] == [{"user_id": 1, "codes": ["closed", "epoch"]}]
    assert peopled("fleet", "verify").exit_code == 0


def test_in_shared_mode_there_is_nothing_to_verify(call, make_settings):
    refused = call("fleet", "verify", settings=make_settings(multi_tenant_mode="false"))
    assert refused.exit_code == 1
    assert "Users share one database" in refused.stderr
