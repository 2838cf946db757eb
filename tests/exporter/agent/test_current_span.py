"""The current span of a visit that ends in another context than it began in."""

from __future__ import annotations

from contextvars import copy_context

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from exporter.agent.current_span import make_current

TRACER = TracerProvider(shutdown_on_exit=False).get_tracer("test")


def current() -> int:
    """Return the id of the current span, 0 for none."""
    return trace.get_current_span().get_span_context().span_id


def test_a_visit_that_ends_in_a_copied_context_is_current_no_longer() -> None:
    """An async app reports the end in a task of its own: a span left current would adopt all that follows."""

    def app() -> list[int]:
        span = TRACER.start_span("visit")
        leave = make_current(span)
        inside = current()
        copy_context().run(leave)
        return [inside - span.get_span_context().span_id, current()]

    assert copy_context().run(app) == [0, 0]


@pytest.mark.parametrize("is_inner_first", [True, False])
def test_the_apps_own_span_is_current_again(is_inner_first: bool) -> None:
    """Whichever of two nested visits ends first, for a task in the background may outlive the visit around it."""

    def app() -> tuple[int, int]:
        with TRACER.start_as_current_span("request") as own:
            leaves = [make_current(TRACER.start_span(name)) for name in ("outer", "inner")]
            for leave in reversed(leaves) if is_inner_first else leaves:
                copy_context().run(leave)
            return current(), own.get_span_context().span_id

    found, own = copy_context().run(app)
    assert found == own


def test_what_the_app_sets_reaches_the_visits_span() -> None:
    """An app's own attributes belong to the node in which it sets them; only whoever started a span ends it."""

    def app() -> None:
        span = TRACER.start_span("visit")
        leave = make_current(span)
        found = trace.get_current_span()
        found.set_attribute("a", 1)
        found.set_attributes({"b": 2})
        found.add_event("retry")
        found.add_link(span.get_span_context())
        found.record_exception(ValueError())
        found.set_status(trace.StatusCode.OK)
        found.update_name("other")
        found.end()
        assert found.name == "other"  # type: ignore[attr-defined]
        assert found.is_recording()
        leave()
        assert not found.is_recording()
        assert (span.name, dict(span.attributes)) == ("other", {"a": 1, "b": 2})  # type: ignore[attr-defined]

    copy_context().run(app)


def test_many_visits_leave_no_chain_behind() -> None:
    """A task that lives for days must not keep the span of every visit it made."""

    def app() -> None:
        for _ in range(3):
            copy_context().run(make_current(TRACER.start_span("visit")))
        found = trace.get_current_span()
        assert found._span is trace.INVALID_SPAN  # type: ignore[attr-defined]

    copy_context().run(app)
