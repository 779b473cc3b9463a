"""What holds of every page, generated from the URL map so that a new page cannot be forgotten."""

from __future__ import annotations

import re
import uuid
from urllib.parse import urljoin

import pytest

from repositories.repository_factory import RepositoryFactory
from tenancy.catalog import leftovers
from tests.support.applications import add_tenants, keep_runs, keep_server
from tests.support.backups import keep_backup, key_pair
from tests.support.browsing import Page
from tests.support.jobs import keep_jobs
from tests.support.rows import PAGED, named_by, new_row

PUBLIC = {"/", "/auth/login", "/auth/logout", "/auth/register", "/api/docs"}
PROGRAMS = ("static", "favicon", "api", "admin_api", "ops", "openapi")
BY_SECRET = "feed.calendar"
ENDINGS = ("delete", "remove", "revoke", "end", "empty", "suspend", "deactivate")
"""Name the last words of addresses that take something away: they are sent last."""
VARIANTS = 5
ARGUMENT = re.compile(r"<(?:(\w+)(?:\([^)]*\))?:)?(\w+)>")
TYPED = {"date": "2099-01-02", "datetime-local": "2099-01-02T10:00", "time": "10:00", "number": "1", "color": "#00aa55"}


@pytest.fixture
def parts(make_parts, tmp_path):
    """Give the joined parts with every page there is: also those that an operator has to allow, or to give keys for."""
    parts = make_parts(allow_user_databases="true", **key_pair(tmp_path))
    return parts


@pytest.fixture
def rows(ada, parts, user, other):
    """Make a row of each kind, and give its id by the path of its list; administrators act on another account."""
    found = {"/settings/values": "a.key", "int": str(other.id), "/admin/servers": "one"}
    keep_server(parts.manager, "one")
    with parts.catalog.writing() as connection:
        gone = parts.manager.tenant_of(other.id).with_(db_path="users/gone.db")
        found["/admin/leftovers"] = str(leftovers.add(connection, gone, leftovers.Reason.FORGOTTEN).id)
    kept = keep_backup(parts.manager, other.id)
    found |= {"/admin/backups": str(kept.id), "/admin/users/<int:user_id>/restore": str(kept.id)}
    found["/settings/data"] = str(keep_backup(parts.manager, user.id).id)
    found["/settings/data/work"] = str(parts.manager.backup_jobs.backup(user.id).id)
    found["/admin/fleet"] = str(keep_runs(parts.manager, add_tenants(parts, 4))[-1])
    found |= keep_jobs(parts.manager)
    with parts.manager.session(user.id, write=True) as session:
        for name in PAGED:
            made = RepositoryFactory.get_repository(name, session, user.id).create(new_row(name, f"One of {name}"))
            found[f"/{name}"] = str(made["id"])
        RepositoryFactory.get_repository("settings", session, user.id).put("a.key", "a value")
    return found


def addresses(app, method, rows, *, owned=False):
    """Give every address of the pages with the user's own rows in it; with ``owned``, those of such rows alone."""
    found = []
    for rule in app.url_map.iter_rules():
        if method not in rule.methods or rule.endpoint == BY_SECRET or rule.endpoint.split(".")[0] in PROGRAMS:
            continue
        base, of_row, _ = rule.rule.partition("/<")
        if not owned or (of_row and base in rows and not base.startswith("/admin")):
            found.append(ARGUMENT.sub(lambda argument, rule=rule: sample(argument, rule.rule, rows), rule.rule))
    assert not [address for address in found if "<" in address]
    return sorted(set(found))


def sample(argument, rule, rows):
    """Give a value for one argument of a rule: the id of a row, or one that nothing has."""
    base = rule[: argument.start()].rstrip("/")
    return rows.get(base) or {"uuid": str(uuid.uuid4()), "int": rows["int"]}.get(argument[1], "nothing")


def visitor_of(path, ada, root):
    return root if path.startswith("/admin") else ada


