"""Who calls: decided anew on every call, by the certificate's fingerprint in the database.

TLS checked the certificate's chain and dates once, when the connection opened. A device revoked since then, or whose
certificate has expired since then, still holds its open connection, so neither can be left to the handshake.
"""

from __future__ import annotations

import hashlib
import logging
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, TypeAlias

import grpc

from api.device.errors import NotAuthenticated, Refusal, TooManyStreams, refusal_of
from api.logs import about, also, fields
from api.tracing import span
from fleet.errors import UnknownDevice
from fleet.model import Device, DeviceStatus
from fleet.ports import Fleet

STREAM_SECONDS: Final = 60  # reflection and health watches end by then, so that nobody holds one for long
_NOT_ACTIVE: Final = "the certificate is not one of an active device; enrol it again"
LOOK_SECONDS: Final = 0.5  # between looks at whether the device of an open stream may still call
MAX_STREAMS: Final = 4  # each holds a worker thread
MOST_FINGERPRINTS: Final = 4_096  # kept, with certificates of about 1 KB; whose they are is never kept

OFTEN: Final = "CheckIn"  # every device, all day long: told only when it is refused, or when debugging
ANSWERED: Final = "OK"

Tally = Callable[[str, str, float], None]
"""``(method, gRPC status, seconds)`` of a call that was answered."""

_LOG: Final = logging.getLogger("wavegate.device")

CALLER: ContextVar[Device] = ContextVar("wavegate_device")

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"  # in quotes: generic in the stubs only


class DeviceIdentity(grpc.ServerInterceptor):
    """Lets active devices through, puts the device into ``CALLER``, and turns every error into a status."""

    def __init__(self, fleet: Fleet, clock: Callable[[], datetime], tally: Tally) -> None:
        self._fleet = fleet
        self._clock = clock
        self._tally = tally
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
            raise NotAuthenticated(_NOT_ACTIVE) from error
        if device.status is not DeviceStatus.ACTIVE or not certificate.not_before <= self._clock() < (
            certificate.not_after
        ):
            raise NotAuthenticated(_NOT_ACTIVE)
        return device

    @contextmanager
    def while_active(self, context: grpc.ServicerContext, seconds: float) -> Iterator[Callable[[], None]]:
        """End the call (CANCELLED) within a second of its device being revoked or deleted, and in ``seconds``.

        For calls that stay open: who calls was looked up when they began. While the database does not answer nobody is
        known to be revoked, and the call goes on. What is yielded raises NotAuthenticated once the device is revoked.
        """
        over, gone, deadline = threading.Event(), threading.Event(), time.monotonic() + seconds

        def look() -> None:
            while not over.wait(LOOK_SECONDS):
                if not self._may_go_on(context):
                    gone.set()
                if gone.is_set() or time.monotonic() >= deadline:
                    context.cancel()
                    return

        def check() -> None:
            if gone.is_set():
                raise NotAuthenticated(_NOT_ACTIVE)

        looking = threading.Thread(target=look, name="wavegate-device-stream", daemon=True)
        looking.start()
        try:
            yield check
        finally:
            over.set()

    def _may_go_on(self, context: grpc.ServicerContext) -> bool:
        try:
            self.caller(context)
        except NotAuthenticated:
            return False
        except Exception:  # noqa: BLE001  (the outermost frame of this thread)
            _LOG.warning("who holds a stream could not be looked up; it is tried again", exc_info=True)
        return True

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
            wrapped = self._wrapped[method] = (handler, self._checked(handler, method.rpartition("/")[2]))
        return wrapped[1]

    def _checked(self, handler: Handler, method: str) -> Handler | None:
        if handler.unary_unary is not None:
            return grpc.unary_unary_rpc_method_handler(
                self._once(handler.unary_unary, method), handler.request_deserializer, handler.response_serializer
            )
        if handler.unary_stream is not None:
            return grpc.unary_stream_rpc_method_handler(
                self._stream(handler.unary_stream, method), handler.request_deserializer, handler.response_serializer
            )
        if handler.stream_stream is not None:
            return grpc.stream_stream_rpc_method_handler(
                self._stream(handler.stream_stream, method), handler.request_deserializer, handler.response_serializer
            )
        if handler.stream_unary is not None:
            # What takes it in ends it itself: it may last longer than those that only listen.
            return grpc.stream_unary_rpc_method_handler(
                self._once(handler.stream_unary, method), handler.request_deserializer, handler.response_serializer
            )
        return None

    def _once(
        self, answer: Callable[[Any, grpc.ServicerContext], Any], method: str
    ) -> Callable[[Any, grpc.ServicerContext], Any]:
        def checked(request: Any, context: grpc.ServicerContext) -> Any:
            began = time.perf_counter()
            about(method=method)
            answered, refusal = None, None
            with span(f"device {method}", serves=True):
                try:
                    self._admit(context)
                    answered = answer(request, context)
                except Exception as error:  # noqa: BLE001  (the outermost frame of a device's call)
                    refusal = refusal_of(error)
                self._tell(method, refusal, began)
            # Outside the try: abort() itself works by raising a plain Exception.
            return answered if refusal is None else _abort(context, refusal)

        return checked

    def _stream(
        self, answer: Callable[[Any, grpc.ServicerContext], Iterator[Any]], method: str
    ) -> Callable[[Any, grpc.ServicerContext], Iterator[Any]]:
        def checked(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
            began = time.perf_counter()
            about(method=method)
            refusal: Refusal | None = None
            try:
                self._admit(context)
                if not self._streams.acquire(blocking=False):
                    raise TooManyStreams(f"{MAX_STREAMS} streams are open, which is all there may be; try again later")
            except Exception as error:  # noqa: BLE001  (the outermost frame of a device's call)
                refusal = refusal_of(error)
            if refusal is not None:
                self._tell(method, refusal, began)
                _abort(context, refusal)
            try:
                with self.while_active(context, STREAM_SECONDS):
                    yield from answer(request, context)
            finally:
                self._streams.release()
                self._tell(method, None, began)

        return checked

    def _admit(self, context: grpc.ServicerContext) -> None:
        device = self.caller(context)
        CALLER.set(device)
        also(org=device.org, device=device.id)

    def _tell(self, method: str, refusal: Refusal | None, began: float) -> None:
        spent = time.perf_counter() - began
        status = ANSWERED if refusal is None else refusal.status.name
        self._tally(method, status, spent)
        level = logging.DEBUG if refusal is None and method == OFTEN else logging.INFO
        if _LOG.isEnabledFor(level):
            code = None if refusal is None else refusal.code
            told = fields(status=status, code=code, duration_ms=round(spent * 1000, 2))
            _LOG.log(level, "%s %s", method, status, extra=told)


@lru_cache(MOST_FINGERPRINTS)
def _fingerprint(pem: bytes) -> str:
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem.decode())).hexdigest()


def _abort(context: grpc.ServicerContext, refusal: Refusal) -> Any:
    context.set_trailing_metadata((("wavegate-code", refusal.code),))
    context.abort(refusal.status, refusal.message)
