"""Searching everything, and how what was found is marked."""

from __future__ import annotations

import unicodedata
from datetime import UTC, datetime

import pytest
from hypothesis import given, strategies as st
from markupsafe import escape

from repositories.repository_factory import RepositoryFactory
from tests.web.display.test_markdown import VECTORS, Read
from web.display.highlights import WIDTH, excerpt, mark, plain
from web.pages.common.resources import RESOURCES


@pytest.fixture
def make(parts, user):
    """Give a function that makes rows of ``user``."""

    def create(name, *rows, owner=user):
        with parts.manager.session(owner.id, write=True) as session:
            repository = RepositoryFactory.get_repository(name, session, owner.id)
            return [repository.create(row)["id"] for row in rows]

    return create


@pytest.fixture
def garden(make):
    """Make one row of each kind with the word in it."""
    [task] = make("tasks", {"title": "Water the garden", "description": "all beds"})
    [note] = make("notes", {"title": "Plans", "body": "A garden with **roses**"})
    [event] = make(
        "events", {"title": "Fair", "location": "Garden hall", "starts_at": datetime(2030, 5, 1, tzinfo=UTC)}
    )
    [category] = make("categories", {"name": "Gardening"})
    return task, note, event, category


def test_without_words_the_page_says_how_to_search(ada):
    page = ada.get("/search")
    assert "How to search" in page.html
    assert "<title>Search" in page.html


def test_everything_that_holds_the_word_is_found_by_kind_and_marked(ada, garden):
    task, note, event, category = garden
    page = ada.get("/search?q=GARDEN")
    places = [page.html.index(f'id="found-{kind}"') for kind in ("tasks", "notes", "events", "categories")]
    assert places == sorted(places)
    assert {f"/tasks/{task}", f"/notes/{note}/read", f"/events/{event}", f"/categories/{category}"} <= set(page.links)
    for marked in ("Water the <mark>garden</mark>", "A <mark>garden</mark> with roses", "<mark>Garden</mark> hall"):
        assert marked in page.html
    assert "<mark>Garden</mark>ing" in page.html


def test_the_box_of_the_frame_leads_here_and_keeps_the_words(ada, garden):
    form = next(form for form in ada.get("/").forms if form.action == "/search")
    assert (form.method, list(form.values)) == ("GET", ["q"])
    assert any(form.values.get("q") == "roses" for form in ada.get("/search?q=roses").forms)


def test_nothing_found_says_so_and_how_to_search(ada, garden):
    page = ada.get("/search?q=submarine")
    assert "Nothing found" in page.html
    assert "How to search" in page.html


def test_titles_come_first_and_the_rest_is_in_the_kinds_list(ada, make):
    make(
        "notes", *({"title": f"Note {number}", "body": "a rose"} for number in range(9)), {"title": "Rose", "body": ""}
    )
    page = ada.get("/search?q=rose")
    found = page.html.partition('id="found-notes"')[2]
    assert found.index("<mark>Rose</mark>") < found.index("Note ")
    assert "/notes?q=rose" in page.links
    assert "/tasks?q=rose" not in page.links
    assert "Note 1" in ada.get("/notes?q=rose").html


def test_another_users_rows_are_not_found(bob, garden):
    assert "Nothing found" in bob.get("/search?q=garden").html


def test_a_search_is_one_statement_a_kind(statements, ada, garden, make):
    make("notes", *({"title": f"garden {number}"} for number in range(30)))
    ada.get("/search?q=garden")
    with statements() as sent:
        ada.get("/search?q=garden")
    assert len(sent) == 1 + len(RESOURCES), sent
    with statements() as sent:
        ada.get("/search")
    assert len(sent) == 1, sent


@pytest.mark.parametrize("query", ["%", "-", '"', "-x", "a" * 3000, "<svg onload=alert(1)>", "é\u202e🎉", "'; --"])
def test_any_search_is_an_answer(ada, garden, query):
    answer = ada.client.get("/search", query_string={"q": query})
    assert answer.status_code == 200
    assert "<svg onload" not in answer.text


@pytest.mark.parametrize("query", ["nul\0", "a b c d e f g h i j k l m n o p q r s t u v w x y z"])
def test_what_cannot_be_searched_for_is_said_kindly(ada, query):
    answer = ada.client.get("/search", query_string={"q": query})
    assert answer.status_code in (200, 422)
    assert "<h1>" in answer.text


