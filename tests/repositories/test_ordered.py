"""Tasks stand where their owner put them, however often they are moved."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings, strategies as st
from sqlalchemy.orm import Session

from repositories.schema import tasks
from repositories.tasks import TaskRepository
from tenancy.errors import ConfigurationError
from tests.repositories.conftest import ADA, statements_sent
from tests.support.engines import on_sqlite

NOON = datetime(2024, 5, 6, 12, 0, tzinfo=UTC)


def order(repository: Any, **filters: Any) -> str:
    return "".join(row["title"] for row in repository.page(sort="manual", limit=1000, **filters).rows)


@pytest.fixture
def ids(ada: Any) -> dict[str, UUID]:
    """Give tasks that stand as e, d, c, b, a: the newest on top."""
    made = {title: ada.tasks.create({"title": title})["id"] for title in "abcde"}
    assert order(ada.tasks) == "edcba"
    return made


def test_a_task_is_put_above_or_below_another_or_on_top(ada: Any, ids: dict[str, UUID]) -> None:
    ada.tasks.move(ids["a"], before=ids["d"])
    assert order(ada.tasks) == "eadcb"
    ada.tasks.move(ids["e"], after=ids["c"])
    assert order(ada.tasks) == "adceb"
    ada.tasks.move(ids["a"], after=ids["b"])
    assert order(ada.tasks) == "dceba"
    ada.tasks.move(ids["b"], before=ids["d"])
    assert order(ada.tasks) == "bdcea"
    ada.tasks.move(ids["a"])
    assert order(ada.tasks) == "abdce"
    ada.tasks.move(ids["c"], before=ids["b"], after=ids["e"])
    assert order(ada.tasks) == "acbde", "before counts"


def test_a_task_stays_where_it_is_beside_itself_or_where_it_was(ada: Any, ids: dict[str, UUID]) -> None:
    for beside in ({"before": ids["c"]}, {"after": ids["c"]}, {"before": ids["b"]}, {"after": ids["d"]}):
        ada.tasks.move(ids["c"], **beside)
        assert order(ada.tasks) == "edcba"


def test_a_new_task_is_on_top_of_what_was_moved_there(ada: Any, ids: dict[str, UUID]) -> None:
    for title in "abc":
        ada.tasks.move(ids[title])
    ada.tasks.create({"title": "f"})
    assert order(ada.tasks) == "fcbaed"


def test_steps_count_among_the_tasks_that_are_shown(ada: Any, ids: dict[str, UUID]) -> None:
    for title in "bd":
        ada.tasks.update(ids[title], {"status": "done"})
    assert order(ada.tasks, open=True) == "eca"
    assert ada.tasks.move_by(ids["a"], -1, open=True)
    assert order(ada.tasks, open=True) == "eac"
    assert order(ada.tasks) == "edacb"
    assert ada.tasks.move_by(ids["e"], 1, open=True)
    assert order(ada.tasks, open=True) == "aec"
    assert not ada.tasks.move_by(ids["a"], -1, open=True)
    assert not ada.tasks.move_by(ids["c"], 1, open=True)
    assert ada.tasks.move_by(ids["c"], -2, open=True)
    assert order(ada.tasks, open=True) == "cae"
    assert ada.tasks.move_by(ids["c"], 9, text="-a")
    assert order(ada.tasks)[-1] == "c"


@on_sqlite
@pytest.mark.parametrize("steps", [0, None, "1", 1001, True, 1.0])
def test_steps_that_are_none_are_refused(ada: Any, steps: Any) -> None:
    id = ada.tasks.create({"title": "x"})["id"]
    with pytest.raises(ConfigurationError) as refusal:
        ada.tasks.move_by(id, steps)
    assert refusal.value.field == "steps"


def test_moving_is_no_change_of_the_task(ada: Any, ids: dict[str, UUID]) -> None:
    before = ada.tasks.get(ids["a"])
    ada.tasks.move(ids["a"], before=ids["d"])
    after = ada.tasks.get(ids["a"])
    assert after == before | {"position": after["position"]}


def test_a_move_is_three_statements_and_a_step_four(ada: Any, ids: dict[str, UUID]) -> None:
    for act, number in (
        (lambda: ada.tasks.move(ids["a"], before=ids["d"]), 3),
        (lambda: ada.tasks.move(ids["a"]), 3),
        (lambda: ada.tasks.move_by(ids["b"], -1, open=True), 4),
    ):
        with statements_sent(ada.session.get_bind()) as sent:
            act()
        assert len(sent) == number


def test_tasks_of_one_moment_are_told_apart_and_moved(ada: Any, bob: Any) -> None:
    """Import many tasks as raw SQL would: with one position for all."""
    made = sorted((uuid4() for _ in range(300)), key=lambda id: id.hex)
    rows = [{"user_id": ADA, "id": id, "title": f"{n}", "position": NOON} for n, id in enumerate(made)]
    ada.session.execute(tasks.insert(), rows)
    his = bob.tasks.create({"title": "his"})
    bottom_first = list(made)

    def shown() -> list[UUID]:
        return [row["id"] for row in ada.tasks.page(sort="manual", limit=1000).rows][::-1]

    assert shown() == bottom_first
    for id, before in ((made[250], made[3]), (made[0], made[298]), (made[7], made[8])):
        ada.tasks.move(id, before=before)
        bottom_first.remove(id)
        bottom_first.insert(bottom_first.index(before) + 1, id)
        assert shown() == bottom_first
    assert bob.tasks.get(his["id"]) == his


def test_moving_between_the_same_two_again_and_again_keeps_the_order(ada: Any, ids: dict[str, UUID]) -> None:
    expected = "edcba"
    for number in range(120):
        moved, above = ("a", "c") if number % 2 else ("b", "c")
        ada.tasks.move(ids[moved], before=ids[above])
        expected = expected.replace(moved, "").replace(above, moved + above)
        assert order(ada.tasks) == expected


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(seed=st.integers(0, 10_000), gap=st.sampled_from([0, 1, 2, 1000]))
def test_any_moves_give_the_order_that_a_list_would_have(engine: sa.Engine, seed: int, gap: int) -> None:
    chance = random.Random(seed)
    with Session(engine) as session:
        repository = TaskRepository(session, ADA)
        made = sorted((uuid4() for _ in range(8)), key=lambda id: id.hex)
        moments = [NOON + timedelta(microseconds=gap * number) for number in range(8)]
        rows = [{"user_id": ADA, "id": id, "title": "x", "position": at} for id, at in zip(made, moments, strict=True)]
        session.execute(tasks.insert(), rows)
        shown = made[::-1]
        for _ in range(12):
            moved, beside = chance.sample(shown, 2)
            above = chance.random() < 0.5
            repository.move(moved, **{"before" if above else "after": beside})
            shown.remove(moved)
            shown.insert(shown.index(beside) + (0 if above else 1), moved)
            assert [row["id"] for row in repository.page(sort="manual").rows] == shown
