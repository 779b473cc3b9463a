"""Make up rows of the declared resources, so that a test over all of them takes up a new one by itself.

Only what has to be given is made up, from the type of its column. Where a check of ``repositories/base/values.py``
wants more than the type says, ``GIVEN`` names the value.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from repositories.base.paged import PagedRepository
from repositories.categorized import CategorizedRepository
from repositories.repository_factory import RESOURCES
from repositories.schema import label
from tenancy.errors import ConfigurationError
from tenancy.types import Timestamp

PAGED = tuple(name for name, kind in RESOURCES.items() if issubclass(kind, PagedRepository))
"""The resources with pages and the bin."""

CATEGORIZED = tuple(name for name, kind in RESOURCES.items() if issubclass(kind, CategorizedRepository))

GIVEN: dict[tuple[str, str], Any] = {}
"""What a field of a resource is given, where its column's type alone does not say."""

LATER = datetime(2099, 5, 6, 7, 8, tzinfo=UTC)
_BY_TYPE: tuple[tuple[type, Any], ...] = (
    (Timestamp, LATER),
    (sa.Date, LATER.date()),
    (sa.Boolean, False),
    (sa.Integer, 1),
    (sa.String, "something"),
)


def new_row(resource: str, text: str) -> dict[str, Any]:
    """Return what has to be given for a row of this name."""
    repository = RESOURCES[resource]
    needed = [name for name in repository.fields if name not in repository.defaults]
    return {name: _made_up(resource, name) for name in needed} | {named_by(resource): text}


def named_by(resource: str) -> str:
    """Return the column that names a row of this resource."""
    return label(RESOURCES[resource].table)


def _made_up(resource: str, name: str) -> Any:
    if (resource, name) in GIVEN:
        return GIVEN[resource, name]
    repository = RESOURCES[resource]
    found = next((value for kind, value in _BY_TYPE if isinstance(repository.table.c[name].type, kind)), None)
    try:
        repository.fields[name](found, name)
    except ConfigurationError as refusal:
        raise AssertionError(f"tests/support/rows.py: name a value for {resource}, {name} in GIVEN") from refusal
    return found
