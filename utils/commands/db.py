"""Hold ``unify db``: the configuration table and the users' databases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

import tenancy
from tenancy.errors import BackendError, CredentialError
from utils.commands.leftovers import leftovers
from utils.output import Failed, Progress, columns, complain, counted, pairs, place, reason, say, show, table
from utils.parameters import CommandGroup, Moment, WholeNumber, answering, confirm, on_user, secret
from utils.toolbox import Toolbox

if TYPE_CHECKING:
    from tenancy import TenantManager, User
    from tenancy.lifecycle.provision_many import InitResult

PAGE = 200
SHOWN_WHOLE = 50
"""Up to this number ``status`` lists every database; beyond it only those that need attention."""

TYPES = ("sqlite", "postgresql", "mysql", "sqlserver")
STATES = ("provisioning", "ready", "migrating", "moving", "read_only", "suspended", "failed", "archived")
"""The words of ``State``, which would load all of ``tenancy/models.py`` for `unify --help`; a test compares them."""


@click.group(cls=CommandGroup)
def db() -> None:
    """Create, check and delete databases."""


@db.command("create-config-table")
@answering
def create_config_table(toolbox: Toolbox, as_json: bool) -> None:
    """Create the configuration table: bring the catalog to the code's revision."""
    manager, settings = toolbox.parts.manager, toolbox.settings
    had_none = manager.reports.catalog()["revision"] is None
    applied = manager.prepare_catalog()
    status = manager.reports.catalog()
    if had_none and manager.multi_tenant and any(settings.tenant_data_dir.glob("user_*.db")):
        complain(
            f"This catalog is new, but {settings.tenant_data_dir} already holds users' databases: if their catalog was "
            "lost, restore it from a backup before anybody registers."
        )

    def tell() -> None:
        done = f"{counted(len(applied), 'revision')} applied" if applied else "nothing to do"
        say(f"The configuration table is ready: {done}; the catalog is at {status['revision']}.")

    show(as_json, {"applied": applied} | status, tell)


@db.command()
@click.option(
    "--db-type",
    type=click.Choice(TYPES),
    metavar="T",
    help=f"{', '.join(TYPES)}; DEFAULT_TENANT_DB_TYPE by default.",
)
@click.option("--db-host", metavar="H", help="The database server's name or address.")
@click.option("--db-port", type=WholeNumber(1, 65535), metavar="P", help="The database server's port.")
@click.option("--db-name", metavar="N", help="The database's name on the server.")
@click.option("--db-user", metavar="U", help="The login for it.")
@click.option("--db-password-stdin", is_flag=True, help="Read the login's password from standard input.")
@on_user
def init(toolbox: Toolbox, owner: User, /, db_password_stdin: bool, as_json: bool, **given: Any) -> None:
    """Create or upgrade one user's database; one that is already ready is left as it is."""

    manager = toolbox.parts.manager
    asks = db_password_stdin or given["db_user"] is not None
    given["db_password"] = secret("Database password", from_stdin=db_password_stdin) if asks else None
    fields = tenancy.DatabaseFields(**given) if any(value is not None for value in given.values()) else None
    made = manager.provision(owner.id, fields).created
    info = manager.reports.info(owner.id)

    def tell() -> None:
        who, where = f"user {owner.id} ({owner.email})", f"{place(info)}, revision {info['revision']}"
        if manager.multi_tenant:
            say(f"The database of {who} {'was created' if made else 'was already ready'}: {where}.")
        else:
            outcome = "got their first rows there" if made else "already had theirs there"
            say(f"All users share one database, {where}; {who} {outcome}.")

    show(as_json, {"created": made, "config": info}, tell)


@db.command("init-all")
@answering
def init_all(toolbox: Toolbox, as_json: bool) -> None:
    """Create or upgrade the database of every active user; name those that fail, and go on."""
    parts = toolbox.parts
    with Progress("Initializing", parts.accounts.count()) as progress:

        def told(result: InitResult) -> None:
            progress.step()
            if not result.ok:
                progress.complain(f"User {result.user_id} ({result.email}) failed: {_reason(result)}")

        results = parts.manager.initialize_all(told)
    made = sum(result.created for result in results)
    failed = [result for result in results if not result.ok]
    ready = len(results) - made - len(failed)
    new, old = "created", "already ready"
    if not parts.manager.multi_tenant:
        new, old = "got their first rows in the shared database", "already had theirs"
    named = [{"user_id": r.user_id, "email": r.email, "code": _code(r), "message": _reason(r)} for r in failed]
    document = {"users": len(results), "created": made, "already_ready": ready, "failed": named}
    outcome = f"{counted(len(results), 'active user')}: {made} {new}, {ready} {old}, {len(failed)} failed."
    show(as_json, document, lambda: say(outcome))
    if failed:
        raise Failed(
            f"{len(failed)} of {len(results)} databases could not be initialized: users "
            f"{', '.join(str(result.user_id) for result in failed[:20])}{' and more' if len(failed) > 20 else ''}."
        )


