"""Claims: one runner at a time on a tenant, by the catalog's clock, and none that was replaced writes again."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa

from tenancy.catalog import Catalog, claims, now, tenants
from tenancy.catalog.claims import Claim
from tenancy.catalog.tables import claims as table
from tenancy.errors import ClaimedError, ClaimLostError
from tenancy.types import new_id
from tests.support.threads import at_once
from tests.tenancy.conftest import AUDIT_KEY

TENANT = new_id()


@pytest.fixture(params=["READ COMMITTED", "REPEATABLE READ"])
def strict_catalog(request, catalog):
    """Give a catalog whose server isolates transactions in each of the two usual ways."""
    if catalog.engine.dialect.name == "sqlite":
        return catalog  # its writers take turns, whatever one asks for
    return Catalog(catalog.engine.execution_options(isolation_level=request.param), AUDIT_KEY)


def take(catalog, tenant_id=TENANT, ttl_s=60.0, operation="provision"):
    with catalog.writing() as connection:
        return claims.take(catalog, connection, tenant_id, operation, ttl_s)


def stored(catalog, tenant_id=TENANT):
    with catalog.reading() as connection:
        return connection.execute(sa.select(table).where(table.c.tenant_id == tenant_id)).one()


def expire(catalog):
    """Move the expiry into the past, as if the runner had been stopped for long."""
    with catalog.writing() as connection:
        connection.execute(table.update().values(expires_at=now(connection) - timedelta(seconds=1)))


def winners(answers):
    won = [answer for answer in answers if isinstance(answer, Claim)]
    refused = [answer for answer in answers if isinstance(answer, ClaimedError)]
    assert len(won) + len(refused) == len(answers), answers
    return won


def test_of_sixteen_that_claim_a_new_tenant_at_once_one_wins(whole_product, strict_catalog):
    for _ in range(3):
        tenant_id = new_id()
        (won,) = winners(at_once(16, lambda number, tenant_id=tenant_id: take(strict_catalog, tenant_id)))
        assert won.attempt == stored(strict_catalog, tenant_id).attempt == 1


def test_of_sixteen_that_claim_a_tenant_again_at_once_one_wins(whole_product, strict_catalog):
    first = take(strict_catalog)
    with first.writing() as connection:
        first.release(connection)
    (won,) = winners(at_once(16, lambda number: take(strict_catalog)))
    assert won.attempt == 2


def test_of_sixteen_that_take_over_an_expired_claim_one_wins(whole_product, strict_catalog):
    take(strict_catalog)
    expire(strict_catalog)
    (won,) = winners(at_once(16, lambda number: take(strict_catalog)))
    assert won.attempt == 2


def test_one_wins_also_where_a_product_gives_no_lock_to_read_under(whole_product, catalog, monkeypatch):
    """What is written names the attempt that was read; under a lock nobody could have moved it meanwhile."""
    monkeypatch.setattr(claims, "_of_tenant_locked", claims._of_tenant)
    take(catalog)
    for _ in range(3):
        expire(catalog)
        assert len(winners(at_once(16, lambda number: take(catalog)))) == 1


def test_a_claimed_tenant_is_refused_with_what_runs_there(catalog):
    take(catalog, operation="restore")
    with pytest.raises(ClaimedError, match="busy \\(restore\\)") as refused:
        take(catalog)
    assert refused.value.fields["tenant_id"] == TENANT
    assert refused.value.fields["runner"] == claims.runner()
    assert claims.runner() not in refused.value.message, "users do not learn names of machines"


def test_claims_of_two_tenants_are_apart(catalog):
    take(catalog)
    assert take(catalog, new_id()).attempt == 1


def test_a_released_tenant_can_be_claimed_and_no_attempt_number_comes_twice(catalog):
    attempts = []
    for _ in range(3):
        claim = take(catalog)
        attempts.append(claim.attempt)
        with claim.writing() as connection:
            claim.release(connection)
    take(catalog)
    expire(catalog)
    assert [*attempts, take(catalog).attempt] == [1, 2, 3, 5]


def test_a_claim_ends_by_the_clock_of_the_catalog(catalog):
    with catalog.writing() as connection:
        before = now(connection)
        claims.take(catalog, connection, TENANT, "provision", 90)
        after = now(connection)
    assert before <= stored(catalog).expires_at - timedelta(seconds=90) <= after


def test_a_beat_moves_the_expiry_on(catalog):
    claim = take(catalog, ttl_s=5)
    Claim(catalog, TENANT, claim.attempt, ttl_s=500)
    with Claim(catalog, TENANT, claim.attempt, ttl_s=500).writing() as connection:
        assert stored_in(connection).expires_at > now(connection) + timedelta(seconds=400)


def stored_in(connection):
    return connection.execute(sa.select(table).where(table.c.tenant_id == TENANT)).one()


def test_an_expired_claim_writes_nothing_more_even_where_nobody_took_over(catalog):
    claim = take(catalog)
    expire(catalog)
    with pytest.raises(ClaimLostError), claim.writing():
        pytest.fail("the runner was let in")


def test_a_runner_learns_of_its_loss_only_from_its_own_tenant(catalog):
    mine, others = take(catalog), take(catalog, new_id())
    with catalog.writing() as connection:
        connection.execute(table.delete().where(table.c.tenant_id == others.tenant_id))
    with mine.writing():
        pass
    with pytest.raises(ClaimLostError), others.writing():
        pytest.fail("the runner was let in")


def write_after_being_replaced(catalog, user):
    """Let a runner sleep past its expiry, be replaced by another, wake and write; give what stands there then."""
    with catalog.writing() as connection:
        tenant = tenants.add(connection, user.id, {"tenant_id": TENANT, "db_type": "sqlite", "db_path": "x"})
        asleep = claims.take(catalog, connection, TENANT, "provision", 60)
    expire(catalog)
    awake = take(catalog)
    with awake.writing() as connection:
        tenants.change(connection, tenant, last_error="written by the second runner")
    refused = None
    try:
        with asleep.writing() as connection:
            tenants.change(connection, tenant, last_error="written by the first runner")
    except ClaimLostError as error:
        refused = error
    with awake.writing() as connection:
        return refused, tenants.get(connection, user.id).last_error


def test_a_runner_that_was_replaced_while_it_slept_cannot_write(catalog, ada):
    refused, standing = write_after_being_replaced(catalog, ada)
    assert isinstance(refused, ClaimLostError)
    assert standing == "written by the second runner"


def test_without_the_attempt_in_its_condition_a_replaced_runner_would_write(catalog, ada, monkeypatch):
    def renew_whosoever_claim_it_is(claim, connection):
        moment = now(connection)
        held = (table.c.tenant_id == claim.tenant_id, table.c.expires_at > moment)
        renewed = connection.execute(table.update().where(*held), {"expires_at": moment + timedelta(seconds=60)})
        if renewed.rowcount != 1:
            raise ClaimLostError("lost")

    monkeypatch.setattr(Claim, "renew", renew_whosoever_claim_it_is)
    refused, standing = write_after_being_replaced(catalog, ada)
    assert refused is None
    assert standing == "written by the first runner"


def test_a_replaced_runner_does_not_release_its_successors_claim(catalog):
    asleep = take(catalog)
    expire(catalog)
    take(catalog)
    with pytest.raises(ClaimLostError), catalog.writing() as connection:
        asleep.release(connection)
    with pytest.raises(ClaimLostError), asleep.ending():
        pytest.fail("the runner was let in")
    with pytest.raises(ClaimedError):
        take(catalog)


def test_an_operation_that_failed_or_was_cut_off_is_told_to_the_next_one_and_one_that_ended_is_not(catalog):
    def cut_off():
        with catalog.reading() as connection:
            return claims.interrupted(connection, TENANT)

    first = take(catalog)
    assert (first.interrupted, cut_off()) == (False, False)
    with first.failing():
        pass
    assert cut_off()
    second = take(catalog)
    assert (second.interrupted, cut_off()) == (True, False)
    with second.ending():
        pass
    assert not cut_off()
    assert not take(catalog).interrupted
    expire(catalog)
    assert take(catalog).interrupted


def test_an_attempts_number_is_above_every_epoch_that_the_tenant_had(catalog):
    with catalog.writing() as connection:
        first = claims.take(catalog, connection, TENANT, "provision", 60, first=True, least=7)
        first.release(connection)
        assert first.epoch == 7
        second = claims.take(catalog, connection, TENANT, "suspend", 60, least=3)
        second.release(connection)
        assert second.epoch == 8
        assert claims.take(catalog, connection, TENANT, "resume", 60, least=12).epoch == 12
    expire(catalog)
    other = new_id()
    with catalog.writing() as connection:
        both = claims.take_many(catalog, connection, {TENANT: 20, other: 4}, "fleet", 60)
    assert {claim.tenant_id: (claim.epoch, claim.interrupted) for claim in both} == {
        TENANT: (20, True),
        other: (4, False),
    }


@pytest.mark.parametrize(("ahead_s", "busy"), [(30, True), (7200, False)])
def test_a_claim_that_was_written_while_the_clock_was_ahead_does_not_last_longer_than_any(catalog, ahead_s, busy):
    """The machine's clock was two hours ahead when the runner was killed; then it was put right."""
    take(catalog)
    with catalog.writing() as connection:
        ends = now(connection) + timedelta(seconds=ahead_s + claims.DEFAULT_TTL_S)
        connection.execute(table.update().values(expires_at=ends))
        assert (claims.held(connection, TENANT) is not None) is busy
        assert claims.interrupted(connection, TENANT) is not busy
    if busy:
        with pytest.raises(ClaimedError, match=f"until {ends:%H:%M:%S} UTC"):
            take(catalog)
    else:
        assert take(catalog).attempt == 2


