"""Logs of starts that really failed, cut to the lines that matter."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from workload.engine.diagnosis import explain_death
from workload.errors import DependencyDownError, Hop2RagError, MissingPartError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

NOISE = (
    "(APIServer pid=9) WARNING 11-23 10:19:12 [system_utils.py:255] Found ulimit of 20000 and failed to automatically "
    "increase. This can cause fd limit errors like `OSError: [Errno 24] Too many open files`.\n"
)
END = "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}\n"


@pytest.mark.parametrize(
    ("said", "error", "cause"),
    [
        ("api_server.py: error: unrecognized arguments: --disable-log-requests", UsageError, "--disable-log-requests"),
        ("api_server.py: error: argument --port: invalid int value: 'x'", UsageError, "argument --port"),
        ("    sock.bind(addr)\nOSError: [Errno 98] Address already in use", UsageError, "Address already in use"),
        (
            (
                "  Value error, User-specified max_model_len (99999) is greater than the derived max_model_len "
                "(max_position_embeddings=8192.0 or model_max_length=None in model's config.json)."
            ),
            UsageError,
            r"max_model_len \(99999\)",
        ),
        (
            (
                "huggingface_hub.errors.HFValidationError: Repo id must be in the form 'repo_name' or "
                "'namespace/repo_name': '/nowhere/model'. Use `repo_type` argument if needed."
            ),
            MissingPartError,
            "/nowhere/model",
        ),
        (
            (
                "(Worker pid=1) ERROR 11-23 10:20:44 [multiproc_executor.py:953] RuntimeError: Cannot find any model "
                f"weights with `/m`\n{END}"
            ),
            MissingPartError,
            "Cannot find any model weights with `/m`",
        ),
        ("ModuleNotFoundError: No module named 'vllm'", MissingPartError, "No module named 'vllm'"),
        (
            "ImportError: libcudart.so.13: cannot open shared object file: No such file or directory",
            MissingPartError,
            r"libcudart\.so\.13",
        ),
        (
            "(Worker pid=1) ERROR 11-23 10:20:07 [x.py:1] ValueError: Available memory on node 0 (13.3/15.34 GiB) on "
            "kv cache allocation is less than requested memory for kv (500.0 GiB). Decrease VLLM_CPU_KVCACHE_SPACE.\n"
            + END,
            DependencyDownError,
            r"requested memory for kv \(500\.0 GiB\)\. Free some",
        ),
        (
            (
                "ValueError: Free memory on device (1.2/79.1 GiB) on startup is less than desired GPU memory "
                f"utilization (0.9, 71.2 GiB). Decrease GPU memory utilization.\n{END}"
            ),
            DependencyDownError,
            r"71\.2 GiB\)",
        ),
        (
            f"(EngineCore pid=2) ERROR 11-23 10:20:07 [core.py:1] ValueError: odd heads\n{END}",
            DependencyDownError,
            "exit code 1 .*ValueError: odd heads",
        ),
        ("starting\nbye", DependencyDownError, "exit code 1 .*: bye"),
    ],
)
def test_the_cause_is_named(tmp_path: Path, said: str, error: type[Hop2RagError], cause: str) -> None:
    """VLLM's causes lie hundreds of lines above its last one; each deserves its own remedy and exit code."""
    log = tmp_path / "vllm.log"
    log.write_text(NOISE + said + "\n")
    with pytest.raises(error, match=cause) as raised:
        raise explain_death(log, 1)
    assert type(raised.value) is error
    assert "\n" not in str(raised.value)
    assert str(log) in str(raised.value)


def test_silence_is_said(tmp_path: Path) -> None:
    """A process killed at once leaves an empty log, and the error must still be a sentence."""
    (tmp_path / "log").write_text("")
    assert "exit code -9 before it was ready: it printed nothing." in str(explain_death(tmp_path / "log", -9))
