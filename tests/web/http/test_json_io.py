"""Hold what is refused before a model sees a body, and what comes back as it was sent."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given, strategies as st

from tests.web.conftest import Caller
from web.http import json_io
from web.http.errors import Problem
from web.schemas import FieldErrors, TaskCreate

URL = "/api/v1/tasks"


def post(asker: Caller, data: bytes | str, content_type: str = "application/json") -> Any:
    return asker.post(URL, data=data, content_type=content_type)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "malformed_json"),
        (b'{"title": "x"', "malformed_json"),
        (b'{"title": "x"}}', "malformed_json"),
        (b'{"title": NaN}', "malformed_json"),
        (b"{'title': 'x'}", "malformed_json"),
        (b"\xef\xbb\xbf" + b'{"title": "x"}', "malformed_json"),
        (b'{"title": "\xff"}', "malformed_json"),
        ('{"title": "x"}'.encode("utf-16"), "malformed_json"),
        (b"null", "not_an_object"),
        (b"[]", "not_an_object"),
        (b'"text"', "not_an_object"),
        (b"1", "not_an_object"),
        (b'{"title": "x", "title": "y"}', "duplicate_key"),
        (b'{"title": "x", "\\u0074itle": "y"}', "duplicate_key"),
        (b'{"title": {"a": 1, "a": 2}}', "duplicate_key"),
        (b"[" * 200_000, "nesting_too_deep"),
        (b'{"a":' * 200_000, "nesting_too_deep"),
        (b'{"a":' * 65 + b"1" + b"}" * 65, "nesting_too_deep"),
    ],
)
def test_what_is_no_json_object_is_400_with_its_code(ada: Caller, data: bytes, code: str) -> None:
    answer = post(ada, data)
    assert (answer.status_code, answer.json["code"]) == (400, code)
    assert answer.content_type == "application/problem+json"
    assert ada.get(URL).json["items"] == []


def test_nesting_of_64_is_read_and_refused_by_name_only(ada: Caller) -> None:
    answer = post(ada, b'{"title": ' + b"[" * 63 + b"]" * 63 + b"}")
    assert answer.status_code == 422
    assert answer.json["errors"][0]["field"] == "title"


def test_brackets_and_quotes_inside_text_do_not_count(ada: Caller) -> None:
    title = "[{" * 50 + '\\" "' + "]"
    assert post(ada, json.dumps({"title": title})).json["title"] == title


@pytest.mark.parametrize(
    "data", [b'"' + b'\\"' * 500_000, b'"\\' * 300_000, b'"' * 900_001, b"[]" * 400_000, b'{"a":"' + b"\\" * 900_001]
)
def test_no_body_takes_long_to_refuse(data: bytes) -> None:
    started = time.process_time()
    with pytest.raises((Problem, FieldErrors)):
        json_io.check(data)
    # The slip this guards against (quadratic backtracking) would take hours.
    assert time.process_time() - started < 20


@pytest.mark.parametrize(
    "content_type",
    ["", "text/plain", "application/x-www-form-urlencoded", "application/jsonx", "application/json; charset=utf-16"],
)
def test_another_media_type_is_415(ada: Caller, content_type: str) -> None:
    assert post(ada, b'{"title": "x"}', content_type).status_code == 415


@pytest.mark.parametrize(
    ("data", "field"),
    [
        (b'{"title": "\\ud800"}', "title"),
        (b'{"title": "x", "description": "a\\udfffb"}', "description"),
        (b'{"title": "a\\u0000b"}', "title"),
        (b'{"title": "x", "priority": 9223372036854775808}', "priority"),
        (b'{"title": "x", "priority": -9223372036854775809}', "priority"),
        (b'{"title": "x", "priority": ' + b"9" * 10_000 + b"}", "priority"),
        (b'{"title": "x", "priority": 1e400}', "priority"),
        (b'{"title": "x", "priority": 1.0}', "priority"),
        (b'{"title": "x", "priority": true}', "priority"),
        (b'{"title": "x", "priority": "1"}', "priority"),
        (b'{"title": "x", "priority": 4}', "priority"),
        (b'{"title": "x", "due_date": "2023-02-29"}', "due_date"),
        (b'{"title": "x", "due_date": "0000-01-01"}', "due_date"),
        (b'{"title": "x", "due_date": "0999-12-31"}', "due_date"),
        (b'{"title": "x", "due_date": 0}', "due_date"),
        (b'{"title": "x", "due_date": "0"}', "due_date"),
        (b'{"title": "x", "due_date": "1699920000"}', "due_date"),
        (b'{"title": "x", "due_date": "2023-01-01T00:00:00Z"}', "due_date"),
        (b'{"title": "x", "category_id": "../../admin.db"}', "category_id"),
        (b'{"title": "x", "id": "1;drop"}', "id"),
        (b'{"title": "x", "status": "DONE"}', "status"),
        (b'{"title": "x", "user_id": 2}', "user_id"),
        (b'{"title": "x", "version": 2}', "version"),
        (b'{"title": "x", "\\ud800": 2}', "\ufffd"),
        (b'{"title": ""}', "title"),
        (b'{"title": "  "}', "title"),
        (b'{"title": null}', "title"),
        (b'{"title": ["x"]}', "title"),
        (b"{}", "title"),
        (json.dumps({"title": "x" * 201}).encode(), "title"),
    ],
)
def test_a_field_that_is_wrong_is_422_and_named(ada: Caller, data: bytes, field: str) -> None:
    answer = post(ada, data)
    assert answer.status_code == 422, answer.json
    assert [error["field"] for error in answer.json["errors"]] == [field]
    assert ada.get(URL).json["items"] == []


@pytest.mark.parametrize(
    ("times", "field"),
    [
        ({"starts_at": "2026-01-01T10:00:00"}, "starts_at"),
        ({"starts_at": "2023-02-29T10:00:00Z"}, "starts_at"),
        ({"starts_at": 1767261600}, "starts_at"),
        ({"starts_at": "0001-01-01T00:00:00+14:00"}, "starts_at"),
        ({"starts_at": "9999-12-31T23:59:59-14:00"}, "starts_at"),
        ({"starts_at": "2026-01-01T10:00:00Z", "ends_at": "2026-01-01T09:59:59Z"}, "ends_at"),
        ({"ends_at": "2026-01-01T09:59:59Z"}, "starts_at"),
    ],
)
def test_an_events_times_are_moments_in_order(ada: Caller, times: dict[str, Any], field: str) -> None:
    answer = ada.post("/api/v1/events", json={"title": "x"} | times)
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json["errors"]] == [field]


def test_a_patch_of_one_time_is_held_against_the_other(ada: Caller) -> None:
    times = {"starts_at": "2026-01-01T10:00:00Z", "ends_at": "2026-01-01T11:00:00Z"}
    url = "/api/v1/events/" + ada.post("/api/v1/events", json={"title": "x"} | times).json["id"]
    assert ada.patch(url, json={"starts_at": "2026-01-01T12:00:00Z"}).json["errors"][0]["field"] == "ends_at"
    assert ada.patch(url, json={"ends_at": "2026-01-01T09:00:00Z"}).status_code == 422
    assert ada.patch(url, json={"ends_at": None}).json["ends_at"] is None
    assert ada.patch(url, json={"starts_at": "2026-01-01T12:00:00+02:00"}).json["starts_at"] == times["starts_at"]


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=40)


LEAVES = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | TEXT


@given(st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner)))
def test_any_object_that_python_writes_is_taken(value: Any) -> None:
    json_io.check(json.dumps({"a": value}).encode())
    json_io.check(json.dumps({"a": value}, ensure_ascii=False).encode())


@given(st.binary(max_size=200))
def test_no_bytes_at_all_make_the_check_fail_otherwise(raw: bytes) -> None:
    statuses = {200}
    try:
        json_io.check(raw)
    except FieldErrors:
        statuses.add(422)
    except Problem as refused:
        statuses.add(refused.status)
    assert statuses <= {200, 400, 422}


def test_a_row_comes_back_equal(ada: Caller) -> None:
    sent = {
        "id": "0190b5f0-0000-7000-8000-000000000000",
        "title": "Zähl\U0001f600 %s ? :x \\ ' \"",
        "description": " lines\r\n\ttabs ",
        "status": "doing",
        "priority": 3,
        "due_date": "2024-02-29",
    }
    made = ada.post(URL, json=sent)
    assert made.status_code == 201
    assert made.headers["Location"] == f"{URL}/{sent['id']}"
    assert made.json.items() >= sent.items()
    read = ada.get(made.headers["Location"])
    assert read.json == made.json
    assert read.headers["ETag"] == made.headers["ETag"]
    assert read.json["created_at"].endswith("Z")
    assert set(read.json) == {*TaskCreate.model_fields, "created_at", "updated_at"}


def test_a_repeated_post_makes_nothing_twice(ada: Caller) -> None:
    sent = {"id": "0190b5f0-0000-7000-8000-000000000000", "title": "x"}
    assert [ada.post(URL, json=sent).status_code for _ in range(2)] == [201, 409]
    assert len(ada.get(URL).json["items"]) == 1


@pytest.mark.parametrize("accept", ["text/html", "application/json;q=0", "image/*"])
def test_a_client_that_takes_no_json_is_told_so(ada: Caller, accept: str) -> None:
    assert ada.get(URL, headers={"Accept": accept}).status_code == 406


@pytest.mark.parametrize("accept", ["*/*", "application/json", "application/*", "text/html, */*;q=0.1", ""])
def test_a_client_that_takes_json_gets_it(ada: Caller, accept: str) -> None:
    assert ada.get(URL, headers={"Accept": accept}).content_type == "application/json"
