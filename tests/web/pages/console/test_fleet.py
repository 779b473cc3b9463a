"""The console's page of the fleet, and the page of one run."""

from __future__ import annotations

import html
import sqlite3
from contextlib import closing

import pytest
import sqlalchemy as sa

import web
from tenancy.backends.base import DatabaseFields
from tenancy.catalog.runs import Rules, RunState, Selection
from tenancy.catalog.tables import fleet_items, user_database_configs
from tests.support.applications import add_tenants, audit_actions, keep_server, set_back
from tests.support.browsing import Page

PATH = "/admin/fleet"
EVERYONE = Selection()
ACTIONS = ("pause", "resume", "retry", "cancel", "rollback")


@pytest.fixture
def tenants(root, parts):
    """Give four users whose databases are a revision behind; the administrator's own is at head."""
    ids = add_tenants(parts, 4)
    set_back(parts.manager, ids)
    return ids


@pytest.fixture
def fleet(parts):
    return parts.manager.fleet


def harm(settings, user_id):
    """Let a database's ledger be of another opinion than its version table."""
    with closing(sqlite3.connect(settings.tenant_data_dir / f"user_{user_id}.db")) as driver, driver:
        driver.execute("DELETE FROM tenancy_ledger")


def lead(root, answer):
    """Give the page that a form leads to."""
    assert answer.status_code == 303, answer.text
    return root.get(answer.location)


# --- how the fleet stands ------------------------------------------------------------------------------


def test_the_page_says_how_the_fleet_stands_and_who_is_behind_and_why(root, parts, tenants, settings, fleet):
    harm(settings, tenants[0])
    fleet.work(fleet.start(Selection((tenants[0],)), Rules()).id)
    page = root.get(PATH)
    text = " ".join(page.html.split())
    assert f'<span class="number">1</span> <span class="of">at {parts.manager.head}, of 5</span>' in text
    assert '<span class="number">4</span> <span class="of">behind</span>' in text
    assert '<span class="number">1</span> <span class="of">of these failed</span>' in text
    for user_id in tenants:
        assert f"/admin/users/{user_id}" in page.links
    assert "The version table says 0001, the ledger None" in html.unescape(page.html)
    assert page.html.count("It was not migrated yet") == 3
    for command in ("unify fleet status", "unify fleet runs", "unify fleet migrate", "unify db init USER"):
        assert f"<code>{command}</code>" in page.html
    assert f"{PATH}/1" in page.links
    assert page.inline == page.unlabelled == []


def test_one_button_upgrades_one_database_and_no_other(root, parts, tenants, fleet):
    done = root.send(PATH, f"/admin/users/{tenants[1]}/initialize")
    assert done.location == f"/admin/users/{tenants[1]}"
    assert [row["user_id"] for row in fleet.behind()] == [tenants[0], *tenants[2:]]


def test_the_button_upgrades_whatever_a_database_is_kept_in(parts_on_each, visit):
    manager = parts_on_each.manager
    made = parts_on_each.accounts.create("root@example.org", password="correct horse battery", is_admin=True)
    root = type(visit())(web.create(parts_on_each))
    root.sign_in(made.email)
    manager.provision(made.id)
    other = parts_on_each.accounts.create("other@example.org")
    manager.provision(other.id, DatabaseFields(db_type="sqlite"))
    set_back(manager, [made.id, other.id])
    for user_id in (made.id, other.id):
        assert "already ready" in lead(root, root.send(PATH, f"/admin/users/{user_id}/initialize")).html
    assert manager.fleet.status()["at_head"] == 2


def test_who_is_behind_is_paged_by_user(root, parts):
    from bench.world import register_only

    register_only(parts, 60)
    _catalog(
        parts, sa.update(user_database_configs).where(user_database_configs.c.user_id >= 1_000_000), revision="0001"
    )
    first = root.get(PATH)
    assert "p1000024@" in first.html
    assert "p1000025@" not in first.html
    second = root.get(next(link for link in first.links if "after=" in link))
    assert "p1000025@" in second.html
    assert PATH in second.links, "back to the first page"
    assert "This is the end of the list." in root.get(f"{PATH}?after=99999999").html


def test_where_everybody_is_at_head_and_nothing_ever_ran_the_page_says_so(root):
    page = root.get(PATH).html
    assert "Nothing to migrate" in page
    assert "No run yet" in page


def test_one_that_a_newer_version_migrated_is_named_and_has_no_button(root, parts, tenants):
    mine = user_database_configs.c.user_id == tenants[0]
    _catalog(parts, sa.update(user_database_configs).where(mine), revision="9999")
    page = root.get(PATH)
    assert "A newer version of the application migrated it" in page.html
    assert f"/admin/users/{tenants[0]}/initialize" not in [form.action for form in page.forms]


