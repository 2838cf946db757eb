"""A secret in a prompt, a document, an answer, a key or a URL is nowhere in what a run leaves behind."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import zlib
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.faults.secret_runs import EXPERIMENTS

ROOT = Path(__file__).parents[2]
SECRET = "Xylophone/7f3a+canary"
ENVIRONMENT = {
    **dict.fromkeys(("OPENAI_API_KEY", "LANGSMITH_API_KEY", "HF_TOKEN", "VLLM_API_KEY"), SECRET),
    "GRAFANA_TOKEN": SECRET,
    "GRAFANA_URL": "http://127.0.0.1:1",  # no server listens there, and the failure says so
    "HTTP_PROXY": f"http://user:{quote(SECRET, safe='')}@127.0.0.1:1",
    "OPENAI_LOG": "debug",
    "LANGSMITH_TRACING": "true",
}
TOLD = 20
# All experiments with all figures, twice; a test's time includes that of its fixtures.
pytestmark = pytest.mark.timeout(600)


def run(folder: Path, *flags: str) -> Path:
    """Run every experiment with the secret planted; what is printed is kept in the folder too."""
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.secret_runs", folder, SECRET, *flags],
        cwd=ROOT,
        env={**os.environ, **ENVIRONMENT},
        capture_output=True,
        check=False,
        timeout=300,
    )
    (folder / "printed").write_bytes(done.stdout + done.stderr)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    return folder


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is left of runs without `--record-prompts`."""
    return run(tmp_path_factory.mktemp("plain") / "runs")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is left of runs with it."""
    return run(tmp_path_factory.mktemp("recorded") / "runs", "--record-prompts", "--no-figures")


def unpacked(content: bytes) -> bytes:
    """Return a PNG's chunks, the compressed ones in plain; any other content unchanged."""
    if not content.startswith(b"\x89PNG"):
        return content
    found, at = [], 8
    while at < len(content):
        length, kind = int.from_bytes(content[at : at + 4]), content[at + 4 : at + 8]
        data = content[at + 8 : at + 8 + length]
        found.append(data)
        if kind == b"zTXt":
            found.append(zlib.decompress(data.partition(b"\0")[2][1:]))
        at += 12 + length
    return b"\n".join(found)


def holders(folder: Path) -> list[str]:
    """Return the files with the secret, in plain or encoded as in URLs, headers and JSON."""
    forms = {
        SECRET.encode(),
        SECRET.partition("/")[0].encode(),
        quote(SECRET, safe="").encode(),
        base64.b64encode(SECRET.encode())[:20],
        json.dumps(SECRET).encode(),
    }
    return [
        str(path.relative_to(folder))
        for path in sorted(folder.rglob("*"))
        if path.is_file() and any(form in unpacked(path.read_bytes()) for form in forms)
    ]


def test_the_runs_were_given_the_secret(plain: Path, recorded: Path) -> None:
    """A secret that no engine received proves nothing; and every run ended as it should."""
    for folder in (plain, recorded):
        reported = json.loads((folder / "codes.json").read_text())
        assert reported["reported"] > TOLD
        assert {name: reported[name] for name in EXPERIMENTS} == dict.fromkeys(EXPERIMENTS, 0)
        assert reported["refused"] == 2
        assert len(list(folder.glob("metrics*.prom"))) > 2
    assert len(list((plain / "results").rglob("*.png"))) > 15
    assert (plain / "drawn.txt").stat().st_size > 1000


def test_it_is_found_where_it_is() -> None:
    """A search that finds nothing anywhere proves nothing: compressed text in a PNG, for one, would hide the secret."""
    packed = b"Comment\0\0" + zlib.compress(SECRET.encode())
    picture = b"\x89PNG\r\n\x1a\n" + len(packed).to_bytes(4) + b"zTXt" + packed + bytes(4)
    assert SECRET.encode() not in picture
    assert SECRET.encode() in unpacked(picture)


def test_it_is_nowhere(plain: Path) -> None:
    """Metrics, logs, journals, results, reports and figures do not contain it."""
    assert holders(plain) == []


def test_with_record_prompts_it_is_in_the_journals_only(recorded: Path) -> None:
    """Whoever asks for texts gets them in one place, which can be deleted and is not drawn, served or printed."""
    found = holders(recorded)
    assert len(found) >= len(EXPERIMENTS) - 1
    assert {Path(name).name for name in found} == {"journal.sqlite"}


@pytest.mark.parametrize("kind", ["plain", "recorded"])
def test_results_are_their_owner_s(kind: str, request: pytest.FixtureRequest) -> None:
    """A journal may contain texts, and every other file shows something of what a user asked a model."""
    results = request.getfixturevalue(kind) / "results"
    modes = {
        str(path.relative_to(results)): path.stat().st_mode & 0o777 for path in results.rglob("*") if path.is_file()
    }
    assert len(modes) > 20
    assert {name: oct(mode) for name, mode in modes.items() if mode != 0o600} == {}
