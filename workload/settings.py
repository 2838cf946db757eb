"""Settings of a run, from flags and environment; frozen, checked before anything starts, an unknown key is an error."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from workload.engine.endpoint import check_url, parse_endpoint
from workload.engine.key import FILE_VARIABLE, refuse_secrets
from workload.errors import UsageError
from workload.paths import NAME_PATTERN
from workload.services.prometheus_server import RETENTION_SIZE
from workload.services.targets import ADDRESS_PATTERN

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_CONCURRENCY = 1024
DraftSource = Literal["off", "question", "last-clue", "missing-fact", "planted"]
"""Where a draft comes from. All but `off` draft the first query from the question; `planted` takes the later ones from
the record that is replayed, right as often as asked, to measure prefetch apart from the drafts' quality."""
Execution = Literal["threads", "blocking", "batched"]
Selection = Literal["all", "truncate", "importance", "progressive"]
Layout = Literal["original", "instructions-first", "append-only"]


# Every variable that has a meaning, and the setting it gives; the last wins, and flags win over the environment.
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
    "HOP2RAG_EXPORTER": "exporter",
    "HOP2RAG_GPU_SAMPLES": "gpu_samples",
    "HOP2RAG_LISTEN": "listen",
    "HOP2RAG_ARM_PATIENCE": "arm_patience",
    "HOP2RAG_ENGINE_COMMAND": "engine_command",
    "HOP2RAG_TOKENIZER": "tokenizer",
}
# Read elsewhere, at the moment they are needed; see workload/paths.py, prometheus_binary.py and engine/key.py.
OTHER_VARIABLES = {"HOP2RAG_CACHE", "HOP2RAG_PROMETHEUS", "HOP2RAG_RUNBOOK_BASE", FILE_VARIABLE}
PREFIX = "HOP2RAG_"


SIZE_PATTERN = r"^[1-9]\d{0,5}(MB|GB|TB)$"

Endpoint = Annotated[str, AfterValidator(parse_endpoint)]
ChromaUrl = Annotated[str, AfterValidator(partial(check_url, given_by="HOP2RAG_CHROMA_URL"))]
PrometheusUrl = Annotated[str, AfterValidator(partial(check_url, given_by="HOP2RAG_PROMETHEUS_URL"))]
CollectorUrl = Annotated[str, AfterValidator(partial(check_url, given_by="--otlp-endpoint"))]


