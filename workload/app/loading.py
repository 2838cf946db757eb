"""Loads the app that `--app package.module:name` names, a compiled graph or a factory of one."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workload.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

SYNTAX = "Write it as package.module:name, as seen from this folder."


def load_app(text: str, endpoint: str, options: Mapping[str, str], key: str | None = None) -> Any:
    """Return the app: a compiled graph itself, or what a factory `(endpoint, options)` returns.

    `OPENAI_BASE_URL` names the endpoint's API before the module is imported, and `OPENAI_API_KEY` the engine's key.

    Raises:
        UsageError: it cannot be imported, is no graph, raises in its factory, or a graph is given options.
    """
    module, _, name = text.partition(":")
    if not module or not name.isidentifier():
        raise UsageError(f"--app {text!r} names no app.", SYNTAX)
    os.environ["OPENAI_BASE_URL"] = f"{endpoint}/v1"
    if key or not os.environ.get("OPENAI_API_KEY"):
        os.environ["OPENAI_API_KEY"] = key or "none"
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    found = _found(text, module, name)
    if is_graph(found):
        if options:
            raise UsageError(f"The app {text} is a compiled graph, which takes no --app-option.", "Name a factory.")
        return found
    if not callable(found):
        raise UsageError(f"The app {text} is a {type(found).__name__}, no graph and no factory of one.", SYNTAX)
    try:
        app = found(endpoint, dict(options))
    except Exception as error:
        raise UsageError(
            f"The app {text} fails to start: {_said(error)}.", "Correct it, or its --app-option."
        ) from error
    if not is_graph(app):
        raise UsageError(
            f"The app {text} returned a {type(app).__name__}, which is no graph.", "Return a compiled graph."
        )
    return app


def is_graph(app: Any) -> bool:
    """Return whether an object can be asked as a LangGraph app can."""
    return not isinstance(app, type) and callable(getattr(app, "invoke", None) or getattr(app, "ainvoke", None))


def _found(text: str, module: str, name: str) -> Any:
    try:
        loaded = importlib.import_module(module)
    except Exception as error:
        raise UsageError(f"The app {text} cannot be imported: {_said(error)}.", SYNTAX) from error
    if not hasattr(loaded, name):
        raise UsageError(f"The module {module} has no {name!r}.", SYNTAX)
    return getattr(loaded, name)


def _said(error: BaseException) -> str:
    """Return an error in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300].rstrip(".")
