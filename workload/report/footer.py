"""What a copied picture must still say: which run, engine, model and options it shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workload.settings import AgentOptions, Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workload.record.results import Measured

UNITS = {"retrieval_delay": " s", "context_budget": " tokens"}


def footer(run_id: str, settings: Settings, measured: Sequence[Measured], label: str = "") -> str:
    """Return a recording's label, then the run, the engine, its model, the options, the windows, and any replay."""
    engine = measured[0].engine
    windows = [part.window.end - part.window.start for part in measured]
    seconds = " and ".join(f"{length:.0f} s" for length in windows)
    if len(windows) > 2:
        seconds = f"{sum(windows):.0f} s in {len(windows)} windows"
    sent = sum(part.accounting["sent"] for part in measured)
    random = "; RANDOM WEIGHTS" if engine.get("has_random_weights") else ""
    replayed = settings.load.replay
    replay = f"\nREPLAY of {replayed}: the timing is real, the texts are recorded" if replayed else ""
    head = f"{label}\n" if label else ""
    return (
        f"{head}run {run_id}; vLLM {engine['version']}; {engine['model']}{random}; block size {engine['block_size']}; "
        f"{options_in_words(settings)}; measured for {seconds}; {sent} questions sent{replay}"
    )


def options_in_words(settings: Settings) -> str:
    """Return the app, or the layout and the agent's options that differ from their defaults; and the arms, in words."""
    if settings.app.app:
        own = [f"{name.replace('_', ' ')} {value}" for name, value in settings.agent.app_option.items()]
        return ", ".join([f"app {settings.app.app}", *own]) + _arms(settings)
    default = {name: field.default for name, field in AgentOptions.model_fields.items()}
    words = [
        name if value is True else f"{name.replace('_', ' ')} {value}{UNITS.get(name, '')}"
        for name, value in settings.agent
        if name == "layout" or (name not in {"k", "max_hops", "app_option"} and value != default[name])
    ]
    return ", ".join(words) + _arms(settings)


def _arms(settings: Settings) -> str:
    return f"; arms {' | '.join(settings.load.arms)}" if settings.load.arms else ""
