"""Categories: found by name among thousands, with what is in each, and deleted without losing anything."""

from __future__ import annotations

import re

import pytest

from repositories.repository_factory import RepositoryFactory


@pytest.fixture
def of(parts, user):
    def run(name, work, *, write=False):
        with parts.manager.session(user.id, write=write) as session:
            return work(RepositoryFactory.get_repository(name, session, user.id))

    return run


def names(page):
    return re.findall(r'<a class="title[^>]*>([^<]*)</a>', page.html)


def test_each_category_says_what_is_in_it(ada, of):
    home = of("categories", lambda rows: rows.create({"name": "Home", "color": "#00aa55"})["id"], write=True)
    for title in ("a", "b"):
        of("tasks", lambda rows, title=title: rows.create({"title": title, "category_id": home}), write=True)
    of("notes", lambda rows: rows.create({"title": "c", "category_id": home}), write=True)
    page = ada.get("/categories")
    assert names(page) == ["Home", "Uncategorized"]
    assert 'fill="#00aa55"' in page.html
    assert "2 tasks<" in page.html
    assert "1 note<" in page.html
    assert "event" not in page.html[page.html.find("2 tasks") : page.html.find("Uncategorized")]
    link = next(link for link in page.links if link.startswith("/tasks?"))
    assert names(ada.get(link)) == ["b", "a"]


def test_a_category_without_a_colour_is_offered_the_one_that_a_new_one_gets(ada, of):
    plain = of("categories", lambda rows: rows.create({"name": "Home"})["id"], write=True)
    for path in (f"/categories/{plain}", "/categories"):
        form = next(form for form in ada.get(path).forms if "color" in form.values)
        assert form.values["color"] == "#1f5fa8", "an empty one is black to browsers, and saved as that"


def test_no_page_offers_to_delete_the_category_that_stays(ada, of):
    stays = of("categories", lambda rows: rows.uncategorized(), write=True)
    home = of("categories", lambda rows: rows.create({"name": "Home"})["id"], write=True)
    assert f"/categories/{stays}/delete" not in ada.get(f"/categories/{stays}").html
    assert f"/categories/{stays}/delete" not in ada.get("/categories").html
    assert f"/categories/{stays}/delete" not in ada.send(f"/categories/{stays}", name="Other").text
    for path in (f"/categories/{home}", "/categories"):
        assert f"/categories/{home}/delete" in ada.get(path).html


def test_thousands_are_paged_by_name_and_found(ada, of):
    of("categories", lambda rows: [rows.create({"name": f"Room {n:03}"}) for n in range(230)], write=True)
    seen, path = [], "/categories"
    while path:
        page = ada.get(path)
        seen += names(page)
        path = next((link for link in page.links if link.startswith("/categories?cursor=")), "")
    assert seen == [*(f"Room {n:03}" for n in range(230)), "Uncategorized"]
    assert names(ada.get("/categories?q=ROOM+22")) == [f"Room {n}" for n in range(220, 230)]
    assert "No category matches" in ada.get("/categories?q=%25").html


def test_a_deleted_category_comes_back_with_what_was_in_it(ada, of):
    home = of("categories", lambda rows: rows.create({"name": "Home"})["id"], write=True)
    of("tasks", lambda rows: rows.create({"title": "sweep", "category_id": home}), write=True)
    assert ada.post(f"/categories/{home}/delete").location == "/categories"
    assert of("tasks", lambda rows: rows.page(sort="oldest").rows[0]["category_name"]) == "Uncategorized"
    form = next(form for form in ada.get("/categories").forms if "/bin/" in form.action)
    assert ada.client.post(form.action, data=form.values).location == "/categories"
    assert of("tasks", lambda rows: rows.page(sort="oldest").rows[0]["category_name"]) == "Home"


def test_uncategorized_offers_no_button_that_deletes_it(ada, of):
    key = of("categories", lambda rows: rows.uncategorized())
    assert f"/categories/{key}/delete" not in ada.get("/categories").html
    assert ada.post(f"/categories/{key}/delete").location == f"/categories/{key}"
    assert "cannot be deleted" in ada.get("/categories").html
    assert names(ada.get("/categories")) == ["Uncategorized"]


@pytest.mark.parametrize("name", ["<svg onload=alert(1)>", "w" * 100, "\u202eעברית", "Z\u0335\u0321a\u0301"])
def test_odd_names_are_text(ada, name):
    assert ada.send("/categories", name=name).status_code == 303
    page = ada.get("/categories")
    assert "<svg onload" not in page.html
    assert len(names(page)) == 2


def test_a_category_without_a_colour_keeps_none_until_one_is_chosen(ada, of):
    plain = of("categories", lambda rows: rows.create({"name": "Home"})["id"], write=True)

    def color():
        return of("categories", lambda rows: rows.get(plain)["color"])

    path = f"/categories/{plain}"
    assert ada.send(path, name="House").status_code == 303
    assert color() is None
    form = ada.form(path)
    chosen = {name: text for name, text in form.values.items() if name != "color.none"} | {"color": "#00aa55"}
    assert ada.client.post(path, data=chosen).status_code == 303
    assert color() == "#00aa55"
    assert "color.none" not in ada.form(path).values
    assert ada.send(path, **{"color.none": "1"}).status_code == 303
    assert color() is None


def test_a_form_that_is_refused_still_says_that_there_is_no_colour(ada, of):
    plain = of("categories", lambda rows: rows.create({"name": "Home"})["id"], write=True)
    answer = ada.send(f"/categories/{plain}", name="")
    assert answer.status_code == 422
    assert re.search(r'name="color.none"[^>]* checked', answer.text)
