"""The page of one account and its database, and what administrators do there."""

from __future__ import annotations

import pytest

from tenancy.catalog import claims
from tenancy.errors import StorageFullError

OLD_ACTIONS = ("initialize", "test", "deactivate", "activate")
ACTIONS = (*OLD_ACTIONS, "suspend", "resume", "promote", "delete", "sessions/end")


def test_the_page_tells_configuration_identity_ledger_and_audit_without_secrets(root, parts, user):
    page = root.get(f"/admin/users/{user.id}")
    config = parts.manager.load_user_db_config(user.id)
    for shown in (user.email, config["db_path"], config["tenant_id"], "as configured", "Ledger", parts.manager.head):
        assert str(shown) in page.html
    assert "tenant.provision" in page.html
    for command in ("db suspend", "db test", "db delete", "users deactivate", "users set-password", "db info"):
        assert f"unify {command} {user.id}" in page.html
    assert page.inline == []


def test_a_database_that_does_not_answer_is_said_and_the_page_stands(root, parts, user, settings):
    _lose(parts, user, settings)
    page = root.get(f"/admin/users/{user.id}")
    assert "The database does not answer." in page.html
    assert f"/admin/users/{user.id}/test" in page.links


def test_sizes_over_time_are_drawn(root, parts, user):
    assert "No sizes are known yet" in root.get(f"/admin/users/{user.id}").html
    parts.manager.observations.flush([parts.manager.tenant_of(user.id)])
    page = root.get(f"/admin/users/{user.id}").html
    assert "Size of the database" in page
    assert 'class="stroke"' in page


def test_a_running_operation_is_shown_and_asked_after_until_it_ends(root, parts, user):
    place = parts.manager.tenant_of(user.id)
    with parts.catalog.writing() as connection:
        claim = claims.take(parts.catalog, connection, place.tenant_id, "migrate", 60.0)
    page = root.get(f"/admin/users/{user.id}").html
    assert "Running:" in page
    assert 'hx-trigger="every 2s"' in page
    assert "Refresh" in page
    asked, script = f"/admin/users/{user.id}/progress?was=running", {"HX-Request": "true"}
    running = root.client.get(asked, headers=script)
    assert "migrate" in running.text
    assert "HX-Refresh" not in running.headers
    with parts.catalog.writing() as connection:
        claim.release(connection)
    ended = root.client.get(asked, headers=script)
    assert ended.headers["HX-Refresh"] == "true"
    assert "hx-trigger" not in ended.text
    assert root.client.get(asked).status_code == 303, "without a script it leads to the page"


def test_every_action_asks_first_and_names_its_command(root, parts, user):
    page = root.get(f"/admin/users/{user.id}")
    offered = [link for link in page.links if link.startswith(f"/admin/users/{user.id}/")]
    assert {link.rpartition(f"{user.id}/")[2] for link in offered} == {
        "test", "suspend", "promote", "sessions/end", "deactivate", "delete",
    }  # fmt: skip
    for link in offered:
        asked = root.get(link)
        assert [form.action for form in asked.forms if form.action == link], link
        assert "<code>unify " in asked.html, link
    assert parts.manager.load_user_db_config(user.id)["status"] == "ready", "to ask changes nothing"


def test_suspending_shuts_the_database_and_resuming_opens_it(root, ada, parts, user):
    assert root.send(f"/admin/users/{user.id}/suspend").location == f"/admin/users/{user.id}"
    page = root.get(f"/admin/users/{user.id}")
    assert "is suspended" in page.html
    assert f"/admin/users/{user.id}/resume" in page.links
    assert ada.client.get("/tasks").status_code == 503
    asked = root.form(f"/admin/users/{user.id}/resume")
    root.client.post(asked.action, data=asked.values)
    assert "has been resumed" in root.get(f"/admin/users/{user.id}").html
    root.client.post(asked.action, data=asked.values)
    assert "is not suspended: nothing was done" in root.get(f"/admin/users/{user.id}").html
    assert ada.client.get("/tasks").status_code == 200


