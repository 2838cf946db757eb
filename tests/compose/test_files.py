"""docker-compose.yml as an auditor and a newcomer read it: nothing is open, nothing floats, nothing is forgotten."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from exporter import cli as exporter_cli
from exporter.host.filesystem import parse_volumes
from workload import cli
from workload.compose import surroundings
from workload.compose.digests import FILES, tags
from workload.engine import serve
from workload.engine.profile import PROFILES
from workload.services.prometheus_server import EXEMPLARS
from workload.settings import load_settings

ROOT = Path(__file__).parents[2]
BASE = (ROOT / "docker-compose.yml").read_text()
FURTHER = {"gpu": "docker-compose.gpu.yml", **{name: f"workload/compose/{name}.yml" for name in ("attach", "tracing")}}
OVERRIDES = {name: (ROOT / file).read_text() for name, file in FURTHER.items()}
TEXTS = {"cpu": BASE, **OVERRIDES}
PROJECT = yaml.safe_load(BASE)
SERVICES: dict[str, dict[str, Any]] = PROJECT["services"]
LASTING = sorted(SERVICES.keys() - {"init", "soak"})
ADDED: dict[str, dict[str, dict[str, Any]]] = {
    name: yaml.safe_load(text)["services"] for name, text in OVERRIDES.items()
}
EVERY = {**SERVICES, "model": ADDED["gpu"]["model"], "tempo": ADDED["tracing"]["tempo"]}
ALERTMANAGER = yaml.safe_load((ROOT / "prometheus" / "compose" / "alertmanager.yml").read_text())
VARIABLE = re.compile(r"\$\{(\w+)(?::?-([^}]*))?\}")


def test_the_services_are_those_of_the_stack() -> None:
    """Each is promised by the documentation; one that is gone leaves a dashboard empty."""
    assert set(SERVICES) == {
        *("init", "vllm", "exporter", "workload", "soak", "chroma"),
        *("prometheus", "alertmanager", "grafana", "renderer"),
    }
    assert {*ADDED["gpu"], *ADDED["attach"], *ADDED["tracing"]} <= EVERY.keys()


@pytest.mark.parametrize("name", ["workload", "soak"])
def test_what_a_load_asks_stops_after_it(name: str) -> None:
    """Seen: `down` took Chroma away from a soak with a question in flight, which ended it with exit code 4."""
    asked = {
        host for value in SERVICES[name]["environment"].values() for host in re.findall(r"http://(\w+):", str(value))
    }
    assert {"vllm", "chroma", "prometheus"} <= asked <= SERVICES[name]["depends_on"].keys()


def test_the_default_needs_no_profile() -> None:
    """What most people need comes up; what takes gigabytes for few is asked for."""
    profiles = {name: service["profiles"] for name, service in SERVICES.items() if "profiles" in service}
    assert profiles == {"soak": ["soak"], "renderer": ["renderer"]}
    assert PROJECT["name"] == "hop2rag"  # else volumes follow the folder's name


def test_no_proxy_is_asked_for_our_own_services() -> None:
    """Seen: with Docker's proxy setting the load could not reach Chroma, and said that Chroma was down."""
    for name in ("workload", "soak", "grafana", "renderer"):
        environment = SERVICES[name]["environment"]
        assert environment["NO_PROXY"] == environment["no_proxy"]
        assert {*environment["NO_PROXY"].split(",")} >= EVERY.keys() - {"init", "model"}


def test_a_build_has_all_that_the_package_includes() -> None:
    """Seen: the package began to include the runbooks, and no image could be built."""
    included = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    for dockerfile in ("workload/Dockerfile", "exporter/Dockerfile"):
        copied = dict(re.findall(r"^COPY (\S+) (\S+)$", (ROOT / dockerfile).read_text(), re.MULTILINE))
        assert {*included["force-include"]} <= copied.keys()
    for folder in included["force-include"]:
        top = folder.partition("/")[0]
        assert top not in ignored or f"!{folder}" in ignored


def test_what_the_engines_user_runs_is_readable_under_any_umask() -> None:
    """Seen: a clone under umask 077 gave an image whose user could not read its entry point."""
    for name in ("Dockerfile", "Dockerfile.gpu"):
        lines = (ROOT / "workload" / "engine" / name).read_text().splitlines()
        last = max(number for number, line in enumerate(lines) if line.startswith("COPY") and "/opt/hop2rag" in line)
        assert "RUN chmod -R a+rX /opt/hop2rag" in lines[last:]


@pytest.mark.parametrize("name", sorted(EVERY))
def test_every_service_is_locked_down(name: str) -> None:
    """A container that is broken into must be able to do nothing: no root, no capability, nothing to write on."""
    service = EVERY[name]
    assert re.fullmatch(r"[1-9]\d*:\d+", service["user"])
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "cap_add" not in service
    assert "privileged" not in service
    assert service["mem_limit"]
    assert service["pids_limit"]
    assert service["logging"]["options"] == {"max-size": "10m", "max-file": "3"}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_nothing_reaches_docker_or_another_network(text: str) -> None:
    """The socket of Docker is root on the host; a port on every interface is everybody's."""
    assert "docker.sock" not in text
    assert "network_mode" not in text
    ports = [port for service in yaml.safe_load(text)["services"].values() for port in service.get("ports", [])]
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == []


