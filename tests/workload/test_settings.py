"""Row 20: what is wrong is refused before anything starts, with the field, the value and what is allowed."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from workload.errors import UsageError
from workload.paths import NAME_PATTERN, inside
from workload.report.footer import options_in_words
from workload.settings import (
    ENVIRONMENT,
    NAMED_AGAIN,
    OTHER_VARIABLES,
    PART_OF,
    PARTS,
    Settings,
    load_settings,
    with_options,
)

if TYPE_CHECKING:
    from pathlib import Path

GIVEN = {"limit": 20, "max_hops": 3, "k": 10}
HOSTILE_NUMBERS = (float("nan"), float("inf"), -1, 0, 1e9, 10**30, "many", "", "1; rm -rf /")
NUMBERS = (
    "limit",
    "max_hops",
    "k",
    "concurrency",
    "request_timeout",
    "engine_patience",
    "prometheus_port",
    "engine_port",
)
NAMES = ("../../etc/x", "..", ".", "a/b", "/etc/passwd", "", "a b", "x" * 65, "ok\n", "n\x00ul", "-\u202e-", "a\\b")
ENDPOINTS = (
    "file:///etc/passwd",
    "gopher://127.0.0.1:70",
    "http://169.254.169.254/latest/meta-data",
    "http://[fe80::1]:8000",
    "http://user:hunter2@127.0.0.1:8000",
    "127.0.0.1:8000",
    "http://",
    "http://127.0.0.1:99999",
    "http://127.0.0.1:8000/?key=hunter2",
)


def with_(name: str, value: Any) -> dict[str, Any]:
    """Return flags in which one is hostile; levels of concurrency are a list."""
    return GIVEN | {name: [value] if name == "concurrency" else value}


def refusal(name: str, value: Any) -> str:
    """Return how a number is refused, "" where it is accepted."""
    try:
        load_settings(with_(name, value), {})
    except UsageError as error:
        return str(error)
    return ""


def test_row_20_impossible_numbers_are_refused() -> None:
    """NaN compares false with every limit and -1 means "no limit" elsewhere; both would only show hours later."""
    said = {(name, repr(value)): refusal(name, value) for name in NUMBERS for value in HOSTILE_NUMBERS}
    assert {
        case: text
        for case, text in said.items()
        if f"--{case[0].replace('_', '-')}" not in text or case[1] not in text or "\n" in text
    } == {}


@pytest.mark.parametrize("value", [-1, 2**63, float("nan"), 1.5])
def test_row_20_impossible_seeds_are_refused(value: float) -> None:
    """The engine takes a seed of 64 bits and would refuse each call of the run instead."""
    with pytest.raises(UsageError, match="--seed"):
        load_settings(GIVEN | {"seed": value}, {})


@pytest.mark.parametrize("value", NAMES, ids=repr)
def test_row_20_names_that_are_not_plain_are_refused(value: str, tmp_path: Path) -> None:
    """A collection or run name becomes a file name and a label value."""
    with pytest.raises(UsageError, match="--collection"):
        load_settings(GIVEN | {"collection": value}, {})
    with pytest.raises(UsageError, match="not a plain name"):
        inside(tmp_path, value, "The run's name")


@pytest.mark.parametrize("value", ENDPOINTS)
def test_row_20_hostile_endpoints_are_refused_at_once(value: str) -> None:
    """Settings go into the manifest and the journal before an engine is looked at; a password must not get there."""
    with pytest.raises(UsageError) as refused:
        load_settings(GIVEN | {"vllm_endpoint": value}, {})
    assert "hunter2" not in str(refused.value)
    with pytest.raises(UsageError) as refused:
        load_settings(GIVEN, {"HOP2RAG_VLLM_ENDPOINT": value})
    assert "hunter2" not in str(refused.value)


@given(st.text(max_size=70))
def test_row_20_no_name_leaves_the_root(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    """Whatever the name, it is refused or lies directly below the root."""
    root = tmp_path_factory.getbasetemp()
    try:
        path = inside(root, name, "The run's name")
    except UsageError:
        return
    assert path.parent == root.resolve()
    assert NAME_PATTERN.fullmatch(path.name)


def test_row_20_a_link_cannot_lead_out_of_the_root(tmp_path: Path) -> None:
    """A plain name may still be a link that somebody has laid there."""
    root, outside = tmp_path / "results", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (root / "run").symlink_to(outside)
    (root / "dead").symlink_to(tmp_path / "nowhere")
    for name in ("run", "dead"):
        with pytest.raises(UsageError, match="resolves outside"):
            inside(root, name, "The run's name")


def test_a_root_that_is_a_link_is_fine(tmp_path: Path) -> None:
    """Results often lie on another disk behind a link; that is the user's own choice."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "results").symlink_to(tmp_path / "disk")
    assert inside(tmp_path / "results", "run", "The run's name") == tmp_path / "disk" / "run"


