"""What changes between two versions of a role, in words: what a signer reads before he signs.

Works on signed parts alone and needs neither disk nor network.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

_SHOWN_TARGETS: Final = 200  # lines; what is left out is counted
_KNOWN: Final = frozenset(
    {"_type", "spec_version", "version", "expires", "keys", "roles", "consistent_snapshot", "delegations", "targets"}
)


def difference(role: str, before: Mapping[str, Any] | None, after: Mapping[str, Any]) -> list[str]:
    """Describe the change; ``before`` is None for the first version of a role.

    Whatever differs is named, also fields that this version does not know.
    """
    old: Mapping[str, Any] = {} if before is None else before
    lines = [f"{role}: version {old.get('version', 'none')} -> {after['version']}"]
    lines.append(f"{role}: expires {old.get('expires', 'never signed')} -> {after['expires']}")
    lines += _keys(old.get("keys", {}), after.get("keys", {}))
    lines += _rules(old.get("roles", {}), after.get("roles", {}))
    was, now = old.get("delegations") or {}, after.get("delegations") or {}
    lines += _keys(was.get("keys", {}), now.get("keys", {}))
    lines += _rules(_named(was), _named(now))
    lines += _order(was, now)
    lines += _targets(old.get("targets", {}), after.get("targets", {}))
    for name in sorted((old.keys() | after.keys()) - _KNOWN):
        if old.get(name) != after.get(name):
            lines.append(f"{role}: {name} {old.get(name)!r} -> {after.get(name)!r}")
    for name in ("_type", "spec_version", "consistent_snapshot"):
        if before is not None and old.get(name) != after.get(name):
            lines.append(f"{role}: {name} {old.get(name)!r} -> {after.get(name)!r}")
    return lines


def _keys(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    for keyid in sorted(after.keys() - before.keys()):
        yield f"+ key {keyid} ({after[keyid].get('scheme')})"
    for keyid in sorted(before.keys() - after.keys()):
        yield f"- key {keyid}"
    for keyid in sorted(before.keys() & after.keys()):
        if before[keyid] != after[keyid]:
            yield f"! key {keyid} has other content under the same id"


def _named(delegations: Mapping[str, Any]) -> dict[str, Any]:
    named = {one["name"]: one for one in delegations.get("roles", [])}
    succinct = delegations.get("succinct_roles")
    return named if succinct is None else named | {"(bins)": succinct}


def _rules(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    for name in sorted(before.keys() | after.keys()):
        was, now = before.get(name), after.get(name)
        if now is None:
            yield f"- {name}: no longer delegated"
        elif was is None:
            paths = f", paths {' '.join(now['paths'])}" if "paths" in now else ""
            ends = ", terminating" if now.get("terminating") else ""
            yield f"+ {name}: {now['threshold']} of {len(now['keyids'])} keys{paths}{ends}"
            yield from (f"+ {name}: key {keyid}" for keyid in now["keyids"])
        elif was != now:
            if was["threshold"] != now["threshold"]:
                yield f"! {name}: threshold {was['threshold']} -> {now['threshold']}"
            yield from (f"+ {name}: key {keyid}" for keyid in now["keyids"] if keyid not in was["keyids"])
            yield from (f"- {name}: key {keyid}" for keyid in was["keyids"] if keyid not in now["keyids"])
            for field in sorted((was.keys() | now.keys()) - {"keyids", "threshold"}):
                if was.get(field) != now.get(field):
                    yield f"! {name}: {field} {was.get(field)!r} -> {now.get(field)!r}"


def _order(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    was = [one["name"] for one in before.get("roles", [])]
    now = [one["name"] for one in after.get("roles", [])]
    if was and [name for name in was if name in now] != [name for name in now if name in was]:
        yield f"! order of precedence: {', '.join(was)} -> {', '.join(now)}"


def _targets(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    lines = []
    for path in sorted(before.keys() | after.keys()):
        was, now = before.get(path), after.get(path)
        if now is None:
            lines.append(f"- {path}")
        elif was is None:
            lines.append(f"+ {path}: {now['length']} bytes, sha256 {now['hashes'].get('sha256')}")
        elif was != now:
            same = was["hashes"] == now["hashes"] and was["length"] == now["length"]
            lines.append(f"! {path}: {'the record changes' if same else 'OTHER BYTES'}")
    # What is not shown must not hide what matters most.
    lines.sort(key=lambda line: (not line.endswith("OTHER BYTES"), line[0] != "-"))
    yield from lines[:_SHOWN_TARGETS]
    if len(lines) > _SHOWN_TARGETS:
        yield f"… and {len(lines) - _SHOWN_TARGETS} more targets"