def test_an_operator_ends_a_claim_and_its_runner_writes_nothing_more(catalog):
    claim = take(catalog, operation="migrate")
    with catalog.writing() as connection:
        assert claims.release(connection, TENANT)["operation"] == "migrate"
        assert claims.release(connection, TENANT) is None
    with pytest.raises(ClaimLostError), claim.writing():
        pytest.fail("the runner was let in")
    assert take(catalog).interrupted


def test_the_last_write_of_a_runner_ends_its_claim_and_both_or_none_are_kept(catalog):
    claim = take(catalog)
    with pytest.raises(ZeroDivisionError), claim.ending():
        raise ZeroDivisionError
    with pytest.raises(ClaimedError):
        take(catalog)
    with claim.ending():
        pass
    assert take(catalog).attempt == 2


def test_who_takes_a_new_tenant_for_unclaimed_meets_the_claim_there_is(catalog):
    take(catalog)
    with pytest.raises(ClaimedError), catalog.writing() as connection:
        claims.take(catalog, connection, TENANT, "provision", 60, first=True)


def test_of_sixteen_new_tenants_claimed_at_once_every_one_is_its_claimants(whole_product, strict_catalog):
    answers = at_once(16, lambda number: take(strict_catalog, new_id()))
    assert [type(answer) for answer in answers] == [Claim] * 16, answers


