"""Run the catalog's chain under the plain `alembic` command.

The application migrates through ``tenancy.migrate``; this file serves people who write revisions:
``alembic -c migrations/admin/alembic.ini -x url=sqlite:///scratch.db revision --autogenerate -m "..."``.
"""

from tenancy.migrate import run_under_alembic
from tenancy.models import CATALOG_VERSION_TABLE, catalog_metadata

run_under_alembic(catalog_metadata, CATALOG_VERSION_TABLE)
