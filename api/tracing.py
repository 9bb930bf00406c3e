"""Traces by OpenTelemetry: requests, calls of devices, signatures, the index, statements and turns of jobs.

Off unless the setting ``otlp_endpoint`` names a collector and the extra ``otel`` is installed; then :func:`span` costs
a function call. A span's attributes are those of the log: ids and templates, never what a caller sent.
"""

from __future__ import annotations

import logging
import multiprocessing.util
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

from api.logs import also
from api.settings import Settings

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span, Tracer

log: Final = logging.getLogger("wavegate.tracing")

_EVERY_MILLISECONDS: Final = 1_000  # between two batches; what a killed process had not sent is lost
_TIMEOUT_SECONDS: Final = 5
_END_SECONDS: Final = 3.0  # for what was not sent yet when the process ends
_LATE: Final = 5  # exit priority: before the interpreter takes threads away


@dataclass(frozen=True, slots=True)
class _Tracing:
    provider: TracerProvider
    tracer: Tracer


_on: _Tracing | None = None  # one for a process, as its log


def start_tracing(settings: Settings, part: str) -> Callable[[], None]:
    """Send traces of this process from now on, if the settings ask for it; returns what sends the rest and ends it.

    Args:
        settings: ``otlp_endpoint`` and ``otlp_percent``. Headers for the collector come from OpenTelemetry's own
            variable ``OTEL_EXPORTER_OTLP_HEADERS``.
        part: Which process this is, such as ``api``; the resource's ``service.name`` is ``wavegate-<part>``.
    """
    global _on
    if not settings.otlp_endpoint:
        return lambda: None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import TraceIdRatioBased
    except ImportError:
        log.warning("otlp_endpoint is set and OpenTelemetry is not installed: pip install 'wavegate[otel]'; no traces")
        return lambda: None
    # Each failed batch is told by the exporter's own log, with a stack; one line from us is enough.
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    names = {"service.name": f"wavegate-{part}", "service.version": version("wavegate")}
    # By the share alone, whatever a caller's `traceparent` says: nobody outside decides what is kept.
    provider = TracerProvider(
        resource=Resource(names), sampler=TraceIdRatioBased(settings.otlp_percent / 100), shutdown_on_exit=False
    )
    exporter = OTLPSpanExporter(endpoint=f"{settings.otlp_endpoint}/v1/traces", timeout=_TIMEOUT_SECONDS)
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=_EVERY_MILLISECONDS))
    _on = _Tracing(provider, provider.get_tracer("wavegate"))

    def stop() -> None:
        global _on
        _on = None
        # A collector that does not answer is tried again and again; the end of a server is not to wait for that.
        last = threading.Thread(target=provider.shutdown, name="wavegate-last-traces", daemon=True)
        last.start()
        last.join(_END_SECONDS)

    ending = multiprocessing.util.Finalize(None, stop, exitpriority=_LATE)
    return lambda: ending() if ending.still_active() else None


def is_on() -> bool:
    """Whether this process sends traces."""
    return _on is not None


@contextmanager
def span(name: str, *, serves: bool = False, **attributes: str | int) -> Iterator[None]:
    """Trace what the block does; an error that ends it is noted by its class alone.

    Args:
        name: Of few there are, such as ``sign timestamp``.
        serves: It answers somebody else's call.
        attributes: Names with ``__`` for a dot.
    """
    if _on is None:
        yield
        return
    from opentelemetry.trace import Status, StatusCode, use_span

    begun = _begin(_on.tracer, name, attributes, serves=serves, headers=None)
    with use_span(begun, end_on_exit=True, record_exception=False, set_status_on_exception=False):
        if serves:
            also(trace_id=_id_of(begun))
        try:
            yield
        except BaseException as error:
            begun.set_status(Status(StatusCode.ERROR, type(error).__name__))
            raise


def begin_request(headers: Iterable[tuple[str, str]]) -> Callable[[str, int, Mapping[str, str | int]], None] | None:
    """Trace a request from now on; what is returned ends it with the route, the status and more attributes.

    ``headers``, pairs of name and value, may hold a W3C ``traceparent``, which the trace then belongs to.
    """
    if _on is None:
        return None
    from opentelemetry.context import attach, detach
    from opentelemetry.trace import Status, StatusCode, set_span_in_context

    begun = _begin(_on.tracer, "request", {}, serves=True, headers=headers)
    token = attach(set_span_in_context(begun))
    also(trace_id=_id_of(begun))

    def end(name: str, status: int, attributes: Mapping[str, str | int]) -> None:
        begun.update_name(name)
        for key, value in attributes.items():
            begun.set_attribute(key, value)
        if status >= 500:
            begun.set_status(Status(StatusCode.ERROR))
        begun.end()
        detach(token)

    return end


def statement(text: str, seconds: float) -> None:
    """Trace a statement of the database that has just ended, within whatever is traced; its values are not in it."""
    if _on is None:
        return
    from opentelemetry.trace import get_current_span

    if not get_current_span().is_recording():
        return
    ended = time.time_ns()
    verb = text.split(maxsplit=1)[0].upper()
    begun = _on.tracer.start_span(f"database {verb}", start_time=ended - int(seconds * 1e9))
    begun.set_attribute("db.query.text", text)
    begun.end(ended)


def _begin(
    tracer: Tracer,
    name: str,
    attributes: Mapping[str, str | int],
    *,
    serves: bool,
    headers: Iterable[tuple[str, str]] | None,
) -> Span:
    from opentelemetry.context import Context
    from opentelemetry.trace import SpanKind
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    # Somebody else's call begins with what they say, never with what this thread did before.
    told_by = {} if headers is None else {name.lower(): value for name, value in headers}
    parent = TraceContextTextMapPropagator().extract(told_by, Context()) if serves else None
    told: dict[str, Any] = {key.replace("__", "."): value for key, value in attributes.items()}
    kind = SpanKind.SERVER if serves else SpanKind.INTERNAL
    return tracer.start_span(name, context=parent, kind=kind, attributes=told)


def _id_of(begun: Span) -> str | None:
    context = begun.get_span_context()
    return f"{context.trace_id:032x}" if begun.is_recording() else None
