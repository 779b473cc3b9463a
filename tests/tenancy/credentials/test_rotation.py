"""Rotation: every password under the newest key, whatever stops it and whoever changes one meanwhile."""

from __future__ import annotations

import json

import pytest
import sqlalchemy as sa

from tenancy.catalog import servers, tenants, users
from tenancy.catalog.tables import audit_log, user_database_configs
from tenancy.credentials import rotation
from tenancy.credentials.keyring import Keyring, generate_key
from tenancy.errors import TamperedCredentialError, UnknownKeyError
from tenancy.models import Server, ServerState, State, Tenant
from tenancy.types import new_id
from tests.support.threads import at_once

OLD, NEW, LOST = generate_key(), generate_key(), generate_key()
BEFORE, BOTH, AFTER = Keyring([OLD]), Keyring([NEW, OLD]), Keyring([NEW])


class StopError(Exception):
    """Stand for the kill of a rotation."""


def tenant(catalog, number, keyring=BEFORE):
    """Keep a configuration with a sealed password, as one on a server has it."""
    with catalog.writing() as connection:
        owner = users.add(connection, f"user{number}@example.org", "Somebody", None, False).id
        fields = {"db_host": "db.example.org", "db_port": 5432, "db_name": f"user_{number}", "db_user": f"u{number}"}
        planned = Tenant(new_id(), owner, "postgresql", State.READY, 1, 1, **fields)
        values = {"tenant_id": planned.tenant_id, "db_type": "postgresql", "state": State.READY, **fields}
        sealed = keyring.seal(secret(number), planned.binding)
        return tenants.add(connection, owner, {**values, "db_password": sealed})


def secret(number):
    return f"the password of {number}"


def stored(catalog):
    with catalog.reading() as connection:
        return list(tenants.every(connection))


def opened(catalog, keyring):
    return [keyring.open(one.sealed_password, one.binding) for one in stored(catalog)]


@pytest.fixture
def three(catalog):
    return [tenant(catalog, number) for number in range(3)]


SECRETS = [secret(number) for number in range(3)]


def test_every_password_opens_under_the_newest_key_alone(catalog, three):
    done = rotation.rotate(catalog, BOTH)
    assert (done["rotated"], done["changed_meanwhile"], done["failed"]) == (3, 0, [])
    assert opened(catalog, AFTER) == SECRETS
    with pytest.raises(UnknownKeyError):
        opened(catalog, BEFORE)


def test_nothing_but_the_ciphertext_changes(catalog, three):
    rotation.rotate(catalog, BOTH)
    assert [one.with_(sealed_password=None) for one in stored(catalog)] == [
        one.with_(sealed_password=None) for one in three
    ]


def test_the_shared_databases_password_is_rotated_too(catalog):
    planned = Tenant(new_id(), None, "postgresql", State.READY, 1, 1, db_host="h")
    with catalog.writing() as connection:
        sealed = BEFORE.seal("shared", planned.binding)
        values = {"tenant_id": planned.tenant_id, "db_type": "postgresql", "db_host": "h", "db_password": sealed}
        tenants.add(connection, None, values)
    assert rotation.rotate(catalog, BOTH)["rotated"] == 1
    with catalog.reading() as connection:
        shared = tenants.shared(connection)
    assert AFTER.open(shared.sealed_password, shared.binding) == "shared"


def test_tenants_without_a_password_are_left_alone(catalog, ada):
    with catalog.writing() as connection:
        tenants.add(connection, ada.id, {"tenant_id": new_id(), "db_type": "sqlite"})
    assert rotation.rotate(catalog, BOTH)["rotated"] == 0
    assert stored(catalog)[0].sealed_password is None


def test_stopped_at_any_step_it_finishes_when_run_again(catalog, three):
    """Move the fault on until a run meets none, and let one strike once more while the work is taken up again."""
    for fault in range(20):
        with catalog.writing() as connection:
            for one in three:
                connection.execute(
                    user_database_configs.update().where(user_database_configs.c.tenant_id == one.tenant_id),
                    {"db_password": one.sealed_password},
                )
        if not stopped(catalog, fault):
            break
        assert opened(catalog, BOTH) == SECRETS
        stopped(catalog, 0)
        assert opened(catalog, BOTH) == SECRETS
        rotation.rotate(catalog, BOTH)
        assert opened(catalog, AFTER) == SECRETS
    assert fault >= 3
    assert opened(catalog, AFTER) == SECRETS


def stopped(catalog, at):
    """Rotate until the step of that number; say whether it was reached."""
    steps = iter(range(100))

    def step(name):
        if next(steps) == at:
            raise StopError(name)

    try:
        rotation.rotate(catalog, BOTH, on_step=step)
    except StopError:
        return True
    return False


def test_while_it_runs_every_password_opens_with_both_keys(catalog, three):
    seen = []
    rotation.rotate(catalog, BOTH, on_step=lambda name: seen.append(opened(catalog, BOTH)))
    assert seen == [SECRETS] * len(seen)
    assert len(seen) >= 3


def test_a_password_changed_meanwhile_is_never_overwritten(catalog, three):
    def somebody_changes_all_of_them(name):
        with catalog.writing() as connection:
            for one in three:
                fresh = BEFORE.seal(f"changed {one.db_name}", one.binding)
                tenants.change(connection, one, db_password=fresh)

    done = rotation.rotate(catalog, BOTH, on_step=once(somebody_changes_all_of_them))
    assert (done["rotated"], done["changed_meanwhile"], done["to_rotate"]) == (0, 3, 3)
    assert opened(catalog, BOTH) == [f"changed {one.db_name}" for one in three]
    rotation.rotate(catalog, BOTH)
    assert opened(catalog, AFTER) == [f"changed {one.db_name}" for one in three]