@db.command()
@on_user
def test(toolbox: Toolbox, owner: User, as_json: bool) -> None:
    """Connect to a user's database and check that it is theirs and up to date."""
    found = toolbox.parts.manager.reports.test(owner.id)
    who = f"user {owner.id} ({owner.email})"

    def tell() -> None:
        if found["ok"]:
            say(f"The database of {who} answered in {found['latency_ms']:.1f} ms, at revision {found['revision']}.")

    show(as_json, {"user_id": owner.id, "email": owner.email} | found, tell)
    if not found["ok"]:
        raise Failed(f"The database of {who} failed the test: {found['message']}")


@db.command()
@on_user
def info(toolbox: Toolbox, owner: User, as_json: bool) -> None:
    """Show the configuration of a user's database, without secrets."""
    found = toolbox.parts.manager.reports.info(owner.id)
    show(as_json, found, lambda: pairs(found))


@db.command("list")
@click.option(
    "--state", type=click.Choice(STATES), metavar="S", help=f"Only databases in this state: {', '.join(STATES)}."
)
@click.option(
    "--type", "db_type", type=click.Choice(TYPES), metavar="T", help=f"Only databases of this type: {', '.join(TYPES)}."
)
@click.option("--behind", is_flag=True, help="Only databases that are not at the code's revision.")
@click.option(
    "--inactive-since", type=Moment(), metavar="DATE", help="Only databases that nobody has used since then (UTC)."
)
@click.option("--query", metavar="TEXT", help="Only users whose address contains this text.")
@answering
def list_(toolbox: Toolbox, /, inactive_since: datetime | None, as_json: bool, **wanted: Any) -> None:
    """List users' databases by user id."""
    since = None if inactive_since is None else inactive_since.replace(tzinfo=UTC)
    found = list(_databases(toolbox.parts.manager, inactive_since=since, **wanted))
    show(as_json, {"items": found}, lambda: _tell_databases(found))
    _complain_of_damage([] if as_json else found)


@db.command()
@answering
def status(toolbox: Toolbox, as_json: bool) -> None:
    """Show how many databases are in each state, and which need attention."""
    manager = toolbox.parts.manager
    catalog = manager.reports.catalog()
    found = list(_databases(manager)) if manager.multi_tenant else _shared_database(toolbox)
    by_state = Counter(row["status"] for row in found)
    behind = [row for row in found if row["revision"] != row["head_revision"]]
    unready = [row for row in found if row["status"] != "ready"]
    without = manager.users_without_database() if manager.multi_tenant else 0

    def tell() -> None:
        say(f"Catalog: {_catalog_line(catalog)}.")
        say(f"Mode: {'one database per user' if manager.multi_tenant else 'one shared database'}.")
        counts = ", ".join(f"{count} {state}" for state, count in sorted(by_state.items()))
        say(
            f"Databases: {len(found)}{' (' + counts + ')' if counts else ''}, {len(behind)} not at the code's revision."
        )
        if without:
            say(f"{counted(without, 'active user')} without a database: unify db init-all creates them.")
        needy = [row for row in found if row in behind or row in unready] if len(found) > SHOWN_WHOLE else found
        if needy:
            _tell_databases(needy)
        _complain_of_damage(found)

    document = {
        "catalog": catalog,
        "multi_tenant": manager.multi_tenant,
        "total_databases": len(found),
        "by_status": by_state,
        "users_without_database": without,
        "behind": behind,
        "not_ready": unready,
    }
    show(as_json, document, tell)


@db.command()
@answering
def stats(toolbox: Toolbox, as_json: bool) -> None:
    """Show how many databases there are and how large they are."""
    found = toolbox.parts.manager.get_user_database_stats()

    def tell() -> None:
        known, number = found["measured"], found["total_databases"]
        of = "in total" if known == number else f"in the {known} that were measured"
        say(f"{counted(number, 'database')}, {found['total_size_mb']} MiB {of}.")
        names = ("user_id", "name", "db_type", "status", "size_mb", "measured_at", "modified")
        if found["databases"]:
            table(("user", "name", "type", "state", "MiB", "measured", "modified"), columns(found["databases"], names))
        _complain_of_damage(found["databases"])

    show(as_json, found, tell)


