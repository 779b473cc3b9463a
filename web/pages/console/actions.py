"""Act on an account or its database: each action asks for confirmation on its own page, and reports its result.

An action is an entry of ``ACTIONS``, from which its confirmation page, its POST view and the equivalent command are
made. Only "initialize" has a form of its own (``initialize.py``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flask import request
from flask.typing import ResponseReturnValue

from tenancy.errors import TenancyError
from tenancy.models import State, User
from web.auth.guards import admin_required
from web.auth.sessions import session_token, signed_in
from web.pages.common.flash import say
from web.pages.console.layout import blueprint, find_user, show, to_tenant
from web.parts import current_parts

Report = dict[str, Any]

OWN = "You cannot deactivate your own account."


@dataclass(frozen=True)
class Action:
    """One action; ``does`` performs it and returns the message, ``suits`` tells whether to offer it for a report.

    ``path`` ends its address, if its name does not.
    """

    name: str
    label: str
    question: str
    command: str
    suits: Callable[[Report], bool]
    does: Callable[[User], str] | None = None
    takes_away: bool = False
    typed: bool = False
    path: str = ""


def offered(report: Report, viewer_id: int) -> list[Action]:
    """Return the actions that suit the account's present state; nobody is offered to deactivate themselves."""
    mine = report["account"]["id"] == viewer_id
    return [action for action in ACTIONS if action.suits(report) and not (mine and action.name == "deactivate")]


def _state(report: Report) -> str:
    return str(report["config"]["status"]) if report["config"] else "absent"


def _own_database(report: Report) -> bool:
    return current_parts().settings.multi_tenant_mode and report["config"] is not None


def _unfinished(report: Report) -> bool:
    unfinished = ("absent", State.PROVISIONING, State.FAILED)
    behind = report["config"] and report["config"]["behind"]
    return bool(current_parts().settings.multi_tenant_mode and (_state(report) in unfinished or behind))


def _suspend(user: User) -> str:
    current_parts().manager.suspend(user.id)
    return f"The database of {user.email} is suspended: nothing can read or write it until it is resumed."


def _resume(user: User) -> str:
    if current_parts().manager.resume(user.id):
        return f"The database of {user.email} has been resumed."
    return f"The database of {user.email} is not suspended: nothing was done."


def _delete(user: User) -> str:
    current_parts().manager.delete_user_database(user.id)
    return f"The database of {user.email} has been deleted; the account still exists."


def _forget(user: User) -> str:
    if current_parts().manager.delete_user_database(user.id, forget=True):
        return f"The database of {user.email} could be reached and has been deleted; the account still exists."
    return f"{user.email} can have another database now. Health lists the one that could not be reached as left behind."


def _unreached(report: Report) -> bool:
    return _own_database(report) and report["config"]["last_error_code"] is not None


def _backup(user: User) -> str:
    job = current_parts().manager.backup_jobs.backup(user.id)
    return f"Job {job.id} backs up the database of {user.email} as soon as a worker is free."


def _to_back_up(report: Report) -> bool:
    return _own_database(report) and current_parts().manager.options.backups.complete


def _deactivate(user: User) -> str:
    current_parts().accounts.deactivate(user.id)
    return f"{user.email} has been deactivated and signed out everywhere."


def _activate(user: User) -> str:
    return f"{current_parts().accounts.activate(user.id).email} has been activated."


def _promote(user: User) -> str:
    return f"{current_parts().accounts.promote(user.id).email} is now an administrator."


def _end_sessions(user: User) -> str:
    keep = session_token() if user.id == signed_in().user.id else None
    ended = current_parts().accounts.end_sessions(user.id, keep_token=keep)
    return f"{ended} session{'' if ended == 1 else 's'} of {user.email} ended."


