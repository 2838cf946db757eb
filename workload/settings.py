"""The settings of a run, from flags and environment: frozen, and checked before anything starts."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator

from workload.engine.endpoint import check_url, parse_endpoint
from workload.engine.key import FILE_VARIABLE
from workload.engine.settings import AppSettings, EngineSettings, Pairs, Part
from workload.errors import UsageError
from workload.paths import NAME_PATTERN
from workload.services.prometheus_server import RETENTION_SIZE, SIZE_PATTERN
from workload.services.targets import ADDRESS_PATTERN
from workload.statistics.slo import Slo

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_CONCURRENCY = 1024
DraftSource = Literal["off", "question", "last-clue", "missing-fact", "planted"]
"""Where drafts of queries come from. All but `off` draft the first query from the question; `planted` takes the later
ones from the replayed run and makes a given share of them right, to measure prefetch apart from the drafts' quality."""
Execution = Literal["threads", "blocking", "batched"]
Selection = Literal["all", "truncate", "importance", "progressive"]
Layout = Literal["original", "instructions-first", "append-only"]

# The setting that each variable gives. Of two variables for one setting the later wins; a flag wins over both.
ENVIRONMENT = {
    "AGRAG_PERSIST_DIR": "persist_dir",
    "AGRAG_COLLECTION_NAME": "collection",
    "HOP2RAG_QUESTIONS": "questions",
    "HOP2RAG_RESULTS": "results",
    "HOP2RAG_PROMETHEUS_PORT": "prometheus_port",
    "HOP2RAG_PROMETHEUS_RETENTION_SIZE": "prometheus_retention_size",
    "HOP2RAG_ENGINE_PORT": "engine_port",
    "HOP2RAG_VLLM_ENDPOINT": "vllm_endpoint",
    "HOP2RAG_SERVED_MODEL": "served_model",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "otlp_endpoint",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "otlp_endpoint",
    "HOP2RAG_CHROMA_URL": "chroma_url",
    "HOP2RAG_PROMETHEUS_URL": "prometheus_url",
    "HOP2RAG_TARGETS": "targets",
    "HOP2RAG_ALERTMANAGER_URL": "alertmanager_url",
    "HOP2RAG_EXPORTER": "exporter",
    "HOP2RAG_GPU_SAMPLES": "gpu_samples",
    "HOP2RAG_LISTEN": "listen",
    "HOP2RAG_ARM_PATIENCE": "arm_patience",
    "HOP2RAG_ENGINE_COMMAND": "engine_command",
    "HOP2RAG_TOKENIZER": "tokenizer",
}
# Read elsewhere, when they are needed: workload/paths.py, services/prometheus_binary.py, engine/key.py.
OTHER_VARIABLES = {"HOP2RAG_CACHE", "HOP2RAG_PROMETHEUS", "HOP2RAG_RUNBOOK_BASE", FILE_VARIABLE}

Endpoint = Annotated[str, AfterValidator(parse_endpoint)]
ChromaUrl = Annotated[str, AfterValidator(partial(check_url, given_by="HOP2RAG_CHROMA_URL"))]
PrometheusUrl = Annotated[str, AfterValidator(partial(check_url, given_by="HOP2RAG_PROMETHEUS_URL"))]
AlertmanagerUrl = Annotated[str, AfterValidator(partial(check_url, given_by="HOP2RAG_ALERTMANAGER_URL"))]
CollectorUrl = Annotated[str, AfterValidator(partial(check_url, given_by="--otlp-endpoint"))]

# A list with commas, as it is typed, or one number.
Listed = BeforeValidator(lambda it: it.split(",") if isinstance(it, str) else (it,) if isinstance(it, int) else it)


class LoadSettings(Part):
    """The load that a run puts on the agent, and how it is measured. A run that is resumed keeps all of it.

    Times in seconds unless the name says otherwise.

    Attributes:
        limit: questions per arm.
        rate: questions per second of the open loops.
        rounds: the fewest questions per worker of a concurrency level; None for no lower bound.
        contexts: prompt lengths of the context-growth sweep, in tokens.
        interleave: questions per block, after which the next arm's block begins; None for one block per arm and round.
        replay: the recorded run whose replies are replayed.
        from_run: the run whose recorded prompts kv-cache reads.
        request_timeout: the limit of one LLM call.
        engine_patience: how long the engine may be silent before the run ends.
        arms: as typed, see `workload.experiments.arms`.
    """

    limit: int = Field(ge=1, le=100_000)
    concurrency: Annotated[tuple[Annotated[int, Field(ge=1, le=MAX_CONCURRENCY)], ...], Listed] = Field(
        default=(1,), min_length=1
    )
    rate: Annotated[tuple[Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)], ...], Listed] = ()
    rounds: int | None = Field(default=None, ge=1, le=1000)
    contexts: Annotated[tuple[Annotated[int, Field(ge=64, le=1_000_000)], ...], Listed] = ()
    order: Literal["AB", "ABBA"] = "ABBA"
    interleave: int | None = Field(default=None, ge=1)
    record_prompts: bool = False
    replay: str | None = Field(default=None, pattern=NAME_PATTERN)
    from_run: str | None = Field(default=None, pattern=NAME_PATTERN)
    seed: int = Field(default=0, ge=0, lt=2**63)
    vllm_interval_ms: int = Field(default=100, ge=50, le=10_000)
    gpu_interval_ms: int = Field(default=10, ge=5, le=1000)
    request_timeout: float = Field(default=120.0, gt=0, le=3600, allow_inf_nan=False)
    engine_patience: float = Field(default=60.0, gt=0, le=3600, allow_inf_nan=False)
    arms: tuple[str, ...] = ()


