"""Mutations of the ledger, sealed passwords and the audit log."""

from __future__ import annotations

from tests.acceptance.mutant import Mutation

UPGRADE = "tenancy/lifecycle/upgrade.py"
LEDGER = "tenancy/schema/ledger.py"
KEYRING = "tenancy/credentials/keyring.py"
OPERATION = "tenancy/lifecycle/operation.py"
AUDIT = "tenancy/catalog/audit.py"
IN_LEDGER = "tests/tenancy/schema/test_ledger.py"
IN_RUNS = "tests/tenancy/fleet/test_runs.py"
IN_KEYRING = "tests/tenancy/credentials/test_keyring.py"
IN_OWN_DATABASE = "tests/tenancy/lifecycle/test_own_database.py"
IN_AUDIT = "tests/tenancy/catalog/test_audit.py"

MUTATIONS = (
    Mutation(
        "ledger-may-disagree",
        UPGRADE,
        "if last != here:",
        "if False:",
        (f"{IN_LEDGER}::test_a_ledger_that_disagrees_with_the_version_table_is_a_named_error",),
    ),
    Mutation(
        "ledger-of-edited-revisions",
        UPGRADE,
        "        if edited:\n",
        "        if False:\n",
        (f"{IN_RUNS}::test_a_revision_that_was_edited_after_it_was_applied_can_be_taken_back_and_applied_anew",),
    ),
    Mutation(
        "ledger-not-written",
        UPGRADE,
        "ledger.record(changed, revision, direction, checksum, took_ms, self.services.schema.app_version)",
        "pass",
        (f"{IN_LEDGER}::test_a_row_says_what_was_applied_when_how_long_it_took_and_by_which_version",),
    ),
    Mutation(
        "ledger-in-the-order-of-clocks",
        LEDGER,
        '"id": _next_id(connection.execute(_last).scalar()),',
        '"id": new_id(),',
        (
            f"{IN_LEDGER}::test_machines_whose_clocks_differ_migrate_one_database_after_each_other",
            f"{IN_LEDGER}::test_what_was_applied_again_by_a_slow_machine_counts_as_it_was_applied_last",
            f"{IN_LEDGER}::test_rows_read_back_in_the_order_they_were_applied",
        ),
    ),
    Mutation(
        "migrates-an-unknown-revision",
        UPGRADE,
        "if here is not None and not self.chain.knows(here):",
        "if False:",
        (f"{IN_RUNS}::test_a_database_that_contradicts_itself_is_named_and_left_and_the_rest_go_on",),
    ),
    Mutation(
        "secret-of-any-row",
        KEYRING,
        ' or payload.get("binding") != json.loads(json.dumps(dict(binding)))',
        "",
        (IN_KEYRING,),
    ),
    Mutation("secret-in-any-spelling", KEYRING, "if not _TOKEN.fullmatch(", "if not len(", (IN_KEYRING,)),
    Mutation("key-of-any-length", KEYRING, "if len(raw) != 32:", "if False:", (IN_KEYRING,)),
    Mutation("key-twice", KEYRING, "if raw in decoded:", "if False:", (IN_KEYRING,)),
    Mutation(
        "sealed-under-the-oldest-key", KEYRING, "return self.key_ids[0]", "return self.key_ids[-1]", (IN_KEYRING,)
    ),
    Mutation(
        "no-policy-for-hosts-of-users",
        OPERATION,
        "self.hosts if tenant.origin == Origin.USER else None",
        "None",
        (f"{IN_OWN_DATABASE}::test_the_check_runs_at_every_use_whatever_was_true_when_it_was_stored",),
    ),
    Mutation(
        "audit-row-changed",
        AUDIT,
        "if not hmac.compare_digest(",
        "if False and not hmac.compare_digest(",
        (f"{IN_AUDIT}::test_a_changed_row_is_named",),
    ),
    Mutation(
        "audit-tail-cut-off",
        AUDIT,
        "if (head.last_id, head.seal) != (last, seal):",
        "if False:",
        (f"{IN_AUDIT}::test_a_tail_cut_off_is_named",),
    ),
)
