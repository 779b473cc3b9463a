"""The package's face: every public name, and nothing loaded that was not asked for."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import tenancy
from settings import PROJECT

HEAVY = {"sqlalchemy", "alembic", "cryptography", "argon2", "pydantic", "flask"}


def loaded_by(code: str) -> set[str]:
    """Give the top names of all modules that a fresh interpreter has loaded after ``code``."""
    told = f"import json, sys\n{code}\nprint(json.dumps(sorted({{name.partition('.')[0] for name in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", told], cwd=PROJECT, capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


@pytest.mark.parametrize("code", ["import tenancy", "import tenancy.errors", "from tenancy import TenancyError"])
def test_errors_are_had_without_a_database_library(code):
    assert loaded_by(code) & HEAVY == set()


def test_the_manager_brings_what_it_works_with():
    assert loaded_by("from tenancy import TenantManager") >= {"sqlalchemy"}


def test_every_public_name_is_there():
    assert [name for name in tenancy.__all__ if getattr(tenancy, name, None) is None] == []
    assert set(tenancy.__all__) <= set(dir(tenancy))


def test_a_name_that_is_not_public_is_refused_by_name():
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = tenancy.Nothing
