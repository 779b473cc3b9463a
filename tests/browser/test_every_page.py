"""Look at every page there is, in light and dark, at a desk and on a phone, with nothing, something and too much in it.

Axe-core's findings are kept in ``test-output``, and pictures where they are asked for. The pages come from the URL map,
so that a new one cannot be forgotten.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

import pytest
from flask import Flask

import web
from repositories.repository_factory import RepositoryFactory
from tenancy.catalog import leftovers
from tenancy.catalog.backups import BackupState
from tests.browser.conftest import PHONE
from tests.support import axe
from tests.support.applications import keep_runs, keep_server
from tests.support.backups import keep_backup, key_pair
from tests.support.households import LONG_NAME, STATES
from tests.support.rows import PAGED

if TYPE_CHECKING:
    from compose import Parts
    from tenancy.models import User

pytestmark = pytest.mark.browser

PASSWORD = "correct horse battery"
ARGUMENT = re.compile(r"<(?:\w+:)?(\w+)>")
ROW_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}")
PROGRAMS = ("static", "favicon", "api", "admin_api", "ops", "openapi", "feed")
MORE = {
    "/events": ("?view=week", "?view=list", "?view=list&past=1"),
    "/search": ("?q=the", "?q=nothingofthekind"),
    "/tasks": ("?q=number", "?q=the", "?status=any&sort=due"),
    "/notes": ("?q=dull",),
    "/admin/users": ("?q=example", "?sort=email"),
}
"""Views of a page that its address alone does not show."""

VISITORS = ("/", "/auth/login", "/auth/register", "/auth/logout", "/api/docs", "/nothing")


EVERY_LOOK = [(look, state) for look in ("light", "dark", "phone") for state in STATES]
LOOKS = EVERY_LOOK if os.environ.get("LOOKS") == "all" else [("light", "empty"), ("dark", "normal"), ("phone", "full")]
"""LOOKS=all takes every picture; without it each look and each state is there once."""


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("look", "state"), LOOKS)
def test_every_page_is_fit_for_everybody(make_parts, tmp_path, serve, browse, look, state):
    parts = make_parts(allow_user_databases="true", **key_pair(tmp_path))
    keep_server(parts.manager, "one")
    user, runs = _first_user(parts, state)
    app = web.create(parts)
    size = PHONE if look == "phone" else None
    ada = browse(serve(app), scheme="dark" if look == "dark" else "light", size=size)
    found: dict[str, list[str]] = {}
    for path in VISITORS if state == "empty" else ():
        ada.open(path)
        _look(ada, f"visitor {path}", f"{look}-visitor", path, found)
    _sign_in(ada, user)
    for path in _pages(app, parts, user, runs):
        answer = ada.open(path)
        assert answer.status == 200, path
        if ada.page.locator("#content").count():  # and not a part that a script asks for
            _look(ada, path, f"{look}-{state}", path, found)
    axe.keep(f"{look}-{state}", found)
    assert len(found) >= 20
    assert {path: axe.serious(each) for path, each in found.items() if axe.serious(each)} == {}
    refused = [problem for problem in ada.problems if "404" in problem]
    assert [problem for problem in ada.problems if problem not in refused] == []
    assert len(refused) == (1 if state == "empty" else 0), "the page that is not there"


def test_a_long_name_to_choose_from_makes_no_page_wider_than_a_phone(make_parts, serve, browse):
    """Look where categories are chosen from a list: with too many of them, as in "full", they are typed."""
    parts = make_parts()
    user, _ = _first_user(parts, "normal")
    ada = browse(serve(web.create(parts)), size=PHONE)
    _sign_in(ada, user)
    for path in ("/tasks", "/notes", "/events", "/events?view=list", "/categories", "/"):
        ada.open(path)
        chosen = ada.page.locator("option", has_text=LONG_NAME).count()
        assert chosen or path in ("/categories", "/"), path
        ada.picture(f"long-name-{path.strip('/') or 'home'}")


def _look(visitor: Any, name: str, kind: str, path: str, found: dict[str, list[str]]) -> None:
    known = list(visitor.problems)
    found[name] = axe.findings(visitor.page, colours_alone=kind.startswith("dark"))
    visitor.problems[:] = known  # axe-core tries styles of its own, which the policy refuses as it should
    plain = ROW_ID.sub("row", path.lower())
    visitor.picture(f"{re.sub('[^a-z0-9]+', '-', plain).strip('-') or 'home'}-{kind}")


def _first_user(parts: Parts, state: str) -> tuple[User, list[int]]:
    """Make an administrator, everybody else, and the fleet runs there were; those are nobody's if there is nobody."""
    user = parts.accounts.create("ada@example.org", display_name="Ada", password=PASSWORD, is_admin=True)
    parts.manager.provision(user.id)
    parts.accounts.set_preferences(user.id, {"time_zone": "Europe/Berlin"})
    STATES[state](parts, user.id)
    tenants = []
    for number in range({"empty": 0, "normal": 5, "full": 120}[state]):
        other = parts.accounts.create(f"person{number}.with.a.rather.long.address@department.example.org")
        if number % 4 and number < 20:
            parts.manager.provision(other.id)
            tenants.append(other.id)
    if state == "full":
        for number in range(30):
            parts.accounts.issue_key(user.id, f"Program {number}", read_only=bool(number % 2))
        for number in range(12):
            parts.accounts.sign_in_without_password(user.id, user_agent=f"Robot/{number}", address="192.0.2.7")
    return user, keep_runs(parts.manager, tenants) if tenants else []


