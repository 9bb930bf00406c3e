"""An enrolment that was asked for, kept until its answer is safe.

A code is good once, and its use ends the device's old certificates at the server. If the answer gets lost on the way,
by the line or the power, the same request with the same key must be sent again: the server then says the same again.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding

from agent.durable import flush_folder, write_durably
from agent.home import Home
from agent.identity import Keypair


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """The request's exact bytes, its Idempotency-Key and the key that it asks a certificate for."""

    key: Keypair
    body: bytes
    once: str

    @classmethod
    def new(cls, said: Mapping[str, str]) -> Asking:
        """With a key that is made now."""
        key = Keypair()
        body = {**said, "certificate_request": key.request(Encoding.PEM).decode()}
        return cls(key=key, body=json.dumps(body).encode(), once=secrets.token_hex(16))

    @classmethod
    def kept(cls, home: Home, said: Mapping[str, str]) -> Asking:
        """The one that was kept for the same token and device, else a new one, kept from now on."""
        try:
            stored: dict[str, Any] = json.loads(_file(home).read_bytes())
            if stored["said_sha256"] == _digest(said):
                key = Keypair(stored["private_key"].encode())
                return cls(key=key, body=stored["body"].encode(), once=stored["once"])
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            pass  # None is kept, or a damaged one, which is of no use.
        made = cls.new(said)
        stored = {
            "said_sha256": _digest(said),
            "private_key": made.key.private_pem.decode(),
            "body": made.body.decode(),
            "once": made.once,
        }
        write_durably(_file(home), json.dumps(stored).encode())
        return made


def forget(home: Home) -> None:
    """The answer is safe, or it was no: another try is another request."""
    _file(home).unlink(missing_ok=True)
    flush_folder(home.folder)


def _file(home: Home) -> Path:
    return home.folder / "enrolment.json"


def _digest(said: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