def test_an_action_that_cannot_be_says_why_and_changes_nothing(root, parts):
    made = parts.accounts.create("new@example.org")
    root.send(f"/admin/users/{made.id}/suspend")
    assert "Nothing was changed for new@example.org: user" in root.get("/admin/").html


def test_deleting_needs_the_address_typed(root, parts, user):
    path = f"/admin/users/{user.id}/delete"
    for typed in ("", "somebody@example.org", "x" * 10_000):
        refused = root.send(path, address=typed)
        assert refused.status_code == 422
        assert f"Type {user.email}" in refused.text
    assert parts.manager.load_user_db_config(user.id)["status"] == "ready"
    assert root.send(path, address=f" {user.email.upper()} ").status_code == 303
    page = root.get(f"/admin/users/{user.id}")
    assert "has been deleted" in page.html
    assert "has no place to store its data" in page.html
    assert "tenant.delete" in root.get("/admin/audit").html


def test_promoting_makes_an_administrator(root, ada, user):
    root.send(f"/admin/users/{user.id}/promote")
    ada.get("/admin/")


def test_ending_sessions_signs_out_and_keeps_the_one_that_asks(root, ada, parts, user):
    root.send(f"/admin/users/{user.id}/sessions/end")
    assert "1 session of" in root.get("/admin/").html
    assert ada.client.get("/tasks").status_code == 302
    me = parts.accounts.find("root@example.org")
    root.send(f"/admin/users/{me.id}/sessions/end")
    root.get("/admin/")


def test_deactivating_signs_out_at_once_and_activating_lets_in_again(root, ada, user):
    assert root.send(f"/admin/users/{user.id}/deactivate").status_code == 303
    assert ada.client.get("/tasks").status_code == 302
    assert ada.sign_in(user.email).status_code == 422
    assert "deactivated" in root.get("/admin/users").html
    assert root.send(f"/admin/users/{user.id}/activate").status_code == 303
    assert ada.sign_in(user.email).status_code == 303


def test_an_administrator_cannot_shut_themselves_out(root, parts):
    me = parts.accounts.find("root@example.org")
    assert f"/admin/users/{me.id}/deactivate" not in root.get(f"/admin/users/{me.id}").links
    assert root.client.get(f"/admin/users/{me.id}/deactivate").status_code == 303, "it does not ask either"
    root.post(f"/admin/users/{me.id}/deactivate")
    assert "cannot deactivate your own account" in root.get("/admin/").html
    assert parts.accounts.get(me.id).is_active


def test_every_action_is_in_the_audit_log_with_who_did_it(root, parts, user):
    for action in ("suspend", "resume", "promote", "sessions/end", "deactivate", "activate"):
        root.send(f"/admin/users/{user.id}/{action}")
    me = parts.accounts.find("root@example.org")
    done = [row["action"] for row in parts.manager.audit.page(user_id=user.id, actor_id=me.id)]
    assert len(done) == 6, done


def test_the_connection_test_says_how_it_went(root, parts, user, settings):
    page = root.send(f"/admin/users/{user.id}/test")
    assert page.status_code == 200
    assert "The database answers." in page.text
    assert parts.manager.head in page.text
    _lose(parts, user, settings)
    lost = root.post(f"/admin/users/{user.id}/test")
    assert lost.status_code == 200
    assert "is gone" in lost.text
    without = parts.accounts.create("new@example.org")
    assert "has no database" in root.post(f"/admin/users/{without.id}/test").text


def test_a_database_is_initialized_once(root, parts):
    made = parts.accounts.create("new@example.org")
    path = f"/admin/users/{made.id}/initialize"
    assert path in root.get(f"/admin/users/{made.id}").links
    assert root.send(path).status_code == 303
    assert "was created" in root.get("/admin/").html
    assert parts.manager.load_user_db_config(made.id)["status"] == "ready"
    assert root.post(path).status_code == 303
    assert "already ready" in root.get("/admin/").html