def once(work):
    calls = iter([work])
    return lambda name: next(calls, lambda _: None)(name)


def test_a_password_removed_meanwhile_stays_away(catalog, three):
    def remove(name):
        with catalog.writing() as connection:
            tenants.remove(connection, three[1])

    assert rotation.rotate(catalog, BOTH, on_step=once(remove))["rotated"] == 2
    assert len(stored(catalog)) == 2


def test_rotations_at_once_lose_nothing(whole_product, catalog, three):
    more = [tenant(catalog, number) for number in range(3, 8)]
    answers = at_once(6, lambda number: rotation.rotate(catalog, BOTH))
    assert all(isinstance(answer, dict) for answer in answers), answers
    assert sum(answer["rotated"] for answer in answers) == len(three) + len(more)
    assert opened(catalog, AFTER) == [secret(number) for number in range(8)]


def test_a_second_run_finds_nothing_to_do(catalog, three):
    rotation.rotate(catalog, BOTH)
    kept = stored(catalog)
    assert rotation.rotate(catalog, BOTH)["rotated"] == 0
    assert stored(catalog) == kept


def test_one_that_was_tampered_with_is_named_and_the_others_go_on(catalog, three):
    with catalog.writing() as connection:
        tenants.change(connection, three[1], db_password=three[0].sealed_password)
    done = rotation.rotate(catalog, BOTH)
    assert done["rotated"] == 2
    assert done["failed"] == [
        {"user_id": three[1].user_id, "tenant_id": str(three[1].tenant_id), "code": TamperedCredentialError.code}
    ]
    assert stored(catalog)[1].sealed_password == three[0].sealed_password


def test_one_whose_key_is_gone_is_named_and_the_others_go_on(catalog, three):
    lost = tenant(catalog, 9, Keyring([LOST]))
    done = rotation.rotate(catalog, BOTH)
    assert done["rotated"] == 3
    assert [(entry["user_id"], entry["code"]) for entry in done["failed"]] == [(lost.user_id, UnknownKeyError.code)]
    assert done["unknown_keys"] == {Keyring([LOST]).newest: 1}


def test_status_says_which_keys_are_still_needed(catalog, three):
    def needed(keyring):
        return {key["key_id"]: (key["used_by"], key["needed"]) for key in rotation.status(catalog, keyring)["keys"]}

    old, new = BEFORE.newest, AFTER.newest
    assert needed(BOTH) == {new: (0, True), old: (3, True)}
    assert rotation.status(catalog, BOTH)["to_rotate"] == 3
    rotation.rotate(catalog, BOTH)
    assert needed(BOTH) == {new: (3, True), old: (0, False)}
    assert rotation.status(catalog, BOTH)["to_rotate"] == 0
    assert rotation.status(catalog, BEFORE)["unknown_keys"] == {new: 3}


def test_a_rotation_is_told_in_the_audit_log_without_a_secret(catalog, three):
    rotation.rotate(catalog, BOTH)
    with catalog.reading() as connection:
        (told,) = connection.execute(sa.select(audit_log.c.action, audit_log.c.detail)).all()
        catalog.audit.verify(connection)
    assert told.action == "credential.rotate"
    assert json.loads(told.detail) == {"rotated": 3, "failed": 0, "key_id": AFTER.newest}


def register(catalog, name, keyring=BEFORE):
    """Keep a server with a sealed password."""
    place = {"db_type": "postgresql", "db_host": "db.example.org", "db_port": 5432, "db_user": "root"}
    rest = {"db_options": None, "max_tenants": None, "weight": 1}
    planned = Server(0, name, **place, **rest, sealed_password="", state=ServerState.ACCEPTING)
    with catalog.writing() as connection:
        servers.add(connection, name, db_password=keyring.seal(secret(name), planned.binding), **place, **rest)


def test_the_passwords_of_servers_are_sealed_anew_too(catalog):
    register(catalog, "one")
    register(catalog, "two")
    assert rotation.status(catalog, BOTH)["to_rotate"] == 2
    assert rotation.rotate(catalog, BOTH)["rotated"] == 2
    with catalog.reading() as connection:
        opened = [AFTER.open(each.sealed_password, each.binding) for each in servers.every(connection)]
    assert opened == [secret("one"), secret("two")]


def test_a_server_whose_password_cannot_be_opened_is_named_and_the_others_go_on(catalog, three):
    for name, keyring in (("edited", BEFORE), ("good", BEFORE), ("lost", Keyring([LOST]))):
        register(catalog, name, keyring)
    with catalog.writing() as connection:
        servers.change(connection, servers.by_name(connection, "edited"), db_host="elsewhere.example.org")
    done = rotation.rotate(catalog, BOTH)
    assert done["rotated"] == 4
    assert done["failed"] == [
        {"server": "edited", "code": TamperedCredentialError.code},
        {"server": "lost", "code": UnknownKeyError.code},
    ]
    assert done["unknown_keys"] == {Keyring([LOST]).newest: 1}


def test_a_servers_password_changed_meanwhile_is_never_overwritten(catalog):
    register(catalog, "one")

    def change(name):
        with catalog.writing() as connection:
            one = servers.by_name(connection, "one")
            servers.change(connection, one, db_password=BEFORE.seal("changed", one.binding))

    done = rotation.rotate(catalog, BOTH, on_step=once(change))
    assert (done["rotated"], done["changed_meanwhile"], done["to_rotate"]) == (0, 1, 1)
    with catalog.reading() as connection:
        one = servers.by_name(connection, "one")
    assert BOTH.open(one.sealed_password, one.binding) == "changed"