class Settings(BaseModel):
    """What a run is asked to do. Times in seconds unless the name says otherwise.

    Where its services run already, as in docker-compose.yml, it starts none.

    Attributes:
        interleave: the questions that an arm answers before it is the next arm's turn; None for all of them.
        vllm_endpoint: the engine; with `arm_patience` an arm that it does not hold is waited for so long, and
            `engine_command` is shown, in which `{profile}` stands for the profile that is needed.
        served_model: which of a running engine's models answers, an adapter too; the first where None.
        chroma_url: a Chroma server that holds the collection.
        prometheus_url: Prometheus, which reads the `file_sd` files in the folder `targets`.
        exporter: the exporter, as "host:port"; `gpu_samples` is the folder of its raw log.
        listen: "host:port" at which the agent's metrics are served, where Prometheus is on another host; of a host of
            zeros the targets name this machine.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    limit: int = Field(ge=1, le=100_000)
    max_hops: int = Field(ge=1, le=10)
    k: int = Field(ge=1, le=100)
    concurrency: tuple[Annotated[int, Field(ge=1, le=MAX_CONCURRENCY)], ...] = Field(default=(1,), min_length=1)
    rate: tuple[Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)], ...] = ()
    rounds: int | None = Field(default=None, ge=1, le=1000)
    contexts: tuple[Annotated[int, Field(ge=64, le=1_000_000)], ...] = ()
    order: Literal["AB", "ABBA"] = "ABBA"
    interleave: int | None = Field(default=None, ge=1)
    layout: Layout = "original"
    primed: bool = False
    retrieval: Execution = "threads"
    retrieval_delay: float = Field(default=0.0, ge=0, le=60, allow_inf_nan=False)
    prefetch: DraftSource = "off"
    draft_accuracy: float = Field(default=0.5, ge=0, le=1, allow_inf_nan=False)
    sleeping: bool = False
    context: Selection = "all"
    context_budget: int = Field(default=512, ge=32, le=1_000_000)
    record_prompts: bool = False
    replay: str | None = Field(default=None, pattern=NAME_PATTERN)
    from_run: str | None = Field(default=None, pattern=NAME_PATTERN)
    prompts: Path | None = None
    tokenizer: Path | None = None
    seed: int = Field(default=0, ge=0, lt=2**63)
    vllm_interval_ms: int = Field(default=100, ge=50, le=10_000)
    gpu_interval_ms: int = Field(default=10, ge=5, le=1000)
    figures: bool = True
    request_timeout: float = Field(default=120.0, gt=0, le=3600, allow_inf_nan=False)
    engine_patience: float = Field(default=60.0, gt=0, le=3600, allow_inf_nan=False)
    prometheus_port: int = Field(default=9090, ge=1, le=65_535)
    prometheus_retention_size: str = Field(default=RETENTION_SIZE, pattern=SIZE_PATTERN)
    engine_port: int = Field(default=8000, ge=1, le=65_535)
    engine_python: Path | None = None
    model: str | None = Field(default=None, min_length=1)
    engine_args: Annotated[tuple[str, ...], AfterValidator(refuse_secrets)] = ()
    launcher: Literal["docker"] | None = None
    vllm_endpoint: Endpoint | None = None
    served_model: str | None = Field(default=None, min_length=1, max_length=256)
    arm_patience: float = Field(default=0.0, ge=0, le=86_400, allow_inf_nan=False)
    engine_command: str | None = None
    chroma_url: ChromaUrl | None = None
    prometheus_url: PrometheusUrl | None = None
    targets: Path | None = None
    exporter: str | None = Field(default=None, pattern=ADDRESS_PATTERN)
    gpu_samples: Path | None = None
    listen: str = Field(default="127.0.0.1:0", pattern=ADDRESS_PATTERN)
    otlp_endpoint: CollectorUrl | None = None
    questions: Path | None = None
    persist_dir: Path | None = None
    collection: str | None = Field(default=None, pattern=NAME_PATTERN)
    results: Path = Path("results")
    arms: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _one_engine(self) -> Settings:
        if (self.engine_python is None) != (self.model is None):
            raise ValueError("an engine of your own needs both --engine-python and --model")
        if self.vllm_endpoint and (self.engine_python or self.engine_args):
            raise ValueError("--vllm-endpoint names a running engine; leave out what would start another one")
        if self.served_model and not (self.vllm_endpoint or self.launcher):
            raise ValueError("--served-model chooses a model of a running engine; name it with --vllm-endpoint")
        return self

    @model_validator(mode="after")
    def _one_store(self) -> Settings:
        if self.collection and not (self.persist_dir or self.chroma_url):
            raise ValueError("--collection names a part of a store; name the store with --persist-dir")
        return self

    @model_validator(mode="after")
    def _services(self) -> Settings:
        if (self.prometheus_url is None) != (self.targets is None):
            raise ValueError("a running Prometheus needs both HOP2RAG_PROMETHEUS_URL and HOP2RAG_TARGETS")
        for name, theirs in (("vllm_interval_ms", self.prometheus_url), ("gpu_interval_ms", self.exporter)):
            if theirs and getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"--sample-interval is for services that a run starts; that of {theirs} is its own")
        if self.chroma_url and self.persist_dir:
            raise ValueError("HOP2RAG_CHROMA_URL and --persist-dir name two stores; leave one out")
        return self


# What may differ when a run goes on: where the services are, not what is measured.
PLACES = {
    "arm_patience",
    "chroma_url",
    "engine_command",
    "engine_port",
    "exporter",
    "figures",
    "gpu_samples",
    "launcher",
    "listen",
    "otlp_endpoint",
    "prometheus_port",
    "prometheus_retention_size",
    "prometheus_url",
    "results",
    "targets",
    "vllm_endpoint",
}
# What is started or opened: a run that goes on takes it from its own command line, never from its folder.
OPENED = (
    "engine_python",
    "model",
    "engine_args",
    "served_model",
    "persist_dir",
    "collection",
    "questions",
    "prompts",
    "tokenizer",
)
CORPUS_SETTINGS = ("questions", "persist_dir", "collection", "chroma_url")
# What the agent does with a question; an arm may set these against the run's.
AGENT_OPTIONS = (
    "layout",
    "k",
    "max_hops",
    "primed",
    "retrieval",
    "retrieval_delay",
    "prefetch",
    "draft_accuracy",
    "sleeping",
    "context",
    "context_budget",
)


def load_settings(flags: Mapping[str, Any], environ: Mapping[str, str] = os.environ) -> Settings:
    """Return the settings: flags that were given, then the environment, then defaults.

    Raises:
        UsageError: a value is out of range or a variable is unknown; the message names it and what is allowed.
    """
    known = ENVIRONMENT.keys() | OTHER_VARIABLES
    if unknown := sorted(name for name in environ if name.startswith(PREFIX) and name not in known):
        raise UsageError(f"Unknown environment variable {unknown[0]}.", f"Known are {', '.join(sorted(known))}.")
    given = {setting: environ[name] for name, setting in ENVIRONMENT.items() if environ.get(name)}
    given |= {name: value for name, value in flags.items() if value is not None}
    return _checked(given)


def with_options(settings: Settings, options: Mapping[str, Any]) -> Settings:
    """Return the settings with some options of the agent set otherwise.

    Raises:
        UsageError: an option is unknown, or its value is not possible.
    """
    if unknown := sorted(options.keys() - set(AGENT_OPTIONS)):
        raise UsageError(f"There is no option {unknown[0]!r} of the agent.", f"There are: {', '.join(AGENT_OPTIONS)}.")
    found = _checked({**settings.model_dump(), **options}) if options else settings
    if found.prefetch == "planted" and found.replay is None:
        raise UsageError("Planted drafts come from a record.", "Name the run to replay with --replay.")
    if found.sleeping and found.concurrency != (1,):
        raise UsageError("A sleeping engine aborts what other questions have in flight.", "Use --concurrency 1.")
    return found


def _checked(given: Mapping[str, Any]) -> Settings:
    try:
        return Settings.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        if not (name := ".".join(str(part) for part in first["loc"])):
            raise UsageError(f"{first['msg'].removeprefix('Value error, ')}.", "See --help.") from error
        raise UsageError(
            f"--{name.replace('_', '-')} = {first['input']!r} is not possible: {first['msg'].lower()}.",
            "See --help for what is allowed.",
        ) from error