@given(st.text(st.characters(codec="ascii", categories=["Lu", "Nd"]) | st.just("_"), min_size=1, max_size=20))
def test_row_20_an_unknown_variable_is_an_error(rest: str) -> None:
    """A misspelt variable would be ignored, and the run would quietly measure something else."""
    name = f"HOP2RAG_{rest}"
    if name in ENVIRONMENT or name in OTHER_VARIABLES:
        return
    with pytest.raises(UsageError, match=f"variable {name}\\."):
        load_settings(GIVEN, {name: "1"})


def test_an_unknown_flag_is_an_error() -> None:
    """A stale caller must not lose a setting without a word."""
    with pytest.raises(UsageError, match="--max-hop "):
        load_settings(GIVEN | {"max_hop": 3}, {})


def test_flags_win_over_the_environment_and_it_over_defaults() -> None:
    """What is typed for one run counts more than what a shell profile says for all."""
    environ = {
        "AGRAG_COLLECTION_NAME": "theirs",
        "HOP2RAG_PROMETHEUS_PORT": "9191",
        "HOP2RAG_RESULTS": "",
        "AGRAG_PERSIST_DIR": "s",
    }
    settings = load_settings(GIVEN | {"collection": "mine", "layout": None}, environ)
    assert (settings.corpus.collection, settings.places.prometheus_port) == ("mine", 9191)
    assert (str(settings.places.results), settings.agent.layout) == ("results", "original")


@pytest.mark.parametrize("variable", sorted(ENVIRONMENT))
def test_every_variable_of_the_table_is_read(variable: str) -> None:
    """A variable that the table names and no code reads is worse than an unknown one."""
    kind, url = variable.rpartition("_")[2], "http://127.0.0.1:8000"
    values = {
        "SIZE": "20GB",
        "PORT": "9191",
        "ENDPOINT": url,
        "URL": url,
        "PATIENCE": "60.0",
        "EXPORTER": "e:1",
        "LISTEN": "0.0.0.0:1",
    }
    value = values.get(kind, "x1")
    # Prometheus and its targets go together.
    pair = {"HOP2RAG_PROMETHEUS_URL": url, "HOP2RAG_TARGETS": "x"}
    needed = {
        "HOP2RAG_ALERTMANAGER_URL": pair,
        "HOP2RAG_SERVED_MODEL": {"HOP2RAG_VLLM_ENDPOINT": url},
        "AGRAG_COLLECTION_NAME": {"AGRAG_PERSIST_DIR": "x"},
    }
    environ = {**(pair if variable in pair else {}), **needed.get(variable, {}), variable: value}
    assert str(load_settings(GIVEN, environ).flat()[ENVIRONMENT[variable]]) == value


def test_foreign_variables_are_none_of_our_business() -> None:
    """The rest of a shell's environment must not stop a run."""
    assert load_settings(GIVEN, {"PATH": os.defpath, "AGRAG_MODEL": "x", "HOP2RAGS": "x"}).load.limit == 20


def test_settings_are_frozen() -> None:
    """What a manifest says at the start must be true at the end."""
    with pytest.raises(ValidationError, match="frozen"):
        load_settings(GIVEN, {}).load.limit = 5


def test_settings_survive_a_manifest() -> None:
    """A run that goes on is compared with its manifest; what JSON changes would be refused as another run."""
    settings = load_settings(GIVEN | {"vllm_endpoint": "http://127.0.0.1:8000/v1/"}, {})
    assert settings.places.vllm_endpoint == "http://127.0.0.1:8000"
    assert Settings.of(json.loads(json.dumps(settings.flat()))) == settings


