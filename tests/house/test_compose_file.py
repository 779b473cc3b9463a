"""What can be known of ``Dockerfile`` and ``docker-compose.yml`` without a Docker engine."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess

import click
import pytest
import yaml

from settings import COMPOSE_SETTINGS, PROJECT, SETTINGS
from utils import healthcheck
from utils.cli import unify
from utils.make_env import make_env
from utils.register_servers import SERVERS

PROFILES = ("postgresql", "mysql", "sqlserver")
FILE = yaml.safe_load((PROJECT / "docker-compose.yml").read_text())
SERVICES = FILE["services"]
ONE_SHOT = {f"register-{name}" for name in PROFILES}
DOCKERFILE = re.sub(r"\\\n\s*", "", (PROJECT / "Dockerfile").read_text())


@pytest.fixture
def folder(tmp_path):
    """Give a folder with the file and a fresh ``.env``."""
    shutil.copy(PROJECT / "docker-compose.yml", tmp_path)
    make_env(PROJECT / ".env.example", tmp_path / ".env")
    return tmp_path


@pytest.fixture
def config(docker_compose, folder):
    """Read the file as Compose does, with profiles switched on, and give what it makes of it."""

    def read(*profiles):
        command = [*docker_compose, *(f"--profile={each}" for each in profiles), "config", "--format", "json"]
        environ = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "DOCKER_CONFIG")}
        done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        return json.loads(done.stdout)

    return read


@pytest.mark.parametrize("profiles", [(), *((each,) for each in PROFILES), ("postgresql", "mysql"), ("all",)], ids=str)
def test_a_profile_starts_its_server_and_what_registers_it(config, profiles):
    chosen = PROFILES if profiles == ("all",) else profiles
    expected = {"app", *chosen, *(f"register-{each}" for each in chosen)}
    assert set(config(*profiles)["services"]) == expected


def test_each_service_gets_the_passwords_that_are_its_own(config, folder):
    lines = (folder / ".env").read_text().splitlines()
    made = dict(line.split("=", 1) for line in lines if line.split("=")[0] in COMPOSE_SETTINGS)
    services = config("all")["services"]
    for name, variable in [(each, SERVERS[each][1]) for each in PROFILES]:
        given = services[name]["environment"]
        assert given[variable] == made[variable]
        assert not set(made.values()) & {value for key, value in given.items() if key != variable}


def test_the_licence_of_sql_server_is_not_accepted_for_anybody(config, folder):
    assert config("all")["services"]["sqlserver"]["environment"].get("ACCEPT_EULA") is None
    with (folder / ".env").open("a") as stream:
        stream.write("ACCEPT_EULA=Y\n")
    assert config("all")["services"]["sqlserver"]["environment"]["ACCEPT_EULA"] == "Y"


def test_the_published_port_can_be_moved_and_nothing_else_moves(config, folder):
    with (folder / ".env").open("a") as stream:
        stream.write("PORT=8000\nHOST=127.0.0.1\n")
    app = config()["services"]["app"]
    assert [(port["host_ip"], port["published"], port["target"]) for port in app["ports"]] == [
        ("127.0.0.1", "8000", 5000)
    ]
    assert (app["environment"]["HOST"], app["environment"]["PORT"]) == ("0.0.0.0", "5000")


def test_only_the_application_is_published_and_on_this_machine_alone():
    assert [name for name, service in SERVICES.items() if "ports" in service or "network_mode" in service] == ["app"]
    assert all(port.startswith("127.0.0.1:") for port in SERVICES["app"]["ports"])


def test_databases_are_on_a_network_without_a_way_out():
    assert FILE["networks"]["databases"]["internal"] is True
    assert {name for name, service in SERVICES.items() if service["networks"] != ["databases"]} == {"app"}


@pytest.mark.parametrize("name", ["app", *sorted(ONE_SHOT)])
def test_our_own_containers_have_no_rights_to_spare(name):
    service = SERVICES[name]
    assert service["user"] == "10001:10001"
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "cap_add", "devices", "pid"} & set(service)


def test_every_service_says_how_it_is_or_ends_by_itself():
    for name, service in SERVICES.items():
        if name in ONE_SHOT:
            assert service["restart"].startswith("on-failure:")
            assert service["healthcheck"] == {"disable": True}
        else:
            assert service["restart"] == "unless-stopped"
            assert service["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")


def test_whoever_depends_on_a_service_waits_until_it_is_well():
    for service in SERVICES.values():
        for how in service.get("depends_on", {}).values():
            assert how["condition"] == "service_healthy"
    assert "depends_on" not in SERVICES["app"], "it serves SQLite's users whichever databases are on their way"


def test_no_password_stands_in_the_file():
    for name, service in SERVICES.items():
        for variable, value in (service.get("environment") or {}).items():
            assert value is None or variable in ("HOST", "PORT"), f"{name}: {variable}"
    for line in (PROJECT / "docker-compose.yml").read_text().splitlines():
        assert not re.search(r"(PASSWORD|PWD|SECRET|KEY|TOKEN)\w*\s*[:=]\s*[^\s\"#]", line), line
        assert not re.search(r"(PASSWORD|PWD)=\"(?!\$\$[A-Z_]+\")", line), line


def test_images_are_pinned_to_a_major_version():
    images = {name: service["image"] for name, service in SERVICES.items() if name in PROFILES}
    assert all(re.search(r":[0-9]+([.-]|$)", image) for image in images.values()), images
    assert all(re.search(r":3\.[0-9]+-", line) for line in re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE))


def test_our_image_bears_the_version_of_this_code():
    version = re.search(r'^version = "(.+)"$', (PROJECT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version is not None
    assert {SERVICES[name]["image"] for name in {"app", *ONE_SHOT}} == {f"unify:{version[1]}"}
    assert f"unify:{version[1]} " in (PROJECT / "docs" / "how-to" / "deploy.md").read_text()


def test_every_name_is_a_setting_or_one_of_the_images():
    used = {name for service in SERVICES.values() for name in service.get("environment") or {}}
    used |= set(re.findall(r"\$\$?\{?([A-Z_]+)", (PROJECT / "docker-compose.yml").read_text()))
    assert used - {setting.name for setting in SETTINGS} - set(COMPOSE_SETTINGS) == set()
    assert set(COMPOSE_SETTINGS) - {"COMPOSE_PROFILES"} <= used


def test_the_application_gets_its_settings_and_no_password_of_a_database():
    ours = {setting.name for setting in SETTINGS}
    assert set(SERVICES["app"]["environment"]) == ours
    for name in ONE_SHOT:
        assert set(SERVICES[name]["environment"]) == ours | {SERVERS[name.removeprefix("register-")][1]}
    assert not any("env_file" in service for service in SERVICES.values())


def test_profiles_are_chosen_in_the_file_too(config, folder):
    with (folder / ".env").open("a") as stream:
        stream.write("COMPOSE_PROFILES=mysql\n")
    assert set(config()["services"]) == {"app", "mysql", "register-mysql"}


def test_every_volume_is_named_and_used():
    used = {volume.split(":")[0] for service in SERVICES.values() for volume in service["volumes"]}
    assert used == set(FILE["volumes"])


def test_each_registration_names_its_own_service():
    assert set(SERVERS) == set(PROFILES)
    for name in PROFILES:
        assert SERVICES[f"register-{name}"]["command"] == ["python", "-m", "utils.register_servers", name]
        assert SERVERS[name][0].host == name


def copied():
    """Give the paths that the Dockerfile copies out of the project."""
    lines = re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE)
    return {path for line in lines for path in line.split()[:-1]}


def test_what_the_dockerfile_copies_is_there_and_reaches_it():
    assert len(copied()) > 5
    assert [path for path in copied() if not (PROJECT / path).exists()] == []
    lines = [line for line in (PROJECT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert lines[0] == "*"
    assert {line.removeprefix("!") for line in lines if line.startswith("!")} == copied()


def test_the_dockerfile_copies_all_that_is_installed():
    declared = (PROJECT / "pyproject.toml").read_text()
    modules = re.search(r"^py-modules = \[(.+)\]$", declared, re.MULTILINE)
    packages = re.search(r"^include = \[(.+)\]$", declared, re.MULTILINE)
    assert modules is not None
    assert packages is not None
    wanted = {f"{name}.py" for name in re.findall(r'"(\w+)"', modules[1])} | set(re.findall(r'"(\w+)\*"', packages[1]))
    last = DOCKERFILE.rpartition("\nFROM ")[2]
    assert wanted <= {word for line in re.findall(r"^COPY (.+)$", last, re.MULTILINE) for word in line.split()}


def test_the_image_runs_as_a_user_without_rights():
    assert re.findall(r"^USER (.+)$", DOCKERFILE, re.MULTILINE) == [SERVICES["app"]["user"]]


def test_the_commands_of_the_image_are_there():
    command = json.loads(re.findall(r"^CMD (.+)$", DOCKERFILE, re.MULTILINE)[-1])
    assert command[:2] == ["sh", "-c"]
    typed = [shlex.split(part) for part in command[2].split("&&")]
    assert typed == [["unify", "db", "create-config-table"], ["exec", "unify", "serve"]]
    for words in typed:
        found: click.Command = unify
        for word in words[words.index("unify") + 1 :]:
            assert isinstance(found, click.Group)
            following = found.get_command(click.Context(found), word)
            assert following is not None, word
            found = following


def test_image_and_file_check_the_health_alike():
    line = re.search(r"^HEALTHCHECK (.+) CMD (\[.+\])$", DOCKERFILE, re.MULTILINE)
    assert line is not None
    said = SERVICES["app"]["healthcheck"]
    assert json.loads(line[2]) == said["test"][1:] == ["python", "-m", healthcheck.__name__]
    options = dict(re.findall(r"--([a-z-]+)=(\S+)", line[1]))
    assert options == {name.replace("_", "-"): str(value) for name, value in said.items() if name != "test"}


def test_the_container_is_given_longer_to_stop_than_requests_are():
    pytest.importorskip("gunicorn", reason="gunicorn does not run on Windows")
    from utils.serve import GRACEFUL_S

    assert int(SERVICES["app"]["stop_grace_period"].removesuffix("s")) > GRACEFUL_S
