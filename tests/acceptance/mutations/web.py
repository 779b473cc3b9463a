"""Mutations of who may do what over HTTP: sessions, keys, forms."""

from __future__ import annotations

from tests.acceptance.mutant import Mutation

GUARDS = "web/auth/guards.py"
CSRF = "web/http/csrf.py"
SESSIONS = "web/auth/sessions.py"
CATALOG_SESSIONS = "tenancy/catalog/sessions.py"
API_KEYS = "tenancy/catalog/api_keys.py"
ACCOUNTS = "tenancy/accounts/accounts.py"
CURSORS = "web/http/cursors.py"
IN_ROUTES = "tests/web/test_routes.py"
IN_ADDRESSES = "tests/web/http/test_addresses.py"
IN_KEYS = "tests/web/api/test_keys.py"
IN_AUTH = "tests/web/auth/test_auth.py"
IN_SESSIONS = "tests/tenancy/catalog/test_sessions.py"
IN_ACCOUNTS = "tests/tenancy/accounts/test_accounts.py"
IN_CURSORS = "tests/web/http/test_cursors.py"

MUTATIONS = (
    Mutation(
        "administered-by-anybody",
        GUARDS,
        "if admin and not principal.user.is_admin:",
        "if False:",
        (f"{IN_ROUTES}::test_admin_calls_are_403_to_others_for_existing_and_missing_users_alike",),
    ),
    Mutation(
        "reading-key-writes",
        GUARDS,
        "elif principal.read_only:",
        "elif False:",
        (f"{IN_ROUTES}::test_a_read_only_key_reads_and_does_not_write",),
    ),
    Mutation(
        "json-without-csrf-token",
        GUARDS,
        "            check_csrf()\n        elif",
        "            pass\n        elif",
        (f"{IN_ROUTES}::test_a_session_writes_nothing_without_its_csrf_token",),
    ),
    Mutation(
        "form-of-another-site",
        CSRF,
        "if given and not is_own_origin(given):",
        "if False:",
        (f"{IN_ADDRESSES}::test_over_https_the_token_suffices_and_another_site_is_refused",),
    ),
    Mutation(
        "two-credentials",
        GUARDS,
        'if bearer is not None and "_user_id" in session:',
        "if False:",
        (f"{IN_KEYS}::test_a_key_and_a_session_at_once_are_400",),
    ),
    Mutation(
        "key-opens-pages",
        SESSIONS,
        "if asked.blueprint in KEY_BLUEPRINTS else None",
        "if True else None",
        (f"{IN_KEYS}::test_a_key_opens_no_page",),
    ),
    Mutation(
        "session-kept-at-sign-in",
        SESSIONS,
        "    session.clear()\n    session.permanent",
        "    session.permanent",
        (f"{IN_AUTH}::test_signing_in_replaces_what_the_cookie_held",),
    ),
    Mutation(
        "session-outlives-its-end",
        SESSIONS,
        "current_parts().accounts.sign_out(token)",
        "pass",
        (f"{IN_AUTH}::test_logout_kills_the_session_and_every_copy_of_its_cookie",),
    ),
    Mutation(
        "session-of-an-inactive-account",
        CATALOG_SESSIONS,
        ".select_from(joined).where(users.c.is_active)",
        ".select_from(joined)",
        (f"{IN_SESSIONS}::test_a_session_of_a_deactivated_account_is_nobodys",),
    ),
    Mutation(
        "session-without-expiry",
        CATALOG_SESSIONS,
        'sessions.c.token_hash == sa.bindparam("hash"), sessions.c.expires_at > sa.bindparam("now")',
        'sessions.c.token_hash == sa.bindparam("hash")',
        (f"{IN_SESSIONS}::test_an_expired_session_is_over",),
    ),
    Mutation(
        "session-ended-by-anybody",
        CATALOG_SESSIONS,
        "mine = (sessions.c.token_hash == hashed, sessions.c.user_id == user_id)",
        "mine = (sessions.c.token_hash == hashed,)",
        (f"{IN_ACCOUNTS}::test_one_of_ones_own_sessions_is_ended_and_nobody_elses",),
    ),
    Mutation(
        "key-for-any-purpose",
        CATALOG_SESSIONS,
        '        api_keys.c.purpose == sa.bindparam("purpose"),\n',
        "",
        (f"{IN_ACCOUNTS}::test_a_key_of_one_purpose_opens_nothing_else",),
    ),
    Mutation(
        "key-revoked-by-anybody",
        API_KEYS,
        "        condition &= api_keys.c.user_id == user_id\n",
        "        pass\n",
        (f"{IN_ACCOUNTS}::test_nobody_revokes_the_key_of_another_but_an_operator_does",),
    ),
    Mutation(
        "key-makes-a-stronger-key",
        ACCOUNTS,
        "            if made_by is not None:\n",
        "            if False:\n",
        (f"{IN_ADDRESSES}::test_a_key_makes_no_key_that_lives_longer_or_may_do_more",),
    ),
    Mutation(
        "guessed-without-a-limit",
        ACCOUNTS,
        "        self._reserve(key)\n        right",
        "        right",
        (f"{IN_ACCOUNTS}::test_a_throttled_account_refuses_the_right_password_too_and_without_looking",),
    ),
    Mutation(
        "cursor-of-anybody",
        CURSORS,
        'salt=f"unify-cursor|{user_id}|{scope!r}"',
        'salt=f"unify-cursor|{scope!r}"',
        (f"{IN_CURSORS}::test_a_cursor_is_refused_elsewhere",),
    ),
)
