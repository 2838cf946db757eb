"""Set the model of eviction beside a real vLLM whose KV pool is too small for the load.

Usage: python benchmarks/eviction.py [--pools 89,97,105] [--concurrency 4] [--limit 4] [--max-hops 2]

The packaged CPU engine is started once for each pool size (`--num-gpu-blocks-override`) and asked the same questions.
Their calls are then replayed, in token ids, against a pool of that size: least recently used blocks go first, of a call
its tail (see `workload.theory.eviction`). Beside the share of prompt tokens that the engine served from its cache stand
the model's, and the bound that evicts nothing. The model must be within 3 points of the engine at each size, and a size
at which engine and bound are as close as that has shown nothing. Exit code 1 if a bar is missed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from condition import Bench
from machine import describe

from workload.commands.options import progress_bars
from workload.corpus.default import open_corpus
from workload.corpus.embedding import MiniLmEmbedder
from workload.corpus.hotpotqa import draw
from workload.engine.profile import PROFILES
from workload.errors import Hop2RagError
from workload.harness.backends import launcher_of
from workload.kv_cache.recorded import read_calls
from workload.kv_cache.reuse_bounds import in_pool
from workload.promql.concurrency import PREEMPTIONS
from workload.promql.vllm_metrics import HITS, QUERIES
from workload.record.bundle import new_run_id
from workload.record.journal import Journal
from workload.services.process import free_port
from workload.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rich.progress import Progress

    from workload.kv_cache.source import SentCall
    from workload.record.results import Measured

POINTS_BAR = 3.0
# The engine refuses a pool that cannot hold one prompt of full length; the agent's own are far shorter.
MAX_MODEL_LEN = 2048


def measure(flags: argparse.Namespace, progress: Progress, folder: Path) -> Iterator[dict[str, Any]]:
    """Yield, for each pool size, the shares by engine, model and bound, as soon as they are known.

    Raises:
        Hop2RagError: a part is missing, or an engine did not start or stopped answering.
    """
    given = {name: getattr(flags, name) for name in ("limit", "max_hops", "k", "layout", "seed")}
    given |= {"concurrency": (flags.concurrency,), "record_prompts": True, "engine_port": free_port()}
    settings = load_settings(given)
    embedder = MiniLmEmbedder()
    corpus = open_corpus(settings.corpus, settings.places.chroma_url, embedder, progress)
    embedder.load()
    run = new_run_id("eviction", datetime.now(UTC))
    questions = draw(corpus.questions, flags.limit, flags.seed)
    with Journal(folder / "journal.sqlite", {"benchmark": "eviction"}) as journal:
        bench = Bench(run, questions, corpus.store, embedder, journal, None, progress)
        for blocks in map(int, flags.pools.split(",")):
            name = f"pool-{blocks}"
            profile = replace(PROFILES["prefix-on"], name=name, max_model_len=MAX_MODEL_LEN, num_gpu_blocks=blocks)
            with launcher_of(settings.engine, settings.places, progress.console).start(profile) as engine:
                measured = bench.measure(engine, settings, name)
            yield compared(read_calls(journal.path)[name], measured)


def compared(calls: Sequence[SentCall], measured: Measured) -> dict[str, Any]:
    """Return what engine, model and bound say of the calls of one pool size."""
    engine, counted = measured.engine, measured.counters
    size, blocks = engine["block_size"], engine["num_gpu_blocks"]
    model, evicted = in_pool(calls, size, blocks)
    bound, _ = in_pool(calls, size, None)
    hits, queries = counted[HITS], counted[QUERIES]
    share = hits / queries if hits is not None and queries else None
    found = {"blocks": blocks, "calls": len(calls), "engine": share, "model": model, "bound": bound}
    found |= {"evicted": evicted, "preemptions": counted[PREEMPTIONS], "facts": engine}
    return {**found, "missed": missed(found, measured.accounting)}


def missed(row: dict[str, Any], accounting: Mapping[str, Any]) -> list[str]:
    """Return the bars that a pool size misses, in words."""
    if accounting["ok"] != accounting["scheduled"]:
        return [f"{accounting['ok']} of {accounting['scheduled']} questions answered"]
    if row["engine"] is None or row["model"] is None:
        return ["not reported by the server"]
    found = []
    if (points := 100 * abs(row["engine"] - row["model"])) > POINTS_BAR:
        found.append(f"model {points:.1f} points off")
    if 100 * (row["bound"] - row["engine"]) <= POINTS_BAR:
        found.append("hardly anything was evicted: a smaller pool is needed")
    return found


def show_head(flags: argparse.Namespace, engine: dict[str, Any]) -> None:
    """Print what was measured, and the table's head."""
    print(
        f"vLLM {engine['version']}, {engine['model']}, blocks of {engine['block_size']} tokens; "
        f"{flags.limit} questions of at most {flags.max_hops} hops, {flags.concurrency} at a time, {flags.layout}\n"
    )
    print(
        f"{'pool blocks':>11}{'calls':>7}{'bound, no eviction':>20}{'engine':>9}{'model':>9}{'apart':>10}"
        f"{'evicted (model)':>17}{'preemptions':>13}  bar"
    )


def show(row: dict[str, Any]) -> None:
    """Print a row of the table."""
    bound, engine, model = ("-" if row[name] is None else f"{row[name]:.2%}" for name in ("bound", "engine", "model"))
    is_told = row["engine"] is not None and row["model"] is not None
    apart = f"{100 * (row['model'] - row['engine']):+.2f} pt" if is_told else "-"
    preempted = "-" if row["preemptions"] is None else f"{row['preemptions']:.0f}"
    print(
        f"{row['blocks']:>11}{row['calls']:>7}{bound:>20}{engine:>9}{model:>9}{apart:>10}{row['evicted']:>17,}"
        f"{preempted:>13}  {'; '.join(row['missed']) or 'held'}"
    )


def main() -> int:
    """Parse the arguments and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--pools", default="89,97,105", help="blocks of the KV pool, one engine start each")
    parser.add_argument("--concurrency", type=int, default=4, help="questions at a time")
    parser.add_argument("--layout", default="append-only")
    parser.add_argument("--limit", type=int, default=4, help="questions asked at each size")
    parser.add_argument("--max-hops", type=int, default=2)
    parser.add_argument("--k", type=int, default=10, help="documents retrieved a hop")
    parser.add_argument("--seed", type=int, default=0)
    flags = parser.parse_args()
    print(describe("langgraph", "openai"))
    missed_any = False
    try:
        with tempfile.TemporaryDirectory() as folder, progress_bars() as progress:
            for number, row in enumerate(measure(flags, progress, Path(folder))):
                if not number:
                    show_head(flags, row["facts"])
                show(row)
                missed_any |= bool(row["missed"])
    except Hop2RagError as error:
        print(f"Error: {error}", file=sys.stderr)
        return error.exit_code
    return int(missed_any)


if __name__ == "__main__":
    sys.exit(main())
