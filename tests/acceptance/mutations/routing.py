"""Mutations of routes, engines and connections."""

from __future__ import annotations

from tests.acceptance.mutant import Mutation

ROUTER = "tenancy/routing/router.py"
ENGINES = "tenancy/routing/engines.py"
CONNECTION_LIMITS = "tenancy/routing/connection_limits.py"
DBAPI = "tenancy/routing/dbapi.py"
IN_MANAGER = "tests/tenancy/test_manager.py"
IN_ENGINES = "tests/tenancy/routing/test_engines.py"
IN_PROCESSES = "tests/tenancy/guarantees/test_processes.py"
IN_GATES = "tests/tenancy/backends/test_gates.py"
IN_DBAPI = "tests/tenancy/routing/test_dbapi.py"

MUTATIONS = (
    Mutation(
        "route-in-any-state",
        ROUTER,
        "if tenant.state not in READABLE or not tenant.is_active:",
        "if not tenant.is_active:",
        (f"{IN_MANAGER}::test_every_state_is_honoured",),
    ),
    Mutation(
        "route-though-switched-off",
        ROUTER,
        "if tenant.state not in READABLE or not tenant.is_active:",
        "if tenant.state not in READABLE:",
        (f"{IN_MANAGER}::test_a_configuration_that_was_switched_off_is_refused",),
    ),
    Mutation(
        "route-writes-where-read-only",
        ROUTER,
        "if route.write and tenant.state not in WRITABLE:",
        "if False:",
        (f"{IN_MANAGER}::test_every_state_is_honoured",),
    ),
    Mutation(
        "route-at-any-revision",
        ROUTER,
        "if not self._chain.serves(tenant.revision, tenant.usable_from):",
        "if False:",
        (f"{IN_MANAGER}::test_a_tenant_behind_or_ahead_of_the_code_is_refused_with_the_reason",),
    ),
    Mutation(
        "engine-of-an-old-version",
        ENGINES,
        "if entry is not None and entry.tenant.version == tenant.version:",
        "if entry is not None:",
        (f"{IN_ENGINES}::test_a_changed_configuration_version_retires_the_old_engine",),
    ),
    Mutation(
        "engine-for-an-older-route",
        ENGINES,
        "if entry is not None and entry.tenant.version > tenant.version:",
        "if False:",
        (f"{IN_ENGINES}::test_an_older_route_of_a_request_is_asked_for_again",),
    ),
    Mutation(
        "engine-evicted-in-use",
        ENGINES,
        "idle = (entry for entry in self._entries.values() if entry.leases == 0)",
        "idle = iter(list(self._entries.values()))",
        (f"{IN_ENGINES}::test_evicting_an_engine_in_use_waits_for_its_lease",),
    ),
    Mutation(
        "engine-used-after-retirement",
        ENGINES,
        "if entry.retired and entry.leases == 0:\n            raise",
        "if False:\n            raise",
        (f"{IN_ENGINES}::test_a_retired_engine_is_refused_to_those_who_kept_it",),
    ),
    Mutation(
        "engine-shared-with-a-child",
        ENGINES,
        "        after_fork(self._forget)\n",
        "",
        (
            f"{IN_PROCESSES}::test_a_forked_child_opens_connections_of_its_own_and_both_go_on",
            f"{IN_PROCESSES}::test_an_engine_kept_from_before_the_fork_is_refused_in_the_child",
        ),
    ),
    Mutation(
        "connection-unchecked",
        ENGINES,
        "guards.check_identity(entry.backend, entry.tenant, driver, entry.tenant.revision or self._head())",
        "pass",
        (f"{IN_MANAGER}::test_another_tenants_file_in_its_place_shows_nothing",),
    ),
    Mutation(
        "connection-without-gate",
        ENGINES,
        "driver = entry.backend.gated(driver)",
        "pass",
        (f"{IN_GATES}::test_no_way_round_the_fence_writes",),
    ),
    Mutation(
        "connection-over-the-limit",
        CONNECTION_LIMITS,
        "if self.open < self.limit:",
        "if True:",
        (f"{IN_ENGINES}::test_who_waits_too_long_is_told_so_and_leaves_no_place_taken",),
    ),
    Mutation(
        "connection-waited-for-by-a-holder",
        ENGINES,
        "may_wait=self._held.holder.leases <= 1",
        "may_wait=True",
        (f"{IN_ENGINES}::test_a_thread_that_holds_an_engine_never_waits_for_a_second",),
    ),
    Mutation(
        "plain-sql-all-reads",
        DBAPI,
        "return _READS.match(sql) is not None and",
        "return True or",
        (f"{IN_DBAPI}::test_what_might_write_takes_the_fence",),
    ),
    Mutation(
        "plain-sql-read-goes-on-as-write",
        DBAPI,
        "if self._open is not None and write and not self._writing:",
        "if False:",
        (
            f"{IN_DBAPI}::test_a_write_that_began_after_a_read_passes_the_fence_too",
            f"{IN_DBAPI}::test_a_read_becomes_a_write_by_beginning_anew",
        ),
    ),
)