ACTIONS = (
    Action("initialize", "Initialize or upgrade", "", "unify db init {id}", _unfinished),
    Action(
        "test",
        "Test the connection",
        "This connects to the database and checks that it belongs to this account. Nothing is changed.",
        "unify db test {id}",
        lambda report: report["config"] is not None,
    ),
    Action(
        "backup",
        "Back up now",
        "A job makes an encrypted backup of the database. The user can work meanwhile.",
        "unify backup create {id}",
        _to_back_up,
        _backup,
    ),
    Action(
        "suspend",
        "Suspend",
        "All work on the database stops with the next request until it is resumed. Nothing is lost.",
        "unify db suspend {id}",
        lambda report: _own_database(report) and _state(report) == State.READY,
        _suspend,
        takes_away=True,
    ),
    Action(
        "resume",
        "Resume",
        "The user can use the database again.",
        "unify db resume {id}",
        lambda report: _own_database(report) and _state(report) == State.SUSPENDED,
        _resume,
    ),
    Action(
        "activate",
        "Activate",
        "The account can sign in again.",
        "unify users activate {id}",
        lambda report: not report["account"]["is_active"],
        _activate,
    ),
    Action(
        "promote",
        "Make administrator",
        "An administrator sees every account and can act on every database. Only the command line can undo this.",
        "unify users promote {id}",
        lambda report: not report["account"]["is_admin"],
        _promote,
    ),
    Action(
        "end_sessions",
        "End sessions",
        "The account is signed out everywhere and can sign in again. Its API keys keep working. "
        "If it is your own account, you stay signed in here.",
        "unify users sign-out {id}",
        lambda report: True,
        _end_sessions,
        takes_away=True,
        path="sessions/end",
    ),
    Action(
        "deactivate",
        "Deactivate",
        "The account is signed out everywhere and cannot sign in until it is activated. Its data stays.",
        "unify users deactivate {id}",
        lambda report: bool(report["account"]["is_active"]),
        _deactivate,
        takes_away=True,
    ),
    Action(
        "delete",
        "Delete the database",
        "The database is deleted for good with everything in it. The account stays, without a database.",
        "unify db delete {id}",
        _own_database,
        _delete,
        takes_away=True,
        typed=True,
    ),
    Action(
        "forget",
        "Give up the database",
        "If the database can be reached, it is deleted. If not, it stays where it is, and the account can have "
        "another one. Health lists it under “Left behind” until it is gone.",
        "unify db delete {id} --forget",
        _unreached,
        _forget,
        takes_away=True,
        typed=True,
    ),
)


def _ask(action: Action) -> Callable[[int], ResponseReturnValue]:
    @admin_required
    def ask(user_id: int) -> ResponseReturnValue:
        user = find_user(user_id)
        if _shuts_out(action, user):
            say(OWN, "bad")
            return to_tenant(user_id)
        return show("users", "confirm", action=action, user=user, typed="", error="")

    return ask


def _act(action: Action, does: Callable[[User], str]) -> Callable[[int], ResponseReturnValue]:
    @admin_required
    def act(user_id: int) -> ResponseReturnValue:
        user = find_user(user_id)
        typed = request.form.get("address", "").strip()
        if action.typed and typed.casefold() != user.email.casefold():
            error = f"Type {user.email} to confirm."
            return show("users", "confirm", action=action, user=user, typed=typed[:254], error=error), 422
        if _shuts_out(action, user):
            say(OWN, "bad")
        else:
            _try(does, user)
        return to_tenant(user.id)

    return act


def _shuts_out(action: Action, user: User) -> bool:
    """Tell whether the action would deactivate the administrator who asks, so that one always remains."""
    return action.name == "deactivate" and user.id == signed_in().user.id


def _try(does: Callable[[User], str], user: User) -> None:
    try:
        say(does(user))
    except TenancyError as error:
        say(f"Nothing was changed for {user.email}: {error.message}", "bad")


@admin_required
def test(user_id: int) -> ResponseReturnValue:
    """Test a user's database and show the result; an error before the test is shown as a failed test."""
    user, manager = find_user(user_id), current_parts().manager
    try:
        result = manager.reports.test(user.id)
    except TenancyError as error:
        failed = {"ok": False, "code": error.code, "message": error.message, "latency_ms": 0.0}
        result = failed | {"revision": None, "head_revision": manager.head}
    return show("users", "test", user=user, result=result)


for _action in ACTIONS:
    if _action.name != "initialize":
        _rule = f"/users/<int:user_id>/{_action.path or _action.name}"
        _view = test if _action.does is None else _act(_action, _action.does)
        blueprint.add_url_rule(_rule, f"ask_{_action.name}", _ask(_action), methods=["GET"])
        blueprint.add_url_rule(_rule, _action.name, _view, methods=["POST"])
