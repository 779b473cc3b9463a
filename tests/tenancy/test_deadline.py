"""One deadline for all that a request waits for, and none for work that may take long."""

from __future__ import annotations

import pytest

from tenancy.deadline import LEAST_S, REQUEST_S, Patience, left, lifted, unhurried, within
from tenancy.errors import DatabaseTimeoutError
from tests.support.applications import add_users
from tests.support.engines import backend_of, server_login, use
from web.http.wsgi import Door


def test_no_wait_is_longer_than_what_is_left_of_the_whole():
    assert left(300) == 300
    with within(60):
        assert 59 < left(300) <= 60
        assert left(3) == 3
        with within(3600):
            assert left(300) <= 60
    assert left(300) == 300


def test_a_healthy_server_is_still_asked_after_the_deadline():
    with within(-1):
        assert left(300) == LEAST_S


def test_long_work_lifts_the_deadline_and_moves_it_by_its_own_time():
    with within(60):
        before = left(300)
        with lifted():
            assert left(300) == 300
        assert before - 1 < left(300) <= 60


def test_what_a_user_named_is_bounded_at_last_whatever_lifts_the_deadline():
    with within(4), lifted(), unhurried(), lifted():
        assert 29 < left(300) <= 30
    with within(60), lifted():
        assert left(300) == 300, "the bound ended with its block"


def test_a_byte_now_and_then_gains_nothing_once_the_deadline_is_over():
    patient = Patience(300, each_silence=True)
    with within(-1):
        first = patient.until()
        assert patient.again(first) == first
    assert patient.again(first) > first + 200


def test_every_call_has_a_deadline_of_its_own():
    seen: list[float] = []

    def app(environ, start_response):
        seen.append(left(300))
        return [b""]

    door = Door(app, accept_ids=False)
    for _ in range(2):
        list(door({"wsgi.url_scheme": "http"}, lambda status, headers, error=None: lambda data: None))
    assert all(REQUEST_S - 1 < each <= REQUEST_S for each in seen)
    assert left(300) == 300


def test_provisioning_is_not_cut_off_by_the_request_that_asked_for_it(make_parts):
    manager = make_parts().manager
    seen: dict[str, float] = {}
    manager.services.step = lambda name: seen.setdefault(name, left(300))
    with within(60):
        manager.provision(add_users(manager, 1)[0])
    assert seen["write file"] == 300


@pytest.mark.parametrize(("engine", "sleeping"), [("postgresql", "SELECT pg_sleep(2)"), ("mysql", "DO SLEEP(2)")])
@pytest.mark.parametrize("patient", [False, True])
def test_an_open_connection_heeds_the_deadline_of_who_uses_it(request, engine, sleeping, patient):
    """Also one for long work, which a probe uses too: the statement would be through in two seconds."""
    backend, login = backend_of(use(request, engine)), server_login(engine)
    driver = backend.open(login.patient() if patient else login)
    with backend.filling(driver) as connection, within(-1), pytest.raises(DatabaseTimeoutError), backend.explained():
        connection.exec_driver_sql(sleeping)


def test_patience_ends_where_the_deadline_does():
    assert Patience(300).until() > Patience(200).until()
    with within(1):
        assert Patience(300, each_silence=True).until() < Patience(200).until() + 1
