"""The yardstick of the device port: the same messages over gRPC with mutual TLS, answered without looking at them.

``python -m tests.perf.echo FOLDER``: reads ``key.pem``, ``chain.pem`` and ``ca.pem`` there, and prints its port.
"""

from __future__ import annotations

import sys
from concurrent import futures
from pathlib import Path

import grpc

from api.device import device_pb2, device_pb2_grpc


class Echo(device_pb2_grpc.DeviceServiceServicer):
    """Answers what a check-in and a report are answered, always the same."""

    def CheckIn(self, request: device_pb2.CheckInRequest, context: grpc.ServicerContext) -> device_pb2.CheckInResponse:
        return device_pb2.CheckInResponse(
            device_id="dev_01KAM6P5S0BENCHBENCHBENCH0",
            device_name="gw-0",
            groups=["field"],
            products=["app"],
            next_check_in_seconds=300,
        )

    def Report(self, request: device_pb2.ReportRequest, context: grpc.ServicerContext) -> device_pb2.ReportResponse:
        return device_pb2.ReportResponse(counted=True)


def main() -> None:
    folder = Path(sys.argv[1])
    key, chain, ca = ((folder / f"{name}.pem").read_bytes() for name in ("key", "chain", "ca"))
    server = grpc.server(futures.ThreadPoolExecutor(16), options=(("grpc.so_reuseport", 0),))
    device_pb2_grpc.add_DeviceServiceServicer_to_server(Echo(), server)  # type: ignore[no-untyped-call]
    credentials = grpc.ssl_server_credentials([(key, chain)], root_certificates=ca, require_client_auth=True)
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    server.wait_for_termination()


if __name__ == "__main__":
    main()
