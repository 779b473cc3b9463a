"""Run the tenants' migrations under the plain `alembic` command, for people who write revisions.

The application itself migrates through ``tenancy.schema.chain``:
``alembic -c migrations/tenant/alembic.ini -x url=sqlite:///scratch.db revision --autogenerate -m "..."``.
"""

from repositories.schema import metadata
from tenancy.schema.chain import run_under_alembic
from tenancy.schema.tables import TENANT_VERSION_TABLE

run_under_alembic(metadata, TENANT_VERSION_TABLE)
