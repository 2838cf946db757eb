"""What an engine's container runs: a profile by its name, in the flags of the image's vLLM."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from workload.engine import serve
from workload.engine.profile import PROFILES
from workload.errors import UsageError

ROOT = Path(__file__).parents[3]
MODEL = {serve.MODEL: "/opt/model/smollm2-135m-instruct/"}


@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_is_one_variable_away(name: str) -> None:
    """`VLLM_PROFILE=seqs-64 docker compose up` starts what `hop2rag run` would."""
    argv = serve.command({**MODEL, serve.PROFILE: name}, "0.22.1", "cuda")
    assert set(PROFILES[name].argv("0.22.1", python="p", model="m", served_model_name="s")[7:]) <= {
        *argv,
        "s",
        "127.0.0.1",
    }
    assert argv[argv.index("--host") + 1] == "0.0.0.0"


def test_an_empty_variable_is_not_set() -> None:
    """Compose hands on `${VLLM_ARGS:-}` as an empty text."""
    argv = serve.command({**MODEL, serve.PROFILE: "", serve.ARGS: ""}, "0.32.0", "cpu")
    assert "" not in argv
    assert argv[argv.index("--served-model-name") + 1] == "smollm2-135m-instruct"


def test_further_arguments_come_last() -> None:
    """VLLM takes the last of two: what the user adds wins."""
    argv = serve.command({**MODEL, serve.ARGS: "--num-gpu-blocks-override 512"}, "0.32.0", "cpu")
    assert argv[-2:] == ("--num-gpu-blocks-override", "512")


@pytest.mark.parametrize(
    ("environ", "says"),
    [({**MODEL, serve.PROFILE: "seqs-65"}, "VLLM_PROFILE=seqs-65 is not a profile.*seqs-64"), ({}, "VLLM_MODEL")],
)
def test_what_is_wrong_is_named(environ: dict[str, str], says: str) -> None:
    """In a container the log is all there is."""
    with pytest.raises(UsageError, match=says):
        serve.command(environ, "0.32.0", "cpu")


def test_a_collector_gets_the_engines_spans() -> None:
    """One variable names it for agent and engine."""
    argv = serve.command({**MODEL, serve.COLLECTOR: "http://tempo:4317"}, "0.32.0", "cpu")
    assert argv[-2:] == ("--otlp-traces-endpoint", "http://tempo:4317")
    assert "--otlp-traces-endpoint" not in serve.command({**MODEL, serve.COLLECTOR: ""}, "0.32.0", "cpu")


def test_the_volume_has_the_tokenizer_of_this_model(tmp_path: Path) -> None:
    """Seen: a volume filled once by an image hid the model of every later one."""
    volume, model = tmp_path / "tokenizer", tmp_path / "hub" / "models--me--m" / "snapshots" / "c0ffee"
    for folder in (volume, model, model.parents[1] / "refs"):
        folder.mkdir(parents=True)
    (model.parents[1] / "refs" / "main").write_text("c0ffee")
    (volume / "vocab.json").write_text("of another model")
    for name in ("tokenizer.json", "tokenizer_config.json", "model.safetensors"):
        (model / name).write_text("of this one")
    assert serve.model_folder("me/m", {"HF_HOME": str(tmp_path)}) == model
    serve.publish_tokenizer(serve.model_folder(str(model), {}), volume)
    assert {path.name for path in volume.iterdir()} == {"tokenizer.json", "tokenizer_config.json"}
    serve.publish_tokenizer(serve.model_folder("me/other", {"HF_HOME": str(tmp_path)}), volume)
    assert list(volume.iterdir()) == [], "better none than a stranger's"
    serve.publish_tokenizer(model, tmp_path / "not mounted")


def test_it_becomes_vllm(tmp_path: Path) -> None:
    """With nothing installed but itself and a vLLM: in vLLM's own image there is nothing else of ours.

    Its own variables do not reach vLLM, which warns of each that it does not know; the process stays the same, so that
    the container's stop signal reaches the engine.
    """
    package = tmp_path / "vllm" / "entrypoints" / "openai"
    package.mkdir(parents=True)
    for folder in (package, package.parent, package.parents[1]):
        (folder / "__init__.py").write_text("")
    reported = (
        "import os, sys\nprint(os.getpid(), sorted(n for n in os.environ if n.startswith('VLLM')), sys.argv[1:])\n"
    )
    (package / "api_server.py").write_text(reported)
    metadata = tmp_path / "vllm-0.22.1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: vllm\nVersion: 0.22.1\n")
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": f"{tmp_path}:{ROOT}", **MODEL, serve.PROFILE: "prefix-off"}
    command = [sys.executable, "-S", "-m", "workload.engine.serve"]
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        said, _ = process.communicate(timeout=30)
    pid, _, rest = said.splitlines()[-1].partition(" ")
    assert int(pid) == process.pid
    assert rest.startswith("['VLLM_NO_USAGE_STATS'] ['--model',")
    assert "--no-enable-prefix-caching" in rest


@pytest.mark.parametrize("dockerfile", ["Dockerfile", "Dockerfile.gpu"])
def test_an_image_without_vllm_ends_with_3(tmp_path: Path, dockerfile: str) -> None:
    """Compose shows the documented code of a missing part; the image has the files that its Dockerfile copies alone."""
    copies = re.findall(
        r"^COPY (\S.*) /opt/hop2rag/(\S+)$", (ROOT / "workload" / "engine" / dockerfile).read_text(), re.MULTILINE
    )
    for sources, folder in copies:
        (tmp_path / folder).mkdir(parents=True)
        for source in sources.split():
            shutil.copy(ROOT / source, tmp_path / folder)
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path), **MODEL}
    command = [sys.executable, "-S", "-P", "-m", "workload.engine.serve"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=30, cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    assert "has no vLLM" in done.stderr