@db.command()
@click.option("--yes", is_flag=True, help="Do not ask for confirmation; required without a terminal.")
@click.option(
    "--forget",
    is_flag=True,
    help="If the database cannot be removed, give it up: `unify db leftovers` lists it until it is gone.",
)
@on_user
def delete(toolbox: Toolbox, owner: User, yes: bool, forget: bool, as_json: bool) -> None:
    """Delete a user's database with everything in it; the account stays."""
    found = toolbox.parts.manager.reports.info(owner.id)
    what = f"the database of user {owner.id} ({owner.email}), {'sqlite in ' if found['db_path'] else ''}{place(found)}"
    if not yes:
        let_go = ", or give it up if it cannot be reached" if forget else ""
        confirm(toolbox, f"delete {what}, with everything in it{let_go}")
    try:
        deleted = toolbox.parts.manager.delete_user_database(owner.id, forget=forget)
    except (BackendError, CredentialError) as error:
        raise Failed(
            f"{error.message} The database of user {owner.id} ({owner.email}) was not deleted. Fix the cause and try "
            f"again, or give the database up: unify db delete {owner.id} --forget"
        ) from error

    def tell() -> None:
        if deleted:
            say(f"Deleted {what}.")
        else:
            say(f"Gave up {what}. It could not be removed and may still exist: `unify db leftovers` lists it.")

    show(as_json, {"user_id": owner.id, "deleted": deleted}, tell)


db.add_command(leftovers)


@db.command()
@on_user
def release(toolbox: Toolbox, owner: User, as_json: bool) -> None:
    """Release a user's database from an operation whose process you know is gone."""
    held = toolbox.parts.manager.release_claim(owner.id)

    def tell() -> None:
        if held is None:
            say(f"No operation holds the database of user {owner.id} ({owner.email}).")
        else:
            say(f"Ended {held['operation']!r} by {held['runner']} on the database of user {owner.id} ({owner.email}).")
            say(f"Finish what it began: unify db init {owner.id}")

    show(as_json, {"user_id": owner.id, "released": held and held["operation"]}, tell)


@db.command()
@on_user
def suspend(toolbox: Toolbox, owner: User, as_json: bool) -> None:
    """Stop all work on a user's database, including work in progress, until `unify db resume`."""
    try:
        toolbox.parts.manager.suspend(owner.id)
    except (BackendError, CredentialError) as error:
        where = place(toolbox.parts.manager.reports.config(owner.id))
        raise Failed(
            f"The database of user {owner.id} ({owner.email}), {where}, was not suspended: {error.message} Fix the "
            f"cause and try again, or shut the user out: unify users deactivate {owner.id}"
        ) from error
    done = {"user_id": owner.id, "status": "suspended"}
    show(as_json, done, lambda: say(f"The database of user {owner.id} ({owner.email}) is suspended."))


@db.command()
@on_user
def resume(toolbox: Toolbox, owner: User, as_json: bool) -> None:
    """Let a suspended database be used again."""
    resumed = toolbox.parts.manager.resume(owner.id)
    told = "has been resumed" if resumed else "is not suspended: nothing was done"
    done = {"user_id": owner.id, "status": "ready", "resumed": resumed}
    show(as_json, done, lambda: say(f"The database of user {owner.id} ({owner.email}) {told}."))


def _catalog_line(catalog: dict[str, Any]) -> str:
    """Describe the state of the catalog, with the command that fixes it if it is not ready."""
    if catalog["at_head"]:
        return f"revision {catalog['revision']}"
    if catalog["revision"] == catalog["head"]:
        return f"revision {catalog['revision']}; the shared database is not at head: unify db create-config-table"
    return f"revision {catalog['revision'] or 'none'}, behind {catalog['head']}: unify db create-config-table"


def _shared_database(toolbox: Toolbox) -> list[dict[str, Any]]:
    """Return the database of shared mode as a row like any user's; nothing if it does not exist yet."""
    from tenancy.catalog import tenants

    with toolbox.parts.catalog.reading() as connection:
        shared = tenants.shared(connection)
    head = toolbox.parts.manager.head
    return [] if shared is None else [shared.to_dict() | {"email": "all users", "head_revision": head}]


def _databases(manager: TenantManager, **wanted: Any) -> Iterator[dict[str, Any]]:
    after: int | None = None
    while page := manager.reports.databases(after=after, limit=PAGE, **wanted):
        yield from page
        after = page[-1]["user_id"]


def _complain_of_damage(rows: list[dict[str, Any]]) -> None:
    """Name the catalog rows that are damaged."""
    for row in rows:
        if row.get("damaged"):
            named = ", ".join(row["damaged"])
            complain(f"User {row['user_id']}: its catalog row is damaged ({named}). Restore the catalog from a backup.")


def _tell_databases(found: list[dict[str, Any]]) -> None:
    names = ("user_id", "email", "db_type", "status", "revision", "last_used_at")
    headings = ("user", "e-mail", "type", "state", "revision", "last used", "where")
    rows = ([*cells, place(row)] for cells, row in zip(columns(found, names), found, strict=True))
    table(headings, rows, none="No databases.")


def _reason(result: InitResult) -> str:
    return reason(result.error) if result.error is not None else "no reason was given"


def _code(result: InitResult) -> str | None:
    return result.error.code if result.error is not None else None
