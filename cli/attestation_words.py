"""What was found of an attestation, in one line for a person."""

from __future__ import annotations

from typing import Any


def attestation_in_words(one: dict[str, Any]) -> str:
    """Such as ``verified by key 5f0c…: https://slsa.dev/provenance/v1, built by …``. Members may be missing or None."""
    signers = [
        f"key {by['keyid'][:16]}…" if by.get("keyid") else f"{by.get('identity')} ({by.get('issuer')})"
        for by in one.get("verified_by") or ()
    ]
    words = f"{one['state']} by {', '.join(signers)}" if signers else f"{one['state']}: {one.get('reason')}"
    told = [
        one.get("predicate_type"),
        f"built by {one['builder']}" if one.get("builder") else None,
        f"from {one['source']}" if one.get("source") else None,
        None if one["subject_matches"] or one["state"] == "failed" else "NOT ABOUT THIS ARTIFACT",
    ]
    return ", ".join([words, *(text for text in told if text)])
