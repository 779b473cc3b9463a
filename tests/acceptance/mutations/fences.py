"""Mutations of claims, and fences in the identity row."""

from __future__ import annotations

from tests.acceptance.mutant import Mutation

CLAIMS = "tenancy/catalog/claims.py"
IDENTITY = "tenancy/schema/identity.py"
OPERATION = "tenancy/lifecycle/operation.py"
SUSPEND_DELETE = "tenancy/lifecycle/suspend_delete.py"
IN_CLAIMS = "tests/tenancy/catalog/test_claims.py"
IN_PROVISION = "tests/tenancy/lifecycle/test_provision.py"
IN_IDENTITY = "tests/tenancy/schema/test_identity.py"
IN_FENCE = "tests/tenancy/guarantees/test_fence.py"
IN_MANAGER = "tests/tenancy/test_manager.py"
IN_PENDING_POOL = "tests/tenancy/servers/test_pending_pool.py"
IN_OPERATION = "tests/tenancy/lifecycle/test_operation.py"

MUTATIONS = (
    Mutation(
        "claim-of-any-attempt",
        CLAIMS,
        '_mine = (claims.c.tenant_id == _tenant, claims.c.attempt == sa.bindparam("mine"), ',
        "_mine = (claims.c.tenant_id == _tenant, ",
        (f"{IN_CLAIMS}::test_a_runner_that_was_replaced_while_it_slept_cannot_write",),
    ),
    Mutation(
        "claim-after-its-end",
        CLAIMS,
        'claims.c.attempt == sa.bindparam("mine"), claims.c.expires_at > utc_now())\n_of_tenant',
        'claims.c.attempt == sa.bindparam("mine"))\n_of_tenant',
        (f"{IN_CLAIMS}::test_an_expired_claim_writes_nothing_more_even_where_nobody_took_over",),
    ),
    Mutation(
        "claim-not-renewed-before-a-write",
        CLAIMS,
        "            self.renew(connection)\n            yield",
        "            yield",
        (f"{IN_CLAIMS}::test_a_runner_that_was_replaced_while_it_slept_cannot_write",),
    ),
    Mutation(
        "claim-taken-from-its-holder",
        CLAIMS,
        "    if _holds(row.expires_at, moment):\n        raise _busy(tenant_id, wanted, row)\n",
        "",
        (f"{IN_CLAIMS}::test_a_claimed_tenant_is_refused_with_what_runs_there",),
    ),
    Mutation(
        "claim-numbers-below-an-epoch",
        CLAIMS,
        "max(int(row.attempt) + 1, wanted.least)",
        "int(row.attempt) + 1",
        (f"{IN_CLAIMS}::test_an_attempts_number_is_above_every_epoch_that_the_tenant_had",),
    ),
    Mutation(
        "claim-forgets-what-was-cut-off",
        CLAIMS,
        "return attempt, _was_cut_off(row)",
        "return attempt, False",
        (
            f"{IN_CLAIMS}::test_an_operation_that_failed_or_was_cut_off_is_told_to_the_next_one_and_one_that_ended_is_not",
        ),
    ),
    Mutation(
        "claim-of-a-clock-ahead-lasts",
        CLAIMS,
        "moment < expires_at <= moment + timedelta(seconds=LONGEST_TTL_S)",
        "moment < expires_at",
        (f"{IN_CLAIMS}::test_a_claim_that_was_written_while_the_clock_was_ahead_does_not_last_longer_than_any",),
    ),
    Mutation(
        "mark-over-a-later-claim",
        IDENTITY,
        '    _row.epoch <= sa.bindparam("upto"),\n',
        "",
        (
            f"{IN_PROVISION}::test_a_suspension_that_wakes_late_changes_nothing",
            f"{IN_PROVISION}::test_a_runner_that_wakes_after_its_claim_expired_changes_nothing",
            IN_IDENTITY,
        ),
    ),
    Mutation(
        "mark-of-any-tenant",
        IDENTITY,
        '    _row.tenant_id == sa.bindparam("whose"),\n',
        "",
        (
            f"{IN_PROVISION}::test_a_database_of_another_in_the_place_of_ones_own_survives_its_deletion",
            IN_IDENTITY,
        ),
    ),
    Mutation(
        "mark-that-changed-nothing",
        IDENTITY,
        "    if changed.rowcount != 1:\n        _refuse",
        "    if False:\n        _refuse",
        (
            f"{IN_PROVISION}::test_a_suspension_that_wakes_late_changes_nothing",
            f"{IN_PROVISION}::test_a_runner_that_wakes_after_its_claim_expired_changes_nothing",
            IN_IDENTITY,
        ),
    ),
    Mutation(
        "mark-of-an-older-copy",
        IDENTITY,
        '_change = tenancy_identity.update().where(*_mine, _row.epoch >= sa.bindparam("since"))',
        "_change = tenancy_identity.update().where(*_mine)",
        (
            f"{IN_FENCE}::test_a_catalog_that_is_older_than_a_database_catches_up_with_it_when_it_is_run_again",
            f"{IN_MANAGER}::test_an_older_copy_of_ones_own_deleted_database_shows_nothing",
            IN_IDENTITY,
        ),
    ),
    Mutation(
        "handed-over-twice",
        IDENTITY,
        "    _row.user_id.is_(None),\n",
        "",
        (
            IN_IDENTITY,
            f"{IN_PENDING_POOL}::test_a_claim_whose_runner_slept_hands_over_nothing_twice",
        ),
    ),
    Mutation(
        "epoch-without-bound",
        IDENTITY,
        "if found > MOST:",
        "if False:",
        (IN_IDENTITY,),
    ),
    Mutation(
        "interrupted-work-not-refenced",
        OPERATION,
        "if not claim.interrupted or tenant.state not in (State.READY, State.READ_ONLY, State.SUSPENDED):",
        "if True:",
        (IN_OPERATION,),
    ),
    Mutation(
        "suspended-in-the-catalog-alone",
        SUSPEND_DELETE,
        "                self.mark(tenant, claim, backend, after)\n",
        "",
        (f"{IN_MANAGER}::test_a_request_that_began_before_a_suspension_cannot_write_after_it",),
    ),
    Mutation(
        "deleted-without-a-fence",
        SUSPEND_DELETE,
        "self.mark(tenant.with_(epoch=0), claim, backend, State.ARCHIVED)  #",
        "pass  #",
        (
            f"{IN_FENCE}::test_a_write_under_way_ends_before_its_database_is_retired",
            f"{IN_FENCE}::test_work_that_read_its_route_before_its_database_was_retired_writes_nothing_after",
        ),
    ),
)
