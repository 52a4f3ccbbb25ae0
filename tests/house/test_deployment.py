"""The compose file, the image and the secrets: nobody is root, nothing has a default password."""

import os
import re
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from server.settings import load_settings

ROOT = Path(__file__).resolve().parents[2]
ROLES = ("web", "collector", "worker")
NEIGHBOURS = ("postgres", "redis", "mosquitto")
TOP_KEYS = {"name", "services", "volumes", "secrets"}
SERVICE_KEYS = {
    *("build", "cap_drop", "command", "depends_on", "environment", "healthcheck", "image", "init"),
    *("ports", "read_only", "restart", "secrets", "security_opt", "shm_size", "stop_grace_period"),
    *("tmpfs", "user", "volumes"),
}
HEALTH_KEYS = {"test", "interval", "timeout", "start_period", "retries"}
CONDITIONS = {"service_healthy", "service_completed_successfully"}


@pytest.fixture(scope="module")
def text() -> str:
    """The compose file as it is written."""
    return (ROOT / "docker-compose.yml").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def compose(text: str) -> dict[str, Any]:
    """The compose file as it is read."""
    loaded = yaml.safe_load(text)
    assert isinstance(loaded, dict)
    return loaded


@pytest.fixture(scope="module")
def services(compose: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What is started."""
    found: dict[str, dict[str, Any]] = compose["services"]
    return found


@pytest.fixture(scope="module")
def stages() -> list[str]:
    """The image's stages, continued lines joined."""
    joined = re.sub(r"\\\n\s*", "", (ROOT / "deploy/Dockerfile").read_text(encoding="utf-8"))
    return re.split(r"^FROM ", joined, flags=re.MULTILINE)[1:]


def environment_for_compose(folder: Path) -> dict[str, str]:
    """What a person sets before `docker compose up`."""
    return {
        **os.environ,
        "MALLWATT_PUBLIC_URL": "https://mall.example",
        "MALLWATT_SECRETS": str(folder),
    }


def make_secrets(folder: Path) -> None:
    """Run the script that people run."""
    script = str(ROOT / "deploy" / "make-secrets")
    subprocess.run([script, str(folder)], check=True, capture_output=True)  # noqa: S603 - ours


def test_the_client_accepts_it_where_there_is_one(services: dict[str, Any], tmp_path: Path) -> None:
    """`docker compose config` where the client is installed; its schema by hand everywhere."""
    make_secrets(tmp_path)
    docker = shutil.which("docker")
    command = [docker or "docker", "compose", "--file", str(ROOT / "docker-compose.yml")]
    asked = docker and subprocess.run(  # noqa: S603 - the docker client
        [*command, "version"], capture_output=True, check=False
    )
    if asked and asked.returncode == 0:
        done = subprocess.run(  # noqa: S603 - the docker client
            [*command, "config", "--quiet"],
            env=environment_for_compose(tmp_path),
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
    assert set(services) == {*ROLES, *NEIGHBOURS, "migrate"}


def test_it_uses_keys_of_the_compose_specification(
    compose: dict[str, Any], services: dict[str, Any]
) -> None:
    assert {key for key in compose if not key.startswith("x-")} == TOP_KEYS
    for name, service in services.items():
        assert set(service) <= SERVICE_KEYS, name
        assert set(service.get("healthcheck", {})) <= HEALTH_KEYS, name
        for other, how in service.get("depends_on", {}).items():
            assert other in services, name
            assert how["condition"] in CONDITIONS, name


def test_what_is_used_is_declared(compose: dict[str, Any], services: dict[str, Any]) -> None:
    volumes, secrets = set(), set()
    for service in services.values():
        secrets |= set(service.get("secrets", ()))
        mounts = [volume.rpartition(":/")[0] for volume in service.get("volumes", ())]
        volumes |= {source for source in mounts if re.fullmatch(r"\w+", source)}
    assert volumes == set(compose["volumes"])
    assert secrets == set(compose["secrets"])


@pytest.mark.parametrize("name", [*ROLES, *NEIGHBOURS])
def test_each_service_has_a_health_check(services: dict[str, Any], name: str) -> None:
    check = services[name]["healthcheck"]
    assert check["test"][0] in {"CMD", "CMD-SHELL"}
    assert {"interval", "timeout", "retries"} <= set(check)


@pytest.mark.parametrize("name", NEIGHBOURS)
def test_others_images_have_a_version(services: dict[str, Any], name: str) -> None:
    assert re.fullmatch(r"[\w-]+(/[\w-]+)?:\d[\w.-]*", services[name]["image"])


@pytest.mark.parametrize("name", [*ROLES, "migrate"])
def test_roles_have_no_more_rights_than_they_need(services: dict[str, Any], name: str) -> None:
    role = services[name]
    assert role["cap_drop"] == ["ALL"]
    assert role["security_opt"] == ["no-new-privileges:true"]
    assert role["read_only"] is True
    assert "user" not in role, "the image's own account"


@pytest.mark.parametrize("name", ROLES)
def test_roles_wait_for_the_newest_schema(services: dict[str, Any], name: str) -> None:
    needs = services[name]["depends_on"]
    assert needs["migrate"]["condition"] == "service_completed_successfully"
    assert services[name]["command"] == ["serve", name]


def test_no_password_is_written_down(text: str, services: dict[str, Any]) -> None:
    assert re.findall(r"(?i)(?:password|secret|key)\s*[:=]\s*['\"]?\w{6,}", text) == []
    for name, service in services.items():
        for variable, value in service.get("environment", {}).items():
            if re.search(r"PASSWORD|SECRET|KEY|TOKEN|DATABASE_URL|REDIS_URL|MQTT_URL", variable):
                from_outside = re.fullmatch(r"\$\{\w+:-\}", value)
                from_file = variable.endswith("_FILE") and value.startswith("/run/secrets/")
                assert from_outside or from_file, f"{name}: {variable}"


def test_it_does_not_start_without_a_public_url(text: str) -> None:
    assert "${MALLWATT_PUBLIC_URL:?" in text


def test_only_the_broker_and_the_dtus_reach_it_from_outside(services: dict[str, Any]) -> None:
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert published == {
        "web": ["127.0.0.1:8000:8000"],
        "collector": ["${MALLWATT_DTU_PORT:-9000}:9000"],
        "mosquitto": ["${MALLWATT_MQTT_PORT:-1883}:1883"],
    }


def test_the_broker_knows_nobody_without_a_password() -> None:
    lines = (ROOT / "deploy/mosquitto.conf").read_text(encoding="utf-8").splitlines()
    assert "allow_anonymous false" in lines
    assert any(line.startswith("password_file ") for line in lines)


class TestSecrets:
    """`deploy/make-secrets`: random, once, and enough for production."""

    def test_settings_accept_them(self, tmp_path: Path, services: dict[str, Any]) -> None:
        make_secrets(tmp_path)
        given = {
            variable: value.replace("/run/secrets", str(tmp_path))
            for variable, value in services["web"]["environment"].items()
            if not value.startswith("${")
        }
        settings = load_settings({**given, "MALLWATT_PUBLIC_URL": "https://mall.example"})
        assert settings.is_production
        password = (tmp_path / "postgres_password").read_text(encoding="ascii").strip()
        assert settings.database_url == f"postgres://mallwatt:{password}@postgres:5432/mallwatt"
        assert len(settings.secret_key) == 64

    def test_each_is_its_own_and_stays(self, tmp_path: Path, compose: dict[str, Any]) -> None:
        make_secrets(tmp_path)
        first = {path.name: path.read_text(encoding="ascii") for path in tmp_path.iterdir()}
        make_secrets(tmp_path)
        assert first == {p.name: p.read_text(encoding="ascii") for p in tmp_path.iterdir()}
        assert len(set(first.values())) == len(first)
        assert set(first) == set(compose["secrets"])

    def test_only_its_owner_enters_the_folder(self, tmp_path: Path) -> None:
        make_secrets(tmp_path / "secrets")
        assert stat.S_IMODE((tmp_path / "secrets").stat().st_mode) == 0o700


class TestImage:
    """`deploy/Dockerfile`."""

    def test_tools_stay_in_the_first_stage(self, stages: list[str]) -> None:
        assert len(stages) == 2
        assert "pip" in stages[0]
        assert not re.search(r"\b(pip|uv)\b", stages[1])

    def test_packages_are_those_of_the_lock_file(self, stages: list[str]) -> None:
        assert stages[0].count("--require-hashes") == 2
        assert "requirements/server.txt" in stages[0]

    def test_it_does_not_run_as_root(self, stages: list[str]) -> None:
        accounts = re.findall(r"^USER (.*)$", stages[1], re.MULTILINE)
        assert accounts == ["10001:10001"]

    def test_it_has_a_health_check(self, stages: list[str]) -> None:
        assert '"server.local.health", "web"' in stages[1]

    def test_what_is_copied_exists_and_is_not_ignored(self, stages: list[str]) -> None:
        copied = re.findall(
            r"^COPY (?!--from)(?:--\S+ )?(.*) \S+$", "\n".join(stages), re.MULTILINE
        )
        sources = [source for line in copied for source in line.split()]
        assert len(sources) >= 6
        kept = (ROOT / ".dockerignore").read_text(encoding="utf-8")
        for source in sources:
            assert (ROOT / source).exists(), source
            assert f"!{source}\n" in kept or f"!{Path(source).parent}/*.txt\n" in kept, source

    def test_its_command_can_be_run(self) -> None:
        assert os.access(ROOT / "deploy" / "mallwatt", os.X_OK)
