"""What the signer process signs: the rules, as a pure function of what was asked and what was signed before.

A server that is broken into can ask, but it cannot make a client go back or choose between two truths:

1. A key signs its own roles only, and never root or top-level targets.
2. The payload is read here: canonical form, the ``_type`` that belongs to the role, a version, an expiry within bounds.
3. The versions of a role only grow. One version is one payload: the same bytes again are signed again, others never.
4. A snapshot lists no role lower than a snapshot that clients must be taken to have seen, and loses no name.
5. A timestamp names a snapshot that was signed here, none older than such a one.

"Must be taken to have seen": what is signed may still be lost in a crash before anybody sees it, and what is made next
then rests on an older state. So a snapshot counts once a timestamp named it and the eight named after it rest on it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson

from keys.errors import SigningRefused

DOUBT: Final = 8  # commits in a row that may be lost between signing and the rename that publishes them

_ROOT_ROLES: Final = ("root", "targets")
_EXPIRES: Final = "%Y-%m-%dT%H:%M:%SZ"
_SHORT: Final = timedelta(days=7)
_LONG: Final = timedelta(days=120)
# Itself, its bins, those after a re-binning (r2-…), and a role for each product in the layout of paths.
_REVOCATION_LISTS: Final = r"revocations/[^/]*/all\.json"
_RELEASES: Final = "releases([0-9]{0,6}-[0-9a-f]{1,8}|-[a-z0-9][a-z0-9._+-]{0,99})?|r[0-9]{1,6}-[0-9a-f]{1,8}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What one key may sign: ``_type``, names of roles (a regular expression for the whole name), longest life.

    ``paths``, where given, is what every target path of the role must match: so a document of one role cannot be passed
    off as another's. Bins of one key stay exchangeable: neither their names nor their number of bits stand in them, so
    whoever may ask can have two contents signed under one version, as two bins. The record shows both.
    """

    kind: str
    roles: str
    longest_life: timedelta
    paths: str | None = None


