"""Dockerfile, compose.yaml and the variables that documents name, held against what there is; nothing is built here."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import typer
import yaml
from typer.main import get_command

from api.cli import app
from api.settings import Settings
from deployments.local_ray import NODE_ENVIRONMENT
from models.catalog import BUILT_IN

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = ("Dockerfile", "compose.yaml", "README.md", "api/GUIDE.md")
PREFIX = Settings.model_config["env_prefix"]
OF_CLIENTS = {"TUTTI_API_KEY"}


@dataclass(frozen=True)
class Instruction:
    """One of the Dockerfile's. ``text`` is what follows the keyword, on one line."""

    keyword: str
    text: str

    @property
    def words(self) -> list[str]:
        return list(json.loads(self.text)) if self.text.startswith("[") else self.text.split()


def _instructions() -> list[Instruction]:
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    parts = (line.split(maxsplit=1) for line in joined.splitlines() if line.strip())
    return [Instruction(keyword, re.sub(r"\s+", " ", rest)) for keyword, rest in parts]


def _last_stage() -> list[Instruction]:
    every = _instructions()
    return every[max(i for i, each in enumerate(every) if each.keyword == "FROM") :]


def _only(keyword: str) -> Instruction:
    (found,) = (each for each in _last_stage() if each.keyword == keyword)
    return found


def _command() -> list[str]:
    """What the container runs, without ``tutti``."""
    tutti, *_ = _only("ENTRYPOINT").words
    assert tutti == "tutti"
    return _only("CMD").words


def _environment() -> dict[str, str]:
    given = (each.text.split() for each in _last_stage() if each.keyword == "ENV")
    return dict(pair.split("=", 1) for pairs in given for pair in pairs)


def _port() -> str:
    words = _command()
    return words[words.index("--port") + 1]


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
    return loaded


@pytest.fixture(scope="module")
def tutti(compose: dict[str, Any]) -> dict[str, Any]:
    service: dict[str, Any] = compose["services"]["tutti"]
    return service


def _ignored() -> set[str]:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    return {line.removeprefix("**/") for line in lines if line and not line.startswith("#")}


# ------------------------------------------------------------------------------------------- Dockerfile
def test_every_image_has_a_version(compose: dict[str, Any]) -> None:
    images = [each.words[0] for each in _instructions() if each.keyword == "FROM"]
    images += [service["image"] for service in compose["services"].values() if "build" not in service]
    for image in images:
        assert re.fullmatch(r"[a-z/]+:v?\d[\w.-]*", image), image


def test_what_is_copied_is_there() -> None:
    stages = {each.words[-1] for each in _instructions() if each.keyword == "FROM" and "AS" in each.words}
    for copy in (each for each in _instructions() if each.keyword == "COPY"):
        *sources, _ = copy.words
        if sources[0].startswith("--from="):
            assert sources[0].removeprefix("--from=") in stages
            continue
        for source in sources:
            assert (ROOT / source).exists(), source
            assert source not in _ignored(), source


def test_the_image_holds_nothing_of_the_machine_that_builds_it() -> None:
    """Whatever git does not take as it is made here, secrets and audio among it, stays out as well."""
    made = (line.strip("/") for line in (ROOT / ".gitignore").read_text().splitlines() if line.endswith("/"))
    built = {"build", "dist"}  # not by the two commands, and harmless
    assert {*made, ".git", ".env"} - built <= _ignored()


def test_it_runs_a_command_that_there_is() -> None:
    name, *options = _command()
    commands = get_command(app)
    assert isinstance(commands, typer.core.TyperGroup)
    commands.commands[name].make_context(name, options)  # raises on what it does not know


def test_it_runs_as_nobody_in_particular() -> None:
    user = _only("USER").text.split(":")[0]
    (made,) = re.findall(r"useradd .*--uid (\d+)", " ".join(each.text for each in _last_stage()))
    assert user == made
    assert int(user) >= 10_000


def test_its_health_is_a_route_of_the_port_it_listens_on() -> None:
    address = urlsplit(re.findall(r"http://[^'\"]+", _only("HEALTHCHECK").text)[0])
    assert address.path in json.loads((ROOT / "api/openapi.json").read_text())["paths"]
    assert address.path.startswith("/health")
    assert str(address.port) == _port() == _only("EXPOSE").text


def test_it_has_what_compiles_the_kernel_and_where_to_keep_it() -> None:
    assert re.search(r"apt-get install [^&]*\bg\+\+", " ".join(each.text for each in _last_stage()))
    environment = _environment()
    for cache in ("TUTTI_KERNEL_CACHE", "TUTTI_WEIGHT_CACHE"):
        assert Path(environment[cache]).is_relative_to(environment["TUTTI_DATA_DIR"])


