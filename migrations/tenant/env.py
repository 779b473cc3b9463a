"""Run the tenants' chain under the plain `alembic` command.

The application migrates through ``tenancy.migrate``; this file serves people who write revisions:
``alembic -c migrations/tenant/alembic.ini -x url=sqlite:///scratch.db revision --autogenerate -m "..."``.
"""

from alembic import context
from sqlalchemy import Connection, create_engine

from repositories.schema import metadata
from tenancy.models import TENANT_VERSION_TABLE


def include_name(name: str | None, type_: str, parent_names: object) -> bool:
    """Leave other tables alone: the house's own stand beside these, and in shared mode the catalog's may."""
    return type_ != "table" or name in metadata.tables


def run(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=metadata,
        version_table=TENANT_VERSION_TABLE,
        transaction_per_migration=True,
        include_name=include_name,
    )
    with context.begin_transaction():
        context.run_migrations()


given = context.config.attributes.get("connection")
if given is not None:
    run(given)
else:
    with create_engine(context.get_x_argument(as_dictionary=True)["url"]).connect() as opened:
        run(opened)