def test_ports_are_published() -> None:
    """The check above passes for an empty list too."""
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published.keys() == {"vllm", "exporter", "prometheus", "alertmanager", "grafana"}


@pytest.mark.parametrize("file", FILES)
def test_every_image_has_an_exact_tag(file: str) -> None:
    """What is newest today is something else tomorrow; a digest is taken from the registry, never invented."""
    for tag in tags((ROOT / file).read_text()):
        assert re.fullmatch(r"[\w./-]+:v?\d+\.\d+\.\d+[\w.-]*", tag)


def test_images_are_found() -> None:
    """The check above passes without any image too."""
    found = {tag.partition(":")[0] for file in FILES for tag in tags((ROOT / file).read_text())}
    assert found >= {"prom/prometheus", "grafana/grafana", "chromadb/chroma", "vllm/vllm-openai", "python"}
    assert {*re.findall(r"(?:image: |FROM )\S*latest", "".join((ROOT / file).read_text() for file in FILES))} == set()


@pytest.mark.parametrize("name", LASTING)
def test_every_service_reports_whether_it_is_well(name: str) -> None:
    """The order of the start hangs on it, and so does a restart that was noticed."""
    check = SERVICES[name]["healthcheck"]
    assert check["test"][0] == "CMD"
    assert check.keys() == {"test", "interval", "timeout", "retries", "start_period"}
    # What a wrong flag or variable ends at each start must not start for ever.
    assert SERVICES[name]["restart"] == ("on-failure:5" if name in {"vllm", "workload"} else "unless-stopped")


def test_services_start_in_order() -> None:
    """Credentials before who reads them; the load last, when everything it needs answers."""
    completed = {"init": {"condition": "service_completed_successfully"}}
    for name in set(LASTING) - {"workload"}:
        assert SERVICES[name]["depends_on"].items() >= completed.items()
    healthy = ("vllm", "chroma", "prometheus", "exporter")
    assert SERVICES["workload"]["depends_on"] == {name: {"condition": "service_healthy"} for name in healthy}
    assert "depends_on" not in SERVICES["init"]


def test_what_is_measured_survives_down() -> None:
    """A named volume is removed only by who asks for it; an anonymous one goes with its container."""
    used = {mounted["source"] if isinstance(mounted, dict) else mounted.partition(":")[0] for mounted in mounts()}
    folders = {source for source in used if source.startswith("./")}
    assert used - folders == PROJECT["volumes"].keys()
    assert folders == {"./.env.example", "./prometheus", "./prometheus/compose", "./grafana"}
    assert "/opt/model" not in str(mounts()), "a volume there would hide the model of a newer image"


def mounts() -> list[Any]:
    """Return what the services mount."""
    return [mounted for service in SERVICES.values() for mounted in service.get("volumes", [])]


def test_folders_of_the_checkout_are_read_only() -> None:
    """A container must not write into the clone, and SELinux lets it read only what is labelled (z)."""
    for mounted in mounts():
        if isinstance(mounted, str) and mounted.startswith("./"):
            assert mounted.endswith(":ro,z")


def test_each_credential_is_seen_only_by_who_needs_it() -> None:
    """A token that every container can read is no token."""
    seen = {
        volume: {name for name, service in SERVICES.items() if volume in str(service.get("volumes"))}
        for volume in ("grafana-credentials", "renderer-credentials", "webhook-credentials")
    }
    assert seen == {
        "grafana-credentials": {"init", "grafana"},
        "renderer-credentials": {"init", "grafana", "renderer"},
        "webhook-credentials": {"init", "alertmanager", "workload", "soak"},
    }


def test_no_password_is_in_a_file_of_the_checkout() -> None:
    """Grafana's image reads `..__FILE`; a plain value would win over it, and everybody would know it."""
    environment = SERVICES["grafana"]["environment"]
    assert "GF_SECURITY_ADMIN_PASSWORD" not in environment
    assert environment["GF_SECURITY_ADMIN_PASSWORD__FILE"] == "/credentials/grafana/admin-password"


def test_prometheus_is_bounded() -> None:
    """A disk that Prometheus fills is everybody's disk."""
    command = " ".join(SERVICES["prometheus"]["command"])
    assert re.search(r"retention\.time=\$\{PROMETHEUS_RETENTION_TIME:-\d+d\}", command)
    assert re.search(r"retention\.size=\$\{PROMETHEUS_RETENTION_SIZE:-\d+GB\}", command)


def test_a_trace_id_is_kept_and_leads_to_tempo() -> None:
    """Without its feature Prometheus drops exemplars in silence; with another uid a point leads nowhere."""
    assert EXEMPLARS in SERVICES["prometheus"]["command"]
    (source,) = yaml.safe_load((ROOT / "grafana" / "tempo" / "datasource.yml").read_text())["datasources"]
    assert ADDED["tracing"]["grafana"]["environment"]["HOP2RAG_TEMPO_UID"] == source["uid"]


