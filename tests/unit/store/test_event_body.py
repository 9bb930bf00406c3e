"""The bytes of an audit event."""

from __future__ import annotations

from datetime import UTC, datetime

from evidence.model import SCHEDULER, AuditEvent
from store.audit import decode_body, encode_body, leaf_hash

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def test_a_body_is_canonical_json() -> None:
    event = AuditEvent("rollout.wave.opened", "rol_1", SCHEDULER, NOON, {"wave": 2, "by": "gate"})
    assert encode_body("acme", 7, "evt_1", event) == (
        b'{"at":"2026-11-21T12:00:00Z",'
        b'"by":{"credential":null,"id":"system:scheduler","kind":"system","name":"scheduler"},'
        b'"data":{"by":"gate","wave":2},"format":1,"id":"evt_1","org":"acme","seq":7,'
        b'"subject":"rol_1","tag":"rollout.wave.opened"}'
    )


def test_a_body_reads_back_as_its_event() -> None:
    event = AuditEvent("a.b", "rol_1", SCHEDULER, NOON, {"x": [1, {"y": None}]})
    assert decode_body(encode_body("acme", 1, "evt_1", event)) == event


def test_a_leaf_hash_is_rfc_6962_s() -> None:
    # The empty leaf's hash as Certificate Transparency implementations publish it.
    assert leaf_hash(b"").hex() == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