class AgentOptions(Part):
    """How the agent answers a question. An arm may set each of these differently from its run."""

    layout: Layout = "original"
    k: int = Field(ge=1, le=100)
    max_hops: int = Field(ge=1, le=10)
    primed: bool = False
    retrieval: Execution = "threads"
    retrieval_delay: float = Field(default=0.0, ge=0, le=60, allow_inf_nan=False)
    prefetch: DraftSource = "off"
    draft_accuracy: float = Field(default=0.5, ge=0, le=1, allow_inf_nan=False)
    sleeping: bool = False
    context: Selection = "all"
    context_budget: int = Field(default=512, ge=32, le=1_000_000)
    app_option: Pairs = Field(default_factory=dict)


class CorpusSettings(Part):
    """The files that are asked and searched. A run that is resumed takes them from its own command line.

    Attributes:
        prompts: a file of prompts for kv-cache, in place of a corpus.
    """

    persist_dir: Path | None = None
    collection: str | None = Field(default=None, pattern=NAME_PATTERN)
    questions: Path | None = None
    prompts: Path | None = None


class Places(Part):
    """Where services and results are: all that may differ when a run is resumed, because it changes no measurement.

    A run starts the services that are not named here. docker-compose.yml names all of them.

    Attributes:
        vllm_endpoint: a running engine. With `arm_patience`, a run waits up to that many seconds for an engine that
            matches the arm's profile, and shows `engine_command` with the profile's name for `{profile}`.
        replicas: the servers behind `vllm_endpoint`, if it is a front that does not name them.
        chroma_url: a Chroma server that has the collection.
        prometheus_url: a Prometheus that reads the `file_sd` files in the folder `targets`, and sends its alerts to
            `alertmanager_url`.
        exporter: a running exporter, as "host:port"; `gpu_samples` is the folder of its raw log.
        listen: "host:port" at which the agent's metrics are served. With 0.0.0.0 or [::], for a Prometheus on another
            host, the targets name this machine.
        figures, slo: whether figures are drawn; what a good question meets, in seconds by objective.
    """

    prometheus_port: int = Field(default=9090, ge=1, le=65_535)
    prometheus_retention_size: str = Field(default=RETENTION_SIZE, pattern=SIZE_PATTERN)
    engine_port: int = Field(default=8000, ge=1, le=65_535)
    launcher: Literal["docker"] | None = None
    vllm_endpoint: Endpoint | None = None
    replicas: Annotated[tuple[Endpoint, ...], Listed] = ()
    arm_patience: float = Field(default=0.0, ge=0, le=86_400, allow_inf_nan=False)
    engine_command: str | None = None
    chroma_url: ChromaUrl | None = None
    prometheus_url: PrometheusUrl | None = None
    targets: Path | None = None
    alertmanager_url: AlertmanagerUrl | None = None
    exporter: str | None = Field(default=None, pattern=ADDRESS_PATTERN)
    gpu_samples: Path | None = None
    listen: str = Field(default="127.0.0.1:0", pattern=ADDRESS_PATTERN)
    otlp_endpoint: CollectorUrl | None = None
    results: Path = Path("results")
    figures: bool = True
    slo: Slo = Field(default_factory=dict)


PARTS: dict[str, type[Part]] = {
    "load": LoadSettings,
    "agent": AgentOptions,
    "engine": EngineSettings,
    "corpus": CorpusSettings,
    "app": AppSettings,
    "places": Places,
}
NAMED_AGAIN = ("engine", "corpus", "app")
"""The parts with programs and files, which a resumed run takes from its own command line only."""
MEASURED = ("load", "agent", *NAMED_AGAIN)
"""The parts that decide what is measured: they stay the same when a run is resumed."""
PART_OF = {name: part for part, model in PARTS.items() for name in model.model_fields}
"""The part of each setting. No two parts share a name, so flags, variables and manifests name settings flat."""