def _sign_in(visitor: Any, user: User) -> None:
    visitor.open("/auth/login")
    visitor.page.locator("#login-email").fill(user.email)
    visitor.page.locator("#login-password").fill(PASSWORD)
    visitor.press("Sign in")
    visitor.page.wait_for_url("**/")


def _of(name: str, session: Any, user: User) -> Any:
    return RepositoryFactory.get_repository(name, session, user.id)


def _pages(app: Flask, parts: Parts, user: User, runs: list[int]) -> list[str]:
    """Give every address of a page, with the user's own rows in it; of what they have none of, there is no page."""
    rows = {"/admin/users": str(user.id), "/admin/servers": "one"} | ({"/admin/fleet": str(runs[-1])} if runs else {})
    with parts.manager.session(user.id, write=True) as session:
        for name in PAGED:
            first = _of(name, session, user).list(limit=1)
            rows |= {f"/{name}": str(row["id"]) for row in first}
        _of("settings", session, user).put("a.key", "a value")
        rows["/settings/values"] = "a.key"
    with parts.catalog.writing() as connection:
        gone = parts.manager.tenant_of(user.id).with_(db_path="gone.db", last_error="it is gone.")
        rows["/admin/leftovers"] = str(leftovers.add(connection, gone, leftovers.Reason.FORGOTTEN).id)
    kept = [keep_backup(parts.manager, user.id, hours=hours) for hours in range(0, 240, 24)]
    keep_backup(parts.manager, user.id, state=BackupState.FAILED, error="the disk is full.", error_code="storage_full")
    keep_backup(parts.manager, None, hours=60)
    rows |= {"/admin/backups": str(kept[0].id), "/settings/data": str(kept[0].id)}
    rows["/settings/data/work"] = str(parts.manager.backup_jobs.backup(user.id).id)
    found = [f"/admin/fleet/{number}" for number in runs]
    found.append(f"/admin/users/{user.id}/restore/{kept[0].id}")
    for rule in app.url_map.iter_rules():
        if (
            "GET" not in (rule.methods or ())
            or rule.endpoint.split(".")[0] in PROGRAMS
            or rule.rule.endswith((".ics", ".csv", ".jsonl"))
        ):
            continue
        base = rule.rule.partition("/<")[0]
        if rule.rule.count("<") < 2 and ("<" not in rule.rule or base in rows):
            path = ARGUMENT.sub(rows.get(base, ""), rule.rule)
            found += [path, *(path + query for query in MORE.get(path, ()))]
    return sorted(path for path in set(found) if not path.startswith("/auth/log") and path != "/auth/register")
