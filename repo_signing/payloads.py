"""New versions of root, targets and product roles, from what is asked for; nothing here signs or reads a disk."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from securesystemslib.signer import Key, SSlibKey

from repo_signing import roles
from repo_signing.errors import InvalidDraft
from repo_signing.paths import artifact_path

TOP: Final = (roles.ROOT, roles.TARGETS, roles.SNAPSHOT, roles.TIMESTAMP)
MAX_KEYS: Final = 50  # of one role; root stays far below what stock clients read
# Of serials and versions: room above for a century of commits at one a second, and exact as a double.
MAX_VERSION: Final = 2**52

PublicKey = Mapping[str, Any]  # as Key.to_dict gives it, with "keyid"


def public_key(told: PublicKey) -> SSlibKey:
    """Read a public key; raises InvalidDraft when it is none that clients could use.

    The keyid is made from the key, not believed: a foreign key under a known id would count as that key.
    """
    try:
        fields = {name: value for name, value in told.items() if name in ("keytype", "scheme", "keyval")}
        public = Key.from_dict("", copy.deepcopy(fields))
        if not isinstance(public, SSlibKey):
            raise ValueError(f"{type(public).__name__} is no key of securesystemslib")
        return SSlibKey.from_crypto(public._crypto_key(), scheme=public.scheme)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidDraft(
            f"this is no public key that clients can use: {error}; `publish repo key new` makes one"
        ) from error


def stored_key(key: SSlibKey) -> dict[str, Any]:
    """A public key as drafts and key files carry it."""
    return {"keyid": key.keyid, **key.to_dict()}


def root_after(
    body: Mapping[str, Any],
    now: datetime,
    *,
    add: Mapping[str, Sequence[SSlibKey]],
    remove: Mapping[str, Sequence[str]],
    thresholds: Mapping[str, int],
) -> dict[str, Any]:
    """The next root: keys added and removed, thresholds set, life begun anew; raises InvalidDraft."""
    after = copy.deepcopy(dict(body))
    for role in {*add, *remove, *thresholds}:
        if role not in TOP:
            raise InvalidDraft(f"root names the keys of {', '.join(TOP)}; found {role!r}")
    for role, rule in after["roles"].items():
        gone = set(remove.get(role, ()))
        if unknown := gone - set(rule["keyids"]):
            raise InvalidDraft(f"{role} has no key {', '.join(sorted(unknown))}; `publish repo draft show` names them")
        kept = [keyid for keyid in rule["keyids"] if keyid not in gone]
        rule["keyids"] = [*kept, *(key.keyid for key in add.get(role, ()) if key.keyid not in kept)]
        rule["threshold"] = thresholds.get(role, rule["threshold"])
        check_rule(role, rule["keyids"], rule["threshold"])
        after["keys"] |= {key.keyid: key.to_dict() for key in add.get(role, ())}
    used = {keyid for rule in after["roles"].values() for keyid in rule["keyids"]}
    after["keys"] = {keyid: key for keyid, key in after["keys"].items() if keyid in used}
    return roles.renewed_body(roles.ROOT, after, int(body["version"]) + 1, now)


def targets_after(
    body: Mapping[str, Any],
    version: int,
    now: datetime,
    *,
    online: Mapping[str, SSlibKey],
    claim: tuple[str, Sequence[SSlibKey], int] | None,
    release: str | None,
    approvers: tuple[str, Sequence[SSlibKey], int] | None = None,
    manage: str | None = None,
) -> dict[str, Any]:
    """The next targets, delegations only, ``revocations`` always among them; raises InvalidDraft.

    Args:
        online: New keys, each in place of all that ``releases`` or ``decisions`` (for brakes and revocations, too) has.
        claim: Product, keys and threshold of a new delegation, or of one that stands and changes.
        release: Product that is claimed no longer.
        approvers: Product, and keys and threshold that its decisions are signed with from now on.
        manage: Product whose decisions the server signs again.
    """
    after = copy.deepcopy(dict(body))
    delegations = after["delegations"]
    for rule in delegations["roles"]:
        key = online.get(roles.key_of(rule["name"])) if not roles.is_offline(rule["name"]) else None
        if key is not None:
            rule |= {"keyids": [key.keyid], "threshold": 1}
            delegations["keys"][key.keyid] = key.to_dict()
    delegations["roles"] = roles.with_revocations(delegations["roles"])
    if claim is not None:
        product, keys, threshold = claim
        artifact_path(product, "1", "any", "x")  # the grammar of products is that of paths
        check_rule(f"{roles.PRODUCT_PREFIX}{product}", [key.keyid for key in keys], threshold)
        told = roles.claim(product, [key.keyid for key in keys], threshold)
        delegations["keys"] |= {key.keyid: key.to_dict() for key in keys}
        delegations["roles"] = _with(delegations["roles"], told, before=roles.RELEASES)
    if approvers is not None:
        product, keys, threshold = approvers
        artifact_path(product, "1", "any", "x")
        told = roles.approvers(product, [key.keyid for key in keys], threshold)
        check_rule(told["name"], told["keyids"], threshold)
        delegations["keys"] |= {key.keyid: key.to_dict() for key in keys}
        delegations["roles"] = _with(delegations["roles"], told, before=roles.DECISIONS)
    if release is not None:
        why = f"{release!r} is not claimed; `publish product list` shows what is"
        delegations["roles"] = _without(delegations["roles"], f"{roles.PRODUCT_PREFIX}{release}", why)
    if manage is not None:
        why = f"the server signs the decisions of {manage!r} already"
        delegations["roles"] = _without(delegations["roles"], f"{roles.WAVES_PREFIX}{manage}", why)
    used = {keyid for rule in delegations["roles"] for keyid in rule["keyids"]}
    delegations["keys"] = {keyid: key for keyid, key in delegations["keys"].items() if keyid in used}
    return roles.renewed_body(roles.TARGETS, after, version, now)


def product_after(
    product: str, before: Mapping[str, Any], entries: Mapping[str, Any], version: int, now: datetime
) -> dict[str, Any]:
    """The next version of a product's role: targets that stood, overlaid with ``entries``; None takes one away."""
    role = f"{roles.PRODUCT_PREFIX}{product}"
    after = {path: entry for path, entry in {**before, **entries}.items() if entry is not None}
    return roles.holder_body(role, after, version, now)


