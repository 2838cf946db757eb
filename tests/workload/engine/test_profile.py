"""Flags by vLLM version, and what proves an arm."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workload.engine.facts import EngineFacts
from workload.engine.profile import (
    PROFILES,
    SERVER_MODULE,
    Device,
    VllmProfile,
    environment,
    parse_version,
    server_flags,
)
from workload.errors import UsageError

FACTS = EngineFacts(
    version="0.32.0",
    model="m",
    model_path="/m",
    max_model_len=8192,
    block_size=32,
    num_gpu_blocks=1456,
    prefix_caching=True,
    kv_pool_bytes=1 << 30,
    kv_block_bytes=None,
)
RELEASES = st.tuples(st.just(0), st.integers(7, 60), st.integers(0, 9))


def argv(profile: VllmProfile, version: str, device: Device = "cuda") -> tuple[str, ...]:
    """Return the profile's command line with the plain parts filled in."""
    return profile.argv(version, python="python", model="/m", served_model_name="m", device=device)


@pytest.mark.parametrize(
    ("version", "given"), [("0.8.5", True), ("0.10.0", True), ("0.10.1", False), ("0.17.0", False), ("0.32.0", False)]
)
def test_the_removed_flag_goes_only_to_servers_that_need_it(version: str, given: bool) -> None:
    """From 0.17 on `--disable-log-requests` kills the server; before 0.10.1 its absence logs every prompt."""
    assert ("--disable-log-requests" in argv(PROFILES["base"], version)) is given


@pytest.mark.parametrize(("version", "given"), [("0.15.1", False), ("0.16.0", True), ("0.32.0", True)])
def test_scrapes_are_not_logged(version: str, given: bool) -> None:
    """Seen: 87 % of an engine's log was GET /metrics, so the rotated log forgot a traceback within six hours."""
    flags = server_flags(argv(PROFILES["base"], version)) or {}
    assert flags.get("--disable-access-log-for-endpoints") == ("/metrics,/health" if given else None)


def test_the_off_arm_is_said_not_left_out() -> None:
    """Caching is on by default since 0.8: an arm "off" without this flag is the arm "on"."""
    for version in ("0.6.5", "0.8.0", "0.32.0"):
        assert "--no-enable-prefix-caching" in argv(PROFILES["prefix-off"], version)
        assert "--enable-prefix-caching" in argv(PROFILES["prefix-on"], version)


@pytest.mark.parametrize("version", ["0.6.4", "0.5.0", "latest", "", "0.32"])
def test_versions_that_cannot_hold_a_profile_are_refused(version: str) -> None:
    """Before 0.6.5 caching cannot be switched off; an unreadable version says nothing about flags."""
    with pytest.raises(UsageError, match=r"0\.6\.5 or later|not of the form"):
        argv(PROFILES["prefix-off"], version)


def test_every_profile_of_the_plan_exists() -> None:
    """Experiments name profiles; a missing one would only show after a corpus was built."""
    assert set(PROFILES) == {
        *("base", "prefix-off", "prefix-on", "context-8192", "context-8192-off", "seqs-8", "seqs-16"),
        *("seqs-32", "seqs-64", "seqs-64-16k", "chunked-prefill", "prefix-chunked"),
    }
    flags = server_flags(argv(PROFILES["seqs-64-16k"], "0.32.0")) or {}
    assert (flags["--max-num-seqs"], flags["--max-num-batched-tokens"]) == ("64", "16384")
    assert flags["--tensor-parallel-size"] == "1"
    assert flags["--gpu-memory-utilization"] == "0.9"


@given(st.sampled_from(sorted(PROFILES)), RELEASES, st.sampled_from(["cpu", "cuda"]), st.integers(1, 65535))
def test_no_flag_is_given_twice(name: str, release: tuple[int, int, int], device: Device, port: int) -> None:
    """The last of two equal flags wins silently, so the first would be a lie in the manifest."""
    words = PROFILES[name].argv(
        ".".join(map(str, release)), python="p", model="/m", served_model_name="m", port=port, device=device
    )
    flags = [word for word in words if word.startswith("--")]
    assert len(flags) == len(set(flags))
    assert (server_flags(words) or {})["--port"] == str(port)


def test_the_cpu_engine_gets_blocks_it_can_use_and_no_network() -> None:
    """CPU attention wants multiples of 32, and nothing of a run may be sent home or fetched."""
    assert "32" in argv(PROFILES["base"], "0.32.0", "cpu")
    assert environment("cpu")["HF_HUB_OFFLINE"] == "1"
    assert "HF_HUB_OFFLINE" not in environment("cuda")
    assert all(environment(device)["VLLM_NO_USAGE_STATS"] == "1" for device in ("cpu", "cuda"))


