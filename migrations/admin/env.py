"""Run the catalog's migrations under the plain `alembic` command, for people who write revisions.

The application itself migrates through ``tenancy.schema.chain``:
``alembic -c migrations/admin/alembic.ini -x url=sqlite:///scratch.db revision --autogenerate -m "..."``.
"""

from tenancy.catalog.tables import CATALOG_VERSION_TABLE, catalog_metadata
from tenancy.schema.chain import run_under_alembic

run_under_alembic(catalog_metadata, CATALOG_VERSION_TABLE)
