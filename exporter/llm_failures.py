"""Why an LLM call failed, told from its exception without knowing which client raised it."""

from __future__ import annotations

from asyncio import CancelledError

CONTEXT_WORDS = ("context length", "maximum context", "max_model_len", "context_length")


def reason_of(error: BaseException, *, has_begun: bool) -> str:
    """Return one of `exporter.agent.ERROR_REASONS`, or "other".

    HTTP clients and model libraries name the same failures alike: a `status_code` on what the server refused, "Timeout"
    and "Connect" in the names of the classes of what never got there.

    Args:
        error: what the call raised.
        has_begun: whether a token had come.
    """
    status = getattr(error, "status_code", None) or getattr(getattr(error, "response", None), "status_code", None)
    names = " ".join(kind.__name__ for kind in type(error).__mro__)
    if isinstance(error, CancelledError | GeneratorExit | KeyboardInterrupt):
        return "cancelled"
    if "Timeout" in names:
        return "timeout"
    if isinstance(status, int):
        return _reason_of_status(status, str(error).lower())
    if has_begun:
        return "stream_cut"
    return "connection" if "Connect" in names or isinstance(error, OSError) else "other"


def _reason_of_status(status: int, text: str) -> str:
    if status in {429, 503}:
        return "overloaded"
    if status >= 500:
        return "server_error"
    is_too_long = status == 400 and any(words in text for words in CONTEXT_WORDS)
    return "context_too_long" if is_too_long else "rejected"
