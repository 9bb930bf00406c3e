"""A stolen server against a product whose approvers sign: it can stop a rollout, and nothing more.

The thief has every online key (decisions, brakes, releases, snapshot, timestamp), the disk and the database. Each
attack is made on python-tuf, tuf-js and the agent's own client; what needs a device's judgement on whole agents.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from agent.state import State
from repo_signing.errors import ApproversSign, SignatureRefused
from rollout.decision import Stance, encode_decision
from tests.simulators.agents import DEVICE, DeviceBench, make_bench
from tests.simulators.attacks import Files, body
from tests.simulators.lying_mirror import LyingMirror, lying_mirror
from tests.simulators.signed_tree import SignedTree, served
from tests.simulators.stolen import FLEET, PILOT, ROLE, ROLLOUT, StolenServer, as_target
from tests.simulators.tuf_clients import CLIENTS, Client, Refused

BRAKE = "brakes/app/pilot.json"


@pytest.fixture(scope="module")
def stolen(tmp_path_factory: pytest.TempPathFactory) -> StolenServer:
    return StolenServer(tmp_path_factory.mktemp("stolen"))


@pytest.fixture(scope="module")
def mirror(stolen: StolenServer) -> Iterator[LyingMirror]:
    with lying_mirror(stolen.second) as mirror:
        yield mirror


@pytest.fixture(scope="module")
def attacks(stolen: StolenServer) -> dict[str, Files]:
    """What the thief serves, by what he tries."""
    evil = stolen.decision(2, version="6.6", revision=7)
    signed = stolen.role_body(ROLE, [evil], 800)
    tried = {
        "a rival decision by the online key": stolen.serve(
            {"decisions": stolen.by("decisions", stolen.role_body("decisions", [evil], 800))}, [evil]
        ),
        "the approvers' role signed by the online key": stolen.serve({ROLE: stolen.by("decisions", signed)}, [evil]),
        "the approvers' role by one approver and the online key": stolen.serve(
            {ROLE: stolen.by("decisions", signed, stolen.ann)}, [evil]
        ),
        "one of two signatures": stolen.serve({ROLE: stolen.signed_by_approvers(4)}, [stolen.waves[4]]),
        "one signature twice": stolen.serve({ROLE: twice(stolen.signed_by_approvers(4))}, [stolen.waves[4]]),
        "one signature under two names": stolen.serve(
            {ROLE: renamed(stolen.signed_by_approvers(4), stolen.ben.keyid)}, [stolen.waves[4]]
        ),
        "signatures of another version": stolen.serve({ROLE: spliced(signed, stolen)}, [evil]),
        "an older version of the approvers' role": stolen.serve(
            {ROLE: stolen.signed_by_approvers(1)}, [stolen.waves[1]]
        ),
        "the approvers' role gone from the snapshot": stolen.serve(edit=lambda meta: meta.pop(f"{ROLE}.json")),
        "the server's decisions in place of the approvers'": stolen.serve(
            {ROLE: stolen.by("decisions", stolen.role_body("decisions", [evil], 800))}, [evil]
        ),
        "a decision among the brakes": stolen.serve(
            {"brakes": stolen.by("decisions", stolen.role_body("brakes", [evil], 800))}, [evil]
        ),
        "targets without the approvers, by online keys": stolen.serve(
            {"targets": stolen.by("releases", without_approvers(stolen))}
        ),
    }
    for what, changed in {
        "another artifact": stolen.decision(2, version="6.6", cohort_to=5000),
        "a larger cohort": stolen.decision(2, cohort_to=10_000),
        "another group of devices": stolen.decision(2, cohort_to=5000, salt="ff" * 16),
    }.items():
        tried[f"{what} in the bytes of a decision"] = {
            **stolen.second,
            stolen.served(stolen.waves[2]): encode_decision(changed),
        }
    early = stolen.decision(3)
    tried["an earlier time in the bytes of a decision"] = {
        **stolen.serve({ROLE: stolen.signed_by_approvers(3)}),
        stolen.served(stolen.waves[3]): encode_decision(early),
    }
    return tried


def twice(content: bytes) -> bytes:
    envelope = json.loads(content)
    return json.dumps(envelope | {"signatures": envelope["signatures"] * 2}).encode()


def renamed(content: bytes, keyid: str) -> bytes:
    envelope = json.loads(content)
    more = [{**one, "keyid": keyid} for one in envelope["signatures"]]
    return json.dumps(envelope | {"signatures": [*envelope["signatures"], *more]}).encode()


def spliced(signed: dict[str, Any], stolen: StolenServer) -> bytes:
    """What the thief would like, under the signatures of what approvers did sign."""
    return json.dumps(json.loads(stolen.signed_by_approvers(3)) | {"signed": signed}).encode()


def without_approvers(stolen: StolenServer) -> dict[str, Any]:
    targets = body(stolen.second[stolen.name("targets")])
    kept = [one for one in targets["delegations"]["roles"] if one["name"] != ROLE]
    return targets | {"version": 800, "delegations": targets["delegations"] | {"roles": kept}}


@pytest.mark.parametrize("kind", CLIENTS)
def test_no_client_is_told_anything_that_two_approvers_did_not_sign(
    kind: str, stolen: StolenServer, mirror: LyingMirror, attacks: dict[str, Files], tmp_path: Path
) -> None:
    """One test for each kind of client over all attacks, so that all failures are told together."""
    mirror.files = stolen.second
    seen = CLIENTS[kind](tmp_path / kind, stolen.home.root)
    truth = {PILOT: encode_decision(stolen.waves[2])}
    assert seen.poll(mirror, [PILOT, FLEET]) == truth
    wrong, refused = [], set()
    for number, (name, files) in enumerate(attacks.items()):
        mirror.files = files
        for path in (PILOT, FLEET):
            got, said = ask(seen.copy(tmp_path / f"{kind}-{number}-{path[-10:-5]}"), mirror, path)
            if said:
                refused.add(name)
            elif got not in ({}, {p: d for p, d in truth.items() if p == path}):
                wrong.append(f"{name}: took {got}")
    assert not wrong, "\n".join(wrong)
    # The others are not looked at: what the approvers' role does not say is nobody's to say. (An agent does not fetch
    # a decision again that it has, so some changed bytes never reach it.)
    unseen = {name for name in set(attacks) - refused if not (kind == "agent" and name.endswith("bytes of a decision"))}
    assert unseen == {"a rival decision by the online key", "a decision among the brakes"}


def ask(client: Client, mirror: LyingMirror, path: str) -> tuple[dict[str, bytes], str]:
    try:
        return client.poll(mirror, [path]), ""
    except Refused as error:
        return {}, str(error)


@pytest.mark.parametrize("kind", CLIENTS)
def test_a_client_that_saw_nothing_yet_can_be_held_on_an_older_signed_wave_but_on_nothing_unsigned(
    kind: str, stolen: StolenServer, mirror: LyingMirror, attacks: dict[str, Files], tmp_path: Path
) -> None:
    mirror.files = attacks["an older version of the approvers' role"]
    new = CLIENTS[kind](tmp_path / kind, stolen.home.root)
    assert new.poll(mirror, [PILOT]) == {PILOT: encode_decision(stolen.waves[1])}, (
        "the limit that docs/approvers.md tells"
    )
    mirror.files = attacks["the approvers' role gone from the snapshot"]
    with pytest.raises(Refused):
        CLIENTS[kind](tmp_path / f"{kind}-2", stolen.home.root).poll(mirror, [PILOT])


class RealTree(SignedTree):
    """The root of the stolen repository, for a device to start from."""

    def __init__(self, stolen: StolenServer) -> None:
        self.org = "acme"
        self.root = stolen.home.root


@contextmanager
def device(
    stolen: StolenServer, folder: Path, files: Files, groups: Sequence[str] = ("pilot",)
) -> Iterator[DeviceBench]:
    """A whole agent; its place in its group is in the half that wave 2 does not reach."""
    with served(dict(files)) as mirror:
        bench = make_bench(folder, RealTree(stolen), mirror)
        bench.server.groups = tuple(groups)
        bench.clock.now = datetime.now(UTC)
        yield bench


def serve(bench: DeviceBench, files: Files) -> State:
    bench.mirror.files.clear()
    bench.mirror.files.update(files)
    return bench.poll()


def test_an_agent_installs_nothing_for_a_thief_and_what_approvers_signed_in_its_time(
    stolen: StolenServer, attacks: dict[str, Files], tmp_path: Path
) -> None:
    with device(stolen, tmp_path, stolen.second) as bench:
        assert bench.identity.device_id == DEVICE
        state = bench.poll()
        assert state.words["app"] == "runs nothing yet; 1.0 reaches places 0 to 4999, this device has 5658"
        for number, files in enumerate(attacks.values()):
            other = bench.copy_to(tmp_path / f"attacked-{number}")
            serve(other, files)
            assert other.commands.ran == []

        # Wave 3 lies on the disk with all its signatures: opening it early is of no use.
        early = stolen.serve({ROLE: stolen.signed_by_approvers(3)}, [stolen.waves[3]])
        state = serve(bench, early)
        assert state.words["app"] == f"runs nothing yet; 1.0 may start at {stolen.later.isoformat()}"
        assert bench.commands.ran == []
        bench.clock.now = stolen.later + timedelta(seconds=1)
        serve(bench, early)
        assert bench.commands.installed == b"app 1.0"


def test_other_bytes_under_the_artifacts_path_are_not_installed(stolen: StolenServer, tmp_path: Path) -> None:
    files = stolen.serve({ROLE: stolen.signed_by_approvers(3)}, [stolen.waves[3]])
    holder = stolen.home.open()._committer.view().holder("app/1.0/linux/app.bin")
    bin_body = body(files[stolen.name(holder)])
    entry = bin_body["targets"]["app/1.0/linux/app.bin"]
    evil = b"app 6.6"
    swapped = {**entry, "hashes": {"sha256": stolen.digest(evil)}, "length": len(evil)}
    bin_body["targets"]["app/1.0/linux/app.bin"] = swapped
    attacked = stolen.serve(
        {ROLE: stolen.signed_by_approvers(3), holder: stolen.by("releases", bin_body | {"version": 800})},
        [stolen.waves[3]],
    )
    attacked[f"targets/app/1.0/linux/{stolen.digest(evil)}.app.bin"] = evil
    with device(stolen, tmp_path, attacked) as bench:
        bench.clock.now = stolen.later + timedelta(seconds=1)
        bench.poll()
        assert bench.commands.installed == b""


def test_a_device_moved_to_another_group_gets_what_approvers_signed_for_that_group_and_nothing_else(
    stolen: StolenServer, tmp_path: Path
) -> None:
    """The documented limit: groups are the server's word, decisions are not."""
    open_for_all = stolen.serve({ROLE: stolen.signed_by_approvers(3)}, [stolen.waves[3]])
    with device(stolen, tmp_path, open_for_all, groups=("fleet",)) as bench:
        bench.clock.now = stolen.later + timedelta(seconds=1)
        assert bench.poll().words["app"] == "runs nothing yet; no decision for its groups"
        bench.server.groups = ("pilot",)
        bench.clock.now += timedelta(hours=1)
        bench.poll()
        assert bench.commands.installed == b"app 1.0"


