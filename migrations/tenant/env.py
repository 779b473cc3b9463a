"""Run the tenants' chain under the plain `alembic` command.

The application migrates through ``tenancy.migrate``; this file serves people who write revisions:
``alembic -c migrations/tenant/alembic.ini -x url=sqlite:///scratch.db revision --autogenerate -m "..."``.
"""

from repositories.schema import metadata
from tenancy.migrate import run_under_alembic
from tenancy.models import TENANT_VERSION_TABLE

run_under_alembic(metadata, TENANT_VERSION_TABLE)
