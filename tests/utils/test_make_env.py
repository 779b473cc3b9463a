"""``make run`` makes a ``.env`` once, with keys nobody else has."""

from __future__ import annotations

import re
import stat

import pytest

from settings import PROJECT, Settings
from utils import make_env as make_env_module
from utils.make_env import FRESH, main, make_env, server_password

EXAMPLE = PROJECT / ".env.example"


def test_a_fresh_env_starts_the_application_in_multi_tenant_mode(tmp_path):
    target = tmp_path / ".env"
    assert make_env(EXAMPLE, target)
    settings = Settings.load({}, dotenv=target)
    assert settings.multi_tenant_mode
    assert settings.bootstrap_first_admin


def test_only_its_owner_may_read_it(tmp_path):
    target = tmp_path / ".env"
    make_env(EXAMPLE, target)
    assert stat.S_IMODE(target.stat().st_mode) == 0o600


def test_keys_are_fresh_every_time(tmp_path):
    texts = []
    for name in ("one", "two"):
        make_env(EXAMPLE, tmp_path / name)
        texts.append((tmp_path / name).read_text().splitlines())
    same = set(texts[0]) & set(texts[1])
    assert not any(line.startswith(tuple(f"{name}=" for name in FRESH)) for line in same)


def test_one_that_is_there_is_never_touched(tmp_path):
    target = tmp_path / ".env"
    target.write_text("PORT=8000\n")
    assert not make_env(EXAMPLE, target)
    assert target.read_text() == "PORT=8000\n"


def test_an_example_without_a_place_for_a_key_is_refused(tmp_path):
    example = tmp_path / "example"
    example.write_text("SECRET_KEY=\n")
    with pytest.raises(SystemExit, match="TENANT_CREDENTIAL_KEYS"):
        make_env(example, tmp_path / ".env")
    assert not (tmp_path / ".env").exists()


def test_the_image_can_write_one_to_standard_output(capsys):
    main(["-"])
    made = dict(line.split("=", 1) for line in capsys.readouterr().out.splitlines() if line[:1].isalpha())
    assert all(made[name] for name in FRESH)


def test_what_must_be_kept_is_said_once(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(make_env_module, "PROJECT", tmp_path)
    (tmp_path / ".env.example").write_text(EXAMPLE.read_text())
    main()
    told = capsys.readouterr().out
    for name in ("TENANT_CREDENTIAL_KEYS", "AUDIT_KEY", "BACKUP_SIGNING_KEYS", "unify credentials generate-identity"):
        assert name in told
    key = Settings.load({}, dotenv=tmp_path / ".env").backup_signing_keys[0]
    assert key not in told
    main()
    assert "AUDIT_KEY" not in capsys.readouterr().out


def test_passwords_of_servers_are_such_as_sql_server_takes_and_a_url_holds():
    for _ in range(500):
        password = server_password()
        assert re.fullmatch(r"(?=.*[A-Z])(?=.*[a-z])(?=.*[0-9])[A-Za-z0-9_-]{32}", password)
        assert "sa" not in password.lower()


def test_a_made_env_names_nothing_that_is_unknown(tmp_path, caplog):
    make_env(EXAMPLE, tmp_path / ".env")
    Settings.load({}, dotenv=tmp_path / ".env")
    assert caplog.text == ""
