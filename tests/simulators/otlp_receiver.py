"""A receiver of OpenTelemetry traces on loopback: OTLP over HTTP with protobuf, decoded by its published schema."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


@dataclass(frozen=True)
class GotSpan:
    """One span; ``parent`` is the name of the span it is in, empty for one that is in none of those received."""

    service: str
    name: str
    trace: str
    id: str
    parent_id: str
    attributes: dict[str, str]
    failed: bool


@dataclass
class OtlpReceiver:
    """What came, in order."""

    port: int
    spans: list[GotSpan] = field(default_factory=list)
    paths: set[str] = field(default_factory=set)
    raw: bytearray = field(default_factory=bytearray)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def named(self, name: str) -> list[GotSpan]:
        return [one for one in self.spans if one.name == name]

    def below(self, span: GotSpan) -> set[str]:
        """Names of all spans within another."""
        inner = [one for one in self.spans if one.trace == span.trace and one.parent_id == span.id]
        return {one.name for one in inner} | {name for one in inner for name in self.below(one)}


@contextmanager
def otlp_receiver() -> Iterator[OtlpReceiver]:
    """A receiver on a free port, ended with the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            assert self.headers["content-type"] == "application/x-protobuf"
            receiver.paths.add(self.path)
            receiver.raw += body
            receiver.spans += _spans(ExportTraceServiceRequest.FromString(body))
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver = OtlpReceiver(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _spans(request: ExportTraceServiceRequest) -> Iterator[GotSpan]:
    for resource in request.resource_spans:
        names = {one.key: one.value.string_value for one in resource.resource.attributes}
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield GotSpan(
                    service=names["service.name"],
                    name=span.name,
                    trace=span.trace_id.hex(),
                    id=span.span_id.hex(),
                    parent_id=span.parent_span_id.hex(),
                    attributes={one.key: one.value.string_value or str(one.value.int_value) for one in span.attributes},
                    failed=span.status.code == 2,
                )
