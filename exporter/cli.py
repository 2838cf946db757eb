"""`hop2rag-exporter`: flags in Prometheus's style in, exit code out; it serves until a signal arrives."""

from __future__ import annotations

import gc
import logging
import os
import re
import signal
import sys
import threading
from pathlib import Path
from typing import Annotated, Literal

import psutil
import typer
from prometheus_client import disable_created_metrics

from exporter.errors import ActionableError, UsageError
from exporter.host.filesystem import FLAG as FILESYSTEM_FLAG
from exporter.host.filesystem import parse_volumes
from exporter.host.processes import Target
from exporter.plain_text import plain
from exporter.service import Config, Exporter, own_version

# The sampler shares the interpreter with scrapes: a waiting thread runs after 0.5 ms instead of 5 ms.
SWITCH_INTERVAL_SECONDS = 0.0005

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
_LOG = logging.getLogger("exporter.shutdown")
EXIT_SECONDS = 5.0
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(us|ms|s|m)")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"hop2rag-exporter {own_version()}")
        raise typer.Exit


@app.command(help="Serve GPU memory, sampled every 10 ms, and GPU, process and host metrics for Prometheus.")
def export(
    *,
    listen_address: Annotated[
        str, typer.Option("--web.listen-address", help="Address to listen on; port 0 picks a free one.")
    ] = "127.0.0.1:9400",
    web_config_file: Annotated[
        Path | None,
        typer.Option("--web.config.file", help="TLS and basic authentication, in exporter-toolkit's format."),
    ] = None,
    max_connections: Annotated[
        int,
        typer.Option("--web.max-connections", min=1, max=10_000, help="Maximum number of simultaneous connections."),
    ] = 64,
    gpu: Annotated[
        bool, typer.Option("--collector.gpu/--no-collector.gpu", help="GPUs through NVML, or a recording.")
    ] = True,
    host: Annotated[
        bool, typer.Option("--collector.host/--no-collector.host", help="CPU time and memory of the host.")
    ] = True,
    pcie: Annotated[
        bool,
        typer.Option("--collector.pcie/--no-collector.pcie", help="PCIe traffic; the driver needs 40 ms per read."),
    ] = False,
    gpu_processes: Annotated[
        bool,
        typer.Option(
            "--collector.gpu-processes/--no-collector.gpu-processes",
            help="GPU memory by process id; some drivers take a global lock for it.",
        ),
    ] = False,
    engine_port: Annotated[
        int | None,
        typer.Option("--collector.processes.engine-port", help="Measure the process tree that listens on this port."),
    ] = None,
    engine_pid: Annotated[
        int | None, typer.Option("--collector.processes.engine-pid", help="Measure the engine by its process id.")
    ] = None,
    engine_command: Annotated[
        str | None,
        typer.Option(
            "--collector.processes.engine-command",
            help="Measure the engine by words of its command line, also in other containers (with --pid host).",
        ),
    ] = None,
    agent_port: Annotated[
        int | None,
        typer.Option("--collector.processes.agent-port", help="Measure the agent by the port it listens on."),
    ] = None,
    agent_pid: Annotated[
        int | None, typer.Option("--collector.processes.agent-pid", help="Measure the agent by its process id.")
    ] = None,
    agent_command: Annotated[
        str | None,
        typer.Option("--collector.processes.agent-command", help="Measure the agent by words of its command line."),
    ] = None,
    process_targets: Annotated[
        Path | None,
        typer.Option(
            "--collector.processes.targets",
            help="Folder of Prometheus's vllm.json and workload.json: search a command line only in the network of the "
            "engine, or agent, that is scraped.",
        ),
    ] = None,
    filesystem: Annotated[
        list[str] | None,
        typer.Option(FILESYSTEM_FLAG, help="NAME=PATH: free space of the file system of PATH; repeatable."),
    ] = None,
    sample_interval: Annotated[
        str, typer.Option("--nvml.sample-interval", help="Interval between memory samples, 5ms to 1s.")
    ] = "10ms",
    replay_file: Annotated[
        Path | None,
        typer.Option("--nvml.replay-file", help='Play a recorded CSV in a loop as GPUs, marked backend="replay".'),
    ] = None,
    require_gpu: Annotated[
        bool, typer.Option("--require-gpu", help="Exit with code 3 when no GPU answers, instead of serving nvml_up 0.")
    ] = False,
    timeline_window: Annotated[
        str,
        typer.Option(
            "--timeline.window",
            help="How far back /metrics/timeline reaches, 1s to 60s; more survives more missed scrapes.",
        ),
    ] = "3s",
    raw_log_directory: Annotated[
        Path | None, typer.Option("--raw-log.directory", help="Folder for rotated CSV files with every memory sample.")
    ] = None,
    procfs: Annotated[Path, typer.Option("--path.procfs", help="Where the host's /proc is mounted.")] = Path("/proc"),
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], typer.Option("--log.level", help="Lowest level to log.")
    ] = "info",
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Turn flags into a Config and run it."""
    try:
        address, port = parse_address(listen_address)
        config = Config(
            host=address,
            port=port,
            web_config_file=web_config_file,
            max_connections=max_connections,
            gpu=gpu,
            host_totals=host,
            pcie=pcie,
            gpu_processes=gpu_processes,
            volumes=parse_volumes(filesystem or ()),
            targets=_targets(
                engine=(engine_pid, engine_port, engine_command, process_targets and process_targets / "vllm.json"),
                agent=(agent_pid, agent_port, agent_command, process_targets and process_targets / "workload.json"),
            ),
            sample_interval_seconds=parse_duration(sample_interval, "--nvml.sample-interval", 0.005, 1.0),
            replay_file=replay_file,
            require_gpu=require_gpu,
            timeline_window_ms=round(1000 * parse_duration(timeline_window, "--timeline.window", 1.0, 60.0)),
            raw_log_directory=raw_log_directory,
        )
        logging.basicConfig(level=log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        logging.getLogger("uvicorn").setLevel(logging.WARNING)
        disable_created_metrics()  # type: ignore[no-untyped-call]
        psutil.PROCFS_PATH = str(procfs)
        sys.setswitchinterval(SWITCH_INTERVAL_SECONDS)
        serve_until_signal(Exporter(config))
    except ActionableError as error:
        typer.echo(plain(f"hop2rag-exporter: {error}"), err=True)
        raise typer.Exit(error.exit_code) from None


def _targets(**found_by: tuple[int | None, int | None, str | None, Path | None]) -> dict[str, Target]:
    """Return a target for each role with a pid, a command line or a port, in this order of precedence."""
    return {role: Target(*given) for role, given in found_by.items() if any(each is not None for each in given[:3])}


def main(argv: list[str] | None = None) -> int:
    """Run the exporter and return its exit code."""
    os.umask(os.umask(0) | 0o022)  # only the owner may change what it writes
    try:
        app(args=argv, prog_name="hop2rag-exporter")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    return 0


def serve_until_signal(exporter: Exporter) -> None:
    """Run the exporter until SIGTERM or SIGINT, then end the process within seconds, whatever hangs."""
    stop = threading.Event()

    def end(*_: object) -> None:
        if not stop.is_set():
            stop.set()
            timer = threading.Timer(EXIT_SECONDS, _give_up)
            timer.daemon = True
            timer.start()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    try:
        exporter.start()
        # What exists now stays: when a full garbage collection skips it, it takes 1 ms instead of 15.
        gc.collect()
        gc.freeze()
        stop.wait()
    finally:
        exporter.stop()
    _leave(0)


def _give_up() -> None:
    _LOG.error("Shutdown still hangs %g s after the signal; unwritten rows of the raw log are lost.", EXIT_SECONDS)
    _leave(1)


def _leave(code: int) -> None:
    """End the process without waiting for threads: one that hangs in a dead file system would block the exit."""
    logging.shutdown()
    os._exit(code)


def parse_duration(text: str, flag: str, shortest: float, longest: float) -> float:
    """Return a duration such as `10ms` in seconds.

    Raises:
        UsageError: it is not a duration, or it is outside `shortest` to `longest` seconds.
    """
    match = _DURATION.fullmatch(text)
    seconds = float(match[1]) * _UNITS[match[2]] if match else float("nan")
    if not shortest <= seconds <= longest:
        raise UsageError(f"{flag} {text} is not allowed.", f"Use {shortest:g}s to {longest:g}s, such as 10ms or 1s.")
    return seconds


def parse_address(text: str) -> tuple[str, int]:
    """Return host and port of `host:port`, `[v6]:port` or `:port` (all interfaces, as in Prometheus).

    Raises:
        UsageError: it is not such an address.
    """
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535 or (":" in host and not host.startswith("[")):
        raise UsageError(f"--web.listen-address {text} is not an address.", "Use host:port, such as 127.0.0.1:9400.")
    return host.strip("[]") or "0.0.0.0", int(port)  # noqa: S104 - only where the user omits the host


if __name__ == "__main__":
    sys.exit(main())
