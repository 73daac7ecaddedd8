"""One span a request with its phases inside, and nothing of it where no collector is configured."""

import subprocess
import sys

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from pileus.core.errors import ConfigError
from pileus.observability.figures import RequestFigures
from pileus.observability.tracing import NoTracer, OtelTracer, RequestTrace, open_tracer

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"


def exported(trace: RequestTrace) -> dict[str, ReadableSpan]:
    exporter = InMemorySpanExporter()
    tracer = OtelTracer(exporter, "1.0")
    tracer.record(trace)
    tracer.close()
    return {span.name: span for span in exporter.get_finished_spans()}


def request(error_reason: str | None = None, traceparent: str | None = None) -> RequestTrace:
    return RequestTrace(
        request_id="req_1",
        operation="chat",
        requested_model="default",
        deployment="smollm2-135m",
        ended_at=1000.0,
        figures=RequestFigures(
            outcome="stop",
            prompt_tokens=7,
            cached_tokens=2,
            completion_tokens=5,
            queue_s=0.1,
            ttft_s=0.35,
            prefill_s=0.2,
            decode_s=0.6,
            total_s=1.0,
            error_reason=error_reason,
        ),
        finish_reasons=("stop",),
        traceparent=traceparent,
    )


def test_without_a_collector_nothing_of_opentelemetry_is_loaded() -> None:
    script = (
        "import sys; from pileus.observability.tracing import open_tracer; open_tracer(None, '1').close(); "
        "sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
    assert isinstance(open_tracer(None, "1"), NoTracer)


def test_a_collector_without_the_extra_is_told_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(ConfigError, match=r"pip install 'pileus\[telemetry\]'"):
        open_tracer("http://localhost:4318", "1")


def test_a_request_is_a_span_in_the_fields_terms() -> None:
    span = exported(request())["chat smollm2-135m"]
    assert span.kind is SpanKind.SERVER
    assert span.end_time is not None
    assert span.start_time is not None
    assert span.end_time - span.start_time == 1_000_000_000
    assert span.attributes is not None
    assert span.attributes["gen_ai.operation.name"] == "chat"
    assert span.attributes["gen_ai.request.model"] == "default"
    assert span.attributes["gen_ai.response.model"] == "smollm2-135m"
    assert span.attributes["gen_ai.usage.input_tokens"] == 7
    assert span.attributes["gen_ai.usage.output_tokens"] == 5
    assert span.attributes["gen_ai.response.finish_reasons"] == ("stop",)
    assert span.status.status_code is StatusCode.UNSET


def test_the_phases_lie_inside_the_request() -> None:
    spans = exported(request())
    whole = spans["chat smollm2-135m"]
    prefill, decode = spans["prefill"], spans["decode"]
    assert whole.context is not None
    assert prefill.parent is not None
    assert prefill.parent.span_id == whole.context.span_id
    assert (prefill.end_time, decode.end_time) == (decode.start_time, whole.end_time)


def test_an_error_marks_the_span() -> None:
    span = exported(request(error_reason="engine_failed"))["chat smollm2-135m"]
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes is not None
    assert span.attributes["error.type"] == "engine_failed"


def test_the_callers_trace_is_continued() -> None:
    span = exported(request(traceparent=f"00-{TRACE_ID}-00f067aa0ba902b7-01"))["chat smollm2-135m"]
    assert span.context is not None
    assert f"{span.context.trace_id:032x}" == TRACE_ID
    assert span.parent is not None
    assert f"{span.parent.span_id:016x}" == "00f067aa0ba902b7"


@pytest.mark.parametrize(
    "traceparent",
    [
        "\r\nnonsense",
        f"00-{TRACE_ID}-00f067aa0ba902b7",
        f"00-{TRACE_ID}-00f067aa0ba902b7-01-more",
        f"00-{TRACE_ID.upper()}-00f067aa0ba902b7-01",
        f"00-{'0' * 32}-00f067aa0ba902b7-01",
        f"00-{TRACE_ID}-{'0' * 16}-01",
        f"ff-{TRACE_ID}-00f067aa0ba902b7-01",
        "00-" + "a" * 65536,
    ],
)
def test_a_malformed_trace_begins_a_new_one(traceparent: str) -> None:
    assert exported(request(traceparent=traceparent))["chat smollm2-135m"].parent is None
