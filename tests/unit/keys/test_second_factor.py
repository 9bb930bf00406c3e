"""Codes of authenticator apps (RFC 6238), recovery codes, and the seal around the secret."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from keys.errors import SealBroken
from keys.seal import Seal
from keys.second_factor import (
    code_at,
    matching_step,
    new_recovery_codes,
    new_totp_secret,
    otpauth_uri,
    recovery_digest,
)

SECRET = b"12345678901234567890"  # of RFC 6238, appendix B


@pytest.mark.parametrize(
    ("seconds", "code"),
    [
        (59, "287082"),
        (1_111_111_109, "081804"),
        (1_111_111_111, "050471"),
        (1_234_567_890, "005924"),
        (2_000_000_000, "279037"),
        (20_000_000_000, "353130"),
    ],
)
def test_the_codes_are_those_of_the_rfc(seconds: int, code: str) -> None:
    now = datetime.fromtimestamp(seconds, UTC)
    assert code_at(SECRET, now) == code
    assert matching_step(SECRET, code, now) == seconds // 30


@pytest.mark.parametrize(
    ("late", "step"), [(-60, None), (-30, 37_037_037), (0, 37_037_037), (30, 37_037_037), (60, None)]
)
def test_a_code_counts_one_step_before_and_after_its_own(late: int, step: int | None) -> None:
    now = datetime.fromtimestamp(1_111_111_111, UTC) + timedelta(seconds=late)
    assert matching_step(SECRET, "050471", now) == step


@pytest.mark.parametrize("typed", ["", "05047", "0504711", "05047x", "٠٥٠٤٧١", "050472", "-50471"])
def test_anything_else_is_no_match(typed: str) -> None:
    assert matching_step(SECRET, typed, datetime.fromtimestamp(1_111_111_111, UTC)) is None


def test_a_code_may_be_typed_in_groups() -> None:
    assert matching_step(SECRET, "050 471", datetime.fromtimestamp(1_111_111_111, UTC)) == 37_037_037


def test_apps_read_the_secret_from_the_uri() -> None:
    uri = otpauth_uri(SECRET, account="ann@example.com", issuer="Wavegate acme")
    assert uri.startswith("otpauth://totp/Wavegate%20acme:ann%40example.com?")
    assert "secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ" in uri
    assert all(part in uri for part in ("digits=6", "period=30", "algorithm=SHA1", "issuer=Wavegate%20acme"))


def test_secrets_and_recovery_codes_are_all_different() -> None:
    assert len(new_totp_secret()) == 20
    assert new_totp_secret() != new_totp_secret()
    codes = new_recovery_codes()
    assert len({recovery_digest(code) for code in codes}) == 10
    assert {len(code) for code in codes} == {19}


def test_a_recovery_code_is_known_in_whatever_form_it_is_typed() -> None:
    kept = recovery_digest("k3f7-abcd-2345-mnpq")
    assert kept is not None
    assert recovery_digest(" K3F7 ABCD 2345 MNPQ") == kept
    assert [recovery_digest(text) for text in ("k3f7-abcd-2345-mnp", "k3f7-abcd-2345-mnp0", "050471", "")] == [None] * 4


def test_a_seal_opens_for_its_owner_in_its_home_only() -> None:
    seal = Seal(b"a random passphrase", purpose="second factors")
    sealed = seal.close(SECRET, of="usr_1")
    assert seal.open(sealed, of="usr_1") == SECRET
    assert seal.close(SECRET, of="usr_1") != sealed
    for other, owner in (
        (seal, "usr_2"),
        (Seal(b"another passphrase", purpose="second factors"), "usr_1"),
        (Seal(b"a random passphrase", purpose="webhooks"), "usr_1"),
    ):
        with pytest.raises(SealBroken, match=f"a sealed secret of {owner} does not open"):
            other.open(sealed, of=owner)


@pytest.mark.parametrize("sealed", ["", "AAAA", "no base64!", "A" * 80])
def test_what_was_never_sealed_does_not_open(sealed: str) -> None:
    with pytest.raises(SealBroken):
        Seal(b"a random passphrase", purpose="second factors").open(sealed, of="usr_1")
