"""What the agent promises whoever puts it on a device, each made hard to keep."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent.errors import ServerAway
from agent.home import Home
from agent.identity import Credentials, Identity, save_identity
from agent.link import Facts, GrpcLink, PermitAnswer
from api.device.server import DeviceServer, DeviceServerSettings
from keys.device_ca import create_device_ca
from rollout.budget import Budget
from rollout.windows import Window
from tests.simulators.agents import NOON, DeviceBench, device_bench
from tests.simulators.devices import enrol_device, new_token, private_pem, utc_now
from tests.simulators.fleet import FleetSimulator
from tests.simulators.permits import DevicePermitsSimulator
from tests.simulators.signed_tree import SignedTree

ALL_ROLES = ("decisions", "brakes", "revocations", "releases", "targets")
DAY = timedelta(days=1)
FACTS = Facts(agent_version="0", hostname="press", os_family="linux", os_name="", platform="linux-x86_64")


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[DeviceBench]:
    with device_bench(tmp_path) as bench:
        yield bench


def kept(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def forged(content: bytes) -> bytes:
    document = json.loads(content)
    document["signed"]["x-forged"] = "by somebody on the way"
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    ("role", "verified_before_it"),
    [
        ("root", []),
        ("timestamp", []),
        ("snapshot", ["timestamp"]),
        ("targets", ["timestamp", "snapshot"]),
        ("decisions", ["timestamp", "snapshot", "targets", "brakes", "revocations"]),
    ],
)
def test_of_an_update_that_is_rejected_nothing_is_kept_but_what_was_verified_before(
    bench: DeviceBench, role: str, verified_before_it: list[str]
) -> None:
    bench.offer("1.0", "rol_1")
    bench.poll()
    before = {name: kept(bench.home.folder / name) for name in ("metadata", "documents", "artifacts")}
    if role == "root":
        bench.tree.rotate_root()
    bench.offer("2.0", "rol_2", minutes=1)
    bench.tree.commit(*ALL_ROLES)
    names = {"root": "metadata/2.root.json", "timestamp": "metadata/timestamp.json"}
    name = names.get(role, f"metadata/{bench.tree.version}.{role}.json")
    bench.mirror.files[name] = forged(bench.mirror.files[name])

    for _ in range(3):
        state = bench.poll()

    assert state.repository_trouble.startswith("repository_refused: ")
    assert (state.running["app"].version, bench.commands.ran) == ("1.0", [("install", "1.0"), ("health", "1.0")])
    metadata = kept(bench.home.metadata)
    changed = {one for one in metadata if metadata[one] != before["metadata"].get(one)}
    assert changed == {f"{one}.json" for one in verified_before_it}
    genuine = set(bench.mirror.files.values())
    assert all(metadata[one] in genuine for one in changed)
    assert kept(bench.home.documents) == before["documents"]
    assert kept(bench.home.artifacts) == before["artifacts"]
    assert not any(b"x-forged" in content for content in kept(bench.home.folder).values())


@pytest.mark.parametrize("attack", ["rollback", "another repository", "expired", "endless", "no json"])
def test_an_update_rejected_as_a_whole_leaves_the_cache_byte_for_byte(bench: DeviceBench, attack: str) -> None:
    old = {name: content for name, content in bench.tree.files.items() if name.startswith("metadata/")}
    bench.offer("1.0", "rol_1")
    bench.poll()
    before = kept(bench.home.metadata)
    other = {"rollback": old["metadata/timestamp.json"], "endless": b" " * 100_000, "no json": b"<html>login</html>"}
    if attack == "another repository":
        other[attack] = SignedTree().files["metadata/timestamp.json"]
    if attack == "expired":
        bench.tree.expires = datetime.now(UTC).replace(microsecond=0) - timedelta(days=1)
        bench.tree.commit()
    else:
        bench.mirror.files["metadata/timestamp.json"] = other[attack]

    state = bench.poll()

    assert state.repository_trouble.startswith("repository_refused: ")
    assert kept(bench.home.metadata) == before
    assert state.running["app"].version == "1.0"


def a_permit_later(bench: DeviceBench) -> Callable[[], None]:
    bench.server.permit_answer = PermitAnswer(granted=False, reason="others update", ask_again_seconds=60)
    bench.offer("1.0", "rol_1", budget=Budget(label="site", max_updating=1))

    def granted() -> None:
        bench.server.permit_answer = PermitAnswer(granted=True)
        bench.clock.now += timedelta(hours=1)

    return granted


def the_next_window(bench: DeviceBench) -> Callable[[], None]:
    window = Window(days=("sat", "sun"), start="12:00", minutes=120, zone="UTC")
    bench.offer("1.0", "rol_1", window=window)

    def closes_while_it_is_fetched(path: str, content: bytes | None) -> bytes | None:
        if path.startswith("targets/app"):
            bench.clock.now = NOON + timedelta(hours=8)
        return content

    bench.mirror.answer = closes_while_it_is_fetched

    def opened() -> None:
        bench.mirror.answer = lambda _, content: content
        bench.clock.now = NOON + timedelta(days=1)

    return opened


@pytest.mark.parametrize("wait", [a_permit_later, the_next_window])
@pytest.mark.parametrize("harm", ["another's bytes", "longer", "a link to another file"])
def test_what_was_changed_on_the_disk_between_verifying_and_installing_is_never_run(
    bench: DeviceBench, wait: Callable[[DeviceBench], Callable[[], None]], harm: str
) -> None:
    go_on = wait(bench)
    bench.poll()
    assert bench.commands.ran == []
    (stored,) = bench.home.artifacts.iterdir()
    evil = bench.home.folder.parent / "evil"
    evil.write_bytes(b"6.6" * 1000)
    if harm == "a link to another file":
        stored.unlink()
        stored.symlink_to(evil)
    else:
        stored.write_bytes(b"6.6" * 1000 if harm == "another's bytes" else stored.read_bytes() + b"\n")

    go_on()
    for _ in range(3):
        state = bench.poll()

    assert bench.commands.installed == b"1.0" * 1000
    assert bench.commands.ran == [("install", "1.0"), ("health", "1.0")]
    assert state.running["app"].version == "1.0"
    assert bench.server.results == [("rol_1", 1, "succeeded", "")]


def test_away_for_weeks_while_root_was_rotated_it_follows_every_root_and_takes_what_is_new(bench: DeviceBench) -> None:
    bench.offer("1.0", "rol_1")
    bench.poll()
    today = datetime.now(UTC).replace(microsecond=0)
    bench.tree.expires = today - timedelta(days=20)
    bench.tree.commit(*ALL_ROLES, *bench.tree.bins.get_roles())
    for name in ("timestamp", "snapshot", *ALL_ROLES):
        versioned = name if name == "timestamp" else f"{bench.tree.version}.{name}"
        (bench.home.metadata / f"{name}.json").write_bytes(bench.tree.files[f"metadata/{versioned}.json"])
    assert "expired" in bench.poll().repository_trouble

    for _ in range(4):
        bench.tree.expires = today - timedelta(days=10)  # the roots in between are over, too
        bench.tree.rotate_root()
    bench.tree.expires = today + timedelta(days=30)
    bench.tree.rotate_root()
    bench.tree.commit(*ALL_ROLES, *bench.tree.bins.get_roles())
    bench.clock.now += timedelta(days=30)
    bench.offer("2.0", "rol_2", minutes=60 * 24 * 29)

    state = bench.poll()

    assert (state.repository_trouble, state.running["app"].version) == ("", "2.0")
    history = {path.name for path in (bench.home.metadata / "root_history").iterdir()}
    assert history == {f"{version}.root.json" for version in range(1, 7)}


def test_a_root_left_out_on_the_way_is_not_jumped_over(bench: DeviceBench) -> None:
    bench.offer("1.0", "rol_1")
    bench.poll()
    for _ in range(3):
        bench.tree.rotate_root()
    del bench.mirror.files["metadata/3.root.json"]
    bench.offer("2.0", "rol_2", minutes=1)

    state = bench.poll()

    assert state.repository_trouble.startswith("repository_refused: ")
    assert state.running["app"].version == "1.0"


@pytest.mark.parametrize("skew", [-40 * DAY, -DAY, 0 * DAY, DAY / 24, 40 * DAY])
def test_tls_between_two_clocks_that_differ_lets_in_or_says_why(tmp_path: Path, skew: timedelta) -> None:
    """The server's clock differs from the device's: its certificate is not yet valid for the device, or over."""
    fleet, ca = FleetSimulator(), create_device_ca(tmp_path / "ca", now=utc_now() - timedelta(days=90))
    token = new_token(fleet)
    made = enrol_device(fleet, ca, token, "press-1", now=utc_now() + min(skew, timedelta(0)))
    server = DeviceServer(
        fleet,
        ca,
        lambda *_: True,
        lambda *_: [],
        DevicePermitsSimulator(),
        DeviceServerSettings(listen="127.0.0.1:0"),
        lambda: utc_now() + skew,
    )
    port = server.start()
    home = Home(tmp_path / "home")
    home.create()
    identity = Identity(
        device_id=made.id,
        name="press-1",
        org="acme",
        device_endpoint=f"localhost:{port}",
        metadata_url="",
        targets_url="",
        root_sha256="",
        enrolled_at="",
    )
    save_identity(
        home, identity, Credentials(private_pem(made.key), made.chain), device_ca=ca.certificate_pem.encode(), root=b""
    )
    link = GrpcLink(home, f"localhost:{port}")
    try:
        if skew in (-40 * DAY, DAY / 24, 40 * DAY):
            with pytest.raises(ServerAway) as away:
                link.check_in(FACTS, [], "idle")
            assert str(away.value) == (
                f"no answer from localhost:{port}: by this device's clock the server's certificate is not valid now; "
                "the clock here or there is wrong"
            )
        else:
            assert link.check_in(FACTS, [], "idle").next_check_in_seconds > 0
    finally:
        link.close()
        server.stop(0)
