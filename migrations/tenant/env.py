"""Run the tenants' chain under the plain `alembic` command.

The application migrates through ``tenancy.schema.chain``; this file serves people who write revisions:
``alembic -c migrations/tenant/alembic.ini -x url=sqlite:///scratch.db revision --autogenerate -m "..."``.
"""

from repositories.schema import metadata
from tenancy.models import TENANT_VERSION_TABLE
from tenancy.schema.chain import run_under_alembic

run_under_alembic(metadata, TENANT_VERSION_TABLE)
