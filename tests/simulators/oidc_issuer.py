"""An issuer of identity tokens on loopback: publishes keys, signs what a test tells it to, counts who asks."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey

GITHUB_JOB: Mapping[str, Any] = {
    "sub": "repo:acme/gateway:environment:release",
    "repository": "acme/gateway",
    "repository_id": "74",
    "repository_owner": "acme",
    "repository_owner_id": "65",
    "job_workflow_ref": "acme/gateway/.github/workflows/release.yml@refs/tags/v1.0.0",
    "workflow": "Release",
    "ref": "refs/tags/v1.0.0",
    "sha": "a" * 40,
    "environment": "Release",
    "run_id": "4711",
    "actor": "ann",
}
GITLAB_JOB: Mapping[str, Any] = {
    "sub": "project_path:acme/gateway:ref_type:branch:ref:main",
    "project_path": "acme/gateway",
    "project_id": "22",
    "namespace_id": "72",
    "namespace_path": "acme",
    "ref": "main",
    "ref_type": "branch",
    "ref_protected": "true",
    "environment": "production",
    "pipeline_id": "1212",
    "job_id": "1234",
}


def new_key(algorithm: str) -> PrivateKey:
    """A private key that signs by this algorithm."""
    if algorithm.startswith(("RS", "PS")):
        return rsa.generate_private_key(65537, 2048)
    if algorithm == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    return ec.generate_private_key({"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1()}[algorithm])


def public_jwk(key: PrivateKey, algorithm: str, kid: str | None) -> dict[str, Any]:
    """What an issuer publishes of a key."""
    told = jwt.get_algorithm_by_name(algorithm).to_jwk(key.public_key(), as_dict=True)
    return {**told, "use": "sig", "alg": algorithm, **({} if kid is None else {"kid": kid})}


@dataclass
class OidcIssuer:
    """``published`` are the JWKs told, ``document`` what goes over its description, ``asked`` the paths asked for.
    As a provider of logins it answers ``/token`` and ``/userinfo`` with what ``answers`` has for them, any code taken.
    """

    url: str
    key: PrivateKey
    algorithm: str = "RS256"
    published: list[dict[str, Any]] = field(default_factory=list)
    document: dict[str, Any] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    answers: dict[str, tuple[int, Any]] = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=count)

    def token(
        self,
        audience: object,
        job: Mapping[str, Any] = GITHUB_JOB,
        *,
        key: PrivateKey | None = None,
        algorithm: str | None = None,
        headers: Mapping[str, Any] | None = None,
        **changed: Any,
    ) -> str:
        """A token as a job gets it, good for five minutes; a claim or header that is None is left out."""
        now = int(time.time())
        times = {"iat": now, "nbf": now, "exp": now + 300}
        claims = {"iss": self.url, "aud": audience, **times, "jti": f"job-{next(self.numbers)}", **job, **changed}
        told = {name: value for name, value in claims.items() if value is not None}
        named = {"kid": "first", **(headers or {})}
        return jwt.encode(
            told,
            key or self.key,
            algorithm=algorithm or self.algorithm,
            headers={name: value for name, value in named.items() if value is not None},
        )

    def rotate(self, algorithm: str, kid: str) -> None:
        """Sign with a new key from now on; it is published, and the old one no more."""
        self.key, self.algorithm = new_key(algorithm), algorithm
        self.published[:] = [public_jwk(self.key, algorithm, kid)]


@contextmanager
def oidc_issuer(algorithm: str = "RS256") -> Iterator[OidcIssuer]:
    """An issuer on a free port, ended with the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.do_GET()

        def do_GET(self) -> None:
            issuer.asked.append(self.path)
            status, told = issuer.answers.get(self.path, (404, None))
            if self.path == "/.well-known/openid-configuration":
                status, told = 200, {"issuer": issuer.url, "jwks_uri": f"{issuer.url}/keys", **issuer.document}
            elif self.path == "/keys":
                status, told = 200, {"keys": issuer.published}
            elif self.path.startswith("/job?") and self.headers["authorization"] == "Bearer of-this-job":
                # As GitHub gives a job its token.
                status, told = 200, {"value": issuer.token(parse_qs(urlsplit(self.path).query)["audience"][0])}
            body = told if isinstance(told, bytes) else json.dumps(told or {}).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    key = new_key(algorithm)
    issuer = OidcIssuer(f"http://127.0.0.1:{server.server_port}", key, algorithm, [public_jwk(key, algorithm, "first")])
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield issuer
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