# --- starting ------------------------------------------------------------------------------------------


def test_a_run_is_started_worked_on_elsewhere_and_shown(root, parts, tenants, begun, fleet):
    page = lead(root, root.send(PATH))
    (run_id,) = begun
    assert f"Run {run_id} has started." in page.html
    assert 'hx-trigger="every 1s"' in page.html
    run = fleet.get(run_id)
    assert (run.state, run.counts) == (RunState.RUNNING, {"waiting": 4})
    assert run.actor_id == parts.accounts.find("root@example.org").id
    fleet.work(run_id)
    page = root.get(f"{PATH}/{run_id}")
    assert "hx-trigger" not in page.html
    assert "4 of 4 databases finished" in page.html
    assert "root@example.org" in page.html
    assert all(f"/admin/users/{user_id}" in page.links for user_id in tenants)


def test_what_was_chosen_is_what_runs_and_the_command_says_the_same(root, parts, tenants, fleet):
    keep_server(parts.manager, "it's")
    typed = {"target": "0002", "db_type": "sqlite", "canary": "2", "waves": "10%, 50%", "halt_after": "5%"}
    planned = root.send(PATH, **typed, snapshot="1", step="plan")
    told = (
        "unify fleet migrate --to 0002 --type sqlite --canary 2 --waves '10%, 50%' --halt-after-failures 5% --snapshot"
    )
    assert f"<code>{told}</code>" in html.unescape(planned.text)
    assert "--server 'it'\"'\"'s'" in html.unescape(root.send(PATH, server="it's", step="plan").text)
    root.send(PATH, **typed, snapshot="1")
    run = fleet.get(1)
    assert run.rules == Rules(2, (10.0, 50.0, 100.0), 5.0, True, True)
    assert (run.selection, run.total) == (Selection((), None, "sqlite").written(), 4)
    page = root.get(f"{PATH}/1").html
    for shown in ("10%, 50%, 100%", "5% failed", "of each database", "all users, SQLite"):
        assert shown in " ".join(page.split())


def test_a_run_over_some_users_touches_no_others(root, parts, tenants, fleet):
    one, _, three, _ = tenants
    typed = f"{three}, {parts.accounts.get(one).email},{three}"
    assert f"--only '{typed}' --no-restore-points" in html.unescape(
        root.send(PATH, only=typed, bare="1", step="plan").text
    )
    root.send(PATH, only=typed, bare="1")
    run = fleet.work(1)
    assert (run.counts, run.rules) == ({"done": 2}, Rules(bare=True))
    assert [row["user_id"] for row in fleet.items(1)] == [one, three]
    assert all(shown in root.get(f"{PATH}/1").html for shown in ("2 users", "<dd>none</dd>"))


def test_a_dry_run_says_what_would_be_done_and_does_nothing(root, parts, tenants, begun, fleet):
    parts.manager.suspend(tenants[3])
    planned = root.send(PATH, step="plan")
    assert planned.status_code == 200
    text = " ".join(planned.text.split())
    head = f"<code>{parts.manager.head}</code>"
    assert f"4 databases would be migrated to {head}; 1 is already at it or past it. 1 would be skipped" in text
    assert "There is no earlier run to estimate the time from." in text
    assert (fleet.recent(), begun) == ([], [])
    assert "0 databases would be migrated" in root.send(PATH, target="0001", step="plan").text


def test_with_nothing_to_do_a_run_ends_at_once(root, begun):
    page = lead(root, root.send(PATH)).html
    assert "Run 1 had nothing to do." in page
    assert "There was nothing to do: 1 database was already at" in page
    assert begun == []


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("target", "9999"),
        ("db_type", "oracle"),
        ("server", "nowhere"),
        ("only", "nobody@example.org"),
        ("only", "1, 0"),
        ("only", "x"),
        ("only", ","),
        ("canary", "0"),
        ("canary", "many"),
        ("waves", "50%,10%"),
        ("waves", "10,100"),
        ("halt_after", "1.5"),
        ("halt_after", "101%"),
        ("waves", "\x00"),
    ],
)
@pytest.mark.parametrize("step", ["", "plan"])
def test_what_cannot_be_is_said_beside_its_field(root, fleet, begun, field, text, step):
    answer = root.send(PATH, **{field: text, "step": step})
    assert answer.status_code == 422
    assert f'id="run-{field}-error"' in answer.text
    assert Page(answer.text).inline == []
    assert (fleet.recent(), begun) == ([], [])


def test_restore_points_of_all_and_of_none_are_not_both_to_be_had(root, tenants, fleet):
    answer = root.send(PATH, snapshot="1", bare="1")
    assert answer.status_code == 422
    assert 'id="run-snapshot-error"' in answer.text
    assert fleet.recent() == []


