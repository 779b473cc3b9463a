"""Hold the one table from exception to status complete."""

from __future__ import annotations

import inspect
import uuid

import pytest
from flask import Flask

from repositories import errors as stored
from tenancy import errors as tenancy
from tenancy.models import Origin, State, Tenant
from web.http import advice
from web.http.errors import ADMIN_STATUS, STATUS, of_tenancy

ABSTRACT = {
    tenancy.TenancyError,
    stored.RepositoryError,
    # Raised by the commands' own operations, or by a mistake of ours alone.
    tenancy.ArchiveError,
    tenancy.ScopeError,
    tenancy.NoTenantError,
    tenancy.WrongTenantError,
}
KINDS = [
    kind
    for module in (tenancy, stored)
    for _, kind in inspect.getmembers(module, inspect.isclass)
    if issubclass(kind, tenancy.TenancyError) and kind.__module__ == module.__name__ and kind not in ABSTRACT
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_class_has_a_status_below_500_or_one_that_asks_to_come_back(
    app: Flask, kind: type[tenancy.TenancyError]
) -> None:
    assert any(parent in STATUS for parent in kind.__mro__)
    with app.test_request_context("/api/v1/tasks"):
        problem = of_tenancy(kind("what happened"))
    assert problem.status < 500 or problem.status in (502, 503, 507)
    assert problem.status != 503 or problem.headers["Retry-After"]


def test_what_is_not_there_never_says_why(app: Flask) -> None:
    with app.test_request_context("/api/v1/tasks"):
        details = {
            of_tenancy(kind("row 7 of user 3")).detail
            for kind in (stored.NotFoundError, tenancy.UserNotFoundError, tenancy.KeyNotFoundError)
        }
    assert len(details) == 1
    assert "7" not in details.pop()


def test_a_throttled_caller_is_told_when_to_come_back(app: Flask) -> None:
    with app.test_request_context("/api/v1/tasks"):
        problem = of_tenancy(tenancy.ThrottledError("too many", retry_after_s=7.4))
    assert (problem.status, problem.headers["Retry-After"]) == (429, "7")


@pytest.mark.parametrize(
    ("kind", "owner", "administrator"),
    [
        (tenancy.ServerNotFoundError, 404, 404),
        (tenancy.ServerExistsError, 409, 409),
        (tenancy.NoServerError, 503, 409),
        (tenancy.HostNotAllowedError, 422, 422),
        (tenancy.AccessDeniedError, 503, 502),
        (tenancy.LoginRefusedError, 503, 502),
        (tenancy.ConnectionRefusedByServerError, 503, 503),
        (tenancy.DatabaseTimeoutError, 503, 503),
        (tenancy.TooManyConnectionsError, 503, 503),
    ],
)
def test_what_servers_do_is_told_to_owners_and_administrators(
    app: Flask, kind: type[tenancy.TenancyError], owner: int, administrator: int
) -> None:
    found = []
    for path in ("/api/v1/tasks", "/admin/user/1/database/info"):
        with app.test_request_context(path):
            found.append(of_tenancy(kind("what happened")).status)
    assert found == [owner, administrator]


def test_administrators_table_names_no_class_that_owners_table_does_not_reach() -> None:
    assert [kind for kind in ADMIN_STATUS if not any(parent in STATUS for parent in kind.__mro__)] == []


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_person_is_told_what_it_means_and_never_a_command(app: Flask, kind: type[tenancy.TenancyError]) -> None:
    told = "the database of user 7: run `unify db init 7`."
    answers = []
    for path in ("/tasks", "/api/v1/tasks", "/admin/users/7"):
        with app.test_request_context(path):
            answers.append(of_tenancy(kind(told)))
    person, program, operator = answers
    if person.status < 500:
        assert person.detail == operator.detail
        return
    assert "unify" not in person.detail + person.advised
    assert (person.detail, person.advised) == advice.CODES[kind.code], "each code has words of its own"
    assert program.detail == operator.detail == told
    assert person.code == program.code


def test_what_a_state_means_is_told_for_each() -> None:
    assert set(advice.STATES) == set(State) - {State.READY}
    told = advice.to_person(tenancy.TenantNotReadyError("suspended", state=str(State.SUSPENDED)))
    assert told == advice.STATES[State.SUSPENDED]


def test_a_database_that_waits_for_its_upgrade_may_be_asked_again(app: Flask) -> None:
    behind = tenancy.RevisionMismatchError("at revision 0001, the application needs 0002.")
    with app.test_request_context("/tasks"):
        problem = of_tenancy(behind)
    assert "being upgraded" in problem.detail
    assert problem.advised == advice.LATER
    assert advice.LATER in advice.PASSING, "the page offers to try again"


def test_whoever_runs_the_database_reads_what_it_said() -> None:
    place = Tenant(uuid.uuid4(), 7, "postgresql", State.READY, 1, 1, origin=Origin.USER)
    refused = tenancy.LoginRefusedError("the server refuses this login or password.")
    assert advice.to_person(refused, place) == (refused.message, advice.OWN)
    assert advice.to_person(refused, place.with_(origin=Origin.ADMIN)) == advice.CODES["login_refused"]
    silent = tenancy.DatabaseTimeoutError("the server did not answer in time.")
    assert advice.to_person(silent, place) == (silent.message, advice.WAIT)
