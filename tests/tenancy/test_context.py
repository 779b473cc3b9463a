"""The context: for whom code runs, in this thread or task alone, and never for somebody else by itself."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tenancy import context
from tenancy.context import Context
from tenancy.errors import ConfigurationError, NoTenantError, WrongTenantError
from tenancy.models import State, Tenant
from tenancy.types import new_id

PLACE = Tenant(new_id(), 5, "sqlite", State.READY, version=1, epoch=1)


@pytest.fixture(autouse=True)
def nobody():
    """Begin and end each test with the context of a fresh process."""
    context.bind(Context())
    yield
    context.bind(Context())


def in_a_copy(work):
    return contextvars.copy_context().run(work)


def test_where_no_user_was_set_there_is_none():
    with pytest.raises(NoTenantError):
        context.owner()
    assert context.owner(5) == 5


def test_a_user_set_is_the_one_worked_for():
    context.set_user(5)
    assert context.owner() == 5
    context.set_user(6)
    assert context.owner() == 6


@pytest.mark.parametrize("bad", [0, -1, True, "1;drop", 2**31, 1.5])
def test_what_is_no_user_id_is_refused(bad):
    with pytest.raises(ConfigurationError) as refused:
        context.owner(bad)
    assert refused.value.field == "user_id"


def test_a_block_ends_with_its_user():
    context.set_user(4)
    with context.held(5, None):
        assert context.owner() == 5
    assert context.owner() == 4


def test_a_block_that_fails_ends_with_its_user_too():
    with pytest.raises(ZeroDivisionError), context.held(5, None):
        raise ZeroDivisionError
    with pytest.raises(NoTenantError):
        context.owner()


@pytest.mark.parametrize(
    "switch",
    [
        lambda: context.set_user(6),
        lambda: context.owner(6),
        lambda: context.held(6, None).__enter__(),
        lambda: context.held(6, actor_id=5).__enter__(),
    ],
)
def test_inside_a_block_no_other_user_can_be_worked_for(switch):
    with context.held(5, None):
        with pytest.raises(WrongTenantError):
            switch()
        assert context.owner() == context.owner(5) == 5


def test_inside_a_block_the_same_user_can_be_named_again():
    with context.held(5, None):
        context.set_user(5)
        with context.held(5, None):
            assert context.owner() == 5
        assert context.owner() == 5


def test_a_request_holds_its_user_and_their_place():
    context.bind(Context(owner=5, tenant=PLACE, locked=True, held_for=5, actor_id=5, request_id="r1"))
    with pytest.raises(WrongTenantError):
        context.set_user(6)
    with context.held(5, None):
        assert context.current().tenant is PLACE
        assert (context.current().request_id, context.current().actor_id) == ("r1", 5)
    context.set_user(5)
    assert context.current().tenant is PLACE


def test_a_call_of_an_administrator_has_no_database_and_chooses_none_but_their_own():
    context.bind(Context(locked=True, held_for=1, actor_id=1))
    with pytest.raises(NoTenantError):
        context.owner()
    for user_id in (2, 3):
        with pytest.raises(WrongTenantError):
            context.owner(user_id)


def test_another_user_is_never_worked_for_at_the_place_of_the_first():
    context.bind(Context(owner=5, tenant=PLACE))
    with context.held(6, None):
        assert context.current().tenant is None
    assert context.current().tenant is PLACE
    context.set_user(6)
    assert context.current().tenant is None
    with context.held(5, None):
        assert context.current().tenant is None


def test_the_actor_is_whoever_was_named_last():
    with context.held(5, actor_id=1):
        assert context.current().actor_id == 1
        with context.held(5, None):
            assert context.current().actor_id == 1


def test_the_main_database_is_chosen_not_fallen_back_to():
    assert not context.current().main
    context.set_user(5)
    context.choose_main()
    assert context.current().main
    with pytest.raises(NoTenantError):
        context.owner()
    context.set_user(5)
    assert not context.current().main


def test_the_main_database_is_chosen_for_one_context():
    context.set_user(5)
    in_a_copy(context.choose_main)
    assert context.owner() == 5
    assert not context.current().main


def test_a_new_thread_works_for_nobody():
    context.set_user(5)
    seen = []
    thread = threading.Thread(target=lambda: seen.append(context.current()))
    thread.start()
    thread.join()
    assert seen == [Context()]


def test_threads_do_not_see_each_others_user():
    turn = threading.Barrier(8)

    def work(user_id):
        context.set_user(user_id)
        turn.wait(30)
        return context.owner()

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(1, 9))) == list(range(1, 9))


def test_tasks_do_not_see_each_others_user():
    async def work(user_id, turns):
        with context.held(user_id, None):
            seen = []
            for _ in range(turns):
                await asyncio.sleep(0)  # gives the other tasks their turn
                seen.append(context.owner())
            return seen

    async def all_of_them():
        return await asyncio.gather(*[work(user_id, 5) for user_id in range(1, 9)])

    assert asyncio.run(all_of_them()) == [[user_id] * 5 for user_id in range(1, 9)]
    with pytest.raises(NoTenantError):
        context.owner()


def test_what_a_copied_context_sets_ends_with_it():
    in_a_copy(lambda: context.set_user(5))
    with pytest.raises(NoTenantError):
        context.owner()
