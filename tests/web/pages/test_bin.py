"""The bin: what is deleted can be put back, by its owner alone, until it is deleted for good."""

from __future__ import annotations

import re
import uuid

import pytest

from repositories.repository_factory import RepositoryFactory
from tests.support.rows import PAGED, named_by, new_row
from web.pages.common.resources import RESOURCES

TITLE = "<b>Rose</b> & Söhne"


@pytest.fixture
def make(parts, user):
    """Give a function that makes a row of ``user`` and gives it."""

    def create(name, title=TITLE, **values):
        with parts.manager.session(user.id, write=True) as session:
            repository = RepositoryFactory.get_repository(name, session, user.id)
            return repository.create(new_row(name, title) | values)

    return create


@pytest.fixture
def stored(parts, user):
    """Give a function that reads the ids and names of ``user``'s rows."""

    def rows(name):
        with parts.manager.session(user.id) as session:
            found = RepositoryFactory.get_repository(name, session, user.id).list(limit=200)
        return {row["id"]: row[named_by(name)] for row in found}

    return rows


def actions(page, verb):
    return [form.action for form in page.forms if form.action.startswith("/bin/") and form.action.endswith(verb)]


def test_the_empty_bin_says_what_it_is_for(ada):
    page = ada.get("/bin")
    assert "The bin is empty" in page.html
    assert "30 days" in page.html
    assert "/bin/empty" not in page.links


def test_every_kind_of_rows_in_the_bin_has_a_form_and_a_name() -> None:
    assert set(RESOURCES) == set(PAGED), "web/pages/common/resources.py: the form, in RESOURCES"


@pytest.mark.parametrize("name", PAGED)
def test_what_is_deleted_is_in_the_bin_and_comes_back_as_it_was(ada, make, stored, name):
    row = make(name)
    ada.post(f"/{name}/{row['id']}/delete")
    assert row["id"] not in stored(name)
    page = ada.get("/bin")
    assert "&lt;b&gt;Rose&lt;/b&gt; &amp; Söhne" in page.html
    [restore] = actions(page, "/restore")
    answer = ada.post(restore)
    assert (answer.status_code, answer.location) == (303, f"/{name}")
    assert stored(name)[row["id"]] == TITLE
    assert re.search(f"The {RESOURCES[name].singular} is back.", ada.get(f"/{name}").html)
    assert "The bin is empty" in ada.get("/bin").html


def test_undo_stands_beside_the_message_and_leads_back(ada, make, stored):
    note = make("notes")
    answer = ada.post(f"/notes/{note['id']}/delete")
    page = ada.get(answer.location)
    [undo] = actions(page, "/restore") or [form.action for form in page.forms if "/restore" in form.action]
    answer = ada.post(undo)
    assert (answer.status_code, answer.location) == (303, "/notes")
    assert note["id"] in stored("notes")


def test_restoring_twice_is_answered_kindly(ada, make, stored):
    note = make("notes")
    ada.post(f"/notes/{note['id']}/delete")
    [restore] = actions(ada.get("/bin"), "/restore")
    assert ada.post(restore).status_code == 303
    answer = ada.post(restore)
    assert answer.status_code == 404
    assert "it has been put back already, or is gone for good" in answer.text
    assert list(stored("notes")).count(note["id"]) == 1


def test_foreign_and_unknown_batches_are_404_alike(ada, bob, make, stored):
    note = make("notes")
    ada.post(f"/notes/{note['id']}/delete")
    page = ada.get("/bin")
    [restore], [remove] = actions(page, "/restore"), actions(page, "/remove")
    unknown = f"/bin/{uuid.uuid4()}"
    for mine, nobodys in ((restore, f"{unknown}/restore"), (remove, f"{unknown}/remove")):
        foreign, missing = bob.post(mine), bob.post(nobodys)
        assert foreign.status_code == missing.status_code == 404
        request_ids = r"[0-9a-f]{16}|value=\"[^\"]*\"|csrf[^>]*|X-CSRFToken[^>]*"
        assert re.sub(request_ids, "", foreign.text) == re.sub(request_ids, "", missing.text)
    assert "Rose" not in bob.get("/bin").html
    assert actions(ada.get("/bin"), "/restore") == [restore]


def test_restoring_leads_only_to_pages_of_this_site(ada, make):
    note = make("notes")
    ada.post(f"/notes/{note['id']}/delete")
    [restore] = actions(ada.get("/bin"), "/restore")
    assert ada.post(restore, next="https://evil.example/").location == "/notes"


def test_a_category_whose_name_is_taken_meanwhile_stays_in_the_bin_and_says_why(ada, make):
    category = make("categories", "Garden")
    ada.post(f"/categories/{category['id']}/delete")
    make("categories", "garden")
    [restore] = actions(ada.get("/bin"), "/restore")
    assert ada.post(restore).location == "/bin"
    page = ada.get("/bin")
    assert "It cannot be put back." in page.html
    assert actions(page, "/restore") == [restore]


def test_one_row_is_deleted_for_good(ada, make):
    for title in ("Kept", "Gone"):
        ada.post(f"/notes/{make('notes', title)['id']}/delete")
    remove = actions(ada.get("/bin"), "/remove")[0]
    assert ada.post(remove).status_code == 303
    page = ada.get("/bin")
    assert "Deleted for good." in page.html
    assert ("Kept" in page.html, len(actions(page, "/restore"))) == (True, 1)
    assert ada.post(remove).status_code == 404


def test_emptying_asks_first(ada, make, stored):
    for name in PAGED:
        ada.post(f"/{name}/{make(name)['id']}/delete")
    assert "/bin/empty" in ada.get("/bin").links
    page = ada.get("/bin/empty")
    assert "cannot be put back" in page.html
    assert len(actions(ada.get("/bin"), "/restore")) == len(PAGED), "asking deletes nothing"
    assert ada.send("/bin/empty").status_code == 303
    page = ada.get("/bin")
    assert f"{len(PAGED)} rows were deleted for good" in page.html
    assert actions(page, "/restore") == []
    assert "The bin is already empty" in ada.get("/bin/empty").html


def test_one_users_emptying_leaves_anothers_bin(ada, bob, make):
    ada.post(f"/notes/{make('notes')['id']}/delete")
    bob.post("/bin/empty")
    assert len(actions(ada.get("/bin"), "/restore")) == 1


def test_a_full_bin_is_paged_and_is_two_statements_a_page(statements, ada, make):
    for number in range(55):
        ada.post(f"/notes/{make('notes', f'Note {number}')['id']}/delete")
    page = ada.get("/bin")
    assert len(actions(page, "/restore")) == 50
    [following] = [link for link in page.links if "cursor=" in link]
    with statements() as sent:
        assert len(actions(ada.get(following), "/restore")) == 5
    assert len(sent) == 2, sent
    assert ada.client.get("/bin?cursor=nonsense").status_code == 400


def test_a_category_comes_back_with_what_was_in_it(ada, make, parts, user):
    category = make("categories", "Garden")
    note = make("notes", category_id=category["id"])
    ada.post(f"/categories/{category['id']}/delete")
    [restore] = actions(ada.get("/bin"), "/restore")
    ada.post(restore)
    with parts.manager.session(user.id) as session:
        back = RepositoryFactory.get_repository("notes", session, user.id).get(note["id"])
    assert back["category_id"] == category["id"]
