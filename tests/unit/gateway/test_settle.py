"""The end of a request, as the tracer hears of it."""

from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import Mock

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from pileus.core.ports import Price
from pileus.core.records import Lane
from pileus.gateway.records import Ending
from pileus.gateway.settle import Settlement
from pileus.observability.figures import RequestFigures
from pileus.observability.metrics import Metrics
from pileus.observability.tracing import OtelTracer
from pileus.testing.clock import ManualClock


def span_of(traceparent: str | None) -> ReadableSpan:
    """The span of a request that came with this header."""
    exporter = InMemorySpanExporter()
    tracer = OtelTracer(exporter, "1.0")
    figures = RequestFigures(outcome="stop", prompt_tokens=3, completion_tokens=5)
    ending = Ending("req_1", "text_completion", "d", "d", Lane.ON_DEMAND, "stop", figures, traceparent)
    settlement = Settlement(Mock(), Metrics(), tracer, ManualClock())
    reservation = cast(Any, SimpleNamespace(principal=SimpleNamespace(key_id="key_1", tenant="t")))
    settlement.settle(reservation, Price(0, 0), ending)
    tracer.close()
    [span] = [span for span in exporter.get_finished_spans() if span.name == "text_completion d"]
    return span


def test_the_callers_span_is_the_parent_of_the_request() -> None:
    parent = span_of("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").parent
    assert parent is not None
    assert f"{parent.trace_id:032x}" == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert f"{parent.span_id:016x}" == "00f067aa0ba902b7"


def test_without_one_or_with_a_malformed_one_the_request_begins_a_trace() -> None:
    assert span_of(None).parent is None
    assert span_of("00-nonsense-01").parent is None
