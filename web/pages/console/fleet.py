"""Show the state of the fleet and which databases are behind, and start a run that migrates them.

``runs.py`` shows a single run. Nothing here opens a tenant's database: the catalog holds the state of each.
"""

from __future__ import annotations

import shlex
from functools import partial
from typing import Annotated, Any

from flask import redirect, request, url_for
from flask.typing import ResponseReturnValue
from pydantic import Field as Bound, StringConstraints

from tenancy import names
from tenancy.catalog.runs import UNFINISHED, WORKABLE, Rules, Selection
from tenancy.errors import ConfigurationError, RunStateError, ServerNotFoundError, TenancyError, UserNotFoundError
from tenancy.fleet import rollout_rules
from tenancy.jobs import fleet_kinds
from web.auth.guards import admin_required
from web.pages.common import paging
from web.pages.common.flash import say
from web.pages.common.forms import Choices, Field, Form
from web.pages.console.layout import blueprint, key, show
from web.parts import current_parts
from web.schemas import UNSTORABLE, Strict

BEHIND = 25
RUNS = 10
PLANNED = 20
SHARED = "Users share one database: there is no fleet to migrate."

Text = Annotated[str, StringConstraints(max_length=255, pattern=UNSTORABLE)]
Names = Annotated[str, StringConstraints(max_length=4000, pattern=UNSTORABLE)]
Short = Annotated[str, StringConstraints(max_length=100, pattern=UNSTORABLE)]


class RunCreate(Strict):
    """The form of a run: target revision, selection and rules."""

    target: Text | None = None
    only: Names | None = None
    db_type: Text | None = None
    server: Text | None = None
    canary: Annotated[int, Bound(ge=1, le=1_000_000)] | None = None
    waves: Short | None = None
    halt_after: Short | None = None
    snapshot: bool = False
    bare: bool = False


@blueprint.get("/fleet")
@admin_required
def fleet() -> ResponseReturnValue:
    return _page(_blank())


@blueprint.post("/fleet")
@admin_required
def start_run() -> ResponseReturnValue:
    """Start a run and redirect to its page; "Dry run" only shows what it would do."""
    parts = current_parts()
    if not parts.manager.multi_tenant:
        say(SHARED, "bad")
        return redirect(url_for("admin.fleet"), 303)
    form = Form.posted("run", _controls(), request.form)
    body = form.validate(RunCreate)
    asked = _read(form, body) if body else None
    if body is None or asked is None:
        return _page(form), 422
    if request.form.get("step") == "plan":
        return _page(form, plan=parts.manager.fleet.plan(asked[0], body.target))
    try:
        run = parts.manager.fleet.start(*asked, body.target)
    except ConfigurationError as error:
        return _page(form.refuse(error.field, error.message)), 422
    except RunStateError as error:
        return _page(form, refused=error), 409
    say(f"Run {run.id} {'has started' if run.state in UNFINISHED else 'had nothing to do'}.")
    if run.state in UNFINISHED:
        fleet_kinds.start(parts.manager.jobs, run.id)
    return redirect(url_for("admin.run", run_id=run.id), 303)


def _page(form: Form, plan: dict[str, Any] | None = None, refused: TenancyError | None = None) -> str:
    manager = current_parts().manager
    if not manager.multi_tenant:
        return show("fleet", found=None)
    found, after = manager.fleet.status(), key("after")
    # If all databases are at head, the query for those behind is skipped.
    behind = manager.fleet.behind(after=after, limit=BEHIND + 1) if found["at_head"] < found["total"] else []
    further = behind[BEHIND - 1]["user_id"] if len(behind) > BEHIND else None
    runs = manager.fleet.recent(RUNS)
    return show(
        "fleet",
        workers=manager.jobs.workers(),
        found=found,
        missing=found["total"] - found["at_head"],
        behind=behind[:BEHIND],
        **paging.links(partial(url_for, "admin.fleet"), after, after=further),
        runs=runs,
        unfinished=next((run for run in runs if run.state in UNFINISHED), None),
        form=form,
        plan=_shown(plan) if plan else None,
        refused=refused,
        command_text=_command(form),
    )


