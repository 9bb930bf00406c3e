"""Identity tokens (JWT) of somebody else's issuer, verified with the keys that the issuer publishes.

The mathematics is PyJWT's and cryptography's. What is decided here is which key and which algorithm may count: both
follow from the published key and never from the token, which only chooses among them by ``kid``. A key that the token
brings along or points at (``jwk``, ``jku``, ``x5c``, ``x5u``) is not looked at.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from keys.errors import IdTokenInvalid, IdTokenKeyUnknown

MAX_TOKEN: Final = 16 * 1024  # characters; GitHub's have about 2,000
LEEWAY: Final = timedelta(seconds=30)  # by which the issuer's clock may differ from ours
LONGEST_LIFE: Final = timedelta(hours=24)  # a spent token is remembered until it ends, so it has to end
_LEAST_RSA_BITS: Final = 2048
_RSA: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
# RFC 7518 section 3.4 ties each curve to one algorithm. There is no row for symmetric keys, and none for "none".
_OF_CURVE: Final[Mapping[str, tuple[str, ...]]] = {
    "P-256": ("ES256",),
    "P-384": ("ES384",),
    "P-521": ("ES512",),
    "Ed25519": ("EdDSA",),
}

Claims = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class IdToken:
    """A token that was verified. ``digest`` is the same for every token with this identity, so that it can be spent:
    however somebody re-encodes the signature, it stays the same."""

    claims: Claims
    digest: str
    expires_at: datetime


def claimed_issuer(text: str) -> str:
    """Whose token it says it is: good for looking up an issuer, and for nothing else before :func:`verify`.

    Raises:
        IdTokenInvalid: It is no JWT of a bearable size, or names no issuer.
    """
    issuer = _unverified(text)["payload"].get("iss")
    if not isinstance(issuer, str) or not issuer:
        raise IdTokenInvalid("the identity token names no issuer (iss)")
    return issuer


def verify(text: str, keys: Sequence[Mapping[str, Any]], *, issuer: str, audience: str, now: datetime) -> IdToken:
    """Check signature, issuer, audience and times.

    Args:
        keys: The issuer's published keys, as JWKs.
        audience: The one audience; a token for others besides is refused, since each of them could use it here.

    Raises:
        IdTokenKeyUnknown: None of ``keys`` has its ``kid``; the issuer may have published a new one.
        IdTokenInvalid: Whatever else is wrong.
    """
    header = _unverified(text)["header"]
    # (1) Nothing that changes what a signature means, and no other kind of token by the same issuer.
    if "crit" in header or str(header.get("typ", "JWT")).upper() != "JWT":
        raise IdTokenInvalid("the identity token has a header (crit, typ) that an identity token has not")
    # (2) Key and algorithm, from what the issuer publishes.
    algorithm = header.get("alg")
    suitable = [key for key in _named(keys, header.get("kid")) if algorithm in _algorithms(key)]
    if not suitable:
        raise IdTokenInvalid(
            f"the identity token is signed with {str(algorithm)[:20]!r}, which its issuer's key is not for"
        )
    # (3) Signature, issuer, audience.
    claims = _signed(text, suitable, str(algorithm), issuer, audience)
    if claims["aud"] not in (audience, [audience]):
        raise IdTokenInvalid(f"the identity token is for others, too; expected the audience {audience!r} alone")
    # (4) Times, by our caller's clock.
    expires_at = _check_times(claims, now)
    return IdToken(claims, _digest(text, issuer, claims.get("jti")), expires_at)


def _unverified(text: str) -> dict[str, Any]:
    if len(text) > MAX_TOKEN:
        raise IdTokenInvalid(f"the identity token has {len(text)} characters, at most {MAX_TOKEN} are possible")
    try:
        return jwt.decode_complete(text, options={"verify_signature": False})
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as error:
        raise IdTokenInvalid("the identity token is no JWT: three parts of base64url with dots between") from error


def _named(keys: Sequence[Mapping[str, Any]], name: object) -> Sequence[Mapping[str, Any]]:
    usable = [key for key in keys if key.get("use", "sig") == "sig" and _algorithms(key)]
    if name is None:
        if len(usable) == 1:
            return usable
        raise IdTokenInvalid("the identity token names no key (kid), and its issuer has several")
    found = [key for key in usable if key.get("kid") == name]
    if not found:
        raise IdTokenKeyUnknown("the identity token is signed by a key that its issuer does not publish")
    return found


def _algorithms(key: Mapping[str, Any]) -> tuple[str, ...]:
    kind = key.get("kty")
    possible = _RSA if kind == "RSA" else _OF_CURVE.get(str(key.get("crv")), ()) if kind in ("EC", "OKP") else ()
    told = key.get("alg")
    return possible if told is None else tuple(one for one in possible if one == told)


def _signed(text: str, keys: Sequence[Mapping[str, Any]], algorithm: str, issuer: str, audience: str) -> dict[str, Any]:
    refusal: Exception | None = None
    for key in keys:
        try:
            public = jwt.PyJWK(dict(key), algorithm=algorithm).key
            if isinstance(public, RSAPublicKey) and public.key_size < _LEAST_RSA_BITS:
                raise IdTokenInvalid(f"the issuer's key has {public.key_size} bits, expected {_LEAST_RSA_BITS} or more")
            return jwt.decode(
                text,
                public,
                algorithms=[algorithm],
                issuer=issuer,
                audience=audience,
                options={
                    "require": ["iss", "aud", "exp", "iat"],
                    # By the caller's clock, below.
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                },
            )
        except jwt.InvalidSignatureError as error:
            refusal = error
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as error:
            raise IdTokenInvalid(f"the identity token is refused: {_reason(error, issuer, audience)}") from error
    raise IdTokenInvalid("the identity token is refused: its signature is not its issuer's") from refusal


def _reason(error: Exception, issuer: str, audience: str) -> str:
    if isinstance(error, jwt.InvalidAudienceError):
        return f"it is for another audience, expected {audience!r}"
    if isinstance(error, jwt.InvalidIssuerError):
        return f"it is of another issuer, expected {issuer!r}"
    if isinstance(error, jwt.MissingRequiredClaimError):
        return f"it has no claim {error.claim}"
    return "it cannot be read"


def _check_times(claims: Claims, now: datetime) -> datetime:
    at, leeway = now.timestamp(), LEEWAY.total_seconds()
    expires, issued, begins = (_seconds(claims, name) for name in ("exp", "iat", "nbf"))
    if expires is None or issued is None:
        raise IdTokenInvalid("the identity token does not say from when to when it is good (iat, exp)")
    if at >= expires + leeway:
        raise IdTokenInvalid("the identity token has expired; ask for a new one in the same job")
    if issued > at + leeway or (begins is not None and begins > at + leeway):
        raise IdTokenInvalid("the identity token is not good yet; is one of the two clocks wrong?")
    if expires > at + LONGEST_LIFE.total_seconds():
        raise IdTokenInvalid(f"the identity token is good for more than {LONGEST_LIFE.days * 24} hours")
    return datetime.fromtimestamp(expires, UTC)


def _seconds(claims: Claims, name: str) -> float | None:
    value = claims.get(name)
    if value is None:
        return None
    try:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError
    except (ValueError, OverflowError):
        raise IdTokenInvalid(f"the claim {name} of the identity token is no time") from None
    return float(value)


def _digest(text: str, issuer: str, identity: object) -> str:
    # Without an identity it is what was signed: base64 and some signatures can be written in more than one way.
    if isinstance(identity, str) and identity:
        return hashlib.sha256(f"jti\0{issuer}\0{identity}".encode()).hexdigest()
    return hashlib.sha256(b"signed\0" + text.rpartition(".")[0].encode()).hexdigest()
