"""Run the catalog's chain under the plain `alembic` command.

The application migrates through ``tenancy.migrate``; this file serves people who write revisions:
``alembic -c migrations/admin/alembic.ini -x url=sqlite:///scratch.db revision --autogenerate -m "..."``.
"""

from alembic import context
from sqlalchemy import Connection, create_engine

from tenancy.models import CATALOG_VERSION_TABLE, catalog_metadata


def include_name(name: str | None, type_: str, parent_names: object) -> bool:
    """Leave other chains' tables alone: the shared database may be this one."""
    return type_ != "table" or name in catalog_metadata.tables


def run(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=catalog_metadata,
        version_table=CATALOG_VERSION_TABLE,
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
