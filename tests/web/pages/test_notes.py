"""Notes as their owner lists, searches, reads, pins and writes them, with and without scripts."""

from __future__ import annotations

import re
import uuid

import pytest

from repositories.repository_factory import RepositoryFactory
from tests.web.display.test_markdown import VECTORS, Read, harms

HTMX = {"HX-Request": "true"}


@pytest.fixture
def write(parts, user):
    """Give a function that writes a note of ``user`` and gives its id."""

    def create(title="A note", body=None, owner=user, **values):
        with parts.manager.session(owner.id, write=True) as session:
            repository = RepositoryFactory.get_repository("notes", session, owner.id)
            return repository.create({"title": title, "body": body} | values)["id"]

    return create


@pytest.fixture
def stored(parts, user):
    """Give a function that reads a note of ``user``."""

    def get(id):
        with parts.manager.session(user.id) as session:
            return RepositoryFactory.get_repository("notes", session, user.id).get(id)

    return get


def titles(page):
    """Give the titles of a list in the order of the page."""
    cards = re.findall(r'<h2 class="title"[^>]*><a [^>]*>(.*?)</a>', page.html)
    return [Read(card).words for card in cards]


def article(page):
    """Give the HTML of the rendered note on a page."""
    return page.html.partition('<div class="markdown">')[2].partition("</article>")[0].rpartition("</div>")[0]


def test_without_notes_the_page_says_what_to_do_and_the_form_is_open(ada):
    page = ada.get("/notes")
    assert "No notes yet" in page.html
    assert "<details open>" in page.html


def test_a_list_leads_to_reading_and_to_editing(ada, write):
    note = write("Soup", "# Boil\n\n**water**, then [salt](https://example.org)")
    page = ada.get("/notes")
    assert titles(page) == ["Soup"]
    assert {f"/notes/{note}/read", f"/notes/{note}"} <= set(page.links)
    assert "Boil\nwater, then salt" in page.html, "an excerpt is words without signs"


def test_reading_shows_markdown_below_the_pages_one_heading(ada, write):
    note = write("Soup", "# Boil\n\n- [x] water\n\n|a|b|\n|-|-:|\n|1|2|")
    page = ada.get(f"/notes/{note}/read")
    assert Read(article(page)).tags[:3] == ["h2", "ul", "li"]
    assert "☑ water" in page.html
    assert page.html.count("<h1") == 1
    assert f"/notes/{note}" in page.links


def test_an_empty_note_can_be_read(ada, write):
    assert "This note has no text." in ada.get(f"/notes/{write()}/read").html


def test_hostile_notes_do_nothing_wherever_they_are_shown(ada, write):
    note = write("<svg onload=alert(1)>", "\n\n".join(VECTORS).replace("\0", ""))
    for path in ("/notes", "/notes?q=alert", f"/notes/{note}/read", f"/notes/{note}"):
        page = ada.get(path)
        assert page.inline == [], path
        read = Read(page.html)
        assert not {"img", "math", "object", "embed", "video", "iframe"} & set(read.tags), path
        assert not [name for _, name, _ in read.attributes if name in ("onload", "onerror", "srcdoc")], path
        assert not [href for href in page.links if re.match("[a-z-]+:", href) and not href.startswith(("http", "mail"))]
    assert harms(article(ada.get(f"/notes/{note}/read"))) == []


def test_the_search_marks_what_it_found_and_shows_the_place(ada, write):
    write("Äpfel & Birnen", "x " * 2000 + "a needle <b>here</b>" + " y" * 2000)
    write("Other", "nothing")
    page = ada.get("/notes?q=NEEDLE")
    assert titles(page) == ["Äpfel & Birnen"]
    assert "a <mark>needle</mark> &lt;b&gt;here&lt;/b&gt;" in page.html
    assert "<mark>Äpfel</mark> &amp; Birnen" in ada.get("/notes?q=äpfel").html
    assert page.html.count("x x x") < 100, "a long note is cut"


def test_every_word_must_occur_and_excluded_ones_must_not(ada, write):
    write("One", "garden water")
    write("Two", "garden winter")
    assert titles(ada.get("/notes?q=garden+water")) == ["One"]
    assert titles(ada.get("/notes?q=garden+-winter")) == ["One"]
    assert titles(ada.get('/notes?q="garden winter"')) == ["Two"]
    page = ada.get("/notes?q=garden+ice")
    assert "No note matches" in page.html
    assert "/notes" in page.links


