"""Find rows by what they contain."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings, strategies as st
from sqlalchemy.orm import Session

from repositories.base import search
from repositories.base.search import SEARCH_MAX, WORDS_MAX
from repositories.notes import NoteRepository
from tenancy.errors import ConfigurationError
from tests.repositories.conftest import ADA, listed, statements_sent
from tests.support.engines import on_sqlite

HOSTILE = ["100%", "100 per cent", "a_b", "axb", "wow!", "wow", "[abc]", "b", "back\\slash", "'; DROP TABLE notes; --"]


@pytest.mark.parametrize("text", HOSTILE)
def test_what_like_reads_as_a_wildcard_stands_for_itself(whole_product: str, ada: Any, text: str) -> None:
    for title in HOSTILE:
        ada.notes.create({"title": title})
    found = [row["title"] for row in ada.notes.search(text)]
    assert found == [title for title in HOSTILE if text.lower() in title.lower()]


@pytest.mark.parametrize("text", ["äpfel", "ÄPFEL", "Äpfel", "aPFEL", "  apfel "])
def test_case_does_not_matter(ada: Any, text: str) -> None:
    titles = ["Äpfel", "ÄPFEL", "äpfel"] if "a" not in text.lower()[:3] else ["Apfel", "APFEL", "apfel"]
    for title in titles:
        ada.notes.create({"title": title})
    assert [row["title"] for row in ada.notes.search(text)] == titles


def test_every_searched_column_counts_and_the_oldest_come_first(ada: Any, bob: Any) -> None:
    first = listed(ada.tasks.create({"title": "call", "description": "about the Boat"}))
    second = listed(ada.tasks.create({"title": "boat"}))
    ada.tasks.create({"title": "something else"})
    bob.tasks.create({"title": "boat"})
    assert ada.tasks.search("boat") == [first, second]
    assert ada.tasks.search("boat", limit=1) == [first]
    assert len(ada.tasks.search(" ")) == 3
    assert ada.categories.search("uncat")[0]["name"] == "Uncategorized"


@on_sqlite
@pytest.mark.parametrize("text", ["x" * (SEARCH_MAX + 1), "a\x00b", "\ud800", None, 7])
def test_a_text_that_cannot_be_searched_is_refused(ada: Any, text: Any) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        ada.notes.search(text)
    assert refusal.value.field == "text"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("two words", ["two", "words"]),
        ('"two words" more', ["two words", "more"]),
        ("-no yes", ["yes"]),
        ('-"no way" yes', ["yes"]),
        ("well-known a-b", ["well-known", "a-b"]),
        ("a - b --", ["a", "b"]),
        ('"never closed', ["never closed"]),
        ('"" " " - ', []),
        ("same SAME Same", ["same"]),
        ('say"hi there"now', ["say", "hi there", "now"]),
        (" ".join(map(str, range(30))), [str(number) for number in range(WORDS_MAX)]),
    ],
)
def test_a_text_is_taken_apart_into_words(text: str, words: list[str]) -> None:
    assert search.words(text) == words


def found(owner: Any, text: str) -> str:
    paged = owner.notes.page(sort="oldest", text=text).rows
    assert {row["title"] for row in owner.notes.found(text)} == ({row["title"] for row in paged} if text else set())
    return "".join(row["title"] for row in paged)


def test_every_word_must_occur_somewhere_and_none_that_is_excluded(ada: Any, bob: Any) -> None:
    for title, body in (
        ("a", "Red BOAT by the sea"),
        ("b", "a boat, red"),
        ("c", "boat"),
        ("d", None),
        ("e", "100% red"),
    ):
        ada.notes.create({"title": title, "body": body})
    bob.notes.create({"title": "f", "body": "red boat"})
    assert found(ada, "red boat") == found(ada, "BOAT  Red") == "ab"
    assert found(ada, '"red boat"') == "a"
    assert found(ada, "boat -red") == "c"
    assert found(ada, "-boat") == "de", "a note without a body holds no word"
    assert found(ada, '-"red boat" boat') == "bc"
    assert found(ada, "a red") == "ab"
    assert found(ada, "100%") == "e"
    assert found(ada, "") == "abcde"


def test_what_is_found_is_ranked_by_its_title_then_by_its_age(ada: Any) -> None:
    for title, body in (("boat", "red"), ("x", "red boat"), ("Red Boat", ""), ("y", "boat red"), ("red", "boat")):
        ada.notes.create({"title": title, "body": body})
    with statements_sent(ada.session.get_bind()) as sent:
        rows = ada.notes.found("red boat")
    assert [row["title"] for row in rows] == ["Red Boat", "red", "boat", "y", "x"]
    assert len(sent) == 1
    assert rows[0]["category_name"] == "Uncategorized"
    assert len(ada.notes.found("red", limit=2)) == 2
    assert ada.notes.found(" ") == ada.notes.found('""') == []
    ada.categories.create({"name": "Red things"})
    assert [row["name"] for row in ada.categories.found("THINGS red")] == ["Red things"]


def test_words_beyond_ascii_are_found_in_any_case_and_excluded_in_any_case(ada: Any) -> None:
    for title in ("Äpfel und Öl", "ÄPFEL UND ÖL", "Öl"):
        ada.notes.create({"title": title})
    assert [row["title"] for row in ada.notes.page(sort="oldest", text="öl äpfel").rows] == [
        "Äpfel und Öl",
        "ÄPFEL UND ÖL",
    ]
    assert [row["title"] for row in ada.notes.page(sort="oldest", text="öl -äpfel").rows] == ["Öl"]


def test_as_many_words_as_fit_are_searched_for(ada: Any) -> None:
    ada.notes.create({"title": "x"})
    for text in (" ".join("äöüßéèêëïîôû" + "abc") * 6, "x " * 100, "é" * SEARCH_MAX, '"' * SEARCH_MAX, "-x " * 66):
        ada.notes.page(sort="recent", text=text[:SEARCH_MAX])
        ada.notes.found(text[:SEARCH_MAX])


@pytest.mark.parametrize("text", ["x" * (SEARCH_MAX + 1), "a\x00b", "\ud800", 7])
@pytest.mark.parametrize("verb", ["page", "found"])
def test_words_that_cannot_be_searched_are_refused(ada: Any, verb: str, text: Any) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        ada.notes.found(text) if verb == "found" else ada.notes.page(sort="recent", text=text)
    assert refusal.value.field == "text"


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=st.text("ab%_[!\\é", max_size=5), text=st.text("ab%_[]!\\éÉßİ", min_size=1, max_size=5))
def test_what_was_written_is_found_as_it_was_written(
    whole_product: str, engine: sa.Engine, before: str, text: str
) -> None:
    with Session(engine) as session:
        notes = NoteRepository(session, ADA)
        made = notes.create({"title": f"{before}{text} tail"})
        assert notes.search(text) == [made]
