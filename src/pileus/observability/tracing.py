"""Traces by OpenTelemetry, only where a collector is configured: one span a request, with its phases inside.

Spans are made at the settlement, when all is known; attributes follow the semantic conventions for generative AI
(https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/). Prompt and answer are never part of a span.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

from pileus.core.errors import ConfigError
from pileus.observability.figures import RequestFigures

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter

_NS = 1_000_000_000


class RequestTrace(Struct, frozen=True, kw_only=True):
    """One settled request."""

    request_id: str
    operation: str  # chat or text_completion
    requested_model: str
    deployment: str
    ended_at: float  # wall clock
    figures: RequestFigures
    finish_reasons: tuple[str, ...] = ()
    traceparent: str | None = None  # the caller's W3C trace context, as it was sent; a malformed one is ignored


class Tracer(Protocol):
    """Takes settled requests; never blocks."""

    def record(self, trace: RequestTrace) -> None: ...

    def close(self) -> None:
        """Send what waits."""


class NoTracer:
    """Where no collector is configured."""

    def record(self, trace: RequestTrace) -> None:
        pass

    def close(self) -> None:
        pass


def open_tracer(otlp_endpoint: str | None, version: str) -> Tracer:
    """A tracer to this OTLP/HTTP collector. Raises `ConfigError` where the `telemetry` extra is not installed."""
    if otlp_endpoint is None:
        return NoTracer()
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError:
        raise ConfigError(
            "telemetry.otlp_endpoint is set, but OpenTelemetry is not installed: "
            "run `pip install 'pileus[telemetry]'`, or remove the setting"
        ) from None
    return OtelTracer(OTLPSpanExporter(f"{otlp_endpoint.rstrip('/')}/v1/traces"), version)


class OtelTracer:
    """Spans through OpenTelemetry's SDK, sent by its own thread."""

    def __init__(self, exporter: SpanExporter, version: str) -> None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._provider = _provider(exporter, version)
        self._tracer = self._provider.get_tracer("pileus", version)
        self._propagator = TraceContextTextMapPropagator()

    def record(self, trace: RequestTrace) -> None:
        from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context

        figures = trace.figures
        caller = self._propagator.extract({"traceparent": trace.traceparent}) if trace.traceparent else None
        end_ns = int(trace.ended_at * _NS)
        span = self._tracer.start_span(
            f"{trace.operation} {trace.deployment}",
            context=caller,
            kind=SpanKind.SERVER,
            attributes=_attributes(trace),
            start_time=end_ns - int((figures.total_s or 0.0) * _NS),
        )
        if figures.error_reason is not None:
            span.set_attribute("error.type", figures.error_reason)
            span.set_status(Status(StatusCode.ERROR))
        inside = set_span_in_context(span)
        decode_ns = int((figures.decode_s or 0.0) * _NS)
        prefill_ns = int((figures.prefill_s or 0.0) * _NS)
        phase_end = end_ns
        for phase, length_ns in (("decode", decode_ns), ("prefill", prefill_ns)):
            if length_ns:
                child = self._tracer.start_span(phase, context=inside, start_time=phase_end - length_ns)
                child.end(phase_end)
            phase_end -= length_ns
        span.end(end_ns)

    def close(self) -> None:
        self._provider.shutdown()


def _provider(exporter: SpanExporter, version: str) -> TracerProvider:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=Resource.create({"service.name": "pileus", "service.version": version}))
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


def _attributes(trace: RequestTrace) -> dict[str, str | int | float | list[str]]:
    figures = trace.figures
    attributes: dict[str, str | int | float | list[str]] = {
        "gen_ai.operation.name": trace.operation,
        "gen_ai.provider.name": "pileus",
        "gen_ai.request.model": trace.requested_model,
        "gen_ai.response.model": trace.deployment,
        "gen_ai.response.id": trace.request_id,
        "gen_ai.response.finish_reasons": list(trace.finish_reasons),
        "gen_ai.usage.input_tokens": figures.prompt_tokens,
        "gen_ai.usage.output_tokens": figures.completion_tokens,
        "pileus.usage.cached_input_tokens": figures.cached_tokens,
        "pileus.outcome": figures.outcome,
    }
    times = {"queue": figures.queue_s, "time_to_first_token": figures.ttft_s, "gateway": figures.gateway_s}
    return attributes | {f"pileus.{name}_s": value for name, value in times.items() if value is not None}
