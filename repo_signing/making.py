"""From a change that is asked for to a draft: which roles it touches, from what base, and whose signatures it needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import orjson
from securesystemslib.signer import SSlibKey
from tuf.api.metadata import Root

from evidence.ids import new_id
from evidence.model import Actor
from keys.keyring import Keyring
from repo_signing import edits, payloads, roles
from repo_signing.canonical import canonical
from repo_signing.draft import Draft
from repo_signing.draft_box import PREFIX
from repo_signing.errors import InvalidDraft, PathTaken, RepositoryDamaged
from repo_signing.handover import decisions_of
from repo_signing.offline import OfflineDraft, Part, Requirement
from repo_signing.payloads import PublicKey, public_key
from repo_signing.records import Entry, sha256_of
from repo_signing.view import View, verified

DEADLINE: Final = timedelta(days=30)

Change = Mapping[str, Any]


def made(
    change: Change,
    title: str,
    parts: Sequence[Part],
    basis: Mapping[str, int],
    *,
    by: Actor,
    now: datetime,
    deadline: datetime | None,
    draft_id: str | None = None,
) -> OfflineDraft:
    """Put a draft together; its keys are taken from the parts and their bases."""
    keys: dict[str, PublicKey] = {}
    for part in parts:
        for body in (part.body, {} if part.base is None else orjson.loads(part.base)["signed"]):
            keys |= body.get("keys", {})
            keys |= (body.get("delegations") or {}).get("keys", {})
    wanted = {keyid for part in parts for keyid in part.keyids}
    keys |= {key["keyid"]: key for key in change.get("known_keys", ())}
    return OfflineDraft(
        id=new_id(PREFIX) if draft_id is None else draft_id,
        title=title,
        change=change,
        basis=basis,
        parts=tuple(parts),
        keys={keyid: {n: v for n, v in keys[keyid].items() if n != "keyid"} for keyid in sorted(wanted)},
        created_by=by,
        created_at=now,
        deadline=now + DEADLINE if deadline is None else deadline,
    )


def parts_of(change: Change, view: View, version: int, now: datetime) -> tuple[str, list[Part], dict[str, int]]:
    """Title, parts and basis of a change to the repository as it is.

    Args:
        change: ``kind`` is ``root``, ``targets``, ``product`` or ``waves``; the rest is what
            :mod:`repo_signing.offline_drafts` and :mod:`repo_signing.approvals` put in.
        view: The state to change.
        version: What roles below snapshot get; a serial that nothing else will use.
        now: New lives begin here.

    Raises:
        InvalidDraft: It makes no sense in this state.
        PathTaken: A product's path has got other bytes meanwhile.
    """
    kind = change["kind"]
    if kind == "root":
        return _root(change, view, version, now)
    if kind == "targets":
        return _targets(change, view, version, now)
    if kind == "waves":
        return _waves(change, view, version, now)
    return _product(change, view, version, now)


def first_parts(change: Change, keyring: Keyring, now: datetime) -> list[Part]:
    """Root and targets of a repository that is yet to be made; raises InvalidDraft."""
    holders: dict[str, tuple[list[SSlibKey], int]] = {
        role: ([public_key(key) for key in change["keys"][role]], int(change["thresholds"][role]))
        for role in (roles.ROOT, roles.TARGETS)
    }
    for role, (keys, threshold) in holders.items():
        payloads.check_rule(role, [key.keyid for key in keys], threshold)
    online = {role: ([keyring.public(role)], 1) for role in (roles.TIMESTAMP, roles.SNAPSHOT)}
    root = roles.first_root_body({**holders, **online}, now)
    targets = roles.targets_body(keyring.public(roles.DECISIONS), keyring.public(roles.RELEASES), 1, now)
    return [
        Part(
            role=role,
            version=1,
            base_version=0,
            payload=canonical(body),
            requirements=_required(("root 1", root, role)),
        )
        for role, body in ((roles.ROOT, root), (roles.TARGETS, targets))
    ]


def claimed_entries(view: View, product: str) -> dict[str, Entry]:
    """What stands under a product's name in the bins: it moves to the product's role with the claim, or back."""
    return {
        path: entry
        for role in view.bins()
        if roles.delegator(role.name) == roles.RELEASES
        for path, entry in role.body["targets"].items()
        if path.startswith(f"{product}/")
    }


def required_of(view: View, role: str) -> tuple[Requirement, ...]:
    """Whose signatures a role below targets needs as things are."""
    return _required((f"targets {view.versions[roles.TARGETS]}", view.role(roles.TARGETS).body, role))


def _root(change: Change, view: View, version: int, now: datetime) -> tuple[str, list[Part], dict[str, int]]:
    add = {role: [public_key(key) for key in keys] for role, keys in change["add"].items()}
    remove = {role: list(keyids) for role, keyids in change["remove"].items()}
    for role in change.get("rotate", ()):  # every key that the role has now, whatever it was when this was asked for
        rule = roles.rule_of(view.root_body, role)
        kept = {key.keyid for key in add.get(role, ())}
        remove[role] = [] if rule is None else [keyid for keyid in rule.keyids if keyid not in kept]
    after = payloads.root_after(view.root_body, now, add=add, remove=remove, thresholds=change["thresholds"])
    was, will = f"root {view.root.version}", f"root {after['version']}"
    root = Part(
        role=roles.ROOT,
        version=after["version"],
        base_version=view.root.version,
        base=view.root_bytes,
        payload=canonical(after),
        requirements=_required((was, view.root_body, roles.ROOT), (will, after, roles.ROOT)),
    )
    parts, basis = [root], {roles.ROOT: view.root.version}
    if not _is_accepted(view, after):
        body = roles.renewed_body(roles.TARGETS, view.role(roles.TARGETS).body, version, now)
        required = _required((was, view.root_body, roles.TARGETS), (will, after, roles.TARGETS))
        parts.append(_below(view, roles.TARGETS, body, required))
        basis[roles.TARGETS] = view.versions[roles.TARGETS]
    return str(change.get("title") or f"root {after['version']}"), parts, basis


def _targets(change: Change, view: View, version: int, now: datetime) -> tuple[str, list[Part], dict[str, int]]:
    claim, approvers = change.get("claim"), change.get("approvers")
    asked = None if claim is None else told_keys(claim)
    body = payloads.targets_after(
        view.role(roles.TARGETS).body,
        version,
        now,
        online={role: public_key(key) for role, key in change.get("online", {}).items()},
        claim=asked,
        release=change.get("release"),
        approvers=None if approvers is None else told_keys(approvers),
        manage=change.get("manage"),
    )
    basis = {roles.TARGETS: view.versions[roles.TARGETS]}
    required = _required((f"root {view.root.version}", view.root_body, roles.TARGETS))
    parts = [_below(view, roles.TARGETS, body, required)]
    if asked is not None:
        role = f"{roles.PRODUCT_PREFIX}{asked[0]}"
        standing = view.role(role).body["targets"] if asked[0] in view.claims else claimed_entries(view, asked[0])
        first = payloads.product_after(asked[0], standing, {}, version, now)
        parts.append(_below(view, role, first, _required((f"targets {version}", body, role))))
        basis[role] = view.versions.get(role, 0)
    if (release := change.get("release")) is not None:
        # What the team signed last must be what moves to the bins.
        role = f"{roles.PRODUCT_PREFIX}{release}"
        basis[role] = view.versions[role]
    if approvers is not None:
        product = str(approvers["product"])
        role = f"{roles.WAVES_PREFIX}{product}"
        waves = roles.holder_body(role, decisions_of(view, product), version, now)
        parts.append(_below(view, role, waves, _required((f"targets {version}", body, role))))
        basis[role] = view.versions.get(role, 0)
    if (managed := change.get("manage")) is not None:
        role = f"{roles.WAVES_PREFIX}{managed}"
        basis[role] = view.versions[role]
    return str(change.get("title") or f"targets {version}"), parts, basis


def told_keys(told: Mapping[str, Any]) -> tuple[str, list[SSlibKey], int]:
    """Product, keys and threshold of a change that gives a role to people."""
    return str(told["product"]), [public_key(key) for key in told["keys"]], int(told["threshold"])


def _waves(change: Change, view: View, version: int, now: datetime) -> tuple[str, list[Part], dict[str, int]]:
    product = str(change["product"])
    if product not in view.approved:
        raise InvalidDraft(f"the server signs the decisions of {product!r}; `publish product approvers` changes that")
    role = f"{roles.WAVES_PREFIX}{product}"
    body = roles.renewed_body(role, view.role(role).body, version, now)
    part = _below(view, role, body, required_of(view, role))
    return str(change.get("title") or role), [part], {role: view.versions[role]}


def _product(change: Change, view: View, version: int, now: datetime) -> tuple[str, list[Part], dict[str, int]]:
    product = str(change["product"])
    if product not in view.claims:
        raise InvalidDraft(f"{product!r} is not claimed; `publish product list` shows what is")
    role = f"{roles.PRODUCT_PREFIX}{product}"
    standing = view.role(role).body["targets"]
    entries: dict[str, Entry] = {}
    for path, entry in change.get("entries", {}).items():
        if path in standing and sha256_of(standing[path]) != sha256_of(entry):
            raise PathTaken(f"{path} was signed with other bytes meanwhile; publish a new version")
        custom = dict(entry["custom"])
        if "serial" in custom:
            custom["serial"] = version
        entries[path] = {**entry, "custom": custom}
    changes: dict[str, Entry | None] = dict(entries)
    if (edit := change.get("edit")) is not None:
        trial = Draft(view, version, now, own=role)
        edits.edit(trial, edit)
        if trial.is_empty():
            raise InvalidDraft(f"{change['title']} would change nothing any more; drop the draft")
        changes |= trial.changes()
    body = payloads.product_after(product, standing, changes, version, now)
    number = view.versions[roles.TARGETS]
    required = _required((f"targets {number}", view.role(roles.TARGETS).body, role))
    part = _below(view, role, body, required)
    return str(change.get("title") or role), [part], {role: view.versions[role]}


def _below(view: View, role: str, body: Mapping[str, Any], requirements: tuple[Requirement, ...]) -> Part:
    known = view.versions.get(role, 0) if role in view.standing() else 0
    return Part(
        role=role,
        version=int(body["version"]),
        base_version=known,
        base=view.raw(role) if known else None,
        payload=canonical(dict(body)),
        requirements=requirements,
    )


def _required(*sources: tuple[str, Mapping[str, Any], str]) -> tuple[Requirement, ...]:
    found: list[Requirement] = []
    for by, delegator, role in sources:
        rule = roles.rule_of(delegator, role)
        if rule is None:
            raise InvalidDraft(f"{by} does not name the keys of {role}")
        if all((one.keyids, one.threshold) != rule for one in found):
            found.append(Requirement(by=by, keyids=rule.keyids, threshold=rule.threshold))
    return tuple(found)


def _is_accepted(view: View, root: Mapping[str, Any]) -> bool:
    """Say whether clients of the next root would accept targets as it is signed now."""
    try:
        verified(view.raw(roles.TARGETS), Root.from_dict(orjson.loads(orjson.dumps(root))), roles.TARGETS)
    except RepositoryDamaged:
        return False
    return True
