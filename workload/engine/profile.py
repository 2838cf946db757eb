"""The profile of an engine, and its flags for a given vLLM version."""

from __future__ import annotations

import re
from dataclasses import KW_ONLY, dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from workload.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from workload.engine.facts import EngineFacts

DEFAULT = "prefix-on"
"""The default of `hop2rag up`, `ask` and `soak`: the same, so that each can use the other's engine."""

Device = Literal["cpu", "cuda"]

OLDEST = (0, 6, 5)
"""The first release with `--no-enable-prefix-caching`: earlier ones cannot run an arm "off"."""

REQUEST_LOG_OFF = (0, 10, 1)
"""From here on requests are not logged by default; 0.17 removed the flag, which then ends the server."""

ACCESS_LOG_OFF = (0, 16, 0)
"""From here on paths can be left out of the access log. Eleven scrapes a second hid all else, 125 MB a day."""

CPU_FLAGS = ("--enforce-eager", "--block-size", "32")
"""Eager mode is ready in 30 s instead of 100 s. CPU attention needs a multiple of 32; its default is 128."""

CPU_KV_CACHE_GIB = 1


@dataclass(frozen=True)
class VllmProfile:
    """How an engine is started. None leaves a setting to vLLM's default, and it is then not checked.

    Attributes:
        name: the profile's name in `PROFILES`, in labels and in results.
        prefix_caching: on, off; the default is on from 0.8.0 and off before.
        chunked_prefill: on; the default depends on version and model.
        num_gpu_blocks: blocks of the KV pool, the null block included, in place of as many as memory allows.
        kv_offloading_gib: host memory that evicted KV blocks go to, in GiB; CUDA only.
        sleep_mode: the engine can be put to sleep and woken up; CUDA only.
    """

    name: str
    prefix_caching: bool | None = None
    _: KW_ONLY
    chunked_prefill: Literal[True] | None = None
    max_model_len: int | None = None
    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    num_gpu_blocks: int | None = None
    kv_offloading_gib: float | None = None
    sleep_mode: Literal[True] | None = None

    @property
    def unnamed(self) -> VllmProfile:
        """The profile without its name: profiles that are then equal share one engine."""
        return replace(self, name="")

    def argv(
        self,
        version: str,
        *,
        python: str,
        model: str,
        served_model_name: str,
        port: int = 8000,
        host: str = "127.0.0.1",
        device: Device = "cuda",
    ) -> tuple[str, ...]:
        """Return the command line that starts this profile on vLLM `version`.

        Raises:
            UsageError: the version cannot be read, or the version or the device does not support the profile.
        """
        if device == "cpu" and (wanted := self._cuda_only()):
            raise UsageError(
                f"vLLM on a CPU cannot run profile {self.name}: {wanted}.",
                "Run this arm on a GPU, with --vllm-endpoint.",
            )
        release = parse_version(version)
        if release < OLDEST:
            oldest = ".".join(map(str, OLDEST))
            raise UsageError(f"vLLM {version} cannot run profile {self.name}.", f"Use vLLM {oldest} or later.")
        # The module form also runs where the distribution is not named `vllm`, as the CPU builds are not.
        command = (python, "-m", SERVER_MODULE, "--model", model, "--served-model-name", served_model_name)
        base = ("--host", host, "--port", str(port), "--tensor-parallel-size", "1", "--gpu-memory-utilization", "0.9")
        quiet: tuple[str, ...] = ("--disable-log-requests",) if release < REQUEST_LOG_OFF else ()
        if release >= ACCESS_LOG_OFF:
            quiet = ("--disable-access-log-for-endpoints", "/metrics,/health")
        cpu = CPU_FLAGS if device == "cpu" else ()
        return (*command, *base, "--enable-prompt-tokens-details", *quiet, *cpu, *self._flags())

    def _cuda_only(self) -> str | None:
        """Return the setting that vLLM 0.32 refuses on a CPU, and why."""
        if self.sleep_mode:
            return "sleep mode frees device memory, and a CPU has none"
        if self.kv_offloading_gib is not None:
            return "KV blocks are already in host memory, so they cannot be offloaded to it"
        return None

    def _flags(self) -> tuple[str, ...]:
        flags: list[str] = []
        if self.prefix_caching is not None:
            flags += ["--enable-prefix-caching" if self.prefix_caching else "--no-enable-prefix-caching"]
        if self.max_model_len is not None:
            flags += ["--max-model-len", str(self.max_model_len)]
        if self.num_gpu_blocks is not None:
            flags += ["--num-gpu-blocks-override", str(self.num_gpu_blocks)]
        return (*flags, *self.unreported_flags())

    def unreported_flags(self) -> tuple[str, ...]:
        """Return the flags of this profile that no server reports: only its command line can prove them."""
        flags: list[str] = []
        if self.chunked_prefill:
            flags += ["--enable-chunked-prefill"]
        if self.max_num_seqs is not None:
            flags += ["--max-num-seqs", str(self.max_num_seqs)]
        if self.max_num_batched_tokens is not None:
            flags += ["--max-num-batched-tokens", str(self.max_num_batched_tokens)]
        if self.kv_offloading_gib is not None:
            flags += ["--kv-offloading-size", f"{self.kv_offloading_gib:g}"]
        if self.sleep_mode:
            flags += ["--enable-sleep-mode"]
        return tuple(flags)

    def mismatch(self, facts: EngineFacts) -> str | None:
        """Return how the server's facts differ from this profile, or None if they match.

        A setting that the server does not show is a mismatch too: an arm is proved, never assumed.
        """
        for fact, shown, needed in (
            ("cache_config_info shows enable_prefix_caching", facts.prefix_caching, self.prefix_caching),
            ("/v1/models shows max_model_len", facts.max_model_len, self.max_model_len),
            ("cache_config_info shows num_gpu_blocks", facts.num_gpu_blocks, self.num_gpu_blocks),
        ):
            if needed is not None and shown != needed:
                return f"{fact}={'nothing' if shown is None else shown}, profile {self.name} needs {needed}"
        return None