def posts(app, ada, root, rows):
    """Give every form of every page that posts, with the browser that shows it; what takes away comes last."""
    found = {}
    for path in addresses(app, "GET", rows):
        visitor = visitor_of(path, ada, root)
        answer = visitor.client.get(path)
        assert answer.status_code in (200, 303), path
        if answer.status_code == 303 or not answer.content_type.startswith("text/html"):
            continue
        for form in Page(answer.text).forms:
            if form.method == "POST" and not form.action.endswith(("logout", "deactivate")):
                found.setdefault((visitor, form.action), form)
    return sorted(
        ((visitor, form) for (visitor, _), form in found.items()), key=lambda pair: pair[1].action.endswith(ENDINGS)
    )


def test_every_page_is_well_made(app, ada, root, rows):
    whole = 0
    for path in addresses(app, "GET", rows):
        page = visitor_of(path, ada, root).client.get(path)
        assert page.status_code in (200, 303), path
        assert page.headers["Cache-Control"] == "no-store"
        assert "unsafe" not in page.headers["Content-Security-Policy"]
        if page.status_code == 303 or not page.content_type.startswith("text/html"):
            continue
        read = Page(page.text)
        assert read.inline == [], f"{path}: nothing inline under a strict policy"
        assert read.unlabelled == [], f"{path}: labels"
        ids = re.findall(r'\sid="([^"]*)"', page.text)
        assert len(ids) == len(set(ids)), f"{path}: {sorted(each for each in ids if ids.count(each) > 1)}"
        if "<html" in page.text:  # and not a part that a script asks for
            whole += 1
            assert len(re.findall(r"<h1[ >]", page.text)) == 1, path
            assert re.search(r"<title>[^<]+ · Unify</title>|<title>Unify</title>", page.text), path
            assert 'href="#content"' in page.text
    assert whole >= 10


def test_every_link_of_every_page_leads_somewhere(app, ada, root, rows):
    seen, variants, waiting = set(), {}, [(ada, "/"), (root, "/admin/")]
    while waiting:
        visitor, path = waiting.pop()
        with visitor.client.get(path) as answer:
            assert answer.status_code in (200, 302, 303, 304), path
            links = Page(answer.text).links if answer.content_type.startswith("text/html") else []
        for link in links:
            target = urljoin(path, link.partition("#")[0])
            plain = (visitor, target.partition("?")[0])
            if not target.startswith("/") or (visitor, target) in seen or variants.get(plain, 0) >= VARIANTS:
                continue  # a calendar has months without end
            variants[plain] = variants.get(plain, 0) + 1
            seen.add((visitor, target))
            waiting.append((visitor, target))
    assert len(seen) >= 15


def test_anonymous_visitors_are_sent_to_login(app, visit, rows):
    visitor = visit()
    for path in addresses(app, "GET", rows):
        assert visitor.client.get(path).status_code == (200 if path in PUBLIC else 302), path
    for path in addresses(app, "POST", rows):
        token = visitor.form("/auth/login").values["csrf_token"]
        answer = visitor.client.post(path, data={"csrf_token": token})
        assert path in PUBLIC or answer.status_code == 302, path


def test_a_post_without_the_token_is_400_and_changes_nothing(app, ada, root, rows, parts, user):
    for path in addresses(app, "POST", rows):
        for data in ({}, {"csrf_token": "wrong"}, {"csrf_token": ""}):
            answer = visitor_of(path, ada, root).client.post(path, data=data)
            assert answer.status_code == 400, path
            assert "text/html" in answer.content_type
    assert ada.get(f"/tasks/{rows['/tasks']}")
    assert len(parts.accounts.sessions(user.id)) == 1


def test_another_users_addresses_are_404(app, bob, rows):
    for path in addresses(app, "GET", rows, owned=True):
        assert bob.client.get(path, follow_redirects=True).status_code == 404, path
    for path in addresses(app, "POST", rows, owned=True):
        assert bob.post(path, title="x", name="x", value="x").status_code == 404, path


def test_administering_gives_no_way_into_other_peoples_rows(app, root, rows):
    for path in addresses(app, "GET", rows, owned=True):
        assert root.client.get(path, follow_redirects=True).status_code == 404, path


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
def test_other_methods_are_405(app, ada, rows, method):
    for path in set(addresses(app, "GET", rows)) | set(addresses(app, "POST", rows)):
        answer = ada.client.open(path, method=method)
        assert answer.status_code == 405, path


