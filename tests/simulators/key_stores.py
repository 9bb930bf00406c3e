"""Places that hold private keys and sign with them: SoftHSM2 itself, and stand-ins for those that cannot be had here.

SoftHSM2 comes from Debian, unpacked into ``.cache`` without root when it is not installed. The stand-ins speak the real
services' protocols and sign with real keys, so what passes through the real client libraries is what would in earnest.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import grpc
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from google.cloud import kms

from tests.simulators.debian import NotToBeHad, fetched

TOKEN_PIN: Final = "1234"
TOKEN_LABEL: Final = "wavegate test"
_MODULE: Final = "libsofthsm2.so"
_PLACES: Final = ("/usr/lib/softhsm", "/usr/lib/x86_64-linux-gnu/softhsm", "/usr/lib/aarch64-linux-gnu/softhsm")


def softhsm_programs() -> tuple[Path, Path]:
    """Paths of SoftHSM2's PKCS#11 module and of ``softhsm2-util``; raises NotToBeHad."""
    util = shutil.which("softhsm2-util")
    for place in _PLACES:
        if util is not None and (Path(place) / _MODULE).is_file():
            return Path(place) / _MODULE, Path(util)
    tree = fetched("softhsm2", "libsofthsm2")
    module = next((path for path in tree.rglob(_MODULE) if path.is_file()), None)
    if module is None:
        raise NotToBeHad(f"{tree} holds no {_MODULE}; remove the folder to fetch it again")
    return module, tree / "usr" / "bin" / "softhsm2-util"


def new_token(folder: Path) -> tuple[Path, Path]:
    """Make a PKCS#11 token in ``folder``; returns the paths for ``PYKCS11LIB`` and ``SOFTHSM2_CONF``."""
    module, util = softhsm_programs()
    (folder / "tokens").mkdir(parents=True)
    config = folder / "softhsm2.conf"
    config.write_text(f"directories.tokendir = {folder / 'tokens'}\nobjectstore.backend = file\nlog.level = ERROR\n")
    labels = ["--label", TOKEN_LABEL, "--pin", TOKEN_PIN, "--so-pin", "5678"]
    subprocess.run(
        [util, "--module", module, "--init-token", "--free", *labels],
        check=True,
        capture_output=True,
        env=os.environ | {"SOFTHSM2_CONF": str(config)},
    )
    return module, config


class VaultSimulator:
    """The part of Vault's transit engine that signs (ed25519), over HTTP on loopback.

    Follows the API documentation, "Transit secrets engine": read key, sign data. No Vault program is to be had from
    Debian or PyPI.
    """

    TOKEN = "hvs.simulated"

    def __init__(self) -> None:
        self.keys: Final[dict[str, list[Ed25519PrivateKey]]] = {}
        self.address = ""

    def rotate(self, name: str) -> None:
        """Make a key, or its next version."""
        self.keys.setdefault(name, []).append(Ed25519PrivateKey.generate())

    def read(self, name: str) -> dict[str, Any]:
        """What ``GET /transit/keys/:name`` answers."""
        versions = {
            str(number): {"public_key": base64.b64encode(key.public_key().public_bytes_raw()).decode()}
            for number, key in enumerate(self.keys[name], 1)
        }
        return {"data": {"name": name, "type": "ed25519", "keys": versions}}

    def sign(self, name: str, asked: dict[str, Any]) -> dict[str, Any]:
        """What ``POST /transit/sign/:name`` answers."""
        number = asked.get("key_version") or len(self.keys[name])
        signature = self.keys[name][number - 1].sign(base64.b64decode(asked["input"]))
        return {"data": {"signature": f"vault:v{number}:{base64.b64encode(signature).decode()}", "key_version": number}}


@contextmanager
def running_vault() -> Iterator[VaultSimulator]:
    """A transit engine on a loopback port."""
    vault = VaultSimulator()

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(b"")

        def do_POST(self) -> None:
            self._answer(self.rfile.read(int(self.headers["Content-Length"])))

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class names it so
            return

        def _answer(self, body: bytes) -> None:
            _, _, engine, verb, name = self.path.split("/")
            if self.headers.get("X-Vault-Token") != VaultSimulator.TOKEN:
                self._send(403, {"errors": ["permission denied"]})
            elif engine != "transit" or name not in vault.keys:
                self._send(404, {"errors": []})
            else:
                self._send(200, vault.read(name) if verb == "keys" else vault.sign(name, json.loads(body)))

        def _send(self, status: int, content: dict[str, Any]) -> None:
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        vault.address = f"http://127.0.0.1:{server.server_port}"
        try:
            yield vault
        finally:
            server.shutdown()
            thread.join()


class CloudKmsSimulator(grpc.GenericRpcHandler):
    """Google Cloud KMS's ``GetPublicKey`` and ``AsymmetricSign`` for one EC P-256 key version, in its own messages."""

    def __init__(self, name: str) -> None:
        self._name: Final = name
        self._key: Final = ec.generate_private_key(ec.SECP256R1())

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        service, _, method = handler_call_details.method.rpartition("/")
        if service != "/google.cloud.kms.v1.KeyManagementService":
            return None
        if method == "GetPublicKey":
            return grpc.unary_unary_rpc_method_handler(
                self._public_key, kms.GetPublicKeyRequest.deserialize, kms.PublicKey.serialize
            )
        if method == "AsymmetricSign":
            return grpc.unary_unary_rpc_method_handler(
                self._sign, kms.AsymmetricSignRequest.deserialize, kms.AsymmetricSignResponse.serialize
            )
        return None

    def _public_key(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._check(request, context)
        pem = self._key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        return kms.PublicKey(
            name=self._name,
            algorithm=kms.CryptoKeyVersion.CryptoKeyVersionAlgorithm.EC_SIGN_P256_SHA256,
            public_key={"data": pem},
        )

    def _sign(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._check(request, context)
        return kms.AsymmetricSignResponse(
            name=self._name, signature=self._key.sign(request.digest.sha256, ec.ECDSA(Prehashed(SHA256())))
        )

    def _check(self, request: Any, context: grpc.ServicerContext) -> None:
        if request.name != self._name:
            context.abort(grpc.StatusCode.NOT_FOUND, f"CryptoKeyVersion {request.name} not found.")


@contextmanager
def running_cloud_kms(name: str) -> Iterator[str]:
    """A key version of that resource name behind gRPC; yields the address."""
    with ThreadPoolExecutor(2) as threads:
        server = grpc.server(threads)
        server.add_generic_rpc_handlers((CloudKmsSimulator(name),))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            server.stop(None).wait()


def sign_digest(self: Any, message: bytes, signing_algorithm: str) -> bytes:
    """Moto's missing half: AWS signs a message of type DIGEST as it stands, moto hashes it once more."""
    assert signing_algorithm == "ECDSA_SHA_256"
    assert len(message) == 32
    signature: bytes = self.private_key.sign(message, ec.ECDSA(Prehashed(SHA256())))
    return signature
