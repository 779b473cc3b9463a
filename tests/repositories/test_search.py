"""Find rows by what they contain."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.orm import Session

from repositories.notes import NoteRepository
from repositories.search import SEARCH_MAX
from tenancy.errors import ConfigurationError
from tests.repositories.conftest import ADA, start_afresh

HOSTILE = ["100%", "100 per cent", "a_b", "axb", "wow!", "wow", "[abc]", "b", "back\\slash", "'; DROP TABLE notes; --"]


@pytest.mark.parametrize("text", HOSTILE)
def test_what_like_reads_as_a_wildcard_stands_for_itself(ada: Any, text: str) -> None:
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
    first = ada.tasks.create({"title": "call", "description": "about the Boat"})
    second = ada.tasks.create({"title": "boat"})
    ada.tasks.create({"title": "something else"})
    bob.tasks.create({"title": "boat"})
    assert ada.tasks.search("boat") == [first, second]
    assert ada.tasks.search("boat", limit=1) == [first]
    assert len(ada.tasks.search(" ")) == 3
    assert ada.categories.search("uncat")[0]["name"] == "Uncategorized"


@pytest.mark.parametrize("text", ["x" * (SEARCH_MAX + 1), "a\x00b", "\ud800", None, 7])
def test_a_text_that_cannot_be_searched_is_refused(ada: Any, text: Any) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        ada.notes.search(text)
    assert refusal.value.field == "text"


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=st.text("ab%_[!\\é", max_size=5), text=st.text("ab%_[]!\\éÉßİ", min_size=1, max_size=5))
def test_what_was_written_is_found_as_it_was_written(engine: sa.Engine, before: str, text: str) -> None:
    start_afresh(engine)
    with Session(engine) as session:
        notes = NoteRepository(session, ADA)
        made = notes.create({"title": f"{before}{text} tail"})
        assert notes.search(text) == [made]