def test_a_footer_reports_every_option_that_is_not_as_by_default() -> None:
    """A copied picture must say what the agent did otherwise, for all arms and for each."""
    plain = load_settings({"limit": 1, "max_hops": 1, "k": 5}, {})
    assert options_in_words(plain) == "layout original"
    reported = options_in_words(with_options(plain, {"retrieval_delay": "0.2", "primed": True}))
    assert reported == "layout original, primed, retrieval delay 0.2 s"
    arms = plain.changed(arms=("original", "late:retrieval-delay=1.2"))
    assert options_in_words(arms) == "layout original; arms original | late:retrieval-delay=1.2"
    theirs = plain.changed(app="a.b:app", inputs="rows.jsonl", app_option={"k": "2"})
    assert options_in_words(theirs) == "app a.b:app, k 2"


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ({"app": "a:b"}, "--inputs"),
        ({"inputs": "rows.jsonl"}, "--app"),
        ({"app_option": ["k=2"]}, "--app-option"),
        ({"app": "a:b", "inputs": "rows.jsonl", "app_option": ["k"]}, "is not key=value"),
        ({"app": "a:b", "inputs": "rows.jsonl", "layout": "append-only"}, "not our agent's"),
        ({"app": "a:b", "inputs": "rows.jsonl", "replay": "r"}, "replays nothing"),
        ({"app": "a:b", "inputs": "rows.jsonl", "questions": "q.json"}, "its own documents"),
    ],
)
def test_an_app_is_named_whole(flags: dict[str, Any], says: str) -> None:
    """An option of our agent would be accepted and change nothing."""
    with pytest.raises(UsageError) as error:
        load_settings({"limit": 1, "max_hops": 1, "k": 5, **flags}, {})
    assert says in str(error.value)


def test_an_arms_options_of_an_app_add_to_the_runs() -> None:
    """An arm names what differs, not everything."""
    flags = {"limit": 1, "max_hops": 1, "k": 5, "app": "a:b", "inputs": "rows.jsonl", "app_option": ["max-rewrites=2"]}
    found = with_options(load_settings(flags, {}), {"app_option": {"k": "2"}})
    assert found.agent.app_option == {"max_rewrites": "2", "k": "2"}


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"HOP2RAG_PROMETHEUS_URL": "http://127.0.0.1:9090"}, "HOP2RAG_TARGETS"),
        ({"HOP2RAG_TARGETS": "/targets"}, "HOP2RAG_PROMETHEUS_URL"),
        ({"HOP2RAG_ALERTMANAGER_URL": "http://127.0.0.1:9093"}, "HOP2RAG_PROMETHEUS_URL"),
        ({"HOP2RAG_CHROMA_URL": "http://127.0.0.1:1", "AGRAG_PERSIST_DIR": "/store"}, "two stores"),
        ({"HOP2RAG_LISTEN": "0.0.0.0"}, "listen"),
        ({"HOP2RAG_EXPORTER": "http://exporter:9400"}, "exporter"),
        ({"HOP2RAG_CHROMA_URL": "http://169.254.169.254"}, "link-local"),
    ],
)
def test_services_that_run_elsewhere_are_named_whole(variables: dict[str, str], says: str) -> None:
    """Half of it would start a second Prometheus that no dashboard reads, or search the wrong store."""
    with pytest.raises(UsageError, match=says):
        load_settings(GIVEN, variables)


def test_the_interval_of_a_running_service_is_its_own() -> None:
    """A figure would claim 50 ms and show what the service was configured for."""
    variables = {"HOP2RAG_EXPORTER": "exporter:9400"}
    load_settings(GIVEN, variables)
    with pytest.raises(UsageError, match="--sample-interval"):
        load_settings({**GIVEN, "gpu_interval_ms": 50}, variables)


def test_a_run_that_goes_on_learns_every_path_anew() -> None:
    """A setting that names a file, a program or a service and is taken from a run's folder would be a stranger's."""
    fields = {name: field for part in PARTS.values() for name, field in part.model_fields.items()}
    paths = {name for name, field in fields.items() if "Path" in str(field.annotation)}
    ends = {name for name in fields if name.endswith(("_url", "_endpoint", "_command", "_python", "_args"))}
    assert {PART_OF[name] for name in paths | ends} == {*NAMED_AGAIN, "places"}


def test_no_two_parts_have_a_setting_of_the_same_name() -> None:
    """Flags, variables and manifests name a setting without its part."""
    assert len(PART_OF) == sum(len(part.model_fields) for part in PARTS.values())
    assert {name: field.annotation for name, field in Settings.model_fields.items()} == PARTS


def test_a_folder_cannot_name_a_program_under_the_name_of_a_part() -> None:
    """The manifest of a stranger's run may have any key; a part given as a whole would replace what was typed."""
    found = Settings.of({**GIVEN, "engine": {"engine_python": "/evil", "model": "m"}})
    assert found.engine.engine_python is None
