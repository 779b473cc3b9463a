"""Settings are rows whose key is a word."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from repositories.errors import ConflictError, NotFoundError, StaleVersionError
from repositories.settings import SettingRepository
from tenancy.errors import ConfigurationError
from tests.repositories.conftest import ADA
from tests.support.engines import on_sqlite


def test_putting_makes_a_setting_and_then_changes_it(ada: Any, bob: Any) -> None:
    made, new = ada.settings.put("calendar.first_day", "monday")
    assert new
    changed, new = ada.settings.put("calendar.first_day", "sunday")
    assert not new
    assert changed == made | {"value": "sunday", "version": 2, "updated_at": changed["updated_at"]}
    assert ada.settings.get("calendar.first_day") == changed
    assert ada.settings.list() == [changed]
    with pytest.raises(NotFoundError):
        bob.settings.get("calendar.first_day")
    ada.settings.delete("calendar.first_day")
    assert ada.settings.count() == 0


def test_putting_a_version_changes_that_version_only(ada: Any) -> None:
    with pytest.raises(NotFoundError):
        ada.settings.put("theme", "dark", if_version=1)
    ada.settings.put("theme", "dark")
    ada.settings.put("theme", "light", if_version=1)
    with pytest.raises(StaleVersionError):
        ada.settings.put("theme", "dark", if_version=1)


def test_a_key_is_created_once(ada: Any) -> None:
    ada.settings.create({"key": "theme", "value": "dark"})
    with pytest.raises(ConflictError) as refusal:
        ada.settings.create({"key": "theme", "value": "light"})
    assert refusal.value.field == "key"


@on_sqlite
@pytest.mark.parametrize("key", ["", "Theme", "1st", "a b", "a" * 65, "ä", "a\n", "a\x00", "../x", None, 7, "\ud800"])
def test_a_key_that_cannot_be_is_not_there_and_not_made(ada: Any, key: Any) -> None:
    for act in (ada.settings.get, ada.settings.delete, ada.settings.exists):
        with pytest.raises(NotFoundError):
            act(key)
    with pytest.raises(ConfigurationError) as refusal:
        ada.settings.put(key, "x")
    assert refusal.value.field == "key"


def test_two_that_put_a_new_key_at_once_make_one_row(engine: sa.Engine) -> None:
    start, news = threading.Barrier(2), []

    def put(value: str) -> None:
        start.wait()
        with Session(engine) as session, session.begin():
            news.append(SettingRepository(session, ADA).put("theme", value)[1])

    threads = [threading.Thread(target=put, args=(value,)) for value in ("dark", "light")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(news) == [False, True]
    with Session(engine) as session:
        assert [row["version"] for row in SettingRepository(session, ADA).list()] == [2]
