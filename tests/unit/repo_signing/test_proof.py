"""What is refused before it is written, because a stock client would refuse it afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from securesystemslib.signer import CryptoSigner

from repo_signing import roles
from repo_signing.canonical import canonical
from repo_signing.errors import ClientWouldRefuse
from repo_signing.proof import Offer, check_acceptable

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
KEYS = {
    name: CryptoSigner.generate_ed25519()
    for name in ("root", "targets", "snapshot", "timestamp", "decisions", "releases")
}


def signed(role: str, body: Mapping[str, Any], key: str | None = None) -> bytes:
    signature = KEYS[roles.key_of(role) if key is None else key].sign(canonical(dict(body)))
    return canonical({"signatures": [signature.to_dict()], "signed": dict(body)})


def versions(**changed: int) -> dict[str, int]:
    return {"targets": 1, "decisions": 1, "brakes": 1, "releases": 1} | changed


def offer(
    serial: int, meta: Mapping[str, int], delegated: Mapping[str, bytes] | None = None, now: datetime = NOW
) -> Offer:
    public = {name: KEYS[name].public_key for name in KEYS}
    top = {name: public[name] for name in ("root", "targets", "snapshot", "timestamp")}
    snapshot = signed("snapshot", roles.snapshot_body(meta, serial, now, {}))
    return Offer(
        root=signed("root", roles.root_body(top, NOW)),
        timestamp=signed("timestamp", roles.timestamp_body(serial, len(snapshot), serial, now)),
        snapshot=snapshot,
        targets=signed("targets", roles.targets_body(public["decisions"], public["releases"], 1, NOW)),
        delegated={} if delegated is None else delegated,
    )


def holder(role: str, version: int, targets: Mapping[str, Any] | None = None, key: str | None = None) -> bytes:
    return signed(role, roles.holder_body(role, {} if targets is None else targets, version, NOW), key)


BEFORE = offer(1, versions())
SEEN = (BEFORE.timestamp, BEFORE.snapshot)


def test_a_sound_commit_is_accepted_by_old_and_new_clients() -> None:
    after = offer(2, versions(decisions=2), {"decisions": holder("decisions", 2)})
    check_acceptable(after, SEEN, NOW)


def test_a_name_lost_from_the_snapshot_is_refused() -> None:
    lost = versions()
    del lost["brakes"]
    with pytest.raises(ClientWouldRefuse, match="missing info for 'brakes"):
        check_acceptable(offer(2, lost), SEEN, NOW)


def test_rollback_a_role_below_what_clients_saw_is_refused() -> None:
    seen = offer(2, versions(decisions=2))
    with pytest.raises(ClientWouldRefuse, match=r"Expected decisions\.json version"):
        check_acceptable(offer(3, versions(decisions=1)), (seen.timestamp, seen.snapshot), NOW)


def test_a_serial_that_does_not_grow_is_refused() -> None:
    with pytest.raises(ClientWouldRefuse):
        check_acceptable(offer(1, versions()), SEEN, NOW)


def test_too_few_signatures_are_refused() -> None:
    forged = holder("decisions", 2, key="releases")
    with pytest.raises(ClientWouldRefuse, match="decisions was signed by 0/1 keys"):
        check_acceptable(offer(2, versions(decisions=2), {"decisions": forged}), SEEN, NOW)


def test_a_version_other_than_the_snapshot_names_is_refused() -> None:
    with pytest.raises(ClientWouldRefuse, match="Expected decisions v2, got v1"):
        check_acceptable(offer(2, versions(decisions=2), {"decisions": holder("decisions", 1)}), SEEN, NOW)


def test_an_expired_role_is_refused() -> None:
    later = NOW + timedelta(days=8)
    late = offer(2, versions(decisions=2), {"decisions": holder("decisions", 2)}, now=later)
    with pytest.raises(ClientWouldRefuse, match="New decisions is expired"):
        check_acceptable(late, SEEN, later)


def test_an_old_client_whose_files_have_all_expired_accepts_the_next_commit() -> None:
    later = NOW + timedelta(days=30)
    check_acceptable(offer(2, versions(), now=later), SEEN, later)


def test_a_wrong_length_is_refused() -> None:
    sound = offer(2, versions())
    padded = replace(sound, snapshot=sound.snapshot + b" ")
    with pytest.raises(ClientWouldRefuse, match="length"):
        check_acceptable(padded, SEEN, NOW)


def test_a_role_of_more_than_80_percent_of_the_stock_limit_is_refused() -> None:
    just = {"decisions/app/x.json": {"custom": {"pad": "x" * 3_999_000}, "hashes": {"sha256": "ab" * 32}, "length": 1}}
    over = {"decisions/app/x.json": {"custom": {"pad": "x" * 4_000_000}, "hashes": {"sha256": "ab" * 32}, "length": 1}}
    check_acceptable(offer(2, versions(decisions=2), {"decisions": holder("decisions", 2, just)}), SEEN, NOW)
    with pytest.raises(ClientWouldRefuse, match="at most 4000000 are signed"):
        check_acceptable(offer(2, versions(decisions=2), {"decisions": holder("decisions", 2, over)}), SEEN, NOW)
