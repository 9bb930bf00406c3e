"""Who calls: decided anew on every call, by the certificate's fingerprint in the database.

TLS checked the certificate's chain and dates once, when the connection opened. A device revoked since then, or whose
certificate has expired since then, still holds its open connection, so neither can be left to the handshake.
"""

from __future__ import annotations

import hashlib
import ssl
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, TypeAlias

import grpc

from api.device.errors import NotAuthenticated, TooManyStreams, refusal_of
from fleet.errors import UnknownDevice
from fleet.model import Device, DeviceStatus
from fleet.ports import Fleet

STREAM_SECONDS: Final = 60  # reflection and health watches end by then, so that a revoked device holds none for long
MAX_STREAMS: Final = 4  # each holds a worker thread
MOST_FINGERPRINTS: Final = 4_096  # kept, with certificates of about 1 KB; whose they are is never kept

CALLER: ContextVar[Device] = ContextVar("wavegate_device")

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"  # in quotes: generic in the stubs only


class DeviceIdentity(grpc.ServerInterceptor):
    """Lets active devices through, puts the device into ``CALLER``, and turns every error into a status."""

    def __init__(self, fleet: Fleet, clock: Callable[[], datetime]) -> None:
        self._fleet = fleet
        self._clock = clock
        self._wrapped: dict[str, tuple[Handler, Handler | None]] = {}  # by method, of which there are a handful
        self._streams = threading.BoundedSemaphore(MAX_STREAMS)

    def caller(self, context: grpc.ServicerContext) -> Device:
        """The device that calls; raises NotAuthenticated, in the same words whether unknown, revoked or expired."""
        # typed as one value by the stubs, a list of values at run time
        shown: Any = context.auth_context().get("x509_pem_cert")
        if not shown:
            raise NotAuthenticated("the call shows no client certificate; enrol the device")
        try:
            device, certificate = self._fleet.device_by_fingerprint(_fingerprint(shown[0]))
        except UnknownDevice as error:
            raise NotAuthenticated("the certificate is not one of an active device; enrol it again") from error
        if device.status is not DeviceStatus.ACTIVE or not certificate.not_before <= self._clock() < (
            certificate.not_after
        ):
            raise NotAuthenticated("the certificate is not one of an active device; enrol it again")
        return device

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Handler | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Wrap whatever answers the call; an unknown method stays unknown (UNIMPLEMENTED)."""
        handler = continuation(handler_call_details)
        if handler is None:
            return None
        # gRPC asks at every call, in the one thread that takes all calls in.
        method = handler_call_details.method
        wrapped = self._wrapped.get(method)
        if wrapped is None or wrapped[0] is not handler:
            wrapped = self._wrapped[method] = (handler, self._checked(handler))
        return wrapped[1]

    def _checked(self, handler: Handler) -> Handler | None:
        if handler.unary_unary is not None:
            return grpc.unary_unary_rpc_method_handler(
                self._once(handler.unary_unary), handler.request_deserializer, handler.response_serializer
            )
        if handler.unary_stream is not None:
            return grpc.unary_stream_rpc_method_handler(
                self._stream(handler.unary_stream), handler.request_deserializer, handler.response_serializer
            )
        if handler.stream_stream is not None:
            return grpc.stream_stream_rpc_method_handler(
                self._stream(handler.stream_stream), handler.request_deserializer, handler.response_serializer
            )
        return None  # no service here takes a stream and answers once

    def _once(self, answer: Callable[[Any, grpc.ServicerContext], Any]) -> Callable[[Any, grpc.ServicerContext], Any]:
        def checked(request: Any, context: grpc.ServicerContext) -> Any:
            try:
                CALLER.set(self.caller(context))
                return answer(request, context)
            except Exception as error:  # noqa: BLE001  (the outermost frame of a device's call)
                failure = error
            # Outside the try: abort() itself works by raising a plain Exception.
            return _abort(context, failure)

        return checked

    def _stream(
        self, answer: Callable[[Any, grpc.ServicerContext], Iterator[Any]]
    ) -> Callable[[Any, grpc.ServicerContext], Iterator[Any]]:
        def checked(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
            failure: Exception | None = None
            try:
                CALLER.set(self.caller(context))
                if not self._streams.acquire(blocking=False):
                    raise TooManyStreams(f"{MAX_STREAMS} streams are open, which is all there may be; try again later")
            except Exception as error:  # noqa: BLE001  (the outermost frame of a device's call)
                failure = error
            if failure is not None:
                _abort(context, failure)
            end = threading.Timer(STREAM_SECONDS, context.cancel)
            end.daemon = True
            end.start()
            try:
                yield from answer(request, context)
            finally:
                end.cancel()
                self._streams.release()

        return checked


@lru_cache(MOST_FINGERPRINTS)
def _fingerprint(pem: bytes) -> str:
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem.decode())).hexdigest()


def _abort(context: grpc.ServicerContext, failure: Exception) -> Any:
    refusal = refusal_of(failure)
    context.set_trailing_metadata((("wavegate-code", refusal.code),))
    context.abort(refusal.status, refusal.message)
