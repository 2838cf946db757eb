"""Runs guidellm against an endpoint and reads its report; it lives in an environment of its own."""

from __future__ import annotations

import json
import os
import re
import resource
import statistics
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

NUMBER = re.compile(r"#(\d+)#")


@dataclass(frozen=True)
class Sample:
    """One load by one client.

    Attributes:
        requests: calls that succeeded.
        seconds: from the first call's start to the last one's end.
        cpu_seconds: user and system time of the client's processes, their start included.
        latencies: seconds by call, as the client reports them.
        ttfts: seconds to the first token by call.
        targets: number in the prompt -> the wall-clock instant at which an open loop was to send it.
    """

    requests: int
    seconds: float
    cpu_seconds: float
    latencies: tuple[float, ...]
    ttfts: tuple[float, ...] = ()
    targets: Mapping[str, float] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Return calls a second."""
        return self.requests / self.seconds

    @property
    def latency(self) -> float:
        """Return the median latency in seconds."""
        return statistics.median(self.latencies)


@dataclass(frozen=True)
class GuideLlm:
    """guidellm as a user starts it.

    Args:
        executable: its command.
        folder: where prompts and reports go.
        tokenizer: a model's folder; guidellm wants a tokenizer, though the server's own usage is what counts.
        workers: its worker processes at the most; its own default is 10.
    """

    executable: Path
    folder: Path
    tokenizer: Path
    workers: int

    def version(self) -> str:
        """Return its version."""
        script = "from importlib.metadata import version; print(version('guidellm'))"
        python = self.executable.parent / "python"
        return subprocess.run([python, "-c", script], capture_output=True, text=True, check=True).stdout.strip()

    def load(self, url: str, model: str, prompts: list[str], tokens: int, profile: dict[str, Any]) -> Sample:
        """Send each prompt once under a profile, such as {"kind": "concurrent", "streams": 64}.

        Raises:
            SystemExit: it failed, or not every call succeeded.
        """
        data, report, config = (self.folder / name for name in ("prompts.jsonl", "report.json", "config.json"))
        rows = ({"prompt": prompt, "output_tokens_count": tokens} for prompt in prompts)
        data.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        report.unlink(missing_ok=True)
        spec = {
            "backend": {"kind": "openai_http", "target": url, "model": model, "http2": False},
            "profile": profile,
            "constraints": [{"kind": "max_requests", "count": len(prompts)}],
            "tokenizer": {"kind": "huggingface_auto", "model": str(self.tokenizer)},
            "data": [{"kind": "json_file", "path": str(data)}],
            "outputs": [{"kind": "json", "path": str(report)}],
        }
        config.write_text(json.dumps({"spec": spec}))
        command = [self.executable, "run", "--config", config, "--disable-console"]
        env = {**os.environ, "GUIDELLM__MAX_WORKER_PROCESSES": str(self.workers), "HF_HUB_OFFLINE": "1"}
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        ended = subprocess.run(command, capture_output=True, text=True, check=False, env=env, cwd=self.folder)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if ended.returncode or not report.exists():
            raise SystemExit(f"guidellm failed: {ended.stderr[-2000:] or ended.stdout[-2000:]}")
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return sample_of(json.loads(report.read_text()), cpu, len(prompts))


def sample_of(report: dict[str, Any], cpu_seconds: float, expected: int) -> Sample:
    """Return a sample from guidellm's report."""
    calls = report["benchmarks"][0]["requests"]["successful"]
    if len(calls) != expected:
        raise SystemExit(f"guidellm: {len(calls)} of {expected} calls succeeded.")
    timings = [call["info"]["timings"] for call in calls]
    starts = [timing["request_start"] for timing in timings]
    ends = [timing["request_end"] for timing in timings]
    return Sample(
        requests=len(calls),
        seconds=max(ends) - min(starts),
        cpu_seconds=cpu_seconds,
        latencies=tuple(end - start for start, end in zip(starts, ends, strict=True)),
        ttfts=tuple(timing["first_token_iteration"] - timing["request_start"] for timing in timings),
        targets={
            NUMBER.findall(call["request_args"])[0]: timing["targeted_start"]
            for call, timing in zip(calls, timings, strict=True)
            if call["request_args"]
        },
    )