def test_a_node_of_a_cluster_has_what_it_needs() -> None:
    """There Ray is started by others, and reads what ``tutti serve`` would have set from the image's environment."""
    assert NODE_ENVIRONMENT.items() <= _environment().items()
    assert NODE_ENVIRONMENT["FORWARDED_ALLOW_IPS"] == ""


# ------------------------------------------------------------------------------------------ compose.yaml
def test_services_name_what_there_is(compose: dict[str, Any]) -> None:
    services = compose["services"]
    for service in services.values():
        for name, condition in service.get("depends_on", {}).items():
            assert "healthcheck" in services[name]
            # Of a profile, which `docker compose up` alone leaves out.
            assert condition == {"condition": "service_healthy", "required": not services[name].get("profiles")}
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert source.startswith("./") or source in compose["volumes"], volume
    said = re.findall(r"--profile (\w+)", (ROOT / "compose.yaml").read_text())
    assert set(said) == {profile for service in services.values() for profile in service.get("profiles", [])}


def test_build_arguments_are_the_dockerfiles(tutti: dict[str, Any]) -> None:
    arguments = {each.text.split("=")[0] for each in _instructions() if each.keyword == "ARG"}
    assert set(tutti["build"]["args"]) <= arguments


def test_it_is_published_on_loopback_only(tutti: dict[str, Any]) -> None:
    for published in tutti["ports"]:
        address, _, port = published.split(":")
        assert (address, port) == ("127.0.0.1", _port())


def test_its_data_lies_in_a_volume_its_user_can_write_to(tutti: dict[str, Any]) -> None:
    folder = tutti["environment"]["TUTTI_DATA_DIR"]
    assert folder == _environment()["TUTTI_DATA_DIR"]
    assert any(volume == f"data:{folder}" for volume in tutti["volumes"])
    assert re.search(rf"install --directory --owner=tutti .* {folder}\b", " ".join(i.text for i in _last_stage()))


def test_the_kernel_and_packed_weights_outlive_their_container(tutti: dict[str, Any]) -> None:
    for cache in ("TUTTI_KERNEL_CACHE", "TUTTI_WEIGHT_CACHE"):
        assert tutti["environment"][cache] == _environment()[cache]


def test_checkpoints_are_where_the_serve_config_looks(tutti: dict[str, Any]) -> None:
    (mounted,) = (volume.split(":")[1] for volume in tutti["volumes"] if "checkpoints" in volume)
    application = yaml.safe_load((ROOT / "serve_config.yaml").read_text())["applications"][0]
    folders = {model["checkpoint"] for model in application["args"]["models"].values()} - set(BUILT_IN)
    workdir = _only("WORKDIR").text
    assert folders
    assert all(Path(workdir, folder).is_relative_to(mounted) for folder in folders)


def test_a_stop_waits_for_the_longest_stream(tutti: dict[str, Any]) -> None:
    drains = re.findall(r"graceful_shutdown_timeout_s: (\d+)", (ROOT / "serve_config.yaml").read_text())
    assert int(tutti["stop_grace_period"].removesuffix("s")) > max(map(int, drains))


# -------------------------------------------------------------------------------------------- variables
@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_variable_is_a_setting(name: str) -> None:
    """A variable that is none would stop the start of whoever follows the document."""
    known = {PREFIX + field.upper() for field in Settings.model_fields} | OF_CLIENTS
    assert set(re.findall(r"\bTUTTI_[A-Z_]*[A-Z]\b", (ROOT / name).read_text())) <= known


def test_production_starts_with_what_compose_says_to_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The variables of the header's first four lines, with the image's own, are all that production asks for."""
    head = (ROOT / "compose.yaml").read_text().partition("docker compose up")[0]
    for name in set(re.findall(r'echo "(TUTTI_\w+)=', head)):
        key = f"{'A' * 43}="  # as openssl makes them: base64 of 32 bytes
        monkeypatch.setenv(name, f"1:{key}" if name == "TUTTI_MASTER_KEYS" else key)
    monkeypatch.setenv("TUTTI_DATA_DIR", str(tmp_path))
    assert Settings(environment="production").secrets.master_keys


def test_variables_that_compose_fills_in_are_explained(compose: dict[str, Any]) -> None:
    text = (ROOT / "compose.yaml").read_text()
    filled = set(re.findall(r"(?<!\$)\$\{(\w+)", yaml.safe_dump(compose)))
    assert filled
    for name in filled:
        assert f'echo "{name}=' in text or name in (ROOT / "Dockerfile").read_text(), name
