"""Write the H200 traces of tests/fixtures/h200 as a recording for `hop2rag demo`: real GPU data, without an agent.

Usage: python traces.py OUT_DIR

Device memory keeps every sample; what the exporter serves once a second is thinned to that.
"""

from __future__ import annotations

import csv
import json
import lzma
import sys
from collections import defaultdict
from pathlib import Path

TRACES = Path(__file__).parents[2] / "tests" / "fixtures" / "h200"
ARMS = {"prefix-off": "prefix_caching_off", "prefix-on": "prefix_caching_on"}
RUN = "h200-traces"
MEMORY = "mem_used_bytes", "nvml_timeline_memory_used_bytes", 1.0
ONCE_A_SECOND = (
    ("sm_util_pct", "nvml_utilization_ratio", 0.01),
    ("mem_util_pct", "nvml_memory_utilization_ratio", 0.01),
    ("power_mw", "nvml_power_watts", 0.001),
    ("sm_mhz", "nvml_sm_clock_hertz", 1e6),
    ("temp_c", "nvml_temperature_celsius", 1.0),
)
ORIGIN = "vLLM 0.22.1, the shape of Qwen2.5-7B with random weights; memory every 10 ms, utilisation every second"
Series = dict[tuple[str, str], list[tuple[float, float]]]


def read(arm: str, folder: Path, series: Series) -> None:
    """Add an arm's samples by metric and labels, in order of time."""

    def labels(job: str, *more: str) -> str:
        return ",".join((f'arm="{arm}",experiment="traces",instance="h200",job="{job}",run="{RUN}"', *more))

    timeline, scraped = labels("exporter-timeline", 'gpu="0"'), labels("exporter", 'gpu="0"')
    last = 0
    for row in csv.DictReader((folder / "nvml_10ms.csv").read_text().splitlines()):
        at = float(row["ts_ms"]) / 1000
        column, metric, unit = MEMORY
        series[metric, timeline].append((at, float(row[column]) * unit))
        if int(at) > last:
            last = int(at)
            for column, metric, unit in ONCE_A_SECOND:
                if row[column]:
                    series[metric, scraped].append((at, float(row[column]) * unit))
    for row in csv.DictReader((folder / "vllm_100ms.csv").read_text().splitlines()):
        at = float(row.pop("ts_ms")) / 1000
        for name, value in row.items():
            series[f"vllm:{name}", labels("vllm-fast")].append((at, float(value)))


def window(arm: str, series: Series) -> dict[str, str | int | float]:
    """Return the time in which an arm was recorded, as a manifest holds it."""
    times = [at for (_, labels), samples in series.items() if f'arm="{arm}"' in labels for at, _ in samples]
    return {"arm": arm, "block": 0, "point": "load", "segment": 0, "start": min(times), "end": max(times)}


def main() -> None:
    """Write the series and the manifest."""
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    series: Series = defaultdict(list)
    for arm, folder in ARMS.items():
        read(arm, TRACES / folder, series)
    with lzma.open(out / "series.om.xz", "wt") as stream:
        for (metric, labels), samples in sorted(series.items()):
            stream.writelines(f"{metric}{{{labels}}} {value:.12g} {at:.3f}\n" for at, value in samples)
        stream.write("# EOF\n")
    times = [at for samples in series.values() for at, _ in samples]
    manifest = {
        "label": "recorded on one NVIDIA H200: traces of a load, without an agent",
        "start": min(times),
        "end": max(times),
        "host": {"gpus": ["NVIDIA H200"]},
        "runs": {},
        "traces": {"run": RUN, "origin": ORIGIN, "windows": [window(arm, series) for arm in ARMS]},
    }
    (out / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")


if __name__ == "__main__":
    main()