# ---------------------------------------------------------------- marks


@pytest.mark.parametrize(
    ("text", "words", "html"),
    [
        ("Äpfel und äPFEL", ["äpfel"], "<mark>Äpfel</mark> und <mark>äPFEL</mark>"),
        ("apfel Äpfel", ["apfel"], "<mark>apfel</mark> Äpfel"),
        ("a.b a+b", ["a.b"], "<mark>a.b</mark> a+b"),
        ("<b>bold</b>", ["b"], "&lt;<mark>b</mark>&gt;<mark>b</mark>old&lt;/<mark>b</mark>&gt;"),
        ("Tom & Jerry", ["amp", "&"], "Tom <mark>&amp;</mark> Jerry"),
        ("watering water", ["water", "watering"], "<mark>watering</mark> <mark>water</mark>"),
        ("שלום עולם", ["עולם"], "שלום <mark>עולם</mark>"),
        ("cafe\u0301 cafe", ["cafe"], "<mark>cafe\u0301</mark> <mark>cafe</mark>"),
        ("👩\u200d👧 👩", ["👩"], "<mark>👩\u200d👧</mark> <mark>👩</mark>"),
        ("x\u0301y", ["\u0301"], "<mark>x\u0301</mark>y"),
        ("nothing", [], "nothing"),
        ("", ["x"], ""),
    ],
)
def test_words_are_marked_in_any_case_and_never_inside_a_character(text, words, html):
    assert mark(text, words) == html


TEXTS = st.text(st.sampled_from("aäÄbB<>&\"'*_[]()`#-|\n \u0301\u200d👩שx1./"), max_size=400) | st.sampled_from(VECTORS)
WORDS = st.lists(st.text(st.sampled_from("aäbB<>&*[.👩ש\u0301"), min_size=1, max_size=3), max_size=4)


@given(TEXTS, WORDS)
def test_marking_changes_no_text_and_adds_nothing_but_marks(text, words):
    html = mark(text, words)
    assert html.replace("<mark>", "").replace("</mark>", "") == escape(text)
    assert set(Read(html).tags) <= {"mark"}


@given(TEXTS, WORDS)
def test_an_excerpt_is_short_safe_and_without_blank_lines(text, words):
    html = excerpt(text, words)
    read = Read(html)
    assert set(read.tags) <= {"mark"}
    assert read.attributes == []
    assert "\n\n" not in read.words
    assert len(read.words) <= WIDTH + 40


LETTERS = st.lists(
    st.sampled_from(["a", "e\u0301", "o\u0302\u0323", "👩\u200d👧", " ", "👍🏽"]), min_size=150, max_size=300
)


@given(LETTERS)
def test_no_excerpt_begins_or_ends_inside_a_character(letters):
    line = " ".join(f"x{''.join(letters)} needle {''.join(letters)}".split())
    shown = Read(excerpt(line, ["needle"])).words
    piece = shown.removeprefix("… ").removesuffix("…")
    begin = line.index(piece)
    for edge in (begin, begin + len(piece)):
        assert unicodedata.category(line[edge : edge + 1] or "x")[0] != "M"
        assert line[edge : edge + 1] not in ("\u200d", "🏽")
        assert line[edge - 1 : edge] != "\u200d"


def test_an_excerpt_shows_the_place_around_the_first_word_found():
    text = "first " * 100 + "the Needle is here " + "last " * 100
    assert "the <mark>Needle</mark> is here" in excerpt(text, ["missing", "needle"])
    assert excerpt(text).startswith("first first")
    assert excerpt(text, ["needle"]).startswith("… ")


def test_a_word_that_stands_in_an_address_is_still_shown():
    assert "<mark>example</mark>.org" in excerpt("see [here](https://example.org)", ["example"])


def test_markdown_is_taken_out_of_what_a_list_shows():
    text = (
        "# Head\n\n> - [ ] **bold** _it_ snake_case `code`\n\n1. [link](https://a.b) ![alt](x)\n\n```py\nx = 1\n```\n"
    )
    text += "|a|b|\n|-|-|\n"
    assert plain(text) == "Head\nbold it snake_case code\nlink alt\nx = 1\nab"
