"""Run commands: in this process for their logic, in a process of their own for everything around it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography.fernet import Fernet

from utils.cli import unify
from utils.toolbox import Toolbox

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture
def call(settings):
    """Run a command in this process, on a catalog in a folder of this test's own."""

    def run(*words, stdin=None, settings=settings):
        return CliRunner().invoke(unify, [str(word) for word in words], input=stdin, obj=Toolbox(settings))

    return run


@pytest.fixture
def ready(call):
    """Give ``call`` once the catalog is migrated."""
    assert call("db", "create-config-table").exit_code == 0
    return call


@pytest.fixture
def environ(tmp_path):
    """Give the environment of a command run from outside: fresh keys, data in this test's folder."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    return kept | {
        "MULTI_TENANT_MODE": "true",
        "SECRET_KEY": os.urandom(32).hex(),
        "SECRET_KEY_FALLBACKS": "",
        "AUDIT_KEY": os.urandom(32).hex(),
        "TENANT_CREDENTIAL_KEYS": Fernet.generate_key().decode(),
        "ADMIN_DATABASE_URL": f"sqlite:///{tmp_path / 'admin.db'}",
        "TENANT_DATA_DIR": str(tmp_path / "users"),
        "BACKUP_URL": str(tmp_path / "backups"),
        "JOB_WORKER": "false",
        "BOOTSTRAP_FIRST_ADMIN": "true",
        "ADMIN_EMAILS": "",
        "LOG_LEVEL": "INFO",
        "TERM": "dumb",
    }


@pytest.fixture
def elsewhere(tmp_path):
    """Give a working folder that has nothing to do with the project."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    return folder


@pytest.fixture
def shell(environ, elsewhere):
    """Run ``unify`` as a process of its own from another folder."""

    def run(*words, stdin="", **changes):
        return subprocess.run(
            [sys.executable, str(PROJECT / "utils" / "setup_user_database.py"), *map(str, words)],
            input=stdin,
            env=environ | changes,
            cwd=elsewhere,
            capture_output=True,
            text=True,
            timeout=60,
        )

    return run