@pytest.mark.parametrize(
    "query", ["%", "_", "'", "!", "<svg onload=alert(1)>", "-", '"', "x" * 3000, "é\u0301\u202e🎉"]
)
def test_any_search_is_an_answer(ada, write, query):
    write("A note", "100% <svg onload=alert(1)> it's _ ! é\u0301\u202e🎉 " + "x" * 200)
    answer = ada.client.get("/notes", query_string={"q": query})
    assert answer.status_code == 200
    assert "<svg onload" not in answer.text.lower()


def test_filters_and_orders_narrow_the_list_and_stay_in_the_form(ada, write, parts, user):
    with parts.manager.session(user.id, write=True) as session:
        category = RepositoryFactory.get_repository("categories", session, user.id).create({"name": "Home"})["id"]
    for title, values in (("Bread", {"pinned": True}), ("Apples", {}), ("Cheese", {"category_id": category})):
        write(title, **values)
    assert titles(ada.get("/notes"))[0] == "Bread", "what is pinned comes first"
    assert titles(ada.get("/notes?sort=title")) == ["Apples", "Bread", "Cheese"]
    assert titles(ada.get("/notes?sort=oldest")) == ["Bread", "Apples", "Cheese"]
    assert titles(ada.get("/notes?sort=newest")) == ["Cheese", "Apples", "Bread"]
    assert titles(ada.get("/notes?pinned=yes")) == ["Bread"]
    assert titles(ada.get("/notes?pinned=no&sort=title")) == ["Apples", "Cheese"]
    page = ada.get(f"/notes?category={category}&sort=title&q=e")
    assert titles(page) == ["Cheese"]
    search = next(form for form in page.forms if form.method == "GET" and form.action == "/notes")
    assert (search.values["category"], search.values["sort"], search.values["q"]) == (str(category), "title", "e")


@pytest.mark.parametrize("address", ["sort=nonsense", "pinned=perhaps", "sort=", "page=3"])
def test_a_word_that_is_not_offered_counts_as_not_said(ada, write, address):
    write("Kept")
    assert titles(ada.get(f"/notes?{address}")) == ["Kept"]


@pytest.mark.parametrize("category", [str(uuid.UUID(int=7)), "No such name"])
def test_an_unknown_category_holds_nothing(ada, write, category):
    write("Kept")
    page = ada.get(f"/notes?category={category}")
    assert titles(page) == []
    assert "No note matches" in page.html


def test_somebody_elses_category_holds_nothing(ada, bob, write, other, parts):
    with parts.manager.session(other.id, write=True) as session:
        category = RepositoryFactory.get_repository("categories", session, other.id).create({"name": "Theirs"})["id"]
    write("Mine")
    page = ada.get(f"/notes?category={category}")
    assert titles(page) == []
    assert "Theirs" not in page.html


def test_pages_follow_each_other_in_every_order(ada, write):
    for number in range(70):
        write(f"Note {number:02}", "word", pinned=number % 7 == 0)
    for sort in ("recent", "newest", "oldest", "title"):
        seen, path = [], f"/notes?sort={sort}&q=word"
        while path:
            page = ada.get(path)
            seen += titles(page)
            path = next((link.replace("&amp;", "&") for link in page.links if "cursor=" in link), None)
        assert len(seen) == len(set(seen)) == 70, sort


def test_a_cursor_of_another_order_is_refused(ada, write):
    for number in range(51):
        write(f"Note {number}")
    [link] = {link for link in ada.get("/notes").links if "cursor=" in link}
    assert ada.client.get(link).status_code == 200
    assert ada.client.get(link + "&sort=title").status_code == 400


def test_one_press_pins_and_the_next_takes_the_pin_away(ada, write, stored):
    note = write("Soup")
    pin = f"/notes/{note}/pin"
    answer = ada.client.post(pin, data=ada.form("/notes", pin).values | {"pinned": "1"})
    assert (answer.status_code, answer.location) == (303, "/notes")
    assert stored(note)["pinned"] is True
    assert "“Soup” is pinned." in ada.get("/notes").html
    assert 'value="0"' in ada.get("/notes?pinned=yes").html
    ada.post(pin, pinned="0")
    assert stored(note)["pinned"] is False


