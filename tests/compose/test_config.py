"""Both sets of compose files, read by compose itself."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PLUGIN = ("docker", "compose")


def compose() -> tuple[str, ...]:
    """Return the command of compose on this machine: the plugin of Docker, else the program of its own."""
    if (
        shutil.which("docker")
        and subprocess.run([*PLUGIN, "version"], capture_output=True, check=False).returncode == 0
    ):
        return PLUGIN
    if shutil.which("docker-compose"):
        return ("docker-compose",)
    pytest.skip("neither `docker compose` nor `docker-compose` is installed")


def config(folder: Path, *files: str, **variables: str) -> dict[str, Any]:
    """Return what compose makes of the files, without the .env that this checkout may have."""
    nothing = folder / "empty.env"
    nothing.write_text("")
    arguments = [word for file in files for word in ("-f", file)]
    command = [*compose(), "--env-file", str(nothing), *arguments, "config"]
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    done = subprocess.run(
        command, cwd=ROOT, env={"PATH": path, **variables}, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = yaml.safe_load(done.stdout)
    return found


def test_compose_accepts_the_files(tmp_path: Path) -> None:
    """A key that this version does not know, or an undefined variable, would end `docker compose up` at once."""
    services = config(tmp_path, "docker-compose.yml", VLLM_PROFILE="seqs-64")["services"]
    assert services["vllm"]["environment"]["VLLM_PROFILE"] == "seqs-64"
    assert services["vllm"]["image"].startswith("hop2rag-engine:")
    assert "--rate=0.05" in services["workload"]["command"]


def test_compose_accepts_the_files_for_gpus(tmp_path: Path) -> None:
    """The override must replace the engine and keep what hardens it."""
    vllm = config(tmp_path, "docker-compose.yml", "docker-compose.gpu.yml")["services"]["vllm"]
    assert vllm["build"]["dockerfile"] == "workload/engine/Dockerfile.gpu"
    assert re.search(r"^FROM vllm/vllm-openai:v\d", (ROOT / vllm["build"]["dockerfile"]).read_text(), re.MULTILINE)
    assert vllm["image"] != config(tmp_path, "docker-compose.yml")["services"]["vllm"]["image"]
    assert vllm["environment"]["VLLM_PROFILE"] == "base"
    assert vllm["environment"]["VLLM_MODEL"] == "Qwen/Qwen2.5-7B-Instruct"
    assert vllm["read_only"] is True
    assert vllm["deploy"]["resources"]["reservations"]["devices"][0]["capabilities"] == ["gpu"]
    assert "/opt/engine" not in str(vllm["healthcheck"])


def test_stand_ins_replace_images_and_nothing_that_hardens(tmp_path: Path) -> None:
    """What these tests show is true of the real images only where nothing else differs."""
    real = config(tmp_path, "docker-compose.yml")["services"]
    local = config(tmp_path, "docker-compose.yml", "tests/compose/standins.yml")["services"]
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