@pytest.mark.parametrize(
    ("name", "facts", "says"),
    [
        ("base", FACTS, None),
        ("prefix-on", FACTS, None),
        ("prefix-off", FACTS, "enable_prefix_caching=True"),
        ("prefix-off", replace(FACTS, prefix_caching=None), "enable_prefix_caching=nothing"),
        ("context-8192", FACTS, None),
        ("context-8192", replace(FACTS, max_model_len=4096), "max_model_len=4096"),
        ("context-8192", replace(FACTS, max_model_len=None), "max_model_len=nothing"),
    ],
)
def test_an_arm_is_proved_or_refused(name: str, facts: EngineFacts, says: str | None) -> None:
    """A server that shows nothing proves nothing: an unknown is a mismatch, never a pass."""
    mismatch = PROFILES[name].mismatch(facts)
    assert mismatch is None if says is None else says in str(mismatch)


def test_a_small_pool_is_asked_for_and_proved() -> None:
    """Eviction is modelled for the pool that was asked for; one sized by memory would evict nothing and agree too."""
    small = VllmProfile("pool-101", num_gpu_blocks=101)
    assert (server_flags(argv(small, "0.32.0")) or {})["--num-gpu-blocks-override"] == "101"
    assert small.mismatch(replace(FACTS, num_gpu_blocks=101)) is None
    assert "num_gpu_blocks=1456" in str(small.mismatch(FACTS))
    assert "num_gpu_blocks=nothing" in str(small.mismatch(replace(FACTS, num_gpu_blocks=None)))


def test_what_no_server_reports_is_listed() -> None:
    """Batching flags are on no endpoint; whoever attaches must see the command line for them."""
    assert PROFILES["prefix-on"].unreported_flags() == ()
    assert PROFILES["seqs-64"].unreported_flags() == ("--max-num-seqs", "64", "--max-num-batched-tokens", "8192")


@given(RELEASES, st.sampled_from(["", ".post1", "rc1.dev166+gd0975a4b5", "+cpu"]))
def test_versions_are_read_whatever_follows(release: tuple[int, int, int], suffix: str) -> None:
    """Post releases, nightlies and local builds take the flags of their release."""
    assert parse_version(".".join(map(str, release)) + suffix) == release


def test_a_pool_of_fixed_size_is_proved() -> None:
    """A pool that the engine did not take would be compared as if it were small."""
    small = VllmProfile("small", num_gpu_blocks=256)
    assert "--num-gpu-blocks-override" in argv(small, "0.32.0")
    assert "num_gpu_blocks=1456" in str(small.mismatch(FACTS))
    assert small.mismatch(replace(FACTS, num_gpu_blocks=256)) is None


@pytest.mark.parametrize(
    ("profile", "flags"),
    [
        (VllmProfile("asleep", sleep_mode=True), ("--enable-sleep-mode",)),
        (VllmProfile("offload", kv_offloading_gib=4.0), ("--kv-offloading-size", "4")),
    ],
)
def test_what_needs_a_gpu_is_refused_on_a_cpu(profile: VllmProfile, flags: tuple[str, ...]) -> None:
    """VLLM would die half a minute later with a traceback; no server reports these, so the command line must say it."""
    assert profile.unreported_flags() == flags
    assert set(flags) <= set(argv(profile, "0.32.0"))
    with pytest.raises(UsageError, match=f"on a CPU cannot run profile {profile.name}"):
        argv(profile, "0.32.0", "cpu")


def test_the_routes_for_sleep_are_opened_only_for_it() -> None:
    """VLLM's development mode opens more than sleep and wake-up, so nothing else may run in it."""
    assert "VLLM_SERVER_DEV_MODE" not in environment("cuda")
    assert environment("cuda", sleep_mode=True)["VLLM_SERVER_DEV_MODE"] == "1"


def test_flags_compare_in_any_order_and_spelling() -> None:
    """The same server started by hand has its flags in another order."""
    one = server_flags(("python", "-m", SERVER_MODULE, "--port", "1", "--enforce-eager", "--model=m"))
    two = server_flags(("/usr/bin/python3", "-m", SERVER_MODULE, "--model", "m", "--enforce-eager", "--port=1"))
    assert one == two == {"--port": "1", "--enforce-eager": "", "--model": "m"}


def test_another_program_has_no_flags() -> None:
    """A web server on port 8000 is not a vLLM with default flags."""
    assert server_flags(("python", "-m", "http.server", "8000")) is None
    assert server_flags(()) is None
