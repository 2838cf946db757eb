"""Both sets of compose files, read by compose itself."""

from __future__ import annotations

import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from workload.paths import cache_dir

ROOT = Path(__file__).parents[2]
OWN = cache_dir() / "prometheus-newer" / "usr" / "libexec" / "docker" / "cli-plugins" / "docker-compose"
"""Where tests/prometheus/newer.sh unpacks it; compose 1 does not know the optional dependencies and env files."""


def compose() -> tuple[str, ...]:
    """Return the command of compose 2 on this machine."""
    for command in ((str(OWN),), ("docker", "compose"), ("docker-compose",)):
        if shutil.which(command[0]):
            done = subprocess.run([*command, "version", "--short"], capture_output=True, text=True, check=False)
            if done.returncode == 0 and done.stdout.startswith(("2.", "v2.", "5.", "v5.")):
                return command
    pytest.skip("no compose 2 here: `sh tests/prometheus/newer.sh ~/.cache/hop2rag/prometheus-newer` unpacks it")


@cache
def config(*files: str, **variables: str) -> dict[str, Any]:
    """Return what compose makes of the files with every profile, without the .env that this checkout may have."""
    arguments = [word for file in files for word in ("-f", file)]
    command = [*compose(), "--env-file", "/dev/null", "--profile", "*", *arguments, "config"]
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    done = subprocess.run(
        command, cwd=ROOT, env={"PATH": path, **variables}, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = yaml.safe_load(done.stdout)
    return found


def test_compose_accepts_the_files() -> None:
    """A key that this version does not know, or an undefined variable, would end `docker compose up` at once."""
    services = config("docker-compose.yml", VLLM_PROFILE="seqs-64")["services"]
    assert services["vllm"]["environment"]["VLLM_PROFILE"] == "seqs-64"
    assert services["vllm"]["image"].startswith("hop2rag-engine:")
    assert "--rate=0.05" in services["workload"]["command"]


def test_compose_accepts_the_files_for_gpus() -> None:
    """The override must replace the engine and keep what hardens it."""
    vllm = config("docker-compose.yml", "docker-compose.gpu.yml")["services"]["vllm"]
    assert vllm["build"]["dockerfile"] == "workload/engine/Dockerfile.gpu"
    image = vllm["build"]["args"]["VLLM_IMAGE"]
    assert f"ARG VLLM_IMAGE={image}\nFROM ${{VLLM_IMAGE}}\n" in (ROOT / vllm["build"]["dockerfile"]).read_text()
    assert vllm["image"] != config("docker-compose.yml")["services"]["vllm"]["image"]
    assert vllm["environment"]["VLLM_PROFILE"] == "base"
    assert vllm["environment"]["VLLM_MODEL"] == "Qwen/Qwen2.5-7B-Instruct"
    assert vllm["read_only"] is True
    assert vllm["deploy"]["resources"]["reservations"]["devices"][0]["capabilities"] == ["gpu"]
    assert "/opt/engine" not in str(vllm["healthcheck"])
    assert vllm["depends_on"]["model"]["condition"] == "service_completed_successfully"


def test_the_users_weights_and_gpus_are_given_by_variables() -> None:
    """Whoever has 15 GB of weights already, or shares a machine, edits no file."""
    files = ("docker-compose.yml", "docker-compose.gpu.yml")
    services = config(
        *files, MODELS="/home/me/.cache/huggingface", CUDA_VISIBLE_DEVICES="0,1", HF_TOKEN_FILE="/a/token"
    )
    for service in (services["services"]["vllm"], services["services"]["model"]):
        mounts = {mount["target"]: mount["source"] for mount in service["volumes"]}
        assert mounts["/models/huggingface"] == "/home/me/.cache/huggingface"
    assert services["services"]["vllm"]["environment"]["CUDA_VISIBLE_DEVICES"] == "0,1"
    assert services["secrets"]["hf-token"]["file"] == "/a/token"
    assert "/a/token" not in str(
        [service["environment"] for service in services["services"].values() if "environment" in service]
    )
    default = config(*files)["services"]["vllm"]
    assert default["environment"]["CUDA_VISIBLE_DEVICES"] is None, "an empty value would hide every GPU"


def test_a_running_engine_is_attached_to() -> None:
    """Most people have a vLLM; ours is then not started, and nothing waits for it."""
    services = config("docker-compose.yml", "workload/compose/attach.yml", VLLM_ENDPOINT="http://gpu:8000")["services"]
    assert services["vllm"]["profiles"] == ["engine"]
    assert services["workload"]["depends_on"]["vllm"]["required"] is False
    for name in ("workload", "soak"):
        assert services[name]["environment"]["HOP2RAG_VLLM_ENDPOINT"] == "http://gpu:8000"
        assert services[name]["environment"]["HOP2RAG_CHROMA_URL"] == "http://chroma:8000"


def test_agent_and_engine_send_their_spans_to_tempo() -> None:
    """A trace without the engine's part does not say where the time went."""
    services = config("docker-compose.yml", "workload/compose/tracing.yml")["services"]
    (address,) = {
        services[name]["environment"]["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] for name in ("vllm", "workload", "soak")
    }
    receiver = yaml.safe_load((ROOT / "grafana" / "tempo" / "tempo.yml").read_text())["distributor"]["receivers"]
    assert address.rpartition(":")[2] == receiver["otlp"]["protocols"]["grpc"]["endpoint"].rpartition(":")[2]
    mounted = {mount["target"]: mount["source"] for mount in services["grafana"]["volumes"]}
    target = "/etc/hop2rag/grafana/provisioning/datasources/tempo.yml"
    assert yaml.safe_load(Path(mounted[target]).read_text())["datasources"][0]["uid"] == "hop2rag-tempo"
    assert (ROOT / "grafana" / "provisioning" / "datasources" / "tempo.yml").exists(), "no file can be added to a mount"


@pytest.mark.parametrize("override", [(), ("docker-compose.gpu.yml",)])
def test_the_printed_command_restarts_this_projects_engine(override: tuple[str, ...]) -> None:
    """Seen: with two projects it would have restarted the other's."""
    services = config("docker-compose.yml", *override, COMPOSE_PROJECT_NAME="second")["services"]
    command = services["workload"]["environment"]["HOP2RAG_ENGINE_COMMAND"]
    assert command.startswith("VLLM_PROFILE={profile} docker compose -p second ")
    assert all(f"-f {file}" in command for file in override)
    assert command.endswith("up -d --wait vllm")


def test_stand_ins_replace_images_and_nothing_that_hardens() -> None:
    """What these tests show is true of the real images only where nothing else differs."""
    real = config("docker-compose.yml")["services"]
    local = config("docker-compose.yml", "tests/compose/standins.yml")["services"]
    for service in (*real.values(), *local.values()):
        service.get("volumes", []).sort(key=str)
    differing = {name for name in real if real[name] != local[name]}
    assert differing == {"chroma", "prometheus", "alertmanager"}
    for name in differing:
        assert {key for key in local[name] if local[name][key] != real[name].get(key)} <= {
            "image",
            "build",
            "entrypoint",
        }
