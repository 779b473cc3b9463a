"""The API's page: all of the OpenAPI document is on it, and what it tells people to type works."""

from __future__ import annotations

import itertools
import re
import shlex
from html import unescape

import pytest

PATH = "/api/docs"


@pytest.fixture
def document(app):
    return app.test_client().get("/api/v1/openapi.json").json


@pytest.fixture
def page(visit):
    return visit().get(PATH)


def part(html, anchor):
    """Give what stands under an anchor, to the next call or shape."""
    begins = html.index(f'id="{anchor}"')
    ends = re.compile(r'<(article|div|p|section) class="(call|shape|card|caption)"').search(html, begins + 1)
    return unescape(html[begins : ends.start() if ends else None])


def text(html):
    return " ".join(re.sub(r"<[^>]+>", "", html).split())


def test_every_call_and_every_parameter_of_the_document_is_on_the_page(page, document):
    count = 0
    for path, item in document["paths"].items():
        for method, call in item.items():
            shown = part(page.html, call["operationId"])
            assert f"{method.upper()} {path}" in text(shown)
            assert call["summary"] in shown
            for parameter in call["parameters"]:
                assert f"<code>{parameter['name']}</code>" in shown
                assert parameter["description"] in shown
            count += 1
    assert count == page.html.count('class="call"') >= 25


def test_every_answer_of_the_document_is_on_the_page(page, document):
    for item in document["paths"].values():
        for call in item.values():
            begins = page.html.index(f'id="{call["operationId"]}"')
            shown = text(page.html[begins : page.html.index('class="example"', begins)])
            for status in call["responses"]:
                assert re.search(rf"\b{status}\b", shown), (call["operationId"], status)


def test_every_field_of_every_shape_is_on_the_page(page, document):
    for name, schema in document["components"]["schemas"].items():
        shown = part(page.html, f"shape-{name}")
        assert page.html.count(f'id="shape-{name}"') == 1
        for field, member in schema["properties"].items():
            assert f"<code>{field}</code>" in shown, (name, field)
            assert member["description"] in shown, (name, field)
        assert shown.count('class="mark">required') in (0, len(schema.get("required", ())))


def test_every_status_and_every_group_is_explained(page, document):
    for item in document["paths"].values():
        for call in item.values():
            for status, answer in call["responses"].items():
                assert status < "400" or answer["description"] in unescape(page.html)
    for tag in document["tags"]:
        assert tag["description"] in unescape(page.html)
        assert f"#{tag['name']}" in page.links


def test_values_are_described_in_words(page):
    made = text(part(page.html, "shape-TaskCreate"))
    for words in (
        "title required text, at most 200 characters",
        "one of todo, doing, done; todo if left out",
        "whole number, 0 to 3",
        "UUID or null",
        "day (2026-03-14) or null",
    ):
        assert words in made
    assert "list of Task" in text(part(page.html, "shape-TaskList"))
    assert "whole numbers by name" in text(part(page.html, "shape-DatabaseStats"))


def test_everybody_may_read_it_and_nobody_is_asked_who_they_are(statements, visit, ada):
    visitor = visit()
    visitor.get(PATH)
    with statements() as sent:
        visitor.get(PATH)
    assert sent == []
    with statements() as sent:
        ada.get(PATH)
    assert len(sent) == 1, "for the frame"


def test_every_anchor_is_there_and_the_headings_are_in_order(page):
    ids = re.findall(r' id="([^"]+)"', page.html)
    assert len(ids) == len(set(ids))
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(ids)
    levels = [int(level) for level in re.findall(r"<h([1-6])", page.html)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


def test_it_needs_no_script_and_nothing_from_elsewhere(page):
    assert page.inline == []
    assert not [link for link in page.links if link.startswith(("http:", "https:", "//"))]


def test_every_command_does_what_its_call_promises(page, document, app, parts, root):
    _, key = parts.accounts.issue_key(parts.accounts.find("root@example.org").id, "all of it")
    program = app.test_client()
    for item in document["paths"].values():
        for method, call in item.items():
            command = re.search(rf'<code id="{call["operationId"]}-example">(.+?)</code>', page.html, re.S)[1]
            words = shlex.split(unescape(command))
            assert (words[0], method.upper() in words) == ("curl", method != "get")
            url = next(word for word in words if word.startswith("http://localhost/"))
            headers = dict(word.split(": ", 1) for word in words if ": " in word and word.startswith(("Auth", "Cont")))
            assert headers["Authorization"] == "Bearer $UNIFY_KEY"
            headers["Authorization"] = f"Bearer {key}"
            data = words[words.index("-d") + 1] if "-d" in words else None
            answer = program.open(url.removeprefix("http://localhost"), method=method, headers=headers, data=data)
            assert str(answer.status_code) in call["responses"]
            # Rows, users and jobs that the examples name are not there; nothing else is wrong with them.
            assert answer.status_code in (200, 201, 204, 404), (words, answer.text)
            assert (
                answer.status_code != 404 or method in ("get", "patch", "delete") or "/user/5/" in url or "/job/" in url
            )


def test_the_settings_lead_to_it(ada):
    assert PATH in ada.get("/settings/keys").links