def check_rule(role: str, keyids: Iterable[str], threshold: int) -> None:
    """Raise InvalidDraft unless so many of these keys can sign."""
    distinct = list(keyids)
    if len(set(distinct)) != len(distinct):
        raise InvalidDraft(f"{role} names a key twice; each key counts once")
    if not 1 <= threshold <= len(distinct) <= MAX_KEYS:
        raise InvalidDraft(
            f"{role} would need {threshold} of {len(distinct)} keys; the threshold is 1 or more, at most the number of "
            f"keys, and there are at most {MAX_KEYS}"
        )


def check_holders(keys: Mapping[str, Sequence[PublicKey]], thresholds: Mapping[str, int]) -> None:
    """Raise InvalidDraft unless the first root and targets can be signed by these keys."""
    for role in (roles.ROOT, roles.TARGETS):
        check_rule(role, [public_key(key).keyid for key in keys[role]], thresholds[role])


def _with(rules: list[dict[str, Any]], told: dict[str, Any], *, before: str) -> list[dict[str, Any]]:
    """A role stands before the one whose paths hold its own, where it takes precedence, and behind all others there."""
    if any(one["name"] == told["name"] for one in rules):
        return [told if one["name"] == told["name"] else one for one in rules]
    place = next(number for number, one in enumerate(rules) if one["name"] == before)
    return [*rules[:place], told, *rules[place:]]


def _without(rules: list[dict[str, Any]], name: str, why: str) -> list[dict[str, Any]]:
    """Raises InvalidDraft with ``why`` when the role does not stand there."""
    left = [one for one in rules if one["name"] != name]
    if len(left) == len(rules):
        raise InvalidDraft(why)
    return left
