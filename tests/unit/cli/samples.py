"""Answers as the API gives them, for the simulator to hand out."""

from __future__ import annotations

from typing import Any

SBOM: dict[str, Any] = {
    "id": "sbo_01",
    "target_path": "app/1.0.0/any/app.bin.sbom.0.cyclonedx-json",
    "sha256": "b" * 64,
    "length": 300,
    "format": "cyclonedx-json",
    "spec_version": "1.6",
    "components": 12,
    "media_type": "application/vnd.cyclonedx+json",
}

ATTESTATION: dict[str, Any] = {
    "id": "att_01",
    "target_path": "app/1.0.0/any/app.bin.att.0.dsse",
    "sha256": "c" * 64,
    "length": 400,
    "kind": "dsse",
    "media_type": "application/vnd.dsse.envelope.v1+json",
    "state": "verified",
    "verified_by": [{"keyid": "5f" * 32, "identity": None, "issuer": None}],
    "reason": None,
    "subject_matches": True,
    "predicate_type": "https://slsa.dev/provenance/v1",
    "builder": "https://builder.example",
    "source": "git+https://git.example/app",
    "source_digest": "gitCommit:0123",
}

ARTIFACT: dict[str, Any] = {
    "id": "art_01",
    "target_path": "app/1.0.0/any/app.bin",
    "sha256": "a" * 64,
    "length": 5,
    "serial": 7,
    "product": "app",
    "version": "1.0.0",
    "platform": "any",
    "channel": "stable",
    "file_name": "app.bin",
    "publisher": {"kind": "service", "id": "usr_01", "name": "ci"},
    "created_at": "2026-11-21T10:00:00.123Z",
    "notes": "",
    "labels": {"team": "edge"},
    "security": False,
    "yanked": None,
    "withdrawn": None,
    "sboms": [SBOM],
    "attestations": [ATTESTATION],
}

GATE: dict[str, Any] = {
    "approvals": 1,
    "not_before": None,
    "soak_seconds": 90,
    "success_percent": 90,
    "min_reports": 1,
    "max_failures": 2,
    "max_failure_rate_percent": 10,
    "deadline_seconds": None,
}


def wave(number: int, group: str, percent: int, state: str, succeeded: int = 0, failed: int = 0) -> dict[str, Any]:
    return {
        "number": number,
        "group": group,
        "percent": percent,
        "gate": GATE,
        "state": state,
        "opened_at": None,
        "ended_at": None,
        "note": "",
        "approvals": [],
        "approvals_needed": 1,
        "counters": {
            "expected": 4,
            "acting": succeeded + failed,
            "succeeded": succeeded,
            "failed": failed,
            "rolled_back": 0,
        },
    }


def rollout(state: str = "waiting", *, revision: int = 2, why: str = "wave 1 waits for 1 approval") -> dict[str, Any]:
    return {
        "id": "rol_01",
        "product": "app",
        "version": "1.0.0",
        "channel": "stable",
        "state": state,
        "revision": revision,
        "plan_hash": "c" * 64,
        "plan": {
            "artifacts": {
                "any": {"id": "art_01", "path": "app/1.0.0/any/app.bin", "length": 52428800, "sha256": "a" * 64}
            },
            "allow_downgrade": False,
            "note": "fixes the clock",
        },
        "wave": 1,
        "waves": [wave(1, "canary", 10, "pending"), wave(2, "fleet", 100, "pending")],
        "why": why,
        "created_by": {"kind": "service", "id": "usr_01", "name": "ci"},
        "created_at": "2026-11-21T10:00:00Z",
        "submitted_at": "2026-11-21T10:00:00Z",
        "ended_at": None,
        "paused_because": None,
        "abort_mode": None,
        "abort_reason": None,
        "superseded_by": None,
        "attempt": 1,
        "mode": "managed",
    }
