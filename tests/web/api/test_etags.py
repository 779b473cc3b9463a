"""Hold ETag, If-Match and If-None-Match to what RFC 9110 says of them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.support.products import parts_on_sqlite
from tests.web.conftest import Caller, caller

URL = "/api/v1/tasks"

if TYPE_CHECKING:
    from compose import Parts


@pytest.fixture
def made(ada: Caller) -> tuple[str, str]:
    """Give a task's address and tag."""
    answer = ada.post(URL, json={"title": "x"})
    return answer.headers["Location"], answer.headers["ETag"]


@pytest.fixture
def parts(parts_on_each: Parts) -> Parts:
    """Run this on each database product, but where a test says otherwise."""
    return parts_on_each


def test_a_change_gives_a_new_tag_and_the_old_one_is_stale(ada: Caller, made: tuple[str, str]) -> None:
    url, tag = made
    changed = ada.patch(url, json={"title": "y"}, headers={"If-Match": tag})
    assert changed.status_code == 200
    assert changed.headers["ETag"] != tag
    stale = ada.patch(url, json={"title": "z"}, headers={"If-Match": tag})
    assert (stale.status_code, stale.json["code"]) == (412, "stale_version")
    assert ada.delete(url, headers={"If-Match": tag}).status_code == 412
    assert ada.get(url).json["title"] == "y"
    assert ada.delete(url, headers={"If-Match": changed.headers["ETag"]}).status_code == 204
    assert ada.get(url).status_code == 404


def test_any_of_several_tags_and_the_star_match(ada: Caller, made: tuple[str, str]) -> None:
    url, tag = made
    assert ada.patch(url, json={"priority": 1}, headers={"If-Match": f'"no", {tag}'}).status_code == 200
    assert ada.patch(url, json={"priority": 2}, headers={"If-Match": "*"}).status_code == 200
    assert (
        ada.patch(f"{URL}/0190b5f0-0000-7000-8000-000000000000", json={}, headers={"If-Match": "*"}).status_code == 404
    )


@parts_on_sqlite
@pytest.mark.parametrize("given", ["x", '"x', "1", '"a" "b"', "", '*, "a"', "W/", '"\x7f"'])
def test_a_malformed_precondition_is_400(ada: Caller, made: tuple[str, str], given: str) -> None:
    url, _ = made
    answer = ada.patch(url, json={"title": "y"}, headers={"If-Match": given})
    assert (answer.status_code, answer.json["code"]) == (400, "header_malformed")


def test_a_weak_tag_never_matches_a_write(ada: Caller, made: tuple[str, str]) -> None:
    url, tag = made
    assert ada.patch(url, json={"title": "y"}, headers={"If-Match": f"W/{tag}"}).status_code == 412


def test_a_client_that_has_the_state_gets_304(ada: Caller, made: tuple[str, str]) -> None:
    url, tag = made
    for given in (tag, f"W/{tag}", f'"no", {tag}', "*"):
        answer = ada.get(url, headers={"If-None-Match": given})
        assert (answer.status_code, answer.data, answer.headers["ETag"]) == (304, b"", tag)
    assert ada.get(url, headers={"If-None-Match": '"no"'}).status_code == 200


def test_a_row_made_again_under_its_id_is_another_row(ada: Caller) -> None:
    row = {"id": "0190b5f0-0000-7000-8000-000000000000", "title": "x"}
    first = ada.post(URL, json=row).headers["ETag"]
    ada.delete(f"{URL}/{row['id']}")
    assert ada.post(URL, json=row).headers["ETag"] != first
    assert ada.delete(f"{URL}/{row['id']}", headers={"If-Match": first}).status_code == 412


def test_an_empty_change_changes_nothing(ada: Caller, made: tuple[str, str]) -> None:
    url, tag = made
    assert ada.patch(url, json={}).headers["ETag"] == tag


def test_sixteen_at_once_with_one_tag_are_one_200_and_fifteen_412(ada: Caller, made: tuple[str, str]) -> None:
    url, tag = made

    def change(number: int) -> int:
        asker = Caller(ada.client.application.test_client(), ada.user, ada.key)
        return int(asker.patch(url, json={"title": str(number)}, headers={"If-Match": tag}).status_code)

    with ThreadPoolExecutor(16) as pool:
        assert sorted(pool.map(change, range(16))) == [200] + [412] * 15


def test_settings_keep_the_same_rules(ada: Caller) -> None:
    url = "/api/v1/settings/calendar.first_day"
    assert ada.put(url, json={"value": "monday"}, headers={"If-Match": "*"}).status_code == 412
    made = ada.put(url, json={"value": "monday"})
    assert made.status_code == 201
    assert made.json["key"] == "calendar.first_day"
    kept = ada.put(url, json={"value": ""}, headers={"If-Match": made.headers["ETag"]})
    assert (kept.status_code, kept.json["value"]) == (200, "")
    assert ada.put(url, json={"value": "x"}, headers={"If-Match": made.headers["ETag"]}).status_code == 412
    assert ada.get(url, headers={"If-None-Match": kept.headers["ETag"]}).status_code == 304
    assert ada.delete(url, headers={"If-Match": '"no"'}).status_code == 412
    assert ada.delete(url).status_code == 204
    assert ada.delete(url).status_code == 404


@parts_on_sqlite
@pytest.mark.parametrize("key", ["A", "1", "a%00b", "..", "a%2Fb", "x" * 65, "%F0%9F%98%80"])
def test_a_settings_key_that_cannot_be_is_never_there_and_never_made(ada: Caller, key: str) -> None:
    assert ada.get(f"/api/v1/settings/{key}").status_code == 404
    answer = ada.put(f"/api/v1/settings/{key}", json={"value": "x"})
    assert answer.status_code in (404, 422)
    if answer.status_code == 422:
        assert answer.json["errors"][0]["field"] == "key"


def test_a_tag_of_one_user_is_worth_nothing_to_another(ada: Caller, bob: Caller, made: tuple[str, str]) -> None:
    url, tag = made
    assert bob.patch(url, json={"title": "y"}, headers={"If-Match": tag}).status_code == 404
    assert caller(bob.client.application, bob.user).delete(url, headers={"If-Match": tag}).status_code == 404