def test_another_run_is_refused_in_words_with_a_link_to_the_one_there_is(root, tenants, fleet, begun):
    run = fleet.start(EVERYONE, Rules())
    fleet.pause(run.id)
    refused = root.send(PATH, db_type="sqlite")
    assert refused.status_code == 409
    assert f"Run {run.id} (migrate, paused) has not ended" in refused.text
    assert f"{PATH}/{run.id}" in Page(refused.text).links
    assert 'value="sqlite" selected' in refused.text, "what was chosen is still there"
    assert begun == []
    assert f"Run {run.id} is paused: 0 of 4 databases are finished." in root.get(PATH).html


# --- one run -------------------------------------------------------------------------------------------


def test_progress_is_told_in_parts_until_the_state_changes(root, tenants, fleet):
    run = fleet.start(EVERYONE, Rules())
    page = root.get(f"{PATH}/{run.id}").html
    asked = f"{PATH}/{run.id}/progress?was=running"
    assert f'hx-get="{asked}"' in page
    assert ">Refresh<" in page, "for those without a script"
    part = root.client.get(asked, headers={"HX-Request": "true"})
    assert 'max="4" value="0"' in part.text
    assert "HX-Refresh" not in part.headers
    assert "<html" not in part.text
    assert root.client.get(asked).location == f"{PATH}/{run.id}", "without a script it leads to the page"
    fleet.work(run.id)
    ended = root.client.get(asked, headers={"HX-Request": "true"})
    assert ended.headers["HX-Refresh"] == "true"
    assert "hx-trigger" not in ended.text


def test_databases_are_listed_by_state_and_paged(root, parts, tenants, settings, fleet):
    harm(settings, tenants[2])
    run = fleet.work(fleet.start(EVERYONE, Rules()).id)
    failed = root.get(f"{PATH}/{run.id}?state=failed")
    assert f"/admin/users/{tenants[2]}" in failed.links
    assert f"/admin/users/{tenants[0]}" not in failed.links
    assert "the ledger None" in failed.html
    assert "None is in this state" in root.get(f"{PATH}/{run.id}?state=offline").html
    one = {"run_id": run.id, "tenant_id": b"", "db_type": "sqlite", "wave": 0, "state": "done"}
    with parts.catalog.writing() as connection:
        known = connection.execute(sa.select(fleet_items.c.tenant_id)).scalars().first()
        rows = [one | {"tenant_id": known, "user_id": 1000 + number} for number in range(60)]
        connection.execute(fleet_items.insert(), rows)
    first = root.get(f"{PATH}/{run.id}?state=done")
    assert "user 1046" in first.html
    assert "user 1047" not in first.html
    second = root.get(next(link for link in first.links if "after=" in link))
    assert "user 1047" in second.html
    assert "user 1059" in second.html
    assert f"{PATH}/{run.id}?state=done" in second.links


def test_a_run_is_paused_resumed_and_taken_back(root, parts, tenants, fleet, begun):
    run = fleet.start(EVERYONE, Rules())
    assert "run 1 is paused" in lead(root, root.send(f"{PATH}/1/pause")).html
    assert begun == []
    assert "run 1 is running" in lead(root, root.send(f"{PATH}/1/resume")).html
    assert begun == [1]
    fleet.work(run.id)
    back = root.send(f"{PATH}/1/rollback")
    assert back.location == f"{PATH}/2"
    assert begun == [1, 2]
    assert fleet.work(2).counts == {"done": 4}
    page = root.get(f"{PATH}/2")
    assert "Run 2: roll back" in page.html
    assert f"{PATH}/1" in page.links
    assert root.get(f"{PATH}/1").html.count(">undone<") >= 4
    assert {row["revision"] for row in fleet.behind()} == {"0001"}
    assert {"fleet.pause", "fleet.resume", "fleet.rollback"} <= set(audit_actions(parts.manager))


def test_only_what_failed_is_tried_again(root, tenants, settings, fleet, begun):
    harm(settings, tenants[0])
    fleet.work(fleet.start(EVERYONE, Rules()).id)
    lead(root, root.send(f"{PATH}/1/retry"))
    assert begun == [1]
    assert fleet.get(1).counts == {"done": 3, "waiting": 1}


def test_a_run_is_cancelled(root, tenants, fleet, begun):
    fleet.start(EVERYONE, Rules())
    assert "run 1 is cancelled" in lead(root, root.send(f"{PATH}/1/cancel")).html
    assert fleet.get(1).counts == {"cancelled": 4}
    assert begun == [], "nothing of it was begun, so that there is nothing to work on"


