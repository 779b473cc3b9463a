"""The administrator's pages, and that they are nobody else's."""

from __future__ import annotations

import pytest

import web
from tenancy.errors import StorageFullError

ACTIONS = ("initialize", "test", "deactivate", "activate")


def test_users_and_their_databases_are_listed(root, parts, user, other):
    parts.manager.suspend(other.id)
    without = parts.accounts.create("new@example.org", display_name="<script>x</script>")
    page = root.get("/admin/")
    for shown in (user.email, other.email, without.email, "suspended", "absent", "ready", "root@example.org"):
        assert shown in page.html
    assert "<script>" not in page.html
    actions = [form.action for form in page.forms]
    assert f"/admin/users/{without.id}/initialize" in actions
    assert f"/admin/users/{user.id}/initialize" not in actions
    assert f"/admin/users/{user.id}/test" in actions


def test_a_database_is_initialized_once(root, parts):
    made = parts.accounts.create("new@example.org")
    assert root.send("/admin/", f"/admin/users/{made.id}/initialize").status_code == 303
    assert "was made" in root.get("/admin/").html
    assert parts.manager.load_user_db_config(made.id)["status"] == "ready"
    assert root.post(f"/admin/users/{made.id}/initialize").status_code == 303
    assert "stood ready already" in root.get("/admin/").html


def test_a_failure_to_initialize_is_said(root, parts, monkeypatch):
    made = parts.accounts.create("new@example.org")

    def full(*_: object) -> None:
        raise StorageFullError("the disk is full: make room.")

    monkeypatch.setattr(parts.manager, "provision", full)
    assert root.post(f"/admin/users/{made.id}/initialize").status_code == 303
    assert "the disk is full" in root.get("/admin/").html


def test_the_connection_test_says_how_it_went(root, parts, user, settings):
    page = root.send("/admin/", f"/admin/users/{user.id}/test")
    assert page.status_code == 200
    assert "The database answers." in page.text
    assert parts.manager.head in page.text
    parts.manager.engines.close()
    for path in settings.tenant_data_dir.glob(f"user_{user.id}.db*"):
        path.unlink()
    lost = root.post(f"/admin/users/{user.id}/test")
    assert lost.status_code == 200
    assert "is gone" in lost.text
    without = parts.accounts.create("new@example.org")
    assert "has no database" in root.post(f"/admin/users/{without.id}/test").text


def test_deactivating_signs_out_at_once_and_activating_lets_in_again(root, ada, user):
    assert root.send("/admin/", f"/admin/users/{user.id}/deactivate").status_code == 303
    assert ada.client.get("/tasks").status_code == 302
    assert ada.sign_in(user.email).status_code == 422
    assert "deactivated" in root.get("/admin/").html
    assert root.send("/admin/", f"/admin/users/{user.id}/activate").status_code == 303
    assert ada.sign_in(user.email).status_code == 303


def test_an_administrator_cannot_shut_themselves_out(root, parts):
    me = parts.accounts.find("root@example.org")
    root.post(f"/admin/users/{me.id}/deactivate")
    assert "cannot deactivate your own account" in root.get("/admin/").html


def test_everybody_else_is_refused_alike_for_existing_and_missing_users(ada, visit, user):
    refused = ada.get("/admin/", 403)
    assert "Only administrators may do this." in refused.html
    assert 'href="/admin/"' not in ada.get("/").html
    visitor = visit()
    assert visitor.client.get("/admin/").status_code == 302
    token = visitor.form("/auth/login").values["csrf_token"]
    for action in ACTIONS:
        seen = [ada.post(f"/admin/users/{key}/{action}") for key in (user.id, 99, 2**40)]
        assert [answer.status_code for answer in seen] == [403] * 3
        answer = visitor.client.post(f"/admin/users/{user.id}/{action}", data={"csrf_token": token})
        assert (answer.status_code, answer.location) == (302, "/auth/login")


@pytest.mark.parametrize("key", ["0", "99", str(2**31), str(2**63), "9" * 60, "-1", "1;drop", "x"])
@pytest.mark.parametrize("action", ACTIONS)
def test_a_user_who_is_not_there_is_404(root, key, action):
    assert root.post(f"/admin/users/{key}/{action}").status_code == 404


@pytest.mark.parametrize("after", ["x", "-1", "9" * 40, "1;drop", "²"])
def test_a_page_that_cannot_be_is_refused(root, after):
    root.get(f"/admin/?after={after}", 400)


def test_the_list_is_paged_by_key_and_searched(statements, root, parts):
    for number in range(60):
        parts.accounts.create(f"person{number:02}@example.org")
    with statements() as sent:
        first = root.get("/admin/")
    assert len(sent) == 3, "who asks, the users, their databases"
    assert "person48@" in first.html
    assert "person49@" not in first.html
    link = next(link for link in first.links if "after=" in link)
    second = root.get(link)
    assert "person49@" in second.html
    assert "person59@" in second.html
    assert not [link for link in second.links if "after=" in link]
    found = root.get("/admin/?q=PERSON07%40")
    assert "person07@" in found.html
    assert "person08@" not in found.html
    assert "No user" in root.get("/admin/?q=100%25").html
    assert root.get("/admin/?q=%00%22%3Cscript%3E").inline == []


def test_shared_mode_lists_the_users_of_the_one_database(visit, shared_parts):
    made = shared_parts.accounts.create("root@example.org", password="correct horse battery", is_admin=True)
    root = type(visit())(web.create(shared_parts))
    root.sign_in(made.email)
    page = root.get("/admin/")
    assert "All users share one database" in page.html
    assert "absent" not in page.html
    assert "The database answers." in root.send("/admin/", f"/admin/users/{made.id}/test").text
