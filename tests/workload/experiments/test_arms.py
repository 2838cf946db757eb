"""Arms as they are typed: what is meant, and what is refused before anything starts."""

from __future__ import annotations

import pytest

from workload.cli import run_command_line
from workload.commands.ab import ENGINE_LIST, OVERLAP_LIST, SHORT_LIST
from workload.engine.profile import PROFILES
from workload.errors import UsageError
from workload.experiments.arms import parse_arm, parse_arms
from workload.settings import load_settings, with_options


@pytest.mark.parametrize(
    ("text", "profile", "options", "engine"),
    [
        ("base", "base", {}, {}),
        ("plain", "base", {}, {}),
        ("append-only", "base", {"layout": "append-only"}, {}),
        ("prefix-off", "prefix-off", {}, {}),
        ("small:max-num-seqs=4,layout=append-only", "base", {"layout": "append-only"}, {"max_num_seqs": 4}),
        ("off:prefix_caching=false", "base", {}, {"prefix_caching": False}),
        ("chunks:chunked-prefill=true,profile=seqs-8", "seqs-8", {}, {"chunked_prefill": True}),
    ],
)
def test_an_arm_is_what_was_typed(
    text: str, profile: str, options: dict[str, object], engine: dict[str, object]
) -> None:
    """A key that went to the wrong side would leave both arms equal, and the comparison would find a null."""
    arm = parse_arm(text)
    assert (arm.profile, dict(arm.options), dict(arm.engine)) == (profile, options, engine)


def test_an_engine_of_its_own_fields_bears_the_arms_name() -> None:
    """Its log and its refusal must not speak of a profile that it is not."""
    assert parse_arm("small:max-num-seqs=4").vllm_profile.name == "small"
    assert parse_arm("small:max-num-seqs=4").vllm_profile.unreported_flags() == ("--max-num-seqs", "4")
    assert parse_arm("append-only").vllm_profile is PROFILES["base"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a b", "cannot name an arm"),
        ("../x", "cannot name an arm"),
        ("a:layout", "is not an option"),
        ("a:layout=original,layout=append-only", "given twice"),
        ("a:colour=red", "no option 'colour'"),
        ("a:limit=3", "no option 'limit'"),
        ("a:profile=none", "no profile 'none'"),
        ("a:max-num-seqs=many", "max_num_seqs = 'many' is not possible"),
    ],
)
def test_what_cannot_be_read_is_refused(text: str, says: str) -> None:
    """An arm that is silently not what was meant wastes a measured hour."""
    with pytest.raises(UsageError, match=says):
        parse_arm(text)


@pytest.mark.parametrize(("texts", "says"), [(["a"], "needs two arms"), (["a", "a:k=3"], "same name")])
def test_a_comparison_needs_two_arms_that_can_be_distinguished(texts: list[str], says: str) -> None:
    """Prometheus and the journal know an arm by its name alone."""
    with pytest.raises(UsageError, match=says):
        parse_arms(texts)


def test_options_of_an_arm_win_over_the_runs() -> None:
    """The run's layout is what the other arms have."""
    settings = load_settings({"limit": 1, "max_hops": 1, "k": 5, "layout": "append-only"}, {})
    assert with_options(settings, {"layout": "original"}).agent.layout == "original"
    assert with_options(settings, {}) is settings
    with pytest.raises(UsageError, match="no option 'limit'"):
        with_options(settings, {"limit": 3})


@pytest.mark.parametrize(
    "arguments",
    [["--arm", "a"], ["--arm", "a", "--arm", "b:layout=x"], ["--arm", "a", "--arm", "b", "--live", "--replay", "r"]],
)
def test_a_comparison_that_cannot_be_is_a_usage_error(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2 and one line, before an engine is started for it."""
    assert run_command_line(["ab", *arguments]) == 2
    assert capsys.readouterr().err.startswith("Error: ")


@pytest.mark.parametrize("text", [*SHORT_LIST, *OVERLAP_LIST, *ENGINE_LIST])
def test_the_short_list_can_be_run(text: str) -> None:
    """`hop2rag optimize` names its arms in text; one that cannot be would end it after the others were measured."""
    settings = load_settings({"limit": 1, "max_hops": 1, "k": 5}, {})
    with_options(settings, parse_arm(text).options)


def test_the_short_list_has_no_arm_twice() -> None:
    """All lists may be compared in one run."""
    assert len(parse_arms((*SHORT_LIST, *OVERLAP_LIST, *ENGINE_LIST))) == len(SHORT_LIST + OVERLAP_LIST + ENGINE_LIST)