def test_every_form_sent_empty_is_an_answer_and_never_a_failure(app, ada, root, rows):
    forms = posts(app, ada, root, rows)
    assert len(forms) >= 15
    for visitor, form in forms:
        answer = visitor.client.post(form.action, data={"csrf_token": form.values["csrf_token"]})
        assert answer.status_code in (200, 201, 303, 404, 409, 422), (form.action, answer.status_code)


def test_every_address_answers_alike_with_a_slash_behind_it(app, ada, root, rows):
    compared = 0
    for path in addresses(app, "GET", rows):
        bare = path.rstrip("/")
        if not bare or path.endswith(".ics") or path.startswith("/admin/servers/one/"):
            continue  # a calendar file is no page, and a server's name may hold slashes of its own
        client = visitor_of(path, ada, root).client
        one, other = (client.get(each) for each in (bare, f"{bare}/"))
        assert (one.status_code, one.location) == (other.status_code, other.location), path
        assert re.findall("<h1.*?</h1>", one.text) == re.findall("<h1.*?</h1>", other.text), path
        compared += 1
    assert compared >= 25


TITLED = {f"/{name}": named_by(name) for name in PAGED} | {"/tasks/views": "name", "/quick-add": "text"}


@pytest.mark.parametrize("invisible", ["\u200b", " \u3164\u2800 ", "\ufeff\u00ad"])
def test_a_title_that_shows_nothing_is_none(ada, invisible):
    for path, name in TITLED.items():
        typed = {name: invisible} | ({"starts_at": "2026-03-02T10:00"} if path == "/events" else {})
        answer = ada.post(path, **typed)
        assert answer.status_code == 422, path
        assert "can be seen" in answer.text, path


def test_every_form_filled_with_far_too_much_is_an_answer_and_never_a_failure(app, ada, root, rows):
    for visitor, form in posts(app, ada, root, rows):
        typed = {name: "x" * 250_000 if name != "csrf_token" else form.values[name] for name in form.names}
        answer = visitor.client.post(form.action, data=typed)
        assert answer.status_code in (200, 201, 303, 404, 409, 413, 422), (form.action, answer.status_code)


def test_every_form_sent_twice_makes_one_row_and_never_a_failure(app, ada, root, rows, parts, user):
    texts = []
    for number, (visitor, form) in enumerate(posts(app, ada, root, rows)):
        texts.append(f"Twice {number}")
        empty = [name for name in form.names if form.values.get(name) == "" and form.kinds[name] != "hidden"]
        typed = form.values | {name: TYPED.get(form.kinds[name], texts[-1]) for name in empty}
        for _ in range(2):
            answer = visitor.client.post(form.action, data=typed)
            assert answer.status_code in (200, 201, 303, 404, 409, 412, 422), (form.action, answer.status_code)
    made = []
    with parts.manager.session(user.id) as session:
        for name in PAGED:
            stored = RepositoryFactory.get_repository(name, session, user.id).list(limit=200)
            made += [row[named_by(name)] for row in stored]
    assert {text: made.count(text) for text in texts if made.count(text) > 1} == {}
    assert {text for text in texts if text in made}, "some of the forms make rows"


def test_a_body_over_the_limit_is_413_with_a_page(ada):
    answer = ada.post("/notes", title="x", body="x" * 2_000_000)
    assert answer.status_code == 413
    assert "<h1>" in answer.text


def test_the_page_for_a_catalog_that_is_down_does_not_need_the_catalog(ada, parts, monkeypatch):
    from tenancy.errors import CatalogNotReadyError

    asked = []

    def down(*_: object) -> None:
        asked.append(1)
        raise CatalogNotReadyError("the catalog cannot be reached: try again.")

    monkeypatch.setattr(parts.accounts, "principal_by_session", down)
    answer = ada.client.get("/tasks")
    assert answer.status_code == 503
    assert "The catalog cannot be reached" in answer.text
    assert "Try again" in answer.text
    assert len(asked) == 2, "each asking may take as long as the catalog's time-out"
