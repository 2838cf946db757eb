"""Why an LLM call failed, derived from its exception, whichever client raised it."""

from __future__ import annotations

from asyncio import CancelledError
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

CONTEXT_WORDS = ("context length", "maximum context", "max_model_len", "context_length")


def reason_of(error: BaseException, *, has_begun: bool) -> str:
    """Return one of `exporter.agent.instruments.ERROR_REASONS`, or "other".

    HTTP clients and model libraries use the same names: a `status_code` on errors for what the server refused;
    "Timeout", "Connect" and "Transport" in the class names of errors for what never reached it. The root cause decides
    about a time-out, because one of openai's transports calls every broken connection a time-out.

    Args:
        error: what the call raised.
        has_begun: whether a token had arrived.
    """
    status = getattr(error, "status_code", None) or getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, CancelledError | GeneratorExit | KeyboardInterrupt):
        return "cancelled"
    chain = list(_causes(error))
    if any(isinstance(cause, TimeoutError) for cause in chain) or "Timeout" in _names(chain[-1]):
        return "timeout"
    if isinstance(status, int):
        return _reason_of_status(status, str(error).lower())
    if has_begun:
        return "stream_cut"
    is_network = isinstance(error, OSError) or any(word in _names(error) for word in ("Connect", "Transport"))
    return "connection" if is_network else "other"


def _names(error: BaseException) -> str:
    return " ".join(kind.__name__ for kind in type(error).__mro__)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error, its cause, the cause of that, and so on."""
    while error:
        yield error
        error = error.__cause__


def _reason_of_status(status: int, text: str) -> str:
    if status in {429, 503}:
        return "overloaded"
    if status >= 500:
        return "server_error"
    is_too_long = status == 400 and any(words in text for words in CONTEXT_WORDS)
    return "context_too_long" if is_too_long else "rejected"