def _shown(plan: dict[str, Any]) -> dict[str, Any]:
    """Summarize a plan for the page: counts, the first databases, and the destructive revisions."""
    chain = current_parts().manager.chain
    tenants = plan["tenants"]
    steps = {revision for tenant in tenants for revision in tenant["revisions"]}
    skipped = sum(tenant["state"] not in WORKABLE for tenant in tenants)
    more = {"number": len(tenants), "tenants": tenants[:PLANNED], "skipped": skipped, "workable": WORKABLE}
    return plan | more | {"destructive": [step for step in chain.checksums if step in steps and _takes_away(step)]}


def _takes_away(revision: str) -> bool:
    return current_parts().manager.chain.is_destructive(revision)


def _read(form: Form, body: RunCreate) -> tuple[Selection, Rules] | None:
    """Read selection and rules; return None with the reason beside its control if one is wrong."""
    manager, accounts = current_parts().manager, current_parts().accounts
    try:
        manager.fleet.target(body.target)
        users = {accounts.find(each).id for each in names.user_references(body.only)} if body.only else set()
        if body.db_type and body.db_type not in {each["name"] for each in manager.reports.database_types()}:
            raise ConfigurationError("Choose one from the list.", field="db_type")
        server_id = manager.servers.get(body.server)["id"] if body.server else None
        waves = rollout_rules.waves(body.waves) if body.waves else (100.0,)
        after, percent = rollout_rules.share(body.halt_after) if body.halt_after else (None, False)
    except ServerNotFoundError:
        form.refuse("server", "Choose one from the list.")
    except UserNotFoundError:
        form.refuse("only", "No account has one of these ids or addresses.")
    except ConfigurationError as error:
        form.refuse(_CONTROL.get(error.field or "", error.field), error.message)
    else:
        rules = Rules(body.canary or 0, waves, after, percent, body.snapshot, body.bare)
        return Selection(tuple(sorted(users)), server_id, body.db_type), rules
    return None


_CONTROL = {"to": "target", "user_id": "only", "email": "only"}
"""The control for an error whose field has another name."""


def _blank() -> Form:
    return Form.blank("run", _controls() if current_parts().manager.multi_tenant else ())


def _controls() -> list[Field]:
    manager = current_parts().manager
    revisions = [(name, name) for name in reversed(list(manager.chain.checksums))]
    revisions[0] = (manager.head, f"{manager.head} (current)")
    types = [(each["name"], each["label"]) for each in manager.reports.database_types()]
    servers = [(server["name"], server["name"]) for server in manager.servers()]
    return [
        Field("target", "To revision", "select", choices=revisions),
        Field(
            "only",
            "Only these users",
            max_length=4000,
            autocomplete="off",
            hint="User ids or e-mail addresses, separated by commas.",
        ),
        Field("db_type", "Type", "select", choices=_any("Every type", types)),
        Field("server", "Server", "select", choices=_any("Every server and folder", servers)),
        Field(
            "canary", "Canary", "number", number=True, hint="Number to try first. The run halts if one of them fails."
        ),
        Field(
            "waves",
            "Waves",
            max_length=100,
            autocomplete="off",
            hint="For example 1%,10%,100%. Leave blank for one wave.",
        ),
        Field(
            "halt_after", "Halt after failures", max_length=20, autocomplete="off", hint="For example 5, or 2% of all."
        ),
        Field("snapshot", "Create a restore point of each database", "checkbox"),
        Field("bare", "Create no restore points, not even before a destructive revision", "checkbox"),
    ]


def _any(label: str, choices: Choices) -> Choices:
    return [("", label), *choices]


WORDS = (
    ("target", "--to"),
    ("only", "--only"),
    ("server", "--server"),
    ("db_type", "--type"),
    ("canary", "--canary"),
    ("waves", "--waves"),
    ("halt_after", "--halt-after-failures"),
)


CHECKED = (("snapshot", "--snapshot"), ("bare", "--no-restore-points"))


def _command(form: Form) -> str:
    """Return the shell command that is equivalent to the form."""
    typed = ((option, form.values.get(name, "").strip()) for name, option in WORDS)
    words = [f"{option}{'=' if text[0] == '-' else ' '}{shlex.quote(text)}" for option, text in typed if text]
    words += [option for name, option in CHECKED if form.values.get(name)]
    return " ".join(["unify fleet migrate", *words])
