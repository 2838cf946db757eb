"""`make compose-test`: the stack in containers, an experiment and a steered soak in it, and what was seen in seconds.

It needs Docker with compose 2, and where no registry can be reached the base image of README.md. It is no part of the
tests: it builds gigabytes, and takes a quarter of an hour. Run it as `python -m tests.compose.trial`.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workload.services.process import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[2]
PROJECT = "hop2rag-trial"
SERVICES = ("vllm", "exporter", "chroma", "prometheus", "alertmanager", "workload")
ASKED = re.compile(r"VLLM_PROFILE=(\S+) docker compose -p hop2rag-trial ")
SOAK = f"{PROJECT}-soak"
PYTHON = "/opt/hop2rag/bin/python"
ACTIONS = """
import json, pathlib, sqlite3
(run,) = pathlib.Path("/results/runs").glob("*-soak")
rows = sqlite3.connect(f"file:{run}/journal.sqlite?mode=ro", uri=True).execute("SELECT at, action, alert FROM action")
summary = run / "summary.json"
print(json.dumps([run.name, rows.fetchall(), json.loads(summary.read_text()) if summary.exists() else None]))
"""
DECOY = [sys.executable, "-c", "import time; time.sleep(3600)", "-m", "vllm.entrypoints.openai.api_server"]


class Stack:
    """The stack of this trial, on free ports and in volumes of its own."""

    def __init__(self) -> None:
        names = ("GRAFANA_PORT", "PROMETHEUS_PORT", "ALERTMANAGER_PORT", "VLLM_PORT", "EXPORTER_PORT")
        self.ports = {name: str(free_port()) for name in names}
        self._files = [word for file in ("docker-compose.yml", "tests/compose/standins.yml") for word in ("-f", file)]

    def command(self, *words: str) -> list[str]:
        """Return a command line of compose for this project, with every profile."""
        return ["docker", "compose", "-p", PROJECT, *self._files, "--profile", "soak", *words]

    def do(self, *words: str, **variables: str) -> str:
        """Run compose, and return what it printed; the trial ends where it fails."""
        environment = {**os.environ, **self.ports, "COMPOSE_PROJECT_NAME": PROJECT, **variables}
        done = subprocess.run(
            self.command(*words), cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=3000
        )
        if done.returncode:
            sys.exit(f"{' '.join(words)}: exit {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
        return done.stdout

    def up(self, *services: str, **variables: str) -> None:
        """Start services and wait until they are healthy."""
        self.do("up", "-d", "--no-build", "--wait", "--wait-timeout", "900", *(services or SERVICES), **variables)

    def query(self, promql: str) -> dict[str, float]:
        """Return what Prometheus has now, by job or role of each series; nothing if it does not answer in time."""
        url = f"http://127.0.0.1:{self.ports['PROMETHEUS_PORT']}/api/v1/query?query={urllib.parse.quote(promql)}"
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(url, timeout=10) as answer:
                found = json.load(answer)["data"]["result"]
        except OSError:
            return {}
        return {each["metric"].get("role") or each["metric"]["job"]: float(each["value"][1]) for each in found}

    def soak(self) -> tuple[str, list[tuple[float, str, str]], dict[str, Any] | None]:
        """Return the soak's run, its actions, and its summary once it has ended."""
        run, actions, summary = json.loads(self.do("exec", "-T", "workload", PYTHON, "-c", ACTIONS))
        return run, [tuple(action) for action in actions], summary


def wait_for(what: str, found: Callable[[], Any], seconds: float = 180.0) -> Any:
    """Return the first true answer; the trial ends where there is none in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if answer := found():
            return answer
        time.sleep(1)
    sys.exit(f"not seen within {seconds:g} s: {what}")


def say(text: str) -> None:
    """Print a line with the seconds since the beginning."""
    print(f"{time.monotonic() - BEGUN:6.0f} s  {text}", flush=True)


BEGUN = time.monotonic()


@contextmanager
def stack() -> Iterator[Stack]:
    """Build the stack, bring it up, and take it down with its volumes."""
    made = Stack()
    try:
        made.do("build", "init", "vllm", "exporter", "prometheus", "alertmanager")
        say("images built")
        made.up()
        say("everything healthy")
        yield made
    finally:
        subprocess.run(made.command("down", "--volumes", "--remove-orphans"), cwd=ROOT, check=False)


def look_at_processes(made: Stack) -> None:
    """A stranger with the engine's words on this host changes nothing."""
    count = 'hop2rag_host_processes{job="exporter"}'
    wait_for("targets up", lambda: len(made.query("up == 1")) == 7)
    before = wait_for("processes of engine and agent", lambda: min((found := made.query(count)).values()) and found)
    with subprocess.Popen(DECOY) as decoy:
        time.sleep(10)
        after, ambiguous = made.query(count), made.query("hop2rag_host_processes_ambiguous")
        decoy.kill()
    if after["engine"] != before["engine"] or any(ambiguous.values()):
        sys.exit(f"a decoy changed the processes: {before} to {after}, ambiguous {ambiguous}")
    say(f"processes {after}, with a decoy on the host")


def experiment(made: Stack) -> None:
    """Start each arm that the run asks for."""
    words = ("run", "--rm", "-T", "workload", "run", "vllm-metrics", "--limit", "1", "--max-hops", "1", "--order", "AB")
    environment = {**os.environ, **made.ports, "COMPOSE_PROJECT_NAME": PROJECT}
    with subprocess.Popen(
        made.command(*words), cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as run:
        assert run.stdout is not None
        for line in run.stdout:
            if asked := ASKED.search(line):
                made.up("vllm", VLLM_PROFILE=asked[1])
                say(f"the run's arm {asked[1]} is up")
    if run.returncode:
        sys.exit(f"the experiment ended with {run.returncode}")
    say("the experiment has its report")
    made.up("vllm")


def steered_soak(made: Stack) -> None:
    """Kill the engine below a soak, bring it back, take everything down, and resume."""
    made.do("run", "-d", "--use-aliases", "--name", SOAK, "soak", "--duration", "3m", "--segment", "1m")
    wait_for("the soak sends", lambda: made.query('hop2rag_soak_concurrency{experiment="soak"}'), 300)
    say("the soak sends")
    time.sleep(20)
    killed = time.time()
    made.do("kill", "vllm")
    at = wait_for("a pause", lambda: next((at for at, action, _ in made.soak()[1] if action == "pause"), None))
    say(f"VllmDown paused the soak {at - killed:.1f} s after the engine was killed")
    made.up("vllm")
    back = time.time()
    at = wait_for("a lift", lambda: next((at for at, action, _ in made.soak()[1] if action == "lift"), None))
    say(f"lifted by alert and canary {at - back:+.1f} s after the engine was healthy again")
    run = made.soak()[0]
    made.do("down")
    made.up()
    say("down and up again")
    made.do("run", "--rm", "-T", "--use-aliases", "soak", "--resume", run)
    summary = made.soak()[2] or {}
    say(f"resumed to its end: {summary['ending']}, exit code {summary['exit_code']}, {summary['accounting']}")


if __name__ == "__main__":
    with stack() as running:
        look_at_processes(running)
        experiment(running)
        steered_soak(running)
