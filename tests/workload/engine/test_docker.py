"""The service of a compose project, restarted with a profile: the same container but for one variable."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from docker.errors import APIError

from tests.stubs.vllm import StubVllm
from workload.engine.docker import CONFIG_HASH, PROJECT, SERVICE, DockerLauncher
from workload.engine.profile import PROFILES, SERVER_MODULE
from workload.errors import DependencyDownError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console

ATTRIBUTES = {
    "Config": {
        "Hostname": "0123456789ab",
        "Env": ["VLLM_PROFILE=base", "HOME=/tmp"],
        "Labels": {SERVICE: "vllm", PROJECT: "p", CONFIG_HASH: "c0ffee"},
        "Image": "hop2rag-engine:0.1.0",
    },
    "HostConfig": {"ReadonlyRootfs": True, "Memory": 6 << 30},
    "NetworkSettings": {"Networks": {"p_default": {"Aliases": ["vllm", "0123456789ab"], "IPAddress": "172.18.0.3"}}},
    "RestartCount": 0,
}


class FakeContainer:
    """A container, and what was done to it."""

    def __init__(self, name: str, service: str, docker: FakeDocker, project: str = "p") -> None:
        self.name, self.docker, self.short_id, self.status = name, docker, "0123456789ab", "running"
        self.attrs: dict[str, Any] = copy.deepcopy(ATTRIBUTES)
        self.labels = {SERVICE: service, PROJECT: project}
        self.done: list[str] = []
        docker.containers_by_name[name] = self

    def rename(self, name: str) -> None:
        """Give the container another name."""
        self.docker.containers_by_name[name] = self.docker.containers_by_name.pop(self.name)
        self.name = name

    def remove(self, *, force: bool) -> None:
        """Forget the container."""
        assert force
        del self.docker.containers_by_name[self.name]

    def top(self, ps_args: str) -> dict[str, Any]:
        """Return the server's process, under an id that this host does not have."""
        assert ps_args == "-eo pid,args"
        profile = next(entry for entry in self.attrs["Config"]["Env"] if entry.startswith("VLLM_PROFILE="))
        flags = PROFILES[profile.partition("=")[2]].unreported_flags()
        return {"Processes": [["1", "tini"], ["999999999", " ".join(("python", "-m", SERVER_MODULE, *flags))]]}

    def logs(self, tail: int) -> bytes:
        """Return the last lines."""
        return b"line\n" * tail

    def __getattr__(self, what: str) -> Callable[..., None]:
        if what not in {"stop", "start", "pause", "unpause", "reload"}:
            raise AttributeError(what)
        return lambda **_: self.done.append(what)


class FakeDocker:
    """As much of Docker's client as the launcher uses."""

    def __init__(self) -> None:
        self.containers_by_name: dict[str, FakeContainer] = {}
        self.made: list[dict[str, Any]] = []
        self.fails = False
        self.containers = SimpleNamespace(list=self._list, get=self.containers_by_name.__getitem__)
        self.api = SimpleNamespace(create_container_from_config=self._create)

    def _list(self, *, all: bool, filters: dict[str, Any]) -> list[FakeContainer]:  # noqa: A002 - Docker's own name
        assert all
        wanted = dict(label.split("=") for label in filters.get("label", []))
        names = filters.get("name", "").strip("^/$")
        return [
            each
            for each in self.containers_by_name.values()
            if each.labels.items() >= wanted.items() and (not names or each.name == names)
        ]

    def _create(self, config: dict[str, Any], name: str) -> dict[str, str]:
        if self.fails:
            raise APIError("no space left on device")
        self.made.append(config)
        container = FakeContainer(name, "vllm", self)
        container.attrs["Config"] = config
        return {"Id": name}


@pytest.fixture
def stub() -> Iterator[StubVllm]:
    """The server that the container's port leads to."""
    with StubVllm() as server:
        yield server


@pytest.fixture
def docker() -> FakeDocker:
    """A project with an engine and a load."""
    fake = FakeDocker()
    for service in ("vllm", "workload"):
        FakeContainer(f"p-{service}-1", service, fake)
    return fake