def environment(device: Device, *, sleep_mode: bool | None = None) -> Mapping[str, str]:
    """Return an engine's variables: no usage statistics; on CPU no downloads and a KV pool.

    `sleep_mode` opens the routes for sleep and wake-up, which only vLLM's development mode has.
    """
    quiet = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", **({"VLLM_SERVER_DEV_MODE": "1"} if sleep_mode else {})}
    if device == "cuda":
        return quiet
    return {**quiet, "HF_HUB_OFFLINE": "1", "VLLM_CPU_KVCACHE_SPACE": str(CPU_KV_CACHE_GIB)}


def parse_version(version: str) -> tuple[int, int, int]:
    """Return the release of "0.32.0", "0.10.1.post1" or "0.22.1rc1.dev166+gd0975a4b5".

    Raises:
        UsageError: it does not start with three numbers.
    """
    match = re.match(r"v?(\d+)\.(\d+)\.(\d+)", version)
    if not match:
        raise UsageError(f"vLLM version {version!r} is not of the form 0.32.0.", "Name the release that will run.")
    return int(match[1]), int(match[2]), int(match[3])


PROFILES: Mapping[str, VllmProfile] = MappingProxyType(
    {
        profile.name: profile
        for profile in (
            VllmProfile("base"),
            VllmProfile("prefix-off", prefix_caching=False),
            VllmProfile("prefix-on", prefix_caching=True),
            VllmProfile("context-8192", max_model_len=8192),
            VllmProfile("context-8192-off", prefix_caching=False, max_model_len=8192),
            VllmProfile("seqs-8", max_num_seqs=8),
            VllmProfile("seqs-16", max_num_seqs=16),
            VllmProfile("seqs-32", max_num_seqs=32),
            VllmProfile("seqs-64", max_num_seqs=64, max_num_batched_tokens=8192),
            VllmProfile("seqs-64-16k", max_num_seqs=64, max_num_batched_tokens=16384),
            VllmProfile("chunked-prefill", chunked_prefill=True, max_num_batched_tokens=4096),
            VllmProfile("prefix-chunked", prefix_caching=True, chunked_prefill=True),
        )
    }
)


TRACES_FLAG = "--otlp-traces-endpoint"
SERVER_MODULE = "vllm.entrypoints.openai.api_server"


def server_flags(argv: Sequence[str]) -> Mapping[str, str] | None:
    """Return the flags of a vLLM command line, in any order and spelling; None if it starts something else.

    A flag without a value maps to "". `--port=1` and `--port 1` are the same.
    """
    if SERVER_MODULE not in argv:
        return None
    flags: dict[str, str] = {}
    name = ""
    for word in argv[list(argv).index(SERVER_MODULE) + 1 :]:
        if word.startswith("--"):
            name, _, value = word.partition("=")
            flags[name] = value
        else:
            flags[name] = word
    return flags
