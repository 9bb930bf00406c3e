"""Identity tokens: which are taken, and the attacks that are not."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from keys.errors import IdTokenInvalid, IdTokenKeyUnknown
from keys.id_token import IdToken, claimed_issuer, verify
from tests.simulators.oidc_issuer import OidcIssuer, new_key, public_jwk

US = "https://wavegate.example"
ISSUER = "https://issuer.example"


def issuer_of(algorithm: str) -> OidcIssuer:
    key = new_key(algorithm)
    return OidcIssuer(ISSUER, key, algorithm, [public_jwk(key, algorithm, "first")])


@pytest.fixture(scope="module")
def issuer() -> OidcIssuer:
    return issuer_of("RS256")


@pytest.fixture(scope="module")
def curve() -> OidcIssuer:
    return issuer_of("ES256")


def check(text: str, keys: list[dict[str, Any]], *, after: float = 0, audience: str = US) -> IdToken:
    now = datetime.now(UTC) + timedelta(seconds=after)
    return verify(text, keys, issuer=ISSUER, audience=audience, now=now)


def part(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def payload(text: str) -> dict[str, Any]:
    middle = text.split(".")[1]
    told: dict[str, Any] = json.loads(base64.urlsafe_b64decode(middle + "=" * (-len(middle) % 4)))
    return told


@pytest.mark.parametrize("algorithm", ["RS256", "PS384", "ES256", "ES384", "EdDSA"])
def test_a_token_of_the_issuer_for_us_and_now_is_taken(algorithm: str) -> None:
    issuer = issuer_of(algorithm)
    token = check(issuer.token(US), issuer.published)
    assert token.claims["repository"] == "acme/gateway"
    assert abs(token.expires_at - datetime.now(UTC) - timedelta(seconds=300)) < timedelta(seconds=30)


def test_a_token_without_a_kid_is_taken_when_there_is_one_key(issuer: OidcIssuer) -> None:
    text = issuer.token(US, headers={"kid": None})
    assert check(text, issuer.published).claims["sub"] == "repo:acme/gateway:environment:release"
    with pytest.raises(IdTokenInvalid, match="names no key"):
        check(text, [*issuer.published, {**issuer.published[0], "kid": "second"}])


def test_unsigned_tokens_are_refused(issuer: OidcIssuer) -> None:
    claims = payload(issuer.token(US))
    for algorithm in ("none", "None", "NONE", "nOnE"):
        for signature in ("", "AAAA"):
            forged = f"{part({'alg': algorithm, 'kid': 'first'})}.{part(claims)}.{signature}"
            with pytest.raises(IdTokenInvalid):
                check(forged, issuer.published)


def test_the_public_key_taken_for_a_shared_secret_is_refused(issuer: OidcIssuer) -> None:
    public = issuer.key.public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for secret in (pem, pem.strip(), json.dumps(issuer.published[0]).encode()):
        signed = f"{part({'alg': 'HS256', 'kid': 'first', 'typ': 'JWT'})}.{part(payload(issuer.token(US)))}"
        mac = base64.urlsafe_b64encode(hmac.new(secret, signed.encode(), hashlib.sha256).digest()).decode().rstrip("=")
        with pytest.raises(IdTokenInvalid, match="signed with 'HS256', which its issuer's key is not for"):
            check(f"{signed}.{mac}", issuer.published)


def test_a_symmetric_key_that_an_issuer_publishes_counts_for_nothing(issuer: OidcIssuer) -> None:
    shared = {"kty": "oct", "k": base64.urlsafe_b64encode(b"s" * 32).decode(), "kid": "first", "alg": "HS256"}
    with pytest.raises(IdTokenKeyUnknown):
        check(issuer.token(US), [shared])


def test_a_key_in_the_token_is_not_looked_at(issuer: OidcIssuer) -> None:
    mine = new_key("RS256")
    brought = public_jwk(mine, "RS256", "first")
    for headers in ({"jwk": brought}, {"jku": "https://evil.example/keys"}, {"x5u": "https://evil.example/c"}):
        with pytest.raises(IdTokenInvalid, match="its signature is not its issuer's"):
            check(issuer.token(US, key=mine, headers=headers), issuer.published)
    with pytest.raises(IdTokenKeyUnknown):
        check(issuer.token(US, key=mine, headers={"kid": "mine", "jwk": brought}), issuer.published)


def test_a_key_for_one_algorithm_does_not_verify_another(issuer: OidcIssuer) -> None:
    with pytest.raises(IdTokenInvalid, match="'PS256'"):
        check(issuer.token(US, algorithm="PS256"), issuer.published)
    encrypts = [{**issuer.published[0], "use": "enc"}]
    with pytest.raises(IdTokenKeyUnknown):
        check(issuer.token(US), encrypts)


def test_a_short_rsa_key_is_refused() -> None:
    short = rsa.generate_private_key(65537, 1024)
    weak = OidcIssuer(ISSUER, short, "RS256", [public_jwk(short, "RS256", "first")])
    with pytest.warns(match="below the minimum recommended"):
        text = weak.token(US)
    with pytest.raises(IdTokenInvalid, match="has 1024 bits, expected 2048 or more"):
        check(text, weak.published)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"aud": "https://other.example"}, "another audience"),
        ({"aud": f"{US}/"}, "another audience"),
        ({"aud": [US, "https://other.example"]}, "for others, too"),
        ({"aud": []}, "no claim aud"),
        ({"aud": None}, "no claim aud"),
        ({"iss": "https://issuer.example.evil.example"}, "of another issuer"),
        ({"iss": f"{ISSUER}/"}, "of another issuer"),
        ({"exp": None}, "no claim exp"),
        ({"iat": None}, "no claim iat"),
        ({"exp": True}, "exp of the identity token is no time"),
        ({"exp": "tomorrow"}, "exp of the identity token is no time"),
        ({"exp": float("nan")}, "exp of the identity token is no time"),
        ({"exp": float("inf")}, "exp of the identity token is no time"),
        ({"exp": 10**400}, "exp of the identity token is no time"),
        ({"exp": int(time.time()) + 90_000}, "more than 24 hours"),
        ({"exp": int(time.time()) - 31}, "has expired"),
        ({"nbf": int(time.time()) + 3600}, "not good yet"),
        ({"iat": int(time.time()) + 3600}, "not good yet"),
    ],
)
def test_a_token_for_others_or_for_another_time_is_refused(
    issuer: OidcIssuer, changed: dict[str, Any], said: str
) -> None:
    with pytest.raises(IdTokenInvalid, match=said):
        check(issuer.token(US, **changed), issuer.published)


def test_a_token_ends_half_a_minute_late_and_no_later(issuer: OidcIssuer) -> None:
    text = issuer.token(US)
    assert check(text, issuer.published, after=320).claims["ref"] == "refs/tags/v1.0.0"
    with pytest.raises(IdTokenInvalid, match="has expired"):
        check(text, issuer.published, after=331)


@pytest.mark.parametrize("headers", [{"crit": ["exp"]}, {"typ": "at+jwt"}, {"typ": "logout+jwt"}])
def test_another_kind_of_token_by_the_same_issuer_is_refused(issuer: OidcIssuer, headers: dict[str, Any]) -> None:
    with pytest.raises(IdTokenInvalid, match=r"a header|is no JWT"):
        check(issuer.token(US, headers=headers), issuer.published)


def test_changed_claims_are_refused(issuer: OidcIssuer) -> None:
    head, _, signature = issuer.token(US).split(".")
    changed = part({**payload(issuer.token(US)), "repository_id": "75"})
    with pytest.raises(IdTokenInvalid, match="its signature is not its issuer's"):
        check(f"{head}.{changed}.{signature}", issuer.published)


DEEP = base64.urlsafe_b64encode(b"[" * 9000).decode()
NO_TOKENS = (
    *("", "a.b", "a.b.c", "....", "\0", "é" * 10, "A" * 16_385),
    f"{part({'alg': 'RS256'})}.{part([1])}.AAAA",
    f"{part({'alg': 'RS256'})}.{DEEP}.AAAA",
)


@pytest.mark.parametrize("text", NO_TOKENS, ids=range(len(NO_TOKENS)))
def test_what_is_no_token_is_refused_and_breaks_nothing(issuer: OidcIssuer, text: str) -> None:
    with pytest.raises(IdTokenInvalid):
        check(text, issuer.published)
    with pytest.raises(IdTokenInvalid):
        claimed_issuer(text)


def test_one_identity_has_one_digest_however_its_signature_is_written(curve: OidcIssuer) -> None:
    text = curve.token(US, jti=None)
    head, middle, end = text.split(".")
    r, s = (int.from_bytes(half) for half in _halves(base64.urlsafe_b64decode(end + "==")))
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # of P-256
    twin = base64.urlsafe_b64encode(r.to_bytes(32) + (order - s).to_bytes(32)).decode().rstrip("=")
    assert twin != end
    assert check(f"{head}.{middle}.{twin}", curve.published).digest == check(text, curve.published).digest


def test_identities_differ_by_their_jti_and_the_same_jti_is_the_same_identity(issuer: OidcIssuer) -> None:
    first, again, other = (check(issuer.token(US, jti=one), issuer.published).digest for one in ("a", "a", "b"))
    assert first == again
    assert first != other


def _halves(signature: bytes) -> tuple[bytes, bytes]:
    return signature[:32], signature[32:]