def launcher(docker: FakeDocker, console: Console, stub: StubVllm, project: str | None = None) -> DockerLauncher:
    """Return the launcher under test."""
    return DockerLauncher(cast("Any", docker), console, stub.url, project, timeout_seconds=10)


def test_only_the_profile_changes(docker: FakeDocker, console: Console, stub: StubVllm) -> None:
    """Limits, mounts, networks and hardening are the user's; an arm may differ in its flags alone."""
    old = docker.containers_by_name["p-vllm-1"]
    with launcher(docker, console, stub).start(PROFILES["seqs-16"]) as engine:
        assert "--max-num-seqs" in (engine.argv or ())
        assert engine.pid is None, "a process id that is none on this host is not measured"
    (config,) = docker.made
    assert config["Env"] == ["VLLM_PROFILE=seqs-16", "HOME=/tmp"]
    assert config["HostConfig"] == ATTRIBUTES["HostConfig"]
    assert config["NetworkingConfig"] == {"EndpointsConfig": {"p_default": {"Aliases": ["vllm"]}}}
    assert "Hostname" not in config
    assert config["Labels"][CONFIG_HASH] != "c0ffee", "compose must see that it is not what the user asked for"
    assert old not in docker.containers_by_name.values()
    assert docker.containers_by_name.keys() == {"p-vllm-1", "p-workload-1"}


def test_the_load_is_paused_meanwhile(docker: FakeDocker, console: Console, stub: StubVllm) -> None:
    """Two loads on one engine measure neither; and it goes on afterwards, also when the run fails."""
    load = docker.containers_by_name["p-workload-1"]
    with launcher(docker, console, stub).start(PROFILES["base"]):
        assert load.done == ["pause"]
    assert load.done == ["pause", "unpause"]
    starting = launcher(docker, console, stub).start(PROFILES["base"])
    starting.__enter__()
    assert starting.__exit__(KeyError, KeyError("stop"), None) is False
    load.done = load.done[2:]
    assert load.done == ["pause", "unpause"]


def test_an_arm_is_proved(docker: FakeDocker, console: Console, stub: StubVllm) -> None:
    """An image that does not heed VLLM_PROFILE would run every arm alike."""
    starting = launcher(docker, console, stub).start(PROFILES["prefix-off"])
    with pytest.raises(DependencyDownError, match="enable_prefix_caching=True"):
        starting.__enter__()
    assert docker.containers_by_name["p-workload-1"].done == ["pause", "unpause"]


def test_a_failure_brings_the_old_container_back(docker: FakeDocker, console: Console, stub: StubVllm) -> None:
    """A full disk must not leave the project without its engine."""
    old, docker.fails = docker.containers_by_name["p-vllm-1"], True
    with pytest.raises(DependencyDownError, match="no space left"):
        launcher(docker, console, stub).start(PROFILES["base"]).__enter__()
    assert docker.containers_by_name["p-vllm-1"] is old
    assert old.done == ["stop", "start"]


def test_an_engine_that_dies_is_not_waited_for(
    docker: FakeDocker, console: Console, stub: StubVllm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`restart: unless-stopped` would start it again for as long as anybody waits."""
    stub.die()
    monkeypatch.setitem(ATTRIBUTES, "RestartCount", 1)
    with pytest.raises(DependencyDownError, match="p-vllm-1 ended"):
        launcher(docker, console, stub).start(PROFILES["base"]).__enter__()


def test_the_project_must_be_plain(docker: FakeDocker, console: Console, stub: StubVllm) -> None:
    """The wrong one of two engines would be restarted under somebody's feet."""
    FakeContainer("q-vllm-1", "vllm", docker, "q")
    with pytest.raises(UsageError, match=r"p, q.*COMPOSE_PROJECT_NAME"):
        launcher(docker, console, stub).start(PROFILES["base"]).__enter__()
    with pytest.raises(UsageError, match="docker compose up"):
        launcher(docker, console, stub, "r").start(PROFILES["base"]).__enter__()
    with launcher(docker, console, stub, "p").start(PROFILES["base"]):
        pass
