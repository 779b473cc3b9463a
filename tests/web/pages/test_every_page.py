"""What holds of every page, generated from the URL map so that a new page cannot be forgotten."""

from __future__ import annotations

import uuid

import pytest

PUBLIC = {"/", "/auth/login", "/auth/logout", "/auth/register"}
PLAIN = ("/", "/tasks", "/notes", "/events", "/categories", "/settings")
ROOMS = ("auth", "pages", "settings", "admin")


@pytest.fixture
def rows(ada):
    """Make a row of each kind, and give the addresses of pages by their rule."""
    ada.send("/tasks", title="A task")
    ada.send("/notes", title="A note")
    ada.send("/events", title="An event", starts_at="2099-01-01T10:00")
    ada.send("/categories", name="A category")
    ada.send("/settings", "/settings", key="a.key", value="a value")
    found = {"/settings/values/<key>": "/settings/values/a.key"}
    for name in ("tasks", "notes", "events", "categories"):
        link = next(link for link in ada.get(f"/{name}").links if link.startswith(f"/{name}/"))
        found[f"/{name}/<uuid:row_id>"] = link
    return found


def rules(app, method):
    return sorted(
        rule.rule
        for rule in app.url_map.iter_rules()
        if rule.endpoint.split(".")[0] in ROOMS and method in rule.methods
    )


def addresses(app, method, rows):
    """Give every address of the pages, with the user's own rows in it."""
    found = []
    for rule in rules(app, method):
        base, _, action = rule.rpartition("/")
        if rule in rows:
            found.append(rows[rule])
        elif base in rows:
            found.append(f"{rows[base]}/{action}")
        else:
            found.append(rule.replace("<uuid:key_id>", str(uuid.uuid4())).replace("<int:user_id>", "1"))
    assert not [address for address in found if "<" in address]
    return found


def test_every_page_is_well_made(app, ada, root, rows):
    for path in addresses(app, "GET", rows):
        page = (root if path.startswith("/admin") else ada).client.get(path)
        assert page.status_code in (200, 303), path
        if page.status_code == 303:
            continue
        read = type(ada.get("/"))(page.text)
        assert read.inline == [], f"{path}: nothing inline under a strict policy"
        assert not [control for control in read.controls if control and control not in read.labelled], f"{path}: labels"
        assert page.text.count("<h1>") == 1, path
        assert "<title>" in page.text
        assert 'href="#content"' in page.text
        assert page.headers["Cache-Control"] == "no-store"
        assert "unsafe" not in page.headers["Content-Security-Policy"]
        ids = [part.split('"')[0] for part in page.text.split(' id="')[1:]]
        assert len(ids) == len(set(ids)), f"{path}: {ids}"


def test_every_link_of_every_page_leads_somewhere(app, root, rows, ada):
    seen, waiting = set(), [(ada, path) for path in PLAIN] + [(root, "/admin/")]
    while waiting:
        visitor, path = waiting.pop()
        answer = visitor.client.get(path)
        assert answer.status_code in (200, 303), path
        for link in type(ada.get("/"))(answer.text).links:
            target = link.partition("#")[0]
            if target.startswith("/") and (visitor, target) not in seen:
                seen.add((visitor, target))
                waiting.append((visitor, target))
    assert len(seen) >= 15


def test_anonymous_visitors_are_sent_to_login(app, visit, rows):
    visitor = visit()
    token = visitor.form("/auth/login").values["csrf_token"]
    for path in addresses(app, "GET", rows):
        status = visitor.client.get(path).status_code
        assert status == (200 if path in PUBLIC else 302), path
    for path in addresses(app, "POST", rows):
        answer = visitor.client.post(path, data={"csrf_token": token})
        assert answer.status_code == (302 if path not in PUBLIC else answer.status_code), path
        token = visitor.form("/auth/login").values["csrf_token"]


def test_a_post_without_the_token_is_400_and_changes_nothing(app, ada, root, rows, parts, user):
    for path in addresses(app, "POST", rows):
        visitor = root if path.startswith("/admin") else ada
        for data in ({}, {"csrf_token": "wrong"}, {"csrf_token": ""}):
            answer = visitor.client.post(path, data=data)
            assert answer.status_code == 400, path
            assert "text/html" in answer.content_type
    assert ada.get(rows["/tasks/<uuid:row_id>"])
    assert len(parts.accounts.sessions(user.id)) == 1


def test_another_users_addresses_are_404(app, bob, rows):
    for path in addresses(app, "GET", rows):
        if path in rows.values():
            bob.get(path, 404)
    for path in addresses(app, "POST", rows):
        if path.startswith(tuple(rows.values())):
            assert bob.post(path, title="x", name="x", value="x").status_code == 404, path


def test_administering_gives_no_way_into_other_peoples_rows(app, root, rows):
    for path in rows.values():
        root.get(path, 404)


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
def test_other_methods_are_405(app, ada, rows, method):
    for path in set(addresses(app, "GET", rows)) | set(addresses(app, "POST", rows)):
        answer = ada.client.open(path, method=method)
        assert answer.status_code == 405, path


def test_every_form_sent_empty_is_an_answer_and_never_a_failure(app, ada, root, rows):
    for path in addresses(app, "GET", rows):
        visitor = root if path.startswith("/admin") else ada
        if path == "/auth/logout" or visitor.client.get(path).status_code != 200:
            continue
        for form in visitor.get(path).forms:
            if form.method != "POST" or form.action.endswith(("logout", "deactivate", "delete")):
                continue
            answer = visitor.client.post(form.action, data={"csrf_token": form.values["csrf_token"]})
            assert answer.status_code in (200, 201, 303, 422), (path, form.action, answer.status_code)


def test_every_form_filled_with_far_too_much_is_an_answer_and_never_a_failure(app, ada, root, rows):
    for path in addresses(app, "GET", rows):
        visitor = root if path.startswith("/admin") else ada
        if path == "/auth/logout" or visitor.client.get(path).status_code != 200:
            continue
        for form in visitor.get(path).forms:
            if form.method != "POST" or form.action.endswith(("logout", "deactivate", "delete")):
                continue
            typed = {name: "x" * 250_000 if name != "csrf_token" else form.values[name] for name in form.names}
            answer = visitor.client.post(form.action, data=typed)
            assert answer.status_code in (200, 201, 303, 413, 422), (path, form.action, answer.status_code)


def test_a_body_over_the_limit_is_413_with_a_page(ada):
    answer = ada.post("/notes", title="x", body="x" * 2_000_000)
    assert answer.status_code == 413
    assert "<h1>" in answer.text


def test_the_page_for_a_catalog_that_is_down_does_not_need_the_catalog(ada, parts, monkeypatch):
    from tenancy.errors import CatalogNotReadyError

    def down(*_: object) -> None:
        raise CatalogNotReadyError("the catalog cannot be reached: try again.")

    monkeypatch.setattr(parts.accounts, "principal_by_session", down)
    answer = ada.client.get("/tasks")
    assert answer.status_code == 503
    assert "The catalog cannot be reached" in answer.text
    assert "Try again" in answer.text