def test_pinning_leads_back_to_where_it_was_pressed(ada, write):
    note = write("Soup", "word")
    answer = ada.send("/notes?q=word&sort=title", f"/notes/{note}/pin", pinned="1")
    assert answer.location == "/notes?q=word&sort=title"
    answer = ada.post(f"/notes/{note}/pin", pinned="1", next="https://evil.example/")
    assert answer.location == "/notes"


def test_a_script_gets_the_button_alone(ada, write, stored):
    note = write("Soup")
    data = {"csrf_token": ada.token, "pinned": "1"}
    answer = ada.client.post(f"/notes/{note}/pin", data=data, headers=HTMX)
    assert answer.status_code == 200
    assert "Unpin" in answer.text
    assert f'id="pin-{note}"' in answer.text
    assert "<html" not in answer.text
    assert stored(note)["pinned"] is True


def test_the_preview_shows_a_text_safely_and_counts_its_words(ada):
    data = {"csrf_token": ada.token, "title": "x", "body": "two **words** <svg onload=alert(1)>"}
    answer = ada.client.post("/notes/preview", data=data, headers=HTMX)
    assert answer.status_code == 200
    assert "<strong>words</strong>" in answer.text
    assert "35 characters" in answer.text
    assert "<svg" not in answer.text
    assert "<html" not in answer.text


def test_without_scripts_the_preview_keeps_everything_typed(ada, write, stored):
    typed = {"title": "Soup", "body": "**hot**\r\n", "pinned": "1"}
    answer = ada.client.post("/notes/preview", data=ada.form("/notes").values | typed)
    assert answer.status_code == 200
    page = type(ada.get("/notes"))(answer.text)
    form = next(form for form in page.forms if form.action == "/notes" and form.method == "POST")
    assert (form.values["title"], form.values["body"], form.values["pinned"]) == ("Soup", "**hot**\n", "1")
    assert "<strong>hot</strong>" in answer.text

    note = write("Old", "old")
    kept = stored(note)
    answer = ada.client.post(f"/notes/{note}/preview", data=ada.form(f"/notes/{note}").values | typed)
    page = type(page)(answer.text)
    form = next(form for form in page.forms if form.action == f"/notes/{note}")
    assert (form.values["title"], form.values["body"], form.values["version"]) == ("Soup", "**hot**\n", "1")
    assert "<strong>hot</strong>" in answer.text
    assert stored(note) == kept, "a preview saves nothing"


def test_the_preview_of_nothing_says_what_it_is_for(ada):
    answer = ada.client.post("/notes/preview", data={"csrf_token": ada.token}, headers=HTMX)
    assert "appears here" in answer.text
    assert "0 words, 0 characters" in answer.text


def test_the_editor_begins_with_the_preview_of_what_is_stored(ada, write):
    page = ada.get(f"/notes/{write('Soup', '**hot**')}")
    assert "<strong>hot</strong>" in page.html
    assert "1 word, 7 characters" in page.html


def test_foreign_and_unknown_notes_are_404_alike(bob, write):
    for note in (write("Secret"), uuid.uuid4()):
        texts = {bob.client.get(f"/notes/{note}/read").status_code}
        texts |= {bob.post(f"/notes/{note}/{action}", pinned="1").status_code for action in ("pin", "preview")}
        assert texts == {404}


def test_a_note_of_a_megabyte_from_elsewhere_is_listed_and_read(ada, write):
    note = write("Long", "word " * 200_000)
    assert len(ada.get("/notes").html) < 60_000
    assert "shown as it was written" in ada.get(f"/notes/{note}/read").html


def test_right_to_left_and_endless_words_are_shown_whole(ada, write):
    title, word = "שלום עולם e\u0301\u0302\u0303", "x" * 10_000
    note = write(title, f"{word}\n\nمرحبا بالعالم")
    page = ada.get(f"/notes/{note}/read")
    assert title in page.html
    assert word in page.html
    assert '<p dir="auto">مرحبا' in page.html
    assert '<h2 class="title" dir="auto">' in ada.get("/notes").html


def test_a_page_of_notes_is_a_few_statements_whatever_its_size(statements, ada, write):
    for number in range(35):
        write(f"Note {number}", "word " * 400)
    for path in ("/notes", "/notes?q=word&sort=title"):
        ada.get(path)
        with statements() as sent:
            ada.get(path)
        assert len(sent) == 3, sent
    with statements() as sent:
        ada.get(f"/notes/{write()}/read")
    assert len([each for each in sent if each[1].startswith("SELECT")]) <= 4