def test_a_failure_to_initialize_is_said(root, parts, monkeypatch):
    made = parts.accounts.create("new@example.org")

    def full(*_: object) -> None:
        raise StorageFullError("the disk is full: make room.")

    monkeypatch.setattr(parts.manager, "provision", full)
    assert root.post(f"/admin/users/{made.id}/initialize").status_code == 303
    assert "the disk is full" in root.get("/admin/").html


def test_trying_a_configuration_tells_its_steps_and_makes_nothing(root, parts):
    made = parts.accounts.create("new@example.org")
    tried = root.send(f"/admin/users/{made.id}/initialize", step="probe")
    assert tried.status_code == 200
    assert "This would work." in tried.text
    assert "A database can be created here." in tried.text
    assert parts.manager.reports.tenant(made.id)["config"] is None


@pytest.fixture
def with_server(parts, monkeypatch):
    """Let the console offer a type that asks for a server; no such database answers."""
    asked = {"required": True, "default": "", "help": "", "kind": "text"}
    server = [
        asked | {"name": "db_host", "label": "Server"},
        asked | {"name": "db_port", "label": "Port", "kind": "number", "default": "5432"},
        asked | {"name": "db_password", "label": "Password", "kind": "password"},
    ]
    types = [*parts.manager.reports.database_types(), {"name": "postgresql", "label": "PostgreSQL", "fields": server}]
    monkeypatch.setattr(parts.manager.reports, "database_types", lambda: types)


def test_the_form_is_that_of_the_chosen_type(root, parts, with_server):
    path = f"/admin/users/{parts.accounts.create('new@example.org').id}/initialize"
    assert 'name="db_host"' not in root.get(path).html
    chosen = root.get(f"{path}?db_type=postgresql")
    assert chosen.unlabelled == []
    form = next(form for form in chosen.forms if form.method == "POST" and form.action == path)
    assert form.values["db_port"] == "5432"
    assert form.values["db_type"] == "postgresql"


def test_what_was_typed_is_kept_but_for_the_password(root, parts, with_server):
    path = f"/admin/users/{parts.accounts.create('new@example.org').id}/initialize"
    typed = {"db_type": "postgresql", "db_host": "db.example.org", "db_port": "5432", "db_password": "tr0ub4dor"}
    tried = root.post(path, step="probe", **typed)
    assert tried.status_code == 200
    assert "This would not work." in tried.text
    assert 'value="db.example.org"' in tried.text
    assert "tr0ub4dor" not in tried.text
    refused = root.post(path, **typed | {"db_port": "99999"})
    assert refused.status_code == 422
    assert "The largest value is 65535." in refused.text
    assert "tr0ub4dor" not in refused.text


def test_everybody_else_is_refused_alike_for_existing_and_missing_users(ada, visit, user):
    visitor = visit()
    token = visitor.form("/auth/login").values["csrf_token"]
    for action in ACTIONS:
        seen = [ada.post(f"/admin/users/{key}/{action}") for key in (user.id, 99, 2**40)]
        seen += [ada.client.get(f"/admin/users/{key}/{action}") for key in (user.id, 99, 2**40)]
        assert [answer.status_code for answer in seen] == [403] * 6
        answer = visitor.client.post(f"/admin/users/{user.id}/{action}", data={"csrf_token": token})
        assert (answer.status_code, answer.location) == (302, "/auth/login")


@pytest.mark.parametrize("key", ["0", "99", str(2**31), str(2**63), "9" * 60, "-1", "1;drop", "x"])
def test_a_user_who_is_not_there_is_404(root, key):
    for action in ACTIONS:
        assert root.post(f"/admin/users/{key}/{action}").status_code == 404
        root.get(f"/admin/users/{key}/{action}", 404)
    root.get(f"/admin/users/{key}", 404)
    root.get(f"/admin/users/{key}/progress", 404)


def _lose(parts, user, settings):
    """Take the file of a database away."""
    parts.manager.engines.close()
    for path in settings.tenant_data_dir.glob(f"user_{user.id}.db*"):
        path.unlink()