def test_of_a_runner_and_its_successor_at_the_same_moment_never_both_go_on(whole_product, catalog):
    """The one waits for the other's lock on the row, and then finds another attempt or a fresh expiry there."""
    for _ in range(10):
        claim = take(catalog, tenant := new_id(), ttl_s=0.02)
        beat, successor = at_once(2, lambda number, c=claim, t=tenant: take(catalog, t) if number else renewed(c))
        went_on = [not isinstance(beat, Exception), isinstance(successor, Claim)]
        assert went_on != [True, True], (beat, successor)
        assert all(isinstance(one, Claim | ClaimedError | ClaimLostError | bool) for one in (beat, successor))


def renewed(claim):
    with Claim(claim.catalog, claim.tenant_id, claim.attempt, 60).writing():
        return True


def test_new_tenants_are_claimed_together_and_each_claim_is_lost_by_itself(catalog):
    ids = [new_id() for _ in range(3)]
    with catalog.writing() as connection:
        held = claims.take_new(catalog, connection, ids, "provision", 60.0)
    with pytest.raises(ClaimedError, match="busy"):
        take(catalog, ids[0])
    with catalog.writing() as connection:
        connection.execute(table.update().where(table.c.tenant_id == ids[1]).values(attempt=2))
    with held.ending(ids[:2]) as (_, mine):
        assert mine == {ids[0]}
    assert [stored(catalog, each).expires_at is None for each in ids] == [True, False, False]
    expire(catalog)
    with held.ending(ids) as (_, mine):
        assert mine == set()
    assert take(catalog, ids[2]).attempt == 2
