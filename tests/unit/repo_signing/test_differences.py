from __future__ import annotations

from typing import Any

from repo_signing.differences import difference


def body(**more: Any) -> dict[str, Any]:
    return {"_type": "targets", "spec_version": "1.0.31", "version": 3, "expires": "2027-01-01T00:00:00Z", **more}


def entry(digest: str, **more: Any) -> dict[str, Any]:
    return {"hashes": {"sha256": digest}, "length": 5, **more}


def delegation(name: str, *keyids: str, **more: Any) -> dict[str, Any]:
    return {
        "name": name, "keyids": list(keyids), "threshold": 1, "paths": [f"{name}/*"], "terminating": False, **more
    }  # fmt: skip


def test_a_first_version_tells_everything_that_is_in_it() -> None:
    key = {"scheme": "ed25519"}
    after = body(version=1, delegations={"keys": {"k1": key}, "roles": [delegation("app", "k1", terminating=True)]})
    assert difference("targets", None, after) == [
        "targets: version none -> 1",
        "targets: expires never signed -> 2027-01-01T00:00:00Z",
        "+ key k1 (ed25519)",
        "+ app: 1 of 1 keys, paths app/*, terminating",
        "+ app: key k1",
    ]


def test_other_bytes_under_a_path_are_told_first_and_never_hidden_by_many_lines() -> None:
    before = {f"app/{number}": entry("a") for number in range(300)}
    after = {name: entry("a", custom={"notes": []}) for name in before} | {"app/77": entry("b")}
    lines = difference("product-app", body(targets=before), body(version=4, targets=after))
    assert lines[2] == "! app/77: OTHER BYTES"
    assert lines[-1] == "… and 100 more targets"


def test_every_change_of_a_rule_is_told() -> None:
    before = body(delegations={"keys": {}, "roles": [delegation("a", "k1", "k2"), delegation("b", "k1")]})
    wider = delegation("a", "k2", "k3", threshold=2, paths=["*"])
    after = body(delegations={"keys": {}, "roles": [delegation("c", "k9"), delegation("b", "k1"), wider]})
    assert difference("targets", before, after)[2:] == [
        "! a: threshold 1 -> 2",
        "+ a: key k3",
        "- a: key k1",
        "! a: paths ['a/*'] -> ['*']",
        "+ c: 1 of 1 keys, paths c/*",
        "+ c: key k9",
        "! order of precedence: a, b -> c, b, a",
    ]


def test_a_key_swapped_under_its_id_and_fields_nobody_knows_are_told() -> None:
    before = body(keys={"k1": {"keyval": {"public": "aa"}}}, consistent_snapshot=True)
    after = body(keys={"k1": {"keyval": {"public": "bb"}}}, consistent_snapshot=False, surprise=1)
    assert difference("root", before, after)[2:] == [
        "! key k1 has other content under the same id",
        "root: surprise None -> 1",
        "root: consistent_snapshot True -> False",
    ]