class Settings(Part):
    """What a run is asked to do, in parts; a function takes the part that it uses."""

    load: LoadSettings
    agent: AgentOptions
    engine: EngineSettings = EngineSettings()
    corpus: CorpusSettings = CorpusSettings()
    app: AppSettings = AppSettings()
    places: Places = Places()

    @classmethod
    def of(cls, flat: Mapping[str, Any]) -> Settings:
        """Return settings from their flat form.

        Raises:
            ValidationError: a name is unknown or a value not allowed.
        """
        parts = {part: {name: flat[name] for name in PARTS[part].model_fields if name in flat} for part in PARTS}
        return cls.model_validate({name: value for name, value in flat.items() if name not in PART_OF} | parts)

    def flat(self, *parts: str) -> dict[str, Any]:
        """Return the settings of some parts, by default of all, by name, as manifests and journals have them."""
        kept = (getattr(self, part).model_dump(mode="json") for part in parts or PARTS)
        return {name: value for part in kept for name, value in part.items()}

    def changed(self, **values: Any) -> Settings:
        """Return the settings with some values changed, checked again."""
        return Settings.of({**self.flat(), **values})

    @model_validator(mode="after")
    def _parts_fit(self) -> Settings:
        engine, corpus, places = self.engine, self.corpus, self.places
        if (engine.engine_python is None) != (engine.model is None):
            raise ValueError("an engine of your own needs both --engine-python and --model")
        if places.vllm_endpoint and (engine.engine_python or engine.engine_args):
            raise ValueError("--vllm-endpoint names a running engine; leave out what would start another one")
        if engine.served_model and not (places.vllm_endpoint or places.launcher):
            raise ValueError("--served-model chooses a model of a running engine; name it with --vllm-endpoint")
        if corpus.collection and not (corpus.persist_dir or places.chroma_url):
            raise ValueError("--collection names a part of a store; name the store with --persist-dir")
        if corpus.persist_dir and places.chroma_url:
            raise ValueError("HOP2RAG_CHROMA_URL and --persist-dir name two stores; leave one out")
        self._app_fits()
        if (places.prometheus_url is None) != (places.targets is None):
            raise ValueError("a running Prometheus needs both HOP2RAG_PROMETHEUS_URL and HOP2RAG_TARGETS")
        if places.alertmanager_url and not places.prometheus_url:
            raise ValueError("HOP2RAG_ALERTMANAGER_URL needs its Prometheus too: HOP2RAG_PROMETHEUS_URL")
        for name, running in (("vllm_interval_ms", places.prometheus_url), ("gpu_interval_ms", places.exporter)):
            if running and getattr(self.load, name) != LoadSettings.model_fields[name].default:
                raise ValueError(f"--sample-interval is for services that a run starts; {running} keeps its own")
        return self

    def _app_fits(self) -> None:
        if (self.app.app is None) != (self.app.inputs is None):
            raise ValueError("--app needs --inputs, the file of what it is asked, and --inputs needs --app")
        if self.app.app is None:
            if self.agent.app_option:
                raise ValueError("--app-option is an option of the app that --app names")
            return
        ours = AgentOptions(k=self.agent.k, max_hops=self.agent.max_hops, app_option=self.agent.app_option)
        if self.agent != ours or self.load.replay:
            raise ValueError("an app has options of its own (--app-option), not our agent's, and replays nothing")
        if self.corpus != CorpusSettings():
            raise ValueError("an app searches its own documents; leave out --questions, --persist-dir and --prompts")


def load_settings(flags: Mapping[str, Any], environ: Mapping[str, str] = os.environ) -> Settings:
    """Return the settings: flags that were given, then the environment, then defaults.

    Raises:
        UsageError: a value is out of range or a variable is unknown; the message names it and what is allowed.
    """
    known = ENVIRONMENT.keys() | OTHER_VARIABLES
    if unknown := sorted(name for name in environ if name.startswith("HOP2RAG_") and name not in known):
        raise UsageError(f"Unknown environment variable {unknown[0]}.", f"Known are {', '.join(sorted(known))}.")
    given = {setting: environ[name] for name, setting in ENVIRONMENT.items() if environ.get(name)}
    given |= {name: value for name, value in flags.items() if value is not None}
    return _checked(given)


def with_options(settings: Settings, options: Mapping[str, Any]) -> Settings:
    """Return the settings with some of the agent's options changed.

    Raises:
        UsageError: an option is unknown, or its value is not allowed.
    """
    known = AgentOptions.model_fields
    if unknown := sorted(options.keys() - known.keys()):
        raise UsageError(f"The agent has no option {unknown[0]!r}.", f"Its options are {', '.join(known)}.")
    own = {"app_option": {**settings.agent.app_option, **options.get("app_option", {})}}
    found = _checked({**settings.flat(), **options, **own}) if options else settings
    if found.agent.prefetch == "planted" and found.load.replay is None:
        raise UsageError("Planted drafts come from a recorded run.", "Name the run with --replay.")
    if found.agent.sleeping and found.load.concurrency != (1,):
        raise UsageError("A sleeping engine aborts the other questions in flight.", "Use --concurrency 1.")
    return found


def _checked(flat: Mapping[str, Any]) -> Settings:
    try:
        return Settings.of(flat)
    except ValidationError as error:
        first = error.errors()[0]
        why = first["msg"].removeprefix("Value error, ")
        name = ".".join(str(at) for at in first["loc"] if at not in PARTS)
        text = f"--{name.replace('_', '-')} = {first['input']!r} is not allowed: {why.lower()}." if name else f"{why}."
        raise UsageError(text, "See --help.") from error