def test_every_variable_is_documented_and_has_a_default() -> None:
    """`docker compose up` works from a fresh clone without a .env; what can be set is listed in one place."""
    found = {name: default for text in reversed(TEXTS.values()) for name, default in VARIABLE.findall(text)}
    documented = dict(re.findall(r"^#(\w+)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE))
    handed_on = {name: "" for name, value in ADDED["gpu"]["vllm"]["environment"].items() if value is None}
    assert documented == found | handed_on
    assert set(re.findall(r"\$\{?(\w+)", re.sub(r"\$\$\w*", "", "".join(TEXTS.values())))) == found.keys()
    assert sorted(documented) == sorted(surroundings.documented(ROOT / ".env.example"))


def test_the_default_profile_exists() -> None:
    """A typo here would keep the engine from starting on every machine."""
    (default,) = [value for name, value in VARIABLE.findall(BASE) if name == "VLLM_PROFILE"]
    assert default in PROFILES
    assert serve.PROFILE == "VLLM_PROFILE"


@pytest.mark.parametrize("name", ["init", "workload", "soak"])
def test_our_commands_exist(name: str) -> None:
    """The container would end with a usage error, and the rest would wait for it for ever."""
    words = [*SERVICES[name].get("entrypoint", [])[1:], *SERVICES[name]["command"]]
    arguments = [VARIABLE.sub(lambda found: found[2], str(word)) for word in words]
    command: Any = get_command(cli.app)
    while arguments and arguments[0] in getattr(command, "commands", {}):
        command = command.commands[arguments.pop(0)]
    assert not getattr(command, "commands", None)
    command.make_context(name, arguments)


@pytest.mark.parametrize("name", ["workload", "soak"])
@pytest.mark.parametrize("override", TEXTS)
def test_the_workload_understands_its_environment(override: str, name: str) -> None:
    """An unknown variable is an error, by design: also in the container."""
    environment = {**SERVICES[name]["environment"], **ADDED.get(override, SERVICES)[name]["environment"]}
    filled = {variable: VARIABLE.sub(lambda found: found[2], value) for variable, value in environment.items()}
    settings = load_settings({"limit": 1, "max_hops": 3, "k": 10}, filled)
    assert settings.places.prometheus_url == "http://prometheus:9090"
    assert ("{profile}" in (settings.places.engine_command or "")) == (override != "attach")
    assert settings.places.otlp_endpoint == ("http://tempo:4317" if override == "tracing" else None)


def test_the_exporter_understands_its_flags_and_finds_the_engine() -> None:
    """The engine's command line is what `serve` makes of a profile."""
    command = SERVICES["exporter"]["command"]
    context = get_command(exporter_cli.app).make_context("exporter", list(command))
    engine = serve.command({serve.MODEL: "/opt/model/m"}, "0.32.0", "cpu")
    assert VARIABLE.sub(lambda found: found[2], context.params["engine_command"]) in engine
    assert SERVICES["workload"]["build"]["dockerfile"] == "workload/Dockerfile"
    assert context.params["agent_command"] in (ROOT / "workload" / "Dockerfile").read_text()


def test_the_exporter_watches_the_disk_of_the_volumes() -> None:
    """DiskFilling, which pauses a run, fires only if the exporter is configured with a file system to watch."""
    exporter = SERVICES["exporter"]
    context = get_command(exporter_cli.app).make_context("exporter", list(exporter["command"]))
    watched = {str(path) for path in parse_volumes(context.params["filesystem"]).values()}
    assert watched
    assert watched <= {volume.partition(":")[2] for volume in exporter["volumes"]}


def test_only_the_exporter_sees_the_hosts_processes() -> None:
    """It measures process trees of other containers; no other service needs that."""
    assert [name for name, service in SERVICES.items() if "pid" in service] == ["exporter"]


def test_alertmanager_finds_the_load_and_a_soak() -> None:
    """The addresses and the token's file of one are those of the others."""
    load = " ".join(SERVICES["workload"]["command"])
    soak = SERVICES["soak"]["entrypoint"]
    parameters = get_command(cli.app).commands["soak"].make_context("soak", soak[2:]).params  # type: ignore[attr-defined]
    receivers = {each["name"]: each.get("webhook_configs", []) for each in ALERTMANAGER["receivers"]}
    called = {name: [config["url"] for config in configs] for name, configs in receivers.items()}
    (port,) = re.findall(r"--webhook-listen=0\.0\.0\.0:(\d+)", load)
    of_soak = f"http://soak:{parameters['webhook_port']}/alerts"
    assert called == {
        "runner": [f"http://workload:{port}/alerts"],
        "soak": [of_soak],
        "runner-heartbeat": [],
    }
    presented = {
        config["http_config"]["authorization"]["credentials_file"] for each in receivers.values() for config in each
    }
    assert presented == {str(parameters["webhook_token_file"]), *re.findall(r"token-file=(\S+)", load)}