def test_a_run_offers_what_its_state_allows(root, tenants, fleet):
    def offered():
        return [name for name in ACTIONS if f"{PATH}/1/{name}" in root.get(f"{PATH}/1").links]

    fleet.start(EVERYONE, Rules())
    assert offered() == ["pause", "resume", "cancel"]
    fleet.pause(1)
    assert offered() == ["resume", "cancel"]
    fleet.resume(1)
    fleet.work(1)
    assert offered() == ["rollback"]


@pytest.mark.parametrize("action", ACTIONS)
def test_every_action_asks_first_and_names_its_command(root, tenants, fleet, action):
    fleet.start(EVERYONE, Rules())
    before = fleet.get(1)
    page = root.get(f"{PATH}/1/{action}")
    assert f"<code>unify fleet {action} 1</code>" in page.html
    assert page.inline == []
    assert fleet.get(1) == before


@pytest.mark.parametrize("action", ["pause", "cancel"])
def test_what_the_state_does_not_allow_is_told_and_changes_nothing(root, tenants, fleet, begun, action):
    before = fleet.work(fleet.start(EVERYONE, Rules()).id)
    page = lead(root, root.send(f"{PATH}/1/{action}")).html
    assert "Nothing was changed: run 1 is done." in page
    assert (fleet.get(1), begun) == (before, [])


def test_a_rollback_while_another_run_is_under_way_is_told(root, tenants, fleet, begun):
    fleet.work(fleet.start(Selection((tenants[0],)), Rules()).id)
    fleet.start(EVERYONE, Rules())
    assert "Nothing was changed: run 2 (migrate, running)" in lead(root, root.send(f"{PATH}/1/rollback")).html
    assert begun == []


def test_runs_that_never_were_are_not_there(root, begun):
    for number in ("0", "1", "99999999999999999999"):
        for path in ("", "/progress", *(f"/{action}" for action in ACTIONS)):
            root.get(f"{PATH}/{number}{path}", 404)
        for action in ACTIONS:
            assert root.post(f"{PATH}/{number}/{action}").status_code == 404
    assert begun == []


@pytest.mark.parametrize("asked", ["?after=x", "?after=-1", "?after=1e9", "/1?state=x", "/1?after=x"])
def test_a_list_that_cannot_be_is_refused(root, tenants, fleet, asked):
    fleet.start(EVERYONE, Rules())
    root.get(PATH + asked, 400)


# --- everything ----------------------------------------------------------------------------------------


def test_everybody_else_is_refused(ada, visit, parts, begun):
    token = ada.token
    for path in (PATH, f"{PATH}/1", f"{PATH}/1/progress", *(f"{PATH}/1/{action}" for action in ACTIONS)):
        ada.get(path, 403)
        assert visit().client.get(path).status_code == 302
    for path in (PATH, *(f"{PATH}/1/{action}" for action in ACTIONS)):
        assert ada.client.post(path, data={"csrf_token": token}).status_code == 403
    assert (parts.manager.fleet.recent(), begun) == ([], [])


def test_without_the_token_nothing_is_started(root, tenants, fleet, begun):
    assert root.client.post(PATH).status_code == 400
    assert (fleet.recent(), begun) == ([], [])


def test_no_database_is_opened_and_statements_do_not_grow_with_the_fleet(statements, root, parts, tenants, fleet):
    from bench.world import register_only

    fleet.start(EVERYONE, Rules())
    paths = (PATH, f"{PATH}/1", f"{PATH}/1?state=waiting", f"{PATH}/1/cancel")
    few = {path: _counted(statements, root, path) for path in paths}
    register_only(parts, 300)
    _catalog(parts, sa.update(user_database_configs), revision="0001")
    assert {path: _counted(statements, root, path) for path in paths} == few
    assert max(few.values()) <= 8, few


def test_the_overview_and_the_health_page_lead_to_the_fleet(root, tenants):
    for path in ("/admin/", "/admin/health"):
        page = root.get(path)
        assert page.links.count(PATH) >= 2, "the tab, and beside how many are behind"
    assert "unify fleet migrate" in root.get("/admin/health").html


def test_in_shared_mode_there_is_no_fleet(visit, shared_parts, begun):
    made = shared_parts.accounts.create("root@example.org", password="correct horse battery", is_admin=True)
    root = type(visit())(web.create(shared_parts))
    root.sign_in(made.email)
    page = root.get(PATH)
    assert "unify db create-config-table" in page.html
    assert [form.action for form in page.forms if form.action == PATH] == []
    assert "there is no fleet to migrate" in lead(root, root.post(PATH)).html
    assert (shared_parts.manager.fleet.recent(), begun) == ([], [])


def _catalog(parts, statement, **values):
    with parts.catalog.writing() as connection:
        connection.execute(statement.values(**values))


def _counted(statements, root, path):
    root.get(path)
    with statements() as sent:
        root.get(path)
    assert {file for file, _ in sent} == {"admin.db"}
    return len(sent)