RULES: Final[Mapping[str, tuple[Rule, ...]]] = {
    "timestamp": (Rule(kind="timestamp", roles="timestamp", longest_life=_SHORT),),
    "snapshot": (Rule(kind="snapshot", roles="snapshot", longest_life=timedelta(days=30)),),
    "decisions": (
        Rule(kind="targets", roles="decisions", longest_life=timedelta(days=30), paths="decisions/.*"),
        Rule(kind="targets", roles="brakes", longest_life=timedelta(days=30), paths="brakes/.*"),
        Rule(kind="targets", roles="revocations", longest_life=timedelta(days=30), paths=_REVOCATION_LISTS),
    ),
    "releases": (Rule(kind="targets", roles=_RELEASES, longest_life=_LONG, paths="(?!decisions/|brakes/).*"),),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """What was signed last for a role: its version and the hex SHA-256 of the payload."""

    version: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Listing:
    """A snapshot: its version and, by file name, the versions it lists; None when it was signed before our time."""

    version: int
    roles: Mapping[str, int] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """Snapshots: the one that counts as seen, those that timestamps named since (oldest first), the newest signed."""

    settled: Listing | None = None
    named: tuple[Listing, ...] = ()
    offered: Listing | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """What the signer remembers. ``signed`` is by role, then by keyid."""

    signed: Mapping[str, Mapping[str, Signed]] = field(default_factory=dict)
    chain: Chain = field(default_factory=Chain)


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """What to remember before the signature leaves; ``chain`` is None when it stays as it is."""

    role: str
    signed: Signed
    chain: Chain | None


def judge(
    key: str,
    keyid: str,
    role: str,
    payload: bytes,
    *,
    past: Past,
    holds_snapshot: bool,
    now: datetime,
    rules: Mapping[str, tuple[Rule, ...]] = RULES,
) -> Approval:
    """Decide whether to sign.

    Args:
        key: Name of the key that is asked for.
        keyid: Its id. Versions are counted for each key by itself: a role that is given a new key after a compromise
            may begin low again, as clients allow it to.
        role: Name of the role that the payload is said to be of.
        payload: The signed part of its metadata.
        past: Everything signed so far.
        holds_snapshot: Whether snapshots are signed here too, so that a timestamp can name none but those.
        now: Aware UTC time.
        rules: By name of the key.

    Raises:
        SigningRefused: The message says which rule.
    """
    digest = hashlib.sha256(payload).hexdigest()
    rule = _rule(key, role, rules)  # (1)
    body = _read(payload, role, rule, now)  # (2)
    version: int = body["version"]
    _check_version(role, keyid, version, digest, past)  # (3)
    chain: Chain | None = None
    if rule.kind == "snapshot":
        chain = _with_snapshot(_listing(body), past.chain)  # (4)
    elif rule.kind == "timestamp":
        chain = _with_timestamp(_named(body), past.chain, holds_snapshot=holds_snapshot)  # (5)
    return Approval(role=role, signed=Signed(version=version, sha256=digest), chain=chain)


def _rule(key: str, role: str, rules: Mapping[str, tuple[Rule, ...]]) -> Rule:
    if key in _ROOT_ROLES or role in _ROOT_ROLES:
        raise SigningRefused(f"{role} is signed offline by people; this process signs it with no key")
    for rule in rules.get(key, ()):
        if re.fullmatch(rule.roles, role):
            return rule
    raise SigningRefused(f"the {key} key does not sign the role {role!r}")


def _read(payload: bytes, role: str, rule: Rule, now: datetime) -> Mapping[str, Any]:
    # The line breaks in the PEM of a public key stand in the canonical form as they are.
    text = payload.replace(b"\n", b"\\n")
    try:
        body = orjson.loads(text)
        canonical = orjson.dumps(body, option=orjson.OPT_SORT_KEYS)
    except (orjson.JSONDecodeError, orjson.JSONEncodeError) as error:
        raise SigningRefused(f"what is to be signed as {role} is no JSON") from error
    # Also finds a name that stands twice in an object, which two readers would read in two ways.
    if type(body) is not dict or canonical != text:
        raise SigningRefused(f"what is to be signed as {role} is no JSON object in canonical form")
    if body.get("_type") != rule.kind:
        raise SigningRefused(f"a payload of type {body.get('_type')!r} is no {role}; expected {rule.kind!r}")
    if type(body.get("version")) is not int or body["version"] < 1:
        raise SigningRefused(f"{role} has the version {body.get('version')!r}; expected a whole number from 1")
    try:
        expires = datetime.strptime(body["expires"], _EXPIRES).replace(tzinfo=UTC)
    except (KeyError, TypeError, ValueError) as error:
        raise SigningRefused(f"{role} expires at {body.get('expires')!r}; expected 2027-01-31T12:00:00Z") from error
    if expires - now > rule.longest_life:
        raise SigningRefused(
            f"{role} would be valid until {body['expires']}; at most {rule.longest_life.days} days are"
        )
    if rule.kind == "targets":
        targets = body.get("targets")
        if type(targets) is not dict:
            raise SigningRefused(f"{role} has no targets object")
        _check_paths(targets, role, rule)
    return body


def _check_paths(targets: Mapping[str, Any], role: str, rule: Rule) -> None:
    for path in targets:
        if rule.paths is not None and re.fullmatch(rule.paths, path) is None:
            raise SigningRefused(f"the target path {path!r} does not belong into the role {role}")


def _check_version(role: str, keyid: str, version: int, digest: str, past: Past) -> None:
    by_key = past.signed.get(role, {})
    own = by_key.get(keyid)
    if own is not None and version < own.version:
        raise SigningRefused(f"{role} version {version} goes back; version {own.version} is signed already")
    # Another key of the role counts here too: together they would make two truths just the same.
    if any(other.version == version and other.sha256 != digest for other in by_key.values()):
        raise SigningRefused(f"{role} version {version} is signed already with other content; take a higher version")


def _listing(body: Mapping[str, Any]) -> Listing:
    versions = {name: _version_of(entry) for name, entry in _meta(body, "snapshot").items()}
    return Listing(body["version"], versions)


def _named(body: Mapping[str, Any]) -> int:
    meta = _meta(body, "timestamp")
    if list(meta) != ["snapshot.json"]:
        raise SigningRefused("the timestamp does not list snapshot.json and nothing else")
    return _version_of(meta["snapshot.json"])


def _meta(body: Mapping[str, Any], role: str) -> Mapping[str, Any]:
    meta = body.get("meta")
    if type(meta) is not dict:
        raise SigningRefused(f"{role} has no meta object")
    return meta


def _version_of(entry: Any) -> int:
    version = entry.get("version") if type(entry) is dict else None
    if type(version) is not int or version < 1:
        raise SigningRefused(f"a role is listed with the version {version!r}; expected a whole number from 1")
    return version


def _with_snapshot(offered: Listing, chain: Chain) -> Chain:
    if chain.settled is not None and (found := _steps_back(offered, chain.settled)) is not None:
        raise SigningRefused(f"snapshot {offered.version} goes back: {found}")
    return replace(chain, offered=offered)


def _with_timestamp(version: int, chain: Chain, *, holds_snapshot: bool) -> Chain:
    seen = [listing for listing in (chain.settled, *chain.named) if listing is not None]
    known = [*seen, chain.offered] if chain.offered is not None else seen
    found = next((listing for listing in known if listing.version == version), None)
    if found is None:
        # Keys that come from another custody go on from what was signed there; from then on we know.
        if holds_snapshot and seen:
            expected = " or ".join(str(number) for number in sorted({listing.version for listing in known}))
            raise SigningRefused(
                f"the timestamp names snapshot {version}, which is too old or was not signed here; expected {expected}"
            )
        if seen and version < seen[0].version:
            raise SigningRefused(f"the timestamp goes back to snapshot {version} from {seen[0].version}")
        found = Listing(version, None)
    named = (*(listing for listing in chain.named if listing.version != version), found)
    if found == chain.settled:
        return replace(chain, named=named[:-1])
    settled = chain.settled
    while len(named) > DOUBT:
        oldest, *later = named
        if not any(_steps_back(one, oldest) for one in later):
            settled = oldest
        named = tuple(later)
    return replace(chain, settled=settled, named=named)


def _steps_back(later: Listing, earlier: Listing) -> str | None:
    if later.version < earlier.version:
        return f"version {earlier.version} is with clients"
    if later.roles is None or earlier.roles is None:
        return None
    for name, version in earlier.roles.items():
        if name not in later.roles:
            return f"{name} is no longer listed"
        if later.roles[name] < version:
            return f"{name} is listed with version {later.roles[name]} after {version}"
    return None
