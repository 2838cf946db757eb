"""Set the reuse bound beside what vLLM's prefix cache served, call by call, for each layout and concurrency.

Usage: python benchmarks/theory.py [--layouts original,append-only] [--concurrency 1,4] [--limit 8] [--max-hops 2]
       python benchmarks/theory.py --vllm-endpoint http://127.0.0.1:8000 --replay RUN --results results

One engine serves all conditions: the packaged CPU engine, or one that runs already. A cache salt keeps them apart. With
--replay the words and answer lengths are those of a run recorded with --record-prompts, so that a model with random
weights can be driven; prompts, prefill and cache are real. Nothing may be evicted: the pool must hold what one
condition leaves behind.

At concurrency 1 every call must hit exactly what theory says. Above it the order in which calls reach the engine is not
the order in which they were sent, so at least 99 % of the calls must, and the hit rates may lie 0.1 points apart. In
each condition the engine's counters must equal the responses' `cached_tokens`. Exit code 1 if a bar is missed.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from condition import Bench
from machine import describe

from workload.analysis.cache import hit_rates
from workload.analysis.cache_inferred import settle
from workload.commands.options import progress_bars
from workload.corpus.default import open_corpus
from workload.corpus.embedding import MiniLmEmbedder
from workload.corpus.hotpotqa import draw
from workload.engine.profile import PROFILES
from workload.errors import Hop2RagError
from workload.harness.backends import launcher_of
from workload.harness.run import script_of
from workload.record.bundle import new_run_id
from workload.record.journal import Journal
from workload.record.results import read_run
from workload.services.process import free_port
from workload.settings import load_settings

if TYPE_CHECKING:
    from rich.progress import Progress

EQUAL_BAR = 0.99
POINTS_BAR = 0.1
LAYOUTS = ("original", "instructions-first", "append-only")


def measure(flags: argparse.Namespace, progress: Progress, folder: Path) -> list[dict[str, Any]]:
    """Return what the witnesses say in each condition.

    Raises:
        Hop2RagError: a part is missing, or the engine does not hold the arm or stopped answering.
    """
    common = {name: getattr(flags, name) for name in ("limit", "max_hops", "k", "replay", "results", "seed")}
    common |= {"questions": flags.questions, "persist_dir": flags.persist_dir, "collection": flags.collection}
    common |= {"vllm_endpoint": flags.vllm_endpoint, "engine_port": free_port()}
    settings = load_settings(common)
    script = script_of(settings.load.replay, settings.places.results)
    embedder = MiniLmEmbedder()
    corpus = open_corpus(settings.corpus, settings.places.chroma_url, embedder, progress)
    embedder.load()
    known = [question for question in corpus.questions if script is None or question.id in script]
    run = new_run_id("theory", datetime.now(UTC))
    rows = []
    launcher = launcher_of(settings.engine, settings.places, progress.console)
    with (
        Journal(folder / "journal.sqlite", {"benchmark": "theory"}) as journal,
        launcher.start(PROFILES["prefix-on"]) as engine,
    ):
        bench = Bench(run, draw(known, flags.limit, flags.seed), corpus.store, embedder, journal, script, progress)
        facts = engine.facts
        for layout in flags.layouts.split(","):
            for concurrency in flags.concurrency.split(","):
                here = load_settings({**common, "layout": layout, "concurrency": (concurrency,)})
                done = bench.measure(engine, here, f"{layout}-c{concurrency}")
                rows.append({"layout": layout, "concurrency": here.load.concurrency[0], "measured": done})
    for row in rows:
        measured = row.pop("measured")
        data = settle(read_run(journal.path, [measured]))
        row |= {"engine": facts.as_dict(), "accounting": measured.accounting, **hit_rates(data, measured.window.arm)}
        row["missed"] = missed(row)
    return rows


def missed(row: dict[str, Any]) -> list[str]:
    """Return the bars that a condition misses, in words."""
    points, equal, calls = apart(row), row["calls_equal_to_bound"], row["calls"]
    found = []
    if row["accounting"]["ok"] != row["accounting"]["scheduled"]:
        found.append(f"{row['accounting']['ok']} of {row['accounting']['scheduled']} questions answered")
    if not row["agree_to_the_token"]:
        found.append("counters and responses differ")
    if equal is None or not calls or points is None:
        found.append("not reported by the server")
    elif row["concurrency"] == 1:
        found += [f"{calls - equal} calls differ"] if equal < calls else []
    else:
        found += [f"{calls - equal} calls differ"] if equal / calls < EQUAL_BAR else []
        found += [f"{points:.2f} points apart"] if points > POINTS_BAR else []
    return found


def apart(row: dict[str, Any]) -> float | None:
    """Return how many points the bound and what the responses tell lie apart."""
    bound, told = row["bound"]["hit_rate"], row["responses"]["hit_rate"]
    return None if bound is None or told is None else 100 * abs(bound - told)


def show(rows: list[dict[str, Any]]) -> None:
    """Print the table and every call that differs."""
    print(
        f"{'layout':<19}{'at a time':>9}{'calls':>7}{'prompt tokens':>15}{'bound':>9}{'responses':>11}{'counters':>10}"
        f"{'apart':>9}{'equal calls':>13}  bar"
    )
    for row in rows:
        rates = (row[name]["hit_rate"] for name in ("bound", "responses", "counters"))
        bound, responses, counters = ("-" if rate is None else f"{rate:.2%}" for rate in rates)
        points = apart(row)
        print(
            f"{row['layout']:<19}{row['concurrency']:>9}{row['calls']:>7}{row['prompt_tokens'] or 0:>15,}{bound:>9}"
            f"{responses:>11}{counters:>10}{'-' if points is None else f'{points:.3f} pt':>9}"
            f"{row['calls_equal_to_bound'] or 0:>6} of {row['calls']:<3}  {'; '.join(row['missed']) or 'held'}"
        )
    for row in rows:
        for call in row["differences"]:
            print(
                f"{row['layout']} at {row['concurrency']}: question {call['question_id']}, {call['node']} of hop "
                f"{call['hop']}: {call['cached_tokens']} of {call['prompt_tokens']} tokens cached, bound "
                f"{call['reusable_tokens']} ({call['cause']})"
            )
    both = [sum(row[name] or 0 for row in rows) for name in ("calls_equal_to_bound", "calls")]
    print(f"\n{both[0]} of {both[1]} calls equal in {len(rows)} conditions.")


def main() -> int:
    """Parse the arguments and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--vllm-endpoint", help="a vLLM that runs with prefix caching (default: the packaged engine)")
    parser.add_argument("--layouts", default=",".join(LAYOUTS))
    parser.add_argument("--concurrency", default="1,4", help="questions at a time, one condition each")
    parser.add_argument("--limit", type=int, default=8, help="questions in each condition")
    parser.add_argument("--max-hops", type=int, default=2)
    parser.add_argument("--k", type=int, default=10, help="documents retrieved a hop")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--replay", help="a run recorded with --record-prompts, under --results")
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--questions", type=Path, help="questions in HotpotQA's JSON format (default: synthetic)")
    parser.add_argument("--persist-dir", type=Path, help="Chroma store of their passages")
    parser.add_argument("--collection")
    parser.add_argument("--json", type=Path, help="also write everything here")
    flags = parser.parse_args()
    machine = describe("langgraph", "openai")
    try:
        with tempfile.TemporaryDirectory() as folder, progress_bars() as progress:
            rows = measure(flags, progress, Path(folder))
    except Hop2RagError as error:
        print(f"Error: {error}", file=sys.stderr)
        return error.exit_code
    engine = rows[0]["engine"]
    print(machine)
    print(
        f"vLLM {engine['version']}, {engine['model']}, {engine['num_gpu_blocks']} blocks of {engine['block_size']}"
        f" tokens; {flags.limit} questions of at most {flags.max_hops} hops, {flags.k} documents a hop"
    )
    print(f"REPLAY of {flags.replay}: words and answer lengths are recorded\n" if flags.replay else "")
    show(rows)
    if flags.json:
        flags.json.write_text(json.dumps(rows, indent=2) + "\n")
    return int(any(row["missed"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
