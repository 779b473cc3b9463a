"""Mutations of guards of a connection, the context, and the owner of statements."""

from __future__ import annotations

from tests.acceptance.mutant import Mutation

GUARDS = "tenancy/routing/guards.py"
CONTEXT = "tenancy/context.py"
MANAGER = "tenancy/manager.py"
SCOPE = "repositories/base/scope.py"
SCOPED = "repositories/base/scoped.py"
IN_MANAGER = "tests/tenancy/test_manager.py"
IN_FENCE = "tests/tenancy/guarantees/test_fence.py"
IN_OCCUPANT = "tests/tenancy/routing/test_occupant.py"
IN_GUARDS = "tests/tenancy/routing/test_guards.py"
IN_GATES = "tests/tenancy/backends/test_gates.py"
IN_ROW_LEVEL_SECURITY = "tests/tenancy/guarantees/test_row_level_security.py"
IN_CONTEXT = "tests/tenancy/test_context.py"
IN_MANAGER_CONTEXT = "tests/tenancy/guarantees/test_manager_context.py"
IN_SCOPE = "tests/repositories/base/test_scope.py"
IN_SESSIONS = "tests/repositories/test_sessions.py"

MUTATIONS = (
    Mutation(
        "identity-of-anybody",
        GUARDS,
        "if (uuid.UUID(str(tenant_id)), owner, kind) != (tenant.tenant_id, tenant.user_id, tenant.kind):",
        "if False:",
        (f"{IN_MANAGER}::test_another_tenants_file_in_its_place_shows_nothing",),
    ),
    Mutation(
        "identity-of-any-epoch",
        GUARDS,
        "if epoch != tenant.epoch and not (or_later and epoch > tenant.epoch):",
        "if False:",
        (f"{IN_FENCE}::test_a_new_connection_to_a_database_of_another_epoch_is_refused_for_reading_too",),
    ),
    Mutation(
        "identity-of-any-revision",
        GUARDS,
        "if head is not None and revision != head:",
        "if False:",
        (f"{IN_MANAGER}::test_a_database_whose_version_table_disagrees_with_the_catalog_is_refused",),
    ),
    Mutation(
        "occupant-of-another-is-ours",
        GUARDS,
        "    if row.tenant_id != tenant.tenant_id:\n        return Occupant.FOREIGN\n",
        "",
        (IN_OCCUPANT,),
    ),
    Mutation(
        "fence-passed-unasked",
        GUARDS,
        "        if write:\n            pass_fence",
        "        if False:\n            pass_fence",
        (f"{IN_FENCE}::test_every_way_to_write_passes_the_fence",),
    ),
    Mutation(
        "fence-of-any-epoch",
        GUARDS,
        "row[0] != tenant.epoch or row[1] not in WRITABLE",
        "row[1] not in WRITABLE",
        (
            f"{IN_FENCE}::test_work_that_read_its_route_before_its_database_was_retired_writes_nothing_after",
            f"{IN_FENCE}::test_the_next_database_of_the_same_user_is_safe_from_the_old_route",
            f"{IN_GUARDS}::test_the_fence_lets_nothing_into_a_retired_database",
        ),
    ),
    Mutation(
        "fence-of-any-state",
        GUARDS,
        "row[0] != tenant.epoch or row[1] not in WRITABLE",
        "row[0] != tenant.epoch",
        (f"{IN_FENCE}::test_no_state_but_ready_lets_a_write_pass",),
    ),
    Mutation(
        "autocommit-writes",
        GUARDS,
        "return backend.read_singly(connection)",
        "return None",
        (f"{IN_GATES}::test_in_autocommit_the_database_too_refuses_to_write",),
    ),
    Mutation(
        "row-level-security-unset",
        GUARDS,
        'if tenant.kind is Kind.SHARED and "tenancy_owner" in options:',
        "if False:",
        (IN_ROW_LEVEL_SECURITY,),
    ),
    Mutation(
        "context-lets-go",
        CONTEXT,
        "if here.locked and here.held_for != user_id:",
        "if False:",
        (f"{IN_CONTEXT}::test_inside_a_block_no_other_user_can_be_worked_for",),
    ),
    Mutation("context-names-anybody", CONTEXT, "if not here.administers:", "if False:", (IN_CONTEXT,)),
    Mutation(
        "context-keeps-the-place",
        CONTEXT,
        "replace(here, owner=user_id, tenant=None, main=False)",
        "replace(here, owner=user_id, main=False)",
        (f"{IN_CONTEXT}::test_another_user_is_never_worked_for_at_the_place_of_the_first",),
    ),
    Mutation(
        "request-holds-nobody",
        MANAGER,
        "                locked=True,",
        "                locked=False,",
        (f"{IN_MANAGER_CONTEXT}::test_a_request_is_for_whoever_sent_it_and_asks_the_catalog_nothing_more",),
    ),
    Mutation(
        "scope-without-owner",
        SCOPE,
        "return statement.where(*(column == owner for column in columns))",
        "return statement",
        (f"{IN_SCOPE}::test_every_statement_names_its_owner_for_every_table",),
    ),
    Mutation(
        "scope-of-one-table",
        SCOPE,
        "(column == owner for column in columns)",
        "(column == owner for column in columns[:1])",
        (f"{IN_SCOPE}::TestApplyUserFilter",),
    ),
    Mutation(
        "scope-of-any-outer-join",
        SCOPE,
        "elif from_.full or not _names_owner(from_.onclause, from_.right):",
        "elif False:",
        (f"{IN_SCOPE}::TestApplyUserFilter",),
    ),
    Mutation(
        "scope-passes-tables-without-owner",
        SCOPE,
        'raise ScopeError("The statement reads from something',
        'return ScopeError("The statement reads from something',
        (f"{IN_SCOPE}::TestApplyUserFilter",),
    ),
    Mutation(
        "scope-in-anybodys-session",
        SCOPED,
        "if None not in (opened_for, self.user_id) and opened_for != self.user_id:",
        "if False:",
        (f"{IN_SESSIONS}::test_a_session_of_one_user_serves_no_repository_of_another",),
    ),
    Mutation(
        "scope-of-nobody",
        SCOPED,
        "        if self.user_id is None:\n            raise",
        "        if False:\n            raise",
        (f"{IN_SCOPE}::test_no_verb_does_anything_without_an_owner",),
    ),
    Mutation(
        "scope-writes-for-others",
        SCOPED,
        'if values.get("user_id", owner) != owner:',
        "if False:",
        (f"{IN_SCOPE}::test_values_of_another_user_are_refused",),
    ),
)
