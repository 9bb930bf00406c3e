"""Make the stubs from the proto: ``python -m api.device.generate [folder]``, from the top of the repository.

The three files it writes are committed, so that neither server nor device needs a compiler. A test makes them anew and
compares. ``grpcio-tools`` is a development dependency; the stubs ask for a grpcio at least as new as it.
"""

from __future__ import annotations

import sys
from pathlib import Path

PROTO = "api/device/device.proto"  # named by its folder, so that the stubs import ``api.device.device_pb2``


def generate(top: Path, into: Path) -> None:
    """Compile ``api/device/device.proto`` under ``top`` into the same folder under ``into``; raises RuntimeError."""
    from grpc_tools import protoc  # type: ignore[import-untyped]

    outputs = [f"--{kind}_out={into}" for kind in ("python", "pyi", "grpc_python")]
    if protoc.main(["protoc", f"-I{top}", *outputs, PROTO]) != 0:
        raise RuntimeError(f"{PROTO} does not compile; protoc said why above")


if __name__ == "__main__":
    generate(Path.cwd(), Path(sys.argv[1]) if len(sys.argv) > 1 else Path.cwd())
