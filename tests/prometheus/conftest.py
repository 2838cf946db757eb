"""promtool, found like the project finds it, and a short way to a rule test."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from workload.paths import asset, cache_dir
from workload.services.prometheus_binary import find_prometheus

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from workload.services.prometheus_binary import PrometheusBinary

    Promtool = Callable[..., str]
    RuleTest = Callable[[Mapping[str, str], Mapping[str, Mapping[str, float]]], None]


@pytest.fixture(scope="session")
def promtool(prometheus: PrometheusBinary) -> Promtool:
    """Return a function that runs promtool and returns what it printed, failing the test when promtool fails."""
    return running(prometheus)


@pytest.fixture(scope="session")
def found_promtool() -> Promtool:
    """Return the same for the Prometheus that the project finds alone: for tests of what no version does otherwise."""
    return running(find_prometheus(cache_dir()))


# It allocates much and lives for a second: garbage that is collected less often saves a fifth of its CPU time.
RARE_COLLECTION = {"GOGC": "400"}


def running(prometheus: PrometheusBinary) -> Promtool:
    """Return a function that runs the promtool of a Prometheus."""

    def run(*arguments: str | Path) -> str:
        done = subprocess.run(
            [prometheus.promtool, *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=110,
            env=os.environ | RARE_COLLECTION,
        )
        printed = done.stdout + done.stderr
        assert done.returncode == 0, printed
        return printed

    return run


@pytest.fixture
def rule_test(promtool: Promtool, tmp_path: Path) -> RuleTest:
    """Return a function that feeds series (name -> values, one a second) to the rules and compares at 70 s.

    What is expected is `recorded name -> {series: value in thousandths}`, {} for no data. Values are rounded to
    thousandths first: promtool compares bit by bit, and the last bits of a rate differ between its versions.
    """

    def run(series: Mapping[str, str], expected: Mapping[str, Mapping[str, float]]) -> None:
        test: dict[str, Any] = {
            "interval": "1s",
            "input_series": [{"series": name, "values": values} for name, values in series.items()],
            "promql_expr_test": [
                {
                    "expr": f"round(1000 * {record})",
                    "eval_time": "70s",
                    "exp_samples": [{"labels": labels, "value": value} for labels, value in samples.items()],
                }
                for record, samples in expected.items()
            ],
        }
        file = tmp_path / "test.yml"
        rules = [str(path) for path in sorted(asset("prometheus/rules").glob("*.yml"))]
        file.write_text(json.dumps({"rule_files": rules, "evaluation_interval": "10s", "tests": [test]}))
        promtool("test", "rules", file)

    return run
