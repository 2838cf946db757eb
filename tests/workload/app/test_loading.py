"""An app is loaded, or refused in one line that says why."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from workload.app.loading import load_app
from workload.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

MODULE = """
import os
from langgraph.graph import START, StateGraph

seen = os.environ["OPENAI_BASE_URL"], os.environ["OPENAI_API_KEY"]
graph = StateGraph(dict)
graph.add_node("one", lambda state: state)
graph.add_edge(START, "one")
compiled = graph.compile()
number = 3
given = []


def factory(endpoint, options):
    given.append((endpoint, options))
    return compiled


def raising(endpoint, options):
    raise KeyError("no k\\nat all")


def wrong(endpoint, options):
    return 5
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module in the current folder, without a base URL or a key in the environment."""
    name = f"an_app_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    for variable in ("OPENAI_BASE_URL", "OPENAI_API_KEY"):
        monkeypatch.setenv(variable, "")
    return name


def test_a_compiled_graph_is_imported_with_the_address_in_the_environment(module: str) -> None:
    """What it builds when it is imported must already call the tap."""
    app = load_app(f"{module}:compiled", "http://127.0.0.1:1", {}, key="secret")
    assert app.invoke({"question": "?"}) == {"question": "?"}
    assert sys.modules[module].seen == ("http://127.0.0.1:1/v1", "secret")


def test_a_factory_gets_the_address_and_its_options(module: str) -> None:
    """They are what was given, as text."""
    app = load_app(f"{module}:factory", "http://127.0.0.1:1", {"k": "2"})
    assert app is sys.modules[module].compiled
    assert sys.modules[module].given == [("http://127.0.0.1:1", {"k": "2"})]


@pytest.mark.parametrize(
    ("name", "options", "why"),
    [
        ("", {}, "names no app"),
        ("{}", {}, "names no app"),
        ("no_such_module_anywhere:app", {}, "cannot be imported: ModuleNotFoundError"),
        ("{}:nothing", {}, "has no 'nothing'"),
        ("{}:number", {}, "is a int, no graph and no factory"),
        ("{}:wrong", {}, "returned a int, which is no graph"),
        ("{}:raising", {}, "fails to start: KeyError: 'no k"),
        ("{}:compiled", {"k": "2"}, "takes no --app-option"),
    ],
)
def test_what_is_no_app_is_refused_in_one_line(module: str, name: str, options: dict[str, str], why: str) -> None:
    """The line names the app and the reason."""
    with pytest.raises(UsageError) as error:
        load_app(name.format(module), "http://127.0.0.1:1", options)
    assert why in str(error.value)
    assert "\n" not in str(error.value)