def test_the_thief_can_halt_and_so_can_the_operator(stolen: StolenServer, tmp_path: Path) -> None:
    brake = stolen.brake(Stance.HALTED)
    files = stolen.serve(
        {
            ROLE: stolen.signed_by_approvers(3),
            "brakes": stolen.by("decisions", stolen.role_body("brakes", [brake], 800)),
        },
        [stolen.waves[3], brake],
    )
    with device(stolen, tmp_path, files) as bench:
        bench.clock.now = stolen.later + timedelta(seconds=1)
        assert bench.poll().words["app"] == "runs nothing yet; 1.0 is stopped: stopped"
        assert bench.commands.ran == []


def test_the_honest_code_under_the_thiefs_hands_signs_nothing_for_approvers(stolen: StolenServer) -> None:
    repository = stolen.home.open()
    path, content = as_target(stolen.decision(2, version="6.6"))
    with pytest.raises(ApproversSign):
        repository.commit_documents({path: content}, now=stolen.now)
    path, content = as_target(stolen.waves[4])
    with pytest.raises(ApproversSign):
        repository.commit_documents({path: content}, now=stolen.now)
    forged = stolen.keys.signer("decisions").sign(stolen.proposal.parts[3].payload)
    with pytest.raises(SignatureRefused, match="is not one that signs waves-app"):
        repository.approvals.sign(ROLLOUT, forged.keyid, {4: forged.signature}, now=stolen.now)
