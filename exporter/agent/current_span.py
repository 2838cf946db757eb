"""The span of a node visit as the current one, whichever task or thread the visit ends in.

LangChain reports the start of a visit in the app's own task, but its end in a task with a copy of that task's context.
The second cannot reset a value in the first, so the current span is an object that both share. It stands for the
visit's span until the visit ends, and from then on for the app's own span.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opentelemetry.context import attach, get_current
from opentelemetry.trace import Span, get_current_span, set_span_in_context

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from opentelemetry.trace import SpanContext
    from opentelemetry.util.types import AttributeValue


class CurrentSpan(Span):
    """Stands for a span, or once that has ended for the one around it.

    Args:
        span: the span.
        around: the span that was current before.
    """

    def __init__(self, span: Span, around: Span) -> None:
        self._span = span
        self._around: Span | None = around.lasting() if isinstance(around, CurrentSpan) else around

    def lasting(self) -> Span:
        """Return this span, or once that has ended the one that it stands for."""
        return self if self._around else self._span

    def leave(self) -> None:
        """Stand for the span around from now on."""
        if self._around:
            self._span = self._around.lasting() if isinstance(self._around, CurrentSpan) else self._around
            self._around = None

    def get_span_context(self) -> SpanContext:
        """Return the ids under which other spans nest."""
        return self._span.get_span_context()

    def is_recording(self) -> bool:
        """Return whether attributes are of use."""
        return self._span.is_recording()

    def set_attribute(self, key: str, value: AttributeValue) -> None:
        """Set an attribute."""
        self._span.set_attribute(key, value)

    def set_attributes(self, attributes: Mapping[str, AttributeValue]) -> None:
        """Set attributes."""
        self._span.set_attributes(attributes)

    def add_event(self, *args: Any, **kwargs: Any) -> None:
        """Add an event."""
        self._span.add_event(*args, **kwargs)

    def add_link(self, *args: Any, **kwargs: Any) -> None:
        """Add a link."""
        self._span.add_link(*args, **kwargs)

    def update_name(self, name: str) -> None:
        """Rename the span."""
        self._span.update_name(name)

    def set_status(self, *args: Any, **kwargs: Any) -> None:
        """Set the status."""
        self._span.set_status(*args, **kwargs)

    def record_exception(self, *args: Any, **kwargs: Any) -> None:
        """Record an exception."""
        self._span.record_exception(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._span, name)  # what a span of the SDK has beyond the interface

    def end(self, *_: Any, **__: Any) -> None:
        """Do nothing: whoever started the span ends it."""


def make_current(span: Span) -> Callable[[], None]:
    """Make a span current in the running task or thread, if there is a trace; return the function that ends this.

    An HTTP client that is instrumented for OpenTelemetry then propagates the trace context.
    """
    if not span.get_span_context().is_valid:
        return lambda: None
    outer = get_current()
    current = CurrentSpan(span, get_current_span())
    attach(set_span_in_context(current))

    def leave() -> None:
        current.leave()
        if get_current_span() is current:
            attach(outer)

    return leave
